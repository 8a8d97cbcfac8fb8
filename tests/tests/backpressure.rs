//! A side that takes nothing stops its source and nothing else, and costs no
//! memory; when it takes again, everything is there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringmain_tests::net::{connect, free_port, shrink_sending, small_server};
use ringmain_tests::wait::until;
use ringmain_tests::{Driver, Job, with_each_driver};
use serde_json::Value;

/// What a stalled flow may take in, in all of its queues and buffers and the
/// kernel's: far more than they hold, far less than is offered.
const TAKEN_MAX: usize = 64 << 20;

/// A peer that has taken nothing for so long takes nothing.
const STILL: Duration = Duration::from_secs(2);

/// The most that a stalled process may have in RAM: the budget of 64 MiB and
/// what the program itself takes.
const RSS_MAX_KIB: u64 = 128 << 10;

fn line(n: usize) -> String {
    format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(1000))
}

/// Sends lines until none is taken any more. Returns how many were begun and
/// the rest of the last one.
fn send_until_still(stream: &mut TcpStream) -> (usize, String) {
    stream.set_write_timeout(Some(STILL)).unwrap();
    for n in 0.. {
        assert!(n * 1000 < TAKEN_MAX, "the source did not stop");
        let text = line(n);
        let mut sent = 0;
        while sent < text.len() {
            match stream.write(&text.as_bytes()[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return (n + 1, text[sent..].to_owned());
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    unreachable!("numbers do not end")
}

/// Reads numbered lines on a thread of its own.
struct Reader {
    count: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<usize>>,
}

impl Reader {
    fn start(peer: TcpStream) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let thread = thread::spawn(move || {
            let lines = BufReader::new(peer).lines();
            let number = |line: std::io::Result<String>| {
                let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
                seen.fetch_add(1, Ordering::Relaxed);
                message["n"].as_u64().unwrap() as usize
            };
            lines.map(number).collect()
        });
        Self { count, thread }
    }

    fn wait_for(&self, count: usize) {
        until("the peer has everything", || self.count.load(Ordering::Relaxed) >= count);
    }

    /// The numbers, when the daemon has closed the connection.
    fn join(self) -> Vec<usize> {
        self.thread.join().unwrap()
    }
}

with_each_driver! {
    fn a_peer_that_does_not_read_stops_the_source_and_then_gets_everything_in_order(driver: Driver) {
        let (server, to) = small_server();
        let from = free_port();
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "tcp"
            listen = "127.0.0.1:{from}"
            [sinks.out]
            type = "tcp"
            inputs = ["in"]
            address = "127.0.0.1:{to}"
        "#)).shards("memory = \"64MiB\"\n");
        let daemon = job.start();
        let mut client = connect(from);
        shrink_sending(&client);
        let (peer, _) = server.accept().unwrap();

        let (begun, rest) = send_until_still(&mut client);
        // For a while longer nothing at all is taken, and memory stays.
        let before = daemon.rss_kib();
        let taken = client.write(rest.as_bytes());
        assert!(taken.is_err(), "after standing still it took {taken:?}");
        let after = daemon.rss_kib();
        assert!(after <= before + 1024, "memory grew from {before} to {after} KiB");
        assert!(after < RSS_MAX_KIB, "{after} KiB");

        let reader = Reader::start(peer);
        client.set_write_timeout(None).unwrap();
        client.write_all(rest.as_bytes()).unwrap();
        let count = begun + 500;
        for n in begun..count {
            client.write_all(line(n).as_bytes()).unwrap();
        }
        reader.wait_for(count);
        let done = daemon.drain();
        let summary = done.ok();
        assert_eq!(summary.rows("in"), [count as u64, count as u64, 0, 0]);
        assert_eq!(summary.rows("out"), [count as u64, count as u64, 0, 0]);
        // It stood still for twice as long as we looked, at least.
        let blocked = summary.backpressure_pct("in", "out") / 100.0 * summary.seconds;
        let least = 2.0 * STILL.as_secs_f64() * 0.95;
        assert!(blocked >= least, "blocked for {blocked} s, stalled for {least} s at least");
        assert_eq!(reader.join(), (0..count).collect::<Vec<_>>());
    }

    fn a_branch_that_drops_lets_its_sibling_go_on_and_counts_what_it_drops(driver: Driver) {
        for policy in ["drop_newest", "drop_oldest"] {
            const COUNT: usize = 20_000;
            let (server, to) = small_server();
            let job = Job::flow(driver, &format!(r#"
                allow_loss = true
                [sources.in]
                type = "file"
                path = "in.ndjson"
                [sinks.slow]
                type = "tcp"
                inputs = ["in"]
                address = "127.0.0.1:{to}"
                buffer = "64KiB"
                when_full = "{policy}"
                [sinks.good]
                type = "file"
                inputs = ["in"]
                path = "good.ndjson"
            "#));
            let job = job.file("in.ndjson", (0..COUNT).map(line).collect::<String>());
            let daemon = job.start();
            let (peer, _) = server.accept().unwrap();
            let size = fs::metadata(job.path("in.ndjson")).unwrap().len();
            until("the good branch has everything", || {
                fs::metadata(job.path("good.ndjson")).is_ok_and(|file| file.len() == size)
            });
            let reader = Reader::start(peer);
            let done = daemon.wait();
            let summary = done.ok();
            let got = reader.join();
            let [rows_in, out, dropped, dead] = summary.rows("slow");
            assert_eq!((rows_in, dead), (COUNT as u64, 0), "{policy}");
            assert_eq!(out, got.len() as u64, "{policy}");
            assert!(dropped > 0, "{policy}: everything found room");
            assert!(got.is_sorted_by(|a, b| a < b), "{policy}: out of order or twice");
            assert_eq!(summary.rows("good"), [COUNT as u64, COUNT as u64, 0, 0]);
            let last = got.last().copied();
            match policy {
                "drop_newest" => assert_eq!(got[..100], (0..100).collect::<Vec<_>>()),
                _ => assert_eq!(last, Some(COUNT - 1), "the newest are kept"),
            }
        }
    }

    fn a_branch_that_blocks_stops_its_sibling_too_and_nothing_is_lost(driver: Driver) {
        const COUNT: usize = 20_000;
        let (server, to) = small_server();
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [sinks.slow]
            type = "tcp"
            inputs = ["in"]
            address = "127.0.0.1:{to}"
            [sinks.good]
            type = "file"
            inputs = ["in"]
            path = "good.ndjson"
        "#));
        let job = job.file("in.ndjson", (0..COUNT).map(line).collect::<String>());
        let daemon = job.start();
        let (peer, _) = server.accept().unwrap();
        let reader = Reader::start(peer);
        let done = daemon.wait();
        assert_eq!(done.ok().rows("slow"), [COUNT as u64, COUNT as u64, 0, 0]);
        assert_eq!(reader.join(), (0..COUNT).collect::<Vec<_>>());
        assert_eq!(job.lines("good.ndjson").len(), COUNT);
    }

    fn a_peer_that_comes_late_gets_everything(driver: Driver) {
        let to = free_port();
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [sinks.out]
            type = "tcp"
            inputs = ["in"]
            address = "127.0.0.1:{to}"
            retry = {{ min = "10ms", max = "50ms" }}
        "#)).file("in.ndjson", (0..2000).map(line).collect::<String>());
        let mut daemon = job.start();
        daemon.wait_for("attempt 1 failed");
        let server = TcpListener::bind(("127.0.0.1", to)).unwrap();
        let (peer, _) = server.accept().unwrap();
        let reader = Reader::start(peer);
        let done = daemon.wait();
        assert_eq!(done.ok().rows("out"), [2000, 2000, 0, 0]);
        assert_eq!(reader.join(), (0..2000).collect::<Vec<_>>());
    }

    fn a_connection_that_breaks_is_made_again_and_goes_on_in_order(driver: Driver) {
        const COUNT: usize = 5000;
        let (server, to) = small_server();
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [sinks.out]
            type = "tcp"
            inputs = ["in"]
            address = "127.0.0.1:{to}"
            retry = {{ min = "10ms", max = "50ms" }}
        "#)).file("in.ndjson", (0..COUNT).map(line).collect::<String>());
        let daemon = job.start();
        // What the first peer's kernel took and nobody read is lost, beyond
        // what TCP tells. Everything else goes to the second.
        let (peer, _) = server.accept().unwrap();
        drop(peer);
        let (peer, _) = server.accept().unwrap();
        let reader = Reader::start(peer);
        let done = daemon.wait();
        let got = reader.join();
        assert_eq!(done.ok().totals("out").rows_out, COUNT as u64);
        assert!(got.is_sorted_by(|a, b| a < b), "out of order or twice");
        assert_eq!(got.last(), Some(&(COUNT - 1)));
    }
}
