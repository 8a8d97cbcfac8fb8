//! What a shard does with its thread: turns, one after the other.

use ringmain_base::Now;

use crate::io::Io;

/// What should happen after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Something was done: the next turn follows at once.
    Busy,
    /// Nothing was to be done. The thread may sleep until something happens,
    /// but no longer than this.
    Idle {
        /// Microseconds until the next turn is due in any case.
        wake_in_us: Option<u64>,
    },
    /// The shard is finished; its thread ends.
    Stop,
}

/// The work of one shard. Never sent between threads: made on its own.
pub trait Turn {
    /// One bounded piece of work. Polls `io` for events, and never blocks.
    fn turn(&mut self, io: &mut dyn Io, now: Now) -> Next;

    /// The thread is about to sleep: arms the doorbells, then looks at
    /// everything that could ring them once more. `true` if there is work
    /// after all; the thread does not sleep then.
    fn prepare_park(&mut self) -> bool;

    /// Whether another shard has left something since the last turn began.
    /// Asked many times in a row: must be cheap.
    fn has_news(&self) -> bool {
        false
    }

    /// The thread is awake again: disarms the doorbells. Follows every
    /// `prepare_park`.
    fn unpark(&mut self);
}
