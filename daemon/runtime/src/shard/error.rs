//! Why a shard's thread could not start, or why it ended.

use std::any::Any;
use std::fmt;
use std::io;

use crate::probe::Refusal;

/// A shard's thread could not be started.
#[derive(Debug)]
pub enum RuntimeError {
    /// io_uring was asked for and is not to be had: the message says what to
    /// change on the host, or configure the poll driver.
    Refused(Refusal),
    /// The core cannot be used by this process; choose from those that
    /// [`crate::cores::available`] lists.
    Core {
        /// The core that was asked for.
        core: usize,
    },
    /// The system is out of threads, descriptors or memory.
    System {
        /// What was attempted.
        attempt: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Core { core } => write!(
                f,
                "cannot run on core {core}: this process may not use it (see taskset, cpuset or \
                 CPUAffinity=)"
            ),
            Self::System { attempt, error } => {
                write!(f, "cannot {attempt}: {error} (raise the limits of this process)")
            }
        }
    }
}

impl std::error::Error for RuntimeError {}

/// A shard's thread ended before it was told to.
#[derive(Debug)]
pub struct ShardFailure {
    /// The name of the shard.
    pub shard: String,
    /// What happened.
    pub reason: FailureReason,
}

/// What ended a shard.
#[derive(Debug)]
pub enum FailureReason {
    /// Its code panicked, with this message: a fault of this program.
    Panic(String),
    /// Waiting for events failed: the kernel refuses.
    Io(io::Error),
}

impl fmt::Display for ShardFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            FailureReason::Panic(message) => write!(f, "shard {} panicked: {message}", self.shard),
            FailureReason::Io(error) => {
                write!(f, "shard {} cannot wait for events: {error}", self.shard)
            }
        }
    }
}

impl std::error::Error for ShardFailure {}

/// The text of a panic.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
