//! The limit of time: one thread per process that interrupts Lua code which
//! does not come back.
//!
//! A call is armed by a counter that goes up, without a reading of the clock:
//! the watchdog looks at the counters a few times per limit, and what it finds
//! unchanged for longer than the limit, in the thread's own time, gets a
//! signal. The handler, on the
//! thread that runs the code, sets a hook that fires at the next instruction,
//! also inside compiled code (`.cargo/config.toml` builds LuaJIT so), and the
//! hook raises an error that the code cannot keep: it fires again at every
//! instruction until the code has come back.
//!
//! The signal is SIGRTMIN + 5, with SA_RESTART; it is sent only to a thread
//! that is inside of Lua. One that comes late, just after the code came back,
//! does nothing but end a wait with EINTR.
//!
//! Invariant: a [`Watch`] is used on the thread that made it, and signals are
//! sent under a lock that its drop takes too. So no signal goes to a thread
//! that has ended, and none that comes late finds a call to stop.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mlua::ffi;

/// Looks per limit.
const LOOKS: u32 = 10;
const LOOK_MIN: Duration = Duration::from_millis(1);
/// Between looks while nothing runs.
const LOOK_IDLE: Duration = Duration::from_millis(50);
/// How long after a signal the next is sent to a call that has not come back.
const AGAIN: Duration = Duration::from_millis(5);

const MESSAGE: &std::ffi::CStr = c"ran out of its time";

/// What watchdog, handler and the running thread share about one Lua state.
struct Shared {
    /// Odd while code runs; goes up by one at each end.
    call: AtomicU64,
    /// The call that is to be stopped.
    stop: AtomicU64,
    /// The hook has raised its error in the call at hand.
    fired: AtomicBool,
    limit_us: AtomicU64,
    thread: libc::pthread_t,
}

thread_local! {
    /// What runs on this thread, for the signal handler. Plain cells without a
    /// destructor: reading them in a handler is safe.
    static RUNNING: Cell<(*const Shared, *mut ffi::lua_State)> =
        const { Cell::new((ptr::null(), ptr::null_mut())) };
}

static ALL: Mutex<Vec<Arc<Shared>>> = Mutex::new(Vec::new());

/// Guards one Lua state.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    state: *mut ffi::lua_State,
    one_thread: PhantomData<*const ()>,
}

impl Watch {
    /// Guards `state` on this thread.
    pub(crate) fn new(state: *mut ffi::lua_State, limit: Duration) -> Self {
        start();
        let shared = Arc::new(Shared {
            call: AtomicU64::new(0),
            stop: AtomicU64::new(0),
            fired: AtomicBool::new(false),
            limit_us: AtomicU64::new(limit.as_micros() as u64),
            // SAFETY: no preconditions.
            thread: unsafe { libc::pthread_self() },
        });
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(shared.clone());
        Self { shared, state, one_thread: PhantomData }
    }

    /// Runs `code`, which calls Lua in protected mode. True if it ran out of
    /// time.
    #[inline]
    pub(crate) fn guard<R>(&self, code: impl FnOnce() -> R) -> (R, bool) {
        let shared = &*self.shared;
        let outer = RUNNING.replace((ptr::from_ref(shared), self.state));
        debug_assert!(outer.0.is_null(), "one Lua state at a time runs on a thread");
        let call = shared.call.load(Ordering::Relaxed) + 1;
        shared.call.store(call, Ordering::Release);
        let result = code();
        // From here on the handler finds nothing to stop.
        RUNNING.set((ptr::null(), ptr::null_mut()));
        shared.call.store(call + 1, Ordering::Release);
        if shared.stop.load(Ordering::Acquire) == call {
            // SAFETY: the state is alive, and no hook of anyone else is set.
            unsafe { ffi::lua_sethook(self.state, None, 0, 0) };
        }
        (result, shared.fired.swap(false, Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|shared| !Arc::ptr_eq(shared, &self.shared));
    }
}

fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 5
}

