//! Lua over rows: expressions and operators, compiled by LuaJIT, on the rows
//! as they lie in the slab.
//!
//! Owns: one Lua state per operator and shard ([`script`], [`filter`],
//! [`map`], [`route`]), the cursor over rows (`prelude.lua`), the analysis of
//! expressions, the sandbox, and the limits of time and memory.
//!
//! Invariants:
//! - One call into Lua per slab; per message nothing is allocated on the Rust
//!   side and nothing crosses the C API, except where a script hands over a
//!   table.
//! - Lua reads rows and writes none: every write is a call into `env.rs`,
//!   which uses the slab's own editing.
//! - A message that fails is refused as it came in; the others are not touched
//!   by its failure.
//! - User code is loaded as text only, into an environment that is a
//!   whitelist; `ffi` exists only inside the prelude.
//!
//! Deliberately absent: files, I/O, configuration; and miri, which cannot run
//! LuaJIT: what `unsafe` rests on here is argued at each place and exercised
//! by the property tests.

mod env;
mod error;
mod expression;
mod host;
mod lint;
mod load;
mod operator;
mod pattern;
mod quarantine;
mod sandbox;
mod saved;
mod scope;
mod script;
mod self_test;
mod token;
mod tree;
mod value;
mod watchdog;
mod writes;

pub use error::CompileError;
pub use expression::check;
pub use host::{Counters, Limits};
pub use lint::{Lint, lint};
pub use load::FindModule;
pub use operator::{LuaOperator, Map, PartError, filter, filter_within, map, route};
pub use script::{Config, Log, Script, ScriptOptions, script};
#[doc(hidden)]
pub use self_test::assume_unchecked_hooks;
pub use self_test::self_test;
