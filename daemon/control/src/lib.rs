//! The controller: stands beside the data path, never in it.
//!
//! Owns: checking a plan as a whole ([`prepare`]), starting and stopping
//! shards ([`run`]), tests of flows ([`test`](fn@test)), checkpoints ([`Keeper`], [`Store`]), and telling people what is
//! going on (live table, summary).
//!
//! Invariants:
//! - `run` refuses what `check` refuses: both begin with [`prepare`].
//! - No message moves before every connector of every flow has been opened.
//! - Every wait has a deadline; a second signal ends at once.
//!
//! Deliberately absent: a slab's content. The controller sees counts, meters
//! and positions.
#![forbid(unsafe_code)]

mod api;
mod change;
mod check;
mod dead;
mod definitions;
mod desk;
mod export;
mod figures;
mod flow_test;
mod jolokia;
mod keeper;
mod live;
mod node;
mod reload;
mod run;
mod said;
mod schedule;
mod scripts;
mod side;
mod start;
mod store;
mod summary;
mod view;
mod whole_file;

pub use check::{Given, Prepared, prepare};
pub use dead::{DeadError, Filter, Letter, Replay, Replayed, letters, list, replay};
pub use flow_test::{Failure, TestCase, TestReport, TestSuite, junit, test};
pub use keeper::Keeper;
pub use live::LogStream;
pub use run::{Outcome, RunError, RunOptions, RunState, run};
pub use store::{Checkpoint, Store, StoreError};
pub use summary::Summary;
