//! The prediction: the bytes between the values of the last record.
//!
//! Records of one producer repeat everything but their values. The shape keeps
//! the bytes between two values exactly as they stood (`{"ts":`,
//! `,"device":`), white space included, with the slot that they lead to. Where
//! the next record has the same bytes in the same place, its name needs no
//! parsing and no lookup; a shape is a guess that each record proves or
//! refutes field by field.

use ringmain_base::limits::{FIELD_NAME_BYTES_MAX, SLOTS_MAX};

use crate::scan::long_word;

/// What leads to one value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lead {
    head: u128,
    mask: u128,
    len: u32,
    /// Where the bytes behind the first 16 stand in [`Shape::tails`].
    tail: u32,
    pub(crate) slot: u16,
}

/// The leads of a record, in order.
#[derive(Default)]
pub(crate) struct Shape {
    leads: Vec<Lead>,
    tails: Vec<u8>,
    /// The place behind each slot's lead.
    behind: Vec<u8>,
    trust: Trust,
}

/// Decides when to learn anew: learning costs about as much as it saves on
/// two records, so input without a shape must not be learned all the time.
#[derive(Clone, Copy, Default)]
struct Trust {
    credit: u8,
    /// Misses to let pass before learning again.
    pause: u16,
    next_pause: u16,
}

/// Longer leads are not learned, so that a shape stays small.
const LEAD_BYTES_MAX: usize = 2 * FIELD_NAME_BYTES_MAX;

const CREDIT_MAX: u8 = 8;
const PAUSE_MAX: u16 = 256;

impl Shape {
    /// The lead at `place`, if the bytes at `at` are it; and where it ends.
    #[inline(always)]
    pub(crate) fn lead(&self, place: usize, bytes: &[u8], at: usize) -> Option<(u16, usize)> {
        let lead = self.leads.get(place)?;
        if long_word(bytes, at) & lead.mask != lead.head {
            return None;
        }
        let end = at + lead.len as usize;
        if lead.len > 16 && !self.tail_matches(lead, bytes, at) {
            return None;
        }
        Some((lead.slot, end))
    }

    #[inline]
    fn tail_matches(&self, lead: &Lead, bytes: &[u8], at: usize) -> bool {
        let len = lead.len as usize;
        let tail = self.tails.get(lead.tail as usize..lead.tail as usize + len - 16);
        tail.is_some() && bytes.get(at + 16..at + len) == tail
    }

    /// Leads of the shape.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.leads.len()
    }

    /// The place to go on at after a value for `slot` that was not predicted.
    #[inline]
    pub(crate) fn behind(&self, slot: u16, place: usize) -> usize {
        match self.behind.get(usize::from(slot)) {
            Some(0) | None => place,
            Some(next) => usize::from(*next),
        }
    }

    /// Every lead was right.
    #[inline(always)]
    pub(crate) fn hit(&mut self) {
        if self.trust.credit < CREDIT_MAX {
            self.trust = Trust { credit: self.trust.credit + 1, pause: 0, next_pause: 0 };
        }
    }

    /// Some lead was wrong. Whether to learn the next record.
    pub(crate) fn miss(&mut self) -> bool {
        let trust = &mut self.trust;
        if trust.credit > 0 {
            trust.credit -= 1;
            return false;
        }
        if trust.pause > 0 {
            trust.pause -= 1;
            return false;
        }
        trust.next_pause = (trust.next_pause * 2 + 1).min(PAUSE_MAX);
        trust.pause = trust.next_pause;
        true
    }

    /// Takes the leads of `text`, each a range of bytes and a slot.
    pub(crate) fn learn(&mut self, text: &[u8], leads: &[(u32, u32, u16)]) {
        self.leads.clear();
        self.tails.clear();
        self.behind.clear();
        self.behind.resize(usize::from(SLOTS_MAX), 0);
        // More would be an object full of duplicates.
        for (start, end, slot) in leads.iter().take(usize::from(SLOTS_MAX)) {
            let bytes = &text[*start as usize..*end as usize];
            if bytes.len() > LEAD_BYTES_MAX {
                break;
            }
            let mask = if bytes.len() >= 16 { u128::MAX } else { (1 << (8 * bytes.len())) - 1 };
            self.leads.push(Lead {
                head: long_word(bytes, 0) & mask,
                mask,
                len: bytes.len() as u32,
                tail: self.tails.len() as u32,
                slot: *slot,
            });
            self.tails.extend_from_slice(bytes.get(16..).unwrap_or_default());
            self.behind[usize::from(*slot)] = self.leads.len() as u8;
        }
    }
}
