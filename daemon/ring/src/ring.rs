//! Bounded queue for one producer and one consumer.
//!
//! Owns the slots and the two indices. An index counts items since the
//! beginning and wraps with `usize`; the slot is `index & mask`. Each end keeps
//! its own index in plain memory, a copy of the other's that it refreshes only
//! when the copy says full (or empty), and publishes its own with one release
//! store per item or per batch.
//!
//! Invariants (the `SAFETY` comments refer to them by number):
//! 1. `head <= tail <= head + capacity`, counted with wrapping.
//! 2. Slots in `head..tail` are initialised and belong to the consumer once
//!    `tail` is published; all others belong to the producer once `head` is.
//! 3. Only the producer stores `tail`, only the consumer stores `head`. There
//!    is one of each: neither is `Clone`, and what touches slots takes
//!    `&mut self`.
//! 4. The published `head` may lag behind what was read out only while the
//!    consumer lives; dropping it publishes the last word. So whoever drops the
//!    shared part finds exactly the initialised slots in `head..tail`.
//!
//! Deliberately absent: waiting (see [`crate::Doorbell`]), growing, peeking.

use std::mem::MaybeUninit;

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, Padded, UnsafeCell, order};

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// What both ends see. The indices have lines of their own; the rest is read
/// only until one side closes.
struct Shared<T> {
    head: Padded<AtomicUsize>,
    tail: Padded<AtomicUsize>,
    rest: Padded<Rest<T>>,
}

struct Rest<T> {
    slots: Box<[Slot<T>]>,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
}

// SAFETY: a slot is touched by one thread at a time (invariants 2 and 3), and
// its content moves from one thread to another, which `T: Send` allows.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; the indices and flags are atomics.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    #[inline(always)]
    fn slot(&self, index: usize) -> &Slot<T> {
        let slots = &self.rest.0.slots;
        // SAFETY: the number of slots is a power of two (checked in `ring`), so
        // the masked index is below it.
        unsafe { slots.get_unchecked(index & (slots.len() - 1)) }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let mut head = self.head.0.load(Ordering::Relaxed);
        let tail = self.tail.0.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: both ends are gone and have published their last index
            // (invariant 4), so the slot is initialised and ours.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// Why an item was not taken; it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError<T> {
    /// There is no room now. Try again after the consumer took something.
    Full(T),
    /// The consumer is gone. It will not come back.
    Closed(T),
}

impl<T> PushError<T> {
    /// The item that was not taken.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

/// The writing end.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// Next slot to write; at or ahead of what is published.
    tail: usize,
    published: usize,
    head_seen: usize,
}

/// The reading end.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// Next slot to read; at or ahead of what is published.
    head: usize,
    published: usize,
    tail_seen: usize,
}

/// Makes a ring with room for exactly `capacity` items.
///
/// # Panics
/// When `capacity` is not a power of two.
///
/// ```
/// let (mut producer, mut consumer) = ringmain_ring::ring(4);
/// {
///     let mut batch = producer.batch();
///     batch.push("a")?;
///     batch.push("b")?;
/// } // both become visible here
/// assert_eq!(consumer.pop(), Some("a"));
/// assert!(consumer.drain().eq(["b"]));
/// # Ok::<(), ringmain_ring::PushError<&str>>(())
/// ```
///
/// There is one producer, by type:
///
/// ```compile_fail,E0599
/// let (producer, _consumer) = ringmain_ring::ring::<u8>(4);
/// let _second = producer.clone();
/// ```
///
/// and one consumer:
///
/// ```compile_fail,E0599
/// let (_producer, consumer) = ringmain_ring::ring::<u8>(4);
/// let _second = consumer.clone();
/// ```
///
/// What cannot be sent to another thread cannot go there through a ring:
///
/// ```compile_fail,E0277
/// let (mut producer, _consumer) = ringmain_ring::ring::<std::rc::Rc<u8>>(4);
/// std::thread::spawn(move || producer.push(std::rc::Rc::new(1)).is_ok());
/// ```
#[must_use]
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    ring_from(capacity, 0)
}

/// A ring whose indices start at `start` instead of 0.
fn ring_from<T>(capacity: usize, start: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "a ring's capacity is a power of two, not {capacity}");
    let slots = (0..capacity).map(|_| Slot::new(MaybeUninit::uninit())).collect();
    let shared = Arc::new(Shared {
        head: Padded(AtomicUsize::new(start)),
        tail: Padded(AtomicUsize::new(start)),
        rest: Padded(Rest {
            slots,
            producer_gone: AtomicBool::new(false),
            consumer_gone: AtomicBool::new(false),
        }),
    });
    let producer =
        Producer { shared: shared.clone(), tail: start, published: start, head_seen: start };
    (producer, Consumer { shared, head: start, published: start, tail_seen: start })
}

