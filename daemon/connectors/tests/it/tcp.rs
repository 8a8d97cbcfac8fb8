//! TCP: every whole line of every connection arrives once, whatever the peers
//! do; a sink keeps what a broken connection did not take.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use ringmain_base::Reason;
use ringmain_config::plan::{
    BreakerPlan, EncodePlan, FramePlan, Listen, RetryPlan, SinkKind, SinkPlan, SourceKind,
    SourcePlan,
};
use ringmain_connectors::{Fault, Health, Pull};

use crate::rig::{Rig, number_lines, numbers_of, sink_plan, source_plan, spanned};

/// An address that nobody uses now.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn listen(addr: SocketAddr) -> Listen {
    Listen { text: spanned(addr.to_string()), addr }
}

fn source(addr: SocketAddr, connections_max: u32) -> SourcePlan {
    source_plan(SourceKind::Tcp { listen: listen(addr), connections_max, tls: None, acks: false })
}

fn sink(address: &str) -> SinkPlan {
    let retry = RetryPlan::new(1_000, 20_000);
    let address = spanned(address.to_owned());
    sink_plan(SinkKind::Tcp {
        address,
        connect_timeout_us: 1_000_000,
        retry,
        tls: None,
        ack_timeout_us: None,
    })
}

/// Resets the connection instead of closing it.
fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn lines_of_several_connections_arrive_once_each_in_its_order() {
    let addr = free_address();
    let mut rig = Rig::new();
    let source = rig.source(&source(addr, 10));
    let senders: Vec<_> = (0..4_u64)
        .map(|sender| {
            thread::spawn(move || {
                let mut stream = TcpStream::connect(addr).unwrap();
                let text = number_lines(sender * 10_000..sender * 10_000 + 10_000);
                // Odd pieces, so that lines are cut.
                for piece in text.as_bytes().chunks(1_013) {
                    stream.write_all(piece).unwrap();
                }
            })
        })
        .collect();
    let rows = numbers_of(&rig.take(source, 40_000));
    for sender in senders {
        sender.join().unwrap();
    }
    rig.nothing_more(source);
    for sender in 0..4 {
        let own: Vec<_> = rows.iter().filter(|n| **n / 10_000 == sender).copied().collect();
        assert_eq!(own, (sender * 10_000..sender * 10_000 + 10_000).collect::<Vec<_>>());
    }
    rig.stop(source);
    assert_eq!(rig.drain(source), [] as [String; 0]);
    rig.quiet();
}

#[test]
fn a_last_line_counts_when_the_peer_closes_and_not_when_the_connection_breaks() {
    let addr = free_address();
    let mut rig = Rig::new();
    let source = rig.source(&source(addr, 10));
    let mut closing = TcpStream::connect(addr).unwrap();
    closing.write_all(b"{\"n\":1}\n{\"n\":2}").unwrap();
    drop(closing);
    assert_eq!(rig.take(source, 2), ["{\"n\":1}", "{\"n\":2}"]);

    let mut breaking = TcpStream::connect(addr).unwrap();
    breaking.write_all(b"{\"n\":3}\n{\"n\":4}").unwrap();
    assert_eq!(rig.take(source, 1), ["{\"n\":3}"]);
    reset(breaking);
    rig.until("the refusal", |rig| {
        assert_eq!(rig.pull(source).1, [] as [String; 0]);
        !rig.letters.0.is_empty()
    });
    let letter = &rig.letters.0[0];
    assert_eq!((letter.reason, letter.offset), (Reason::Truncated, 8));
    assert!(letter.origin.starts_with("127.0.0.1:"), "{}", letter.origin);
}

