//! The native form of Lua expressions: filter, map and route without a Lua
//! state.
//!
//! Owns a parser of the part of Lua that most expressions are written in
//! (fields, literals, operators, parentheses) and evaluation with exactly
//! LuaJIT's semantics, errors included: it must never matter to a user whether
//! an expression runs here or in `lua/`, which has the complete language.
//!
//! Two forms stand beside each other. The fast ones ([`predicate`],
//! [`column`]) know rows whose fields have the expected type; a row that they
//! do not understand is evaluated in full ([`eval`]).
//!
//! Every function here returns `None` for what it has no native form of: a
//! call, an index, a name that is not a field, a field without a slot. The
//! caller then compiles the same text with `lua/`.

mod column;
mod eval;
pub mod event;
mod filter;
pub mod keyed;
mod lex;
mod map;
mod number;
mod parse;
mod predicate;
mod route;
#[cfg(test)]
mod tests;

use ringmain_slab::SharedSchema;

use crate::Operator;
use eval::{Bound, Field};

/// An expression whose fields have slots.
fn bind(expr: &str, schema: &SharedSchema) -> Option<Bound> {
    let parsed = parse::parse(expr)?;
    parsed.bind(&mut |name| Some(Field { slot: schema.intern(name).ok()?, name: name.clone() }))
}

/// Keeps the messages for which the expression is neither false nor nil.
#[must_use]
pub fn filter(_name: &str, expr: &str, schema: &SharedSchema) -> Option<Box<dyn Operator>> {
    Some(Box::new(filter::Filter::new(bind(expr, schema)?)))
}

/// Sets fields to the values that expressions have for the incoming message;
/// then renames, then removes, then, if `keep` is not empty, removes all
/// others.
#[must_use]
pub fn map(
    _name: &str,
    set: &[(String, String)],
    remove: &[String],
    rename: &[(String, String)],
    keep: &[String],
    schema: &SharedSchema,
) -> Option<Box<dyn Operator>> {
    let slot = |name: &String| schema.intern(name).ok();
    let mut sets = Vec::new();
    for (at, (name, expr)) in set.iter().enumerate() {
        if set[..at].iter().any(|(other, _)| other == name) {
            return None;
        }
        sets.push(map::Set::new(slot(name)?, bind(expr, schema)?));
    }
    let renames = rename
        .iter()
        .map(|(from, to)| Some((slot(from)?, slot(to)?)))
        .collect::<Option<Vec<_>>>()?;
    let removes = remove.iter().map(slot).collect::<Option<Vec<_>>>()?;
    let keep = keep.iter().map(slot).collect::<Option<Vec<_>>>()?;
    let mask = keep.iter().fold(0u64, |mask, slot| mask | (1 << slot));
    let keep = (!keep.is_empty()).then_some(mask);
    Some(Box::new(map::Map::new(sets, map::Shape { renames, removes, keep })))
}

/// Sends each message to the port of the first expression that is neither
/// false nor nil; if there is none, to the port `default`, or nowhere.
#[must_use]
pub fn route(
    _name: &str,
    routes: &[(String, String)],
    default: Option<&str>,
    schema: &SharedSchema,
) -> Option<Box<dyn Operator>> {
    let routes = routes
        .iter()
        .map(|(port, expr)| Some((port.clone(), filter::Condition::new(bind(expr, schema)?))))
        .collect::<Option<Vec<_>>>()?;
    Some(Box::new(route::Route::new(routes, default)))
}
