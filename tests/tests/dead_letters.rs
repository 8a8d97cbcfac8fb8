//! What cannot be worked on is kept, with its reason and origin, and the rest
//! goes on.

use ringmain_tests::{Driver, Job, sensors, with_each_driver};
use serde_json::Value;

const FLOW: &str = r#"
    name = "letters"

    [sources.in]
    type = "file"
    path = "in.ndjson"
    frame_bytes = "1KiB"

    [operators.half]
    type = "map"
    inputs = ["in"]
    set = { half = "n / 2" }

    [sinks.out]
    type = "file"
    inputs = ["half"]
    path = "out.ndjson"

    [dead_letters]
    type = "file"
    path = "dead.ndjson"
"#;

fn texts<'a>(letters: &'a [Value], field: &str) -> Vec<&'a str> {
    letters.iter().map(|letter| letter[field].as_str().unwrap_or("-")).collect()
}

with_each_driver! {
    fn garbage_among_good_lines_is_kept_with_reason_offset_and_text(driver: Driver) {
        let mut lines = String::new();
        let mut bad = Vec::new();
        for n in 0..5000 {
            if n % 50 == 7 {
                bad.push((lines.len() as u64, format!("garbage {n} {{")));
                lines += &format!("garbage {n} {{\n");
            } else {
                lines += &format!("{{\"n\":{n}}}\n");
            }
        }
        let job = Job::flow(driver, FLOW).file("in.ndjson", &lines);
        let done = job.run();
        let (all, dead) = (5000, bad.len() as u64);
        assert_eq!(done.ok().rows("in"), [all, all - dead, 0, dead]);
        assert_eq!(done.ok().rows("out"), [all - dead, all - dead, 0, 0]);
        assert_eq!(done.ok().rows("dead_letters"), [dead, dead, 0, 0]);

        let numbers: Vec<_> = job.json("out.ndjson").iter().map(|m| m["n"].as_u64().unwrap()).collect();
        let good: Vec<_> = (0..5000).filter(|n| n % 50 != 7).collect();
        assert_eq!(numbers, good);

        let letters = job.json("dead.ndjson");
        assert_eq!(letters.len(), bad.len());
        for (letter, (offset, text)) in letters.iter().zip(&bad) {
            assert_eq!(letter["raw"], **text);
            assert_eq!(letter["offset"], *offset);
            assert_eq!(letter["reason"], "decode");
            assert_eq!(letter["component"], "in");
            assert_eq!(letter["flow"], "letters");
            assert!(letter["origin"].as_str().unwrap().ends_with("in.ndjson"), "{letter}");
            assert!(!letter["detail"].as_str().unwrap().is_empty());
            assert!(letter["time"].as_str().unwrap().ends_with('Z'), "{letter}");
            assert!(letter.get("message").is_none());
        }
    }

    fn a_message_that_an_expression_fails_on_is_kept_itself(driver: Driver) {
        let lines = "{\"n\":4}\n{\"n\":[1],\"x\":{\"y\":null}}\n{\"n\":6}\n{\"other\":true}\n";
        let job = Job::flow(driver, FLOW).file("in.ndjson", lines);
        let done = job.run();
        assert_eq!(done.ok().rows("half"), [4, 2, 0, 2]);
        assert_eq!(job.json("out.ndjson"), sensors::parse("{\"n\":4,\"half\":2}\n{\"n\":6,\"half\":3}"));

        let letters = job.json("dead.ndjson");
        let message: Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
        assert_eq!(letters[0]["message"], message);
        assert_eq!(letters[1]["message"], serde_json::json!({ "other": true }));
        assert_eq!(texts(&letters, "reason"), ["script", "script"]);
        assert_eq!(texts(&letters, "component"), ["half", "half"]);
        assert!(letters[0].get("raw").is_none());
        assert!(letters[1]["detail"].as_str().unwrap().contains("'n'"), "{}", letters[1]);
    }

    fn a_line_that_is_too_long_is_refused_and_the_next_one_read(driver: Driver) {
        let long = format!("{{\"n\":1,\"pad\":\"{}\"}}", "x".repeat(5000));
        let far_too_long = format!("{{\"n\":2,\"pad\":\"{}\"}}", "y".repeat(3 << 20));
        let lines = format!("{{\"n\":2}}\n{long}\n{{\"n\":4}}\n{far_too_long}\n{{\"n\":6}}\n");
        let job = Job::flow(driver, FLOW).file("in.ndjson", &lines);
        let done = job.run();
        assert_eq!(done.ok().rows("in"), [5, 3, 0, 2]);
        let numbers: Vec<_> = job.json("out.ndjson").iter().map(|m| m["n"].as_u64()).collect();
        assert_eq!(numbers, [Some(2), Some(4), Some(6)]);

        let letters = job.json("dead.ndjson");
        assert_eq!(texts(&letters, "reason"), ["too_long", "too_long"]);
        assert_eq!(letters[0]["offset"], 8);
        assert_eq!(letters[1]["offset"], 8 + long.len() as u64 + 1 + 8);
        // The beginning of the frame, so that its sender can be found.
        let kept = letters[0]["raw"].as_str().unwrap();
        assert!(long.starts_with(kept) && !kept.is_empty(), "{kept}");
    }

    fn a_declared_length_beyond_the_limit_is_refused_and_skipped(driver: Driver) {
        let mut bytes = Vec::new();
        for text in ["{\"n\":2}".to_owned(), "z".repeat(70_000), "{\"n\":4}".to_owned()] {
            bytes.extend((text.len() as u32).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        let toml = FLOW.replace("frame_bytes", "frame = \"u32\"\nframe_bytes");
        let job = Job::flow(driver, &toml).file("in.ndjson", bytes);
        let done = job.run();
        assert_eq!(done.ok().rows("in"), [3, 2, 0, 1]);
        assert_eq!(job.lines("out.ndjson").len(), 2);
        assert_eq!(texts(&job.json("dead.ndjson"), "reason"), ["too_long"]);
    }

    fn a_file_that_ends_inside_a_frame_is_refused_as_truncated(driver: Driver) {
        let toml = FLOW.replace("frame_bytes", "frame = \"u32\"\nframe_bytes");
        let bytes = [&7_u32.to_be_bytes()[..], b"{\"n\":2}", &100_u32.to_be_bytes(), b"{\"n\":"];
        let job = Job::flow(driver, &toml).file("in.ndjson", bytes.concat());
        assert_eq!(job.run().ok().rows("in"), [2, 1, 0, 1]);
        let letters = job.json("dead.ndjson");
        assert_eq!(texts(&letters, "reason"), ["truncated"]);
        assert_eq!(letters[0]["offset"], 11);
    }

    fn every_letter_is_kept_when_everything_is_refused(driver: Driver) {
        let lines: String = (0..20_000).map(|n| format!("no json {n}\n")).collect();
        let job = Job::flow(driver, FLOW).file("in.ndjson", lines);
        let done = job.run();
        assert_eq!(done.ok().rows("in"), [20_000, 0, 0, 20_000]);
        let letters = job.json("dead.ndjson");
        assert_eq!(letters.len(), 20_000);
        for (n, letter) in letters.iter().enumerate() {
            assert_eq!(letter["raw"], format!("no json {n}"));
        }
    }

    fn bytes_that_are_no_text_are_kept_too(driver: Driver) {
        let job = Job::flow(driver, FLOW).file("in.ndjson", b"{\"n\":2}\n{\"n\":\"\xff\"}\n");
        assert_eq!(job.run().ok().rows("in"), [2, 1, 0, 1]);
        let letters = job.json("dead.ndjson");
        assert_eq!(letters.len(), 1);
        assert!(letters[0].get("raw").is_some(), "{}", letters[0]);
    }
}

#[test]
fn without_dead_letters_refusals_are_counted_and_one_line_says_where() {
    let (flow, _) = FLOW.split_once("[dead_letters]").unwrap();
    let lines = "{\"n\":2}\n{\"n\":\n{\"n\":\n{\"n\":4}\n";
    let job = Job::flow(Driver::Auto, flow).file("in.ndjson", lines);
    let done = job.run();
    assert_eq!(done.ok().rows("in"), [4, 2, 0, 2]);
    let said: Vec<_> = done.stderr.lines().filter(|line| line.contains("refused")).collect();
    assert_eq!(said.len(), 1, "{}", done.stderr);
    for word in ["letters.in", "decode", "in.ndjson", "byte 8", "[dead_letters]"] {
        assert!(said[0].contains(word), "{word} is not in: {}", said[0]);
    }
}

#[test]
fn what_a_sink_refuses_is_a_dead_letter_of_the_sink() {
    let toml = r#"
        [sources.in]
        type = "file"
        path = "in.ndjson"
        [sinks.out]
        type = "file"
        inputs = ["in"]
        path = "by/{site}.ndjson"
        [dead_letters]
        type = "file"
        path = "dead.ndjson"
    "#;
    let lines =
        "{\"site\":\"a\"}\n{\"no\":1}\n{\"site\":\"b\"}\n{\"site\":\"../c\"}\n{\"site\":\"a\"}\n";
    let job = Job::flow(Driver::Auto, toml).file("in.ndjson", lines);
    let done = job.run();
    assert_eq!(job.lines("by/a.ndjson").len(), 2);
    assert_eq!(job.lines("by/b.ndjson").len(), 1);
    assert!(!job.path("c.ndjson").exists());
    let letters = job.json("dead.ndjson");
    let [rows_in, out, _, dead] = done.ok().rows("out");
    assert_eq!((rows_in, out + dead, letters.len() as u64), (5, 5, dead));
    assert_eq!(letters[0]["message"], serde_json::json!({ "no": 1 }));
    assert_eq!(letters[0]["component"], "out");
}
