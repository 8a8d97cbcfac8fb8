//! Waiting for something to happen elsewhere.

use std::time::{Duration, Instant};

/// Only a daemon that stands still meets it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often one looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `look` says so; `what` is what one waits for.
///
/// # Panics
/// After [`DEADLINE`].
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    let start = Instant::now();
    while !look() {
        assert!(start.elapsed() < DEADLINE, "not after {DEADLINE:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until `look` gives something.
///
/// # Panics
/// After [`DEADLINE`].
pub fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    until(what, || {
        found = look();
        found.is_some()
    });
    found.expect("until returns when something is found")
}
