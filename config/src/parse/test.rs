//! `[[tests]]`.

use super::input::split;
use crate::diagnostics::Diagnostic;
use crate::plan::{
    TestCheck, TestExpect, TestInsert, TestMessage, TestPayload, TestPlan, TestStep,
};
use crate::schema;
use crate::section::{Context, Section};
use crate::span::{Span, Spanned};
use crate::value::{Table, Value};
use crate::words::wrong_type;

/// 2026-01-01T00:00:00Z: every run of a test sees the same time.
const START_US_DEFAULT: i64 = 1_767_225_600_000_000;

/// Every test that could be read.
pub(super) fn tests(cx: &mut Context<'_>, section: &Section<'_>) -> Vec<TestPlan> {
    let Some(value) = section.raw(cx, "tests") else { return Vec::new() };
    let Value::Array(items) = &value.value else {
        section.wrong(cx, "tests", value);
        return Vec::new();
    };
    let mut tests: Vec<TestPlan> = Vec::with_capacity(items.len());
    for item in items {
        let Value::Table(table) = &item.value else {
            cx.push(
                wrong_type("an entry of 'tests'", "a table", item).help("begin it with [[tests]]"),
            );
            continue;
        };
        let Some(test) = test(cx, table, item.span) else { continue };
        if let Some(first) = tests.iter().find(|t| t.name == test.name) {
            cx.push(
                Diagnostic::error(test.name.span, "two tests of the flow have the same name")
                    .note(first.name.span, "the first one is here")
                    .help("say with the name what the test shows"),
            );
        }
        tests.push(test);
    }
    tests
}

fn test(cx: &mut Context<'_>, table: &Table, span: Span) -> Option<TestPlan> {
    let what = match table.get("name").map(|v| &v.value) {
        Some(Value::String(name)) => format!("test '{name}'"),
        _ => "a test".to_owned(),
    };
    let section = Section::open(cx, table, &schema::TEST, &what, span, None);
    let name = section.filled(cx, "name");
    let start_us = start(cx, &section);
    let before = cx.out.errors();
    let mut steps = plain(cx, &section);
    if let Some(list) = list(cx, &section, "steps") {
        if let Some((key, _)) = ["insert", "advance", "expect"].iter().find_map(|k| table.entry(k))
        {
            cx.push(
                Diagnostic::error(key.span, format!("{what} has '{key}' beside 'steps'"))
                    .help(format!("make it a step: steps = [{{ {key} = ... }}, ...]")),
            );
        }
        for item in list {
            let what = format!("a step of {what}");
            let Some(table) = entry(cx, item, &what) else { continue };
            let section = Section::open(cx, table, &schema::TEST_STEP, &what, item.span, None);
            steps.extend(plain(cx, &section));
        }
    }
    let expects = |s: &TestStep| matches!(s, TestStep::Expect(list) if !list.is_empty());
    if !steps.iter().any(expects) && cx.out.errors() == before {
        let at = name.as_ref().map_or(span, |name| name.span);
        cx.push(
            Diagnostic::warning(at, format!("{what} expects nothing"))
                .help("add expect = [{ at = \"a component\", ... }]"),
        );
    }
    Some(TestPlan { name: name?, start_us, steps })
}

/// A date of TOML, or the same in a string.
fn start(cx: &mut Context<'_>, section: &Section<'_>) -> i64 {
    let Some(value) = section.raw(cx, "start") else { return START_US_DEFAULT };
    let (Value::String(text) | Value::Datetime(text)) = &value.value else {
        section.wrong(cx, "start", value);
        return START_US_DEFAULT;
    };
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.as_microsecond(),
        Err(_) => {
            let message = format!("'start' of {}: '{text}' is no point in time", section.what);
            let help = "write date, time and zone: \"2026-11-22T11:27:00Z\"";
            cx.push(Diagnostic::error(value.span, message).help(help));
            START_US_DEFAULT
        }
    }
}

/// `insert`, `advance` and `expect` of a test or a step, in this order.
fn plain(cx: &mut Context<'_>, section: &Section<'_>) -> Vec<TestStep> {
    let mut steps = Vec::new();
    for item in list(cx, section, "insert").into_iter().flatten() {
        insert(cx, item, section.what, &mut steps);
    }
    if section.has("advance") {
        steps.extend(section.time(cx, "advance").map(TestStep::Advance));
    }
    if let Some(items) = list(cx, section, "expect") {
        let found = items.iter().filter_map(|item| expect(cx, item, section.what));
        steps.push(TestStep::Expect(found.collect()));
    }
    steps
}

/// A list, or one table that stands for a list of one.
fn list<'t>(
    cx: &mut Context<'_>,
    section: &Section<'t>,
    key: &str,
) -> Option<&'t [Spanned<Value>]> {
    let value = section.raw(cx, key)?;
    match &value.value {
        Value::Array(items) => Some(items),
        Value::Table(_) => Some(std::slice::from_ref(value)),
        _ => {
            section.wrong(cx, key, value);
            None
        }
    }
}

fn entry<'t>(cx: &mut Context<'_>, item: &'t Spanned<Value>, what: &str) -> Option<&'t Table> {
    match &item.value {
        Value::Table(table) => Some(table),
        _ => {
            cx.push(wrong_type(what, "a table", item));
            None
        }
    }
}

