//! What a service manager is told, where one asks to be (`NOTIFY_SOCKET`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringmain_control::RunState;
use sd_notify::NotifyState;

/// Tells it; that nobody listens is no concern of the daemon's.
pub(crate) fn tell(state: RunState) {
    let _ = match state {
        RunState::Running { flows } => {
            let status = format!("{flows} flows");
            sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)])
        }
        RunState::Alive if is_due() => sd_notify::notify(&[NotifyState::Watchdog]),
        RunState::Alive => Ok(()),
        RunState::Ending => sd_notify::notify(&[
            NotifyState::Stopping,
            NotifyState::Status("draining; a second signal ends at once"),
        ]),
    };
}

/// A third of the watchdog's time has passed since the last sign of life.
fn is_due() -> bool {
    static EVERY: OnceLock<Option<Duration>> = OnceLock::new();
    static START: OnceLock<Instant> = OnceLock::new();
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    let Some(every) = EVERY.get_or_init(sd_notify::watchdog_enabled) else { return false };
    let now_ms = START.get_or_init(Instant::now).elapsed().as_millis() as u64;
    let last_ms = LAST_MS.load(Ordering::Relaxed);
    let due = Duration::from_millis(now_ms - last_ms) * 3 >= *every || last_ms == 0;
    if due {
        LAST_MS.store(now_ms.max(1), Ordering::Relaxed);
    }
    due
}
