//! Operators: what happens to rows between a source and a sink.
//!
//! Owns: the [`Operator`] trait, the native operators (filter, map, route,
//! and those that remember something by key) and the native form of
//! expressions. The crate `lua` adds operators written in
//! Lua and the complete expressions.
//!
//! Invariants:
//! - An operator is called once per slab, never once per message.
//! - Every row that comes in goes out on one port, is dropped on purpose, or
//!   is refused with a reason: in = out + dropped + dead.
//! - An operator keeps rows in order.
//!
//! Deliberately absent: rings, I/O, configuration, the graph: an operator does
//! not know what stands before or behind it.
#![forbid(unsafe_code)]

pub mod chain;
pub mod native;

use std::sync::Arc;

use ringmain_base::{Now, Reason};
use ringmain_slab::{RowRef, Slab};

/// Where refused messages go.
pub trait Refuse {
    /// Takes note of a row that the component could not process; `detail` says
    /// why in a sentence.
    fn refuse(&mut self, row: RowRef<'_>, reason: Reason, detail: &str);

    /// Takes note of a failure that belongs to no message, such as a timer's.
    fn failed(&mut self, detail: &str) {
        let _ = detail;
    }
}

/// The code that an operator is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// The script.
    pub text: Arc<str>,
    /// What messages call it.
    pub chunk: Arc<str>,
    /// What it requires, each once.
    pub modules: Arc<[Module]>,
}

/// A part of a script that it requires by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The name that it is required by.
    pub name: Arc<str>,
    /// What messages call it.
    pub chunk: Arc<str>,
    /// The text.
    pub text: Arc<str>,
}

/// Which version of its code an operator runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeVersion {
    /// A hash of the code and of all that it requires.
    pub hash: u64,
    /// What the code itself calls its version.
    pub version: Option<String>,
}

/// What an operator may use besides the slab that it is given.
pub struct Context<'a> {
    /// The turn's reading of the clock.
    pub now: Now,
    /// Takes refused messages.
    pub refuse: &'a mut dyn Refuse,
    /// One slab per port of [`Operator::ports`], empty when `process` is
    /// called.
    pub ports: &'a mut [Slab],
}

/// What an operator that keeps something has counted since it was made, for
/// people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys that are known now.
    pub keys: u64,
    /// Keys that were forgotten to make room.
    pub evicted: u64,
    /// Keys that were forgotten because their time was over.
    pub expired: u64,
    /// Messages that came after their window was closed.
    pub late: u64,
    /// Messages that are held back now.
    pub held: u64,
}

/// One step of a flow, on one shard.
pub trait Operator {
    /// Names of the output ports besides the default one.
    fn ports(&self) -> &[String] {
        &[]
    }

    /// Works on a batch. Rows left in `slab` leave through the default port,
    /// rows in `cx.ports[i]` through port `i`.
    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>);

    /// Name and version of the format in which it saves its state; `None` for
    /// an operator that keeps nothing between batches.
    ///
    /// State is kept per partition ([`partition_of`] the row's key hash, which
    /// is 0 in a flow without a partition key), so that a partition can move
    /// whole: to another shard, or over a restart.
    ///
    /// [`partition_of`]: ringmain_base::limits::partition_of
    fn state_format(&self) -> Option<&'static str> {
        None
    }

    /// Appends the state of one partition to `into`; nothing, when it has
    /// none. Called between two batches.
    ///
    /// # Errors
    /// Why the state cannot be saved; the checkpoint fails and says so.
    fn save(&mut self, partition: u16, into: &mut Vec<u8>) -> Result<(), String> {
        let _ = (partition, into);
        Ok(())
    }

    /// Takes over the state of one partition, as [`Operator::save`] wrote it.
    /// Called before the first batch, and only with its own format.
    ///
    /// # Errors
    /// Why the bytes are not a state of this operator.
    fn restore(&mut self, partition: u16, bytes: &[u8]) -> Result<(), String> {
        let _ = (partition, bytes);
        Err("this operator keeps no state".into())
    }

    /// Replaces the code that the operator was made of; its state stays. Called
    /// between two batches.
    ///
    /// # Errors
    /// Why not; the operator goes on as it was.
    fn reload(&mut self, code: &Code) -> Result<(), String> {
        Err(format!("{}: this operator is not made of a script", code.chunk))
    }

    /// Which version of its code it runs; `None` when it has none that could
    /// be replaced.
    fn code_version(&self) -> Option<CodeVersion> {
        None
    }

    /// What it keeps, in numbers; `None` for an operator that keeps nothing.
    fn tally(&self) -> Option<Tally> {
        None
    }

    /// Why it refuses everything, if it does; people are told.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Why it does not do all that it should, though messages pass; people are
    /// told.
    fn failing(&self) -> Option<String> {
        None
    }

    /// Whether it must be given no more batches for now: then its flow admits
    /// no input.
    fn blocks(&self) -> bool {
        false
    }

    /// When `on_timer` wants to be called, on the monotonic clock in
    /// microseconds.
    fn timer_at_us(&self) -> Option<u64> {
        None
    }

    /// The time has come. Rows put into `slab`, which is empty, leave through
    /// the default port.
    fn on_timer(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        let _ = (slab, cx);
    }

    /// No row will come any more, and nothing keeps the state: what it holds
    /// back leaves now. Rows put into `slab`, which is empty, leave through the
    /// default port. True when there is more than it wants to put into one
    /// slab: it is called again. Not called when a checkpoint takes the state
    /// to the next run.
    fn on_end(&mut self, slab: &mut Slab, cx: &mut Context<'_>) -> bool {
        let _ = (slab, cx);
        false
    }
}
