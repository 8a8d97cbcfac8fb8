//! Memory is bounded by what was configured, not by what comes.

use std::fmt::Write;

use ringmain_tests::{Driver, Job, machine, sensors, with_each_driver};

/// What a flow over a file may have in RAM, however long the file is.
const RSS_MAX_KIB: u64 = 100 << 10;

with_each_driver! {
    fn a_long_file_takes_less_than_100_mb(driver: Driver) {
        let count = 200_000;
        let lines = sensors::lines(count, 7);
        let job = Job::flow(driver, r#"
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
        "#).file("in.ndjson", &lines);
        let mut daemon = job.start();
        let mut peak = 0;
        while daemon.is_running() {
            peak = machine::rss_peak_kib(daemon.pid()).unwrap_or(peak).max(peak);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let done = daemon.wait();
        assert_eq!(done.ok().totals("in").rows_in, count as u64);
        assert!(peak > 0 && peak < RSS_MAX_KIB, "{peak} KiB");
    }

    fn messages_that_grow_on_their_way_stay_within_the_budget(driver: Driver) {
        // Each is larger than the slabs were made for, and all of them
        // together larger than the budget.
        let mut lines = String::new();
        for n in 0..200 {
            let _ = writeln!(lines, "{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(120_000));
        }
        let job = Job::flow(driver, r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [operators.grow]
            type = "map"
            inputs = ["in"]
            set = { again = "pad .. pad" }
            [sinks.out]
            type = "file"
            inputs = ["grow"]
            path = "out.ndjson"
            [dead_letters]
            type = "blackhole"
        "#).file("in.ndjson", &lines).shards("memory = \"32MiB\"\n");
        let mut daemon = job.start();
        let mut peak = 0;
        while daemon.is_running() {
            peak = machine::rss_peak_kib(daemon.pid()).unwrap_or(peak).max(peak);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let done = daemon.wait();
        let [rows_in, out, _, dead] = done.ok().rows("grow");
        assert_eq!((rows_in, out, dead), (200, 200, 0));
        assert_eq!(job.lines("out.ndjson").len() as u64, out);
        // The budget, and what the program itself takes.
        assert!(peak > 0 && peak < (32 + 48) << 10, "{peak} KiB");
    }
}
