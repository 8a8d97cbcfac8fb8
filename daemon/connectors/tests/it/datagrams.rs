//! Datagrams: each is a message, none too long gets through, and a socket in
//! the file system is cleaned up.

use std::fs;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use ringmain_base::Reason;
use ringmain_config::plan::{
    FramePlan, RetryPlan, SinkKind, SinkPlan, SourceKind, SourcePlan, UnixMode,
};
use ringmain_connectors::{Fault, Health, Pull};

use crate::rig::{Rig, number_lines, numbers_of, sink_plan, source_plan, spanned};
use crate::tcp::{free_address, listen};

fn udp_source(addr: std::net::SocketAddr, gro: bool) -> SourcePlan {
    let kind = SourceKind::Udp { listen: listen(addr), receive_buffer_bytes: Some(4 << 20), gro };
    let mut plan = source_plan(kind);
    plan.frame = FramePlan::Datagram;
    plan
}

fn udp_sink(address: &str) -> SinkPlan {
    let mut plan = sink_plan(SinkKind::Udp { address: spanned(address.to_owned()) });
    plan.frame = FramePlan::Datagram;
    plan
}

fn unix_source(path: &Path, mode: UnixMode) -> SourcePlan {
    let path = spanned(path.to_str().unwrap().to_owned());
    source_plan(SourceKind::Unix { path, mode, connections_max: 10 })
}

fn unix_sink(path: &Path, mode: UnixMode) -> SinkPlan {
    let path = spanned(path.to_str().unwrap().to_owned());
    let retry = RetryPlan::new(1_000, 10_000);
    sink_plan(SinkKind::Unix { path, mode, retry })
}

#[test]
fn each_datagram_is_a_message_with_and_without_joining() {
    for gro in [false, true] {
        let addr = free_address();
        let mut rig = Rig::new();
        let source = rig.source(&udp_source(addr, gro));
        let sink = rig.sink(&udp_sink(&addr.to_string()));
        let mut rows = Vec::new();
        for round in 0..20 {
            let slab = rig.numbers(round * 100, 100, 0);
            rig.push_all(sink, &slab);
            rows.extend(rig.until_rows(source, sink, 100));
        }
        assert_eq!(numbers_of(&rows), (0..2_000).collect::<Vec<_>>(), "gro {gro}");
        rig.finish(sink);
        assert_eq!(rig.finished(sink), 20);
        rig.stop(source);
        rig.until("the end", |rig| rig.pull(source).0 == Pull::Ended);
        rig.quiet();
    }
}

#[test]
fn lines_within_a_datagram_are_messages_when_asked_for() {
    let addr = free_address();
    let mut plan = udp_source(addr, true);
    plan.frame = FramePlan::Newline;
    let mut rig = Rig::new();
    let source = rig.source(&plan);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"{\"n\":0}\n{\"n\":1}", addr).unwrap();
    socket.send_to(b"{\"n\":2}\n", addr).unwrap();
    assert_eq!(numbers_of(&rig.take(source, 3)), [0, 1, 2]);
}

#[test]
fn what_does_not_decode_or_is_too_long_is_refused() {
    let addr = free_address();
    let mut plan = udp_source(addr, true);
    plan.frame_bytes = 100;
    let mut rig = Rig::new();
    let source = rig.source(&plan);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"oops", addr).unwrap();
    socket.send_to(&[b'x'; 101], addr).unwrap();
    socket.send_to(b"{\"n\":1}", addr).unwrap();
    assert_eq!(rig.take(source, 1), ["{\"n\":1}"]);
    let reasons: Vec<_> = rig.letters.0.iter().map(|l| l.reason).collect();
    assert_eq!(reasons, [Reason::Decode, Reason::TooLong]);
    assert_eq!(rig.letters.0[0].origin, socket.local_addr().unwrap().to_string());
}

