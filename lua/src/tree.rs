//! Rows built anew: nested values, fields beyond the slots, messages made from
//! a Lua table. The slow way of writing; scalars go through `env`.

use std::ffi::c_int;
use std::sync::Arc;

use mlua::ffi;
use ringmain_base::limits::{DEPTH_MAX, FIELD_NAME_BYTES_MAX, SLOTS_MAX};
use ringmain_slab::{
    BARE, ListRef, MapRef, REST_SLOT, RowBuilder, RowRef, Scalar, Schema, Scratch, Slab,
    TreeBuilder, ValueRef,
};

use crate::env::{Env, Keep, code};
use crate::value::{LuaValue, SORTED_MAX, text};

/// Places on the Lua stack for the deepest value.
const STACK_SLOTS: c_int = (DEPTH_MAX * (SORTED_MAX + 4) + 16) as c_int;

/// Which value a call of [`set_value`] gives.
enum Target {
    Slot(u16),
    Rest,
    Message,
}

/// `set_value(slot, name, value, port)` returns a code. `slot` -1 stands for
/// the field `name` beyond the slots, -2 for the whole message, -3 for a new
/// message on `port`.
///
/// # Safety
/// Called by Lua with the `Env` of its state as a light userdata upvalue.
pub(crate) unsafe extern "C-unwind" fn set_value(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: the stack holds the four arguments. What may raise an error
    // (checkstack, out of memory) comes while nothing is owned here.
    unsafe {
        let room = ffi::lua_checkstack(state, STACK_SLOTS);
        let code = if room == 0 { code::DEPTH } else { store(state) };
        ffi::lua_pushinteger(state, code as ffi::lua_Integer);
    }
    1
}

unsafe fn store(state: *mut ffi::lua_State) -> i32 {
    // SAFETY: as in `set_value`.
    let (env, slot, name) = unsafe {
        let env: *mut Env = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast();
        (&mut *env, ffi::lua_tointeger(state, 1), text(state, 2))
    };
    let value = LuaValue { state, at: 3, lists: env.lists() };
    if slot == -3 {
        // SAFETY: as in `set_value`.
        let port = unsafe { ffi::lua_tointeger(state, 4) };
        return emit(env, port as usize, value).err().unwrap_or(code::OK);
    }
    let Some(at) = env.begin_edit() else { return code::NO_MESSAGE };
    let target = match slot {
        -1 => Target::Rest,
        -2 => Target::Message,
        slot => Target::Slot(slot as u16),
    };
    let done = match target {
        Target::Message => message(env, at, value),
        Target::Slot(slot) => field(env, at, slot, value),
        Target::Rest => match str::from_utf8(name) {
            Ok(name) => rest(env, at, name, value),
            Err(_) => Err(code::NAME),
        },
    };
    env.end_edit(at, done)
}

/// `set_nested(slot, value, key, ...)` returns a code. The keys lead from the
/// field's value to the place that gets the value.
///
/// # Safety
/// As for [`set_value`].
pub(crate) unsafe extern "C-unwind" fn set_nested(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: as in `set_value`.
    unsafe {
        let room = ffi::lua_checkstack(state, STACK_SLOTS);
        let code = if room == 0 { code::DEPTH } else { store_nested(state) };
        ffi::lua_pushinteger(state, code as ffi::lua_Integer);
    }
    1
}

unsafe fn store_nested(state: *mut ffi::lua_State) -> i32 {
    // SAFETY: as in `set_value`.
    let (env, slot, top) = unsafe {
        let env: *mut Env = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast();
        (&mut *env, ffi::lua_tointeger(state, 1), ffi::lua_gettop(state))
    };
    let value = LuaValue { state, at: 2, lists: env.lists() };
    let path = Path { key: LuaValue { at: 3, ..value }, last: top };
    let Some(at) = env.begin_edit() else { return code::NO_MESSAGE };
    let done = env.rebuild(at, |slab, row, scratch| {
        copy(slab, row, scratch, 0, |field, builder| {
            if i64::from(field) != slot {
                return Ok(false);
            }
            let mut tree = builder.tree(field);
            change(&mut tree, row.get(field), path, value)?;
            tree.finish();
            Ok(true)
        })
    });
    env.end_edit(at, done)
}

/// Keys on the stack, from the next one to the last.
#[derive(Clone, Copy)]
struct Path {
    key: LuaValue,
    last: c_int,
}

impl Path {
    /// The way behind the key; `None` when it is the last.
    fn rest(self) -> Option<Self> {
        let next = LuaValue { at: self.key.at + 1, ..self.key };
        (next.at <= self.last).then_some(Self { key: next, ..self })
    }
}

