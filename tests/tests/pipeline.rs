//! The main job: lines in, a filter and a new field, lines out; and JSON comes
//! out as it went in.

use std::fs;
use std::process::Command;

use ringmain_tests::corpus::{frames, texts};
use ringmain_tests::sensors::{self, shared};
use ringmain_tests::{Driver, Job, binary, with_each_driver};
use serde_json::Value;

const ALERTS: &str = r#"
    [sources.in]
    type = "file"
    path = "in.ndjson"

    [operators.fast]
    type = "filter"
    inputs = ["in"]
    where = "rpm > 100"

    [operators.mark]
    type = "map"
    inputs = ["fast"]
    set = { severity = "'high'" }

    [sinks.out]
    type = "file"
    inputs = ["mark"]
    path = "out.ndjson"
"#;

const COPY: &str = r#"
    [sources.in]
    type = "file"
    path = "in.ndjson"

    [sinks.out]
    type = "file"
    inputs = ["in"]
    path = "out.ndjson"
"#;

/// Runs [`ALERTS`] and compares line by line, in order.
fn alerts_are_as_computed(driver: Driver, lines: &str) {
    let job = Job::flow(driver, ALERTS).file("in.ndjson", lines);
    let done = job.run();
    let expected = sensors::alerts(lines);
    let count = lines.lines().count() as u64;
    let kept = expected.len() as u64;

    let out = job.json("out.ndjson");
    assert_eq!(out.len(), expected.len());
    for (at, (out, expected)) in out.iter().zip(&expected).enumerate() {
        assert_eq!(out, expected, "line {at}");
    }
    let summary = done.ok();
    assert_eq!(summary.rows("in"), [count, count, 0, 0]);
    assert_eq!(summary.rows("fast"), [count, kept, count - kept, 0]);
    assert_eq!(summary.rows("mark"), [kept, kept, 0, 0]);
    assert_eq!(summary.rows("out"), [kept, kept, 0, 0]);
    assert_eq!(summary.totals("in").bytes_in, lines.len() as u64);
    let written = fs::metadata(job.path("out.ndjson")).unwrap().len();
    assert_eq!(summary.totals("out").bytes_out, written);
}

