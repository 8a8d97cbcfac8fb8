//! `type = "event"`: an operator that makes events, and the sink behind it.
//!
//! What can be known of an event without a message is checked here: fields
//! that its type lacks or requires, severities, types that do not exist.

use std::path::Path;

use super::input::check_name;
use super::operator_keyed::fields as field_names;
use super::sink::sink;
use crate::diagnostics::{Diagnostic, did_you_mean};
use crate::plan::{
    ClockPlan, EventField, EventFieldKind, EventPlan, EventType, Input, KeyedPlan, OperatorKind,
    OperatorPlan, SamplePlan, SinkPlan,
};
use crate::schema::{self, EVENT_TO, SINKS};
use crate::section::{Context, Section};
use crate::span::{SourceFile, Span, Spanned};
use crate::value::{self, Table, Value};
use crate::words::wrong_type;

/// Keys of the sink and the fields of an event that they set.
const OWN: [(&str, &str); 8] = [
    ("entity", "entityId"),
    ("timestamp", "timestamp"),
    ("event_type", "typeId"),
    ("description", "description"),
    ("source", "source"),
    ("code", "code"),
    ("severity", "severity"),
    ("acknowledged", "acknowledged"),
];

const KINDS: &[(&str, EventFieldKind)] = &[
    ("string", EventFieldKind::Text),
    ("integer", EventFieldKind::Integer),
    ("number", EventFieldKind::Number),
    ("boolean", EventFieldKind::Boolean),
    ("timestamp", EventFieldKind::Time),
    ("any", EventFieldKind::Any),
];

/// Whether a sink's table asks for events.
pub(super) fn is_event(table: &Table) -> bool {
    matches!(table.get("type"), Some(Spanned { value: Value::String(text), .. }) if text == "event")
}

/// The name of the operator that an event sink of that name has before it.
pub(super) fn operator_name(sink: &Spanned<String>) -> Spanned<String> {
    Spanned::new(format!("{sink}_event"), sink.span)
}

/// An event sink as the two parts that it is made of.
pub(super) fn event(
    cx: &mut Context<'_>,
    name: &Spanned<String>,
    table: &Table,
    inputs: Vec<Input>,
    types: Option<&[EventType]>,
) -> (Option<OperatorPlan>, Option<SinkPlan>) {
    let what = format!("sink '{name}'");
    let section = Section::open(cx, table, &schema::SINK_EVENT, &what, name.span, Some(&SINKS));
    let operator = operator_name(name);
    let from = vec![Input { component: operator.clone(), port: None, bound: None }];
    let to = section
        .table(cx, "to")
        .and_then(|(table, _)| sink(cx, &EVENT_TO, name, &format!("'to' of {what}"), table, from));
    let plan = plan(cx, &section, types);
    let operator = plan.map(|plan| {
        let kind = OperatorKind::Event(Box::new(plan));
        OperatorPlan { name: operator, inputs, kind }
    });
    (operator, to)
}

/// What a field of the event is set to.
struct Set {
    field: Spanned<String>,
    expression: Spanned<String>,
    /// What it is when no message decides.
    constant: Option<Value>,
}

fn plan(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    types: Option<&[EventType]>,
) -> Option<EventPlan> {
    let mut sets = Vec::new();
    let mut good = true;
    for (key, field) in OWN {
        let field = Spanned::new(field.to_owned(), section.span_of(key));
        match section.raw(cx, key) {
            Some(value) => match set(cx, section, key, field, value) {
                Some(set) => sets.push(set),
                None => good = false,
            },
            None => {
                let default = match key {
                    "entity" => "entityId",
                    "timestamp" => "timestamp",
                    "acknowledged" => "false",
                    _ => continue,
                };
                let expression = Spanned::new(default.to_owned(), section.span);
                sets.push(Set { field, expression, constant: None });
            }
        }
    }
    good &= own_fields(cx, section, &mut sets);
    let known_types_only = section.one_of(cx, "new_types", &[("create", false), ("refuse", true)]);
    let readable = good;
    let once = section.table(cx, "dedupe");
    let once = once.map(|(table, span)| dedupe(cx, section, table, span, &sets));
    good &= once.is_some() == section.has("dedupe") && once != Some(None);
    let once = once.flatten();
    let known_types_only = known_types_only?.value;
    // Types that could not be read have been reported.
    let types = types?;
    if readable {
        check_type(cx, section, &sets, types, known_types_only);
    }
    let fields = sets.into_iter().map(|set| (set.field, set.expression)).collect();
    let arrival_time = !section.has("timestamp");
    let types = types.to_vec();
    good.then_some(EventPlan { fields, arrival_time, types, known_types_only, once })
}

