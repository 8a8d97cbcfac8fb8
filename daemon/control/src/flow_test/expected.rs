//! Messages as they stand in tests, JSON or tables, as values.

use std::fmt;

use ringmain_config::{
    Diagnostic, Diagnostics, FlowPlan, OperatorKind, OperatorPlan, Spanned, Table, TestCheck,
    TestMessage, TestPayload, TestStep, Value,
};
use ringmain_shard::{Datum, Message, Setting, compile};
use ringmain_slab::SharedSchema;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Finds what is wrong with the messages and conditions of a flow's tests.
pub(crate) fn check(flow: &FlowPlan, found: &mut Diagnostics) {
    for step in flow.tests.iter().flat_map(|test| &test.steps) {
        match step {
            TestStep::Advance(_) => {}
            TestStep::Insert(insert) => {
                let source = flow.sources.iter().any(|s| s.name == insert.at);
                check_payload(&insert.payload, source, found);
            }
            TestStep::Expect(expects) => {
                for check in expects.iter().flat_map(|expect| &expect.checks) {
                    check_expected(check, found);
                }
            }
        }
    }
}

fn check_payload(payload: &TestPayload, source: bool, found: &mut Diagnostics) {
    match payload {
        TestPayload::Json(text) if source => {
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
                let diagnostic = wrong(text, &error, found);
                found.push(diagnostic.help("write text = ... to insert what is no JSON"));
            }
        }
        TestPayload::Json(text) => check_json(text, found),
        TestPayload::Lines(lines) if !source => {
            lines.iter().for_each(|line| check_json(line, found));
        }
        TestPayload::Lines(_) | TestPayload::Text(_) | TestPayload::Message(_) => {}
    }
}

fn check_expected(check: &TestCheck, found: &mut Diagnostics) {
    match check {
        TestCheck::None | TestCheck::Count(_) => {}
        TestCheck::Messages(messages) | TestCheck::Contains(messages) => {
            for message in messages {
                if let TestMessage::Json(text) = message {
                    check_json(text, found);
                }
            }
        }
        TestCheck::Where(condition) => {
            let kind = OperatorKind::Filter { where_: condition.clone() };
            let name = Spanned::new("where".to_owned(), condition.span);
            let plan = OperatorPlan { name, inputs: Vec::new(), kind };
            if let Err(error) = compile(&plan, &Setting::default(), &SharedSchema::new()) {
                let message = format!("'where' of an expectation: {}", error.message);
                let span = crate::check::place(&error, found);
                found.push(Diagnostic::error(span, message));
            }
        }
    }
}

fn check_json(text: &Spanned<String>, found: &mut Diagnostics) {
    match serde_json::from_str(text) {
        Ok(Json(Datum::Map(_))) => {}
        Ok(_) => found.push(
            Diagnostic::error(text.span, "a message is a JSON object")
                .help("write '{\"field\": value}', or a table: { field = value }"),
        ),
        Err(error) => {
            let diagnostic = wrong(text, &error, found);
            found.push(diagnostic);
        }
    }
}

fn wrong(text: &Spanned<String>, error: &serde_json::Error, found: &Diagnostics) -> Diagnostic {
    let before: usize = text.split_inclusive('\n').take(error.line() - 1).map(str::len).sum();
    let at = before + error.column().saturating_sub(1);
    let words = error.to_string();
    // The span tells the place.
    let words = words.split(" at line ").next().unwrap_or_default();
    let span = found.sources().inside(text, at..at + 1);
    Diagnostic::error(span, format!("not valid JSON: {words}"))
}

/// A message that is expected.
pub(super) fn message(written: &TestMessage) -> Message {
    match written {
        TestMessage::Json(text) => json(text),
        TestMessage::Table(table) => from_table(table),
    }
}

/// A message from JSON.
pub(super) fn json(text: &str) -> Message {
    match serde_json::from_str(text) {
        Ok(Json(Datum::Map(message))) => message,
        _ => unreachable!("`check` accepts JSON objects only"),
    }
}

/// A message from a table.
pub(super) fn from_table(table: &Table) -> Message {
    let entries = table.entries.iter();
    Message(entries.map(|(name, value)| (name.value.clone(), from_toml(value))).collect())
}

fn from_toml(value: &Value) -> Datum {
    match value {
        Value::String(text) | Value::Datetime(text) => Datum::Str(text.clone()),
        Value::Integer(v) => Datum::Int(*v),
        Value::Float(v) => Datum::Float(*v),
        Value::Boolean(v) => Datum::Bool(*v),
        Value::Array(items) => Datum::List(items.iter().map(|item| from_toml(item)).collect()),
        Value::Table(table) => Datum::Map(from_table(table)),
    }
}

/// JSON with its fields in the order in which they are written.
struct Json(Datum);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Json)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Datum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Datum, E> {
        Ok(Datum::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Datum, E> {
        Ok(Datum::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Datum, E> {
        Ok(Datum::Int(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Datum, E> {
        Ok(i64::try_from(v).map_or_else(|_| Datum::Number(v.to_string()), Datum::Int))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Datum, E> {
        Ok(Datum::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Datum, E> {
        Ok(Datum::Str(v.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Datum, A::Error> {
        let mut items = Vec::new();
        while let Some(Json(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Datum::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Datum, A::Error> {
        let mut message = Message::default();
        while let Some((name, Json(value))) = map.next_entry::<String, Json>()? {
            message.set(&name, value);
        }
        Ok(Datum::Map(message))
    }
}
