//! What only the twin can do: failures on order, virtual time, power cuts.

use ringmain_runtime::memory::{Act, MemoryIo, Place};
use ringmain_runtime::{Driver, Event, EventKind, Io, OpId, Peer};

fn op(tag: u32) -> OpId {
    OpId { owner: 0, tag }
}

fn poll(io: &mut MemoryIo) -> Vec<Event> {
    let mut events = Vec::new();
    io.poll(&mut events, 64);
    events
}

fn errno(event: &Event) -> Option<i32> {
    match &event.kind {
        EventKind::Failed { error } => error.raw_os_error(),
        EventKind::Written { result: Err(error), .. } => error.raw_os_error(),
        _ => None,
    }
}

#[test]
fn a_failure_hits_the_act_that_it_was_ordered_for_and_only_once() {
    let mut io = MemoryIo::new(1);
    let (file, end) = io.file(b"old");
    io.fail_next(end, Act::Sync, libc::EIO);
    io.write(file, b"new".to_vec(), Some(0), op(1));
    io.sync(file, op(2));
    let events = poll(&mut io);
    assert!(matches!(events[0].kind, EventKind::Written { written: 3, result: Ok(()), .. }));
    assert_eq!(errno(&events[1]), Some(libc::EIO));
    io.sync(file, op(3));
    assert!(matches!(poll(&mut io)[0].kind, EventKind::Synced));

    io.fail_next(end, Act::Write, libc::ENOSPC);
    io.write(file, b"more".to_vec(), None, op(4));
    assert_eq!(errno(&poll(&mut io)[0]), Some(libc::ENOSPC));
    assert_eq!(io.content(end), b"new");
}

#[test]
fn only_what_was_synced_outlasts_a_power_cut() {
    let mut io = MemoryIo::new(1);
    let (file, end) = io.file(b"");
    io.write(file, b"one".to_vec(), None, op(1));
    io.sync(file, op(2));
    io.write(file, b"two".to_vec(), None, op(3));
    assert_eq!(poll(&mut io).len(), 3);
    assert_eq!(io.content(end), b"onetwo");
    assert_eq!(io.durable(end), b"one");
}

#[test]
fn time_moves_only_when_it_is_told_to_or_waited_for() {
    let mut io = MemoryIo::new(1);
    io.timer(1_000, op(1));
    assert!(poll(&mut io).is_empty());
    io.advance(999);
    assert!(poll(&mut io).is_empty());
    io.wait(None).unwrap();
    assert_eq!(io.now_us(), 1_000);
    assert!(matches!(poll(&mut io)[0].kind, EventKind::Timer));
    io.begin_turn(500);
    assert_eq!(io.now_us(), 1_000, "time does not go back");
}

#[test]
fn a_reader_that_stalls_stops_the_writer() {
    let mut io = MemoryIo::new(1);
    let (near, far) = io.stream();
    io.set_window(far, 10);
    io.write(near, vec![7; 25], None, op(1));
    assert!(poll(&mut io).is_empty());
    assert_eq!(io.take(far, 100).len(), 10);
    assert!(poll(&mut io).is_empty());
    assert_eq!(io.take(far, 100).len(), 10);
    assert_eq!(poll(&mut io).len(), 1);
    assert_eq!(io.take(far, 100).len(), 5);
}

#[test]
fn connections_reach_who_answers_and_nobody_else() {
    let mut io = MemoryIo::new(1);
    let address = "10.0.0.1:80".parse().unwrap();
    let far = io.answer_at(Place::Ip(address));
    io.connect(address, op(1));
    io.connect(address, op(2));
    let events = poll(&mut io);
    let EventKind::Connected { handle } = events[0].kind else { panic!("{events:?}") };
    assert_eq!(errno(&events[1]), Some(libc::ECONNREFUSED));
    io.write(handle, b"hello".to_vec(), None, op(3));
    assert_eq!(poll(&mut io).len(), 1);
    assert_eq!(io.take(far, 10), b"hello");
    io.close(handle);
    assert!(io.is_closed(far));
}

#[test]
fn datagrams_come_and_go_with_their_boundaries() {
    let mut io = MemoryIo::new(1);
    let (near, far) = io.datagrams();
    let group = io.group(2, 8).unwrap();
    io.receive_datagrams(near, group, op(1));
    io.arrive(far, b"aabbc", 2, Peer::Local);
    io.arrive(far, b"longer than eight", 17, Peer::Local);
    let mut events = poll(&mut io);
    match events.remove(0).kind {
        EventKind::Datagrams { lease, segment_bytes: 2, truncated: false, .. } => {
            assert_eq!(io.bytes(&lease), b"aabbc");
            io.release(lease);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(events[0].kind, EventKind::Datagrams { truncated: true, .. }));
    io.send_datagrams(near, b"xyyzzz".to_vec(), vec![1, 3, 6], op(2));
    assert_eq!(poll(&mut io).len(), 1);
    assert_eq!(io.sent(far), [b"x".to_vec(), b"yy".to_vec(), b"zzz".to_vec()]);
}

#[test]
fn a_descriptor_can_stand_in_for_an_end() {
    let mut io = MemoryIo::new(1);
    let (_, end) = io.file(b"behind");
    let fd = io.stand_in(end).unwrap();
    let handle = io.adopt(fd).unwrap();
    let group = io.group(1, 64).unwrap();
    io.read(handle, group, 0, op(1));
    match poll(&mut io).remove(0).kind {
        EventKind::Received { lease } => assert_eq!(io.bytes(&lease), b"behind"),
        other => panic!("{other:?}"),
    }
    assert!(io.adopt(std::fs::File::open("/dev/null").unwrap().into()).is_err());
}

#[test]
fn the_same_seed_chops_the_same_way() {
    let lengths = |seed| {
        let mut io = MemoryIo::new(seed);
        io.chop(true);
        let (near, far) = io.stream();
        let group = io.group(64, 100).unwrap();
        io.receive(near, group, op(1));
        io.feed(far, &[1; 500]);
        let sizes: Vec<usize> = poll(&mut io)
            .into_iter()
            .map(|event| match event.kind {
                EventKind::Received { lease } => lease.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        sizes
    };
    assert_eq!(lengths(3), lengths(3));
    assert_ne!(lengths(3), lengths(4));
    assert_eq!(lengths(3).iter().sum::<usize>(), 500);
}
