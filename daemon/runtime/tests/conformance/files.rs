//! Files: offsets, ends, order, syncs.

use ringmain_runtime::EventKind;

use crate::rig::{Rig, errno, events, nothing_happens, op, pattern, take};

pub fn a_file_is_read_at_offsets_in_pieces_of_the_groups_size(rig: &mut dyn Rig) {
    let data = pattern(10_000);
    let file = rig.file(&data);
    let group = rig.io().group(8, 4_096).unwrap();
    for (tag, offset) in [(1, 0), (2, 4_096), (3, 8_192)] {
        rig.io().read(file, group, offset, op(tag));
    }
    let mut batch = events(rig, 3);
    batch.sort_by_key(|event| event.op.tag);
    let mut got = Vec::new();
    for event in batch {
        match event.kind {
            EventKind::Received { lease } => {
                assert!(lease.len() <= 4_096);
                got.extend(take(rig, lease));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(got == data);
    rig.io().read(file, group, 10_000, op(4));
    assert!(matches!(events(rig, 1)[0].kind, EventKind::Eof));
    assert_eq!(rig.io().in_flight(), 0);
}

pub fn reads_wait_for_buffers(rig: &mut dyn Rig) {
    let data = pattern(6 * 512);
    let file = rig.file(&data);
    let group = rig.io().group(2, 512).unwrap();
    for tag in 0..6 {
        rig.io().read(file, group, u64::from(tag) * 512, op(tag));
    }
    let mut got = vec![Vec::new(); 6];
    let mut held = events(rig, 2);
    nothing_happens(rig);
    while let Some(event) = held.pop() {
        match event.kind {
            EventKind::Received { lease } => got[event.op.tag as usize] = take(rig, lease),
            other => panic!("{other:?}"),
        }
        if rig.io().in_flight() > 0 && held.is_empty() {
            let mut batch = Vec::new();
            crate::rig::until(rig, &mut batch, |batch| !batch.is_empty());
            held.extend(batch);
        }
    }
    assert!(got.concat() == data);
}

pub fn writes_at_offsets_land_there_and_are_reported_in_order(rig: &mut dyn Rig) {
    let file = rig.file(&[]);
    let data = pattern(64 * 1_000);
    for tag in (0..64).rev() {
        let piece = data[tag * 1_000..(tag + 1) * 1_000].to_vec();
        rig.io().write(file, piece, Some(tag as u64 * 1_000), op(tag as u32));
    }
    rig.io().sync(file, op(64));
    let batch = events(rig, 65);
    let tags: Vec<u32> = batch.iter().map(|event| event.op.tag).collect();
    let expected: Vec<u32> = (0..64).rev().chain([64]).collect();
    assert_eq!(tags, expected);
    assert!(matches!(batch[64].kind, EventKind::Synced));
    assert!(rig.file_content(file) == data);
}

pub fn appends_follow_each_other(rig: &mut dyn Rig) {
    let file = rig.file(b"start ");
    for tag in 0..20 {
        rig.io().write(file, format!("{tag} ").into_bytes(), None, op(tag));
    }
    let tags: Vec<u32> = events(rig, 20).iter().map(|event| event.op.tag).collect();
    assert_eq!(tags, (0..20).collect::<Vec<_>>());
    let text = String::from_utf8(rig.file_content(file)).unwrap();
    let numbers: Vec<String> = (0..20).map(|tag| tag.to_string()).collect();
    assert_eq!(text, format!("start {} ", numbers.join(" ")));
}

pub fn a_closed_handle_is_refused(rig: &mut dyn Rig) {
    let file = rig.file(b"x");
    rig.io().close(file);
    let other = rig.file(b"y");
    assert_ne!(file, other);
    let group = rig.io().group(2, 64).unwrap();
    rig.io().read(file, group, 0, op(1));
    rig.io().write(file, b"lost".to_vec(), Some(0), op(2));
    rig.io().sync(file, op(3));
    let batch = events(rig, 3);
    assert!(batch.iter().all(|event| errno(&event.kind) == Some(libc::EBADF)), "{batch:?}");
    assert_eq!(rig.file_content(other), b"y");
}

pub fn more_operations_than_any_queue_holds_are_all_done(rig: &mut dyn Rig) {
    const COUNT: u32 = 6_000;
    let file = rig.file(&[]);
    let data = pattern(COUNT as usize * 16);
    for (tag, piece) in data.chunks(16).enumerate() {
        rig.io().write(file, piece.to_vec(), Some(tag as u64 * 16), op(tag as u32));
    }
    let tags: Vec<u32> = events(rig, COUNT as usize).iter().map(|event| event.op.tag).collect();
    assert_eq!(tags, (0..COUNT).collect::<Vec<_>>());
    assert!(rig.file_content(file) == data);
}