#[test]
fn a_cut_record_with_a_length_is_refused_when_the_peer_closes() {
    let addr = free_address();
    let mut plan = source(addr, 10);
    plan.frame = FramePlan::U32Le;
    let mut rig = Rig::new();
    let source = rig.source(&plan);
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"\x07\0\0\0{\"n\":1}\x09\0\0\0{").unwrap();
    drop(stream);
    assert_eq!(rig.take(source, 1), ["{\"n\":1}"]);
    rig.until("the refusal", |rig| {
        rig.pull(source);
        !rig.letters.0.is_empty()
    });
    assert_eq!(rig.letters.0[0].reason, Reason::Truncated);
}

#[test]
fn a_thousand_connections_with_halves_of_lines_leave_nothing_behind() {
    const CONNECTIONS: u64 = 1_000;
    let addr = free_address();
    let mut rig = Rig::new();
    let source = rig.source(&source(addr, 2_000));
    let before = rig.io_in_flight();
    let sender = thread::spawn(move || {
        let mut streams = Vec::new();
        for n in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(addr).unwrap();
            write!(stream, "{{\"n\":{n}}}\n{{\"n\":").unwrap();
            streams.push(stream);
        }
        for (n, mut stream) in (0..).zip(streams) {
            match n % 3 {
                // The other half comes.
                0 => writeln!(stream, "{}}}", n + CONNECTIONS).unwrap(),
                // It does not, and the peer says goodbye: half a line.
                1 => {}
                _ => reset(stream),
            }
        }
    });
    let mut rows = Vec::new();
    // 334 second halves came, 666 are refused.
    rig.until("every row and refusal", |rig| {
        rows.extend(rig.pull(source).1);
        rows.len() == 1_334 && rig.letters.0.len() == 666
    });
    sender.join().unwrap();
    let mut numbers = numbers_of(&rows);
    numbers.sort_unstable();
    let halves = (0..CONNECTIONS).step_by(3).map(|n| n + CONNECTIONS);
    assert_eq!(numbers, (0..CONNECTIONS).chain(halves).collect::<Vec<_>>());
    let of = |reason| rig.letters.0.iter().filter(|l| l.reason == reason).count();
    assert_eq!((of(Reason::Decode), of(Reason::Truncated)), (333, 333));
    rig.until("the end of every connection", |rig| {
        rig.pull(source);
        rig.io_in_flight() == before
    });
}

#[test]
fn more_connections_than_allowed_wait_and_are_served_later() {
    let addr = free_address();
    let mut rig = Rig::new();
    let source = rig.source(&source(addr, 2));
    let mut streams: Vec<_> = (0..5)
        .map(|n| {
            let mut stream = TcpStream::connect(addr).unwrap();
            writeln!(stream, "{{\"n\":{n}}}").unwrap();
            stream
        })
        .collect();
    let first = rig.take(source, 2);
    for _ in 0..20 {
        rig.turn();
        assert_eq!(rig.pull(source).1.len(), 0);
    }
    let Health::Retrying(text) = rig.health(source) else { panic!("healthy") };
    assert!(text.contains("connections_max"), "{text}");
    streams.truncate(0);
    let mut all = numbers_of(&first);
    all.extend(numbers_of(&rig.take(source, 3)));
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4]);
}

#[test]
fn partial_lines_of_all_connections_together_are_bounded() {
    let addr = free_address();
    let mut plan = source(addr, 10);
    plan.frame_bytes = 16 << 20;
    let mut rig = Rig::new();
    let source = rig.source(&plan);
    let senders: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut stream = TcpStream::connect(addr).unwrap();
                // Fails when the connection is closed, which is the point.
                let _ = stream.write_all(&vec![b'x'; 12 << 20]);
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
            })
        })
        .collect();
    rig.until("the refusals", |rig| {
        assert_eq!(rig.pull(source).1.len(), 0);
        rig.letters.0.iter().any(|l| l.reason == Reason::Memory)
    });
    rig.stop(source);
    rig.until("the end", |rig| rig.pull(source).0 == Pull::Ended);
    assert!(rig.letters.0.iter().all(|l| matches!(l.reason, Reason::Memory | Reason::Truncated)));
    for sender in senders {
        sender.join().unwrap();
    }
}

