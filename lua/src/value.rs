//! Values on a Lua stack, read without raising an error.

use std::ffi::{c_int, c_void};

use mlua::ffi;
use ringmain_slab::{Scalar, TreeBuilder};

use crate::env::{code, number};
use crate::tree::open;

/// Entries of a table up to which they are sorted.
pub(crate) const SORTED_MAX: usize = 32;

/// A value on a Lua stack that stays there while this is used.
#[derive(Clone, Copy)]
pub(crate) struct LuaValue {
    pub(crate) state: *mut ffi::lua_State,
    pub(crate) at: c_int,
    /// The metatable that marks a list.
    pub(crate) lists: *const c_void,
}

impl LuaValue {
    fn kind(self) -> c_int {
        // SAFETY: `at` is a place of the stack.
        unsafe { ffi::lua_type(self.state, self.at) }
    }

    /// The text of a place in a map.
    pub(crate) fn as_name(self) -> Option<&'static str> {
        if self.kind() != ffi::LUA_TSTRING {
            return None;
        }
        // SAFETY: the string is on the stack while this is used.
        str::from_utf8(unsafe { text(self.state, self.at) }).ok()
    }

    /// The place in a list, from 1.
    pub(crate) fn as_place(self) -> Option<usize> {
        if self.kind() != ffi::LUA_TNUMBER {
            return None;
        }
        // SAFETY: `at` is a place of the stack.
        let number = unsafe { ffi::lua_tonumber(self.state, self.at) };
        let place = number as usize;
        (place >= 1 && place as f64 == number).then_some(place)
    }

    pub(crate) fn is_nil(self) -> bool {
        self.kind() == ffi::LUA_TNIL
    }

    /// The value, if it is neither a table nor something that no message
    /// holds.
    pub(crate) fn scalar(self) -> Option<Scalar<'static>> {
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

    pub(crate) fn add_to(self, tree: &mut TreeBuilder<'_, '_>) -> Result<(), i32> {
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

    /// The length, if the table is a list; an empty one is a map, unless it is
    /// marked.
    fn list_len(self) -> Result<Option<usize>, i32> {
        let (mut entries, mut numbers) = (0usize, 0usize);
        self.each(|key, _| {
            entries += 1;
            numbers += usize::from(key.kind() == ffi::LUA_TNUMBER);
            Ok(())
        })?;
        if numbers == 0 && !self.is_marked() {
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

    /// Whether the table carries the mark of a list.
    fn is_marked(self) -> bool {
        // SAFETY: `at` is a table; room on the stack as in `add_to`.
        unsafe {
            if ffi::lua_getmetatable(self.state, self.at) == 0 {
                return false;
            }
            let marked = ffi::lua_topointer(self.state, -1) == self.lists;
            ffi::lua_settop(self.state, -2);
            marked
        }
    }

    /// The entries of a table whose keys are text, in the order of the keys:
    /// that of the table differs from run to run. (Tables of more than
    /// [`SORTED_MAX`] entries come in that order all the same.)
    pub(crate) fn each_field(
        self,
        mut see: impl FnMut(&str, Self) -> Result<(), i32>,
    ) -> Result<(), i32> {
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
                let seen = see(Self { at: value.at - 1, ..self }, value);
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
        Self { at: unsafe { ffi::lua_gettop(self.state) }, ..self }
    }
}

/// The bytes of the string at `at`, none if it is not one.
///
/// # Safety
/// `at` is a place of the stack; the bytes are used while the string is there.
pub(crate) unsafe fn text<'a>(state: *mut ffi::lua_State, at: c_int) -> &'a [u8] {
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
