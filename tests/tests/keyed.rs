//! Operators that remember something by key, in the whole daemon: their state
//! over a restart and a kill, windows at the end of a flow, timers.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use ringmain_tests::{Driver, Job, until, with_each_driver};
use rustix::process::Signal;
use serde_json::Value;

const DATA_DIR: &str = "[daemon]\ndata_dir = \"data\"\n";

/// Follows a file, so that it can be stopped and go on.
fn flow(operator: &str) -> String {
    format!(
        r#"
        name = "keyed"
        [sources.in]
        type = "file"
        path = "in.ndjson"
        mode = "tail"
        poll = "10ms"
        [partition]
        key = ["id"]
        [operators.op]
        inputs = ["in"]
        {operator}
        [sinks.out]
        type = "file"
        inputs = ["op"]
        path = "out.ndjson"
        [sinks.all]
        type = "file"
        inputs = ["in"]
        path = "all.ndjson"
        [dead_letters]
        type = "file"
        path = "dead.ndjson"
    "#
    )
}

fn append(path: &Path, lines: &[String]) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    lines.iter().for_each(|line| writeln!(file, "{line}").unwrap());
}

fn until_read(job: &Job, count: usize) {
    until(&format!("{count} messages are read"), || {
        let text = std::fs::read_to_string(job.path("all.ndjson")).unwrap_or_default();
        text.matches('\n').count() >= count
    });
}

fn status(id: usize, status: &str) -> String {
    format!("{{\"id\":\"e{id}\",\"status\":\"{status}\"}}")
}

fn values(job: &Job, name: &str, field: &str) -> Vec<Value> {
    job.json(name).into_iter().map(|mut message| message[field].take()).collect()
}

with_each_driver! {
    fn what_a_change_detector_knows_survives_a_restart(driver: Driver) {
        let operator = "type = \"change_detector\"\nfields = [\"status\"]";
        let job = Job::flow(driver, &flow(operator)).shards(DATA_DIR).file("in.ndjson", "");
        let daemon = job.start();
        let on: Vec<String> = (0..50).map(|id| status(id, "on")).collect();
        append(&job.path("in.ndjson"), &on);
        until_read(&job, 50);
        let _ = daemon.drain().ok();
        assert_eq!(job.lines("out.ndjson").len(), 50);
        let daemon = job.start();
        append(&job.path("in.ndjson"), &on);
        append(&job.path("in.ndjson"), &[status(7, "off")]);
        until_read(&job, 101);
        let _ = daemon.drain().ok();
        let lines = job.lines("out.ndjson");
        assert_eq!((lines.len(), lines[50].as_str()), (51, status(7, "off").as_str()));
    }

    fn windows_of_a_file_leave_at_its_end_and_every_message_is_in_one(driver: Driver) {
        let flow = r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [partition]
            key = ["id"]
            [operators.minute]
            type = "aggregate"
            inputs = ["in"]
            window = "1m"
            clock = "event"
            time_field = "ts"
            time_unit = "s"
            compute = { n = "count()", sum = "sum(v)", top = "max(v)" }
            [sinks.out]
            type = "file"
            inputs = ["minute"]
            path = "out.ndjson"
        "#;
        let line = |n: usize| format!("{{\"id\":{},\"ts\":{},\"v\":{n}}}\n", n % 7, n);
        let input: String = (0..5000).map(line).collect();
        let job = Job::flow(driver, flow).file("in.ndjson", input);
        assert_eq!(job.run().ok().rows("in"), [5000, 5000, 0, 0]);
        let mut windows: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
        for n in 0..5000u64 {
            let window = windows.entry((n % 7, n / 60 * 60)).or_default();
            *window = (window.0 + 1, window.1 + n);
        }
        let results = job.json("out.ndjson");
        assert_eq!(results.len(), windows.len());
        for result in results {
            let number = |field: &str| result[field].as_u64().unwrap();
            let key = (number("id"), number("window_start"));
            assert_eq!(windows.remove(&key), Some((number("n"), number("sum"))), "{result}");
        }
    }

    fn a_throttle_that_delays_loses_nothing_at_the_end_of_its_flow(driver: Driver) {
        let flow = r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [operators.slow]
            type = "throttle"
            inputs = ["in"]
            rate = 1
            per = "1h"
            over = "delay"
            [sinks.out]
            type = "file"
            inputs = ["slow"]
            path = "out.ndjson"
        "#;
        let input: String = (0..2000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let job = Job::flow(driver, flow).file("in.ndjson", input);
        let _ = job.run().ok();
        let numbers: Vec<Value> = values(&job, "out.ndjson", "n");
        assert_eq!(numbers, (0..2000).map(Value::from).collect::<Vec<_>>());
    }

    fn a_daemon_that_is_killed_reports_no_key_twice_in_a_day(driver: Driver) {
        let operator = "type = \"sample\"\nevery = \"1d\"";
        let job = Job::flow(driver, &flow(operator)).shards(DATA_DIR).file("in.ndjson", "");
        let daemon = job.start();
        append(&job.path("in.ndjson"), &[status(1, "a"), status(2, "a")]);
        until("both have passed, and a checkpoint knows it", || {
            std::fs::read_to_string(job.path("out.ndjson")).is_ok_and(|t| t.lines().count() == 2)
        });
        let _ = daemon.drain().ok();
        let daemon = job.start();
        append(&job.path("in.ndjson"), &[status(1, "b"), status(3, "b")]);
        until_read(&job, 4);
        daemon.signal(Signal::KILL);
        drop(daemon);
        let daemon = job.start();
        append(&job.path("in.ndjson"), &[status(1, "c"), status(2, "c")]);
        until("the last message is read", || {
            let text = std::fs::read_to_string(job.path("all.ndjson")).unwrap_or_default();
            text.contains("\"id\":\"e2\",\"status\":\"c\"")
        });
        let _ = daemon.drain().ok();
        let ids = values(&job, "out.ndjson", "id");
        assert_eq!(ids.iter().filter(|id| **id == "e1").count(), 1, "{ids:?}");
        assert_eq!(ids.iter().filter(|id| **id == "e2").count(), 1, "{ids:?}");
        assert!(ids.iter().any(|id| *id == "e3"), "{ids:?}");
    }

    fn a_timer_with_a_count_ends_its_flow(driver: Driver) {
        let flow = r#"
            [sources.tick]
            type = "timer"
            fixed_delay = "2ms"
            count = 20
            timestamp_format = "us"
            fields = { site = "north" }
            misfire = "all"
            [sinks.out]
            type = "file"
            inputs = ["tick"]
            path = "out.ndjson"
        "#;
        let job = Job::flow(driver, flow);
        assert_eq!(job.run().ok().rows("out"), [20, 20, 0, 0]);
        let times: Vec<i64> =
            values(&job, "out.ndjson", "timestamp").iter().map(|t| t.as_i64().unwrap()).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
        assert!(values(&job, "out.ndjson", "site").iter().all(|site| site == "north"));
    }

    fn the_overheating_engine_is_reported_once_each_time(driver: Driver) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("config");
        let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
        let job = Job::flow(driver, &read("flows/overheat.toml"))
            .file("config/data/engine.csv", read("data/engine.csv"));
        assert_eq!(job.run().ok().rows("sensors"), [288, 288, 0, 0]);
        let times = values(&job, "out/overheat.ndjson", "timestamp");
        assert_eq!(times, ["2014-02-01 06:00:00", "2014-02-01 18:05:00"]);
    }
}