#[test]
fn a_source_that_is_not_polled_stops_its_peers_and_loses_nothing() {
    let addr = free_address();
    let mut rig = Rig::new();
    let source = rig.source(&source(addr, 10));
    let line = format!("{{\"pad\":\"{}\"}}", "x".repeat(2_000));
    let text = format!("{line}\n").repeat(12_000);
    let bytes = text.len();
    let sender = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut sent = 0;
        while let Ok(n) = stream.write(&text.as_bytes()[sent..]) {
            sent += n;
            if sent == bytes {
                break;
            }
        }
        stream.set_write_timeout(None).unwrap();
        let stalled = sent;
        stream.write_all(&text.as_bytes()[sent..]).unwrap();
        stalled
    });
    // Events are taken, rows are not.
    rig.until("the buffers to be full", |rig| {
        let before = rig.bytes;
        (0..200).for_each(|_| rig.turn());
        rig.bytes > 0 && rig.bytes == before
    });
    assert!(rig.bytes <= 33 * (64 << 10) as u64, "{} B received", rig.bytes);
    let rows = rig.take(source, 12_000);
    assert!(rows.len() == 12_000 && rows.iter().all(|row| *row == line));
    assert!(sender.join().unwrap() < bytes);
}

#[test]
fn a_port_in_use_is_an_error_of_the_key_listen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = source(listener.local_addr().unwrap(), 10);
    let mut rig = Rig::new();
    for shards in [1, 2] {
        let source = rig.build_source(&plan, 0, shards);
        let error = rig.add_source(source).unwrap_err();
        assert_eq!((error.fault, error.key), (Fault::Setup, "listen"));
        assert!(error.message.contains("cannot listen at '127.0.0.1:"), "{}", error.message);
        assert!(error.message.contains("another"), "{}", error.message);
    }
}

#[test]
fn two_shards_share_a_port() {
    let addr = free_address();
    let mut rig = Rig::new();
    let owners: Vec<_> = (0..2)
        .map(|shard| {
            let twin = rig.build_source(&source(addr, 100), shard, 2);
            rig.add_source(twin).unwrap()
        })
        .collect();
    for n in 0..40 {
        let mut stream = TcpStream::connect(addr).unwrap();
        writeln!(stream, "{{\"n\":{n}}}").unwrap();
    }
    let mut rows = Vec::new();
    rig.until("all rows", |rig| {
        owners.iter().for_each(|owner| rows.extend(rig.pull(*owner).1));
        rows.len() == 40
    });
    let mut numbers = numbers_of(&rows);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_peer_that_does_not_read_stops_the_sink_and_gets_everything_later() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = sink(&listener.local_addr().unwrap().to_string());
    plan.buffer_bytes = 256 << 10;
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    let slab = rig.numbers(0, 1_000, 1_000);
    let (mut stream, mut from, mut slabs, mut quiet) = (None, 0, 0, 0);
    rig.until("the sink to be full", |rig| {
        listener.set_nonblocking(true).unwrap();
        if stream.is_none() {
            stream = listener.accept().ok();
        }
        rig.poll_sink(sink);
        let took = rig.push(sink, &slab, from);
        from += took;
        if from == slab.len() {
            rig.slab_end(sink);
            (from, slabs) = (0, slabs + 1);
        }
        quiet = if took == 0 { quiet + 1 } else { 0 };
        quiet > 100
    });
    assert!(rig.finished(sink) <= slabs);
    let mut stream = stream.unwrap().0;
    stream.set_nonblocking(false).unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let mut rest = from;
    rig.until("the rest of a slab", |rig| {
        rig.poll_sink(sink);
        rest += rig.push(sink, &slab, rest);
        rest == slab.len()
    });
    rig.slab_end(sink);
    rig.finish(sink);
    assert_eq!(rig.finished(sink), slabs + 1);
    let want = rig.lines(&slab).repeat(usize::try_from(slabs).unwrap() + 1);
    assert!(reader.join().unwrap() == want);
}

