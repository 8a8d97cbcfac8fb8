//! Refused messages are put back in when what refused them is mended, and
//! leave their file when they have been delivered.

use std::fs;
use std::process::Output;

use ringmain_tests::{Driver, Job, with_each_driver};

const COUNT: usize = 10_000;

const FLOW: &str = r#"
    name = "meters"
    [sources.in]
    type = "file"
    path = "in.ndjson"
    [operators.all]
    type = "filter"
    inputs = ["in"]
    where = "n >= 0"
    [operators.scale]
    type = "lua"
    inputs = ["all"]
    script = "scale.lua"
    [sinks.out]
    type = "file"
    path = "out.ndjson"
    inputs = ["scale"]
    [sinks.seen]
    type = "file"
    path = "seen.ndjson"
    mode = "truncate"
    inputs = ["all"]
    [dead_letters]
    type = "file"
    path = "dead.ndjson"
"#;

const BROKEN: &str =
    "return function(msg) msg.x = msg.n / (msg.n % 100 == 7 and msg.unit or 1) return msg end";
const MENDED: &str = "return function(msg) msg.x = msg.n return msg end";

fn lines() -> String {
    (0..COUNT).map(|n| format!("{{\"n\":{n},\"unit\":\"V{n}\"}}\n")).collect()
}

fn job(driver: Driver) -> Job {
    Job::flow(driver, FLOW).file("in.ndjson", lines()).file("scale.lua", BROKEN)
}

fn said(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn numbers(job: &Job, file: &str) -> Vec<u64> {
    job.json(file).iter().map(|message| message["n"].as_u64().unwrap()).collect()
}

with_each_driver! {
    fn what_a_mended_script_takes_leaves_the_file_and_arrives_once(driver: Driver) {
        let job = job(driver);
        let refused = (COUNT / 100) as u64;
        assert_eq!(job.run().ok().rows("scale"), [COUNT as u64, COUNT as u64 - refused, 0, refused]);
        let letters = job.json("dead.ndjson");
        assert_eq!(letters.len() as u64, refused);
        assert!(letters.iter().all(|letter| letter["source"] == "in" && letter["flow"] == "meters"));
        let list = said(&job.call(&["dead", "list", "dead.ndjson"]), 0);
        assert!(list.contains("100  meters.scale") && list.contains("script"), "{list}");

        // As long as the script is as it was, they are refused again.
        let flow = ["dead", "replay", "dead.ndjson", "--flow", "flow-0.toml"];
        let text = said(&job.call(&flow), 1);
        assert!(text.contains("100 put back in, 100 refused again, 0 not meant"), "{text}");
        assert_eq!(job.lines("dead.ndjson").len(), 100);

        job.write("scale.lua", MENDED);
        let text = said(&job.call(&flow), 0);
        assert!(text.contains("100 put back in, 0 refused again"), "{text}");
        assert_eq!(fs::read_to_string(job.path("dead.ndjson")).unwrap(), "");
        let mut all = numbers(&job, "out.ndjson");
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..COUNT as u64), "{} messages", all.len());
        // What lies before and beside the operator is left alone.
        assert_eq!(job.lines("seen.ndjson").len(), COUNT);
        let names = fs::read_dir(job.path(".")).unwrap().map(|e| e.unwrap().file_name());
        assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("replay")));
    }

    fn only_what_is_meant_is_put_back_in_and_where_it_is_meant_to(driver: Driver) {
        let text = "{\"n\":7,\"unit\":\"V\"}\n{\"n\":8}\ngarbage\n";
        let job = job(driver).file("in.ndjson", text);
        assert_eq!(job.run().ok().rows("in"), [3, 2, 0, 1]);
        let reasons: Vec<_> = job.json("dead.ndjson").iter().map(|l| l["reason"].clone()).collect();
        assert_eq!(reasons, ["decode", "script"]);
        let shown = said(&job.call(&["dead", "show", "dead.ndjson", "--reason", "decode"]), 0);
        assert!(shown.contains("garbage") && shown.lines().count() == 1, "{shown}");
        let mut args = vec!["dead", "replay", "dead.ndjson", "--flow", "flow-0.toml"];
        args.extend(["--reason", "script", "--at", "out"]);
        let text = said(&job.call(&args), 0);
        assert!(text.contains("1 put back in, 0 refused again, 1 not meant"), "{text}");
        assert_eq!(job.json("dead.ndjson").len(), 1);
        assert_eq!(job.lines("out.ndjson").last().unwrap(), "{\"n\":7,\"unit\":\"V\"}");
        // Bytes go through their source's decoder again.
        let text = said(&job.call(&["dead", "replay", "dead.ndjson", "--flow", "flow-0.toml"]), 1);
        assert!(text.contains("1 put back in, 1 refused again"), "{text}");
        let letter = &job.json("dead.ndjson")[0];
        assert_eq!((&letter["component"], &letter["raw"]), (&"in".into(), &"garbage".into()));
    }

    fn a_file_that_is_no_file_of_letters_and_a_component_that_is_not_there_are_refused(driver: Driver) {
        let job = job(driver);
        let flow = ["--flow", "flow-0.toml"];
        let text = said(&job.call(&[&["dead", "replay", "in.ndjson"], &flow[..]].concat()), 1);
        assert!(text.contains("in.ndjson:1: no dead letter"), "{text}");
        let _ = job.run().ok();
        let before = fs::read(job.path("dead.ndjson")).unwrap();
        let args = [&["dead", "replay", "dead.ndjson", "--at", "nobody"], &flow[..]].concat();
        let text = said(&job.call(&args), 1);
        assert!(text.contains("no component 'nobody'") && text.contains("scale"), "{text}");
        assert_eq!(fs::read(job.path("dead.ndjson")).unwrap(), before);
    }

    fn a_file_that_a_daemon_has_open_is_left_alone(driver: Driver) {
        let job = job(driver);
        let _ = job.run().ok();
        let file = fs::OpenOptions::new().append(true).open(job.path("dead.ndjson")).unwrap();
        let text = said(&job.call(&["dead", "replay", "dead.ndjson", "--flow", "flow-0.toml"]), 1);
        assert!(text.contains("is open in process"), "{text}");
        drop(file);
    }
}
