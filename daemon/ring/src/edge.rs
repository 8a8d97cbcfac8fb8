//! A credited, bounded hand-over of slabs from one shard to another.
//!
//! Owns three movements between an [`Upstream`] and a [`Downstream`]:
//!
//! ```text
//! forward ring   slabs with their span, and markers        ->
//! reverse ring   empty slabs: credit and memory in one     <-
//! one number     how many slabs are finished, cumulative   <-
//! ```
//!
//! Credit and ack are two moments. A slab's memory may come back before its
//! rows are finished (a sink has copied them out but has no answer yet), so
//! more slabs may be unfinished than there are slabs.
//!
//! Invariants:
//! 1. The slabs given at construction circulate. An end sends or gives back
//!    only as many as it took or received; each end counts and asserts.
//! 2. The forward ring has room for all slabs and all markers, the reverse ring
//!    for all slabs. Hence neither sending nor giving back can find its ring
//!    full, and a marker is refused only because of other markers.
//! 3. Slabs and markers keep their order. Nothing else orders control against
//!    data.
//! 4. What was sent to a side that is gone stays unfinished for ever and its
//!    slab is not credit again: the producer runs dry instead of reading
//!    messages into nothing.
//! 5. Whatever the other side may be asleep for rings its bell: data, markers
//!    and closing downwards; credit, acks, room for markers and closing upwards.
//!
//! Deliberately absent: what to do when there is no credit (the shard's policy
//! per edge), timers, negative acks.

use std::collections::VecDeque;

use crate::acks::{ENTRIES, ENTRY_BYTES, INLETS_RESERVED, InFlight, LANE_BYTES};
use crate::meter::Gauge;
use crate::ring::{Consumer, Producer, PushError, ring};
use crate::sync::{Arc, AtomicU64, Ordering, Padded, order};
use crate::{Doorbell, Item, Marker, Meter, Span};

/// Makes an edge whose memory is `slabs` and which holds at most `markers`
/// markers that the consumer has not taken. `up` is the bell of the producer's
/// shard, `down` of the consumer's.
///
/// # Panics
/// Without slabs: nothing could ever be sent.
///
/// ```
/// use ringmain_ring::{Doorbell, Item, Span, edge};
///
/// let slabs = vec![Vec::new(), Vec::new()];
/// let (mut up, mut down) = edge(slabs, 4, Doorbell::silent(), Doorbell::silent());
///
/// let mut slab: Vec<&str> = up.take_empty(0).expect("two slabs, none out");
/// slab.push("messages 1 to 3 of inlet 0");
/// up.send(slab, 0, Span::new(1, 3));
///
/// let Some(Item::Slab { mut slab, .. }) = down.recv() else { panic!("just sent") };
/// slab.clear();
/// down.give_back(slab); // the memory is free: credit
/// assert_eq!(up.position(0, 3), 0);
/// down.ack(1); // the first slab is finished: ack
/// assert_eq!(up.position(0, 3), 3);
/// ```
#[must_use]
pub fn edge<S>(
    slabs: Vec<S>,
    markers: usize,
    up: Doorbell,
    down: Doorbell,
) -> (Upstream<S>, Downstream<S>) {
    assert!(!slabs.is_empty(), "an edge needs at least one slab");
    // Room for every item that may be under way (invariant 2).
    let (forward_in, forward_out) = ring((slabs.len() + markers).next_power_of_two());
    let (empty_in, empty_out) = ring(slabs.len().next_power_of_two());
    let finished = Arc::new(Padded(AtomicU64::new(0)));
    let upstream = Upstream {
        slabs: slabs.len(),
        forward: forward_in,
        empties: empty_out,
        stash: slabs,
        taken: 0,
        markers: VecDeque::with_capacity(markers),
        markers_max: markers,
        in_flight: InFlight::new(ENTRIES),
        finished: finished.clone(),
        gauge: Gauge::new(),
        down,
    };
    let downstream = Downstream {
        forward: forward_out,
        empties: empty_in,
        held: 0,
        received: 0,
        acked: 0,
        finished,
        up,
    };
    (upstream, downstream)
}

