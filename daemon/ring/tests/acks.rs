//! The ack tracker against a model that keeps everything.
// Neither loom nor Miri has anything to find here: no atomics, no unsafe.
#![cfg(not(any(loom, miri)))]

use proptest::prelude::*;
use ringmain_ring::Span;
use ringmain_ring::acks::InFlight;

const INLETS: u16 = 5;

#[test]
fn a_position_stops_before_the_first_unfinished_number() {
    let mut acks = InFlight::new(8);
    acks.carry(0, Span::new(1, 10));
    acks.sent();
    acks.carry(0, Span::new(11, 20));
    acks.sent();
    assert_eq!(acks.position(0, 20), 0);
    acks.finish(1);
    assert_eq!(acks.position(0, 20), 10);
    assert_eq!(acks.unfinished(), 1);
    acks.finish(2);
    assert_eq!(acks.position(0, 25), 25);
}

#[test]
fn an_inlet_with_nothing_under_way_is_not_held_up_by_others() {
    let mut acks = InFlight::new(8);
    acks.carry(0, Span::new(1, 1));
    acks.sent();
    assert_eq!((acks.position(0, 1), acks.position(1, 7), acks.position(999, 3)), (0, 7, 3));
}

#[test]
fn one_message_in_two_slabs_is_finished_with_the_second() {
    let mut acks = InFlight::new(8);
    acks.carry(0, Span::new(1, 5));
    acks.sent();
    acks.carry(0, Span::new(5, 9));
    acks.sent();
    acks.finish(1);
    assert_eq!(acks.position(0, 9), 4);
}

#[test]
fn a_slab_may_carry_rows_of_several_inlets_or_of_none() {
    let mut acks = InFlight::new(8);
    acks.carry(0, Span::new(4, 6));
    acks.carry(1, Span::new(1, 2));
    acks.sent();
    acks.carry(0, Span::EMPTY);
    acks.sent();
    assert_eq!((acks.position(0, 6), acks.position(1, 2)), (3, 0));
    acks.finish(1);
    assert_eq!((acks.position(0, 6), acks.position(1, 2)), (6, 2));
    assert_eq!(acks.unfinished(), 1);
}

#[test]
fn rows_in_a_slab_that_is_not_yet_sent_hold_the_position() {
    let mut acks = InFlight::new(8);
    for number in 1..=6 {
        acks.carry(0, Span::new(number, number));
    }
    acks.carry(1, Span::new(1, 1));
    acks.carry(0, Span::new(7, 7));
    assert_eq!((acks.entries(), acks.unfinished()), (2, 0));
    assert_eq!(acks.position(0, 7), 0);
    acks.sent();
    acks.finish(1);
    assert_eq!((acks.position(0, 7), acks.position(1, 1)), (7, 1));
}

#[test]
fn when_full_it_claims_less_than_is_true_and_recovers() {
    let mut acks = InFlight::new(4);
    for number in 1..=5 {
        acks.carry(0, Span::new(number, number));
        acks.sent();
    }
    // 1 and 2 became one entry, 3 and 4 another.
    acks.finish(1);
    assert_eq!(acks.position(0, 5), 0);
    acks.finish(3);
    assert_eq!(acks.position(0, 5), 2);
    acks.finish(4);
    assert_eq!(acks.position(0, 5), 4);
    acks.finish(5);
    assert_eq!(acks.position(0, 5), 5);
}

#[test]
fn a_million_slabs_without_an_ack_stay_within_the_capacity() {
    let mut acks = InFlight::new(64);
    let count = 1_000_000;
    for number in 1..=count {
        acks.carry((number % 3) as u16, Span::new(number, number));
        acks.sent();
        assert!(acks.entries() <= 64);
    }
    assert_eq!(
        (acks.position(1, count), acks.position(2, count), acks.position(0, count)),
        (0, 1, 2)
    );
    acks.finish(count);
    assert!((0..3).all(|inlet| acks.position(inlet, count) == count));
}

#[test]
fn more_inlets_than_entries_grow_it_to_what_they_need() {
    let mut acks = InFlight::new(4);
    for round in 0..10u64 {
        for inlet in 0..100u16 {
            acks.carry(inlet, Span::new(round + 1, round + 1));
            acks.sent();
        }
    }
    assert!(acks.entries() <= 400);
    assert!((0..100).all(|inlet| acks.position(inlet, 10) == 0));
    acks.finish(1_000);
    assert!((0..100).all(|inlet| acks.position(inlet, 10) == 10));
}

