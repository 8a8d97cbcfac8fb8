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
    slot: u16,
}

/// The leads of a record, in order.
#[derive(Default)]
struct Shape {
    leads: Vec<Lead>,
    tails: Vec<u8>,
    /// The place behind each slot's lead.
    behind: Vec<u8>,
}

/// The shapes of the last kinds of records, the one at hand first.
///
/// Where the shape at hand is wrong, another one may be right; since a lead
/// proves by itself what follows, changing between shapes within a record is
/// as safe as following one.
#[derive(Default)]
pub(crate) struct Shapes {
    current: Shape,
    others: Vec<Shape>,
    /// The one of the others to forget next.
    oldest: usize,
    trust: Trust,
}

/// Decides what guessing is worth: input without a shape must not pay for
/// learning shapes, nor for trying them all, with every record.
#[derive(Clone, Copy, Default)]
struct Trust {
    /// Rises with each record that was as predicted, falls with each that was
    /// not.
    credit: u8,
    /// Records as predicted, one after another.
    streak: u8,
    /// Records not as predicted that are not learned.
    pause: u16,
    next_pause: u16,
}

const SHAPES_MAX: usize = 4;
const CREDIT_MAX: u8 = 8;
const STREAK: u8 = 64;
const PAUSE_MAX: u16 = 256;

/// How many leads of a shape may be passed over at once: fields that a record
/// lacks.
const GAP_MAX: usize = 3;

/// Longer leads are not learned, so that a shape stays small.
const LEAD_BYTES_MAX: usize = 2 * FIELD_NAME_BYTES_MAX;

impl Shapes {
    /// The slot of the lead at `place`, if the bytes at `at` are that lead;
    /// and where the value stands.
    #[inline(always)]
    pub(crate) fn lead(&self, place: usize, bytes: &[u8], at: usize) -> Option<(u16, usize)> {
        self.current.lead(place, bytes, at)
    }

    /// Looks for a lead near `place` of any shape that the bytes at `at` are,
    /// and goes on with that shape: slot, where the value stands, and the
    /// place of the lead behind it.
    #[inline(never)]
    pub(crate) fn change(
        &mut self,
        place: usize,
        bytes: &[u8],
        at: usize,
    ) -> Option<(u16, usize, usize)> {
        if self.trust.credit == 0 {
            return None;
        }
        // The first lead of a shape has the opening brace and the others have
        // a comma, so they stand for nothing in each other's place.
        let places = if place == 0 { 0..1 } else { place..place + GAP_MAX };
        for place in places {
            if let Some((slot, value)) = self.current.lead(place, bytes, at) {
                return Some((slot, value, place + 1));
            }
            for other in &mut self.others {
                if let Some((slot, value)) = other.lead(place, bytes, at) {
                    std::mem::swap(&mut self.current, other);
                    return Some((slot, value, place + 1));
                }
            }
        }
        None
    }

    /// The place to go on at after a value for `slot` that was not predicted,
    /// at `place`. Never the first: only the beginning of a record may look
    /// like one.
    #[inline]
    pub(crate) fn behind(&self, slot: Option<u16>, place: usize) -> usize {
        match slot.and_then(|slot| self.current.behind.get(usize::from(slot))) {
            Some(0) | None => place.max(1),
            Some(next) => usize::from(*next),
        }
    }

    /// Every lead of a record was right.
    #[inline(always)]
    pub(crate) fn hit(&mut self) {
        let trust = &mut self.trust;
        trust.credit = (trust.credit + 1).min(CREDIT_MAX);
        trust.streak += 1;
        if trust.streak == STREAK {
            *trust = Trust { credit: CREDIT_MAX, ..Trust::default() };
        }
    }

    /// Some lead was wrong. Whether to learn the record.
    pub(crate) fn miss(&mut self) -> bool {
        let trust = &mut self.trust;
        trust.credit = trust.credit.saturating_sub(1);
        trust.streak = 0;
        if trust.pause > 0 {
            trust.pause -= 1;
            return false;
        }
        trust.next_pause = (trust.next_pause * 2 + 1).min(PAUSE_MAX);
        trust.pause = trust.next_pause;
        true
    }

    /// Takes the leads of a record, each a range of `text` and a slot, the
    /// first of them from the beginning of the text.
    pub(crate) fn learn(&mut self, text: &[u8], leads: &[(usize, usize, u16)]) {
        let mut old = std::mem::take(&mut self.current);
        if self.others.len() + 1 < SHAPES_MAX {
            if !old.leads.is_empty() {
                self.others.push(old);
            }
            old = Shape::default();
        } else {
            std::mem::swap(&mut old, &mut self.others[self.oldest]);
            self.oldest = (self.oldest + 1) % self.others.len();
        }
        old.learn(text, leads);
        self.current = old;
        self.trust.credit = CREDIT_MAX;
    }
}

impl Shape {
    /// The lead at `place`, if the bytes at `at` are it; and where it ends.
    #[inline(always)]
    fn lead(&self, place: usize, bytes: &[u8], at: usize) -> Option<(u16, usize)> {
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

    fn learn(&mut self, text: &[u8], leads: &[(usize, usize, u16)]) {
        self.leads.clear();
        self.tails.clear();
        self.behind.clear();
        self.behind.resize(usize::from(SLOTS_MAX), 0);
        // More would be an object full of duplicates.
        for (start, end, slot) in leads.iter().take(usize::from(SLOTS_MAX)) {
            let bytes = &text[*start..*end];
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
