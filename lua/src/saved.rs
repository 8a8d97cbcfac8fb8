//! A partition's state as bytes: for checkpoints, and for moving it.
//!
//! The bytes are the script's `version`, then the table, each value a tag and
//! what belongs to it: whole numbers as zigzag varints, others as eight bytes,
//! texts with their length, a table as the values at 1 to n, then its other
//! keys and values. All that is read is checked; bytes from anywhere do no
//! harm.
//!
//! A table that is reached twice becomes two. Deliberately absent: functions,
//! coroutines, tables with a metatable and tables that contain themselves;
//! they are refused, with the way to them.

use std::ffi::{c_int, c_void};
use std::fmt;

use mlua::ffi;

use crate::value::text;

/// Deepest nesting of tables.
const DEPTH_MAX: usize = 100;

/// Places on the Lua stack that one level takes.
const LEVEL_SLOTS: c_int = 4;

/// Places on the Lua stack for the deepest state.
pub(crate) const STACK_SLOTS: c_int = (DEPTH_MAX as c_int + 4) * LEVEL_SLOTS + 16;

/// What LuaJIT's `lua_type` says of a boxed number.
const LUA_TCDATA: c_int = 10;

mod tag {
    pub(super) const NIL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const WHOLE: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const INT64: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const TABLE: u8 = 7;
    pub(super) const LIST: u8 = 8;
    pub(super) const NULL: u8 = 9;
}

/// Where the values that the functions below need are on the Lua stack.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub(crate) state: *mut ffi::lua_State,
    /// `int64(cdata)` returns its halves, low and high, or nil; `int64(nil,
    /// low, high)` makes one.
    pub(crate) int64: c_int,
    /// The metatable that marks a list.
    pub(crate) lists: c_int,
}

/// Why a state cannot be saved.
#[derive(Debug)]
pub(crate) struct Unsaved {
    /// Keys, from the state to the value.
    path: String,
    why: &'static str,
}

impl fmt::Display for Unsaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state{} cannot be saved: {}", self.path, self.why)
    }
}

/// The way to a value: keys on the Lua stack.
struct Way<'a> {
    /// Where the key is.
    key: c_int,
    /// The address of the table that it is a key of.
    table: *const c_void,
    up: Option<&'a Way<'a>>,
    depth: usize,
}

/// Appends the value at `at`. Reads tables raw and raises no error, but for
/// lack of memory.
///
/// # Safety
/// `at` and `places` are places of a stack with room for [`STACK_SLOTS`].
pub(crate) unsafe fn save(places: Places, at: c_int, into: &mut Vec<u8>) -> Result<(), Unsaved> {
    Saving { places, into }.value(at, None)
}

struct Saving<'a> {
    places: Places,
    into: &'a mut Vec<u8>,
}

