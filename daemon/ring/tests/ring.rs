//! One thread, both ends: the ring against a `VecDeque`, and its promises.
#![cfg(not(loom))]

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;
use ringmain_ring::{Consumer, Doorbell, Downstream, Producer, PushError, Upstream, ring};

#[test]
fn full_and_closed_are_values_and_give_the_item_back() {
    let (mut producer, mut consumer) = ring(2);
    assert_eq!(producer.push(1), Ok(()));
    assert_eq!(producer.push(2), Ok(()));
    assert_eq!(producer.push(3), Err(PushError::Full(3)));
    assert_eq!(consumer.pop(), Some(1));
    assert_eq!(producer.push(3), Ok(()));
    drop(consumer);
    assert!(producer.is_closed());
    assert_eq!(producer.push(4), Err(PushError::Closed(4)));
}

#[test]
fn a_closed_ring_is_finished_only_when_it_is_empty() {
    let (mut producer, mut consumer) = ring(4);
    producer.push(1).unwrap();
    assert!(!consumer.is_closed());
    drop(producer);
    assert!(consumer.is_closed() && !consumer.is_finished());
    assert_eq!((consumer.pop(), consumer.pop()), (Some(1), None));
    assert!(consumer.is_finished());
}

#[test]
fn a_batch_is_invisible_until_it_is_dropped() {
    let (mut producer, mut consumer) = ring(4);
    let mut batch = producer.batch();
    batch.push(1).unwrap();
    batch.push(2).unwrap();
    assert_eq!(batch.staged(), 2);
    assert_eq!((consumer.len(), consumer.pop()), (0, None));
    drop(batch);
    assert_eq!((consumer.len(), consumer.pop()), (2, Some(1)));
}

#[test]
fn room_of_a_drain_comes_back_when_it_is_dropped() {
    let (mut producer, mut consumer) = ring(2);
    producer.push(1).unwrap();
    producer.push(2).unwrap();
    let mut drain = consumer.drain();
    assert_eq!(drain.next(), Some(1));
    assert_eq!(producer.vacant(), 0);
    drop(drain);
    assert_eq!(producer.vacant(), 1);
    assert_eq!(consumer.pop(), Some(2));
}

#[test]
fn a_forgotten_batch_or_drain_loses_and_doubles_nothing() {
    let token = Rc::new(());
    let (mut producer, mut consumer) = ring(8);
    let mut batch = producer.batch();
    batch.push(token.clone()).unwrap();
    std::mem::forget(batch);
    producer.push(token.clone()).unwrap();
    producer.push(token.clone()).unwrap();
    assert_eq!(consumer.len(), 3);
    let mut drain = consumer.drain();
    drop(drain.next());
    std::mem::forget(drain);
    assert_eq!(Rc::strong_count(&token), 3);
    let mut batch = producer.batch();
    batch.push(token.clone()).unwrap();
    std::mem::forget(batch);
    drop(consumer);
    drop(producer);
    assert_eq!(Rc::strong_count(&token), 1);
}

#[test]
#[should_panic(expected = "power of two, not 3")]
fn a_capacity_that_is_no_power_of_two_is_refused() {
    let _ = ring::<u8>(3);
}

#[test]
fn both_ends_may_move_to_other_threads() {
    fn assert_send<T: Send>() {}
    assert_send::<(Producer<Box<u8>>, Consumer<Box<u8>>)>();
    assert_send::<(Upstream<Box<u8>>, Downstream<Box<u8>>)>();
    assert_send::<Doorbell>();
}

#[test]
fn items_without_size_are_counted() {
    let (mut producer, mut consumer) = ring(4);
    for _ in 0..4 {
        producer.push(()).unwrap();
    }
    assert_eq!(producer.push(()), Err(PushError::Full(())));
    assert_eq!(consumer.drain().count(), 4);
}

/// What one end does next.
#[derive(Clone, Debug)]
enum Op {
    Push,
    Batch(usize),
    Pop,
    Drain(usize),
    DropProducer,
    DropConsumer,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => Just(Op::Push),
        4 => (0..6usize).prop_map(Op::Batch),
        8 => Just(Op::Pop),
        4 => (0..6usize).prop_map(Op::Drain),
        1 => Just(Op::DropProducer),
        1 => Just(Op::DropConsumer),
    ]
}

