//! A tap: a look at messages as they pass, as JSON.
//!
//! Owns what the two sides of a tap share: what the reader wants, the bounded
//! queue to it, and the counts of what came by. The shard's side is in `look`.
//!
//! Invariants:
//! - A tap never holds messages up: what does not fit into the queue, exceeds
//!   the reader's rate, or would take too long to look at, is skipped, and the
//!   reader is told how many those were.
//! - An expression that needs LuaJIT is compiled on the shard, once and when the
//!   flow has got more fields, which takes it a millisecond or two.
//! - A flow that nobody taps pays one comparison per turn and a branch per
//!   slab and component.
//! - What a tap names in its expression gets no slot in the flow's schema.
//!
//! Deliberately absent: a promise to show everything. For that there are
//! sinks.

mod look;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use ringmain_config::Spanned;
use ringmain_slab::SharedSchema;

use crate::control::FlowControl;
use crate::operators::OperatorError;

pub(crate) use look::{Place, Taps};

/// Messages that may wait for the reader, of all shards.
const WAITING_MAX: usize = 1024;

/// Bytes that may wait for the reader, of all shards.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What a reader wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapRequest {
    /// The component's number; `None` for every one of the flow. Of a source
    /// or an operator one sees what leaves it, of a sink what comes to it.
    pub component: Option<usize>,
    /// Every how manieth message of a component is looked at; at least 1.
    pub every: u64,
    /// Messages shown per second, at most.
    pub per_second: u32,
    /// Only messages for which this Lua expression is true.
    pub condition: Option<String>,
}

impl TapRequest {
    /// Whether the expression can be compiled.
    ///
    /// # Errors
    /// Where it cannot, and why.
    pub fn check(&self) -> Result<(), OperatorError> {
        let Some(condition) = &self.condition else { return Ok(()) };
        let text = Spanned::new(condition.clone(), Default::default());
        crate::operators::condition(&text, &SharedSchema::new()).map(drop)
    }
}

/// A message that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// The component's number.
    pub component: usize,
    /// The message as JSON.
    pub json: String,
}

/// What came by a tap so far, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapCounts {
    /// All that passed the components that are looked at.
    pub seen: u64,
    /// Those that were not looked at or not shown, though they might have been
    /// wanted: the rate was used up, the reader was too slow, the message was
    /// too long, or there was too much to look at.
    pub skipped: u64,
    /// Those on which the expression failed, or that JSON cannot express.
    pub failed: u64,
}

/// What both sides of a tap share.
#[derive(Debug)]
pub(crate) struct TapShared {
    request: TapRequest,
    sender: SyncSender<Tapped>,
    waiting_bytes: AtomicUsize,
    seen: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
    /// The second on the monotonic clock, and what was shown in it.
    shown: AtomicU64,
    /// The expression took too long: nothing more is looked at.
    stopped: AtomicBool,
}

/// All taps of a flow.
#[derive(Debug, Default)]
pub(crate) struct TapList {
    /// Changes when a tap comes or goes; what a shard looks at every turn.
    version: AtomicU64,
    taps: Mutex<BTreeMap<u64, Arc<TapShared>>>,
}

impl TapList {
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Those that are open now, by number, and the version that this is.
    pub(crate) fn open(&self) -> (u64, Vec<(u64, Arc<TapShared>)>) {
        let taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        let open = taps.iter().map(|(number, tap)| (*number, tap.clone())).collect();
        (self.version(), open)
    }

    fn change(&self, change: impl FnOnce(u64, &mut BTreeMap<u64, Arc<TapShared>>)) -> u64 {
        let mut taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version() + 1;
        change(version, &mut taps);
        self.version.store(version, Ordering::Release);
        version
    }
}

/// The reader's side of a tap on one life of a flow. The tap ends with it.
#[derive(Debug)]
pub struct Tap {
    control: Arc<FlowControl>,
    number: u64,
    shared: Arc<TapShared>,
    receiver: Receiver<Tapped>,
}

impl Tap {
    /// Opens a tap. Messages that come into the flow from now on are seen.
    #[must_use]
    pub fn open(control: &Arc<FlowControl>, request: TapRequest) -> Self {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let shared = Arc::new(TapShared {
            request,
            sender,
            waiting_bytes: AtomicUsize::new(0),
            seen: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let tap = shared.clone();
        let number = control.taps.change(|number, taps| drop(taps.insert(number, tap)));
        Self { control: control.clone(), number, shared, receiver }
    }

    /// Whether it is on this life of a flow.
    #[must_use]
    pub fn is_on(&self, control: &Arc<FlowControl>) -> bool {
        Arc::ptr_eq(&self.control, control)
    }

    /// The next message, if one waits.
    #[must_use]
    pub fn next(&self) -> Option<Tapped> {
        match self.receiver.try_recv() {
            Ok(tapped) => {
                self.shared.waiting_bytes.fetch_sub(tapped.json.len(), Ordering::AcqRel);
                Some(tapped)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// What came by so far.
    #[must_use]
    pub fn counts(&self) -> TapCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Acquire);
        let shared = &self.shared;
        TapCounts {
            seen: of(&shared.seen),
            skipped: of(&shared.skipped),
            failed: of(&shared.failed),
        }
    }

    /// Whether its expression took too long, so that nothing is shown any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.control.taps.change(|_, taps| drop(taps.remove(&self.number)));
    }
}

impl TapShared {
    /// How many messages may still be shown in this second.
    fn left(&self, mono_us: u64) -> u64 {
        let (second, shown) = parts(self.shown.load(Ordering::Acquire));
        let limit = u64::from(self.request.per_second);
        if second == second_of(mono_us) { limit.saturating_sub(shown) } else { limit }
    }

    /// Takes one of those, unless another shard was faster.
    fn take(&self, mono_us: u64) -> bool {
        let now = second_of(mono_us);
        let take = |before| {
            let (second, shown) = parts(before);
            let shown = if second == now { shown } else { 0 };
            (shown < u64::from(self.request.per_second)).then_some(now << 32 | (shown + 1))
        };
        self.shown.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    /// Passes a message on, if there is room for it.
    fn send(&self, tapped: Tapped) -> bool {
        let bytes = tapped.json.len();
        if self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel) <= WAITING_BYTES_MAX
            && self.sender.try_send(tapped).is_ok()
        {
            return true;
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
        false
    }
}

/// The lower half of a 64-bit word has room for what is shown in a second, the
/// upper one for the seconds of 68 years.
fn parts(word: u64) -> (u64, u64) {
    (word >> 32, word & u64::from(u32::MAX))
}

fn second_of(mono_us: u64) -> u64 {
    (mono_us / 1_000_000) & u64::from(u32::MAX)
}