#[test]
fn a_broken_connection_is_made_again_and_nothing_is_missing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = sink(&listener.local_addr().unwrap().to_string());
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    let reader = thread::spawn(move || {
        let mut seen = Vec::new();
        for round in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = Vec::new();
            if round < 3 {
                // Reads a part, then breaks off in the middle of a line.
                let mut part = vec![0; 100_003];
                stream.read_exact(&mut part).unwrap();
                reset(stream);
                let whole = part.iter().rposition(|b| *b == b'\n').unwrap() + 1;
                text.extend_from_slice(&part[..whole]);
            } else {
                stream.read_to_end(&mut text).unwrap();
            }
            let text = String::from_utf8(text).unwrap();
            for line in text.lines() {
                let number = line.strip_prefix("{\"n\":").unwrap().split([',', '}']).next();
                seen.push(number.unwrap().parse::<u64>().unwrap());
            }
            if seen.last() == Some(&39_999) {
                return seen;
            }
        }
        unreachable!()
    });
    // What a kernel took and nobody read is beyond a sink, so each round
    // begins when the connection is known to be gone.
    let mut first = 0;
    for _ in 0..40 {
        let slab = rig.numbers(first, 1_000, 100);
        rig.push_all(sink, &slab);
        first += 1_000;
    }
    rig.finish(sink);
    assert_eq!(rig.finished(sink), 40);
    let seen = reader.join().unwrap();
    // Lines in the kernel's buffers when a connection broke are lost to TCP;
    // what comes after a break starts with a whole line and stays in order.
    assert!(seen.len() > 20_000);
    let breaks = seen.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!(breaks <= 3, "{breaks}");
}

#[test]
fn what_a_connection_did_not_take_is_sent_again_from_a_line_beginning() {
    // Small kernel buffers, and a peer that reads nothing before it breaks
    // off: what did not fit them comes again.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&listener).set_recv_buffer_size(4 << 10).unwrap();
    let mut plan = sink(&listener.local_addr().unwrap().to_string());
    plan.buffer_bytes = 16 << 20;
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    let slab = rig.numbers(0, 10_000, 1_000);
    rig.push_all(sink, &slab);
    rig.turn();
    let (stream, _) = listener.accept().unwrap();
    let mut quiet = 0;
    rig.until("the kernel to be full", |rig| {
        let before = rig.bytes;
        rig.poll_sink(sink);
        rig.turn();
        quiet = if rig.bytes == before { quiet + 1 } else { 0 };
        quiet > 50
    });
    let accepted = rig.bytes;
    reset(stream);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    rig.finish(sink);
    let all = rig.lines(&slab);
    let second = reader.join().unwrap();
    assert!(all.ends_with(&second) && second.starts_with("{\"n\":"));
    assert_eq!(second.len() as u64, all.len() as u64 - accepted);
    assert_eq!(rig.finished(sink), 1);
}

#[test]
fn a_server_that_is_not_there_is_tried_again_until_it_comes() {
    let addr = free_address();
    let mut rig = Rig::new();
    let mut plan = sink(&addr.to_string());
    plan.encode = EncodePlan::Csv { columns: vec!["n".into()], header: true, delimiter: b',' };
    let sink = rig.sink(&plan);
    rig.until("a failed attempt", |rig| {
        rig.poll_sink(sink);
        matches!(rig.health(sink), Health::Retrying(_))
    });
    let Health::Retrying(text) = rig.health(sink) else { panic!("healthy") };
    assert!(text.contains(&addr.to_string()) && text.contains("refused"), "{text}");
    let slab = rig.numbers(0, 3, 0);
    rig.push_all(sink, &slab);
    assert_eq!(rig.finished(sink), 0);
    let listener = TcpListener::bind(addr).unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    rig.finish(sink);
    assert_eq!(reader.join().unwrap(), "n\n0\n1\n2\n");
    assert_eq!(rig.health(sink), Health::Good);
}