fn set(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    key: &str,
    field: Spanned<String>,
    value: &Spanned<Value>,
) -> Option<Set> {
    let what = format!("'{key}' of {}", section.what);
    let (text, constant) = match &value.value {
        Value::String(text) if text.trim().is_empty() => {
            cx.push(
                Diagnostic::error(value.span, format!("{what} is empty"))
                    .help("write a Lua expression; a text is { value = \"...\" }"),
            );
            return None;
        }
        Value::String(text) => {
            let expression = cx.expand(&Spanned::new(text.clone(), value.span))?;
            return Some(Set { constant: literal(&expression), field, expression });
        }
        Value::Integer(v) => (v.to_string(), value.value.clone()),
        Value::Float(v) if v.is_finite() => (format!("{v:?}"), value.value.clone()),
        Value::Boolean(v) => (v.to_string(), value.value.clone()),
        Value::Table(table) => match (table.entries.as_slice(), table.get("value")) {
            ([_], Some(Spanned { value: Value::String(text), span })) => {
                let text = cx.expand(&Spanned::new(text.clone(), *span))?;
                (quote(&text), Value::String(text.value))
            }
            _ => {
                cx.push(
                    Diagnostic::error(value.span, format!("{what} is a table of another form"))
                        .help("a text is written { value = \"...\" }"),
                );
                return None;
            }
        },
        _ => {
            cx.push(wrong_type(&what, "an expression in a string, a number, true or false", value));
            return None;
        }
    };
    Some(Set { field, expression: Spanned::new(text, value.span), constant: Some(constant) })
}

/// A text that an expression is, if it is plainly one.
fn literal(expression: &str) -> Option<Value> {
    let text = expression.trim();
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains([quote, '\\', '\n'])).then(|| Value::String(inner.to_owned()))
}

