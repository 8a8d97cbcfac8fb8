//! One core's turn, from source to sink.
//!
//! ```text
//! source -> decode -> [exchange] -> chain of operators -> queue -> encode -> sink
//!    ^------------- credit, acks, positions: numbers only -------------'
//! ```
//!
//! Owns: how a flow is cut into parts for shards and wired ([`wire`]), how the
//! parts are put together ([`Shard`]), the turn, the exchange by key, dead
//! letters, acknowledged positions, and the end of a flow from source to sink.
//!
//! Invariants:
//! - A batch runs through the whole chain in one go, and only when every exit
//!   that it may leave by has the credit, or a policy for not having it.
//! - The memory of a flow is what [`memory_bytes`] sums: made here, once.
//! - A source's position is passed on only when every sink that its messages
//!   reached has accepted them, and the dead letters are stored.
//! - A shard waits for nothing but events, bells and timers.
//!
//! Deliberately absent: TOML, HTTP, files of its own: the controller reads
//! configurations and stores positions.
#![forbid(unsafe_code)]

mod account;
mod amend;
mod assembly;
mod checkpoint;
mod control;
mod dead_letter;
mod event;
mod exchange;
mod exits;
mod flow;
mod graph;
mod inlet;
mod keep;
mod keyed;
mod memory;
mod modules;
mod operators;
mod outlet;
mod replay;
mod scoped;
mod spill;
mod tap;
mod test_bench;
mod turn;
mod values;
mod wiring;

pub use checkpoint::{CheckpointPart, CheckpointSlot, FINAL, SavedState};
pub use control::{FlowControl, Phase, ScriptReport, ScriptStatus, ScriptVersion};
pub use dead_letter::rfc3339;
pub use inlet::PositionSlot;
pub use keep::{Joints, Keep, Parts};
pub use memory::added_bytes;
pub use modules::Looked;
pub use operators::{OperatorError, Setting, compile, load_script, slow_parts};
pub use replay::{Replay, ReplayGroup};
pub use ringmain_lua::self_test as lua_self_test;
pub use ringmain_ops::{Code, CodeVersion};
pub use tap::{Tap, TapCounts, TapRequest, Tapped};
pub use test_bench::{BenchCount, BenchError, Datum, Message, TestBench, holds};
pub use turn::Shard;
pub use wiring::{Amended, FlowParts, PositionKey, WireOptions, Wired, memory_bytes, rewire, wire};
