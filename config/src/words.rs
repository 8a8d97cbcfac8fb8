//! The wording of what goes wrong in one key, in one place so that the same
//! mistake reads the same everywhere.

use ringmain_base::units::UnitError;

use crate::diagnostics::{Diagnostic, nearest};
use crate::schema::{Family, Key, Schema};
use crate::span::Spanned;
use crate::value::Value;

/// What a key holds and what it is for.
pub(crate) fn explain(key: &Key) -> String {
    format!("'{}' is {}. {}", key.name, key.kind.expected(), key.about)
}

/// "must be X, not Y".
pub(crate) fn wrong_type(what: &str, expected: &str, value: &Spanned<Value>) -> Diagnostic {
    let message = format!("{what} must be {expected}, not {}", value.describe());
    let diagnostic = Diagnostic::error(value.span, message);
    match value.value {
        Value::Integer(i) if expected.starts_with("a size") => {
            diagnostic.help(format!("add a unit: \"{i}B\", \"{i}KiB\", \"{i}MiB\""))
        }
        Value::Integer(i) if expected.starts_with("a duration") => {
            diagnostic.help(format!("add a unit: \"{i}ms\", \"{i}s\", \"{i}m\""))
        }
        _ => diagnostic,
    }
}

pub(crate) fn unit_words(error: &UnitError) -> String {
    match error {
        UnitError::NoNumber => "does not begin with a number".into(),
        UnitError::UnknownUnit { unit, expected } => {
            format!("has the unknown unit '{unit}' (use {expected})")
        }
        other => other.to_string(),
    }
}

pub(crate) fn unknown_key(
    key: &Spanned<String>,
    schema: &'static Schema,
    family: Option<&'static Family>,
) -> Diagnostic {
    let diagnostic =
        Diagnostic::error(key.span, format!("unknown key '{key}' for {}", schema.title));
    let all = schema.all();
    let known: Vec<&str> = all.iter().map(|k| k.name).collect();
    if let Some(near) = nearest(key, known.iter().copied()) {
        return diagnostic.help(format!("did you mean '{near}'?"));
    }
    let elsewhere = family.map(|f| f.types_with(key)).unwrap_or_default();
    if let (Some(family), false) = (family, elsewhere.is_empty()) {
        let list = elsewhere.join(", ");
        return diagnostic.help(format!("'{key}' is a key of {} type {list}", family.noun));
    }
    diagnostic.help(format!("its keys are {}", known.join(", ")))
}

/// A duration in the largest unit that divides it.
pub(crate) fn format_us(us: u64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ];
    let found = UNITS.iter().find(|(scale, _)| us >= *scale && us.is_multiple_of(*scale));
    found.map_or_else(|| format!("{us}us"), |(scale, unit)| format!("{}{unit}", us / scale))
}
