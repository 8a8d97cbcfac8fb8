//! How far the messages on disk have been accepted, in a file of two slots
//! that are written in turn: a torn one leaves the other.

use super::format::{u32_at, u64_at};

const MAGIC: &[u8; 8] = b"RMSPOS\n\x01";
/// Where a slot begins: each has a block of its own.
const SLOT_BYTES: usize = 4096;
const RECORD_BYTES: usize = 8 + 5 * 8 + 4;
/// Length of the file.
pub(super) const FILE_BYTES: usize = 2 * SLOT_BYTES;

/// A place in a segment: its id, and bytes of frames before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub segment: u64,
    pub bytes: u64,
}

/// What is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Rises with every record.
    pub number: u64,
    /// Everything before has been accepted by the sink.
    pub accepted: Place,
    /// Everything before is on stable storage: what is not good there has
    /// gone bad, and was not torn.
    pub durable: Place,
}

impl Mark {
    /// Where in the file it goes, and its bytes.
    pub(super) fn encode(&self) -> (u64, Vec<u8>) {
        let mut out = Vec::with_capacity(RECORD_BYTES);
        out.extend_from_slice(MAGIC);
        let (accepted, durable) = (self.accepted, self.durable);
        let numbers =
            [self.number, accepted.segment, accepted.bytes, durable.segment, durable.bytes];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        ((self.number % 2) * SLOT_BYTES as u64, out)
    }

    /// The newest good record. `None` when there is none in a file that is
    /// not one of these.
    pub(super) fn decode(file: &[u8]) -> Option<Self> {
        let slots = [file.get(..SLOT_BYTES), file.get(SLOT_BYTES..FILE_BYTES)];
        let records = slots.into_iter().flatten().filter_map(record);
        let newest = records.max_by_key(|mark| mark.number);
        let blank = file.iter().all(|byte| *byte == 0);
        newest.or_else(|| blank.then(Self::default))
    }
}

fn record(slot: &[u8]) -> Option<Mark> {
    let record = slot.get(..RECORD_BYTES)?;
    let (body, crc) = record.split_at(RECORD_BYTES - 4);
    if body[..8] != *MAGIC || crc32fast::hash(body) != u32_at(crc, 0) {
        return None;
    }
    let number = |at: usize| u64_at(body, 8 + at * 8);
    Some(Mark {
        number: number(0),
        accepted: Place { segment: number(1), bytes: number(2) },
        durable: Place { segment: number(3), bytes: number(4) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &mut [u8], mark: &Mark) {
        let (at, bytes) = mark.encode();
        let at = at as usize;
        file[at..at + bytes.len()].copy_from_slice(&bytes);
    }

    fn mark(number: u64) -> Mark {
        let place = |n| Place { segment: n, bytes: 10 * n };
        Mark { number, accepted: place(number), durable: place(number + 1) }
    }

    #[test]
    fn the_newest_record_counts_and_a_damaged_one_leaves_the_one_before() {
        let mut file = vec![0; FILE_BYTES];
        assert_eq!(Mark::decode(&file), Some(Mark::default()));
        for number in 1..10 {
            write(&mut file, &mark(number));
            assert_eq!(Mark::decode(&file), Some(mark(number)));
            let (at, bytes) = mark(number).encode();
            for byte in 0..bytes.len() {
                let mut torn = file.clone();
                torn[at as usize + byte] ^= 0x40;
                let before = (number > 1).then(|| mark(number - 1));
                assert_eq!(Mark::decode(&torn), before, "byte {byte} of record {number}");
            }
        }
    }

    #[test]
    fn what_is_no_such_file_is_not_read_as_one() {
        assert_eq!(Mark::decode(b"something else"), None);
        assert_eq!(Mark::decode(b""), Some(Mark::default()));
    }
}
