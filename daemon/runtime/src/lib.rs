//! Pinned shard threads and the one way in which connectors do I/O.
//!
//! Owns: the [`Io`] trait with its drivers ([`uring`], [`pollio`], and the
//! in-memory twin [`memory`]), the thread and executor that a shard's turns
//! run on ([`launch`]), where threads may run ([`cores`]), whether io_uring is
//! to be had ([`probe`]), and who notices that a shard stands still
//! ([`Supervisor`]).
//!
//! Deliberately absent: what a turn does, what bytes mean, configuration.
//! The executor (glommio) and io_uring are named nowhere outside this crate.

pub mod cores;
mod driver;
mod handles;
pub mod io;
pub mod memory;
pub mod pollio;
pub mod probe;
mod shard;
pub mod signals;
mod slots;
mod sys;
mod timers;
pub mod uring;
mod waker;
mod writes;

pub use driver::{Driver, GATHER_US};
pub use io::{Event, EventKind, Group, Handle, Io, Lease, OpId, Peer};
pub use memory::MemoryIo;
pub use pollio::PollIo;
pub use shard::{
    FailureReason, Heartbeat, HeartbeatSample, IoKind, LaunchOptions, Monitor, Next, OnFallback,
    Place, RuntimeError, ShardFailure, ShardThread, Stall, Supervisor, SupervisorOptions, Turn,
    launch,
};
pub use sys::area::group_bytes;
pub use uring::UringIo;
pub use waker::Waker;