/// A text as Lua writes it.
fn quote(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// `fields`; false when something is wrong with them.
fn own_fields(cx: &mut Context<'_>, section: &Section<'_>, sets: &mut Vec<Set>) -> bool {
    let Some((table, _)) = section.table(cx, "fields") else { return !section.has("fields") };
    let mut good = true;
    for (name, value) in &table.entries {
        if let Some((key, _)) = OWN.iter().find(|(_, field)| *field == name.value) {
            let message =
                format!("'{name}' in 'fields' of {} is a field of every event", section.what);
            cx.push(Diagnostic::error(name.span, message).help(format!("set it with '{key}'")));
            good = false;
            continue;
        }
        if name.value.is_empty() {
            let message = format!("'fields' of {} has an empty name", section.what);
            cx.push(Diagnostic::error(name.span, message).help("remove it"));
            good = false;
            continue;
        }
        match set(cx, section, &format!("fields.{name}"), name.clone(), value) {
            Some(set) => sets.push(set),
            None => good = false,
        }
    }
    good
}

fn dedupe(
    cx: &mut Context<'_>,
    owner: &Section<'_>,
    table: &Table,
    span: Span,
    sets: &[Set],
) -> Option<SamplePlan> {
    let what = format!("dedupe of {}", owner.what);
    let section = Section::open(cx, table, &schema::DEDUPE, &what, span, None);
    let every_us = section.time(cx, "every");
    let max_keys = section.int(cx, "max_keys").and_then(|n| u64::try_from(n).ok());
    let mut key = field_names(cx, &section, "key")?;
    let mut good = true;
    for name in &key {
        if !sets.iter().any(|set| set.field == *name) {
            let message = format!("'key' of {what}: the event has no field '{name}'");
            let near = did_you_mean(name, sets.iter().map(|set| set.field.as_str()));
            let help = near.unwrap_or_else(|| format!("set it: fields.{name} = \"{name}\""));
            cx.push(Diagnostic::error(name.span, message).help(help));
            good = false;
        }
    }
    if section.has("key") && key.is_empty() {
        let message = format!("'key' of {what} names no field");
        cx.push(Diagnostic::error(section.span_of("key"), message).help("remove it"));
        return None;
    }
    if key.is_empty() {
        let given = |field: &&str| sets.iter().any(|set| set.field.value == **field);
        let names = ["entityId", "typeId", "code"].into_iter().filter(given);
        key = names.map(|name| Spanned::new(name.to_owned(), span)).collect();
    }
    let by = KeyedPlan { key, max_keys: max_keys?, ttl_us: None };
    good.then_some(SamplePlan { by, every_us: every_us?, clock: ClockPlan::Server })
}

/// What can be said of events whose type is known beforehand.
fn check_type(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    sets: &[Set],
    types: &[EventType],
    known_only: bool,
) {
    let find = |field: &str| sets.iter().find(|set| set.field.value == field);
    let type_id = find("typeId");
    let Some(Value::String(name)) = type_id.and_then(|set| set.constant.as_ref()) else { return };
    let at = section.span_of("event_type");
    let Some(kind) = types.iter().find(|kind| kind.name.value == *name) else {
        if known_only {
            let near = did_you_mean(name, types.iter().map(|kind| kind.name.as_str()));
            let help = near.unwrap_or_else(|| format!("add [event_types.{name}]"));
            let message = format!("{}: there is no event type '{name}'", section.what);
            cx.push(Diagnostic::error(at, message).help(help));
        }
        return;
    };
    let declared = kind.name.span;
    for field in kind.fields.iter().filter(|field| field.required) {
        if find(&field.name).is_none() {
            let wanted = &field.name;
            let message =
                format!("{} lacks the field '{wanted}' of the event type '{name}'", section.what);
            let help = format!("add it: fields.{wanted} = \"{wanted}\"");
            cx.push(Diagnostic::error(at, message).note(declared, "the type is here").help(help));
        }
    }
    for set in sets.iter().filter(|set| OWN.iter().all(|(_, own)| *own != set.field.value)) {
        if !kind.fields.iter().any(|field| field.name == set.field.value) {
            let message = format!("the event type '{name}' has no field '{}'", set.field);
            let names = kind.fields.iter().map(|field| field.name.as_str());
            let help = did_you_mean(&set.field, names)
                .unwrap_or_else(|| "add it to the type, or remove it here".to_owned());
            let wrong = Diagnostic::error(set.field.span, message);
            cx.push(wrong.note(declared, "the type is here").help(help));
        }
    }
    let severity = find("severity");
    let allowed = |v: &i64| kind.severities.contains(v);
    let wrong = match severity.map(|set| &set.constant) {
        None => Some("no severity".to_owned()),
        Some(Some(Value::Integer(v))) if !allowed(v) => Some(format!("the severity {v}")),
        _ => None,
    };
    if let Some(wrong) = wrong.filter(|_| !kind.severities.is_empty()) {
        let list = kind.severities.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let message =
            format!("{} has {wrong}, which the event type '{name}' does not allow", section.what);
        let at = severity.map_or(at, |set| set.expression.span);
        cx.push(
            Diagnostic::error(at, message)
                .note(declared, "the type is here")
                .help(format!("allowed are {list}")),
        );
    }
}

/// `event_types`: tables, or a file with them. `None` when they cannot be read.
pub(super) fn types(
    cx: &mut Context<'_>,
    flow: &Section<'_>,
    base_dir: &Path,
) -> Option<Vec<EventType>> {
    let Some(value) = flow.raw(cx, "event_types") else { return Some(Vec::new()) };
    match &value.value {
        Value::Table(table) => read(cx, table),
        Value::String(text) => {
            let name = cx.expand(&Spanned::new(text.clone(), value.span))?;
            let table = file(cx, &name, base_dir)?;
            read(cx, &table)
        }
        _ => {
            flow.wrong(cx, "event_types", value);
            None
        }
    }
}

fn file(cx: &mut Context<'_>, name: &Spanned<String>, base_dir: &Path) -> Option<Table> {
    let path = base_dir.join(&name.value);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let shown = path.strip_prefix(".").unwrap_or(&path).display().to_string();
            let source = SourceFile { name: shown, path: Some(path), text: text.clone() };
            let file = cx.out.add_file(source);
            value::parse(file, &text, &mut cx.out)
        }
        Err(error) => {
            let message = format!("'event_types': '{name}' cannot be read: {error}");
            let help = "a TOML file beside the flow with a table [NAME] for each type";
            cx.push(Diagnostic::error(name.span, message).help(help));
            None
        }
    }
}

