//! Messages from sockets: whoever connects, however they send.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};

use ringmain_tests::net::{connect, free_port};
use ringmain_tests::wait::until_some;
use ringmain_tests::{Driver, Job, machine, until, with_each_driver};
use serde_json::Value;

const CONNECTIONS: usize = 1000;

/// Growth that a second thousand of connections may cause: nothing that is
/// kept per connection, which would be more.
const GROWTH_MAX_KIB: u64 = 4 << 10;

/// Connects a thousand times, sends lines in halves, leaves one unfinished.
fn come_and_go(port: u16, wave: usize) {
    let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| connect(port)).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        write!(stream, "{{\"wave\":{wave},\"c\":{n},\"n\":0}}\n{{\"wave\":{wave},").unwrap();
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        write!(stream, "\"c\":{n},\"n\":1}}\n{{\"wave\":{wave},\"c\":").unwrap();
    }
    // Some close in good order, some are just gone.
    for stream in streams.iter().step_by(2) {
        stream.shutdown(Shutdown::Write).unwrap();
    }
}

with_each_driver! {
    fn a_thousand_connections_that_come_and_go_lose_no_whole_line_and_leak_nothing(driver: Driver) {
        let limit = machine::raise_descriptor_limit();
        assert!(limit > 2200, "only {limit} descriptors are allowed");
        let port = free_port();
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "tcp"
            listen = "127.0.0.1:{port}"
            [sinks.out]
            type = "file"
            inputs = ["in"]
            path = "out.ndjson"
            [dead_letters]
            type = "file"
            path = "dead.ndjson"
        "#));
        let daemon = job.start();
        drop(connect(port));
        let there = |file: &str, count: usize| {
            until(&format!("{file} has {count} lines"), || {
                let text = std::fs::read_to_string(job.path(file)).unwrap_or_default();
                text.matches('\n').count() >= count
            });
        };
        let (mut descriptors, mut rss) = (Vec::new(), Vec::new());
        for wave in 1..=2 {
            come_and_go(port, wave);
            there("out.ndjson", 2 * CONNECTIONS * wave);
            there("dead.ndjson", CONNECTIONS * wave);
            let settled = until_some("descriptors are closed", || {
                Some(daemon.descriptors()).filter(|count| *count < 100)
            });
            descriptors.push(settled);
            rss.push(daemon.rss_kib());
        }
        until("all descriptors are closed", || daemon.descriptors() <= descriptors[0]);
        assert!(rss[1] <= rss[0] + GROWTH_MAX_KIB, "memory grew: {rss:?} KiB");

        let done = daemon.drain();
        let (whole, halves) = (4 * CONNECTIONS as u64, 2 * CONNECTIONS as u64);
        assert_eq!(done.ok().rows("in"), [whole + halves, whole, 0, halves]);
        let mut seen: BTreeMap<(u64, u64), Vec<u64>> = BTreeMap::new();
        for message in job.json("out.ndjson") {
            let number = |field: &str| message[field].as_u64().unwrap();
            seen.entry((number("wave"), number("c"))).or_default().push(number("n"));
        }
        assert_eq!(seen.len(), 2 * CONNECTIONS);
        assert!(seen.values().all(|numbers| *numbers == [0, 1]), "lost, twice or out of order");
        for letter in job.json("dead.ndjson") {
            let raw = letter["raw"].as_str().unwrap();
            assert!(raw.starts_with("{\"wave\":") && raw.ends_with("\"c\":"), "{letter}");
            assert!(letter["origin"].as_str().unwrap().starts_with("127.0.0.1:"), "{letter}");
        }
    }

    fn more_connections_than_allowed_wait_for_their_turn(driver: Driver) {
        let port = free_port();
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "tcp"
            listen = "127.0.0.1:{port}"
            connections_max = 4
            [sinks.out]
            type = "file"
            inputs = ["in"]
            path = "out.ndjson"
        "#));
        let daemon = job.start();
        let mut streams: Vec<_> = (0..12).map(|_| connect(port)).collect();
        for (n, stream) in streams.iter_mut().enumerate() {
            writeln!(stream, "{{\"n\":{n}}}").unwrap();
        }
        let lines = || {
            let text = std::fs::read_to_string(job.path("out.ndjson")).unwrap_or_default();
            text.matches('\n').count()
        };
        until("the first four are served", || lines() >= 4);
        drop(streams);
        until("all are served", || lines() >= 12);
        assert_eq!(daemon.drain().ok().rows("out"), [12, 12, 0, 0]);
    }

    fn datagrams_over_udp_are_messages(driver: Driver) {
        let (port, to) = (free_port(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "udp"
            listen = "127.0.0.1:{port}"
            [operators.twice]
            type = "map"
            inputs = ["in"]
            set = {{ m = "n * 2" }}
            [sinks.out]
            type = "udp"
            inputs = ["twice"]
            address = "{}"
            [dead_letters]
            type = "file"
            path = "dead.ndjson"
        "#, to.local_addr().unwrap()));
        let daemon = job.start();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        from.connect(("127.0.0.1", port)).unwrap();
        to.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let mut buffer = [0; 2048];
        let mut receive = || -> Option<Value> {
            let size = to.recv(&mut buffer).ok()?;
            Some(serde_json::from_slice(&buffer[..size]).unwrap())
        };
        // Until it listens, what is sent is refused.
        until_some("it listens", || {
            let _ = from.send(b"{\"n\":0}");
            receive()
        });
        while receive().is_some() {}
        for n in 1..=200 {
            from.send(format!("{{\"n\":{n}}}").as_bytes()).unwrap();
            let got = until_some("it comes through", &mut receive);
            assert_eq!(got, serde_json::json!({ "n": n, "m": 2 * n }));
        }
        from.send(b"no json").unwrap();
        until("the dead letter is there", || {
            std::fs::read(job.path("dead.ndjson")).is_ok_and(|bytes| !bytes.is_empty())
        });
        let done = daemon.drain();
        let [rows_in, out, _, dead] = done.ok().rows("in");
        assert!(out >= 201 && dead == 1 && rows_in == out + 1, "{rows_in} {out} {dead}");
        assert_eq!(job.json("dead.ndjson")[0]["raw"], "no json");
    }

    fn unix_sockets_carry_streams_and_datagrams(driver: Driver) {
        let job = Job::flow(driver, r#"
            [sources.lines]
            type = "unix"
            path = "lines.sock"
            [sources.packets]
            type = "unix"
            path = "packets.sock"
            mode = "datagram"
            [sinks.out]
            type = "file"
            inputs = ["lines", "packets"]
            path = "out.ndjson"
        "#);
        let daemon = job.start();
        let connected = || UnixStream::connect(job.path("lines.sock")).ok();
        let mut stream = until_some("somebody listens", connected);
        let packets = UnixDatagram::unbound().unwrap();
        until("it is there", || packets.connect(job.path("packets.sock")).is_ok());
        for n in 0..500 {
            writeln!(stream, "{{\"a\":{n}}}").unwrap();
            packets.send(format!("{{\"b\":{n}}}").as_bytes()).unwrap();
        }
        drop(stream);
        until("everything is there", || {
            let text = std::fs::read_to_string(job.path("out.ndjson")).unwrap_or_default();
            text.matches('\n').count() >= 1000
        });
        assert_eq!(daemon.drain().ok().rows("out"), [1000, 1000, 0, 0]);
        let out = job.json("out.ndjson");
        for field in ["a", "b"] {
            let numbers: Vec<_> = out.iter().filter_map(|m| m[field].as_u64()).collect();
            assert_eq!(numbers, (0..500).collect::<Vec<_>>(), "{field}");
        }
        assert!(!job.path("lines.sock").exists(), "the socket is removed");
    }
}
