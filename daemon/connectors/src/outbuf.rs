//! Encoded bytes on their way out.
//!
//! A sink encodes into one buffer while others are being written. A buffer
//! holds whole frames and remembers the slab that its first row came from:
//! the oldest slab of all the buffers that are not accepted is the first that
//! is not finished, so nothing is counted per row.
//!
//! Bound: rows are taken while fewer than `limit_bytes` are encoded and not
//! accepted, so at most one row more than that is held. Memory is that, plus
//! what the buffers that are being filled and the spare ones have reserved:
//! one chunk for each.

/// Largest size of a buffer; writes of this size cost little per byte.
pub(crate) const CHUNK_BYTES_MAX: usize = 256 << 10;
const CHUNK_BYTES_MIN: usize = 4 << 10;
/// Room behind a chunk for the row that crosses its end.
const SLACK_BYTES: usize = 4 << 10;
/// Empty buffers kept for the next use.
const SPARE_MAX: usize = 8;
/// The slab of bytes that no row made: a header.
pub(crate) const NO_SLAB: u64 = u64::MAX;

/// Whole frames.
#[derive(Debug)]
pub(crate) struct Buf {
    pub(crate) bytes: Vec<u8>,
    /// The slab of its first row, or [`NO_SLAB`].
    pub(crate) first_slab: u64,
}

/// The memory of one sink's buffers, and its count of slabs.
#[derive(Debug)]
pub(crate) struct Room {
    limit_bytes: usize,
    chunk_bytes: usize,
    used_bytes: usize,
    spare: Vec<Vec<u8>>,
    slabs_ended: u64,
}

impl Room {
    /// Room for `limit_bytes`, in chunks of at most `chunk_bytes_max`.
    pub(crate) fn new(limit_bytes: u64, chunk_bytes_max: usize) -> Self {
        let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX).max(1);
        let chunk_bytes = (limit_bytes / 4).clamp(CHUNK_BYTES_MIN, chunk_bytes_max);
        Self { limit_bytes, chunk_bytes, used_bytes: 0, spare: Vec::new(), slabs_ended: 0 }
    }

    pub(crate) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Another row may be taken.
    pub(crate) fn is_open(&self) -> bool {
        self.used_bytes < self.limit_bytes
    }

    /// An empty buffer for rows of the slab at hand.
    pub(crate) fn take(&mut self) -> Buf {
        let new = || Vec::with_capacity(self.chunk_bytes + SLACK_BYTES);
        let bytes = self.spare.pop().unwrap_or_else(new);
        Buf { bytes, first_slab: self.slabs_ended }
    }

    /// An empty buffer that begins small, for one of many files.
    pub(crate) fn take_small(&mut self) -> Buf {
        Buf { bytes: self.spare.pop().unwrap_or_default(), first_slab: self.slabs_ended }
    }

    /// So many bytes were encoded.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.used_bytes += bytes;
    }

    /// So many bytes are accepted, of a buffer that stays.
    pub(crate) fn sub(&mut self, bytes: usize) {
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
    }

    /// A buffer is done with: its bytes are accepted.
    pub(crate) fn give_back(&mut self, mut bytes: Vec<u8>) {
        self.used_bytes = self.used_bytes.saturating_sub(bytes.len());
        let usual = bytes.capacity() <= 2 * (self.chunk_bytes + SLACK_BYTES);
        if usual && self.spare.len() < SPARE_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// The slab that rows come from now.
    pub(crate) fn slab(&self) -> u64 {
        self.slabs_ended
    }

    pub(crate) fn slab_end(&mut self) {
        self.slabs_ended += 1;
    }

    /// So many slabs of another sink come before the first.
    pub(crate) fn go_on(&mut self, slabs: u64) {
        debug_assert_eq!(self.slabs_ended, 0, "nothing was given to it");
        self.slabs_ended = slabs;
    }

    /// Slabs that are finished when `oldest` is the first that is not.
    pub(crate) fn finished(&self, oldest: Option<u64>) -> u64 {
        oldest.unwrap_or(NO_SLAB).min(self.slabs_ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_up_to_the_limit_and_again_when_bytes_are_accepted() {
        let mut room = Room::new(10_000, CHUNK_BYTES_MAX);
        let mut buf = room.take();
        buf.bytes.resize(10_000, 0);
        room.add(10_000);
        assert!(!room.is_open());
        room.give_back(buf.bytes);
        assert!(room.is_open());
        assert!(room.take().bytes.is_empty());
    }

    #[test]
    fn slabs_are_finished_up_to_the_oldest_buffer() {
        let mut room = Room::new(1 << 20, CHUNK_BYTES_MAX);
        room.slab_end();
        let first = room.take();
        room.slab_end();
        room.slab_end();
        assert_eq!(room.finished(Some(first.first_slab)), 1);
        assert_eq!(room.finished(None), 3);
        assert_eq!(room.finished(Some(NO_SLAB)), 3);
    }

    #[test]
    fn chunks_fit_small_limits() {
        assert_eq!(Room::new(4 << 10, CHUNK_BYTES_MAX).chunk_bytes(), 4 << 10);
        assert_eq!(Room::new(1 << 20, CHUNK_BYTES_MAX).chunk_bytes(), 256 << 10);
        assert_eq!(Room::new(1 << 20, 64 << 10).chunk_bytes(), 64 << 10);
    }
}