impl<T> Producer<T> {
    /// Appends one item and publishes it.
    ///
    /// # Errors
    /// Gives the item back when there is no room or no consumer.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        self.stage(item)?;
        self.publish();
        Ok(())
    }

    /// Starts a batch: what is pushed into it becomes visible at once, when
    /// the batch is dropped.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, T> {
        Batch { producer: self }
    }

    /// Items that the consumer has not taken.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.tail.wrapping_sub(self.shared.head.0.load(Ordering::Acquire))
    }

    /// Whether the consumer has taken everything.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pushes are sure to find room.
    #[inline]
    pub fn vacant(&mut self) -> usize {
        self.capacity() - self.tail.wrapping_sub(self.taken())
    }

    /// Most items that fit.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.rest.0.slots.len()
    }

    /// Whether the consumer is gone.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.rest.0.consumer_gone.load(Ordering::Acquire)
    }

    /// How many items were ever pushed, with wrapping.
    #[inline]
    pub(crate) fn pushed(&self) -> usize {
        self.tail
    }

    /// How many items the consumer ever took, with wrapping.
    #[inline]
    pub(crate) fn taken(&mut self) -> usize {
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        self.head_seen
    }

    /// Says that nothing more will come. Dropping does the same; here it is
    /// done early, by whoever has to ring a bell afterwards.
    pub(crate) fn close(&mut self) {
        self.publish();
        self.shared.rest.0.producer_gone.store(true, order::close());
    }

    #[inline(always)]
    fn stage(&mut self, item: T) -> Result<(), PushError<T>> {
        if self.shared.rest.0.consumer_gone.load(Ordering::Relaxed) {
            return Err(PushError::Closed(item));
        }
        if self.tail.wrapping_sub(self.head_seen) == self.capacity()
            && self.tail.wrapping_sub(self.taken()) == self.capacity()
        {
            return Err(PushError::Full(item));
        }
        // SAFETY: `tail < head + capacity`, so the slot is not in `head..tail`
        // and belongs to the producer (invariant 2), of which there is one (3);
        // the acquire load of `head` came after the consumer read it out.
        self.shared.slot(self.tail).with_mut(|slot| unsafe {
            (*slot).write(item);
        });
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    #[inline(always)]
    fn publish(&mut self) {
        if self.published != self.tail {
            self.published = self.tail;
            self.shared.tail.0.store(self.tail, order::publish());
        }
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Several pushes that become visible together. A batch that is forgotten
/// instead of dropped becomes visible with the next push.
pub struct Batch<'a, T> {
    producer: &'a mut Producer<T>,
}

impl<T> Batch<'_, T> {
    /// Appends one item without publishing it.
    ///
    /// # Errors
    /// Gives the item back when there is no room or no consumer; the batch
    /// stays as it was.
    #[inline(always)]
    pub fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        self.producer.stage(item)
    }

    /// Items of this batch that are not yet visible.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.producer.tail.wrapping_sub(self.producer.published)
    }
}

impl<T> Drop for Batch<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.producer.publish();
    }
}

impl<T> Consumer<T> {
    /// Takes the oldest item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let item = self.take()?;
        self.retire();
        Some(item)
    }

    /// Takes items one by one and gives their room back at once, when the
    /// iterator is dropped. It ends when nothing is left to take.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_, T> {
        Drain { consumer: self }
    }

    /// Items ready to be taken.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.tail.0.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    /// Whether there is nothing to take now.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most items that fit.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.rest.0.slots.len()
    }

    /// Whether the producer is gone. Items may be left.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.rest.0.producer_gone.load(Ordering::Acquire)
    }

    /// Whether nothing is left and nothing will come.
    #[inline]
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // In this order: what was published before closing is then seen.
        self.is_closed() && self.is_empty()
    }

    /// Says that nothing more will be taken; see [`Producer::close`].
    pub(crate) fn close(&mut self) {
        self.retire();
        self.shared.rest.0.consumer_gone.store(true, order::close());
    }

    #[inline(always)]
    fn take(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: `head < tail`, so the slot is initialised and belongs to the
        // consumer (invariant 2), of which there is one (3); the acquire load
        // of `tail` came after it was written. `head` moves on below, so it is
        // read once.
        let item = self.shared.slot(self.head).with(|slot| unsafe { (*slot).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        Some(item)
    }

    #[inline(always)]
    fn retire(&mut self) {
        if self.published != self.head {
            self.published = self.head;
            self.shared.head.0.store(self.head, order::retire());
        }
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Several takes whose room is given back together.
pub struct Drain<'a, T> {
    consumer: &'a mut Consumer<T>,
}

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        self.consumer.take()
    }
}

impl<T> Drop for Drain<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.consumer.retire();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn indices_wrap_without_a_trace() {
        let (mut producer, mut consumer) = ring_from::<Box<usize>>(4, usize::MAX - 5);
        for i in 0..20 {
            producer.push(Box::new(i)).unwrap();
            producer.push(Box::new(i + 100)).unwrap();
            assert_eq!((producer.len(), consumer.len(), producer.vacant()), (2, 2, 2));
            producer.push(Box::new(0)).unwrap();
            producer.push(Box::new(0)).unwrap();
            assert!(producer.push(Box::new(0)).is_err());
            let got: Vec<usize> = consumer.drain().map(|item| *item).collect();
            assert_eq!(got, [i, i + 100, 0, 0]);
        }
        let (mut producer, consumer) = ring_from::<Box<usize>>(4, usize::MAX);
        producer.push(Box::new(1)).unwrap();
        producer.push(Box::new(2)).unwrap();
        drop((producer, consumer));
    }
}