fn insert(cx: &mut Context<'_>, item: &Spanned<Value>, what: &str, steps: &mut Vec<TestStep>) {
    let what = format!("an insert of {what}");
    let Some(table) = entry(cx, item, &what) else { return };
    let section = Section::open(cx, table, &schema::TEST_INSERT, &what, item.span, None);
    let at = section.filled(cx, "at");
    if section.has("after") {
        steps.extend(section.time(cx, "after").map(TestStep::Advance));
    }
    let kinds = ["json", "text", "lines", "message"];
    let given: Vec<&str> = kinds.into_iter().filter(|kind| section.has(kind)).collect();
    let payload = match given.as_slice() {
        [kind] => payload(cx, &section, kind),
        [] => {
            cx.push(
                Diagnostic::error(item.span, format!("{what} has nothing to insert"))
                    .help("give it 'json', 'text', 'lines' or 'message'"),
            );
            None
        }
        [first, second, ..] => {
            let message = format!("{what} has both '{first}' and '{second}'");
            cx.push(
                Diagnostic::error(section.span_of(second), message)
                    .help("write two inserts, one after the other"),
            );
            None
        }
    };
    if let (Some(at), Some(payload)) = (at, payload) {
        steps.push(TestStep::Insert(TestInsert { at, payload }));
    }
}

fn payload(cx: &mut Context<'_>, section: &Section<'_>, kind: &str) -> Option<TestPayload> {
    if kind == "message" {
        return section.table(cx, kind).map(|(table, _)| TestPayload::Message(table.clone()));
    }
    let value = section.raw(cx, kind)?;
    let Value::String(text) = &value.value else {
        section.wrong(cx, kind, value);
        return None;
    };
    let text = Spanned::new(text.clone(), value.span);
    Some(match kind {
        "json" => TestPayload::Json(text),
        "text" => TestPayload::Text(text.value),
        _ => TestPayload::Lines(lines(cx, &text)),
    })
}

/// The lines that are not blank, each with its place.
fn lines(cx: &Context<'_>, text: &Spanned<String>) -> Vec<Spanned<String>> {
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let place = |at: usize| cx.out.sources().line_inside(text, at + 1);
    numbered.map(|(at, line)| Spanned::new(line.to_owned(), place(at))).collect()
}

fn expect(cx: &mut Context<'_>, item: &Spanned<Value>, what: &str) -> Option<TestExpect> {
    let what = format!("an expectation of {what}");
    let table = entry(cx, item, &what)?;
    let section = Section::open(cx, table, &schema::TEST_EXPECT, &what, item.span, None);
    let at = section.filled(cx, "at").map(|at| split(at, None));
    let mut checks = Vec::new();
    if section.has("none") {
        checks.extend(none(cx, &section));
    }
    if section.has("count") {
        let count = section.int(cx, "count").and_then(|n| u64::try_from(n).ok());
        checks.extend(count.map(TestCheck::Count));
    }
    if section.has("messages") {
        checks.extend(messages(cx, &section, "messages").map(TestCheck::Messages));
    }
    if section.has("contains") {
        checks.extend(messages(cx, &section, "contains").map(TestCheck::Contains));
    }
    if section.has("where") {
        checks.extend(section.filled(cx, "where").map(TestCheck::Where));
    }
    let keys = ["none", "count", "messages", "contains", "where"];
    if !keys.iter().any(|key| section.has(key)) {
        cx.push(
            Diagnostic::error(item.span, format!("{what} says nothing about the messages"))
                .help("give it 'none', 'count', 'messages', 'contains' or 'where'"),
        );
    }
    Some(TestExpect { at: at?, checks, span: item.span })
}

fn none(cx: &mut Context<'_>, section: &Section<'_>) -> Option<TestCheck> {
    let none = section.flag(cx, "none")?;
    let span = section.span_of("none");
    if !none {
        let message = format!("'none' of {} can only be true", section.what);
        cx.push(Diagnostic::error(span, message).help("say what came: 'count', 'contains', ..."));
        return None;
    }
    let other = ["count", "messages", "contains", "where"].into_iter().find(|k| section.has(k));
    if let Some(other) = other {
        let message = format!("{} has both 'none' and '{other}'", section.what);
        cx.push(Diagnostic::error(span, message).help("remove one of them"));
    }
    Some(TestCheck::None)
}

fn messages(cx: &mut Context<'_>, section: &Section<'_>, key: &str) -> Option<Vec<TestMessage>> {
    let value = section.raw(cx, key)?;
    let items = match &value.value {
        Value::Array(items) => items.as_slice(),
        Value::Table(_) | Value::String(_) => std::slice::from_ref(value),
        _ => {
            section.wrong(cx, key, value);
            return None;
        }
    };
    let mut messages = Vec::with_capacity(items.len());
    for item in items {
        match &item.value {
            Value::String(text) => {
                messages.push(TestMessage::Json(Spanned::new(text.clone(), item.span)));
            }
            Value::Table(table) => {
                messages.push(TestMessage::Table(Spanned::new(table.clone(), item.span)));
            }
            _ => {
                let what = format!("an entry of '{key}' of {}", section.what);
                cx.push(wrong_type(&what, "a table, or JSON in a string", item));
            }
        }
    }
    Some(messages)
}