#[test]
#[should_panic(expected = "finished 2 of 1, was 0")]
fn more_finished_than_sent_is_a_bug_that_is_not_hidden() {
    let mut acks = InFlight::new(4);
    acks.sent();
    acks.finish(2);
}

/// Keeps every span ever sent, and searches them all.
#[derive(Default)]
struct Model {
    spans: Vec<(u64, u16, Span)>,
    sent: u64,
    finished: u64,
}

impl Model {
    fn position(&self, inlet: u16, upto: u64) -> u64 {
        let unfinished = self
            .spans
            .iter()
            .filter(|(slab, of, span)| *slab > self.finished && *of == inlet && !span.is_empty());
        unfinished.map(|(_, _, span)| span.first - 1).min().unwrap_or(upto).min(upto)
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Spans of (inlet, start relative to the inlet's last, length).
    Send(Vec<(u16, i64, u64)>),
    /// Finishes this part of what is unfinished, in percent.
    Finish(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let span = (0..INLETS, -3..4i64, 0..4u64);
    prop_oneof![
        4 => prop::collection::vec(span, 0..3).prop_map(Op::Send),
        1 => (0..=100u64).prop_map(Op::Finish),
    ]
}

struct Twin {
    acks: InFlight,
    model: Model,
    last: [u64; INLETS as usize],
}

impl Twin {
    fn new(capacity: usize) -> Self {
        Self { acks: InFlight::new(capacity), model: Model::default(), last: [0; INLETS as usize] }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Send(spans) => {
                for &(inlet, start, length) in spans {
                    let last = &mut self.last[usize::from(inlet)];
                    let first = last.saturating_add_signed(start).max(1);
                    // Length 0 is an empty span.
                    let span = Span::new(first, first + length - 1);
                    *last = span.last.max(*last);
                    self.acks.carry(inlet, span);
                    self.model.spans.push((self.model.sent + 1, inlet, span));
                }
                self.acks.sent();
                self.model.sent += 1;
            }
            Op::Finish(percent) => {
                let open = self.model.sent - self.model.finished;
                self.model.finished += open * percent / 100;
                self.acks.finish(self.model.finished);
            }
        }
    }

    /// (claimed, true) of every inlet.
    fn positions(&self) -> Vec<(u64, u64)> {
        (0..INLETS)
            .map(|inlet| {
                let upto = self.last[usize::from(inlet)];
                (self.acks.position(inlet, upto), self.model.position(inlet, upto))
            })
            .collect()
    }
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }
}

const OPS: usize = 150;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn with_room_the_position_is_exact(ops in prop::collection::vec(op(), 0..OPS)) {
        let mut twin = Twin::new(1024);
        for op in &ops {
            twin.step(op);
            for (claimed, real) in twin.positions() {
                prop_assert_eq!(claimed, real);
            }
        }
    }

    #[test]
    fn with_rising_numbers_no_position_goes_back(
        capacity in 2..12usize,
        ops in prop::collection::vec((0..INLETS, 0..4u64, 0..40u64), 0..OPS),
    ) {
        let mut twin = Twin::new(capacity);
        let mut before = twin.positions();
        for &(inlet, length, percent) in &ops {
            twin.step(&Op::Send(vec![(inlet, 1, length)]));
            twin.step(&Op::Finish(percent));
            let now = twin.positions();
            prop_assert!(before.iter().zip(&now).all(|(old, new)| old.0 <= new.0));
            before = now;
        }
    }

    #[test]
    fn without_room_the_position_is_never_too_high_and_exact_in_the_end(
        capacity in 2..12usize,
        ops in prop::collection::vec(op(), 0..OPS),
    ) {
        let mut twin = Twin::new(capacity);
        for op in &ops {
            twin.step(op);
            for (claimed, real) in twin.positions() {
                prop_assert!(claimed <= real, "claimed {} of {}", claimed, real);
            }
            prop_assert!(twin.acks.entries() <= capacity.max(4 * usize::from(INLETS)));
        }
        twin.step(&Op::Finish(100));
        for (inlet, (claimed, _)) in twin.positions().into_iter().enumerate() {
            prop_assert_eq!(claimed, twin.last[inlet]);
        }
    }
}
