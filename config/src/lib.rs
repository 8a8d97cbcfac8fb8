//! TOML files to a [`Plan`]: every error of every file at once.
//!
//! Two steps. The raw side ([`Value`], [`Table`]) says what a file says, with
//! the place of every key; the plan says what it means. Deliberately absent:
//! anything above this floor. Lua expressions stay text with a [`Span`]; whoever
//! compiles them pushes what is wrong into the same [`Diagnostics`].
#![forbid(unsafe_code)]

mod diagnostics;
mod span;
#[allow(dead_code)] // the loader follows
mod value;

pub mod plan;

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use plan::*;
pub use span::{FileId, Position, SourceFile, Sources, Span, Spanned};
pub use value::{Table, Value};
