//! Rows of an earlier process in the slots of this one.
//!
//! Slots are numbers of a schema that grew in the order in which fields came;
//! the next process may see them in another. Where the numbers agree nothing
//! is done; else a row is built again, field by field.

use ringmain_base::limits::SLOTS_MAX;
use ringmain_slab::{
    Full, REST_SLOT, RowRef, Scalar, Schema, Scratch, SharedSchema, Slab, TreeBuilder, ValueRef,
};

use super::format::Head;
use crate::values::copy;

/// From the slots of a segment to those of the flow.
#[derive(Debug)]
pub(super) struct Remap {
    names: Vec<String>,
    /// `None`: the flow has no slot left, the field goes to the rest.
    slots: Vec<Option<u16>>,
    schema: SharedSchema,
}

impl Remap {
    /// `None` where every field has the slot that it had.
    pub(super) fn new(head: &Head, schema: &SharedSchema) -> Option<Self> {
        let known = schema.snapshot();
        let same = |(slot, name): (usize, &String)| known.name(slot as u16) == Some(name);
        if head.names.iter().enumerate().all(same) {
            return None;
        }
        for slot in &head.order {
            // What finds no slot goes to the rest.
            let _ = schema.arrive(&head.names[usize::from(*slot)]);
        }
        let slots: Vec<_> = head.names.iter().map(|name| schema.intern(name).ok()).collect();
        let same = slots.iter().enumerate().all(|(at, slot)| *slot == Some(at as u16));
        (!same).then(|| Self { names: head.names.clone(), slots, schema: schema.clone() })
    }

    /// Builds the row at the end of `out`.
    pub(super) fn row(
        &self,
        row: RowRef<'_>,
        out: &mut Slab,
        scratch: &mut Scratch,
    ) -> Result<(), Full> {
        let schema = self.schema.snapshot();
        let beyond: Vec<_> = self.beyond(row, &schema).collect();
        let slots = if beyond.is_empty() { schema.version() } else { REST_SLOT + 1 };
        let mut built = out.build(schema.version(), slots, scratch);
        for (slot, target) in self.slots.iter().enumerate() {
            if let Some(target) = target {
                set(&mut built, *target, row.get(slot as u16));
            }
        }
        for (name, value) in row.rest().into_iter().flat_map(|rest| rest.iter()) {
            if let Some(slot) = schema.slot(name) {
                set(&mut built, slot, value);
            }
        }
        if !beyond.is_empty() {
            let mut tree = built.tree(REST_SLOT);
            let _ = tree.map();
            for (name, value) in beyond {
                tree.key(name);
                copy(&mut tree, value);
            }
            tree.close();
            tree.finish();
        }
        built.set_flags(row.header().flags.to_native());
        built.finish(row.ts())?;
        let last = out.len() - 1;
        out.edit(last).set_key_hash(row.header().key_hash.to_native());
        Ok(())
    }

    /// Fields for which the flow has no slot.
    fn beyond<'r>(
        &'r self,
        row: RowRef<'r>,
        schema: &'r Schema,
    ) -> impl Iterator<Item = (&'r str, ValueRef<'r>)> {
        let slots = self.slots.iter().zip(&self.names).enumerate();
        let homeless = slots.filter(|(_, (slot, _))| slot.is_none());
        let homeless = homeless.map(move |(at, (_, name))| (name.as_str(), row.get(at as u16)));
        let homeless = homeless.filter(|(_, value)| !matches!(value, ValueRef::Absent));
        let rest = row.rest().into_iter().flat_map(|rest| rest.iter());
        homeless.chain(rest.filter(|(name, _)| schema.slot(name).is_none()))
    }
}

const _: () = assert!(REST_SLOT == SLOTS_MAX);

fn set(row: &mut ringmain_slab::RowBuilder<'_>, slot: u16, value: ValueRef<'_>) {
    match value {
        ValueRef::Absent => {}
        ValueRef::Null => row.set(slot, Scalar::Null),
        ValueRef::Bool(v) => row.set(slot, Scalar::Bool(v)),
        ValueRef::Int(v) => row.set(slot, Scalar::Int(v)),
        ValueRef::Float(v) => row.set(slot, Scalar::Float(v)),
        ValueRef::Number(v) => row.set(slot, Scalar::Number(v)),
        ValueRef::Str(v) => row.set_str(slot, v),
        ValueRef::Bytes(v) => row.set(slot, Scalar::Bytes(v)),
        nested @ (ValueRef::List(_) | ValueRef::Map(_)) => {
            let mut tree: TreeBuilder<'_, '_> = row.tree(slot);
            copy(&mut tree, nested);
            tree.finish();
        }
    }
}
