//! The shard's loop as the one long-lived task of a glommio executor.
//!
//! The only file that names glommio, and the pattern that does not hang with
//! it (its executor can park with a task runnable when it was preempted):
//! preemption is off; the task never yields but awaits an eventfd that is
//! always readable, every millisecond while busy, which is a real turn of the
//! reactor; it parks on an eventfd of our own; and a [`super::Supervisor`]
//! kicks it through its waker when its heartbeat stands still. Deliberately
//! absent: glommio's sockets, timers, channels and files.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use glommio::io::{PollState, PollableFd};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::error::FailureReason;
use super::heartbeat::{Kick, Target};
use super::launch::{Place, Start};
use super::pace::{Pace, Step};
use super::plain::guarded;
use super::turn::Turn;
use crate::driver::Driver;
use crate::io::Io;
use crate::probe::{self, Refusal};
use crate::uring::UringIo;
use crate::waker::{Waker, eventfd};

/// Preemption is what hangs; ten years is never.
const PREEMPT_NEVER: Duration = Duration::from_secs(3650 * 86_400);
/// Registered buffers of the executor, which we do not use; the default pins
/// 30 MiB.
const EXECUTOR_IO_BYTES: usize = 64 << 10;

/// An executor and a driver for the calling thread.
pub(super) struct Prepared {
    executor: LocalExecutor,
    io: UringIo,
    always: OwnedFd,
}

/// Makes both, or says why io_uring is not to be had.
pub(super) fn prepare(waker: &Arc<Waker>) -> Result<Prepared, Refusal> {
    // First of all: the executor ends the process where the kernel is too old.
    probe::io_uring()?;
    let io = UringIo::new(Arc::clone(waker)).map_err(|error| Refusal::of_setup(&error))?;
    let always = eventfd(1).map_err(|error| Refusal::of_setup(&error))?;
    // The thread has its core already; to be bound, glommio would read the
    // machine's topology, and panic where no /sys is mounted.
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT_NEVER)
        .io_memory(EXECUTOR_IO_BYTES)
        .make()
        .map_err(|error| Refusal::of_setup(&io_error(error)))?;
    Ok(Prepared { executor, io, always })
}

/// Makes the shard and runs it to its end.
pub(super) fn run<F>(start: &Start, prepared: Prepared, make: F) -> Result<(), FailureReason>
where
    F: FnOnce(&mut dyn Io, &Place) -> Box<dyn Turn>,
{
    let Prepared { executor, mut io, always } = prepared;
    let place = start.announce(io.name());
    let turn = guarded(|| Ok(make(&mut io, &place)))?;
    let monitor = &start.monitor;
    let mut pace = Pace::new(turn, monitor.clock, &monitor.heartbeat, true);
    let ended = executor.run(async {
        let ended = drive(&mut pace, &mut io, always, &monitor.kick).await;
        // Before the executor goes: nobody wakes a task that is no more.
        monitor.kick.set(None);
        ended
    });
    // The shard before its driver, and within the guard: it may panic too.
    let dropped = guarded(|| {
        drop(pace);
        Ok(())
    });
    ended.and(dropped)
}

async fn drive(
    pace: &mut Pace<'_>,
    io: &mut UringIo,
    always: OwnedFd,
    kick: &Kick,
) -> Result<(), FailureReason> {
    let duplicate = |io: &UringIo| io.park_event().try_clone_to_owned().map_err(FailureReason::Io);
    let (park, kicks_park) = (duplicate(io)?, duplicate(io)?);
    let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
    kick.set(Some(Target { waker, park: kicks_park }));
    let always = PollableFd::new(always).map_err(executor_failure)?;
    let park = PollableFd::new(park).map_err(executor_failure)?;
    loop {
        match guarded(|| pace.step(io))? {
            Step::Again => {}
            Step::Executor => always.readable().await.map_err(executor_failure)?,
            Step::Park(timeout_us) => {
                if io.prepare_park(timeout_us).map_err(FailureReason::Io)? {
                    parked(&park, io).await.map_err(executor_failure)?;
                    io.unpark();
                }
                guarded(|| {
                    pace.unparked();
                    Ok(())
                })?;
            }
            Step::Stop => return Ok(()),
        }
    }
}

/// Sleeps until the driver announces something. A kick polls this too, and
/// finds what an announcement that got lost would have told.
async fn parked<T: AsRawFd>(
    park: &PollableFd<T>,
    io: &mut UringIo,
) -> Result<(), glommio::GlommioError<()>> {
    let mut waiting = PollState::default();
    let mut kicked = false;
    poll_fn(|context| {
        let polled = park.poll_readable(context, &mut waiting);
        if polled.is_pending() && kicked && io.has_missed() {
            return Poll::Ready(Ok(()));
        }
        kicked = true;
        polled
    })
    .await
}

fn executor_failure(error: glommio::GlommioError<()>) -> FailureReason {
    FailureReason::Io(io_error(error))
}

fn io_error(error: glommio::GlommioError<()>) -> io::Error {
    error.into()
}
