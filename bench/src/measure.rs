//! How things are measured: how much, on which core, with which clocks.
//!
//! Work of one thread is divided by the CPU time of that thread, because the
//! machines at hand are shared and wall time would measure the neighbours;
//! what passes between threads or processes is divided by wall time.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use nix::time::{ClockId, clock_gettime};

use crate::args::HowArgs;
use crate::daemon;

/// How much of a variant is measured in a round.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    Seconds(f64),
    Messages(u64),
}

impl Amount {
    /// A number of messages that takes about as long, at so many a second.
    pub(crate) fn messages(self, guess_per_s: f64) -> u64 {
        match self {
            Self::Seconds(seconds) => ((seconds * guess_per_s) as u64).max(1_000),
            Self::Messages(count) => count,
        }
    }

    /// The time, or what stands for it with a number of messages.
    pub(crate) fn seconds(self) -> f64 {
        match self {
            Self::Seconds(seconds) => seconds,
            Self::Messages(count) => (count as f64 / 1e6).clamp(0.2, 10.0),
        }
    }
}

/// What scenarios are given.
pub(crate) struct Env {
    pub(crate) amount: Amount,
    pub(crate) cores: Vec<CoreId>,
    pub(crate) ringmain: Option<PathBuf>,
    dir: tempfile::TempDir,
}

impl Env {
    pub(crate) fn new(args: &HowArgs) -> std::io::Result<Self> {
        Ok(Self {
            amount: args.amount(),
            cores: core_affinity::get_core_ids().unwrap_or_default(),
            ringmain: args.ringmain.clone().or_else(daemon::built_or_beside),
            dir: tempfile::Builder::new().prefix("ringmain-bench-").tempdir()?,
        })
    }

    /// A folder that goes with this run.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Two cores, or why there is no figure.
    pub(crate) fn two_cores(&self) -> Result<[CoreId; 2], Wrong> {
        match self.cores[..] {
            [first, second, ..] => Ok([first, second]),
            _ => Err(Wrong::skip("needs two cores")),
        }
    }

    /// The daemon, or why there is no figure.
    pub(crate) fn ringmain(&self) -> Result<&Path, Wrong> {
        let missing = "no `ringmain` beside this program: build it, or name it with --ringmain";
        self.ringmain.as_deref().ok_or_else(|| Wrong::skip(missing))
    }
}

/// Why there is no figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wrong {
    /// The machine or the build lacks what it takes.
    Skipped(String),
    /// The result is wrong: a fault of the program.
    Failed(String),
}

impl Wrong {
    pub(crate) fn skip(why: impl Into<String>) -> Self {
        Self::Skipped(why.into())
    }

    pub(crate) fn fail(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }

    pub(crate) fn debug(why: impl fmt::Debug) -> Self {
        Self::Failed(format!("{why:?}"))
    }
}

/// Refuses a result that is not what it has to be.
pub(crate) fn verify<T: PartialEq + fmt::Debug>(what: &str, is: T, must: T) -> Result<(), Wrong> {
    if is == must {
        return Ok(());
    }
    Err(Wrong::Failed(format!("{what}: {is:?}, must be {must:?}")))
}

/// A stretch of one thread's work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timed {
    pub(crate) messages: u64,
    pub(crate) cpu_s: f64,
}

impl Timed {
    pub(crate) fn add(&mut self, messages: u64, cpu_s: f64) {
        self.messages += messages;
        self.cpu_s += cpu_s;
    }

    /// Million messages per second of CPU time.
    pub(crate) fn rate(self) -> f64 {
        self.messages as f64 / self.cpu_s.max(1e-9) / 1e6
    }
}

/// Measures laps until there are enough. A fifth of the time is given to laps
/// that are not counted, at least one: caches and compilers get warm.
pub(crate) fn laps(
    amount: Amount,
    mut lap: impl FnMut() -> Result<u64, Wrong>,
) -> Result<Timed, Wrong> {
    if let Amount::Seconds(seconds) = amount {
        let until = Instant::now() + Duration::from_secs_f64(seconds / 5.0);
        while Instant::now() < until {
            lap()?;
        }
    }
    lap()?;
    let mut timed = Timed::default();
    loop {
        let start = thread_cpu_s();
        let messages = lap()?;
        timed.add(messages, thread_cpu_s() - start);
        let enough = match amount {
            Amount::Seconds(seconds) => timed.cpu_s >= seconds,
            Amount::Messages(count) => timed.messages >= count,
        };
        if enough {
            return Ok(timed);
        }
    }
}

/// The clock that all processes share.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    Duration::from(now).as_nanos() as u64
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu_s() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
    Duration::from(now).as_secs_f64()
}

/// Runs something on a thread of its own that stays on a core. A thread takes
/// its parent's pin with it, so nothing else is ever pinned.
pub(crate) fn on_core<T: Send>(core: Option<CoreId>, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            pin(core);
            work()
        });
        pinned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Pins the calling thread, where the system lets it.
pub(crate) fn pin(core: Option<CoreId>) {
    if let Some(core) = core {
        core_affinity::set_for_current(core);
    }
}

/// Waits for the other thread: hot at first, then lets others run, because on
/// a shared machine the other thread may be one of them.
#[derive(Default)]
pub(crate) struct Spin(u32);

impl Spin {
    pub(crate) fn wait(&mut self) {
        self.0 += 1;
        if self.0 < 10_000 {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }

    pub(crate) fn found(&mut self) {
        self.0 = 0;
    }
}

/// Mixes a word into a hash.
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Mixes bytes into a hash.
pub(crate) fn mix_bytes(hash: u64, bytes: &[u8]) -> u64 {
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    };
    let hash = mix(hash, bytes.len() as u64);
    bytes.chunks(8).fold(hash, |hash, chunk| mix(hash, word(chunk)))
}
