//! Whether this build stops compiled code: decided once, by trying.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mlua::{Lua, ffi};

use crate::watchdog::Watch;

/// Whether hooks fire inside compiled code. Where they do not
/// (`.cargo/config.toml` was not used), Lua runs interpreted: some ten times
/// slower, but within its limits.
pub fn self_test() -> bool {
    if ASSUME_UNCHECKED.load(Ordering::Relaxed) {
        return false;
    }
    static RESULT: OnceLock<bool> = OnceLock::new();
    *RESULT.get_or_init(|| try_it().unwrap_or(false))
}

static ASSUME_UNCHECKED: AtomicBool = AtomicBool::new(false);

/// From now on operators are built as if the self-test had failed: their Lua is
/// interpreted. For tests of that path, in a process of their own.
#[doc(hidden)]
pub fn assume_unchecked_hooks() {
    ASSUME_UNCHECKED.store(true, Ordering::Relaxed);
}

/// A loop that ends by itself, after seconds, when nothing stops it. Long, so
/// that a starved watchdog is not taken for a build without hooks.
fn try_it() -> mlua::Result<bool> {
    // SAFETY: runs nothing but the line below.
    let lua = unsafe { Lua::unsafe_new() };
    let mut state: *mut ffi::lua_State = std::ptr::null_mut();
    // SAFETY: reads the address only.
    unsafe { lua.exec_raw::<()>((), |main| state = main)? };
    let spin = lua.load("for i = 1, 4e9 do end").set_name("=self test").into_function()?;
    let watch = Watch::new(state, Duration::from_millis(1));
    let (result, late) = watch.guard(|| spin.call::<()>(()));
    Ok(late && result.is_err())
}
