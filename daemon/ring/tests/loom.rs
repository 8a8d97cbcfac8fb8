//! Every order in which two threads can meet, by loom, on the code that ships.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p ringmain-ring --release
//! --test loom`. `check.sh` also breaks one ordering at a time
//! (`RINGMAIN_SEEDED`) and expects the test that it names there to fail, so the
//! names and what they assert are a pair.
#![cfg(loom)]

use std::sync::Arc as StdArc;

use loom::cell::UnsafeCell;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use ringmain_ring::{Doorbell, Downstream, Item, Marker, Span, Upstream, Wake, edge, ring};

/// All interleavings with at most this many involuntary switches; the larger
/// models would take minutes otherwise.
fn bounded(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[derive(Clone)]
struct Parker(StdArc<Notify>);

impl Wake for Parker {
    fn wake(&self) {
        self.0.notify();
    }
}

fn bell() -> (Doorbell, Parker) {
    let parker = Parker(StdArc::new(Notify::new()));
    (Doorbell::new(StdArc::new(parker.clone())), parker)
}

/// The sleeper's side of the protocol, as a shard runs it. Loom reports a
/// deadlock when a wake is lost.
fn wait_for<R>(bell: &Doorbell, parker: &Parker, mut look: impl FnMut() -> Option<R>) -> R {
    loop {
        if let Some(found) = look() {
            return found;
        }
        bell.arm();
        if let Some(found) = look() {
            bell.disarm();
            return found;
        }
        parker.0.wait();
        bell.disarm();
    }
}

#[test]
fn items_arrive_whole_in_order_and_slots_are_reused_only_after_reading() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::<Box<usize>>(2);
        let writer = thread::spawn(move || {
            for i in 0..3 {
                let mut item = Box::new(i);
                while let Err(refused) = producer.push(item) {
                    item = refused.into_inner();
                    thread::yield_now();
                }
            }
        });
        for i in 0..3 {
            loop {
                if let Some(item) = consumer.pop() {
                    assert_eq!(*item, i);
                    break;
                }
                thread::yield_now();
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_batch_becomes_visible_at_once() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::<usize>(4);
        let writer = thread::spawn(move || {
            let mut batch = producer.batch();
            batch.push(10).unwrap();
            batch.push(11).unwrap();
        });
        let seen = consumer.len();
        assert!(seen == 0 || seen == 2, "half a batch is visible");
        let mut got = Vec::new();
        while got.len() < 2 {
            let before = got.len();
            got.extend(consumer.drain());
            if got.len() == before {
                thread::yield_now();
            }
        }
        assert_eq!(got, [10, 11]);
        writer.join().unwrap();
    });
}

#[test]
fn room_of_a_drain_is_given_back_after_reading() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::<usize>(1);
        producer.push(1).unwrap();
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            while got.len() < 2 {
                let before = got.len();
                got.extend(consumer.drain());
                if got.len() == before {
                    thread::yield_now();
                }
            }
            assert_eq!(got, [1, 2]);
        });
        while producer.push(2).is_err() {
            thread::yield_now();
        }
        reader.join().unwrap();
    });
}

#[test]
fn closing_is_seen_after_the_last_item() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::<usize>(2);
        let writer = thread::spawn(move || producer.push(7).unwrap());
        let mut got = 0;
        while !consumer.is_finished() {
            got += consumer.drain().count();
            thread::yield_now();
        }
        assert_eq!(got, 1, "finished, and an item is missing");
        writer.join().unwrap();
    });
}

