//! Messages take every way that the graph says, each exactly once, in order.

use std::collections::HashMap;
use std::fmt::Write;

use ringmain_tests::{Driver, Job, Summary, machine, sensors, with_each_driver};
use serde_json::Value;

fn numbers(messages: &[Value], field: &str) -> Vec<u64> {
    messages.iter().map(|message| message[field].as_u64().unwrap()).collect()
}

fn counted(count: u64) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "{{\"n\":{n}}}");
        text
    })
}

/// What a component took in is what its inputs gave out.
fn assert_flows(summary: &Summary, from: &[&str], to: &str) {
    let given: u64 = from.iter().map(|name| summary.totals(name).rows_out).sum();
    assert_eq!(summary.totals(to).rows_in, given, "{from:?} -> {to}");
}

with_each_driver! {
    fn a_fan_out_copies_every_message_to_every_branch(driver: Driver) {
        let job = Job::flow(driver, r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [operators.tens]
            type = "filter"
            inputs = ["in"]
            where = "n % 10 == 0"
            [operators.twice]
            type = "map"
            inputs = ["in"]
            set = { n = "n * 2" }
            [sinks.all]
            type = "file"
            inputs = ["in"]
            path = "all.ndjson"
            [sinks.tenth]
            type = "file"
            inputs = ["tens"]
            path = "tenth.ndjson"
            [sinks.doubled]
            type = "file"
            inputs = ["twice"]
            path = "doubled.ndjson"
        "#).file("in.ndjson", counted(10_000));
        let done = job.run();
        let summary = done.ok();
        assert_eq!(numbers(&job.json("all.ndjson"), "n"), (0..10_000).collect::<Vec<_>>());
        let tens: Vec<_> = (0..10_000).step_by(10).collect();
        assert_eq!(numbers(&job.json("tenth.ndjson"), "n"), tens);
        let doubled: Vec<_> = (0..10_000).map(|n| n * 2).collect();
        assert_eq!(numbers(&job.json("doubled.ndjson"), "n"), doubled);
        for branch in ["all", "tens", "twice"] {
            assert_eq!(summary.totals(branch).rows_in, 10_000);
        }
        assert_eq!(summary.rows("tens"), [10_000, 1000, 9000, 0]);
    }

    fn a_fan_in_takes_everything_in_the_order_of_each_source(driver: Driver) {
        let job = Job::flow(driver, r#"
            [sources.a]
            type = "file"
            path = "a.ndjson"
            [sources.b]
            type = "file"
            path = "b.ndjson"
            [operators.tag]
            type = "map"
            inputs = ["b"]
            set = { of = "'b'" }
            [sinks.out]
            type = "file"
            inputs = ["a", "tag"]
            path = "out.ndjson"
        "#).file("a.ndjson", counted(7000)).file("b.ndjson", counted(4000));
        let done = job.run();
        assert_eq!(done.ok().rows("out"), [11_000, 11_000, 0, 0]);
        assert_flows(done.ok(), &["a", "tag"], "out");
        let (b, a): (Vec<_>, Vec<_>) =
            job.json("out.ndjson").into_iter().partition(|message| message["of"] == "b");
        assert_eq!(numbers(&a, "n"), (0..7000).collect::<Vec<_>>());
        assert_eq!(numbers(&b, "n"), (0..4000).collect::<Vec<_>>());
    }

    fn a_route_gives_each_message_to_the_first_port_that_takes_it(driver: Driver) {
        let job = Job::flow(driver, r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [operators.split]
            type = "route"
            inputs = ["in"]
            routes = { low = "n < 100", even = "n % 2 == 0" }
            default = "rest"
            [sinks.low]
            type = "file"
            inputs = ["split.low"]
            path = "low.ndjson"
            [sinks.even]
            type = "file"
            inputs = ["split.even"]
            path = "even.ndjson"
            [sinks.rest]
            type = "file"
            inputs = ["split.rest"]
            path = "rest.ndjson"
            [operators.strict]
            type = "route"
            inputs = ["in"]
            routes = { low = "n < 100" }
            [sinks.strict_low]
            type = "blackhole"
            inputs = ["strict.low"]
        "#).file("in.ndjson", counted(5000));
        let done = job.run();
        let summary = done.ok();
        assert_eq!(numbers(&job.json("low.ndjson"), "n"), (0..100).collect::<Vec<_>>());
        let even: Vec<_> = (100..5000).filter(|n| n % 2 == 0).collect();
        assert_eq!(numbers(&job.json("even.ndjson"), "n"), even);
        let odd: Vec<_> = (100..5000).filter(|n| n % 2 == 1).collect();
        assert_eq!(numbers(&job.json("rest.ndjson"), "n"), odd);
        assert_eq!(summary.rows("split"), [5000, 5000, 0, 0]);
        // Without a default the others are dropped, and counted.
        assert_eq!(summary.rows("strict"), [5000, 100, 4900, 0]);
        assert_eq!(summary.rows("strict_low"), [100, 100, 0, 0]);
    }

    fn a_cycle_with_a_bound_ends_and_loses_nothing(driver: Driver) {
        let job = Job::flow(driver, r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [operators.step]
            type = "map"
            inputs = ["in", { from = "enough.again", bound = "256KiB", when_full = "block" }]
            set = { rounds = "(rounds or 0) + 1" }
            [operators.enough]
            type = "route"
            inputs = ["step"]
            routes = { yes = "rounds >= 1 + n % 4" }
            default = "again"
            [sinks.out]
            type = "file"
            inputs = ["enough.yes"]
            path = "out.ndjson"
        "#).file("in.ndjson", counted(2000));
        let done = job.run();
        let summary = done.ok();
        // Rounds of 1, 2, 3 and 4: 2.5 each.
        assert_eq!(summary.rows("step"), [5000, 5000, 0, 0]);
        assert_eq!(summary.rows("out"), [2000, 2000, 0, 0]);
        let mut out = job.json("out.ndjson");
        out.sort_by_key(|message| message["n"].as_u64());
        assert_eq!(numbers(&out, "n"), (0..2000).collect::<Vec<_>>());
        for message in &out {
            assert_eq!(message["rounds"].as_u64().unwrap(), 1 + message["n"].as_u64().unwrap() % 4);
        }
    }

    fn two_flows_in_one_run_do_not_mix(driver: Driver) {
        let flow = |name: &str| format!(r#"
            name = "{name}"
            [sources.in]
            type = "file"
            path = "{name}.ndjson"
            [operators.tag]
            type = "map"
            inputs = ["in"]
            set = {{ of = "'{name}'" }}
            [sinks.out]
            type = "file"
            inputs = ["tag"]
            path = "{name}.out"
        "#);
        let job = Job::flow(driver, &flow("one")).and_flow(&flow("two"))
            .file("one.ndjson", counted(3000))
            .file("two.ndjson", counted(500));
        let done = job.run();
        assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
        assert_eq!(done.summaries.len(), 2);
        for (name, count) in [("one", 3000), ("two", 500)] {
            assert_eq!(done.flow(name).rows("out"), [count, count, 0, 0]);
            let out = job.json(&format!("{name}.out"));
            assert_eq!(numbers(&out, "n"), (0..count).collect::<Vec<_>>());
            assert!(out.iter().all(|message| message["of"] == name));
        }
    }
}

const SHARDED: &str = r#"
    [partition]
    key = ["key"]

    [sources.in]
    type = "file"
    path = "in-*.ndjson"

    [operators.pass]
    type = "filter"
    inputs = ["in"]
    where = "seq >= 0"

    [sinks.out]
    type = "file"
    inputs = ["pass"]
    path = "out.ndjson"
"#;

/// A job on two shards, if this machine has two cores for us.
fn on_two_shards(driver: Driver, toml: &str) -> Option<Job> {
    let [first, second, ..] = machine::cores()[..] else {
        eprintln!("note: only one core may be used, so this test did not run");
        return None;
    };
    let shards = format!("[shards]\ncores = \"{first},{second}\"\n");
    Some(Job::flow(driver, toml).daemon_file(&shards))
}

/// Every key's messages are there once and in order.
fn assert_order(out: &[Value], keys: usize, count: usize) {
    let mut next: HashMap<&str, u64> = HashMap::new();
    for message in out {
        let key = message["key"].as_str().unwrap();
        let next = next.entry(key).or_insert(0);
        assert_eq!(message["seq"].as_u64().unwrap(), *next, "{key}");
        *next += 1;
    }
    assert_eq!((out.len(), next.len()), (count, keys));
}

with_each_driver! {
    fn two_shards_keep_the_order_of_every_key_and_every_message_once(driver: Driver) {
        let Some(job) = on_two_shards(driver, SHARDED) else { return };
        let job = job.file("in-1.ndjson", sensors::numbered(40_000, 97, 3));
        let done = job.run();
        for component in ["in", "pass", "out"] {
            assert_eq!(done.ok().rows(component), [40_000, 40_000, 0, 0], "{component}");
        }
        assert_order(&job.json("out.ndjson"), 97, 40_000);
    }

    fn one_key_on_two_shards_is_one_queue(driver: Driver) {
        let Some(job) = on_two_shards(driver, SHARDED) else { return };
        let job = job.file("in-1.ndjson", sensors::numbered(20_000, 1, 3));
        assert_eq!(job.run().ok().rows("out"), [20_000, 20_000, 0, 0]);
        assert_order(&job.json("out.ndjson"), 1, 20_000);
    }

    fn files_are_divided_among_shards_and_each_is_read_once(driver: Driver) {
        let Some(mut job) = on_two_shards(driver, SHARDED) else { return };
        for file in 0..5_u64 {
            let lines = sensors::numbered(3000, 7, file).replace(":\"k", &format!(":\"f{file}-k"));
            job = job.file(&format!("in-{file}.ndjson"), lines);
        }
        assert_eq!(job.run().ok().rows("out"), [15_000, 15_000, 0, 0]);
        assert_order(&job.json("out.ndjson"), 35, 15_000);
    }

    fn each_shard_may_have_a_file_of_its_own(driver: Driver) {
        let toml = SHARDED.replace("out.ndjson", "out-{shard}.ndjson");
        let Some(job) = on_two_shards(driver, &toml) else { return };
        let job = job.file("in-1.ndjson", sensors::numbered(10_000, 97, 5));
        assert_eq!(job.run().ok().rows("out"), [10_000, 10_000, 0, 0]);
        let (mut out, other) = (job.json("out-0.ndjson"), job.json("out-1.ndjson"));
        assert!(!out.is_empty() && !other.is_empty());
        // No key is on both: put together they are still in order.
        out.extend(other);
        assert_order(&out, 97, 10_000);
    }

    fn a_generator_on_two_shards_makes_exactly_its_count(driver: Driver) {
        let Some(job) = on_two_shards(driver, r#"
            [partition]
            key = ["device"]
            [sources.in]
            type = "generator"
            count = 30001
            [sources.in.fields]
            device = { type = "name", count = 50 }
            n = { type = "sequence" }
            [sinks.out]
            type = "file"
            inputs = ["in"]
            path = "out.ndjson"
        "#) else { return };
        let done = job.run();
        assert_eq!(done.ok().rows("in"), [30_001, 30_001, 0, 0]);
        assert_eq!(done.ok().rows("out"), [30_001, 30_001, 0, 0]);
        let mut numbers = numbers(&job.json("out.ndjson"), "n");
        numbers.sort_unstable();
        assert_eq!(numbers, (0..30_001).collect::<Vec<_>>());
    }
}
