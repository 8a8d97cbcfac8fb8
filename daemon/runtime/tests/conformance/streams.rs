//! Streams, listeners, connections.

use std::net::TcpListener;

use ringmain_runtime::{EventKind, Peer};

use crate::rig::{Rig, errno, events, nothing_happens, op, pattern, take, turn, until};

pub fn a_stream_is_received_whole_until_its_end(rig: &mut dyn Rig) {
    let (near, far) = rig.stream();
    let group = rig.io().group(4, 1024).unwrap();
    rig.io().receive(near, group, op(1));
    let data = pattern(100_000);
    let (mut sent, mut got, mut ended) = (0, Vec::new(), false);
    let mut batch = Vec::new();
    while !ended {
        if sent < data.len() {
            sent += rig.far_send(far, &data[sent..(sent + 5_000).min(data.len())]);
            if sent == data.len() {
                rig.far_finish(far);
            }
        }
        turn(rig, &mut batch);
        for event in batch.drain(..) {
            assert_eq!(event.op, op(1));
            match event.kind {
                EventKind::Received { lease } => got.extend(take(rig, lease)),
                EventKind::Eof => ended = true,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(got == data, "{} bytes of {}", got.len(), data.len());
    assert_eq!(rig.io().in_flight(), 0);
    nothing_happens(rig);
}

pub fn receiving_stops_when_every_buffer_is_on_loan_and_goes_on_after_a_release(rig: &mut dyn Rig) {
    let (near, far) = rig.stream();
    let group = rig.io().group(2, 512).unwrap();
    rig.io().receive(near, group, op(1));
    let data = pattern(8_000);
    assert_eq!(rig.far_send(far, &data), data.len());
    let mut held = std::collections::VecDeque::new();
    held.extend(events(rig, 2));
    nothing_happens(rig);
    let mut got = Vec::new();
    while got.len() < data.len() {
        let Some(event) = held.pop_front() else {
            let mut batch = Vec::new();
            until(rig, &mut batch, |batch| !batch.is_empty());
            held.extend(batch);
            assert!(held.len() <= 2, "two buffers, {} leases", held.len());
            continue;
        };
        match event.kind {
            EventKind::Received { lease } => got.extend(take(rig, lease)),
            other => panic!("{other:?}"),
        }
    }
    assert!(got == data);
    assert_eq!(rig.io().in_flight(), 1, "it still receives");
}

pub fn many_streams_share_few_buffers(rig: &mut dyn Rig) {
    let group = rig.io().group(2, 256).unwrap();
    let streams: Vec<_> = (0..8).map(|_| rig.stream()).collect();
    for (at, (near, far)) in streams.iter().enumerate() {
        rig.io().receive(*near, group, op(at as u32));
        assert_eq!(rig.far_send(*far, &pattern(3_000)), 3_000);
        rig.far_finish(*far);
    }
    let mut got = vec![Vec::new(); streams.len()];
    let mut ended = 0;
    let mut batch = Vec::new();
    while ended < streams.len() {
        until(rig, &mut batch, |batch| !batch.is_empty());
        for event in batch.drain(..) {
            match event.kind {
                EventKind::Received { lease } => {
                    got[event.op.tag as usize].extend(take(rig, lease));
                }
                EventKind::Eof => ended += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(got.iter().all(|bytes| *bytes == pattern(3_000)));
}

/// A stream that has ended needs no buffer, but waits for one like the others:
/// what it does not use must reach the next.
pub fn the_ends_of_streams_that_wait_for_a_buffer_are_heard(rig: &mut dyn Rig) {
    let group = rig.io().group(1, 256).unwrap();
    let streams: Vec<_> = (0..8).map(|_| rig.stream()).collect();
    rig.io().receive(streams[0].0, group, op(0));
    assert_eq!(rig.far_send(streams[0].1, b"first"), 5);
    let first = events(rig, 1).pop().unwrap();
    for (at, (near, far)) in streams.iter().enumerate().skip(1) {
        rig.io().receive(*near, group, op(at as u32));
        rig.far_finish(*far);
    }
    let mut batch = Vec::new();
    for _ in 0..3 {
        turn(rig, &mut batch);
    }
    match first.kind {
        EventKind::Received { lease } => assert_eq!(take(rig, lease), b"first"),
        other => panic!("{other:?}"),
    }
    until(rig, &mut batch, |batch| batch.len() == 7);
    assert!(batch.iter().all(|event| matches!(event.kind, EventKind::Eof)), "{batch:?}");
    assert_eq!(rig.io().in_flight(), 1, "the first goes on");
}

pub fn writes_arrive_and_are_reported_in_order(rig: &mut dyn Rig) {
    let (near, far) = rig.stream();
    let mut expected = Vec::new();
    for tag in 0..50_u8 {
        let buf = vec![tag; usize::from(tag) * 7];
        expected.extend_from_slice(&buf);
        rig.io().write(near, buf, None, op(u32::from(tag)));
    }
    for (tag, event) in events(rig, 50).into_iter().enumerate() {
        assert_eq!(event.op, op(tag as u32));
        match event.kind {
            EventKind::Written { buf, written, result: Ok(()) } => {
                assert_eq!((buf.len(), written), (tag * 7, tag * 7));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut got = Vec::new();
    while got.len() < expected.len() {
        got.extend(rig.far_take(far, 4_096));
    }
    assert!(got == expected);
}

pub fn a_big_write_outlasts_a_slow_reader(rig: &mut dyn Rig) {
    let (near, far) = rig.stream();
    let data = pattern(16 << 20);
    rig.io().write(near, data.clone(), None, op(1));
    rig.io().write(near, b"tail".to_vec(), None, op(2));
    let (mut got, mut batch) = (Vec::new(), Vec::new());
    while got.len() < data.len() + 4 {
        turn(rig, &mut batch);
        got.extend(rig.far_take(far, 300_000));
    }
    until(rig, &mut batch, |batch| batch.len() == 2);
    assert_eq!((batch[0].op, batch[1].op), (op(1), op(2)));
    match batch.remove(0).kind {
        EventKind::Written { buf, written, result: Ok(()) } => {
            assert_eq!(written, data.len());
            assert!(buf == data, "the buffer comes back unchanged");
        }
        other => panic!("{other:?}"),
    }
    assert!(got[..data.len()] == data && &got[data.len()..] == b"tail");
}

pub fn writing_to_a_peer_that_is_gone_fails_and_gives_the_buffer_back(rig: &mut dyn Rig) {
    let (near, far) = rig.stream();
    rig.far_drop(far);
    let mut failed = None;
    for tag in 0..100 {
        rig.io().write(near, vec![1; 1000], None, op(tag));
        let event = events(rig, 1).remove(0);
        if errno(&event.kind).is_some() {
            failed = Some(event);
            break;
        }
    }
    match failed.expect("it fails in the end").kind {
        EventKind::Written { buf, written, .. } => assert_eq!((buf.len(), written), (1000, 0)),
        other => panic!("{other:?}"),
    }
}

pub fn a_listener_accepts_many_connections(rig: &mut dyn Rig) {
    let listener = rig.listener();
    rig.io().accept(listener, op(1));
    let fars: Vec<_> = (0..100).map(|_| rig.dial(listener)).collect();
    let accepted = events(rig, fars.len());
    let group = rig.io().group(128, 64).unwrap();
    for (at, event) in accepted.into_iter().enumerate() {
        match event.kind {
            EventKind::Accepted { handle, peer } => {
                assert!(matches!(peer, Peer::Ip(_)));
                rig.io().receive(handle, group, op(100 + at as u32));
            }
            other => panic!("{other:?}"),
        }
    }
    for far in &fars {
        assert_eq!(rig.far_send(*far, b"hello"), 5);
    }
    for event in events(rig, fars.len()) {
        match event.kind {
            EventKind::Received { lease } => assert_eq!(take(rig, lease), b"hello"),
            other => panic!("{other:?}"),
        }
    }
    rig.io().cancel(op(1));
    let last = events(rig, 1).remove(0);
    assert_eq!((last.op, errno(&last.kind)), (op(1), Some(libc::ECANCELED)));
}

pub fn connecting_works_and_is_refused_where_nobody_listens(rig: &mut dyn Rig) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    rig.io().connect(address, op(1));
    // Polling is what submits; until then nobody knocks.
    let handle = match events(rig, 1).remove(0).kind {
        EventKind::Connected { handle } => handle,
        other => panic!("{other:?}"),
    };
    let (mut accepted, _) = listener.accept().unwrap();
    rig.io().write(handle, b"ping".to_vec(), None, op(2));
    events(rig, 1);
    let mut got = [0; 4];
    std::io::Read::read_exact(&mut accepted, &mut got).unwrap();
    assert_eq!(&got, b"ping");
    drop((listener, accepted));

    rig.io().connect(address, op(3));
    let event = events(rig, 1).remove(0);
    assert_eq!((event.op, errno(&event.kind)), (op(3), Some(libc::ECONNREFUSED)));
}

pub fn a_unix_stream_connects_and_carries(rig: &mut dyn Rig) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listener = rig.io().adopt(listener.into()).unwrap();
    let group = rig.io().group(4, 64).unwrap();
    rig.io().accept(listener, op(1));
    rig.io().connect_unix(&path, op(2));
    let (mut near, mut far) = (None, None);
    for event in events(rig, 2) {
        match event.kind {
            EventKind::Accepted { handle, peer: Peer::Local } => near = Some(handle),
            EventKind::Connected { handle } => far = Some(handle),
            other => panic!("{other:?}"),
        }
    }
    rig.io().receive(near.unwrap(), group, op(3));
    rig.io().write(far.unwrap(), b"local".to_vec(), None, op(4));
    let mut batch = events(rig, 2);
    batch.sort_by_key(|event| event.op.tag);
    match batch.remove(0).kind {
        EventKind::Received { lease } => assert_eq!(take(rig, lease), b"local"),
        other => panic!("{other:?}"),
    }
    rig.io().connect_unix(&folder.path().join("nobody"), op(5));
    assert_eq!(errno(&events(rig, 1)[0].kind), Some(libc::ENOENT));
}

pub fn a_pipe_is_read_and_written(rig: &mut dyn Rig) {
    let (reader, writer) = std::io::pipe().unwrap();
    let reader = rig.io().adopt(reader.into()).unwrap();
    let writer = rig.io().adopt(writer.into()).unwrap();
    let group = rig.io().group(4, 4_096).unwrap();
    let data = pattern(300_000);
    rig.io().receive(reader, group, op(1));
    rig.io().write(writer, data.clone(), None, op(2));
    let (mut got, mut ended, mut batch) = (Vec::new(), false, Vec::new());
    while !ended {
        until(rig, &mut batch, |batch| !batch.is_empty());
        for event in batch.drain(..) {
            match event.kind {
                EventKind::Received { lease } => got.extend(take(rig, lease)),
                EventKind::Written { written, result: Ok(()), .. } => {
                    assert_eq!(written, data.len());
                    rig.io().close(writer);
                }
                EventKind::Eof => ended = true,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(got == data);
}