#[test]
fn a_row_that_no_datagram_holds_is_refused_and_the_others_go_out() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new();
    let sink = rig.sink(&udp_sink(&receiver.local_addr().unwrap().to_string()));
    for (first, pad) in [(0, 0), (1, 70_000), (2, 0)] {
        let slab = rig.numbers(first, 1, pad);
        rig.push_all(sink, &slab);
    }
    rig.finish(sink);
    let mut buf = [0; 100];
    for want in [b"{\"n\":0}", b"{\"n\":2}"] {
        let len = receiver.recv(&mut buf).unwrap();
        assert_eq!(&buf[..len], want);
    }
    assert_eq!(rig.letters.0.len(), 1);
    assert_eq!(rig.letters.0[0].reason, Reason::TooLong);
    assert_eq!(rig.finished(sink), 3);
}

#[test]
fn a_udp_port_in_use_is_an_error_of_the_key_listen() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new();
    let source = rig.build_source(&udp_source(socket.local_addr().unwrap(), true), 0, 1);
    let error = rig.add_source(source).unwrap_err();
    assert_eq!((error.fault, error.key), (Fault::Setup, "listen"));
}

#[test]
fn a_unix_stream_carries_lines_both_ways_and_its_socket_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut rig = Rig::new();
    let source = rig.source(&unix_source(&path, UnixMode::Stream));
    let sink = rig.sink(&unix_sink(&path, UnixMode::Stream));
    let slab = rig.numbers(0, 1_000, 0);
    rig.push_all(sink, &slab);
    let rows = rig.until_rows(source, sink, 1_000);
    assert_eq!(numbers_of(&rows), (0..1_000).collect::<Vec<_>>());
    rig.finish(sink);
    rig.stop(source);
    rig.until("the end", |rig| rig.pull(source).0 == Pull::Ended);
    assert!(!path.exists());
    rig.quiet();
}

#[test]
fn unix_datagrams_are_messages_and_a_missing_receiver_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut plan = unix_sink(&path, UnixMode::Datagram);
    plan.frame = FramePlan::Datagram;
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    let slab = rig.numbers(0, 500, 0);
    rig.push_all(sink, &slab);
    rig.until("a failed attempt", |rig| {
        rig.poll_sink(sink);
        matches!(rig.health(sink), Health::Retrying(_))
    });
    assert_eq!(rig.finished(sink), 0);
    let mut plan = unix_source(&path, UnixMode::Datagram);
    plan.frame = FramePlan::Datagram;
    let source = rig.source(&plan);
    let rows = rig.until_rows(source, sink, 500);
    assert_eq!(numbers_of(&rows), (0..500).collect::<Vec<_>>());
    rig.until("the ack", |rig| {
        rig.poll_sink(sink);
        rig.finished(sink) == 1
    });
}

#[test]
fn a_socket_that_nobody_listens_at_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [UnixMode::Stream, UnixMode::Datagram] {
        let path = folder.path().join(format!("{mode:?}"));
        // Dropped without removing the path, as by a kill.
        match mode {
            UnixMode::Stream => drop(UnixListener::bind(&path).unwrap()),
            UnixMode::Datagram => drop(UnixDatagram::bind(&path).unwrap()),
        }
        let mut rig = Rig::new();
        rig.source(&unix_source(&path, mode));
        let second = rig.build_source(&unix_source(&path, mode), 0, 1);
        let error = rig.add_source(second).unwrap_err();
        assert_eq!((error.fault, error.key), (Fault::Setup, "path"));
    }
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let mut rig = Rig::new();
    let source = rig.build_source(&unix_source(&file, UnixMode::Stream), 0, 1);
    assert_eq!(rig.add_source(source).unwrap_err().key, "path");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn only_the_first_shard_listens_at_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut rig = Rig::new();
    let plan = unix_source(&path, UnixMode::Stream);
    let first = rig.build_source(&plan, 0, 2);
    let first = rig.add_source(first).unwrap();
    let second = rig.build_source(&plan, 1, 2);
    let second = rig.add_source(second).unwrap();
    assert_eq!(rig.pull(second).0, Pull::Ended);
    let sender = thread::spawn(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(number_lines(0..10).as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
    });
    assert_eq!(numbers_of(&rig.take(first, 10)), (0..10).collect::<Vec<_>>());
    rig.until("the end of the connection", |rig| {
        rig.pull(first);
        sender.is_finished()
    });
    sender.join().unwrap();
}
