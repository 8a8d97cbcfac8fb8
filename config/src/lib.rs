//! TOML files to a [`Plan`]: every error of every file at once.
//!
//! Two steps. The raw side ([`Value`], [`Table`]) says what a file says, with
//! the place of every key; the plan says what it means. Deliberately absent:
//! anything above this floor. Lua expressions stay text with a [`Span`]; whoever
//! compiles them pushes what is wrong into the same [`Diagnostics`].
#![forbid(unsafe_code)]

mod check;
mod diagnostics;
mod diff;
mod edit;
mod env;
mod load;
mod parse;
mod reference;
mod schema;
mod section;
mod span;
mod value;
mod words;

pub mod graph;
pub mod plan;

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use diff::{FlowDiff, diff};
pub use edit::with_schedule;
pub use load::{Loader, flow_name, load, load_auth, load_str, load_to_run, load_with};
pub use plan::*;
pub use reference::reference;
pub use span::{FileId, Position, SourceFile, Sources, Span, Spanned};
pub use value::{Table, Value};
