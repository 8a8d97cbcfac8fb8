//! A shard's thread: launching it, pacing its turns, watching over it.

mod error;
mod executor;
mod heartbeat;
mod launch;
mod pace;
mod plain;
mod supervisor;
mod turn;

pub use error::{FailureReason, RuntimeError, ShardFailure};
pub use heartbeat::{Heartbeat, HeartbeatSample, Monitor};
pub use launch::{IoKind, LaunchOptions, OnFallback, Place, ShardThread, launch};
pub use supervisor::{Stall, Supervisor, SupervisorOptions};
pub use turn::{Next, Turn};
