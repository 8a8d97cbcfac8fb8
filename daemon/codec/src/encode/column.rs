//! A field that an encoder wants by name.

use ringmain_slab::{RowRef, Schema, ValueRef};

/// A name, and its slot as far as the schema has been seen.
pub(crate) struct Column {
    name: String,
    slot: Option<u16>,
    /// The schema's version when the slot was looked for.
    seen: Option<u16>,
}

impl Column {
    pub(crate) fn new(name: String) -> Self {
        Self { name, slot: None, seen: None }
    }

    /// The column's value in `row`, whose names are all in `schema`.
    pub(crate) fn value<'s>(&mut self, row: RowRef<'s>, schema: &Schema) -> ValueRef<'s> {
        if self.slot.is_none() && self.seen != Some(schema.version()) {
            self.slot = schema.slot(&self.name);
            self.seen = Some(schema.version());
        }
        match (self.slot, row.rest()) {
            (Some(slot), _) => row.get(slot),
            (None, Some(rest)) => rest.get(&self.name),
            (None, None) => ValueRef::Absent,
        }
    }
}
