//! Memory of a buffer group: one mapping, cut into equal buffers.
//!
//! Invariants: buffers never move and never overlap; the mapping lives until
//! the area is dropped. Who may write a buffer (the kernel, or nobody while it
//! is on loan) is the business of the group that owns the area, which is why
//! buffers are reached by pointer, and borrowed only through [`Area::bytes`].

use std::io;
use std::ptr::NonNull;

/// Bytes in front of or behind the payload that the kernel may need for its
/// own header, a sender's address and control data of a datagram.
pub(crate) const HEADROOM_BYTES: usize = 128;

const _: () =
    assert!(HEADROOM_BYTES >= 16 + super::datagrams::NAME_BYTES + super::datagrams::CONTROL_BYTES);

#[derive(Debug)]
pub(crate) struct Area {
    base: NonNull<u8>,
    mapped_bytes: usize,
    stride: usize,
    count: usize,
}

// SAFETY: the area owns its mapping; nothing in it is tied to a thread.
unsafe impl Send for Area {}

impl Area {
    pub(crate) fn new(count: usize, bytes: usize) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        if count == 0 || bytes == 0 {
            return Err(invalid());
        }
        let stride = stride(bytes).ok_or_else(invalid)?;
        let mapped_bytes = stride.checked_mul(count).ok_or_else(invalid)?;
        let base = map(mapped_bytes)?;
        Ok(Self { base, mapped_bytes, stride, count })
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Start of a buffer of `stride` bytes.
    pub(crate) fn buffer(&self, index: u16) -> NonNull<u8> {
        assert!(usize::from(index) < self.count, "buffer {index} of {}", self.count);
        // SAFETY: index < count, so the offset is within the mapping.
        unsafe { self.base.add(usize::from(index) * self.stride) }
    }

    /// Borrows part of a buffer that is on loan.
    ///
    /// # Safety
    /// Nobody writes to this buffer while the borrow lasts.
    pub(crate) unsafe fn bytes(&self, index: u16, offset: usize, len: usize) -> &[u8] {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.stride));
        // SAFETY: within one buffer of the mapping, which is initialised
        // (anonymous memory is zero) and not written, as the caller vouches.
        unsafe { std::slice::from_raw_parts(self.buffer(index).as_ptr().add(offset), len) }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: base and mapped_bytes are what mmap returned; the owner has
        // made sure that no borrow and no kernel operation is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
    }
}

/// What a group of `count` buffers of `bytes` takes of the address space; for
/// the sum of all pools.
#[must_use]
pub fn group_bytes(count: u16, bytes: u32) -> u64 {
    stride(bytes as usize).map_or(u64::MAX, |stride| stride as u64 * u64::from(count))
}

fn stride(bytes: usize) -> Option<usize> {
    bytes.checked_add(HEADROOM_BYTES)?.checked_next_multiple_of(64)
}

/// Maps zeroed, page-aligned, private memory.
pub(crate) fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh anonymous mapping touches no memory that exists.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_do_not_overlap_and_are_aligned() {
        let area = Area::new(4, 100).unwrap();
        assert_eq!(area.stride(), 256);
        for index in 0..4 {
            assert_eq!(area.buffer(index).as_ptr() as usize % 64, 0);
            // SAFETY: nothing else writes to this area, and index < count.
            unsafe { area.buffer(index).as_ptr().write_bytes(index as u8 + 1, area.stride()) };
        }
        for index in 0..4 {
            // SAFETY: nobody writes any more.
            let bytes = unsafe { area.bytes(index, 0, 256) };
            assert!(bytes.iter().all(|b| *b == index as u8 + 1));
        }
        assert_eq!(group_bytes(4, 100), 1024);
    }

    #[test]
    #[should_panic(expected = "buffer 2 of 2")]
    fn a_buffer_that_is_not_there_is_refused() {
        Area::new(2, 64).unwrap().buffer(2);
    }
}
