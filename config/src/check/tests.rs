//! The places that tests name.

use super::{position, wiring};
use crate::diagnostics::{Diagnostic, Diagnostics, did_you_mean};
use crate::parse::{Node, ParsedFlow, Role};
use crate::plan::{DecodePlan, Input, TestInsert, TestPayload, TestStep};
use crate::schema::quoted;
use crate::span::Spanned;

const DEAD_LETTERS: &str = "dead_letters";

pub(super) fn check(out: &mut Diagnostics, flow: &ParsedFlow) {
    if flow.broken {
        return;
    }
    for test in &flow.plan.tests {
        let who = format!("test '{}'", test.name);
        for step in &test.steps {
            match step {
                TestStep::Advance(_) => {}
                TestStep::Insert(insert) => self::insert(out, flow, insert, &who),
                TestStep::Expect(list) => {
                    list.iter().for_each(|e| expect(out, &flow.nodes, &e.at, &who));
                }
            }
        }
    }
}

fn insert(out: &mut Diagnostics, flow: &ParsedFlow, insert: &TestInsert, who: &str) {
    let at = &insert.at;
    let Some(node) = position(&flow.nodes, at).map(|node| &flow.nodes[node]) else {
        return unknown(out, &flow.nodes, at, at, &format!("{who} inserts at"), &[]);
    };
    if node.role != Role::Source {
        if let TestPayload::Text(_) = insert.payload {
            let message = format!("{who} inserts text at {} '{at}'", node.role.noun());
            out.push(Diagnostic::error(at.span, message).help(
                "only a source decodes text; write json = '{...}' or message = { ... } here",
            ));
        }
        return;
    }
    let source = flow.plan.sources.iter().find(|s| s.name.value == at.value);
    let other = source.filter(|s| s.decode != DecodePlan::Json);
    if let (Some(source), TestPayload::Json(json)) = (other, &insert.payload) {
        let message = format!("{who} inserts JSON at '{at}', which does not decode JSON");
        out.push(
            Diagnostic::error(json.span, message)
                .note(source.name.span, "the source")
                .help("write text = ... for a frame, or message = { ... } for what it becomes"),
        );
    }
}

fn expect(out: &mut Diagnostics, nodes: &[Node], at: &Input, who: &str) {
    let name = &at.component;
    if name.value == DEAD_LETTERS && at.port.is_none() {
        return;
    }
    match position(nodes, name).map(|at| &nodes[at]) {
        None => {
            let written = Spanned::new(crate::parse::written(at), name.span);
            let who = format!("{who} looks at");
            unknown(out, nodes, name, &written, &who, &[DEAD_LETTERS]);
        }
        Some(node) => {
            wiring::port(out, node, at, who);
        }
    }
}

fn unknown(
    out: &mut Diagnostics,
    nodes: &[Node],
    name: &str,
    written: &Spanned<String>,
    who: &str,
    others: &[&str],
) {
    let names: Vec<&str> =
        nodes.iter().map(|n| n.name.as_str()).chain(others.iter().copied()).collect();
    let message = format!("{who} '{written}', which is no component of this flow");
    let help = did_you_mean(name, names.iter().copied()).or_else(|| {
        let few = &names[..names.len().min(12)];
        (!few.is_empty()).then(|| format!("its components are {}", quoted(few)))
    });
    out.push(Diagnostic::error(written.span, message).help_maybe(help));
}
