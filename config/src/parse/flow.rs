//! One flow file.

use std::path::Path;

use super::event;
use super::input::{check_name, inputs};
use super::operator::operator;
use super::sink::sink;
use super::source::source;
use crate::diagnostics::Diagnostic;
use crate::plan::{FlowPlan, Input, PartitionPlan, SinkPlan};
use crate::schema::{self, DEAD_LETTERS, SINKS};
use crate::section::{Context, Section};
use crate::span::{FileId, Span, Spanned};
use crate::value::{Table, Value};
use crate::words::wrong_type;

/// What a component is in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Source,
    Operator,
    Sink,
}

impl Role {
    /// For messages.
    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Operator => "operator",
            Self::Sink => "sink",
        }
    }

    const fn with_article(self) -> &'static str {
        match self {
            Self::Source => "a source",
            Self::Operator => "an operator",
            Self::Sink => "a sink",
        }
    }
}

/// The outputs of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// One without a name.
    One,
    /// Only these.
    Named(Vec<String>),
    /// One without a name, and these.
    More(Vec<String>),
    /// The component has errors: whatever is asked for may exist.
    Unknown,
}

/// A component as the graph checks see it: there even when its plan is not,
/// so that one mistake is not reported a second time by whoever reads it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: Spanned<String>,
    pub(crate) role: Role,
    pub(crate) inputs: Vec<Input>,
    pub(crate) ports: Ports,
}

/// A flow, as far as it could be read.
#[derive(Debug)]
pub(crate) struct ParsedFlow {
    pub(crate) plan: FlowPlan,
    pub(crate) nodes: Vec<Node>,
    /// A whole family of components could not be read.
    pub(crate) broken: bool,
}

/// Reads one flow; reports what is wrong with it.
pub(crate) fn flow(
    cx: &mut Context<'_>,
    file: FileId,
    stem: &str,
    base_dir: &Path,
    table: &Table,
) -> ParsedFlow {
    let top = Span::new(file, 0, 0);
    let section = Section::open(cx, table, &schema::FLOW, "the flow", top, None);
    let name = name(cx, &section, stem);
    let allow_loss = section.flag(cx, "allow_loss").unwrap_or(false);
    let drain_us = section.time(cx, "drain").unwrap_or(0);
    let partition = partition(cx, &section);
    let schedule = super::schedule::schedule(cx, &section);
    let tests = super::test::tests(cx, &section);
    let plan = FlowPlan {
        name,
        file,
        base_dir: base_dir.to_path_buf(),
        sources: Vec::new(),
        operators: Vec::new(),
        sinks: Vec::new(),
        partition,
        dead_letters: dead_letters(cx, &section),
        allow_loss,
        drain_us,
        schedule,
        tests,
    };
    let mut flow = ParsedFlow { plan, nodes: Vec::new(), broken: false };
    components(cx, &section, &mut flow);
    super::schedule::warn(cx, &flow.plan);
    flow
}

fn name(cx: &mut Context<'_>, section: &Section<'_>, stem: &str) -> Spanned<String> {
    let name = section.text(cx, "name");
    let name = name.unwrap_or_else(|| Spanned::new(stem.to_owned(), section.span_of("name")));
    let fits = !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !fits && (section.has("name") || !stem.is_empty()) {
        cx.push(
            Diagnostic::error(name.span, format!("'{name}' cannot be the name of a flow"))
                .help("write name = \"...\" with letters, digits, '_', '-' and '.'"),
        );
    }
    name
}

