//! Validation of rows that come from outside the process: the bridge, disk
//! segments. Inside, rows are never checked again.

use std::fmt;
use std::str;

use ringmain_base::limits::{DEPTH_MAX, SLOTS_MAX};
use rkyv::Portable;
use rkyv::api::high::{HighValidator, access_pos};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;

use crate::layout::{HEADER_BYTES, RowHeader, SCATTERED, SLOT_BYTES, Slot, align8, tag};

/// Why bytes are not a row. The sender's fault, except for [`Malformed::NoRoom`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The slab has no room; try another or reserve.
    NoRoom,
    /// The header does not fit the bytes.
    Header,
    /// A slot has an unknown tag or bytes that must be zero.
    Slot,
    /// A value lies outside the row.
    Bounds,
    /// Text is not UTF-8, or a number is not one.
    Text,
    /// A tree is nested too deep, or refers to itself.
    Tree,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoom => "no room in the slab",
            Self::Header => "the row's header does not fit its bytes",
            Self::Slot => "a slot has an unknown kind of value",
            Self::Bounds => "a value lies outside its row",
            Self::Text => "text is not UTF-8, or a number is malformed",
            Self::Tree => "a nested value is too deep or refers to itself",
        })
    }
}

impl std::error::Error for Malformed {}

/// Checks that `bytes`, aligned to 8, are exactly one contiguous row.
pub(crate) fn row(bytes: &[u8]) -> Result<(), Malformed> {
    let header: &RowHeader = access(bytes, 0).ok_or(Malformed::Header)?;
    let slots = usize::from(header.slots.to_native());
    let fixed = HEADER_BYTES + slots * SLOT_BYTES;
    let sound = header.len.to_native() as usize == bytes.len()
        && bytes.len() == align8(bytes.len())
        && slots <= usize::from(SLOTS_MAX) + 1
        && header.version.to_native() <= SLOTS_MAX
        && fixed <= bytes.len()
        && header.flags.to_native() & SCATTERED == 0;
    if !sound {
        return Err(Malformed::Header);
    }
    // In an honest row no two values share a byte, so what they take together
    // is bounded. Sharing and cycles run out of it, and so does whoever would
    // have the same text checked a million times.
    let mut check = Check { bytes, fixed, left: bytes.len() - fixed };
    for at in 0..slots {
        check.slot(HEADER_BYTES + at * SLOT_BYTES, 0)?;
    }
    check.rest(slots)
}

fn access<T>(bytes: &[u8], at: usize) -> Option<&T>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, Failure>>,
{
    access_pos::<T, Failure>(bytes, at).ok()
}

struct Check<'a> {
    bytes: &'a [u8],
    fixed: usize,
    left: usize,
}

impl<'a> Check<'a> {
    fn slot(&mut self, at: usize, depth: usize) -> Result<&'a Slot, Malformed> {
        let slot: &'a Slot = access(self.bytes, at).ok_or(Malformed::Bounds)?;
        if slot.tag > tag::LAST || slot.reserved != [0; 3] {
            return Err(Malformed::Slot);
        }
        match slot.tag {
            tag::BOOL if slot.payload.to_native() > 1 => Err(Malformed::Slot),
            tag::STR => str::from_utf8(self.span(slot)?).map_err(|_| Malformed::Text).map(|_| ()),
            tag::NUMBER if !is_number(self.span(slot)?) => Err(Malformed::Text),
            tag::BYTES => self.span(slot).map(|_| ()),
            tag::LIST | tag::MAP => self.tree(slot, depth),
            _ => Ok(()),
        }?;
        Ok(slot)
    }

    fn span(&mut self, slot: &Slot) -> Result<&'a [u8], Malformed> {
        let start = slot.offset();
        let end = start.checked_add(slot.len()).ok_or(Malformed::Bounds)?;
        if start < self.fixed {
            return Err(Malformed::Bounds);
        }
        self.left = self.left.checked_sub(slot.len()).ok_or(Malformed::Bounds)?;
        self.bytes.get(start..end).ok_or(Malformed::Bounds)
    }

    fn tree(&mut self, slot: &Slot, depth: usize) -> Result<(), Malformed> {
        if depth >= DEPTH_MAX {
            return Err(Malformed::Tree);
        }
        let map = slot.tag == tag::MAP;
        let count = slot.len() * if map { 2 } else { 1 };
        let end = slot.offset().checked_add(count * SLOT_BYTES).ok_or(Malformed::Bounds)?;
        if slot.offset() < self.fixed || end > self.bytes.len() || !slot.offset().is_multiple_of(8)
        {
            return Err(Malformed::Bounds);
        }
        self.left = self.left.checked_sub(count * SLOT_BYTES).ok_or(Malformed::Tree)?;
        for at in 0..count {
            let node = self.slot(slot.offset() + at * SLOT_BYTES, depth + 1)?;
            if map && at % 2 == 0 && node.tag != tag::STR {
                return Err(Malformed::Slot);
            }
            if node.tag == tag::ABSENT {
                return Err(Malformed::Slot);
            }
        }
        Ok(())
    }

    /// The slot beyond the limit holds a map or nothing.
    fn rest(&mut self, slots: usize) -> Result<(), Malformed> {
        if slots <= usize::from(SLOTS_MAX) {
            return Ok(());
        }
        let at = HEADER_BYTES + usize::from(SLOTS_MAX) * SLOT_BYTES;
        let slot: &Slot = access(self.bytes, at).ok_or(Malformed::Bounds)?;
        if matches!(slot.tag, tag::MAP | tag::ABSENT) { Ok(()) } else { Err(Malformed::Slot) }
    }
}

/// RFC 8259 section 6: what the encoder may write as it is.
fn is_number(text: &[u8]) -> bool {
    let digits = |from: &mut usize| {
        let start = *from;
        while text.get(*from).is_some_and(u8::is_ascii_digit) {
            *from += 1;
        }
        *from - start
    };
    let mut at = usize::from(text.first() == Some(&b'-'));
    let zero = text.get(at) == Some(&b'0');
    let whole = digits(&mut at);
    if whole == 0 || (zero && whole > 1) {
        return false;
    }
    if text.get(at) == Some(&b'.') {
        at += 1;
        if digits(&mut at) == 0 {
            return false;
        }
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        if digits(&mut at) == 0 {
            return false;
        }
    }
    at == text.len()
}

#[cfg(test)]
mod tests {
    use super::is_number;

    #[test]
    fn numbers_are_those_of_rfc_8259() {
        for good in ["0", "-0", "12", "1.5", "1e5", "1E-7", "-1.25e+300", "123456789012345678901"] {
            assert!(is_number(good.as_bytes()), "{good}");
        }
        for bad in ["", "-", "01", "1.", ".5", "1e", "+1", "1 ", "NaN", "0x1", "1e+"] {
            assert!(!is_number(bad.as_bytes()), "{bad}");
        }
    }
}
