//! Waking a side that sleeps, and only then.
//!
//! Owns one flag per sleeper: armed means "I am about to park, wake me". The
//! sleeper arms, **looks at its rings once more**, and parks if they are still
//! empty. The other side publishes, then rings. Both have a sequentially
//! consistent fence between their store and their load:
//!
//! ```text
//! sleeper: armed = true;  fence;  look at the rings
//! ringer:  publish;       fence;  look at armed
//! ```
//!
//! so at least one of them sees the other's store: either the sleeper finds the
//! item, or the ringer finds the bell armed. An armed bell wakes once; the next
//! wake needs a new `arm`. Spurious wakes are possible, lost ones are not.
//!
//! Deliberately absent: what waking is (an eventfd, an unpark, a test's
//! counter: the [`Wake`] knows), and any system call while nobody sleeps.

use crate::sync::{Arc, AtomicBool, Ordering, Padded, UnwatchedArc, order};

/// How a sleeper is woken.
pub trait Wake: Send + Sync {
    /// Wakes the sleeper. A wake that comes before it parks must not be lost:
    /// parking must then return at once, as with an eventfd or `unpark`.
    fn wake(&self);
}

struct Bell {
    armed: Padded<AtomicBool>,
    wake: UnwatchedArc<dyn Wake>,
}

/// A handle to one sleeper's bell. The sleeper and all its ringers hold clones.
#[derive(Clone)]
pub struct Doorbell {
    bell: Option<Arc<Bell>>,
}

impl Doorbell {
    /// A bell, not armed.
    #[must_use]
    pub fn new(wake: UnwatchedArc<dyn Wake>) -> Self {
        let armed = Padded(AtomicBool::new(false));
        Self { bell: Some(Arc::new(Bell { armed, wake })) }
    }

    /// A bell that nobody hears: for an edge whose ends live on one shard, or
    /// for a side that polls and never parks.
    #[must_use]
    pub fn silent() -> Self {
        Self { bell: None }
    }

    /// Announces that the sleeper is about to park. It must look at everything
    /// that it waits for once more before it does.
    pub fn arm(&self) {
        if let Some(bell) = &self.bell {
            // A swap, although a store would do: loom orders stores to one place
            // only by what happens before what, and would let a ringer read its
            // own older swap.
            bell.armed.0.swap(true, Ordering::AcqRel);
            order::bell_fence();
        }
    }

    /// Takes the announcement back: the second look found something, or the
    /// sleeper woke for another reason. A wake may already be under way.
    pub fn disarm(&self) {
        if let Some(bell) = &self.bell {
            bell.armed.0.store(false, Ordering::Relaxed);
        }
    }

    /// Wakes the sleeper if it sleeps or is about to. Call it after publishing.
    #[inline]
    pub fn ring(&self) {
        let Some(bell) = &self.bell else { return };
        order::bell_fence();
        // The load first: the swap would take the line away from the others.
        if bell.armed.0.load(Ordering::Relaxed) && bell.armed.0.swap(false, Ordering::AcqRel) {
            bell.wake.wake();
        }
    }
}
