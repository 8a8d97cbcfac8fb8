//! One thread, both ends: what an edge promises.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use ringmain_ring::acks::ENTRIES;
use ringmain_ring::{Doorbell, Downstream, Item, Marker, Span, Upstream, Wake, edge};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counted() -> (Doorbell, Arc<Count>) {
    let count = Arc::new(Count::default());
    (Doorbell::new(count.clone()), count)
}

fn wakes(count: &Count) -> usize {
    count.0.load(Ordering::Relaxed)
}

fn silent(slabs: u64, markers: usize) -> (Upstream<u64>, Downstream<u64>) {
    edge((0..slabs).collect(), markers, Doorbell::silent(), Doorbell::silent())
}

fn recv_slab(down: &mut Downstream<u64>) -> (u64, Span) {
    match down.recv() {
        Some(Item::Slab { slab, span }) => (slab, span),
        other => panic!("expected a slab, got {other:?}"),
    }
}

#[test]
fn a_bell_wakes_only_who_armed_it_and_once() {
    let (bell, count) = counted();
    bell.ring();
    assert_eq!(wakes(&count), 0);
    bell.arm();
    bell.ring();
    bell.ring();
    assert_eq!(wakes(&count), 1);
    bell.arm();
    bell.disarm();
    bell.ring();
    assert_eq!(wakes(&count), 1);
    Doorbell::silent().arm();
    Doorbell::silent().ring();
}

#[test]
fn credit_is_exactly_the_slabs_that_are_not_out() {
    let (mut up, mut down) = silent(3, 0);
    let taken: Vec<u64> = std::iter::from_fn(|| up.take_empty(0)).collect();
    assert_eq!((taken.len(), up.credit()), (3, 0));
    for (i, slab) in taken.into_iter().enumerate() {
        up.send(slab, 0, Span::new(i as u64 + 1, i as u64 + 1));
    }
    let (slab, _) = recv_slab(&mut down);
    assert_eq!(up.credit(), 0);
    down.give_back(slab);
    assert_eq!(up.credit(), 1);
    let slab = up.take_empty(0).unwrap();
    assert_eq!(up.credit(), 0);
    up.put_back(slab);
    assert_eq!(up.credit(), 1);
}

#[test]
fn memory_comes_back_before_the_ack_and_the_position_waits_for_the_ack() {
    let (mut up, mut down) = silent(2, 0);
    // Twelve slabs through two, none acknowledged.
    for number in 1..=12 {
        let slab = up.take_empty(0).unwrap();
        up.send(slab, 3, Span::new(number, number));
        let (slab, span) = recv_slab(&mut down);
        assert_eq!(span, Span::new(number, number));
        down.give_back(slab);
    }
    assert_eq!((up.in_flight(), up.position(3, 12)), (12, 0));
    down.ack(7);
    assert_eq!((up.in_flight(), up.position(3, 12), up.position(4, 99)), (5, 7, 99));
    down.ack(12);
    assert_eq!((up.in_flight(), up.position(3, 12)), (0, 12));
    assert_eq!((up.sent(), down.received(), down.acked()), (12, 12, 12));
}

#[test]
#[cfg_attr(miri, ignore = "thousands of slabs")]
fn acks_that_nobody_asked_about_make_room_before_anything_is_merged() {
    let (mut up, mut down) = silent(1, 0);
    let count = ENTRIES as u64 + 1;
    for number in 1..=count {
        let slab = up.take_empty(0).unwrap();
        up.send(slab, 0, Span::new(number, number));
        let (slab, _) = recv_slab(&mut down);
        down.give_back(slab);
        down.ack(number.saturating_sub(2));
    }
    assert_eq!(up.position(0, count), count - 2);
}