/// Copies a list or a map with another value at the end of the path. nil
/// removes an entry of a map and the last of a list, and leaves null elsewhere.
fn change(
    tree: &mut TreeBuilder<'_, '_>,
    old: ValueRef<'_>,
    path: Path,
    new: LuaValue,
) -> Result<(), i32> {
    match old {
        ValueRef::List(list) => change_list(tree, list, path, new),
        ValueRef::Map(map) => change_map(tree, map, path, new),
        _ => Err(code::GONE),
    }
}

fn change_list(
    tree: &mut TreeBuilder<'_, '_>,
    list: ListRef<'_>,
    path: Path,
    new: LuaValue,
) -> Result<(), i32> {
    let place = path.key.as_place().filter(|at| *at <= list.len() + 1).ok_or(code::PLACE)?;
    open(tree.list())?;
    for (at, value) in list.iter().enumerate() {
        match path.rest() {
            _ if at + 1 != place => copy_value(tree, value)?,
            Some(rest) => change(tree, value, rest, new)?,
            None if !new.is_nil() => new.add_to(tree)?,
            None if place < list.len() => tree.scalar(Scalar::Null),
            None => {}
        }
    }
    if place > list.len() {
        if path.rest().is_some() {
            return Err(code::GONE);
        }
        if !new.is_nil() {
            new.add_to(tree)?;
        }
    }
    tree.close();
    Ok(())
}

fn change_map(
    tree: &mut TreeBuilder<'_, '_>,
    map: MapRef<'_>,
    path: Path,
    new: LuaValue,
) -> Result<(), i32> {
    let name = path.key.as_name().filter(|n| n.len() <= FIELD_NAME_BYTES_MAX);
    let name = name.ok_or(code::PLACE)?;
    // Of equal names the last one counts; the others go.
    let place = map.iter().enumerate().filter(|(_, (key, _))| *key == name).last();
    let place = place.map(|(at, _)| at);
    open(tree.map())?;
    for (at, (key, value)) in map.iter().enumerate() {
        if key == name && Some(at) != place {
            continue;
        }
        match path.rest() {
            _ if Some(at) != place => {
                tree.key(key);
                copy_value(tree, value)?;
            }
            Some(rest) => {
                tree.key(key);
                change(tree, value, rest, new)?;
            }
            None if new.is_nil() => {}
            None => {
                tree.key(key);
                new.add_to(tree)?;
            }
        }
    }
    if place.is_none() {
        if path.rest().is_some() {
            return Err(code::GONE);
        }
        if !new.is_nil() {
            tree.key(name);
            new.add_to(tree)?;
        }
    }
    tree.close();
    Ok(())
}

fn field(env: &mut Env, at: usize, slot: u16, value: LuaValue) -> Result<(), i32> {
    let version = env.names().version();
    env.rebuild(at, |slab, row, scratch| {
        copy(slab, row, scratch, version.max(slot + 1), |field, row_builder| {
            if field != slot {
                return Ok(false);
            }
            set(row_builder, slot, value).map(|()| true)
        })
    })
}

fn rest(env: &mut Env, at: usize, name: &str, value: LuaValue) -> Result<(), i32> {
    env.rebuild(at, |slab, row, scratch| {
        copy(slab, row, scratch, REST_SLOT + 1, |field, builder| {
            if field != REST_SLOT {
                return Ok(false);
            }
            let others = || row.rest().into_iter().flat_map(|r| r.iter()).filter(|e| e.0 != name);
            if others().next().is_none() && value.is_nil() {
                return Ok(true);
            }
            let mut tree = builder.tree(REST_SLOT);
            open(tree.map())?;
            for (name, value) in others() {
                tree.key(name);
                copy_value(&mut tree, value)?;
            }
            if !value.is_nil() {
                tree.key(name);
                value.add_to(&mut tree)?;
            }
            tree.close();
            tree.finish();
            Ok(true)
        })
    })
}

/// Removes what `keep` does not name, where it names a field beyond the slots.
pub(crate) fn keep(
    slab: &mut Slab,
    row: RowRef<'_>,
    scratch: &mut Scratch,
    keep: &Keep,
) -> Result<(), i32> {
    copy(slab, row, scratch, REST_SLOT + 1, |field, builder| {
        if field != REST_SLOT {
            return Ok(!keep.has(field));
        }
        let mut tree = builder.tree(REST_SLOT);
        open(tree.map())?;
        for (name, value) in row.rest().into_iter().flat_map(|rest| rest.iter()) {
            if keep.has_name(name) {
                tree.key(name);
                copy_value(&mut tree, value)?;
            }
        }
        tree.close();
        tree.finish();
        Ok(true)
    })
}