/// What an edge needs beside the content of its slabs, for the sum of all
/// pools. An upper bound; most of it is touched only under load.
#[must_use]
pub fn edge_bytes<S>(slabs: usize, markers: usize) -> usize {
    // Forward ring: every slab and marker.
    (slabs + markers).next_power_of_two() * size_of::<Item<S>>()
        // Reverse ring and stash: every slab in either.
        + slabs.next_power_of_two() * size_of::<S>()
        + slabs * size_of::<S>()
        // Places of markers.
        + markers * size_of::<usize>()
        // What is unfinished.
        + ENTRIES * ENTRY_BYTES
        // Where each inlet's begins and ends.
        + INLETS_RESERVED * LANE_BYTES
        // Indices, flags, counters and the ends themselves, on lines of their own.
        + 16 * size_of::<Padded<u8>>()
}

/// The producer's end.
pub struct Upstream<S> {
    /// All that circulate.
    slabs: usize,
    forward: Producer<Item<S>>,
    empties: Consumer<S>,
    /// Empty slabs at hand; what was used last is used first, while it is warm.
    stash: Vec<S>,
    /// Slabs taken and neither sent nor put back.
    taken: usize,
    /// Places in the forward ring of markers that may still be there.
    markers: VecDeque<usize>,
    markers_max: usize,
    in_flight: InFlight,
    finished: Arc<Padded<AtomicU64>>,
    gauge: Gauge,
    down: Doorbell,
}

impl<S> Upstream<S> {
    /// An empty slab to fill, if there is credit. `now_us` feeds the meter, and
    /// matters only when credit has just run out or come back.
    #[inline]
    pub fn take_empty(&mut self, now_us: u64) -> Option<S> {
        let slab = self.stash.pop().or_else(|| self.empties.pop());
        if slab.is_some() {
            self.gauge.hit(now_us);
            self.taken += 1;
        } else {
            self.gauge.miss(now_us);
        }
        slab
    }

    /// Gives back a slab that was taken and is not needed now.
    ///
    /// # Panics
    /// When no slab of this edge is out.
    pub fn put_back(&mut self, slab: S) {
        self.taken = self.taken.checked_sub(1).expect("a slab is put back that was not taken");
        self.stash.push(slab);
    }

    /// How many slabs could be taken now.
    #[must_use]
    pub fn credit(&self) -> usize {
        self.stash.len() + self.empties.len()
    }

    /// Ends the meter's interval without credit if credit has come back, and
    /// notes how many slabs are out. For once a turn: a producer that stopped
    /// asking because it has nothing to send would not notice otherwise.
    pub fn settle(&mut self, now_us: u64) {
        let credit = self.credit();
        self.gauge.note_queued(self.slabs.saturating_sub(credit));
        if self.gauge.is_open() && credit > 0 {
            self.gauge.hit(now_us);
        }
    }

    /// Notes that the slab which is sent next carries rows of this inlet. Needed
    /// for rows of a second inlet; wise for all rows that wait in a slab which
    /// is still being filled, because [`Upstream::position`] then knows of them.
    /// If that slab is put back instead, the next one that is sent stands for
    /// them: later than needed, never too early.
    #[inline]
    pub fn carry(&mut self, inlet: u16, span: Span) {
        if self.in_flight.is_full() {
            self.refresh();
        }
        self.in_flight.carry(inlet, span);
    }

    /// Sends a slab that carries `span` of `inlet`, and what was announced with
    /// [`Upstream::carry`]. There is always room.
    ///
    /// # Panics
    /// When no slab of this edge was taken: it would be one too many.
    #[inline]
    pub fn send(&mut self, slab: S, inlet: u16, span: Span) {
        self.taken = self.taken.checked_sub(1).expect("a slab is sent that was not taken");
        self.carry(inlet, span);
        self.in_flight.sent();
        match self.forward.push(Item::Slab { slab, span }) {
            Ok(()) => self.down.ring(),
            // Unfinished for ever (invariant 4).
            Err(PushError::Closed(item)) => drop(item),
            Err(PushError::Full(_)) => unreachable!("there is room for every slab (invariant 2)"),
        }
    }

    /// Sends a marker behind everything sent before. Needs no credit.
    ///
    /// # Errors
    /// Gives the marker back when as many as the edge allows have not been
    /// taken (try again after the bell), or when the consumer is gone.
    pub fn send_marker(&mut self, marker: Marker) -> Result<(), Marker> {
        if self.markers_left() == 0 {
            return Err(marker);
        }
        let at = self.forward.pushed();
        match self.forward.push(Item::Marker(marker)) {
            Ok(()) => {
                self.markers.push_back(at);
                self.down.ring();
                Ok(())
            }
            Err(PushError::Closed(_)) => Err(marker),
            Err(PushError::Full(_)) => unreachable!("there is room for every marker (invariant 2)"),
        }
    }

