//! Unpacking gzip, a bounded piece at a time.

use flate2::{Decompress, FlushDecompress, Status};

/// What unpacking one body may take: its window and its tables.
pub(crate) const GUNZIP_BYTES: usize = 56 << 10;
const WINDOW_BITS: u8 = 15;

/// One packed body. Members that follow each other are one text.
pub(crate) struct Gunzip {
    member: Decompress,
    /// The last member has ended, and nothing has followed.
    ended: bool,
}

impl Gunzip {
    pub(crate) fn new() -> Self {
        Self { member: Decompress::new_gzip(WINDOW_BITS), ended: false }
    }

    /// Unpacks bytes of `input` until they are used up or `limit` bytes more
    /// are in `out`; returns how many it used.
    ///
    /// # Errors
    /// When it is not gzip.
    pub(crate) fn next(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<usize, &'static str> {
        let (start, mut used) = (out.len(), 0);
        while out.len() - start < limit {
            if self.ended {
                if used == input.len() {
                    break;
                }
                *self = Self::new();
            }
            out.reserve((limit - (out.len() - start)).min(64 << 10));
            let (before_in, before_out) = (self.member.total_in(), out.len());
            let status = self
                .member
                .decompress_vec(&input[used..], out, FlushDecompress::None)
                .map_err(|_| "the body is not gzip, or damaged")?;
            // No more than was given.
            let taken = (self.member.total_in() - before_in) as usize;
            used += taken;
            self.ended = status == Status::StreamEnd;
            if taken == 0 && out.len() == before_out && !self.ended {
                break;
            }
        }
        Ok(used)
    }

    /// Everything that was packed has come out.
    pub(crate) fn is_done(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    pub(crate) fn pack(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(packed: &[u8], piece: usize, limit: usize) -> Result<(Vec<u8>, bool), &'static str> {
        let (mut gunzip, mut out) = (Gunzip::new(), Vec::new());
        for chunk in packed.chunks(piece) {
            let mut from = 0;
            loop {
                let before = out.len();
                let used = gunzip.next(&chunk[from..], &mut out, limit)?;
                from += used;
                if from == chunk.len() && out.len() - before < limit {
                    break;
                }
            }
        }
        Ok((out, gunzip.is_done()))
    }

    #[test]
    fn a_text_comes_out_whole_in_pieces_of_any_size() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| (n % 7_919).to_le_bytes()).collect();
        let packed = [pack(&text), pack(b"and more")].concat();
        for (piece, limit) in [(1, 1 << 20), (1_000, 100), (usize::MAX, 1), (usize::MAX, 1 << 30)] {
            if limit == 1 && text.len() > 10_000 {
                let small = pack(&text[..10_000]);
                assert_eq!(unpack(&small, piece, limit).unwrap(), (text[..10_000].to_vec(), true));
                continue;
            }
            let expected = [&text[..], b"and more"].concat();
            assert!(unpack(&packed, piece, limit).unwrap() == (expected, true), "{piece} {limit}");
        }
    }

    #[test]
    fn damage_and_a_missing_end_are_noticed() {
        let packed = pack(b"hello hello hello");
        assert!(unpack(b"hello", 1, 100).is_err());
        let mut damaged = packed.clone();
        let at = damaged.len() - 6;
        damaged[at] ^= 1;
        assert!(unpack(&damaged, 1, 100).is_err());
        assert!(!unpack(&packed[..packed.len() - 1], 1, 100).unwrap().1);
    }

    #[test]
    fn a_bomb_comes_out_no_faster_than_it_is_taken() {
        let packed = pack(&vec![0; 50 << 20]);
        let (mut gunzip, mut out) = (Gunzip::new(), Vec::new());
        let used = gunzip.next(&packed, &mut out, 1 << 20).unwrap();
        assert!(used < packed.len() && out.len() <= (1 << 20) + (64 << 10), "{}", out.len());
    }
}
