//! One test, step by step.

use std::collections::HashMap;

use ringmain_config::{
    FlowPlan, Input, LuaSource, OperatorKind, Plan, TestCheck, TestExpect, TestInsert, TestPayload,
    TestPlan, TestStep,
};
use ringmain_shard::{BenchError, Datum, Message, TestBench};

use super::{Failure, compare, expected, log, place};

const DEAD_LETTERS: &str = "dead_letters";

/// Lines of the log that are shown.
const LOG_MAX: usize = 20;

/// Runs a test; why it failed, and what else there is to know then.
pub(super) fn run(plan: &Plan, flow: &FlowPlan, test: &TestPlan) -> (Vec<Failure>, Vec<String>) {
    let ((failures, mut notes), logged) = log::capture(|| steps(plan, flow, test));
    if failures.is_empty() {
        return (failures, Vec::new());
    }
    if !logged.is_empty() {
        notes.push("log:".to_owned());
        notes.extend(logged.iter().take(LOG_MAX).map(|line| format!("  {line}")));
        if logged.len() > LOG_MAX {
            notes.push(format!("  ... and {} lines more", logged.len() - LOG_MAX));
        }
    }
    (failures, notes)
}

fn steps(plan: &Plan, flow: &FlowPlan, test: &TestPlan) -> (Vec<Failure>, Vec<String>) {
    let expects = || {
        test.steps.iter().filter_map(|step| match step {
            TestStep::Expect(list) => Some(list),
            _ => None,
        })
    };
    let watched: Vec<Input> = expects().flatten().map(|expect| expect.at.clone()).collect();
    let stopped = |error: &BenchError| Failure {
        place: place(plan, test.name.span),
        message: format!("the test cannot go on: {error}"),
        details: Vec::new(),
    };
    let mut bench = match TestBench::new(flow, test.start_us, &watched) {
        Ok(bench) => bench,
        Err(error) => return (vec![stopped(&error)], Vec::new()),
    };
    let (mut failures, mut asked) = (Vec::new(), HashMap::new());
    for step in &test.steps {
        let done = match step {
            TestStep::Advance(us) => bench.advance(*us),
            TestStep::Insert(insert) => self::insert(&mut bench, flow, insert),
            TestStep::Expect(list) => {
                let before = asked.clone();
                for expect in list {
                    let name = expect.at.component.value.clone() + &port(&expect.at);
                    let came = came(&bench, &expect.at);
                    let new = &came[before.get(&name).copied().unwrap_or(0)..];
                    failures.extend(unmet(plan, expect, &name, new));
                    asked.insert(name, came.len());
                }
                Ok(())
            }
        };
        if let Err(error) = done {
            failures.push(stopped(&error));
            break;
        }
    }
    failures.extend(bench.failures().into_iter().map(|(component, why)| Failure {
        place: place(plan, test.name.span),
        message: "a timer failed".to_owned(),
        details: vec![timer(plan, flow, component, why)],
    }));
    let letters = bench.dead_letters();
    let looked = watched.iter().any(|at| at.component.value == DEAD_LETTERS);
    if !looked && !letters.is_empty() {
        failures.push(Failure {
            place: place(plan, test.name.span),
            message: format!(
                "{} refused, and the test expects nothing at '{DEAD_LETTERS}'",
                was(letters.len())
            ),
            details: refused(plan, flow, letters),
        });
    }
    let mut notes = Vec::new();
    if !failures.is_empty() {
        if looked && !letters.is_empty() {
            notes.push("refused:".to_owned());
            notes.extend(refused(plan, flow, letters).into_iter().map(|line| format!("  {line}")));
        }
        notes.push(format!("passed through: {}", counts(&bench)));
    }
    (failures, notes)
}

fn insert(bench: &mut TestBench, flow: &FlowPlan, insert: &TestInsert) -> Result<(), BenchError> {
    let at = insert.at.as_str();
    let source = flow.sources.iter().any(|source| source.name.value == at);
    match &insert.payload {
        TestPayload::Json(text) if source => bench.insert_frames(at, &[text.as_bytes()]),
        TestPayload::Text(text) => bench.insert_frames(at, &[text.as_bytes()]),
        TestPayload::Lines(lines) if source => {
            let frames: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            bench.insert_frames(at, &frames)
        }
        TestPayload::Json(text) => bench.insert(at, &[expected::json(text)]),
        TestPayload::Lines(lines) => {
            let messages: Vec<Message> = lines.iter().map(|line| expected::json(line)).collect();
            bench.insert(at, &messages)
        }
        TestPayload::Message(table) => bench.insert(at, &[expected::from_table(table)]),
    }
}

