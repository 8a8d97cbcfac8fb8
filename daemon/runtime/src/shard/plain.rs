//! The shard's loop on a plain thread, for the poll driver.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{FailureReason, panic_message};
use super::pace::{Pace, Step};
use crate::driver::Driver;

/// Runs turns until the shard stops or fails.
pub(crate) fn run(pace: &mut Pace<'_>, io: &mut dyn Driver) -> Result<(), FailureReason> {
    loop {
        match guarded(|| pace.step(io))? {
            Step::Again | Step::Executor => {}
            Step::Park(timeout_us) => guarded(|| {
                io.wait(timeout_us)?;
                pace.unparked();
                Ok(())
            })?,
            Step::Stop => return Ok(()),
        }
    }
}

/// The boundary that a panic in a turn does not pass.
pub(crate) fn guarded<T>(work: impl FnOnce() -> io::Result<T>) -> Result<T, FailureReason> {
    // What the panic left half done is never used again: the caller ends.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(FailureReason::Io),
        Err(payload) => Err(FailureReason::Panic(panic_message(&*payload))),
    }
}