fn components(cx: &mut Context<'_>, section: &Section<'_>, flow: &mut ParsedFlow) {
    for key in ["sources", "operators", "sinks"] {
        let value = section.table.get(key);
        flow.broken |= value.is_some_and(|v| !matches!(v.value, Value::Table(_)));
    }
    for (name, table) in family(cx, section, "sources", Role::Source, &mut flow.nodes) {
        flow.plan.sources.extend(source(cx, name, table));
        flow.nodes.push(Node {
            name: name.clone(),
            role: Role::Source,
            inputs: Vec::new(),
            ports: Ports::One,
        });
    }
    for (name, table) in family(cx, section, "operators", Role::Operator, &mut flow.nodes) {
        let inputs = inputs(cx, table, &format!("operator '{name}'"), name.span, true);
        let base_dir = flow.plan.base_dir.clone();
        let (plan, ports) = operator(cx, name, table, inputs.clone(), &base_dir);
        flow.plan.operators.extend(plan);
        flow.nodes.push(Node { name: name.clone(), role: Role::Operator, inputs, ports });
    }
    let types = event::types(cx, section, &flow.plan.base_dir);
    for (name, table) in family(cx, section, "sinks", Role::Sink, &mut flow.nodes) {
        let what = format!("sink '{name}'");
        let inputs = inputs(cx, table, &what, name.span, false);
        if event::is_event(table) {
            event::check_operator_name(cx, name);
            let operator = event::operator_name(name);
            let (made, sent) = event::event(cx, name, table, inputs.clone(), types.as_deref());
            flow.plan.operators.extend(made);
            flow.plan.sinks.extend(sent);
            let from = vec![Input { component: operator.clone(), port: None, bound: None }];
            let (role, ports) = (Role::Operator, Ports::One);
            flow.nodes.push(Node { name: operator, role, inputs, ports });
            let (name, role, ports) = (name.clone(), Role::Sink, Ports::One);
            flow.nodes.push(Node { name, role, inputs: from, ports });
            continue;
        }
        flow.plan.sinks.extend(sink(cx, &SINKS, name, &what, table, inputs.clone()));
        flow.nodes.push(Node { name: name.clone(), role: Role::Sink, inputs, ports: Ports::One });
    }
}

/// The tables of `[sources]`, `[operators]` or `[sinks]`. What is no table
/// becomes a node all the same.
fn family<'t>(
    cx: &mut Context<'_>,
    section: &Section<'t>,
    key: &str,
    role: Role,
    nodes: &mut Vec<Node>,
) -> Vec<(&'t Spanned<String>, &'t Table)> {
    let Some((table, _)) = section.table(cx, key) else { return Vec::new() };
    let mut found = Vec::with_capacity(table.entries.len());
    for (name, value) in &table.entries {
        check_name(cx, role.with_article(), name);
        match &value.value {
            Value::Table(table) => found.push((name, table)),
            _ => {
                cx.push(
                    wrong_type(&format!("{} '{name}'", role.noun()), "a table", value)
                        .help(format!("begin it with [{key}.{name}]")),
                );
                let (name, inputs, ports) = (name.clone(), Vec::new(), Ports::Unknown);
                nodes.push(Node { name, role, inputs, ports });
            }
        }
    }
    found
}

fn partition(cx: &mut Context<'_>, section: &Section<'_>) -> Option<PartitionPlan> {
    let (table, span) = section.table(cx, "partition")?;
    let section = Section::open(cx, table, &schema::PARTITION, "[partition]", span, None);
    let key = section.texts(cx, "key");
    let count = section.int(cx, "count").and_then(|n| u16::try_from(n).ok());
    let key = key?;
    let mut good = !key.is_empty();
    if key.is_empty() {
        cx.push(
            Diagnostic::error(section.span_of("key"), "'key' of [partition] names no field")
                .help("name at least one field, or remove [partition]"),
        );
    }
    for (at, field) in key.iter().enumerate() {
        if field.is_empty() || key[..at].contains(field) {
            let problem = if field.is_empty() { "an empty name" } else { "a field twice" };
            cx.push(
                Diagnostic::error(field.span, format!("'key' of [partition] has {problem}"))
                    .help("remove it"),
            );
            good = false;
        }
    }
    good.then_some(PartitionPlan { key, count: count? })
}

fn dead_letters(cx: &mut Context<'_>, section: &Section<'_>) -> Option<SinkPlan> {
    let (table, span) = section.table(cx, "dead_letters")?;
    let name = Spanned::new("dead_letters".to_owned(), span);
    let mut table = table.clone();
    if let Some((key, _)) = table.entry("inputs") {
        cx.push(
            Diagnostic::error(key.span, "[dead_letters] has no 'inputs'")
                .help("it takes what any component of the flow refuses; remove the key"),
        );
        table.entries.retain(|(key, _)| key.value != "inputs");
    }
    sink(cx, &DEAD_LETTERS, &name, "[dead_letters]", &table, Vec::new())
}
