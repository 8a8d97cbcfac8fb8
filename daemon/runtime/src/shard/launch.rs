//! Starting a shard: thread, pin, driver, executor, turns.
//!
//! Order: the thread pins itself (a pin set before would be inherited by what
//! the caller spawns next), makes its driver there (a ring belongs to the
//! thread that made it), tells the caller that it stands, and only then makes
//! the shard. Everything of the shard lives and dies on its thread.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use ringmain_base::SystemClock;
use ringmain_ring::Wake;

use super::error::{FailureReason, RuntimeError, ShardFailure, panic_message};
use super::heartbeat::{Heartbeat, HeartbeatSample, Kick, Monitor};
use super::pace::Pace;
use super::turn::Turn;
use super::{executor, plain};
use crate::cores;
use crate::driver::Driver;
use crate::io::Io;
use crate::pollio::PollIo;
use crate::waker::Waker;

/// Which driver a shard gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IoKind {
    /// io_uring where it is to be had, else poll with a report of why.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// poll(2) on a plain thread.
    Poll,
}

/// Told in one line why the poll driver is used instead of io_uring.
pub type OnFallback = Box<dyn FnOnce(&str) + Send>;

/// How to launch a shard.
pub struct LaunchOptions {
    /// Name of the thread; the system shows its first 15 bytes.
    pub name: String,
    /// The core to stay on; `None` leaves that to the scheduler.
    pub core: Option<usize>,
    /// Which driver to use.
    pub io: IoKind,
    /// What ends the shard's sleep; made before, so that doorbells can be.
    pub waker: Arc<Waker>,
    /// The clock that all shards of the process share.
    pub clock: SystemClock,
    /// Told in one line why io_uring is not used, should it come to that.
    pub on_fallback: Option<OnFallback>,
}

impl LaunchOptions {
    /// A shard that is not pinned, on whichever driver is to be had.
    #[must_use]
    pub fn new(name: impl Into<String>, waker: Arc<Waker>, clock: SystemClock) -> Self {
        Self { name: name.into(), core: None, io: IoKind::Auto, waker, clock, on_fallback: None }
    }
}

/// Where a shard finds itself.
#[derive(Clone, Debug)]
pub struct Place {
    /// The name it was launched with.
    pub name: Arc<str>,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// The driver it got: `io_uring` or `poll`.
    pub io: &'static str,
    /// The clock that its turns are given.
    pub clock: SystemClock,
}

/// A shard's thread, seen from outside. Dropping it leaves the thread alone.
#[derive(Debug)]
pub struct ShardThread {
    thread: JoinHandle<Result<(), FailureReason>>,
    waker: Arc<Waker>,
    monitor: Monitor,
    place: Place,
}

impl ShardThread {
    /// Ends the shard's sleep.
    #[must_use]
    pub fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.waker) as Arc<dyn Wake>
    }

    /// Where the shard runs.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Signs of life.
    #[must_use]
    pub fn heartbeat(&self) -> HeartbeatSample {
        self.monitor.heartbeat()
    }

    /// What a [`super::Supervisor`] needs to watch over this shard.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    /// When the shard panicked or its driver failed.
    pub fn join(self) -> Result<(), ShardFailure> {
        let ended = self.thread.join();
        let ended =
            ended.unwrap_or_else(|payload| Err(FailureReason::Panic(panic_message(&*payload))));
        ended.map_err(|reason| ShardFailure { shard: self.monitor.name().to_owned(), reason })
    }
}

/// What the thread of a shard works with.
pub(super) struct Start {
    pub(super) core: Option<usize>,
    pub(super) waker: Arc<Waker>,
    pub(super) monitor: Monitor,
    pub(super) started: SyncSender<Result<Place, RuntimeError>>,
}

impl Start {
    /// Tells the caller that the shard's driver stands.
    pub(super) fn announce(&self, io: &'static str) -> Place {
        let (name, clock) = (Arc::clone(&self.monitor.name), self.monitor.clock);
        let place = Place { name, core: self.core, io, clock };
        // A caller that is gone does not want to know.
        let _ = self.started.send(Ok(place.clone()));
        place
    }
}

/// Starts a shard's thread and waits until its driver stands; `make` then
/// runs on that thread.
///
/// # Errors
/// When the core, the driver or the thread is not to be had.
pub fn launch<F>(options: LaunchOptions, make: F) -> Result<ShardThread, RuntimeError>
where
    F: FnOnce(&mut dyn Io, &Place) -> Box<dyn Turn> + Send + 'static,
{
    let LaunchOptions { name, core, io, waker, clock, on_fallback } = options;
    let monitor = Monitor {
        name: name.as_str().into(),
        heartbeat: Arc::new(Heartbeat::default()),
        kick: Arc::new(Kick::default()),
        waker: Arc::clone(&waker),
        clock,
    };
    let (started, answer) = sync_channel(1);
    let start = Start { core, waker: Arc::clone(&waker), monitor: monitor.clone(), started };
    let thread = thread::Builder::new()
        .name(name)
        .spawn(move || shard_main(start, io, on_fallback, make))
        .map_err(|error| RuntimeError::System { attempt: "start a thread", error })?;
    match answer.recv() {
        Ok(Ok(place)) => Ok(ShardThread { thread, waker, monitor, place }),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(_) => {
            let _ = thread.join();
            let error = std::io::Error::other("its thread ended at once");
            Err(RuntimeError::System { attempt: "start a shard", error })
        }
    }
}

fn shard_main<F>(
    start: Start,
    io: IoKind,
    on_fallback: Option<OnFallback>,
    make: F,
) -> Result<(), FailureReason>
where
    F: FnOnce(&mut dyn Io, &Place) -> Box<dyn Turn>,
{
    if let Some(core) = start.core
        && !cores::pin(core)
    {
        let _ = start.started.send(Err(RuntimeError::Core { core }));
        return Ok(());
    }
    if io == IoKind::Poll {
        return run_plain(&start, make);
    }
    match executor::prepare(&start.waker) {
        Ok(prepared) => executor::run(&start, prepared, make),
        Err(refusal) if io == IoKind::Auto => {
            if let Some(tell) = on_fallback {
                tell(&refusal.to_string());
            }
            run_plain(&start, make)
        }
        Err(refusal) => {
            let _ = start.started.send(Err(RuntimeError::Refused(refusal)));
            Ok(())
        }
    }
}

fn run_plain<F>(start: &Start, make: F) -> Result<(), FailureReason>
where
    F: FnOnce(&mut dyn Io, &Place) -> Box<dyn Turn>,
{
    let mut io = PollIo::new(Arc::clone(&start.waker));
    let place = start.announce(io.name());
    let turn = plain::guarded(|| Ok(make(&mut io, &place)))?;
    let monitor = &start.monitor;
    let mut pace = Pace::new(turn, monitor.clock, &monitor.heartbeat, false);
    let ended = plain::run(&mut pace, &mut io);
    // The shard before its driver, and within the guard: it may panic too.
    let dropped = plain::guarded(|| {
        drop(pace);
        Ok(())
    });
    ended.and(dropped)
}
