//! Rows made from parts of other rows.

use ringmain_base::limits::SLOTS_MAX;
use ringmain_slab::{
    Budget, Full, REST_SLOT, RowBuilder, RowRef, Scalar, Scratch, SharedSchema, Slab, TreeBuilder,
    ValueRef,
};

/// The value without children, if it has none.
pub(crate) fn scalar(value: ValueRef<'_>) -> Option<Scalar<'_>> {
    Some(match value {
        ValueRef::Absent => Scalar::Absent,
        ValueRef::Null => Scalar::Null,
        ValueRef::Bool(v) => Scalar::Bool(v),
        ValueRef::Int(v) => Scalar::Int(v),
        ValueRef::Float(v) => Scalar::Float(v),
        ValueRef::Number(v) => Scalar::Number(v),
        ValueRef::Str(v) => Scalar::Str(v),
        ValueRef::Bytes(v) => Scalar::Bytes(v),
        ValueRef::List(_) | ValueRef::Map(_) => return None,
    })
}

/// Sets a field to a value of another row.
#[inline]
pub(crate) fn set(row: &mut RowBuilder<'_>, slot: u16, value: ValueRef<'_>) {
    match scalar(value) {
        Some(scalar) => row.set(slot, scalar),
        None => {
            let mut tree = row.tree(slot);
            add(&mut tree, value);
            tree.finish();
        }
    }
}

/// Adds a value of another row to a tree; what would be nested too deep is
/// null.
pub(crate) fn add(tree: &mut TreeBuilder<'_, '_>, value: ValueRef<'_>) {
    match value {
        ValueRef::List(list) if tree.list() => {
            list.iter().for_each(|item| add(tree, item));
            tree.close();
        }
        ValueRef::Map(map) if tree.map() => {
            for (name, item) in map.iter() {
                tree.key(name);
                add(tree, item);
            }
            tree.close();
        }
        value => tree.scalar(scalar(value).unwrap_or(Scalar::Null)),
    }
}

/// A row on its own that outlived the process, for the slots that the names of
/// its slots have now; and its key's hash.
pub(crate) fn renumber(
    image: &[u8],
    names: &[String],
    schema: &SharedSchema,
) -> Result<(Box<[u8]>, u32), String> {
    let budget = Budget::new(u64::from(ringmain_base::limits::SLAB_BYTES_MAX));
    let (mut old, mut new) = (Slab::new(1024, &budget), Slab::new(1024, &budget));
    let damaged = || "a message in the stored state is damaged".to_owned();
    old.reserve(image.len()).map_err(|full| full.to_string())?;
    old.push_checked(image).map_err(|_| damaged())?;
    let row = old.row(0);
    let key_hash = row.header().key_hash.to_native();
    let slot = |name: &String| schema.intern(name).ok();
    let slots: Vec<Option<u16>> = names.iter().map(slot).collect();
    let fields = row.slots().min(SLOTS_MAX);
    if usize::from(fields) > slots.len() {
        return Err(damaged());
    }
    if (0..fields).all(|at| slots[usize::from(at)] == Some(at)) {
        return Ok((row.image().into(), key_hash));
    }
    rebuild(row, &slots, names, schema, &mut new).map_err(|full| full.to_string())?;
    Ok((new.row(0).image().into(), key_hash))
}

fn rebuild(
    row: RowRef<'_>,
    slots: &[Option<u16>],
    names: &[String],
    schema: &SharedSchema,
    to: &mut Slab,
) -> Result<(), Full> {
    let version = schema.snapshot().version();
    let bytes: usize = names.iter().map(|name| name.len() + 64).sum();
    to.reserve(row.image_bound() * 2 + bytes + 4096)?;
    let homeless =
        || (0..row.slots().min(SLOTS_MAX)).filter(|at| slots[usize::from(*at)].is_none());
    let rest = row.rest().is_some() || homeless().next().is_some();
    let count = if rest { REST_SLOT + 1 } else { version };
    let mut scratch = Scratch::default();
    let mut new = to.build(version, count, &mut scratch);
    for at in 0..row.slots().min(SLOTS_MAX) {
        if let Some(slot) = slots[usize::from(at)] {
            set(&mut new, slot, row.get(at));
        }
    }
    if rest {
        let mut tree = new.tree(REST_SLOT);
        let _ = tree.map();
        let own = homeless().map(|at| (names[usize::from(at)].as_str(), row.get(at)));
        for (name, value) in row.rest().into_iter().flat_map(|rest| rest.iter()).chain(own) {
            tree.key(name);
            add(&mut tree, value);
        }
        tree.close();
        tree.finish();
    }
    new.set_flags(row.header().flags.to_native());
    new.finish(row.ts())?;
    to.edit(0).set_key_hash(row.header().key_hash.to_native());
    Ok(())
}