with_each_driver! {
    fn twenty_thousand_sensor_lines_come_out_as_computed_and_in_order(driver: Driver) {
        alerts_are_as_computed(driver, &sensors::lines(20_000, 7));
    }

    fn what_the_shared_generator_writes_comes_out_as_computed(driver: Driver) {
        let Some(script) = shared("data/make_sensors.py") else { return };
        let Ok(made) = Command::new("python3").arg(script).args(["20000", "11"]).output() else {
            eprintln!("note: there is no python3, so the shared generator was not used");
            return;
        };
        assert!(made.status.success());
        let lines = String::from_utf8(made.stdout).unwrap();
        assert_eq!(lines.lines().count(), 20_000);
        alerts_are_as_computed(driver, &lines);
    }

    fn nested_events_come_out_unchanged(driver: Driver) {
        let Some(path) = shared("data/github_events.ndjson") else { return };
        let lines = fs::read_to_string(path).unwrap();
        let job = Job::flow(driver, COPY).file("in.ndjson", &lines);
        let done = job.run();
        let expected = sensors::parse(&lines);
        assert_eq!(job.json("out.ndjson"), expected);
        let count = expected.len() as u64;
        assert!(count > 0);
        assert_eq!(done.ok().rows("out"), [count, count, 0, 0]);
    }

    fn numbers_texts_and_nests_keep_their_values(driver: Driver) {
        let lines = concat!(
            r#"{"a":1,"b":-0.5,"c":1e3,"d":9223372036854775807,"e":18446744073709551615}"#, "\n",
            r#"{"a":0.1,"b":1.7976931348623157e308,"c":5e-324,"d":-9223372036854775808}"#, "\n",
            r#"{"text":"\u0000\"\\\/\b\f\n\r\té\ud83d\ude00","empty":"","":"nameless"}"#, "\n",
            r#"{"list":[1,[2,[]],{"x":null}],"map":{"y":{"z":[true,false]}},"nil":null}"#, "\n",
            r#"{}"#, "\n",
        );
        let job = Job::flow(driver, COPY).file("in.ndjson", lines);
        assert_eq!(job.run().ok().rows("out"), [5, 5, 0, 0]);
        assert_eq!(job.json("out.ndjson"), sensors::parse(lines));
    }

    fn integers_beyond_64_bits_keep_every_digit(driver: Driver) {
        let line = r#"{"n":340282366920938463463374607431768211456,"m":-18446744073709551617}"#;
        let job = Job::flow(driver, COPY).file("in.ndjson", format!("{line}\n"));
        assert_eq!(job.run().ok().rows("out"), [1, 1, 0, 0]);
        assert_eq!(job.lines("out.ndjson"), [line]);
    }

    fn the_last_line_needs_no_end_and_empty_files_are_no_messages(driver: Driver) {
        let job = Job::flow(driver, COPY).file("in.ndjson", "{\"a\":1}\r\n\n{\"a\":2}");
        assert_eq!(job.run().ok().rows("out"), [2, 2, 0, 0]);
        assert_eq!(job.lines("out.ndjson"), [r#"{"a":1}"#, r#"{"a":2}"#]);

        let job = Job::flow(driver, COPY).file("in.ndjson", "");
        assert_eq!(job.run().ok().rows("out"), [0, 0, 0, 0]);
        assert_eq!(fs::read(job.path("out.ndjson")).unwrap(), b"");
    }

    fn globs_are_read_file_by_file_in_order_of_their_names(driver: Driver) {
        let job = Job::flow(driver, &COPY.replace("in.ndjson", "in/*.ndjson"))
            .file("in/b.ndjson", "{\"n\":3}\n{\"n\":4}\n")
            .file("in/a.ndjson", "{\"n\":1}\n{\"n\":2}")
            .file("in/c.txt", "{\"n\":5}\n");
        assert_eq!(job.run().ok().rows("in"), [4, 4, 0, 0]);
        let numbers: Vec<_> = job.json("out.ndjson").iter().map(|m| m["n"].as_u64()).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(4)]);
    }

    fn standard_input_goes_to_standard_output(driver: Driver) {
        let toml = r#"
            [sources.in]
            type = "stdin"
            [operators.double]
            type = "map"
            inputs = ["in"]
            set = { b = "a * 2" }
            [sinks.out]
            type = "stdout"
            inputs = ["double"]
        "#;
        let job = Job::flow(driver, toml).piped();
        let mut daemon = job.start();
        let mut input = daemon.input();
        for n in 0..1000 {
            std::io::Write::write_all(&mut input, format!("{{\"a\":{n}}}\n").as_bytes()).unwrap();
        }
        drop(input);
        let done = daemon.wait();
        assert_eq!(done.ok().rows("out"), [1000, 1000, 0, 0]);
        let out = sensors::parse(&String::from_utf8(done.stdout).unwrap());
        assert_eq!(out.len(), 1000);
        for (n, message) in out.iter().enumerate() {
            assert_eq!(*message, serde_json::json!({ "a": n, "b": n * 2 }));
        }
    }

    fn csv_becomes_json_and_json_csv(driver: Driver) {
        let toml = r#"
            [sources.in]
            type = "file"
            path = "in.csv"
            decode = "csv"
            [sinks.json]
            type = "file"
            inputs = ["in"]
            path = "out.ndjson"
            [sinks.csv]
            type = "file"
            inputs = ["in"]
            path = "out.csv"
            encode = { type = "csv", columns = ["name", "n"] }
        "#;
        let job = Job::flow(driver, toml)
            .file("in.csv", "n,name,note\r\n1,\"a, b\",\"say \"\"hi\"\"\"\r\n2.5,plain,\r\n");
        assert_eq!(job.run().ok().rows("in"), [2, 2, 0, 0]);
        let expected = "{\"n\":1,\"name\":\"a, b\",\"note\":\"say \\\"hi\\\"\"}\n{\"n\":2.5,\"name\":\"plain\"}\n";
        assert_eq!(job.json("out.ndjson"), sensors::parse(expected));
        assert_eq!(job.lines("out.csv"), ["name,n", "\"a, b\",1", "plain,2.5"]);
    }
}

/// Texts that the project's own rules are about, wherever it is checked out.
const SOUND: [&str; 8] = [
    "{}",
    " {\"a\" : [ ] } ",
    "[1,2]",
    "null",
    "\"text\"",
    "-0.0e+1",
    "{\"a\":1,\"a\":2}",
    "[[[]]]",
];
const UNSOUND: [&str; 12] = [
    "{",
    "{\"a\":1,}",
    "[1,]",
    "nul",
    "'text'",
    "01",
    "{\"a\":.5}",
    "{\"a\":1.}",
    "{a:1}",
    "{\"a\":\"\n\"}",
    "[1]x",
    "\u{feff}{}",
];

