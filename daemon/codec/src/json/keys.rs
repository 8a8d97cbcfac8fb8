//! From a field's name to its slot, faster than a general hash map: at most
//! `SLOTS_MAX` names, a cheap hash of length, first and last bytes.

use std::sync::Arc;

use ringmain_base::limits::SLOTS_MAX;
use ringmain_slab::Schema;

use crate::scan::word;

const PLACES: usize = 4 * SLOTS_MAX as usize;
const FREE: u8 = u8::MAX;

const _: () = assert!(SLOTS_MAX < FREE as u16);

/// The names of one schema snapshot.
pub(crate) struct Keys {
    schema: Arc<Schema>,
    prints: Vec<Print>,
    places: Box<[u8; PLACES]>,
}

/// What tells names apart: the first and the last 8 bytes, which are all of a
/// name of 16 bytes at most.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Print {
    len: usize,
    head: u64,
    tail: u64,
}

impl Keys {
    pub(crate) fn new(schema: Arc<Schema>) -> Self {
        let prints: Vec<_> =
            schema.names().iter().map(|name| Print::of(name.as_bytes(), 0, name.len())).collect();
        let mut places = Box::new([FREE; PLACES]);
        for (slot, print) in prints.iter().enumerate() {
            let mut at = print.place();
            while places[at] != FREE {
                at = (at + 1) % PLACES;
            }
            places[at] = slot as u8;
        }
        Self { schema, prints, places }
    }

    /// Fields, which is also the schema's version.
    #[inline]
    pub(crate) fn version(&self) -> u16 {
        self.schema.version()
    }

    /// The slot of the name that stands at `text[from..to]`.
    #[inline]
    pub(crate) fn slot(&self, text: &str, from: usize, to: usize) -> Option<u16> {
        let print = Print::of(text.as_bytes(), from, to);
        let mut at = print.place();
        // A quarter of the places is taken at most, so a free one ends this.
        loop {
            let slot = usize::from(self.places[at]);
            let known = self.prints.get(slot)?;
            if *known == print && (print.len <= 16 || self.is_name(slot, text, from, to)) {
                return Some(slot as u16);
            }
            at = (at + 1) % PLACES;
        }
    }

    fn is_name(&self, slot: usize, text: &str, from: usize, to: usize) -> bool {
        self.schema.name(slot as u16) == text.get(from..to)
    }
}

impl Print {
    #[inline]
    fn of(text: &[u8], from: usize, to: usize) -> Self {
        let len = to - from;
        let head = word(text, from);
        if len < 8 {
            return Self { len, head: head & ((1 << (8 * len)) - 1), tail: 0 };
        }
        Self { len, head, tail: word(text, to - 8) }
    }

    #[inline]
    fn place(self) -> usize {
        let mixed = (self.head ^ self.tail.rotate_left(29) ^ (self.len as u64) << 56)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 32) as usize % PLACES
    }
}

#[cfg(test)]
mod tests {
    use ringmain_slab::SharedSchema;

    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        let schema = SharedSchema::new();
        let name = |n: u16| format!("field{}{}", "x".repeat(usize::from(n % 20)), n);
        for n in 0..SLOTS_MAX {
            schema.intern(&name(n)).unwrap();
        }
        let keys = Keys::new(schema.snapshot());
        let slot = |name: &str| {
            // What stands around a name does not matter.
            let text = format!("\"{name}\":1");
            let found = keys.slot(&text, 1, 1 + name.len());
            assert_eq!(keys.slot(name, 0, name.len()), found);
            found
        };
        for n in 0..SLOTS_MAX {
            assert_eq!(slot(&name(n)), Some(n));
        }
        for n in SLOTS_MAX..2000 {
            assert_eq!(slot(&name(n)), None);
        }
        assert_eq!(slot(""), None);
        assert_eq!(slot("field"), None);
    }
}
