//! A list in a message becomes messages of their own.
//!
//! A message is split whole or refused whole, except that a record which
//! cannot be read is refused alone.

use std::sync::Arc;

use ringmain_base::Reason;
use ringmain_slab::{
    Full, MapRef, REST_SLOT, RowBuilder, RowRef, Schema, Scratch, SharedSchema, Slab, ValueRef,
};

use super::rows;
use super::series::Series;
use super::time::shown;
use crate::{Context, Operator};

/// What becomes of the elements.
pub(crate) struct Shape {
    /// The field with the list.
    pub(crate) list: u16,
    pub(crate) name: String,
    /// The field that gets each element; without it the fields of an element
    /// become fields of the message.
    pub(crate) into: Option<u16>,
    /// The field that gets the element's number.
    pub(crate) index: Option<u16>,
    /// A bit for each slot of the message that stays.
    pub(crate) keep: u64,
    /// Elements are records of a time series.
    pub(crate) series: Option<Series>,
}

pub(crate) struct Split {
    shape: Shape,
    names: Names,
    out: Option<Slab>,
    scratch: Scratch,
}

/// Slots of the elements' names: elements of one list mostly have the same
/// names in the same order.
struct Names {
    schema: SharedSchema,
    snapshot: Arc<Schema>,
    /// By position in the last element.
    last: Vec<(String, Option<u16>)>,
}

impl Names {
    #[inline]
    fn slot(&mut self, at: usize, name: &str) -> Option<u16> {
        match self.last.get(at) {
            Some((known, slot)) if known == name => *slot,
            _ => self.look_up(at, name),
        }
    }

    #[cold]
    fn look_up(&mut self, at: usize, name: &str) -> Option<u16> {
        let slot = self.snapshot.slot(name).or_else(|| {
            let slot = self.schema.arrive(name).ok();
            self.snapshot = self.schema.snapshot();
            slot
        });
        match self.last.get_mut(at) {
            Some((known, known_slot)) => {
                known.clear();
                known.push_str(name);
                *known_slot = slot;
            }
            None => self.last.push((name.to_owned(), slot)),
        }
        slot
    }
}

/// Why an element made no message.
enum Fault {
    Memory(Full),
    /// The message was made, and is to be refused.
    Record(String),
}

impl Split {
    pub(crate) fn new(shape: Shape, schema: &SharedSchema) -> Self {
        let snapshot = schema.snapshot();
        let names = Names { schema: schema.clone(), snapshot, last: Vec::new() };
        Self { shape, names, out: None, scratch: Scratch::default() }
    }

    fn split(&mut self, row: RowRef<'_>, out: &mut Slab, cx: &mut Context<'_>) {
        let list = match row.get(self.shape.list) {
            ValueRef::List(list) => list,
            ValueRef::Absent => {
                let why = format!("the message has no '{}'", self.shape.name);
                return cx.refuse.refuse(row, Reason::Field, &why);
            }
            value => {
                let why = format!("'{}' is no list: {}", self.shape.name, shown(value));
                return cx.refuse.refuse(row, Reason::Field, &why);
            }
        };
        let before = out.len();
        for (at, element) in list.iter().enumerate() {
            match self.push(row, at, element, out) {
                Ok(()) => {}
                Err(Fault::Record(why)) => {
                    let last = out.len() - 1;
                    cx.refuse.refuse(out.row(last), Reason::Field, &why);
                    out.truncate(last);
                }
                Err(Fault::Memory(full)) => {
                    out.truncate(before);
                    let why = format!("the list has {} elements: {full}", list.len());
                    return cx.refuse.refuse(row, Reason::Memory, &why);
                }
            }
        }
    }