/// Appends a copy of `row` with at least `slots` slots. `change` is asked for
/// every slot and says whether it has dealt with it.
fn copy(
    slab: &mut Slab,
    row: RowRef<'_>,
    scratch: &mut Scratch,
    slots: u16,
    mut change: impl FnMut(u16, &mut RowBuilder<'_>) -> Result<bool, i32>,
) -> Result<(), i32> {
    let header = row.header();
    let slots = slots.max(row.slots());
    let version = header.version.to_native().max(slots.min(SLOTS_MAX));
    let mut builder = slab.build(version, slots, scratch);
    for slot in 0..slots {
        if !change(slot, &mut builder)? {
            copy_field(&mut builder, slot, row.get(slot))?;
        }
    }
    builder.set_flags(header.flags.to_native() & BARE);
    builder.finish(row.ts()).map_err(|_| code::FULL)?;
    let last = slab.len() - 1;
    slab.edit(last).set_key_hash(header.key_hash.to_native());
    Ok(())
}

fn copy_field(builder: &mut RowBuilder<'_>, slot: u16, value: ValueRef<'_>) -> Result<(), i32> {
    match scalar(value) {
        Some(Scalar::Absent) => {}
        Some(value) => builder.set(slot, value),
        None => {
            let mut tree = builder.tree(slot);
            copy_value(&mut tree, value)?;
            tree.finish();
        }
    }
    Ok(())
}

fn copy_value(tree: &mut TreeBuilder<'_, '_>, value: ValueRef<'_>) -> Result<(), i32> {
    match value {
        ValueRef::List(list) => {
            open(tree.list())?;
            for value in list.iter() {
                copy_value(tree, value)?;
            }
            tree.close();
        }
        ValueRef::Map(map) => {
            open(tree.map())?;
            for (name, value) in map.iter() {
                tree.key(name);
                copy_value(tree, value)?;
            }
            tree.close();
        }
        value => tree.scalar(scalar(value).unwrap_or(Scalar::Null)),
    }
    Ok(())
}

/// The result of opening a list or a map.
pub(crate) fn open(opened: bool) -> Result<(), i32> {
    if opened { Ok(()) } else { Err(code::DEPTH) }
}

/// The value, unless it is nested.
fn scalar(value: ValueRef<'_>) -> Option<Scalar<'_>> {
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

/// The whole message from a table: `ts` of the envelope and the key's hash
/// stay, all else is the table's.
fn message(env: &mut Env, at: usize, value: LuaValue) -> Result<(), i32> {
    let names = intern_all(env, value)?;
    env.rebuild(at, |slab, row, scratch| {
        build(slab, &names, row.ts(), scratch, value)?;
        let last = slab.len() - 1;
        slab.edit(last).set_key_hash(row.header().key_hash.to_native());
        Ok(())
    })
}

/// A message of its own, which came in now.
fn emit(env: &mut Env, port: usize, value: LuaValue) -> Result<(), i32> {
    let names = intern_all(env, value)?;
    env.emit(port, |slab, now, scratch| build(slab, &names, now, scratch, value))
}

/// The names of the flow once those of the table are among them.
fn intern_all(env: &mut Env, value: LuaValue) -> Result<Arc<Schema>, i32> {
    value.each_field(|name, _| {
        env.intern(name);
        Ok(())
    })?;
    Ok(env.names().clone())
}

fn build(
    slab: &mut Slab,
    names: &Schema,
    ts: i64,
    scratch: &mut Scratch,
    value: LuaValue,
) -> Result<(), i32> {
    let mut beyond = false;
    value.each_field(|name, _| {
        beyond |= names.slot(name).is_none();
        Ok(())
    })?;
    let slots = if beyond { REST_SLOT + 1 } else { names.version() };
    let mut builder = slab.build(names.version(), slots, scratch);
    value.each_field(|name, value| match names.slot(name) {
        Some(slot) => set(&mut builder, slot, value),
        None => Ok(()),
    })?;
    if beyond {
        message_rest(&mut builder, names, value)?;
    }
    builder.finish(ts).map_err(|_| code::FULL)
}

fn message_rest(builder: &mut RowBuilder<'_>, names: &Schema, value: LuaValue) -> Result<(), i32> {
    let mut tree = builder.tree(REST_SLOT);
    open(tree.map())?;
    value.each_field(|name, value| {
        if names.slot(name).is_none() {
            tree.key(name);
            value.add_to(&mut tree)?;
        }
        Ok(())
    })?;
    tree.close();
    tree.finish();
    Ok(())
}

fn set(builder: &mut RowBuilder<'_>, slot: u16, value: LuaValue) -> Result<(), i32> {
    match value.scalar() {
        Some(value) => builder.set(slot, value),
        None => {
            let mut tree = builder.tree(slot);
            value.add_to(&mut tree)?;
            tree.finish();
        }
    }
    Ok(())
}
