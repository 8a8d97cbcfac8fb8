//! The calls that the prelude makes through the FFI.

use std::sync::atomic::AtomicU64;

use ringmain_metrics::{Kind, NameError};
use ringmain_slab::Scalar;

use super::{Env, code};

/// The calls by their names in prelude.lua.
pub(crate) fn calls() -> [(&'static str, *const ()); 16] {
    [
        ("set_num", set_num as *const ()),
        ("set_int", set_int as *const ()),
        ("set_bool", set_bool as *const ()),
        ("set_str", set_str as *const ()),
        ("set_none", set_none as *const ()),
        ("resolve", resolve as *const ()),
        ("intern", intern as *const ()),
        ("rename", rename as *const ()),
        ("keep", keep as *const ()),
        ("route", route as *const ()),
        ("parse", parse as *const ()),
        ("metric", metric as *const ()),
        ("metric_cell", metric_cell as *const ()),
        ("observe", observe as *const ()),
        ("search", crate::pattern::search as *const ()),
        ("is_plain", crate::pattern::is_plain as *const ()),
    ]
}

// The calls below are made by the prelude only, with the pointer that it was
// given when its state was made. None of them calls Lua or unwinds into it.

/// A whole number that `f64` holds exactly is stored as one.
extern "C" fn set_num(env: *mut Env, slot: i32, value: f64) -> i32 {
    // SAFETY: see above.
    let env = unsafe { &mut *env };
    env.set(slot, number(value))
}

/// What a Lua number is stored as.
#[inline]
pub(crate) fn number(value: f64) -> Scalar<'static> {
    const EXACT: f64 = (1u64 << 53) as f64;
    let whole = value as i64;
    // By bits, because -0.0 is not the integer 0.
    if (whole as f64).to_bits() == value.to_bits() && value.abs() < EXACT {
        Scalar::Int(whole)
    } else {
        Scalar::Float(value)
    }
}

extern "C" fn set_int(env: *mut Env, slot: i32, value: i64) -> i32 {
    // SAFETY: see above.
    unsafe { (*env).set(slot, Scalar::Int(value)) }
}

extern "C" fn set_bool(env: *mut Env, slot: i32, value: i32) -> i32 {
    // SAFETY: see above.
    unsafe { (*env).set(slot, Scalar::Bool(value != 0)) }
}

extern "C" fn set_str(env: *mut Env, slot: i32, text: *const u8, len: i32) -> i32 {
    // SAFETY: see above; the text is a Lua string or buffer that lives while
    // the call runs.
    unsafe { (*env).set_text(slot, bytes(text, len)) }
}

/// `null` 1 stores null, 0 removes the field.
extern "C" fn set_none(env: *mut Env, slot: i32, null: i32) -> i32 {
    let value = if null == 0 { Scalar::Absent } else { Scalar::Null };
    // SAFETY: see above.
    unsafe { (*env).set(slot, value) }
}

/// The slot of a name, -1 if the flow has no such field.
extern "C" fn resolve(env: *mut Env, name: *const u8, len: i32) -> i32 {
    // SAFETY: see above.
    let (env, name) = unsafe { (&mut *env, bytes(name, len)) };
    let slot = str::from_utf8(name).ok().and_then(|name| env.names.slot(name));
    slot.map_or(-1, i32::from)
}

/// The slot of a name, made if need be. -1: there is none left. -2: it is not
/// a name.
extern "C" fn intern(env: *mut Env, name: *const u8, len: i32) -> i32 {
    // SAFETY: see above.
    let (env, name) = unsafe { (&mut *env, bytes(name, len)) };
    match str::from_utf8(name) {
        Ok(name) if name.len() <= ringmain_base::limits::FIELD_NAME_BYTES_MAX => {
            env.intern(name).map_or(-1, i32::from)
        }
        _ => -2,
    }
}

extern "C" fn rename(env: *mut Env, from: i32, to: i32) -> i32 {
    // SAFETY: see above.
    let env = unsafe { &mut *env };
    env.edit(|env, at| env.slab().edit(at).rename(from as u16, to as u16))
}

extern "C" fn keep(env: *mut Env) -> i32 {
    // SAFETY: see above.
    let env = unsafe { &mut *env };
    let Some(at) = env.begin_edit() else { return code::NO_MESSAGE };
    let done = env.keep(at);
    env.end_edit(at, done)
}

extern "C" fn route(env: *mut Env, port: i32) -> i32 {
    // SAFETY: see above.
    unsafe { (*env).route(port) }
}

/// A number that needs more than 64 bits, as near as `f64` comes to it.
extern "C" fn parse(text: *const u8, len: i32) -> f64 {
    // SAFETY: the bytes of a row, given by the prelude.
    let text = unsafe { bytes(text, len) };
    str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// The number of a metric of a kind (1 counter, 2 gauge, 3 histogram). -1: it
/// is no name. -2: there are too many. -11 to -13: it is of another kind.
extern "C" fn metric(env: *mut Env, name: *const u8, len: i32, kind: i32) -> i32 {
    // SAFETY: see above.
    let (env, name) = unsafe { (&mut *env, bytes(name, len)) };
    let kind = match kind {
        1 => Kind::Counter,
        2 => Kind::Gauge,
        _ => Kind::Histogram,
    };
    let Ok(name) = str::from_utf8(name) else { return -1 };
    match env.metrics.register(name, kind) {
        Ok(at) => at as i32,
        Err(NameError::Invalid) => -1,
        Err(NameError::Full) => -2,
        Err(NameError::Is(Kind::Counter)) => -11,
        Err(NameError::Is(Kind::Gauge)) => -12,
        Err(NameError::Is(Kind::Histogram)) => -13,
    }
}

/// Where a counter or a gauge is, an `f64`. Compiled code reads and writes it
/// with plain moves of eight aligned bytes, which are what relaxed atomic ones
/// compile to; it lives as long as `env` does, which holds the metrics.
extern "C" fn metric_cell(env: *mut Env, at: i32) -> *const AtomicU64 {
    // SAFETY: see above.
    let env = unsafe { &*env };
    env.metrics.cell(at as usize)
}

extern "C" fn observe(env: *mut Env, at: i32, value: f64) {
    // SAFETY: see above.
    unsafe { (*env).metrics.observe(at as usize, value) }
}

/// # Safety
/// `len` bytes at `at` live while the caller uses them.
pub(crate) unsafe fn bytes<'a>(at: *const u8, len: i32) -> &'a [u8] {
    if len <= 0 {
        return &[];
    }
    // SAFETY: by the caller's promise.
    unsafe { std::slice::from_raw_parts(at, len as usize) }
}
