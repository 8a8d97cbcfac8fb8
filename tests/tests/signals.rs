//! How a run ends: in good order, in time, or at once.

use std::fs;
use std::net::TcpListener;

use ringmain_tests::{Driver, Job, until, with_each_driver};
use rustix::process::Signal;

const ENDLESS: &str = r#"
    [sources.in]
    type = "generator"
    rate = 5000
    [sources.in.fields]
    n = { type = "sequence" }
    [sinks.out]
    type = "file"
    inputs = ["in"]
    path = "out.ndjson"
"#;

/// Runs without an end until there is output, then sends a signal.
fn everything_is_written_after(driver: Driver, signal: Signal) {
    let job = Job::flow(driver, ENDLESS);
    let daemon = job.start();
    let some = || fs::metadata(job.path("out.ndjson")).is_ok_and(|file| file.len() > 10_000);
    until("there is output", some);
    daemon.signal(signal);
    let done = daemon.wait();
    let summary = done.ok();
    let numbers: Vec<_> =
        job.json("out.ndjson").iter().map(|message| message["n"].as_u64().unwrap()).collect();
    let count = numbers.len() as u64;
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    assert_eq!(summary.rows("in"), [count, count, 0, 0]);
    assert_eq!(summary.rows("out"), [count, count, 0, 0]);
}

/// A flow whose sink takes nothing; the listener must be kept.
fn stalled(driver: Driver, drain: &str) -> (Job, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let job = Job::flow(
        driver,
        &format!(
            r#"
        drain = "{drain}"
        [sources.in]
        type = "generator"
        size = "1KiB"
        [sinks.out]
        type = "tcp"
        inputs = ["in"]
        address = "127.0.0.1:{port}"
    "#
        ),
    );
    (job, server)
}

with_each_driver! {
    fn sigterm_writes_everything_that_was_read_and_ends_well(driver: Driver) {
        everything_is_written_after(driver, Signal::TERM);
    }

    fn sigint_does_the_same(driver: Driver) {
        everything_is_written_after(driver, Signal::INT);
    }

    fn a_second_signal_ends_at_once(driver: Driver) {
        let (job, server) = stalled(driver, "1h");
        let mut daemon = job.start();
        let _peer = server.accept().unwrap();
        daemon.signal(Signal::TERM);
        daemon.wait_for("draining");
        daemon.signal(Signal::TERM);
        let done = daemon.wait();
        assert!(done.failed(1).contains("second signal"), "{}", done.stderr);
    }

    fn a_stalled_sink_ends_with_the_deadline_of_the_drain(driver: Driver) {
        let (job, server) = stalled(driver, "200ms");
        let daemon = job.start();
        // The connection is there: what the kernel takes is soon full.
        let _peer = server.accept().unwrap();
        until("it stands still", || {
            let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
            let cpu = || read(&format!("/proc/{}/stat", daemon.pid()));
            let before = cpu();
            std::thread::sleep(std::time::Duration::from_millis(300));
            let ticks = |stat: &str| stat.split(' ').nth(13).map(str::to_owned);
            ticks(&before) == ticks(&cpu())
        });
        let done = daemon.drain();
        let said = done.failed(1);
        assert!(said.contains("drain: the deadline has passed"), "{said}");
        assert_eq!(done.summaries.len(), 1);
    }

    fn an_idle_flow_ends_when_told(driver: Driver) {
        let port = ringmain_tests::net::free_port();
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "tcp"
            listen = "127.0.0.1:{port}"
            [sinks.out]
            type = "blackhole"
            inputs = ["in"]
        "#));
        let daemon = job.start();
        let open = ringmain_tests::net::connect(port);
        assert_eq!(daemon.drain().ok().rows("in"), [0, 0, 0, 0]);
        drop(open);
    }
}