#[test]
fn what_is_left_in_a_ring_is_dropped_once() {
    struct Token(StdArc<AtomicUsize>);
    impl Drop for Token {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    loom::model(|| {
        let dropped = StdArc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring::<Token>(2);
        let writer = {
            let dropped = dropped.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    // Refused ones are dropped here, taken ones there.
                    drop(producer.push(Token(dropped.clone())));
                }
            })
        };
        drop(consumer.pop());
        drop(consumer);
        writer.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_sleeper_that_looked_once_more_is_woken() {
    bounded(3, || {
        let (mut producer, mut consumer) = ring::<usize>(2);
        let (bell, parker) = bell();
        let ringer = bell.clone();
        let writer = thread::spawn(move || {
            for i in 0..2 {
                producer.push(i).unwrap();
                ringer.ring();
            }
        });
        for i in 0..2 {
            assert_eq!(wait_for(&bell, &parker, || consumer.pop()), i);
        }
        writer.join().unwrap();
    });
}

#[test]
fn one_bell_serves_two_ringers() {
    bounded(2, || {
        let (bell, parker) = bell();
        let (mut left, mut left_out) = ring::<usize>(1);
        let (mut right, mut right_out) = ring::<usize>(1);
        let ringers = [bell.clone(), bell.clone()];
        let [first, second] = ringers;
        let threads = [
            thread::spawn(move || {
                left.push(1).unwrap();
                first.ring();
            }),
            thread::spawn(move || {
                right.push(2).unwrap();
                second.ring();
            }),
        ];
        let mut sum = 0;
        while sum < 3 {
            sum += wait_for(&bell, &parker, || left_out.pop().or_else(|| right_out.pop()));
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// A slab whose content loom watches: reading before it was written, or
/// writing while it is read, is an error.
struct Watched(Box<UnsafeCell<u64>>);

// SAFETY: the edge hands a slab from thread to thread, one at a time; that this
// is true is what loom checks.
unsafe impl Send for Watched {}

impl Watched {
    fn new() -> Self {
        Self(Box::new(UnsafeCell::new(0)))
    }

    fn write(&mut self, value: u64) {
        // SAFETY: `&mut self`.
        self.0.with_mut(|content| unsafe { *content = value });
    }

    fn read(&self) -> u64 {
        // SAFETY: nobody writes through a shared reference.
        self.0.with(|content| unsafe { *content })
    }
}

fn recv_slab(from: &mut Downstream<Watched>) -> Option<(Watched, Span)> {
    match from.recv()? {
        Item::Slab { slab, span } => Some((slab, span)),
        Item::Marker(marker) => panic!("no marker was sent, got {marker:?}"),
    }
}

#[test]
fn a_slab_goes_round_and_both_sides_sleep() {
    bounded(3, || {
        let (up_bell, up_parker) = bell();
        let (down_bell, down_parker) = bell();
        let (mut up, mut down) = edge(vec![Watched::new()], 0, up_bell.clone(), down_bell.clone());
        let sender = thread::spawn(move || {
            for i in 1..=2 {
                let mut slab = wait_for(&up_bell, &up_parker, || up.take_empty(i));
                slab.write(i);
                up.send(slab, 0, Span::new(i, i));
            }
            up
        });
        for i in 1..=2 {
            let (slab, span) = wait_for(&down_bell, &down_parker, || recv_slab(&mut down));
            assert_eq!((slab.read(), span), (i, Span::new(i, i)));
            down.give_back(slab);
        }
        drop(sender.join().unwrap());
    });
}

#[test]
fn an_ack_shows_the_work_that_earned_it() {
    struct Sink(UnsafeCell<u64>);
    // SAFETY: written before the ack and read after it; loom checks that.
    unsafe impl Sync for Sink {}
    // SAFETY: as above.
    unsafe impl Send for Sink {}

    bounded(3, || {
        let (bell, parker) = bell();
        let (mut up, mut down): (Upstream<u64>, _) =
            edge(vec![0], 0, bell.clone(), Doorbell::silent());
        let sink = StdArc::new(Sink(UnsafeCell::new(0)));
        let slab = up.take_empty(0).unwrap();
        up.send(slab, 0, Span::new(1, 5));
        let consumer = {
            let sink = sink.clone();
            thread::spawn(move || {
                let Some(Item::Slab { slab, .. }) = down.recv() else { panic!("sent before") };
                down.give_back(slab);
                // SAFETY: the producer reads only after the ack.
                sink.0.with_mut(|stored| unsafe { *stored = 5 });
                down.ack(1);
                down
            })
        };
        wait_for(&bell, &parker, || (up.position(0, 5) == 5).then_some(()));
        // SAFETY: the consumer wrote before the ack.
        assert_eq!(sink.0.with(|stored| unsafe { *stored }), 5);
        drop(consumer.join().unwrap());
    });
}

#[test]
fn a_marker_waits_for_room_and_keeps_its_place() {
    bounded(2, || {
        let (up_bell, up_parker) = bell();
        let (mut up, mut down) = edge(vec![0u64], 1, up_bell.clone(), Doorbell::silent());
        let sender = thread::spawn(move || {
            up.send_marker(Marker::Begin(1)).unwrap();
            let slab = up.take_empty(0).unwrap();
            up.send(slab, 0, Span::new(1, 1));
            wait_for(&up_bell, &up_parker, || up.send_marker(Marker::End(1)).ok());
        });
        let mut got = Vec::new();
        while got.len() < 3 {
            match down.recv() {
                Some(Item::Slab { slab, .. }) => {
                    down.give_back(slab);
                    got.push(None);
                }
                Some(Item::Marker(marker)) => got.push(Some(marker)),
                None => thread::yield_now(),
            }
        }
        assert_eq!(got, [Some(Marker::Begin(1)), None, Some(Marker::End(1))]);
        sender.join().unwrap();
    });
}

#[test]
fn a_sleeper_learns_that_the_other_side_is_gone() {
    bounded(3, || {
        let (up_bell, up_parker) = bell();
        let (down_bell, down_parker) = bell();
        let (mut up, mut down) = edge(vec![0u64], 0, up_bell.clone(), down_bell.clone());
        let producer = thread::spawn(move || {
            let slab = up.take_empty(0).unwrap();
            up.send(slab, 0, Span::new(1, 1));
            wait_for(&up_bell, &up_parker, || up.is_closed().then_some(()));
            assert_eq!(up.position(0, 1), 0);
        });
        let _slab = wait_for(&down_bell, &down_parker, || down.recv());
        drop(down);
        producer.join().unwrap();

        let (up, down) = edge(vec![0u64], 0, Doorbell::silent(), down_bell.clone());
        let producer = thread::spawn(move || drop(up));
        wait_for(&down_bell, &down_parker, || down.is_finished().then_some(()));
        producer.join().unwrap();
    });
}
