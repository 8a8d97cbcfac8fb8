//! The bytes of a segment: a head, then frames. Pure functions; no files.
//!
//! ```text
//! head   magic, version, length, id, end of the segment before, time,
//!        owner (flow/sink/shard), field names, their order, checksum
//! frame  mark, length, rows, checksum, then the images of the rows
//! ```
//!
//! A row's image is what it is in a slab (`ringmain_slab`): rkyv `Portable`
//! types, checked again when they are read ([`Slab::push_checked`]). Its slots
//! are numbers of a schema that ends with the process, hence the names in the
//! head. All numbers are little-endian.
//!
//! The checksum is CRC-32 (crc32fast): what it is for is torn and rotten
//! bytes, and it finds every error of up to 32 bits in a row for certain,
//! where a hash finds it almost certainly. It begins with the segment's id and
//! the frame's place, so that a frame is good only where it was written.

use ringmain_base::limits::{FIELD_NAME_BYTES_MAX, SLAB_BYTES_MAX, SLOTS_MAX};
use ringmain_slab::{HEADER_BYTES, RowRef, SCATTERED, Schema, Slab};

const MAGIC: &[u8; 8] = b"RMSPILL\n";
const VERSION: u32 = 1;
/// Magic, version, length, id, end of the one before, time.
const HEAD_FIXED_BYTES: usize = 8 + 4 + 4 + 8 + 8 + 8;
const HEAD_BYTES_MAX: usize = 256 << 10;
const _: () = assert!(SLOTS_MAX as usize * (FIELD_NAME_BYTES_MAX + 4) < HEAD_BYTES_MAX / 2);

const MARK: u32 = 0x5a7f_3c01;
/// Mark, length, rows, checksum.
pub(super) const FRAME_HEAD_BYTES: usize = 16;
/// The payload of a frame is that of a slab at most.
const PAYLOAD_BYTES_MAX: usize = SLAB_BYTES_MAX as usize;

/// Nothing comes before this segment.
pub(super) const NO_END: u64 = u64::MAX;

/// What stands before the frames of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// One more than that of the segment before.
    pub id: u64,
    /// Bytes of frames in the segment before, or [`NO_END`].
    pub previous_end: u64,
    pub created_us: i64,
    /// Whose messages these are.
    pub owner: String,
    /// Field names by slot.
    pub names: Vec<String>,
    /// Slots in the order in which people expect to see the fields.
    pub order: Vec<u16>,
}

/// Why bytes are not a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    /// Fewer bytes than a head has.
    Short,
    /// No segment at all.
    Foreign,
    /// Of another version of this program.
    Version(u32),
    /// The checksum says that bytes have changed.
    Damaged,
}

