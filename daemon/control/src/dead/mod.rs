//! Dead letters after the fact: looking at them, putting them back in.
//!
//! Invariants: a letter leaves its file when what was refused has been
//! accepted, and not before; what is refused again is there with its new
//! reason. A file that is open is never changed: a flow that runs closes its own
//! first ([`live`]); for [`replay`] the daemon that wrote it has been stopped.

mod letters;
mod list;
pub(crate) mod live;
mod plan;
mod replay;
pub(crate) mod store;

pub use letters::{DeadError, Filter, Letter, letters};
pub use list::list;
pub use replay::{Replay, Replayed, replay};