#[test]
fn markers_pass_without_credit_keep_their_place_and_are_bounded() {
    let (mut up, mut down) = silent(1, 2);
    let slab = up.take_empty(0).unwrap();
    assert_eq!(up.send_marker(Marker::Begin(1)), Ok(()));
    up.send(slab, 0, Span::new(1, 1));
    assert_eq!(up.take_empty(0), None);
    assert_eq!(up.send_marker(Marker::End(1)), Ok(()));
    assert_eq!(up.send_marker(Marker::Drain), Err(Marker::Drain));
    assert!(!up.idle());

    assert_eq!(down.recv(), Some(Item::Marker(Marker::Begin(1))));
    assert_eq!(up.send_marker(Marker::Drain), Ok(()));
    assert_eq!(recv_slab(&mut down), (0, Span::new(1, 1)));
    assert_eq!(up.send_marker(Marker::Drain), Err(Marker::Drain));
    assert_eq!(down.recv(), Some(Item::Marker(Marker::End(1))));
    assert_eq!(down.recv(), Some(Item::Marker(Marker::Drain)));
    assert_eq!(down.recv(), None);
    assert!(up.idle() && down.is_empty());
}

#[test]
fn an_edge_may_forbid_markers() {
    let (mut up, _down) = silent(4, 0);
    assert_eq!(up.send_marker(Marker::Drain), Err(Marker::Drain));
}

#[test]
fn who_sleeps_is_rung_for_everything_it_may_wait_for() {
    let (up_bell, up_wakes) = counted();
    let (down_bell, down_wakes) = counted();
    let (mut up, mut down) = edge(vec![0u64], 1, up_bell.clone(), down_bell.clone());

    down_bell.arm();
    let slab = up.take_empty(0).unwrap();
    up.send(slab, 0, Span::new(1, 1));
    assert_eq!(wakes(&down_wakes), 1);
    down_bell.arm();
    up.send_marker(Marker::Drain).unwrap();
    assert_eq!(wakes(&down_wakes), 2);

    let (slab, _) = recv_slab(&mut down);
    up_bell.arm();
    down.give_back(slab);
    assert_eq!(wakes(&up_wakes), 1);
    up_bell.arm();
    down.ack(1);
    assert_eq!(wakes(&up_wakes), 2);
    up_bell.arm();
    down.ack(1);
    assert_eq!(wakes(&up_wakes), 2, "nothing new");
    down.recv().unwrap();
    assert_eq!(wakes(&up_wakes), 3, "room for a marker");

    up_bell.arm();
    drop(down);
    assert_eq!(wakes(&up_wakes), 4);
    let (up, _down) = edge(vec![0u64], 1, up_bell, down_bell.clone());
    down_bell.arm();
    drop(up);
    assert_eq!(wakes(&down_wakes), 3);
}

#[test]
fn what_is_sent_to_nobody_stays_unfinished_and_the_credit_runs_dry() {
    let (mut up, down) = silent(2, 1);
    drop(down);
    assert!(up.is_closed());
    for number in 1..=2 {
        let slab = up.take_empty(0).unwrap();
        up.send(slab, 0, Span::new(number, number));
    }
    assert_eq!(up.send_marker(Marker::Drain), Err(Marker::Drain));
    assert_eq!((up.take_empty(0), up.credit(), up.position(0, 2)), (None, 0, 0));
}

#[test]
fn what_was_sent_before_closing_is_received() {
    let (mut up, mut down) = silent(2, 0);
    let slab = up.take_empty(0).unwrap();
    up.send(slab, 0, Span::new(1, 1));
    drop(up);
    assert!(down.is_closed() && !down.is_finished());
    let (slab, _) = recv_slab(&mut down);
    assert!(down.is_finished());
    down.give_back(slab);
    down.ack(1);
}