impl Saving<'_> {
    fn value(&mut self, at: c_int, way: Option<&Way<'_>>) -> Result<(), Unsaved> {
        let state = self.places.state;
        // SAFETY: `at` is a place of the stack, by the promise of `save`.
        unsafe {
            match ffi::lua_type(state, at) {
                ffi::LUA_TNIL => self.into.push(tag::NIL),
                ffi::LUA_TBOOLEAN => {
                    let set = ffi::lua_toboolean(state, at) != 0;
                    self.into.push(if set { tag::TRUE } else { tag::FALSE });
                }
                ffi::LUA_TNUMBER => self.number(ffi::lua_tonumber(state, at)),
                ffi::LUA_TSTRING => {
                    let bytes = text(state, at);
                    self.into.push(tag::TEXT);
                    self.count(bytes.len());
                    self.into.extend_from_slice(bytes);
                }
                ffi::LUA_TLIGHTUSERDATA if ffi::lua_touserdata(state, at).is_null() => {
                    self.into.push(tag::NULL);
                }
                LUA_TCDATA => return self.int64(at, way),
                ffi::LUA_TTABLE => return self.table(at, way),
                ffi::LUA_TFUNCTION => return Err(unsaved(state, way, "it is a function")),
                _ => return Err(unsaved(state, way, "no state holds such a value")),
            }
        }
        Ok(())
    }

    fn number(&mut self, value: f64) {
        let whole = value as i64;
        // By bits, because -0.0 is not 0.
        if (whole as f64).to_bits() == value.to_bits() && whole.unsigned_abs() < 1 << 53 {
            self.into.push(tag::WHOLE);
            self.varint(((whole << 1) ^ (whole >> 63)) as u64);
        } else {
            self.into.push(tag::FLOAT);
            self.into.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn int64(&mut self, at: c_int, way: Option<&Way<'_>>) -> Result<(), Unsaved> {
        let state = self.places.state;
        // SAFETY: calls a function of the prelude, which raises no error.
        let halves = unsafe {
            ffi::lua_pushvalue(state, self.places.int64);
            ffi::lua_pushvalue(state, at);
            ffi::lua_call(state, 1, 2);
            let there = ffi::lua_type(state, -1) == ffi::LUA_TNUMBER;
            let halves = (ffi::lua_tonumber(state, -2), ffi::lua_tonumber(state, -1));
            ffi::lua_settop(state, -3);
            there.then_some(halves)
        };
        let Some((low, high)) = halves else {
            return Err(unsaved(state, way, "no state holds such a value"));
        };
        self.into.push(tag::INT64);
        self.into.extend_from_slice(&(low as u32).to_le_bytes());
        self.into.extend_from_slice(&(high as u32).to_le_bytes());
        Ok(())
    }

    fn table(&mut self, at: c_int, way: Option<&Way<'_>>) -> Result<(), Unsaved> {
        let state = self.places.state;
        // SAFETY: `at` is a table of the stack.
        let (table, len) =
            unsafe { (ffi::lua_topointer(state, at), ffi::lua_objlen(state, at) as usize) };
        let mut above = way;
        while let Some(step) = above {
            if step.table == table {
                return Err(unsaved(state, way, "it contains itself"));
            }
            above = step.up;
        }
        let depth = way.map_or(0, |way| way.depth) + 1;
        if depth > DEPTH_MAX {
            return Err(unsaved(state, way, "it is nested too deep"));
        }
        match self.metatable(at) {
            None => self.into.push(tag::TABLE),
            Some(true) => self.into.push(tag::LIST),
            Some(false) => return Err(unsaved(state, way, "it has a metatable")),
        }
        self.count(len);
        // SAFETY: room by the promise of `save`, as deep as DEPTH_MAX.
        unsafe {
            for place in 1..=len {
                ffi::lua_pushinteger(state, place as ffi::lua_Integer);
                ffi::lua_rawgeti(state, at, place as _);
                let key = ffi::lua_gettop(state) - 1;
                self.value(key + 1, Some(&Way { key, table, up: way, depth }))?;
                ffi::lua_settop(state, key - 1);
            }
        }
        self.pairs(at, len, &Way { key: 0, table, up: way, depth })
    }

    /// Whether the table has one, and if so, whether it marks a list.
    fn metatable(&self, at: c_int) -> Option<bool> {
        let state = self.places.state;
        // SAFETY: `at` is a table of the stack.
        unsafe {
            if ffi::lua_getmetatable(state, at) == 0 {
                return None;
            }
            let list = ffi::lua_rawequal(state, -1, self.places.lists) != 0;
            ffi::lua_settop(state, -2);
            Some(list)
        }
    }

    /// Keys that are not 1 to `len`, and their values. Their number comes first
    /// and is known last.
    fn pairs(&mut self, at: c_int, len: usize, here: &Way<'_>) -> Result<(), Unsaved> {
        let state = self.places.state;
        let start = self.into.len();
        self.into.extend_from_slice(&[0; 4]);
        let mut count = 0u32;
        // SAFETY: as in `table`; the table is not changed, so `next` finds its
        // keys.
        unsafe {
            ffi::lua_pushnil(state);
            while ffi::lua_next(state, at) != 0 {
                let key = ffi::lua_gettop(state) - 1;
                if !in_sequence(state, key, len) {
                    count += 1;
                    let way = Way { key, ..*here };
                    match ffi::lua_type(state, key) {
                        ffi::LUA_TSTRING | ffi::LUA_TNUMBER | ffi::LUA_TBOOLEAN => {}
                        _ => {
                            let why = "a key is text, a number or a boolean";
                            return Err(unsaved(state, here.up, why));
                        }
                    }
                    self.value(key, Some(&way))?;
                    self.value(key + 1, Some(&way))?;
                }
                ffi::lua_settop(state, key);
            }
        }
        self.into[start..start + 4].copy_from_slice(&count.to_le_bytes());
        Ok(())
    }

    fn count(&mut self, n: usize) {
        self.varint(n as u64);
    }

    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.into.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.into.push(n as u8);
    }
}

/// # Safety
/// `key` is a place of the stack.
unsafe fn in_sequence(state: *mut ffi::lua_State, key: c_int, len: usize) -> bool {
    // SAFETY: by the caller's promise.
    unsafe {
        if ffi::lua_type(state, key) != ffi::LUA_TNUMBER {
            return false;
        }
        let number = ffi::lua_tonumber(state, key);
        number >= 1.0 && number <= len as f64 && number.fract() == 0.0
    }
}

fn unsaved(state: *mut ffi::lua_State, way: Option<&Way<'_>>, why: &'static str) -> Unsaved {
    let mut keys = Vec::new();
    let mut above = way;
    while let Some(step) = above {
        // SAFETY: the keys of the way are on the stack.
        keys.push(unsafe { key_text(state, step.key) });
        above = step.up;
    }
    keys.reverse();
    Unsaved { path: keys.concat(), why }
}