    /// Markers that could be sent now.
    pub fn markers_left(&mut self) -> usize {
        let taken = self.forward.taken();
        // Both count from the beginning with wrapping; less than a ring apart.
        while self.markers.front().is_some_and(|at| taken.wrapping_sub(*at).cast_signed() > 0) {
            self.markers.pop_front();
        }
        self.markers_max - self.markers.len()
    }

    /// The highest number such that everything of `inlet` up to it is finished
    /// on this edge; `upto` when nothing of it is under way. See
    /// [`InFlight::position`].
    #[inline]
    pub fn position(&mut self, inlet: u16, upto: u64) -> u64 {
        self.refresh();
        self.in_flight.position(inlet, upto)
    }

    /// Slabs sent that the consumer has not finished. May be more than there
    /// are slabs.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let finished = self.finished.0.load(Ordering::Acquire);
        (self.in_flight.sent_count() - finished) as usize
    }

    /// Whether the consumer has taken everything that was sent: what is partly
    /// filled may as well leave now.
    #[inline]
    #[must_use]
    pub fn idle(&mut self) -> bool {
        self.forward.pushed() == self.forward.taken()
    }

    /// Slabs sent since the beginning.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.in_flight.sent_count()
    }

    /// The time without credit.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        self.gauge.meter()
    }

    /// Whether the consumer is gone. What is in flight will never finish.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.forward.is_closed()
    }

    #[inline]
    fn refresh(&mut self) {
        let finished = self.finished.0.load(Ordering::Acquire);
        if finished != self.in_flight.finished_count() {
            self.in_flight.finish(finished);
        }
    }
}

impl<S> Drop for Upstream<S> {
    fn drop(&mut self) {
        self.forward.close();
        self.empties.close();
        self.down.ring();
    }
}

/// The consumer's end.
pub struct Downstream<S> {
    forward: Consumer<Item<S>>,
    empties: Producer<S>,
    /// Slabs received and not given back.
    held: usize,
    received: u64,
    acked: u64,
    finished: Arc<Padded<AtomicU64>>,
    up: Doorbell,
}

impl<S> Downstream<S> {
    /// The next slab or marker. The n-th slab has the number n, from 1.
    #[inline]
    pub fn recv(&mut self) -> Option<Item<S>> {
        let item = self.forward.pop()?;
        match item {
            Item::Slab { .. } => {
                self.held += 1;
                self.received += 1;
            }
            // The producer may wait for a marker's room.
            Item::Marker(_) => self.up.ring(),
        }
        Some(item)
    }

    /// Returns a slab whose bytes are no longer needed: credit for the
    /// producer. Says nothing about whether its rows are finished.
    ///
    /// # Panics
    /// When all that were received are given back already.
    #[inline]
    pub fn give_back(&mut self, slab: S) {
        self.held = self.held.checked_sub(1).expect("a slab is given back that was not received");
        match self.empties.push(slab) {
            Ok(()) => self.up.ring(),
            Err(PushError::Closed(slab)) => drop(slab),
            Err(PushError::Full(_)) => unreachable!("there is room for every slab (invariant 2)"),
        }
    }

    /// Says that the first `slabs_finished` slabs are finished: every row was
    /// accepted by its sinks, or dropped on purpose. Saying it again is free.
    ///
    /// # Panics
    /// When the count goes back, or beyond what was received.
    #[inline]
    pub fn ack(&mut self, slabs_finished: u64) {
        assert!(
            self.acked <= slabs_finished && slabs_finished <= self.received,
            "acked {slabs_finished} of {}, was {}",
            self.received,
            self.acked,
        );
        if slabs_finished != self.acked {
            self.acked = slabs_finished;
            self.finished.0.store(slabs_finished, order::ack());
            self.up.ring();
        }
    }

    /// Slabs received since the beginning: the number of the last one.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Slabs acknowledged since the beginning.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Rings the producer's bell, for what it is to look at elsewhere.
    pub fn nudge(&self) {
        self.up.ring();
    }

    /// Whether there is nothing to receive now.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.forward.is_empty()
    }

    /// Whether the producer is gone. Items may be left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.forward.is_closed()
    }

    /// Whether nothing is left and nothing will come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.forward.is_finished()
    }
}

impl<S> Drop for Downstream<S> {
    fn drop(&mut self) {
        self.forward.close();
        self.empties.close();
        self.up.ring();
    }
}