#[test]
fn every_slab_is_dropped_once_wherever_it_is() {
    let token = Arc::new(());
    let slabs = (0..4).map(|_| token.clone()).collect();
    let (mut up, mut down) = edge(slabs, 0, Doorbell::silent(), Doorbell::silent());
    for number in 1..=3 {
        let slab = up.take_empty(0).unwrap();
        up.send(slab, 0, Span::new(number, number));
    }
    let mut receive = || match down.recv() {
        Some(Item::Slab { slab, .. }) => slab,
        _ => panic!("three were sent"),
    };
    let (back, kept) = (receive(), receive());
    down.give_back(back);
    assert_eq!(Arc::strong_count(&token), 5);
    drop(up);
    drop(down);
    assert_eq!(Arc::strong_count(&token), 2);
    drop(kept);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn the_meter_counts_the_time_without_credit() {
    let (mut up, mut down) = silent(1, 0);
    let meter = up.meter().clone();
    let slab = up.take_empty(100).unwrap();
    up.send(slab, 0, Span::new(1, 1));
    assert_eq!(up.take_empty(200), None);
    assert_eq!(up.take_empty(300), None);
    assert_eq!((meter.blocked_us(500), meter.misses(), meter.stalls()), (300, 2, 1));
    let (slab, _) = recv_slab(&mut down);
    down.give_back(slab);
    // A producer with nothing to send does not ask; credit is back all the same.
    up.settle(600);
    assert_eq!(meter.blocked_us(9_000), 400);
    assert!(up.take_empty(10_000).is_some());
    assert_eq!(meter.blocked_us(20_000), 400);
}

#[test]
#[should_panic(expected = "sent that was not taken")]
fn a_foreign_slab_is_not_smuggled_in() {
    let (mut up, _down) = silent(1, 0);
    up.send(7, 0, Span::new(1, 1));
}

#[test]
#[should_panic(expected = "given back that was not received")]
fn credit_is_not_invented() {
    let (_up, mut down) = silent(1, 0);
    down.give_back(7);
}

#[test]
#[should_panic(expected = "acked 1 of 0, was 0")]
fn what_was_not_received_is_not_acknowledged() {
    let (_up, mut down) = silent(1, 0);
    down.ack(1);
}

#[derive(Clone, Debug)]
enum Op {
    Take,
    PutBack,
    Send,
    Marker,
    Recv,
    GiveBack,
    Ack(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Take),
        1 => Just(Op::PutBack),
        4 => Just(Op::Send),
        2 => Just(Op::Marker),
        5 => Just(Op::Recv),
        4 => Just(Op::GiveBack),
        2 => (1..4u64).prop_map(Op::Ack),
    ]
}

fn config() -> ProptestConfig {
    let cases = if cfg!(miri) { 4 } else { 512 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever both sides do: nothing panics for room, order holds, no slab is
    /// lost or doubled, and the position is that of the acks.
    #[test]
    fn any_interleaving_keeps_slabs_order_and_positions(
        slabs in 1..6u64,
        markers in 0..4usize,
        ops in prop::collection::vec(op(), 0..if cfg!(miri) { 40 } else { 200 }),
    ) {
        let (mut up, mut down) = silent(slabs, markers);
        let (mut filling, mut held) = (Vec::new(), Vec::new());
        let mut road = std::collections::VecDeque::new();
        let (mut sent, mut marked) = (0u64, 0u64);
        for op in &ops {
            let sent_slabs = road.iter().filter(|item| matches!(item, Item::Slab { .. })).count();
            let credit = slabs as usize - filling.len() - held.len() - sent_slabs;
            prop_assert_eq!(up.credit(), credit);
            match *op {
                Op::Take => {
                    let taken = up.take_empty(0);
                    prop_assert_eq!(taken.is_some(), credit > 0);
                    filling.extend(taken);
                }
                Op::PutBack => {
                    if let Some(slab) = filling.pop() {
                        up.put_back(slab);
                    }
                }
                Op::Send => {
                    if let Some(slab) = filling.pop() {
                        sent += 1;
                        let span = Span::new(sent, sent);
                        road.push_back(Item::Slab { slab, span });
                        up.send(slab, 0, span);
                    }
                }
                Op::Marker => {
                    let marker = Marker::Barrier(marked);
                    let ahead = road.len() - sent_slabs;
                    let result = up.send_marker(marker);
                    prop_assert_eq!(result.is_ok(), ahead < markers);
                    if result.is_ok() {
                        marked += 1;
                        road.push_back(Item::Marker(marker));
                    }
                }
                Op::Recv => {
                    let item = down.recv();
                    prop_assert_eq!(item, road.pop_front());
                    if let Some(Item::Slab { slab, .. }) = item {
                        held.push(slab);
                    }
                }
                Op::GiveBack => {
                    if let Some(slab) = held.pop() {
                        down.give_back(slab);
                    }
                }
                Op::Ack(more) => down.ack((down.acked() + more).min(down.received())),
            }
            prop_assert_eq!(up.idle(), road.is_empty());
            prop_assert_eq!(up.position(0, sent), down.acked());
            prop_assert_eq!(up.in_flight() as u64, sent - down.acked());
        }
    }
}