fn read(cx: &mut Context<'_>, table: &Table) -> Option<Vec<EventType>> {
    let mut types = Vec::with_capacity(table.entries.len());
    for (name, value) in &table.entries {
        let what = format!("event type '{name}'");
        match &value.value {
            Value::Table(table) => types.extend(event_type(cx, name, &what, table)),
            _ => cx.push(wrong_type(&what, "a table", value)),
        }
    }
    (types.len() == table.entries.len()).then_some(types)
}

fn event_type(
    cx: &mut Context<'_>,
    name: &Spanned<String>,
    what: &str,
    table: &Table,
) -> Option<EventType> {
    let section = Section::open(cx, table, &schema::EVENT_TYPE, what, name.span, None);
    let mut severities = Vec::new();
    let mut good = true;
    if let Some(value) = section.raw(cx, "severities") {
        match &value.value {
            Value::Array(items) => {
                for item in items {
                    match item.value {
                        Value::Integer(v) => severities.push(v),
                        _ => {
                            let entry = format!("an entry of 'severities' of {what}");
                            cx.push(wrong_type(&entry, "a whole number", item));
                            good = false;
                        }
                    }
                }
            }
            _ => {
                section.wrong(cx, "severities", value);
                good = false;
            }
        }
    }
    let mut fields = Vec::new();
    if let Some((table, _)) = section.table(cx, "fields") {
        for (name, value) in &table.entries {
            match field(cx, what, name, value) {
                Some(field) => fields.push(field),
                None => good = false,
            }
        }
    }
    good.then_some(EventType { name: name.clone(), severities, fields })
}

fn field(
    cx: &mut Context<'_>,
    owner: &str,
    name: &Spanned<String>,
    value: &Spanned<Value>,
) -> Option<EventField> {
    let what = format!("field '{name}' of {owner}");
    check_own(cx, &what, name)?;
    let short = Spanned::new("type".to_owned(), value.span);
    let table = match &value.value {
        Value::Table(table) => table.clone(),
        Value::String(_) => Table { entries: vec![(short, value.clone())] },
        _ => {
            cx.push(wrong_type(&what, "a type or { type = ..., required = ... }", value));
            return None;
        }
    };
    let section = Section::open(cx, &table, &schema::EVENT_FIELD, &what, name.span, None);
    let kind = section.one_of(cx, "type", KINDS);
    let required = section.flag(cx, "required");
    Some(EventField { name: name.value.clone(), kind: kind?.value, required: required? })
}

fn check_own(cx: &mut Context<'_>, what: &str, name: &Spanned<String>) -> Option<()> {
    if OWN.iter().any(|(_, field)| *field == name.value) {
        let message = format!("{what} is a field of every event");
        cx.push(Diagnostic::error(name.span, message).help("remove it; it is checked anyway"));
        return None;
    }
    Some(())
}

/// Reports a sink whose operator could have no name.
pub(super) fn check_operator_name(cx: &mut Context<'_>, sink: &Spanned<String>) {
    check_name(cx, "the operator of an event sink", &operator_name(sink));
}
