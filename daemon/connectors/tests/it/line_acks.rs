//! Acknowledged lines: a sink keeps what the other side has not accepted, and
//! sends it again on the next connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use ringmain_base::Reason;
use ringmain_config::plan::{RetryPlan, SinkKind, SinkPlan};
use ringmain_connectors::Health;

use crate::rig::{Rig, sink_plan, spanned};

fn listener() -> (TcpListener, SinkPlan) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = spanned(listener.local_addr().unwrap().to_string());
    let plan = sink_plan(SinkKind::Tcp {
        address,
        connect_timeout_us: 1_000_000,
        retry: RetryPlan::new(1_000, 20_000),
        tls: None,
        ack_timeout_us: Some(60_000_000),
    });
    (listener, plan)
}

/// Reads lines while the rig turns.
fn read(rig: &mut Rig, sink: usize, stream: &TcpStream, count: usize) -> Vec<String> {
    stream.set_nonblocking(true).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut lines, mut line) = (Vec::new(), String::new());
    rig.until("lines at the peer", |rig| {
        rig.poll_sink(sink);
        rig.turn();
        while lines.len() < count && reader.read_line(&mut line).is_ok() && line.ends_with('\n') {
            lines.push(std::mem::take(&mut line));
        }
        lines.len() == count
    });
    lines
}

fn accept(rig: &mut Rig, sink: usize, listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut stream = None;
    rig.until("a connection", |rig| {
        rig.poll_sink(sink);
        rig.turn();
        rig.skip(1_000);
        stream = listener.accept().ok();
        stream.is_some()
    });
    stream.unwrap().0
}

#[test]
fn nothing_is_finished_before_it_is_acknowledged_and_the_rest_comes_again_in_order() {
    let (listener, plan) = listener();
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    let slab = rig.numbers(0, 1_000, 100);
    rig.push_all(sink, &slab);
    let mut stream = accept(&mut rig, sink, &listener);
    let first = read(&mut rig, sink, &stream, 1_000);
    assert_eq!(rig.finished(sink), 0, "nobody has accepted anything");
    stream.write_all(b"1").unwrap();
    stream.write_all(b"0\n12\n3").unwrap();
    // The kernel hands the acknowledgement over before the end.
    for _ in 0..20 {
        rig.turn();
    }
    drop(stream);
    let mut stream = accept(&mut rig, sink, &listener);
    let second = read(&mut rig, sink, &stream, 988);
    assert_eq!(second, first[12..], "what was acknowledged does not come again");
    assert!(!rig.is_idle(sink));
    stream.write_all(b"988\n").unwrap();
    rig.until("the slab to be finished", |rig| {
        rig.turn();
        rig.finished(sink) == 1
    });
    assert!(rig.is_idle(sink));
    rig.finish(sink);
    assert_eq!(rig.letters.0.len(), 0);
}

#[test]
fn a_peer_that_acknowledges_nonsense_is_left_and_loses_nothing() {
    let (listener, plan) = listener();
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    let slab = rig.numbers(0, 10, 10);
    rig.push_all(sink, &slab);
    for answer in ["11\n", "many\n"] {
        let mut stream = accept(&mut rig, sink, &listener);
        assert_eq!(read(&mut rig, sink, &stream, 10).len(), 10);
        stream.write_all(answer.as_bytes()).unwrap();
        rig.until("the connection to be left", |rig| {
            rig.turn();
            matches!(rig.health(sink), Health::Retrying(_))
        });
        let Health::Retrying(why) = rig.health(sink) else { panic!("it is well") };
        assert!(why.contains("acknowledged more") || why.contains("answered something"), "{why}");
    }
    let mut stream = accept(&mut rig, sink, &listener);
    assert_eq!(read(&mut rig, sink, &stream, 10).len(), 10);
    stream.write_all(b"10\n").unwrap();
    rig.finish(sink);
    assert_eq!(rig.finished(sink), 1);
}

#[test]
fn a_peer_that_never_acknowledges_is_left_after_its_time() {
    let (listener, plan) = listener();
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    let slab = rig.numbers(0, 10, 10);
    rig.push_all(sink, &slab);
    let stream = accept(&mut rig, sink, &listener);
    assert_eq!(read(&mut rig, sink, &stream, 10).len(), 10);
    rig.skip(61_000_000);
    rig.poll_sink(sink);
    let again = accept(&mut rig, sink, &listener);
    assert_eq!(read(&mut rig, sink, &again, 10).len(), 10);
}

#[test]
fn what_no_attempt_delivers_is_given_up_also_when_it_was_written() {
    let (listener, mut plan) = listener();
    let SinkKind::Tcp { retry, ack_timeout_us, .. } = &mut plan.kind else { panic!("tcp") };
    retry.limit = Some(2);
    *ack_timeout_us = Some(1_000_000);
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    let slab = rig.numbers(0, 5, 10);
    rig.push_all(sink, &slab);
    let stream = accept(&mut rig, sink, &listener);
    assert_eq!(read(&mut rig, sink, &stream, 5).len(), 5);
    drop((stream, listener));
    rig.until("the messages to be given up", |rig| {
        rig.skip(100_000);
        rig.poll_sink(sink);
        rig.turn();
        rig.letters.0.len() == 5
    });
    assert!(rig.letters.0.iter().all(|refused| refused.reason == Reason::Undelivered));
    assert_eq!(rig.finished(sink), 1);
}
