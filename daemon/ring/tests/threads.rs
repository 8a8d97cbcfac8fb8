//! Two threads at full speed: exact counts and order. Miri runs the same with
//! small numbers and sees data races that happen to be harmless here.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};

use ringmain_ring::{Doorbell, Item, Marker, PushError, Span, Wake, edge, ring};

const ITEMS: u64 = if cfg!(miri) { 300 } else { 300_000 };

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// Runs the sleeper's protocol until `look` finds something.
fn wait_for<R>(bell: &Doorbell, mut look: impl FnMut() -> Option<R>) -> R {
    loop {
        if let Some(found) = look() {
            return found;
        }
        bell.arm();
        if let Some(found) = look() {
            bell.disarm();
            return found;
        }
        thread::park();
        bell.disarm();
    }
}

#[test]
fn every_item_arrives_once_and_in_order() {
    let (mut producer, mut consumer) = ring::<Box<u64>>(4);
    let writer = thread::spawn(move || {
        for i in 0..ITEMS {
            let mut item = Box::new(i);
            while let Err(PushError::Full(back)) = producer.push(item) {
                item = back;
                thread::yield_now();
            }
        }
    });
    let mut next = 0;
    while !consumer.is_finished() {
        match consumer.pop() {
            Some(item) => {
                assert_eq!(*item, next);
                next += 1;
            }
            None => thread::yield_now(),
        }
    }
    assert_eq!(next, ITEMS);
    writer.join().unwrap();
}

#[test]
fn batches_and_drains_lose_nothing() {
    let (mut producer, mut consumer) = ring::<Box<u64>>(16);
    let writer = thread::spawn(move || {
        let mut next = 0;
        while next < ITEMS {
            let mut batch = producer.batch();
            while next < ITEMS && batch.push(Box::new(next)).is_ok() {
                next += 1;
            }
            drop(batch);
            thread::yield_now();
        }
    });
    let mut next = 0;
    while !consumer.is_finished() {
        for item in consumer.drain() {
            assert_eq!(*item, next);
            next += 1;
        }
        thread::yield_now();
    }
    assert_eq!(next, ITEMS);
    writer.join().unwrap();
}

#[test]
fn what_nobody_took_is_dropped_once() {
    struct Token(Arc<AtomicUsize>);
    impl Drop for Token {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for taken in 0..if cfg!(miri) { 4 } else { 200 } {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring(8);
        let count = dropped.clone();
        let writer = thread::spawn(move || {
            for _ in 0..20 {
                // Refused ones are dropped here.
                drop(producer.push(Token(count.clone())));
            }
        });
        for _ in 0..taken % 10 {
            drop(consumer.pop());
        }
        drop(consumer);
        writer.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 20);
    }
}

/// A slab as it is in the product: memory that both sides write.
struct Memory(Box<[u64; 8]>);

#[test]
fn slabs_circulate_while_both_sides_sleep_and_wake() {
    const SLABS: u64 = if cfg!(miri) { 100 } else { 100_000 };
    let (bell_to, bell_from) = std::sync::mpsc::sync_channel(1);
    let down_bell = Doorbell::new(Arc::new(Unpark(thread::current())));
    let for_edge = down_bell.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let producer = thread::spawn(move || {
        let bell = Doorbell::new(Arc::new(Unpark(thread::current())));
        let slabs = (0..3).map(|_| Memory(Box::new([0; 8]))).collect();
        let (mut up, down) = edge(slabs, 2, bell.clone(), for_edge);
        bell_to.send(down).unwrap();
        for number in 1..=SLABS {
            let mut slab = wait_for(&bell, || up.take_empty(number));
            slab.0.fill(number);
            up.send(slab, 1, Span::new(number, number));
            if number % 64 == 0 {
                wait_for(&bell, || up.send_marker(Marker::Barrier(number)).ok());
            }
        }
        wait_for(&bell, || (up.position(1, SLABS) == SLABS).then_some(()));
        // Read after the last ack: the consumer's work is visible.
        assert!(stopped.load(Ordering::Relaxed));
        assert_eq!((up.in_flight(), up.credit(), up.sent()), (0, 3, SLABS));
        assert!(up.meter().stalls() <= up.meter().misses());
    });
    let mut down = bell_from.recv().unwrap();
    let (mut slabs, mut barriers) = (0, 0);
    while slabs < SLABS {
        match wait_for(&down_bell, || down.recv()) {
            Item::Slab { slab, span } => {
                slabs += 1;
                assert_eq!(span, Span::new(slabs, slabs));
                assert_eq!(*slab.0, [slabs; 8]);
                down.give_back(slab);
                if slabs == SLABS {
                    stop.store(true, Ordering::Relaxed);
                }
                // Acks come late and several at once.
                if slabs % 7 == 0 || slabs == SLABS {
                    down.ack(slabs);
                }
            }
            Item::Marker(marker) => {
                barriers += 1;
                assert_eq!(marker, Marker::Barrier(barriers * 64));
                assert_eq!(slabs, barriers * 64);
            }
        }
    }
    wait_for(&down_bell, || {
        while let Some(item) = down.recv() {
            assert!(matches!(item, Item::Marker(_)));
            barriers += 1;
        }
        down.is_finished().then_some(())
    });
    assert_eq!(barriers, SLABS / 64);
    producer.join().unwrap();
}
