//! With a `data_dir` a run goes on where the last one was acknowledged,
//! however that one ended.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringmain_tests::net::small_server;
use ringmain_tests::sensors::Random;
use ringmain_tests::{Daemon, Driver, Job, until, with_each_driver};
use rustix::process::Signal;
use serde_json::Value;

const DATA_DIR: &str = "[daemon]\ndata_dir = \"data\"\n";

fn flow(mode: &str) -> String {
    format!(
        r#"
        name = "resume"
        [sources.in]
        type = "file"
        path = "in.ndjson"
        {mode}
        [operators.pass]
        type = "filter"
        inputs = ["in"]
        where = "n >= 0"
        [sinks.out]
        type = "file"
        inputs = ["pass"]
        path = "out.ndjson"
        [dead_letters]
        type = "file"
        path = "dead.ndjson"
    "#
    )
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(200))).collect()
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn numbers(job: &Job) -> Vec<usize> {
    job.json("out.ndjson").iter().map(|message| message["n"].as_u64().unwrap() as usize).collect()
}

/// Whole lines in the output.
fn written(job: &Job) -> usize {
    let bytes = fs::read(job.path("out.ndjson")).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn kill(daemon: Daemon) {
    daemon.signal(Signal::KILL);
    drop(daemon);
}

/// Appends lines to the input, a few at a time, until it is told to stop.
struct Feeder {
    stop: Arc<AtomicBool>,
    fed: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Feeder {
    fn start(job: &Job) -> Self {
        let (stop, fed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (path, stopped, count) = (job.path("in.ndjson"), stop.clone(), fed.clone());
        append(&path, "");
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let from = count.load(Ordering::Relaxed);
                append(&path, &lines(from..from + 50));
                count.store(from + 50, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        Self { stop, fed, thread }
    }

    /// How many lines there are in the end.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.fed.load(Ordering::Relaxed)
    }
}

/// Every line is there at least once. Returns how many came again.
fn assert_complete(numbers: &[usize], count: usize) -> usize {
    let mut seen = vec![0_usize; count];
    for n in numbers {
        seen[*n] += 1;
    }
    let missing: Vec<_> = (0..count).filter(|n| seen[*n] == 0).collect();
    assert_eq!(missing, [] as [usize; 0], "lines are missing");
    numbers.len() - count
}

with_each_driver! {
    fn a_finished_file_is_not_read_again_and_what_was_added_is(driver: Driver) {
        let job = Job::flow(driver, &flow("")).shards(DATA_DIR).file("in.ndjson", lines(0..3000));
        assert_eq!(job.run().ok().rows("in"), [3000, 3000, 0, 0]);
        assert_eq!(job.run().ok().rows("in"), [0, 0, 0, 0]);
        append(&job.path("in.ndjson"), &lines(3000..3500));
        assert_eq!(job.run().ok().rows("in"), [500, 500, 0, 0]);
        assert_eq!(numbers(&job), (0..3500).collect::<Vec<_>>());
    }

    fn a_run_that_was_drained_goes_on_without_a_duplicate(driver: Driver) {
        let tail = "mode = \"tail\"\npoll = \"10ms\"";
        let job = Job::flow(driver, &flow(tail)).shards(DATA_DIR);
        let feeder = Feeder::start(&job);
        for _ in 0..4 {
            let daemon = job.start();
            let before = written(&job);
            until("lines are copied", || written(&job) > before + 200);
            let done = daemon.drain();
            assert_eq!(done.ok().totals("out").dead, 0);
        }
        let count = feeder.stop();
        let daemon = job.start();
        until("everything is copied", || written(&job) >= count);
        assert_eq!(daemon.drain().ok().rows("dead_letters"), [0, 0, 0, 0]);
        assert_eq!(numbers(&job), (0..count).collect::<Vec<_>>());
    }

    fn kill_9_at_any_moment_loses_no_line(driver: Driver) {
        let tail = "mode = \"tail\"\npoll = \"10ms\"";
        let job = Job::flow(driver, &flow(tail)).shards(DATA_DIR);
        let feeder = Feeder::start(&job);
        let mut random = Random::new(if driver == Driver::Poll { 4 } else { 3 });
        for _ in 0..6 {
            let daemon = job.start();
            let target = written(&job) + random.below(300) as usize;
            until("some lines are copied", || written(&job) >= target);
            thread::sleep(Duration::from_millis(random.below(50)));
            kill(daemon);
        }
        let count = feeder.stop();
        let daemon = job.start();
        let last = format!("{{\"n\":{},", count - 1);
        until("everything is copied", || {
            let text = fs::read_to_string(job.path("out.ndjson")).unwrap();
            text.ends_with('\n') && text.contains(&last)
        });
        let done = daemon.drain();
        // Torn lines were cut off and kept: they are whole in the output.
        assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
        assert_complete(&numbers(&job), count);
        assert!(job.json("dead.ndjson").iter().all(|letter| letter["reason"] == "truncated"));
    }

    fn duplicates_after_kill_9_are_only_what_was_not_acknowledged_yet(driver: Driver) {
        let tail = "mode = \"tail\"\npoll = \"10ms\"";
        let job = Job::flow(driver, &flow(tail)).shards(DATA_DIR);
        let feeder = Feeder::start(&job);
        let position = || fs::read(job.path("data/checkpoints/resume.checkpoint")).ok();
        let daemon = job.start();
        until("lines are copied", || written(&job) >= 200);
        let safe = written(&job);
        // A position that is stored may have been taken before the one before
        // it was stored: the third was taken behind `safe` for certain.
        for _ in 0..3 {
            let last = position();
            until("another position is stored", || position() != last);
        }
        kill(daemon);
        let count = feeder.stop();
        let before = written(&job);
        let daemon = job.start();
        let last = format!("{{\"n\":{},", count - 1);
        until("everything is copied", || {
            let text = fs::read_to_string(job.path("out.ndjson")).unwrap();
            text.ends_with('\n') && text.contains(&last)
        });
        let done = daemon.drain();
        let numbers = numbers(&job);
        assert_complete(&numbers, count);
        let again = numbers[before..].iter().min().copied().unwrap();
        assert!(again >= safe, "it began at {again}, though {safe} were acknowledged");
        let out = done.flow("resume").totals("out").rows_out as usize;
        assert_eq!(out, count - again, "from there on everything came once");
    }

    fn kill_9_while_a_peer_stands_still_loses_nothing_that_it_had_not_taken(driver: Driver) {
        const COUNT: usize = 60_000;
        let (server, port) = small_server();
        let job = Job::flow(driver, &format!(
            r#"
            name = "resume"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [sinks.out]
            type = "tcp"
            inputs = ["in"]
            address = "127.0.0.1:{port}"
            "#
        ))
        .shards(DATA_DIR)
        .file("in.ndjson", lines(0..COUNT));
        let read = |mut peer: TcpStream| {
            let mut bytes = Vec::new();
            peer.read_to_end(&mut bytes).unwrap();
            // A line that was cut in two comes again, whole.
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let number = |line: &str| {
                let message: Value = serde_json::from_str(line).unwrap();
                message["n"].as_u64().unwrap() as usize
            };
            std::str::from_utf8(&bytes[..whole]).unwrap().lines().map(number).collect::<Vec<_>>()
        };
        let daemon = job.start();
        let (peer, _) = server.accept().unwrap();
        until("a position is stored", || job.path("data/checkpoints/resume.checkpoint").exists());
        kill(daemon);
        let first = read(peer);
        assert!(first.len() < COUNT, "it never stood still");

        let daemon = job.start();
        let (peer, _) = server.accept().unwrap();
        let second = read(peer);
        let done = daemon.wait();
        assert_eq!(done.ok().totals("out").rows_out, second.len() as u64);
        assert!(second.len() < COUNT, "it began at the beginning");
        let again = assert_complete(&[first, second].concat(), COUNT);
        assert!(again < COUNT / 2, "{again} lines came again");
    }

    fn a_torn_line_at_the_end_of_the_output_is_cut_off_and_kept(driver: Driver) {
        let job = Job::flow(driver, &flow("")).shards(DATA_DIR)
            .file("in.ndjson", lines(0..1000))
            .file("out.ndjson", "{\"n\":7}\n{\"n\":8,\"pad\":\"xx");
        let done = job.run();
        assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
        assert_eq!(numbers(&job)[..3], [7, 0, 1]);
        assert_eq!(numbers(&job).len(), 1001);
        let letters = job.json("dead.ndjson");
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0]["raw"], "{\"n\":8,\"pad\":\"xx");
        assert_eq!((&letters[0]["reason"], &letters[0]["offset"]), (&"truncated".into(), &8.into()));
        assert_eq!(done.flow("resume").rows("dead_letters"), [1, 1, 0, 0]);
    }
}

#[test]
fn without_a_data_dir_every_run_begins_at_the_beginning_and_appends() {
    let job = Job::flow(Driver::Auto, &flow("")).file("in.ndjson", lines(0..100));
    for _ in 0..2 {
        assert_eq!(job.run().ok().rows("out"), [100, 100, 0, 0]);
    }
    assert_eq!(numbers(&job), (0..100).chain(0..100).collect::<Vec<_>>());
}
