//! The one place where atomics come from: std, or loom under `cfg(loom)`.
//!
//! Also the one place that names the orderings which carry a proof. In a
//! product build each is a constant. Under loom and Miri, and only there, one
//! of them can be broken on purpose by the environment variable
//! `RINGMAIN_SEEDED`, so that `check.sh` can show that the checkers would
//! notice: a proof that cannot fail proves nothing.
//!
//! Deliberately absent: `SeqCst` operations. The only sequentially consistent
//! thing is the doorbell's fence.

#[cfg(loom)]
pub use loom::{
    cell::UnsafeCell,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(not(loom))]
pub use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
};

/// An `Arc` that loom does not watch: for trait objects, which loom's own
/// cannot hold, and for nothing that a proof depends on.
pub use std::sync::Arc as UnwatchedArc;

#[cfg(not(loom))]
pub use plain::UnsafeCell;

#[cfg(not(loom))]
mod plain {
    /// `std::cell::UnsafeCell` with loom's closure interface.
    #[repr(transparent)]
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        /// Wraps a value.
        pub const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Hands out the pointer for reading.
        #[inline(always)]
        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get().cast_const())
        }

        /// Hands out the pointer for writing.
        #[inline(always)]
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

/// Keeps its content away from its neighbours' cache lines. 128 bytes, because
/// x86 prefetches lines in pairs (421 against 198 M items/s without).
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// The orderings and the fence that the proofs rest on.
pub(crate) mod order {
    use super::{Ordering, fence};

    /// Producer's index: everything written to the slots before it is seen by
    /// whoever sees the index.
    #[inline(always)]
    pub(crate) fn publish() -> Ordering {
        release_unless("publish")
    }

    /// Consumer's index: the slots have been read out before they are reused.
    #[inline(always)]
    pub(crate) fn retire() -> Ordering {
        release_unless("retire")
    }

    /// Closing: whoever sees it sees the last index of the closed side.
    #[inline(always)]
    pub(crate) fn close() -> Ordering {
        release_unless("close")
    }

    /// Acks: whoever sees the number sees what was done to earn it.
    #[inline(always)]
    pub(crate) fn ack() -> Ordering {
        release_unless("ack")
    }

    /// Doorbell: between "I changed something" and "does the other one sleep?".
    #[inline(always)]
    pub(crate) fn bell_fence() {
        if !seeded("bell") {
            fence(Ordering::SeqCst);
        }
    }

    #[inline(always)]
    fn release_unless(seed: &str) -> Ordering {
        if seeded(seed) { Ordering::Relaxed } else { Ordering::Release }
    }

    #[cfg(not(any(loom, miri)))]
    #[inline(always)]
    fn seeded(_: &str) -> bool {
        false
    }

    #[cfg(any(loom, miri))]
    fn seeded(seed: &str) -> bool {
        static SEED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        SEED.get_or_init(|| std::env::var("RINGMAIN_SEEDED").unwrap_or_default()) == seed
    }
}
