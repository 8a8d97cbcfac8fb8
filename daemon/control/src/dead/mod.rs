//! Dead letters after the fact: looking at them, putting them back in.
//!
//! Invariants: a letter leaves its file when what was refused has been
//! accepted, and not before; what is refused again is there with its new
//! reason. Deliberately absent: the daemon that wrote them, which must not
//! have the file open.

mod letters;
mod list;
mod plan;
mod replay;

pub use letters::{DeadError, Filter, Letter, letters};
pub use list::list;
pub use replay::{Replay, Replayed, replay};
