//! The message format: rows in slabs.
//!
//! Owns: the pooled memory that holds a batch of messages ([`Slab`]), the row
//! layout ([`RowHeader`], [`Slot`]), reading ([`RowRef`]), building
//! ([`RowBuilder`]), editing in place ([`RowMut`]), the flow's field names
//! ([`Schema`]) and the validation of rows that come from outside the process
//! ([`Slab::push_checked`]).
//!
//! ```text
//! | row 0 | row 1 | ... -> free <- ... | index 1 | index 0 |
//!
//! row: | header 24 B | slot 0 | slot 1 | ... | variable part |
//! ```
//!
//! Invariants, which the unchecked reads rest on:
//! - Rows enter a slab only through [`RowBuilder::finish`], a copy of a row
//!   that is in a slab, or [`Slab::push_checked`]. All three leave a row whose
//!   offsets lie inside the used part of the slab, whose strings are UTF-8 and
//!   whose trees are acyclic.
//! - Offsets are relative to the row's first byte, so that a row moves with
//!   one memcpy and reads the same from Rust and from LuaJIT. A row that was
//!   edited may refer to bytes behind it in the same slab (flag
//!   [`SCATTERED`]); such a row is gathered when it is copied elsewhere.
//! - The index decides which rows exist: a filter edits the index, nothing
//!   moves.
//! - Every byte of a slab is initialised from its allocation on.
//!
//! Deliberately absent: I/O, codecs, rings, and any thought of who holds a
//! slab: whoever has the [`Slab`] value owns the memory.

mod ahead;
mod budget;
mod build;
mod check;
mod edit;
mod layout;
mod read;
mod schema;
mod slab;
mod stamp;

pub use ahead::fetch_to_write;
pub use budget::Budget;
pub use build::{RowBuilder, Scalar, Scratch, TreeBuilder};
pub use check::Malformed;
pub use edit::{RowMut, Source};
pub use layout::{BARE, HEADER_BYTES, REST_SLOT, RowHeader, SCATTERED, SLOT_BYTES, Slot, tag};
pub use read::{ListRef, MapRef, RowRef, ValueRef};
pub use schema::{Schema, SchemaFull, SharedSchema};
pub use slab::{Full, RawParts, Shared, Slab};
pub use stamp::{Blank, Stamp, Stamped};
