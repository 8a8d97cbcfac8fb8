//! Contradictions between what a source promises and what an edge does: a
//! source that could send a message again is told that it arrived, although an
//! edge dropped it.

use super::cycle::reachable;
use super::{position, readers};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::parse::{Node, ParsedFlow};
use crate::plan::WhenFull;
use crate::schema::quoted;
use crate::span::Spanned;

pub(super) fn check(out: &mut Diagnostics, flow: &ParsedFlow) {
    if flow.plan.allow_loss {
        return;
    }
    let nodes = &flow.nodes;
    let readers = readers(nodes);
    let replaying = flow.plan.sources.iter().filter(|s| s.kind.can_replay());
    let sources: Vec<(&str, Vec<bool>)> = replaying
        .filter_map(|s| Some((s.name.as_str(), reachable(&readers, position(nodes, &s.name)?))))
        .collect();
    for (node, when_full) in dropping(flow) {
        let reached: Vec<&str> = position(nodes, &node.name)
            .map(|at| sources.iter().filter(|(_, seen)| seen[at]).map(|(name, _)| *name).collect())
            .unwrap_or_default();
        if reached.is_empty() {
            continue;
        }
        let message = format!(
            "{} '{}' drops messages that the source {} could send again",
            node.role.noun(),
            node.name,
            quoted(&reached)
        );
        out.push(Diagnostic::error(when_full.span, message).help(
            "use when_full = \"block\", or accept the loss: allow_loss = true at the top of \
                 the flow",
        ));
    }
}

/// Every edge of the flow that drops, by the component it leads to.
fn dropping(flow: &ParsedFlow) -> Vec<(&Node, &Spanned<WhenFull>)> {
    let mut found = Vec::new();
    for node in &flow.nodes {
        let sink = flow.plan.sinks.iter().find(|s| s.name == node.name);
        let edges = node.inputs.iter().filter_map(|i| i.bound.as_ref()).map(|b| &b.when_full);
        let spill = sink.and_then(|s| s.spill.as_ref()).map(|s| &s.when_full);
        let sinks = sink.map(|s| &s.when_full).into_iter().chain(spill);
        let all = edges.chain(sinks).filter(|w| w.drops());
        found.extend(all.map(|when_full| (node, when_full)));
    }
    found
}
