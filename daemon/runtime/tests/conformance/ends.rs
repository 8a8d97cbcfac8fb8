//! Ends: cancelling, closing, timers, wakes, dropping.

use ringmain_runtime::EventKind;

use crate::rig::{Rig, errno, events, nothing_happens, op, pattern, take, turn};

pub fn a_cancelled_operation_has_exactly_one_final_event(rig: &mut dyn Rig) {
    let (near, far) = rig.stream();
    let group = rig.io().group(2, 64).unwrap();
    rig.io().receive(near, group, op(1));
    nothing_happens(rig);
    rig.io().cancel(op(1));
    rig.io().cancel(op(1));
    rig.io().cancel(op(99));
    let event = events(rig, 1).remove(0);
    assert_eq!((event.op, errno(&event.kind)), (op(1), Some(libc::ECANCELED)));
    nothing_happens(rig);
    assert_eq!(rig.io().in_flight(), 0);

    rig.io().receive(near, group, op(1));
    assert_eq!(rig.far_send(far, b"again"), 5);
    match events(rig, 1).remove(0).kind {
        EventKind::Received { lease } => assert_eq!(take(rig, lease), b"again"),
        other => panic!("{other:?}"),
    }
}

pub fn cancelling_what_waits_for_a_buffer_ends_it(rig: &mut dyn Rig) {
    let (near, far) = rig.stream();
    let group = rig.io().group(1, 64).unwrap();
    rig.io().receive(near, group, op(1));
    rig.far_send(far, &pattern(500));
    let held = events(rig, 1).remove(0);
    nothing_happens(rig);
    rig.io().cancel(op(1));
    let event = events(rig, 1).remove(0);
    assert_eq!(errno(&event.kind), Some(libc::ECANCELED));
    match held.kind {
        EventKind::Received { lease } => rig.io().release(lease),
        other => panic!("{other:?}"),
    }
    nothing_happens(rig);
}

pub fn closing_ends_everything_in_flight(rig: &mut dyn Rig) {
    let (near, _far) = rig.stream();
    let group = rig.io().group(2, 64).unwrap();
    rig.io().receive(near, group, op(1));
    // More than any socket takes, with nobody reading.
    rig.io().write(near, vec![1; 64 << 20], None, op(2));
    rig.io().write(near, vec![2; 10], None, op(3));
    for _ in 0..3 {
        turn(rig, &mut Vec::new());
    }
    rig.io().close(near);
    let mut batch = events(rig, 3);
    batch.sort_by_key(|event| event.op.tag);
    assert!(batch.iter().all(|event| errno(&event.kind).is_some()), "{batch:?}");
    match &batch[1].kind {
        EventKind::Written { buf, written, .. } => {
            assert_eq!(buf.len(), 64 << 20);
            assert!(*written < buf.len());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.io().in_flight(), 0);
    assert!(rig.io().descriptor(near).is_none());
    rig.io().close(near);
    nothing_happens(rig);
}

pub fn a_group_outlives_its_drop_until_the_last_lease_is_released(rig: &mut dyn Rig) {
    let (near, far) = rig.stream();
    let group = rig.io().group(2, 64).unwrap();
    rig.io().receive(near, group, op(1));
    rig.far_send(far, b"kept");
    let event = events(rig, 1).remove(0);
    rig.io().close(near);
    assert_eq!(events(rig, 1).len(), 1);
    rig.io().drop_group(group);
    let other = rig.io().group(2, 64).unwrap();
    assert_ne!(group, other, "the name is taken as long as the memory is");
    match event.kind {
        EventKind::Received { lease } => assert_eq!(take(rig, lease), b"kept"),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.io().group(2, 64).unwrap(), group, "the name is free again");
}

pub fn timers_fire_in_the_order_of_their_deadlines(rig: &mut dyn Rig) {
    rig.begin_turn();
    for (after_us, tag) in [(6_000, 4), (2_000, 1), (4_000, 3), (2_000, 2), (3_000, 9)] {
        rig.io().timer(after_us, op(tag));
    }
    rig.io().cancel(op(9));
    let batch = events(rig, 5);
    let tags: Vec<u32> = batch.iter().map(|event| event.op.tag).collect();
    assert_eq!(tags, [9, 1, 2, 3, 4]);
    assert_eq!(errno(&batch[0].kind), Some(libc::ECANCELED));
    assert!(batch[1..].iter().all(|event| matches!(event.kind, EventKind::Timer)));
}

pub fn a_poll_brings_no_more_events_than_asked_for(rig: &mut dyn Rig) {
    rig.begin_turn();
    for tag in 0..10 {
        rig.io().timer(0, op(tag));
    }
    let (near, far) = rig.stream();
    let group = rig.io().group(8, 64).unwrap();
    rig.io().receive(near, group, op(20));
    rig.far_send(far, &pattern(64));
    let mut seen = 0;
    while seen < 11 {
        let mut batch = Vec::new();
        rig.io().wait(Some(1_000)).unwrap();
        rig.begin_turn();
        rig.io().poll(&mut batch, 3);
        assert!(batch.len() <= 3);
        seen += batch.len();
    }
    assert_eq!(seen, 11);
}