#[test]
fn messages_that_no_attempt_delivers_become_letters_and_later_ones_arrive() {
    let addr = free_address();
    let mut rig = Rig::new();
    let mut plan = sink(&addr.to_string());
    let SinkKind::Tcp { retry, .. } = &mut plan.kind else { panic!("tcp") };
    retry.limit = Some(3);
    let sink = rig.sink(&plan);
    let slab = rig.numbers(0, 3, 0);
    rig.push_all(sink, &slab);
    rig.until("the messages to be given up", |rig| {
        rig.poll_sink(sink);
        rig.turn();
        !rig.letters.0.is_empty()
    });
    let texts: Vec<_> =
        rig.letters.0.iter().map(|l| String::from_utf8(l.bytes.clone()).unwrap() + "\n").collect();
    assert_eq!(texts.concat(), number_lines(0..3));
    for letter in &rig.letters.0 {
        assert_eq!((letter.reason, letter.origin.as_str()), (Reason::Undelivered, ""));
        assert!(letter.detail.contains("refused"), "{}", letter.detail);
    }
    assert_eq!(rig.finished(sink), 1);
    let listener = TcpListener::bind(addr).unwrap();
    let slab = rig.numbers(3, 2, 0);
    rig.push_all(sink, &slab);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    rig.finish(sink);
    assert_eq!(reader.join().unwrap(), number_lines(3..5));
    assert_eq!((rig.letters.0.len(), rig.finished(sink)), (3, 2));
}

#[test]
fn an_open_circuit_breaker_leaves_a_server_alone_until_its_pause_is_over() {
    let addr = free_address();
    let mut rig = Rig::new();
    let mut plan = sink(&addr.to_string());
    let SinkKind::Tcp { retry, .. } = &mut plan.kind else { panic!("tcp") };
    let pause_us = 3_600_000_000;
    retry.circuit_breaker = Some(BreakerPlan { failures: 2, pause_us });
    let sink = rig.sink(&plan);
    rig.until("the breaker to open", |rig| {
        rig.poll_sink(sink);
        rig.turn();
        matches!(rig.health(sink), Health::Retrying(why) if why.contains("circuit breaker is open"))
    });
    let listener = TcpListener::bind(addr).unwrap();
    listener.set_nonblocking(true).unwrap();
    let slab = rig.numbers(0, 3, 0);
    rig.push_all(sink, &slab);
    rig.skip(pause_us / 2);
    for _ in 0..20 {
        rig.poll_sink(sink);
        rig.turn();
    }
    assert!(listener.accept().is_err(), "somebody connected");
    listener.set_nonblocking(false).unwrap();
    rig.skip(pause_us);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    rig.finish(sink);
    assert_eq!(reader.join().unwrap(), number_lines(0..3));
}

#[test]
fn an_unknown_host_is_an_error_of_the_key_address() {
    let mut rig = Rig::new();
    let error = rig.try_sink(&sink("no-such-host.invalid:9000")).unwrap_err();
    assert_eq!((error.fault, error.key), (Fault::Setup, "address"));
    assert!(error.message.contains("cannot resolve 'no-such-host.invalid:9000'"));
}

#[test]
fn a_server_that_closes_is_noticed_before_anything_is_written() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new();
    let sink = rig.sink(&sink(&listener.local_addr().unwrap().to_string()));
    rig.turn();
    listener.accept().unwrap().0.shutdown(Shutdown::Both).unwrap();
    rig.until("the end to be noticed", |rig| {
        rig.poll_sink(sink);
        rig.health(sink) != Health::Good
    });
    let slab = rig.numbers(0, 3, 0);
    rig.push_all(sink, &slab);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    rig.finish(sink);
    assert_eq!(reader.join().unwrap(), number_lines(0..3));
}
