//! Operators: what happens to rows between a source and a sink.
//!
//! Owns: the [`Operator`] trait, the native operators (filter, map, route) and
//! the native form of expressions. The crate `lua` adds operators written in
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

use ringmain_base::{Now, Reason};
use ringmain_slab::{RowRef, Slab};

/// Where refused messages go.
pub trait Refuse {
    /// Takes note of a row that the component could not process; `detail` says
    /// why in a sentence.
    fn refuse(&mut self, row: RowRef<'_>, reason: Reason, detail: &str);
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

/// One step of a flow, on one shard.
pub trait Operator {
    /// Names of the output ports besides the default one.
    fn ports(&self) -> &[String] {
        &[]
    }

    /// Works on a batch. Rows left in `slab` leave through the default port,
    /// rows in `cx.ports[i]` through port `i`.
    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>);

    /// Replaces the code that the operator was made of; its state stays. Called
    /// between two batches.
    ///
    /// # Errors
    /// Why not; the operator goes on as it was.
    fn reload(&mut self, code: &str, chunk: &str) -> Result<(), String> {
        let _ = code;
        Err(format!("{chunk}: this operator is not made of a script"))
    }

    /// Why it refuses everything, if it does; people are told.
    fn trouble(&self) -> Option<String> {
        None
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
}
