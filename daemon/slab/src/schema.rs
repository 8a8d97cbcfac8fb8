//! The flow's field names: append-only, so that a slot number means the same
//! field for as long as the flow lives, and rows of any age can be read.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ringmain_base::limits::{FIELD_NAME_BYTES_MAX, SLOTS_MAX};

/// The names at one moment. Whoever works on rows holds a snapshot and asks
/// for a newer one when a row's version is beyond it.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    names: Vec<Arc<str>>,
    slots: HashMap<Arc<str>, u16>,
    /// Slots whose fields have come in from outside, in the order of arrival.
    arrived: Vec<u16>,
}

impl Schema {
    /// Fields, which is also the schema's version.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.names.len() as u16
    }

    /// The slot of a field.
    #[must_use]
    pub fn slot(&self, name: &str) -> Option<u16> {
        self.slots.get(name).copied()
    }

    /// The name of a slot.
    #[must_use]
    pub fn name(&self, slot: u16) -> Option<&str> {
        self.names.get(usize::from(slot)).map(|name| &**name)
    }

    /// The names in the order of their slots.
    #[must_use]
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The slots in the order in which people expect to see the fields: as
    /// they arrived, then those that operators add.
    #[must_use]
    pub fn in_order(&self) -> Vec<u16> {
        let added = (0..self.version()).filter(|slot| !self.arrived.contains(slot));
        self.arrived.iter().copied().chain(added).collect()
    }
}

/// The flow has as many named fields as there are slots, or the name is too
/// long; the field goes to the row's rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaFull;

impl fmt::Display for SchemaFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the flow has {SLOTS_MAX} fields with a slot already")
    }
}

impl std::error::Error for SchemaFull {}

/// The schema of a flow, shared by its shards. A new name takes a lock; known
/// ones are looked up in a snapshot.
#[derive(Clone, Debug, Default)]
pub struct SharedSchema {
    current: Arc<RwLock<Arc<Schema>>>,
}

impl SharedSchema {
    /// A schema without fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The names as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Schema> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The slot of `name`, a new one if need be.
    ///
    /// # Errors
    /// [`SchemaFull`] when there is no slot left for a new name.
    pub fn intern(&self, name: &str) -> Result<u16, SchemaFull> {
        self.slot_of(name, false)
    }

    /// As [`SharedSchema::intern`], for a field that comes in from outside:
    /// fields are written in the order in which they first arrived.
    ///
    /// # Errors
    /// [`SchemaFull`] when there is no slot left for a new name.
    pub fn arrive(&self, name: &str) -> Result<u16, SchemaFull> {
        self.slot_of(name, true)
    }

    fn slot_of(&self, name: &str, arrives: bool) -> Result<u16, SchemaFull> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let known = current.slot(name);
        let slot = known.unwrap_or(current.version());
        if known.is_some() && (!arrives || current.arrived.contains(&slot)) {
            return Ok(slot);
        }
        if slot >= SLOTS_MAX || name.len() > FIELD_NAME_BYTES_MAX {
            return Err(SchemaFull);
        }
        let mut next = Schema::clone(&current);
        if known.is_none() {
            let name: Arc<str> = name.into();
            next.names.push(name.clone());
            next.slots.insert(name, slot);
        }
        if arrives {
            next.arrived.push(slot);
        }
        *current = Arc::new(next);
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_slot() {
        let schema = SharedSchema::new();
        let old = schema.snapshot();
        assert_eq!(schema.intern("rpm"), Ok(0));
        assert_eq!(schema.intern("temp"), Ok(1));
        assert_eq!(schema.intern("rpm"), Ok(0));
        assert_eq!(schema.snapshot().name(1), Some("temp"));
        assert_eq!((old.version(), old.slot("rpm")), (0, None));
    }

    #[test]
    fn names_beyond_the_slots_are_refused() {
        let schema = SharedSchema::new();
        for n in 0..SLOTS_MAX {
            assert_eq!(schema.intern(&format!("f{n}")), Ok(n));
        }
        assert_eq!(schema.intern("one more"), Err(SchemaFull));
        assert_eq!(schema.intern("f0"), Ok(0));
    }

    #[test]
    fn fields_are_shown_as_they_arrived_and_added_ones_last() {
        let schema = SharedSchema::new();
        assert_eq!(schema.intern("rpm"), Ok(0));
        assert_eq!(schema.intern("severity"), Ok(1));
        assert_eq!(schema.arrive("ts"), Ok(2));
        assert_eq!(schema.arrive("rpm"), Ok(0));
        assert_eq!(schema.arrive("ts"), Ok(2));
        assert_eq!(schema.snapshot().in_order(), [2, 0, 1]);
    }
}