/// Installs the handler and starts the thread, once per process.
fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        // SAFETY: the handler only does what a handler may.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal(), &raw const action, ptr::null_mut())
        };
        assert_eq!(installed, 0, "SIGRTMIN + 5 is a signal that may be handled");
        thread::Builder::new()
            .name("lua-watchdog".into())
            .spawn(watch)
            .expect("a thread can be started");
    });
}

/// Runs on the thread whose code is to be stopped, possibly too late.
extern "C" fn on_signal(_: libc::c_int) {
    let (shared, state) = RUNNING.get();
    if shared.is_null() {
        return;
    }
    // SAFETY: what runs on this thread lives while it runs. LuaJIT allows
    // lua_sethook in a signal handler.
    unsafe {
        let call = (*shared).call.load(Ordering::Relaxed);
        if (*shared).stop.load(Ordering::Relaxed) == call {
            let events =
                ffi::LUA_MASKCOUNT | ffi::LUA_MASKLINE | ffi::LUA_MASKCALL | ffi::LUA_MASKRET;
            ffi::lua_sethook(state, Some(on_hook), events, 1);
        }
    }
}

unsafe extern "C-unwind" fn on_hook(state: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    let (shared, _) = RUNNING.get();
    if shared.is_null() {
        return;
    }
    // SAFETY: as in `on_signal`; nothing here is left undone by the error.
    unsafe {
        (*shared).fired.store(true, Ordering::Relaxed);
        ffi::luaL_error(state, MESSAGE.as_ptr());
    }
}

struct Seen {
    call: u64,
    /// The thread's own time when the call was first seen. Time in which the
    /// machine ran something else is not the operator's fault.
    since: Duration,
    signalled: Option<Instant>,
}

/// Processor time that a thread has used.
fn used_by(thread: libc::pthread_t) -> Duration {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the caller holds the lock of `ALL`, in which the thread is, so it
    // is alive; both calls write the one variable.
    let failed = unsafe {
        libc::pthread_getcpuclockid(thread, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    assert!(!failed, "a living thread has a clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn watch() {
    let mut seen: Vec<(Arc<Shared>, Seen)> = Vec::new();
    let mut pause = LOOK_MIN;
    loop {
        thread::sleep(pause);
        pause = look(&mut seen, Instant::now());
    }
}

/// One look at every state; how long to pause until the next.
fn look(seen: &mut Vec<(Arc<Shared>, Seen)>, now: Instant) -> Duration {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    seen.retain(|(shared, _)| all.iter().any(|other| Arc::ptr_eq(other, shared)));
    let mut pause = LOOK_IDLE;
    for shared in all.iter() {
        let call = shared.call.load(Ordering::Acquire);
        let at =
            seen.iter().position(|(other, _)| Arc::ptr_eq(other, shared)).unwrap_or_else(|| {
                seen.push((
                    shared.clone(),
                    Seen { call: 0, since: Duration::ZERO, signalled: None },
                ));
                seen.len() - 1
            });
        let seen = &mut seen[at].1;
        let limit = Duration::from_micros(shared.limit_us.load(Ordering::Relaxed));
        if seen.call != call {
            pause = pause.min(limit / LOOKS);
        }
        if call % 2 == 0 {
            seen.call = call;
            continue;
        }
        pause = pause.min(limit / LOOKS);
        let used = used_by(shared.thread);
        if seen.call != call {
            *seen = Seen { call, since: used, signalled: None };
        }
        let due = seen.signalled.is_none_or(|last| now - last >= AGAIN);
        if used.saturating_sub(seen.since) >= limit && due {
            shared.stop.store(call, Ordering::Release);
            // SAFETY: the watch is registered, so its thread has not dropped
            // it and is alive; the lock is held until after the call.
            unsafe { libc::pthread_kill(shared.thread, signal()) };
            seen.signalled = Some(now);
            pause = pause.min(AGAIN);
        }
    }
    pause.max(LOOK_MIN)
}
