//! Lines that are acknowledged over TCP: what a sender was told of is in the
//! output, whatever happened to the daemon that told it.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringmain_tests::net::{connect, free_port};
use ringmain_tests::sensors::Random;
use ringmain_tests::{Daemon, Driver, Job, until, with_each_driver};
use rustix::process::Signal;

/// Runs that are cut off by `kill -9`; `KILLS=200` for more.
const KILLS: u32 = 12;

fn kills() -> u32 {
    std::env::var("KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS)
}

fn receiver(port: u16, more: &str) -> String {
    format!(
        r#"
        name = "receiver"
        [sources.in]
        type = "tcp"
        listen = "127.0.0.1:{port}"
        ack = "lines"
        {more}
        [sinks.out]
        type = "file"
        inputs = ["in"]
        path = "out.ndjson"
        [dead_letters]
        type = "file"
        path = "dead.ndjson"
    "#
    )
}

fn kill(daemon: Daemon) {
    daemon.signal(Signal::KILL);
    drop(daemon);
}

fn numbers(job: &Job) -> Vec<u64> {
    job.json("out.ndjson").iter().map(|message| message["n"].as_u64().unwrap()).collect()
}

/// Sends numbered lines and believes only what is acknowledged.
struct Sender {
    port: u16,
    next: u64,
    acked: u64,
}

impl Sender {
    /// Sends and listens until `until`, or the connection ends.
    fn run(&mut self, random: &mut Random, until: Instant) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let Ok(mut stream) = TcpStream::connect(address) else { return };
        let base = self.acked;
        self.next = base;
        stream.set_nonblocking(true).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let mut answer = String::new();
        let mut pending = Vec::new();
        while Instant::now() < until {
            if pending.is_empty() && self.next < self.acked + 5_000 {
                for _ in 0..1 + random.below(50) {
                    writeln!(pending, "{{\"n\":{}}}", self.next).unwrap();
                    self.next += 1;
                }
            }
            match stream.write(&pending) {
                Ok(count) => drop(pending.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            match answers.read_line(&mut answer) {
                Ok(0) => return,
                Ok(_) => {
                    let total: u64 = answer.trim().parse().unwrap();
                    assert!(base + total <= self.next, "more acknowledged than sent");
                    self.acked = self.acked.max(base + total);
                    answer.clear();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

with_each_driver! {
    fn what_was_acknowledged_is_in_the_output_after_kill_9_at_any_time(driver: Driver) {
        let port = free_port();
        let job = Job::flow(driver, &receiver(port, ""));
        let mut sender = Sender { port, next: 0, acked: 0 };
        let mut random = Random::new(u64::from(port));
        let mut flying = 0;
        for _ in 0..kills() {
            let daemon = job.start();
            drop(connect(port));
            let life = Duration::from_millis(20 + random.below(120));
            sender.run(&mut random, Instant::now() + life);
            flying = flying.max(sender.next - sender.acked);
            kill(daemon);
        }
        // The kernel takes its time to close what a ring had open: whoever
        // connects meanwhile is reset.
        until("nobody listens", || TcpStream::connect(("127.0.0.1", port)).is_err());
        let acked = sender.acked;
        let daemon = job.start();
        let mut stream = connect(port);
        for n in acked..acked + 100 {
            writeln!(stream, "{{\"n\":{n}}}").unwrap();
        }
        // A peer that has sent everything is told of it before the end.
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.lines().last(), Some("100"));
        assert_eq!(daemon.drain().status.code(), Some(0));
        let numbers = numbers(&job);
        let seen: HashSet<u64> = numbers.iter().copied().collect();
        let missing = (0..acked + 100).filter(|n| !seen.contains(n)).count();
        assert_eq!(missing, 0, "of {acked} that were acknowledged");
        let again = numbers.len() as u64 - seen.len() as u64;
        println!("{acked} acknowledged, {again} came again, at most {flying} in flight");
        assert!(again <= flying * u64::from(kills()), "{again} came again");
    }

    fn a_sink_and_a_source_that_acknowledge_lose_nothing_between_two_daemons(driver: Driver) {
        const COUNT: u64 = 20_000;
        let port = free_port();
        let receiving = Job::flow(driver, &receiver(port, ""));
        let lines: String = (0..COUNT).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let sending = Job::flow(driver, &format!(
            r#"
            name = "sender"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [sinks.out]
            type = "tcp"
            inputs = ["in"]
            address = "127.0.0.1:{port}"
            ack = "lines"
            buffer = "64KiB"
            retry = {{ min = "10ms", max = "50ms" }}
            "#
        ))
        .file("in.ndjson", lines);
        let mut random = Random::new(u64::from(port));
        let mut receiver = receiving.start();
        let sender = sending.start();
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(random.below(40)));
            kill(receiver);
            receiver = receiving.start();
        }
        let done = sender.wait();
        assert_eq!(done.ok().totals("out").rows_out, COUNT);
        // The last one may not have come far enough yet to heed a signal.
        drop(connect(port));
        assert_eq!(receiver.drain().status.code(), Some(0));
        let numbers = numbers(&receiving);
        let seen: HashSet<u64> = numbers.iter().copied().collect();
        assert_eq!(seen.len() as u64, COUNT, "{} came", numbers.len());
    }

    fn a_stopping_daemon_acknowledges_what_it_has_taken_and_nothing_else(driver: Driver) {
        let port = free_port();
        let job = Job::flow(driver, &receiver(port, ""));
        let daemon = job.start();
        let mut stream = connect(port);
        let reader = stream.try_clone().unwrap();
        let answers = std::thread::spawn(move || {
            let mut last = 0;
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                last = line.parse::<u64>().unwrap();
            }
            last
        });
        for n in 0..2_000 {
            writeln!(stream, "{{\"n\":{n}}}").unwrap();
        }
        // Half a line: nobody may take it for a message, or for refused.
        stream.write_all(b"{\"n\":").unwrap();
        until("something is written", || {
            fs::metadata(job.path("out.ndjson")).is_ok_and(|file| file.len() > 0)
        });
        let done = daemon.drain();
        assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
        let acked = answers.join().unwrap();
        assert_eq!(numbers(&job).len() as u64, acked);
        assert_eq!(done.flow("receiver").totals("in").dead, 0);
    }
}

#[test]
fn acknowledgements_of_what_are_no_lines_are_refused_by_check() {
    for more in ["frame = \"u32\"", "decode = \"csv\""] {
        let job = Job::flow(Driver::Auto, &receiver(4000, more));
        let out = job.call(&["check", "flow-0.toml"]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(78), "{said}");
        assert!(said.contains("'ack' of source 'in' counts lines"), "{said}");
    }
}
