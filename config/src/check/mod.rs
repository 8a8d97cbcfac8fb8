//! Checks that need more than one table: the graph of a flow, and what flows
//! would take from each other.

mod claims;
mod cycle;
mod data_dir;
mod keyed;
mod loss;
mod memory;
mod tests;
mod wiring;

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::parse::{Node, ParsedFlow};
use crate::plan::Listen;

pub(crate) use data_dir::check as data_dir;

/// Every check over everything that was loaded.
pub(crate) fn all(
    out: &mut Diagnostics,
    flows: &[ParsedFlow],
    api: Option<&Listen>,
    memory_bytes: u64,
) {
    for flow in flows {
        wiring::check(out, flow);
        cycle::check(out, &flow.nodes);
        keyed::check(out, flow);
        loss::check(out, flow);
        memory::check(out, flow, memory_bytes);
        tests::check(out, flow);
    }
    flow_names(out, flows);
    claims::check(out, flows, api);
}

fn flow_names(out: &mut Diagnostics, flows: &[ParsedFlow]) {
    for (at, flow) in flows.iter().enumerate() {
        let name = &flow.plan.name;
        if let Some(first) = flows[..at].iter().find(|f| f.plan.name == *name) {
            out.push(
                Diagnostic::error(name.span, format!("there are two flows with the name '{name}'"))
                    .note(first.plan.name.span, "the first one is here")
                    .help("give each flow a name of its own: name = \"...\""),
            );
        }
    }
}

/// The node of that name; the first, when several have it.
fn position(nodes: &[Node], name: &str) -> Option<usize> {
    nodes.iter().position(|n| n.name.value == name)
}

/// For each node those that read it, with the number of the input.
fn readers(nodes: &[Node]) -> Vec<Vec<(usize, usize)>> {
    let mut readers = vec![Vec::new(); nodes.len()];
    for (to, node) in nodes.iter().enumerate() {
        for (number, input) in node.inputs.iter().enumerate() {
            if let Some(from) = position(nodes, &input.component) {
                readers[from].push((to, number));
            }
        }
    }
    readers
}
