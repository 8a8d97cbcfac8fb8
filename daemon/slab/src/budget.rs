//! The bytes that slabs may grow beyond their standard size.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bound in bytes that the slabs of one daemon share. Standard slabs are
/// counted when pools are built; only growth is charged here, so that one
/// message of many megabytes needs no pool of slabs as large as it.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

impl Budget {
    /// A budget of `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self { inner: Arc::new(Inner { limit_bytes, used_bytes: AtomicU64::new(0) }) }
    }

    /// Bytes that are charged now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.inner.used_bytes.load(Ordering::Relaxed)
    }

    /// The bound.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.inner.limit_bytes
    }

    /// Takes `bytes` for pools that are built while others run; false when
    /// there are not as many. They are not given back.
    #[must_use]
    pub fn reserve(&self, bytes: u64) -> bool {
        self.charge(bytes)
    }

    /// Takes `bytes` if they are to be had.
    pub(crate) fn charge(&self, bytes: u64) -> bool {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.inner.limit_bytes);
        self.inner.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    pub(crate) fn refund(&self, bytes: u64) {
        let before = self.inner.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "a slab gave back more than it was charged");
    }
}
