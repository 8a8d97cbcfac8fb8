//! Datagrams: boundaries, coalescing, truncation.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use ringmain_runtime::{EventKind, Group, Handle, Peer};
use socket2::SockRef;

use crate::rig::{Rig, errno, events, op, pattern, take, until};

/// A socket that the driver receives from, with coalescing, and its address.
fn receiver(rig: &mut dyn Rig, bytes: u32) -> (Handle, Group, std::net::SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let on: libc::c_int = 1;
    // SAFETY: the option is one int; the socket is open.
    let set = unsafe {
        use std::os::fd::AsRawFd;
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, value, 4)
    };
    assert_eq!(set, 0);
    SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    let address = socket.local_addr().unwrap();
    let handle = rig.io().adopt(socket.into()).unwrap();
    (handle, rig.io().group(16, bytes).unwrap(), address)
}

fn sender(rig: &mut dyn Rig, to: std::net::SocketAddr) -> (Handle, std::net::SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    let address = socket.local_addr().unwrap();
    (rig.io().adopt(socket.into()).unwrap(), address)
}

/// Receives until there are `count` datagrams; says how many events it took.
fn collect(rig: &mut dyn Rig, count: usize, from: &Peer) -> (Vec<Vec<u8>>, usize) {
    let (mut got, mut steps, mut batch) = (Vec::new(), 0, Vec::new());
    while got.len() < count {
        until(rig, &mut batch, |batch| !batch.is_empty());
        for event in batch.drain(..) {
            match event.kind {
                EventKind::Datagrams { lease, segment_bytes, peer, truncated } => {
                    assert_eq!((&peer, truncated), (from, false));
                    steps += 1;
                    let bytes = take(rig, lease);
                    got.extend(bytes.chunks(segment_bytes as usize).map(<[u8]>::to_vec));
                }
                EventKind::Written { result: Ok(()), .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    (got, steps)
}

pub fn datagrams_sent_in_one_go_arrive_coalesced_with_their_boundaries(rig: &mut dyn Rig) {
    let (near, group, address) = receiver(rig, 65_536);
    let (out, from) = sender(rig, address);
    rig.io().receive_datagrams(near, group, op(1));
    let data = pattern(100 * 100 + 40);
    let ends: Vec<u32> = (1..=100).map(|at| at * 100).chain([10_040]).collect();
    rig.io().send_datagrams(out, data.clone(), ends, op(2));
    let (got, steps) = collect(rig, 101, &Peer::Ip(from));
    assert!(got.concat() == data);
    assert!(got[..100].iter().all(|one| one.len() == 100));
    assert_eq!(got[100].len(), 40);
    assert!(steps < 101, "nothing was coalesced");
}

pub fn datagrams_of_any_length_keep_their_boundaries(rig: &mut dyn Rig) {
    let (near, group, address) = receiver(rig, 65_536);
    let (out, from) = sender(rig, address);
    rig.io().receive_datagrams(near, group, op(1));
    let lengths = [1, 1_400, 1_400, 3, 9_000, 9_000, 9_000, 2, 2, 500];
    let mut ends = Vec::new();
    for len in lengths {
        ends.push(ends.last().copied().unwrap_or(0) + len);
    }
    let data = pattern(*ends.last().unwrap() as usize);
    rig.io().send_datagrams(out, data.clone(), ends, op(2));
    let (got, _) = collect(rig, lengths.len(), &Peer::Ip(from));
    let got_lengths: Vec<u32> = got.iter().map(|one| one.len() as u32).collect();
    assert_eq!(got_lengths, lengths);
    assert!(got.concat() == data);
}

pub fn a_datagram_that_is_longer_than_the_buffer_says_so(rig: &mut dyn Rig) {
    let (near, group, address) = receiver(rig, 512);
    let (out, _) = sender(rig, address);
    rig.io().receive_datagrams(near, group, op(1));
    let data = pattern(3_000);
    rig.io().send_datagrams(out, data.clone(), vec![3_000], op(2));
    let mut batch = events(rig, 2);
    batch.sort_by_key(|event| event.op.tag);
    match batch.remove(0).kind {
        EventKind::Datagrams { lease, truncated, .. } => {
            assert!(truncated);
            let got = take(rig, lease);
            assert!(got.len() >= 512 && got.len() < 3_000);
            assert!(data.starts_with(&got));
        }
        other => panic!("{other:?}"),
    }
}

pub fn ends_that_do_not_fit_are_refused(rig: &mut dyn Rig) {
    let (_, _, address) = receiver(rig, 512);
    let (out, _) = sender(rig, address);
    rig.io().send_datagrams(out, vec![0; 10], vec![5], op(1));
    match events(rig, 1).remove(0).kind {
        EventKind::Written { buf, written: 0, result: Err(_) } => assert_eq!(buf.len(), 10),
        other => panic!("{other:?}"),
    }
}

pub fn receiving_datagrams_pauses_without_buffers_and_goes_on(rig: &mut dyn Rig) {
    let (near, address) = UnixDatagram::pair().unwrap();
    let near = rig.io().adopt(near.into()).unwrap();
    let group = rig.io().group(2, 64).unwrap();
    rig.io().receive_datagrams(near, group, op(1));
    for tag in 0..6_u8 {
        address.send(&[tag; 10]).unwrap();
    }
    let mut held = events(rig, 2);
    crate::rig::nothing_happens(rig);
    let mut got = Vec::new();
    while got.len() < 6 {
        if held.is_empty() {
            until(rig, &mut held, |held| !held.is_empty());
        }
        match held.remove(0).kind {
            EventKind::Datagrams { lease, peer: Peer::Local, .. } => got.push(take(rig, lease)[0]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, [0, 1, 2, 3, 4, 5]);
}

pub fn a_unix_datagram_socket_that_is_full_is_waited_for(rig: &mut dyn Rig) {
    let (near, far) = UnixDatagram::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let near = rig.io().adopt(near.into()).unwrap();
    let count = 5_000_u32;
    let ends: Vec<u32> = (1..=count).map(|at| at * 100).collect();
    let data = pattern(count as usize * 100);
    rig.io().send_datagrams(near, data.clone(), ends, op(1));
    rig.io().send_datagrams(near, b"last".to_vec(), vec![4], op(2));
    let (mut got, mut buf, mut batch) = (Vec::new(), [0; 200], Vec::new());
    while got.len() < count as usize + 1 {
        match far.recv(&mut buf) {
            Ok(len) => got.push(buf[..len].to_vec()),
            Err(_) => crate::rig::turn(rig, &mut batch),
        }
    }
    until(rig, &mut batch, |batch| batch.len() == 2);
    assert_eq!((batch[0].op, batch[1].op), (op(1), op(2)));
    assert!(batch.iter().all(|event| errno(&event.kind).is_none()));
    assert_eq!(got.pop().unwrap(), b"last");
    assert!(got.concat() == data);
}