/// # Safety
/// `key` is a place of the stack.
unsafe fn key_text(state: *mut ffi::lua_State, key: c_int) -> String {
    // SAFETY: by the caller's promise; a number is not converted in place.
    unsafe {
        match ffi::lua_type(state, key) {
            ffi::LUA_TSTRING => {
                let name = String::from_utf8_lossy(text(state, key));
                let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if plain && !name.is_empty() { format!(".{name}") } else { format!("[{name:?}]") }
            }
            ffi::LUA_TNUMBER => format!("[{}]", ffi::lua_tonumber(state, key)),
            _ => format!("[{}]", ffi::lua_toboolean(state, key) != 0),
        }
    }
}

/// Pushes the value that the bytes begin with; how many they were.
///
/// # Safety
/// As for [`save`], in protected mode: it may run out of memory.
pub(crate) unsafe fn push(places: Places, bytes: &[u8]) -> Result<usize, &'static str> {
    let mut reading = Reading { places, bytes, at: 0 };
    reading.value(0)?;
    Ok(reading.at)
}

struct Reading<'a> {
    places: Places,
    bytes: &'a [u8],
    at: usize,
}

const SHORT: &str = "the bytes end in the middle of a value";

impl Reading<'_> {
    fn value(&mut self, depth: usize) -> Result<(), &'static str> {
        let state = self.places.state;
        let tag = self.take(1)?[0];
        // SAFETY: pushes one value; room by the promise of `push`.
        unsafe {
            match tag {
                tag::NIL => ffi::lua_pushnil(state),
                tag::FALSE | tag::TRUE => {
                    ffi::lua_pushboolean(state, c_int::from(tag == tag::TRUE))
                }
                tag::WHOLE => {
                    let n = self.varint()?;
                    let whole = (n >> 1) as i64 ^ -((n & 1) as i64);
                    ffi::lua_pushnumber(state, whole as f64);
                }
                tag::FLOAT => ffi::lua_pushnumber(state, f64::from_le_bytes(self.eight()?)),
                tag::INT64 => {
                    let n = u64::from_le_bytes(self.eight()?);
                    ffi::lua_pushvalue(state, self.places.int64);
                    ffi::lua_pushnil(state);
                    ffi::lua_pushnumber(state, n as u32 as f64);
                    ffi::lua_pushnumber(state, (n >> 32) as f64);
                    ffi::lua_call(state, 3, 1);
                }
                tag::TEXT => {
                    let len = self.count(1)?;
                    let bytes = self.take(len)?;
                    ffi::lua_pushlstring_(state, bytes.as_ptr().cast(), bytes.len());
                }
                tag::NULL => ffi::lua_pushlightuserdata(state, std::ptr::null_mut()),
                tag::TABLE | tag::LIST => self.table(tag == tag::LIST, depth + 1)?,
                _ => return Err("there is an unknown kind of value"),
            }
        }
        Ok(())
    }

    fn table(&mut self, list: bool, depth: usize) -> Result<(), &'static str> {
        if depth > DEPTH_MAX {
            return Err("a table is nested too deep");
        }
        let state = self.places.state;
        let len = self.count(1)?;
        let size = c_int::try_from(len).map_err(|_| SHORT)?;
        // SAFETY: as in `value`; keys are neither nil nor NaN.
        unsafe {
            ffi::lua_createtable(state, size, 0);
            let table = ffi::lua_gettop(state);
            if list {
                ffi::lua_pushvalue(state, self.places.lists);
                ffi::lua_setmetatable(state, table);
            }
            for place in 1..=len {
                self.value(depth)?;
                ffi::lua_rawseti(state, table, place as _);
            }
            let pairs = u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| SHORT)?) as usize;
            if pairs > (self.bytes.len() - self.at) / 2 {
                return Err(SHORT);
            }
            for _ in 0..pairs {
                self.key()?;
                self.value(depth)?;
                ffi::lua_rawset(state, table);
            }
        }
        Ok(())
    }

    fn key(&mut self) -> Result<(), &'static str> {
        const WRONG: &str = "a key is neither text nor a number nor a boolean";
        match self.bytes.get(self.at) {
            Some(&(tag::FALSE | tag::TRUE | tag::WHOLE | tag::TEXT)) => {}
            Some(&tag::FLOAT) => {
                let bytes = self.bytes.get(self.at + 1..self.at + 9).ok_or(SHORT)?;
                let number = f64::from_le_bytes(bytes.try_into().map_err(|_| SHORT)?);
                if number.is_nan() {
                    return Err(WRONG);
                }
            }
            Some(_) => return Err(WRONG),
            None => return Err(SHORT),
        }
        self.value(0)
    }

    /// How many there are of something that takes `bytes` each, at least.
    fn count(&mut self, bytes: usize) -> Result<usize, &'static str> {
        let count = usize::try_from(self.varint()?).map_err(|_| SHORT)?;
        if count > (self.bytes.len() - self.at) / bytes { Err(SHORT) } else { Ok(count) }
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err("a number is too long")
    }

    fn eight(&mut self) -> Result<[u8; 8], &'static str> {
        self.take(8)?.try_into().map_err(|_| SHORT)
    }

    fn take(&mut self, len: usize) -> Result<&[u8], &'static str> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.get(..len)).ok_or(SHORT)?;
        self.at += len;
        Ok(bytes)
    }
}
