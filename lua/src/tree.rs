//! Rows built anew: nested values, fields beyond the slots, messages made from
//! a Lua table. The slow way of writing; scalars go through `env`.

use std::ffi::c_int;
use std::sync::Arc;

use mlua::ffi;
use ringmain_base::limits::{DEPTH_MAX, SLOTS_MAX};
use ringmain_slab::{
    BARE, REST_SLOT, RowBuilder, RowRef, Scalar, Schema, Scratch, Slab, TreeBuilder, ValueRef,
};

use crate::env::{Env, Keep, code, number};

/// Entries of a table up to which they are sorted.
const SORTED_MAX: usize = 32;
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
    let value = LuaValue { state, at: 3 };
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

fn open(opened: bool) -> Result<(), i32> {
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

/// A value on a Lua stack that stays there while this is used.
#[derive(Clone, Copy)]
struct LuaValue {
    state: *mut ffi::lua_State,
    at: c_int,
}

impl LuaValue {
    fn kind(self) -> c_int {
        // SAFETY: `at` is a place of the stack.
        unsafe { ffi::lua_type(self.state, self.at) }
    }

    fn is_nil(self) -> bool {
        self.kind() == ffi::LUA_TNIL
    }

    /// The value, if it is neither a table nor something that no message
    /// holds.
    fn scalar(self) -> Option<Scalar<'static>> {
        // SAFETY: `at` is a place of the stack; a string on it lives as long.
        unsafe {
            Some(match self.kind() {
                ffi::LUA_TNIL => Scalar::Absent,
                ffi::LUA_TBOOLEAN => Scalar::Bool(ffi::lua_toboolean(self.state, self.at) != 0),
                ffi::LUA_TNUMBER => number(ffi::lua_tonumber(self.state, self.at)),
                ffi::LUA_TSTRING => {
                    let bytes = text(self.state, self.at);
                    str::from_utf8(bytes).map_or(Scalar::Bytes(bytes), Scalar::Str)
                }
                ffi::LUA_TLIGHTUSERDATA if ffi::lua_touserdata(self.state, self.at).is_null() => {
                    Scalar::Null
                }
                _ => return None,
            })
        }
    }

    fn add_to(self, tree: &mut TreeBuilder<'_, '_>) -> Result<(), i32> {
        if let Some(value) = self.scalar() {
            tree.scalar(value);
            return Ok(());
        }
        if self.kind() != ffi::LUA_TTABLE {
            return Err(code::VALUE);
        }
        match self.list_len()? {
            Some(len) => {
                open(tree.list())?;
                for i in 1..=len {
                    // SAFETY: the stack has room for every level up to
                    // DEPTH_MAX, which `open` enforces.
                    let done = unsafe {
                        ffi::lua_rawgeti(self.state, self.at, i as _);
                        let element = self.above();
                        let done = element.add_to(tree);
                        ffi::lua_settop(self.state, element.at - 1);
                        done
                    };
                    done?;
                }
            }
            None => {
                open(tree.map())?;
                self.each_field(|name, value| {
                    tree.key(name);
                    value.add_to(tree)
                })?;
            }
        }
        tree.close();
        Ok(())
    }

    /// The length, if the table is a list; an empty one is a map.
    fn list_len(self) -> Result<Option<usize>, i32> {
        let (mut entries, mut numbers) = (0usize, 0usize);
        self.each(|key, _| {
            entries += 1;
            numbers += usize::from(key.kind() == ffi::LUA_TNUMBER);
            Ok(())
        })?;
        if numbers == 0 {
            return Ok(None);
        }
        // SAFETY: `at` is a table.
        let len = unsafe { ffi::lua_objlen(self.state, self.at) };
        // A table of n numeric keys that has a border at n may still have
        // other keys than 1 to n, but then one of those is nil.
        let whole = (1..=len).all(|i| {
            // SAFETY: as in `add_to`.
            unsafe {
                ffi::lua_rawgeti(self.state, self.at, i as _);
                let there = ffi::lua_type(self.state, -1) != ffi::LUA_TNIL;
                ffi::lua_settop(self.state, -2);
                there
            }
        });
        if numbers == entries && entries == len && whole { Ok(Some(len)) } else { Err(code::TABLE) }
    }

    /// The entries of a table whose keys are text, in the order of the keys:
    /// that of the table differs from run to run. (Tables of more than
    /// [`SORTED_MAX`] entries come in that order all the same.)
    fn each_field(self, mut see: impl FnMut(&str, Self) -> Result<(), i32>) -> Result<(), i32> {
        if self.kind() != ffi::LUA_TTABLE {
            return Err(code::VALUE);
        }
        let top = self.above().at;
        let mut keys = [(0, ""); SORTED_MAX];
        let mut count = 0;
        self.each(|key, _| {
            let name = key.name()?;
            if let Some(place) = keys.get_mut(count) {
                *place = (top + 1 + count as c_int, name);
            }
            count += 1;
            Ok(())
        })?;
        let Some(keys) = keys.get_mut(..count) else {
            return self.each(|key, value| see(key.name()?, value));
        };
        // SAFETY: the stack has room for the keys of every level; they are in
        // the table, which nobody changes, so the texts stay.
        unsafe {
            ffi::lua_pushnil(self.state);
            for (at, _) in keys.iter() {
                ffi::lua_next(self.state, self.at);
                ffi::lua_settop(self.state, *at);
                ffi::lua_pushvalue(self.state, *at);
            }
            ffi::lua_settop(self.state, top + count as c_int);
        }
        keys.sort_unstable_by_key(|(_, name)| *name);
        let mut done = Ok(());
        for (at, name) in keys {
            // SAFETY: as above; reading a table raw raises no error.
            done = unsafe {
                ffi::lua_pushvalue(self.state, *at);
                ffi::lua_rawget(self.state, self.at);
                let done = see(name, self.above());
                ffi::lua_settop(self.state, top + count as c_int);
                done
            };
            if done.is_err() {
                break;
            }
        }
        // SAFETY: drops what was pushed here.
        unsafe { ffi::lua_settop(self.state, top) };
        done
    }

    /// The text of a key.
    fn name(self) -> Result<&'static str, i32> {
        if self.kind() != ffi::LUA_TSTRING {
            return Err(code::TABLE);
        }
        // SAFETY: the key is in a table that outlives the use of its text.
        str::from_utf8(unsafe { text(self.state, self.at) }).map_err(|_| code::NAME)
    }

    fn each(self, mut see: impl FnMut(Self, Self) -> Result<(), i32>) -> Result<(), i32> {
        // SAFETY: `at` is a table that nobody changes meanwhile, so `next`
        // raises no error; room on the stack as in `add_to`.
        unsafe {
            let top = ffi::lua_gettop(self.state);
            ffi::lua_pushnil(self.state);
            while ffi::lua_next(self.state, self.at) != 0 {
                let value = self.above();
                let seen = see(Self { state: self.state, at: value.at - 1 }, value);
                ffi::lua_settop(self.state, top + 1);
                if seen.is_err() {
                    ffi::lua_settop(self.state, top);
                    return seen;
                }
            }
        }
        Ok(())
    }

    /// The value on top of the stack.
    fn above(self) -> Self {
        // SAFETY: reads the height of the stack.
        Self { state: self.state, at: unsafe { ffi::lua_gettop(self.state) } }
    }
}

/// The bytes of the string at `at`, none if it is not one.
///
/// # Safety
/// `at` is a place of the stack; the bytes are used while the string is there.
unsafe fn text<'a>(state: *mut ffi::lua_State, at: c_int) -> &'a [u8] {
    let mut len = 0;
    // SAFETY: by the caller's promise; a string is not converted.
    unsafe {
        if ffi::lua_type(state, at) != ffi::LUA_TSTRING {
            return &[];
        }
        let bytes = ffi::lua_tolstring(state, at, &mut len);
        std::slice::from_raw_parts(bytes.cast(), len)
    }
}
