//! From a field's name to its slot, faster than a general hash map: at most
//! `SLOTS_MAX` names, a cheap hash of length, first and last bytes.

use std::sync::Arc;

use ringmain_base::limits::SLOTS_MAX;
use ringmain_slab::Schema;

use crate::scan::word;

const PLACES: usize = 4 * SLOTS_MAX as usize;
const FREE: u16 = u16::MAX;

/// The names of one schema snapshot.
pub(crate) struct Keys {
    schema: Arc<Schema>,
    places: Box<[u16; PLACES]>,
}

impl Keys {
    pub(crate) fn new(schema: Arc<Schema>) -> Self {
        let mut places = Box::new([FREE; PLACES]);
        for (slot, name) in schema.names().iter().enumerate() {
            let mut at = place(name.as_bytes());
            while places[at] != FREE {
                at = (at + 1) % PLACES;
            }
            places[at] = slot as u16;
        }
        Self { schema, places }
    }

    /// Fields, which is also the schema's version.
    #[inline]
    pub(crate) fn version(&self) -> u16 {
        self.schema.version()
    }

    /// The slot of `name`.
    #[inline]
    pub(crate) fn slot(&self, name: &str) -> Option<u16> {
        let mut at = place(name.as_bytes());
        // A quarter of the places is taken at most, so a free one ends this.
        loop {
            let slot = self.places[at];
            if slot == FREE {
                return None;
            }
            if self.schema.name(slot) == Some(name) {
                return Some(slot);
            }
            at = (at + 1) % PLACES;
        }
    }
}

#[inline]
fn place(name: &[u8]) -> usize {
    let tail = word(name, name.len().saturating_sub(8));
    let head = name.first_chunk::<8>().map_or(tail, |head| u64::from_le_bytes(*head));
    let mixed = (head ^ tail.rotate_left(29) ^ (name.len() as u64) << 56)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as usize % PLACES
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
        for n in 0..SLOTS_MAX {
            assert_eq!(keys.slot(&name(n)), Some(n));
        }
        for n in SLOTS_MAX..2000 {
            assert_eq!(keys.slot(&name(n)), None);
        }
        assert_eq!(keys.slot(""), None);
    }
}