fn came<'b>(bench: &'b TestBench, at: &Input) -> &'b [Message] {
    if at.component.value == DEAD_LETTERS { bench.dead_letters() } else { bench.seen(at) }
}

fn port(at: &Input) -> String {
    at.port.as_ref().map_or_else(String::new, |port| format!(".{port}"))
}

fn unmet(plan: &Plan, expect: &TestExpect, name: &str, got: &[Message]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for check in &expect.checks {
        let all = |list: &[_]| list.iter().map(expected::message).collect::<Vec<_>>();
        let wrong = match check {
            TestCheck::None => compare::none(got),
            TestCheck::Count(count) => compare::count(*count, got),
            TestCheck::Messages(list) => compare::exact(&all(list), got),
            TestCheck::Contains(list) => compare::contains(&all(list), got),
            TestCheck::Where(condition) => compare::satisfies(condition, got),
        };
        let place = place(plan, expect.span);
        failures.extend(wrong.map(|(message, details)| Failure {
            place,
            message: format!("{name}: {message}"),
            details,
        }));
    }
    failures
}

/// Dead letters as sentences, each with what was refused below it.
fn refused(plan: &Plan, flow: &FlowPlan, letters: &[Message]) -> Vec<String> {
    let text = |letter: &Message, field: &str| match letter.get(field) {
        Some(Datum::Str(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let mut lines = Vec::new();
    for letter in letters.iter().take(LOG_MAX) {
        let [component, reason, detail] =
            ["component", "reason", "detail"].map(|field| text(letter, field));
        let at = script_line(plan, flow, &component, &detail);
        lines.push(format!("{component}: {reason}: {detail}{at}"));
        let what = letter.get("message").or_else(|| letter.get("raw"));
        lines.extend(what.map(|what| format!("  {what}")));
    }
    if letters.len() > LOG_MAX {
        lines.push(format!("... and {} more", letters.len() - LOG_MAX));
    }
    lines
}

/// Why a timer failed, with its place.
fn timer(plan: &Plan, flow: &FlowPlan, component: &str, why: &str) -> String {
    let detail = why.strip_prefix("on_timer: ").unwrap_or(why);
    format!("{component}: {why}{}", script_line(plan, flow, component, detail))
}

/// Where in the flow's file the line of an inline script stands. An error names
/// the line within the script, as it does where scripts are files.
fn script_line(plan: &Plan, flow: &FlowPlan, component: &str, detail: &str) -> String {
    let code = flow.operator(component).and_then(|operator| match &operator.kind {
        OperatorKind::Lua(lua) => match &lua.source {
            LuaSource::Inline(code) => Some(code),
            LuaSource::Script(_) => None,
        },
        _ => None,
    });
    let line = detail.strip_prefix(component).and_then(|rest| rest.strip_prefix(':'));
    let line = line.and_then(|rest| rest.split_once(':')?.0.parse::<usize>().ok());
    match (code, line) {
        (Some(code), Some(line)) => {
            format!(" ({})", place(plan, plan.sources.line_inside(code, line)))
        }
        _ => String::new(),
    }
}

fn was(count: usize) -> String {
    let verb = if count == 1 { "was" } else { "were" };
    format!("{} {verb}", compare::messages(count))
}

/// Where messages came and went, for finding the component that is to blame.
fn counts(bench: &TestBench) -> String {
    let count = |c: &ringmain_shard::BenchCount| {
        let dead = if c.dead > 0 { format!(", {} refused", c.dead) } else { String::new() };
        format!("{} {} in, {} out{dead}", c.component, c.rows_in, c.rows_out)
    };
    let counts = bench.counts();
    let busy: Vec<String> = counts.iter().filter(|c| c.rows_in > 0).map(count).collect();
    if busy.is_empty() { "nothing".to_owned() } else { busy.join("; ") }
}
