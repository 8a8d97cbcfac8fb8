//! The generator and its fields.

use super::component;
use crate::diagnostics::Diagnostic;
use crate::plan::{GenField, Scalar, SourceKind, TimeUnit};
use crate::schema::FIELDS;
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::{Table, Value};
use crate::words::wrong_type;

pub(super) fn generator(cx: &mut Context<'_>, section: &Section<'_>) -> Option<SourceKind> {
    let positive = |n: i64| u64::try_from(n).ok();
    let count = section.int(cx, "count").and_then(positive);
    let rate = section.int(cx, "rate").and_then(positive);
    let seed = section.int(cx, "seed").and_then(positive);
    let size_bytes = section.size(cx, "size");
    let fields = match section.table(cx, "fields") {
        Some((table, _)) => fields(cx, section, table),
        None if section.has("fields") => None,
        None => Some(sensor_fields()),
    };
    Some(SourceKind::Generator { count, rate, fields: fields?, size_bytes, seed: seed? })
}

fn fields(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    table: &Table,
) -> Option<Vec<(Spanned<String>, GenField)>> {
    if table.entries.is_empty() {
        let message = format!("'fields' of {} is empty", section.what);
        cx.push(
            Diagnostic::error(section.span_of("fields"), message)
                .help("name at least one field, or remove 'fields' for sensor-like messages"),
        );
        return None;
    }
    let mut fields = Vec::with_capacity(table.entries.len());
    for (name, value) in &table.entries {
        if let Some(field) = field(cx, section, name, value) {
            fields.push((name.clone(), field));
        }
    }
    (fields.len() == table.entries.len()).then_some(fields)
}

fn field(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    name: &Spanned<String>,
    value: &Spanned<Value>,
) -> Option<GenField> {
    let what = format!("field '{name}' of {}", section.what);
    let Value::Table(table) = &value.value else {
        return scalar(cx, &what, value).map(GenField::Const);
    };
    let field = component(cx, &FIELDS, table, &what, name)?;
    let s = &field.section;
    match field.kind {
        "const" => {
            let value = s.raw(cx, "value")?;
            scalar(cx, &what, value).map(GenField::Const)
        }
        "int" => {
            let (min, max) = (s.int(cx, "min"), s.int(cx, "max"));
            let (min, max) = ordered(cx, s, min?, max?)?;
            Some(GenField::Int { min, max })
        }
        "float" => {
            let (min, max) = (s.number(cx, "min"), s.number(cx, "max"));
            let decimals = s.int(cx, "decimals").and_then(|n| u8::try_from(n).ok());
            let (min, max) = ordered(cx, s, min?, max?)?;
            Some(GenField::Float { min, max, decimals: decimals? })
        }
        "bool" => Some(GenField::Bool { probability: s.number(cx, "probability")? }),
        "choice" => choice(cx, s, &what),
        "name" => {
            let prefix = s.text(cx, "prefix");
            let count = s.int(cx, "count").and_then(|n| u64::try_from(n).ok());
            let digits = s.int(cx, "digits").and_then(|n| u8::try_from(n).ok());
            Some(GenField::Name { prefix: prefix?.value, count: count?, digits: digits? })
        }
        "sequence" => {
            let (start, step) = (s.int(cx, "start"), s.int(cx, "step"));
            Some(GenField::Sequence { start: start?, step: step? })
        }
        "string" => {
            let length = s.int(cx, "length").and_then(|n| u32::try_from(n).ok());
            Some(GenField::String { length: length? })
        }
        _ => {
            let units = [("s", TimeUnit::S), ("ms", TimeUnit::Ms), ("us", TimeUnit::Us)];
            Some(GenField::Timestamp { unit: s.one_of(cx, "unit", &units)?.value })
        }
    }
}

fn ordered<T: PartialOrd + std::fmt::Display>(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    min: T,
    max: T,
) -> Option<(T, T)> {
    if min <= max {
        return Some((min, max));
    }
    let message = format!("{}: min {min} is above max {max}", section.what);
    let span = section.span_of(if section.has("min") { "min" } else { "max" });
    cx.push(Diagnostic::error(span, message).help("exchange them, or write both"));
    None
}

fn choice(cx: &mut Context<'_>, section: &Section<'_>, what: &str) -> Option<GenField> {
    let value = section.raw(cx, "values")?;
    let Value::Array(items) = &value.value else {
        section.wrong(cx, "values", value);
        return None;
    };
    if items.is_empty() {
        let message = format!("'values' of {what} is empty");
        cx.push(Diagnostic::error(value.span, message).help("name at least one value"));
        return None;
    }
    let values: Vec<Scalar> = items.iter().filter_map(|v| scalar(cx, what, v)).collect();
    (values.len() == items.len()).then_some(GenField::Choice { values })
}

pub(super) fn scalar(cx: &mut Context<'_>, what: &str, value: &Spanned<Value>) -> Option<Scalar> {
    match &value.value {
        Value::String(text) => {
            let text = cx.expand(&Spanned::new(text.clone(), value.span))?;
            Some(Scalar::String(text.value))
        }
        Value::Integer(i) => Some(Scalar::Integer(*i)),
        Value::Float(f) => Some(Scalar::Float(*f)),
        Value::Boolean(b) => Some(Scalar::Boolean(*b)),
        _ => {
            cx.push(wrong_type(what, "a string, number, boolean or { type = ... }", value));
            None
        }
    }
}

/// What a generator makes unless told otherwise: about 100 bytes of JSON that
/// look like a sensor.
fn sensor_fields() -> Vec<(Spanned<String>, GenField)> {
    let name = |text: &str| Spanned::new(text.to_owned(), crate::Span::default());
    let numbered =
        |prefix: &str, count, digits| GenField::Name { prefix: prefix.to_owned(), count, digits };
    let status = ["ok", "ok", "ok", "warn"].map(|s| Scalar::String(s.to_owned()));
    vec![
        (name("ts"), GenField::Timestamp { unit: TimeUnit::Ms }),
        (name("device"), numbered("motor-", 1000, 4)),
        (name("plant"), numbered("plant-", 10, 1)),
        (name("rpm"), GenField::Float { min: 40.0, max: 160.0, decimals: 1 }),
        (name("temp"), GenField::Float { min: 20.0, max: 110.0, decimals: 2 }),
        (name("status"), GenField::Choice { values: status.to_vec() }),
    ]
}