const CORPUS: &str = r#"
    [sources.in]
    type = "file"
    path = "corpus.bin"
    frame = "u32"

    [sinks.out]
    type = "file"
    inputs = ["in"]
    path = "out.ndjson"

    [dead_letters]
    type = "file"
    path = "dead.ndjson"
"#;

/// Runs texts through a flow; returns what came out and the dead letters.
fn corpus(driver: Driver, texts: &[&[u8]], good: u64) -> (Vec<Value>, Vec<Value>) {
    let job = Job::flow(driver, CORPUS).file("corpus.bin", frames(texts.iter().copied()));
    let done = job.run();
    let all = texts.len() as u64;
    let summary = done.ok();
    assert_eq!(summary.rows("in"), [all, good, 0, all - good]);
    assert_eq!(summary.rows("out"), [good, good, 0, 0]);
    (job.json("out.ndjson"), job.json("dead.ndjson"))
}

with_each_driver! {
    fn sound_json_is_accepted_and_unsound_refused(driver: Driver) {
        let texts: Vec<_> = SOUND.iter().chain(&UNSOUND).map(|text| text.as_bytes()).collect();
        let (_, dead) = corpus(driver, &texts, SOUND.len() as u64);
        let raw: Vec<_> = dead.iter().map(|letter| letter["raw"].as_str().unwrap()).collect();
        assert_eq!(raw, UNSOUND);
    }

    fn the_conformance_corpus_is_told_apart_by_rfc_8259(driver: Driver) {
        let Some(folder) = shared("data/json-test-suite/test_parsing") else { return };
        let texts = texts(&folder);
        // A frame of length zero is no message: the empty text is left out.
        let kind = |prefix: &str| -> Vec<&[u8]> {
            let of_kind = texts.iter().filter(|text| text.name.starts_with(prefix));
            let of_kind = of_kind.filter(|text| !text.bytes.is_empty());
            of_kind.map(|text| &*text.bytes).collect()
        };
        let (must, must_not, may) = (kind("y_"), kind("n_"), kind("i_"));
        assert!(must.len() > 90 && must_not.len() > 180 && may.len() > 30);

        // A name that comes twice counts once, in either parser; other than
        // that, what is accepted comes out with its value.
        let (out, dead) = corpus(driver, &must, must.len() as u64);
        assert_eq!(dead, [] as [Value; 0]);
        for (out, text) in out.iter().zip(&must) {
            let text: Value = serde_json::from_slice(text).unwrap();
            assert_eq!(*out, text);
        }

        let (out, dead) = corpus(driver, &must_not, 0);
        assert_eq!((out.len(), dead.len()), (0, must_not.len()));
        for letter in &dead {
            assert_eq!((&letter["reason"], &letter["component"]), (&"decode".into(), &"in".into()));
        }
        // Either answer is right, and there is one to each.
        let job = Job::flow(driver, CORPUS).file("corpus.bin", frames(may.iter().copied()));
        let done = job.run();
        assert_eq!(done.ok().totals("in").rows_in, may.len() as u64);
        let answers = job.lines("out.ndjson").len() + job.lines("dead.ndjson").len();
        assert_eq!(answers, may.len());
    }
}

#[test]
fn the_quickstart_flow_does_what_its_comments_say() {
    let text = fs::read_to_string(binary::workspace().join("config/quickstart.toml")).unwrap();
    let small = text.replace("count = 2_000_000", "count = 20_000");
    assert_ne!(small, text);
    let job = Job::flow(Driver::Auto, &small);
    let done = job.run();
    let summary = done.ok();
    assert_eq!(summary.flow, "quickstart");
    assert_eq!(summary.rows("sensors"), [20_000, 20_000, 0, 0]);
    let alerts = job.json("target/quickstart.ndjson");
    assert_eq!(summary.totals("alerts").rows_out, alerts.len() as u64);
    assert!(
        alerts
            .iter()
            .all(|alert| { alert["rpm"].as_f64().unwrap() > 100.0 && alert["severity"] == "high" })
    );
}
