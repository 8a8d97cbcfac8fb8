//! Asking for memory before it is written.
//!
//! A slab that comes back from another core has its lines in that core's cache.
//! The processor begins to fetch a line when the first store to it waits, and
//! its prefetcher follows loads better than stores; asked for by name, the
//! lines are there in time. Across two cores this is worth a fifth of the rate
//! (`ringmain-bench run ring`); on one core, where the lines are at hand, two
//! or three instructions per row.

/// How far ahead of a row's first byte: what two cores need 0.2 us for to pass
/// on, at 100 million rows of 100 B a second. Between 1 and 3 KiB it makes no
/// difference.
pub(crate) const AHEAD_BYTES: usize = 1536;

/// As [`AHEAD_BYTES`], of the index, which grows by 4 B with each row.
pub(crate) const AHEAD_INDEX_BYTES: usize = 256;

pub(crate) const LINE_BYTES: usize = 64;

/// Asks for the cache line in which `place` begins, to write to it soon. A hint
/// that changes nothing but time.
#[inline]
pub fn fetch_to_write<T>(place: &T) {
    fetch_line(std::ptr::from_ref(place).cast());
}

/// Asks for the line of `byte`, to write to it. Any address will do, and nothing
/// is read.
#[inline]
#[allow(unused_variables, reason = "processors without such an instruction")]
pub(crate) fn fetch_line(byte: *const u8) {
    // `_mm_prefetch` asks for a line to read unless the whole build names the
    // processor's feature; the instruction itself does nothing where it is
    // not known.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it faults at no address and changes neither memory nor registers.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) byte, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) byte, options(nostack, preserves_flags, readonly));
    }
}