impl Head {
    pub(super) fn of(id: u64, previous_end: u64, created_us: i64, owner: &str, s: &Schema) -> Self {
        Self {
            id,
            previous_end,
            created_us,
            owner: owner.to_owned(),
            names: s.names().iter().map(|name| name.to_string()).collect(),
            order: s.in_order(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        out.extend_from_slice(&self.created_us.to_le_bytes());
        put_text(&mut out, &self.owner);
        out.extend_from_slice(&(self.names.len() as u16).to_le_bytes());
        self.names.iter().for_each(|name| put_text(&mut out, name));
        out.extend_from_slice(&(self.order.len() as u16).to_le_bytes());
        self.order.iter().for_each(|slot| out.extend_from_slice(&slot.to_le_bytes()));
        let len = (out.len() + 4) as u32;
        out[12..16].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The head at the beginning of `bytes`, and its length.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, usize), BadHead> {
        let Some(fixed) = bytes.get(..HEAD_FIXED_BYTES) else {
            let same = bytes.len().min(MAGIC.len());
            let ours = bytes[..same] == MAGIC[..same];
            return Err(if ours { BadHead::Short } else { BadHead::Foreign });
        };
        if fixed[..8] != *MAGIC {
            return Err(BadHead::Foreign);
        }
        let version = u32_at(fixed, 8);
        if version != VERSION {
            return Err(BadHead::Version(version));
        }
        let len = u32_at(fixed, 12) as usize;
        if !(HEAD_FIXED_BYTES + 4..=HEAD_BYTES_MAX).contains(&len) {
            return Err(BadHead::Damaged);
        }
        let head = bytes.get(..len).ok_or(BadHead::Short)?;
        if crc32fast::hash(&head[..len - 4]) != u32_at(head, len - 4) {
            return Err(BadHead::Damaged);
        }
        let mut rest = &head[HEAD_FIXED_BYTES..len - 4];
        let decoded = Self {
            id: u64_at(fixed, 16),
            previous_end: u64_at(fixed, 24),
            created_us: u64_at(fixed, 32).cast_signed(),
            owner: take_text(&mut rest).ok_or(BadHead::Damaged)?,
            names: take_list(&mut rest, take_text).ok_or(BadHead::Damaged)?,
            order: take_list(&mut rest, take_u16).ok_or(BadHead::Damaged)?,
        };
        let slots = decoded.names.len();
        let sound = slots <= usize::from(SLOTS_MAX)
            && decoded.order.iter().all(|slot| usize::from(*slot) < slots);
        if sound { Ok((decoded, len)) } else { Err(BadHead::Damaged) }
    }
}

/// Appends a frame of the rows `from..to` of a slab, without its checksum
/// ([`seal`]). `gather` is for rows that an edit has scattered; one for which
/// there is no memory to gather it in is left out and given to `lost`. Returns
/// how many slots the widest of them has.
pub(super) fn append(
    out: &mut Vec<u8>,
    slab: &Slab,
    rows: std::ops::Range<usize>,
    gather: &mut Slab,
    lost: &mut dyn FnMut(RowRef<'_>),
) -> u16 {
    let start = out.len();
    out.extend_from_slice(&MARK.to_le_bytes());
    out.extend_from_slice(&[0; FRAME_HEAD_BYTES - 4]);
    let (mut slots, mut count) = (0, 0_u32);
    for at in rows {
        let row = slab.row(at);
        let whole = row.header().flags.to_native() & SCATTERED == 0;
        if whole {
            out.extend_from_slice(row.image());
        } else if !gathered(row, gather, out) {
            lost(row);
            continue;
        }
        slots = slots.max(row.slots());
        count += 1;
    }
    let len = (out.len() - start - FRAME_HEAD_BYTES) as u32;
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&count.to_le_bytes());
    slots
}

/// A row that is edited lies in pieces; a copy in another slab does not.
fn gathered(row: RowRef<'_>, gather: &mut Slab, out: &mut Vec<u8>) -> bool {
    gather.clear();
    let copied = gather.push_copy(row).or_else(|_| {
        gather.reserve(row.image_bound())?;
        gather.push_copy(row)
    });
    if copied.is_ok() {
        out.extend_from_slice(gather.row(0).image());
    }
    gather.clear();
    copied.is_ok()
}

/// Writes the checksums of all frames in `bytes`, which are about to be
/// written to `place` (bytes of frames before them) of segment `id`.
pub(super) fn seal(bytes: &mut [u8], id: u64, mut place: u64) {
    let mut rest = bytes;
    while rest.len() >= FRAME_HEAD_BYTES {
        let end = (FRAME_HEAD_BYTES + u32_at(rest, 4) as usize).min(rest.len());
        let (frame, after) = std::mem::take(&mut rest).split_at_mut(end);
        let crc = checksum(frame, id, place);
        frame[12..16].copy_from_slice(&crc.to_le_bytes());
        place += end as u64;
        rest = after;
    }
}

fn checksum(frame: &[u8], id: u64, place: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&id.to_le_bytes());
    crc.update(&place.to_le_bytes());
    crc.update(&frame[..12]);
    crc.update(&frame[FRAME_HEAD_BYTES..]);
    crc.finalize()
}

/// A frame that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes, its head included.
    pub len: usize,
    pub rows: u32,
}

/// What stands at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A good frame, whole.
    Frame(Frame),
    /// What may be a frame, of so many bytes at least.
    More(usize),
    /// No frame.
    Bad,
}

/// The frame at `place` of segment `id`, as far as `bytes` go.
pub(super) fn find(bytes: &[u8], id: u64, place: u64) -> Found {
    let Some(head) = bytes.get(..FRAME_HEAD_BYTES) else { return Found::More(FRAME_HEAD_BYTES) };
    let (len, rows) = (u32_at(head, 4) as usize, u32_at(head, 8));
    // Every row has a header, so a head that is rotten is mostly found here.
    let sound = u32_at(head, 0) == MARK
        && len <= PAYLOAD_BYTES_MAX
        && (rows as usize).saturating_mul(HEADER_BYTES) <= len;
    if !sound {
        return Found::Bad;
    }
    let len = FRAME_HEAD_BYTES + len;
    let Some(frame) = bytes.get(..len) else { return Found::More(len) };
    match checksum(frame, id, place) == u32_at(head, 12) {
        true => Found::Frame(Frame { len, rows }),
        false => Found::Bad,
    }
}

/// The image of the next row of a payload.
pub(super) fn next_row(payload: &[u8]) -> Option<&[u8]> {
    let len = payload.get(..4).map(|_| u32_at(payload, 0) as usize)?;
    payload.get(..len).filter(|row| row.len() >= HEADER_BYTES)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    *bytes = rest;
    Some(u16::from_le_bytes(*number))
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let len = usize::from(take_u16(bytes)?);
    let (text, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn take_list<T>(bytes: &mut &[u8], take: fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = take_u16(bytes)?;
    (0..count).map(|_| take(bytes)).collect()
}