/// An item that is counted while it lives.
struct Item {
    number: u64,
    alive: Rc<Cell<usize>>,
}

impl Item {
    fn new(number: u64, alive: &Rc<Cell<usize>>) -> Self {
        alive.set(alive.get() + 1);
        Self { number, alive: alive.clone() }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

/// The ring and what it must be equal to.
struct Pair {
    capacity: usize,
    producer: Option<Producer<Item>>,
    consumer: Option<Consumer<Item>>,
    oracle: VecDeque<u64>,
    next: u64,
    alive: Rc<Cell<usize>>,
}

impl Pair {
    fn new(capacity: usize) -> Self {
        let (producer, consumer) = ring(capacity);
        Self {
            capacity,
            producer: Some(producer),
            consumer: Some(consumer),
            oracle: VecDeque::new(),
            next: 0,
            alive: Rc::default(),
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Push => self.push(1, false),
            Op::Batch(count) => self.push(count, true),
            Op::Pop => {
                if let Some(consumer) = &mut self.consumer {
                    let got = consumer.pop().map(|item| item.number);
                    assert_eq!(got, self.oracle.pop_front());
                }
            }
            Op::Drain(count) => {
                if let Some(consumer) = &mut self.consumer {
                    let got: Vec<u64> =
                        consumer.drain().take(count).map(|item| item.number).collect();
                    let expected = self.oracle.drain(..count.min(self.oracle.len()));
                    assert_eq!(got, expected.collect::<Vec<_>>());
                }
            }
            Op::DropProducer => self.producer = None,
            Op::DropConsumer => self.consumer = None,
        }
        self.check();
    }

    fn push(&mut self, count: usize, batched: bool) {
        let Some(producer) = &mut self.producer else { return };
        let visible = self.oracle.len();
        let mut batch = producer.batch();
        for _ in 0..count {
            let result = batch.push(Item::new(self.next, &self.alive));
            match result {
                Ok(()) => self.oracle.push_back(self.next),
                Err(PushError::Closed(item)) => {
                    assert!(self.consumer.is_none());
                    assert_eq!(item.number, self.next);
                }
                Err(PushError::Full(item)) => {
                    assert_eq!(self.oracle.len(), self.capacity);
                    assert_eq!(item.number, self.next);
                }
            }
            self.next += 1;
            if let Some(consumer) = &self.consumer {
                assert_eq!(consumer.len(), visible);
            }
        }
        drop(batch);
        if !batched {
            // The same again without a guard.
            let number = self.next;
            self.next += 1;
            if producer.push(Item::new(number, &self.alive)).is_ok() {
                self.oracle.push_back(number);
            }
        }
    }

    fn check(&mut self) {
        if let Some(consumer) = &self.consumer {
            assert_eq!(consumer.len(), self.oracle.len());
            assert_eq!(consumer.is_closed(), self.producer.is_none());
        }
        if let Some(producer) = &mut self.producer {
            assert_eq!(producer.len(), self.oracle.len());
            assert_eq!(producer.vacant(), self.capacity - self.oracle.len());
            assert_eq!(producer.is_closed(), self.consumer.is_none());
        }
        let kept = self.producer.is_some() || self.consumer.is_some();
        assert_eq!(self.alive.get(), if kept { self.oracle.len() } else { 0 });
    }
}

fn config() -> ProptestConfig {
    let cases = if cfg!(miri) { 6 } else { 512 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_ring_is_a_bounded_queue(
        shift in 0..4u32,
        ops in prop::collection::vec(op(), 0..if cfg!(miri) { 24 } else { 120 }),
    ) {
        let mut pair = Pair::new(1 << shift);
        for op in &ops {
            pair.step(op);
        }
        // Whatever is left is dropped with the second end, not before.
        pair.step(&Op::DropProducer);
        pair.step(&Op::DropConsumer);
    }
}