    /// Appends the message that an element makes.
    fn push(
        &mut self,
        row: RowRef<'_>,
        at: usize,
        element: ValueRef<'_>,
        out: &mut Slab,
    ) -> Result<(), Fault> {
        let fields = match element {
            ValueRef::Map(map) if self.shape.into.is_none() => Some(map),
            _ => None,
        };
        let (mut slots, mut rest) = (row.slots().min(REST_SLOT), row.rest().is_some());
        for slot in [self.shape.into, self.shape.index].into_iter().flatten() {
            slots = slots.max(slot + 1);
        }
        for (at, (name, _)) in fields.iter().flat_map(|map| map.iter()).enumerate() {
            match self.names.slot(at, name) {
                Some(slot) => slots = slots.max(slot + 1),
                None => rest = true,
            }
        }
        if let Some(series) = &self.shape.series {
            slots = slots.max(series.slots());
        }
        let version = self.names.snapshot.version().max(slots);
        let slots = if rest { REST_SLOT + 1 } else { slots };
        let mut wanted = 0;
        let fault = loop {
            let mut new = out.build(version, slots, &mut self.scratch);
            let fault = build(&self.shape, &mut self.names, &mut new, row, at, (element, fields));
            if new.finish(row.ts()).is_ok() {
                break fault;
            }
            if wanted > 0 {
                return Err(Fault::Memory(Full));
            }
            wanted = row.image_bound() * 2 + (usize::from(REST_SLOT) + 4) * 16;
            out.reserve(wanted).map_err(Fault::Memory)?;
        };
        let last = out.len() - 1;
        out.edit(last).set_key_hash(row.header().key_hash.to_native());
        fault.map_or(Ok(()), |why| Err(Fault::Record(why)))
    }
}

/// Fills the new row; says what is wrong with the record.
fn build(
    shape: &Shape,
    names: &mut Names,
    new: &mut RowBuilder<'_>,
    row: RowRef<'_>,
    at: usize,
    (element, fields): (ValueRef<'_>, Option<MapRef<'_>>),
) -> Option<String> {
    for slot in 0..row.slots().min(REST_SLOT) {
        if slot != shape.list && shape.keep & (1 << slot) != 0 {
            rows::set(new, slot, row.get(slot));
        }
    }
    let mut fault = None;
    if let Some(fields) = fields {
        for (at, (name, value)) in fields.iter().enumerate() {
            let Some(slot) = names.slot(at, name) else { continue };
            if shape.series.as_ref().is_none_or(|series| series.keeps(name, fields)) {
                rows::set(new, slot, value);
            }
        }
    } else {
        rows::set(new, shape.into.unwrap_or(shape.list), element);
    }
    if let Some(series) = &shape.series {
        fault = series.time(new, at, fields);
    }
    if let Some(index) = shape.index {
        new.set_int(index, at as i64);
    }
    set_rest(names, new, row, fields);
    fault
}

/// Fields without a slot, of the message and of the element.
fn set_rest(
    names: &mut Names,
    new: &mut RowBuilder<'_>,
    row: RowRef<'_>,
    fields: Option<MapRef<'_>>,
) {
    let homeless = |names: &mut Names| {
        let fields = fields.iter().flat_map(|map| map.iter()).enumerate();
        fields.filter(|(at, (name, _))| names.slot(*at, name).is_none()).count()
    };
    if row.rest().is_none() && homeless(names) == 0 {
        return;
    }
    let mut tree = new.tree(REST_SLOT);
    let _ = tree.map();
    for (name, value) in row.rest().into_iter().flat_map(|rest| rest.iter()) {
        tree.key(name);
        rows::add(&mut tree, value);
    }
    for (at, (name, value)) in fields.iter().flat_map(|map| map.iter()).enumerate() {
        if names.slot(at, name).is_none() {
            tree.key(name);
            rows::add(&mut tree, value);
        }
    }
    tree.close();
    tree.finish();
}

impl Operator for Split {
    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        let mut out = self.out.take().unwrap_or_else(|| slab.sibling());
        for row in slab.rows() {
            self.split(row, &mut out, cx);
        }
        std::mem::swap(slab, &mut out);
        out.clear();
        self.out = Some(out);
    }
}
