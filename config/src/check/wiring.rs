//! Names, inputs and ports of one flow.

use super::position;
use crate::diagnostics::{Diagnostic, Diagnostics, did_you_mean, nearest};
use crate::parse::{Node, ParsedFlow, Ports, Role, written};
use crate::plan::Input;
use crate::schema::quoted;
use crate::span::Span;

pub(super) fn check(out: &mut Diagnostics, flow: &ParsedFlow) {
    let nodes = &flow.nodes;
    names(out, nodes);
    if flow.broken {
        return;
    }
    ends(out, flow);
    let mut all = nodes.iter().all(|n| n.role == Role::Source || !n.inputs.is_empty());
    for (at, node) in nodes.iter().enumerate() {
        for input in &node.inputs {
            all &= resolve(out, nodes, at, input);
        }
    }
    // An input with a mistake may have meant what nothing else reads.
    if all {
        unread(out, nodes);
    }
}

/// A flow without a beginning or an end does nothing.
fn ends(out: &mut Diagnostics, flow: &ParsedFlow) {
    let top = Span::new(flow.plan.file, 0, 0);
    for (role, header) in [(Role::Source, "[sources.NAME]"), (Role::Sink, "[sinks.NAME]")] {
        if !flow.nodes.iter().any(|n| n.role == role) {
            let name = &flow.plan.name;
            let message = format!("the flow '{name}' has no {}", role.noun());
            out.push(Diagnostic::error(top, message).help(format!("add a table {header}")));
        }
    }
}

fn names(out: &mut Diagnostics, nodes: &[Node]) {
    let mut sorted: Vec<&Node> = nodes.iter().collect();
    sorted.sort_by_key(|n| n.name.span.start);
    for (at, node) in sorted.iter().enumerate() {
        if node.name.value == "dead_letters" {
            out.push(
                Diagnostic::error(node.name.span, "the name 'dead_letters' is taken by the flow")
                    .help("choose another name"),
            );
        }
        if let Some(first) = sorted[..at].iter().find(|n| n.name == node.name) {
            let message = format!("the name '{}' is used by two components of the flow", node.name);
            out.push(
                Diagnostic::error(node.name.span, message)
                    .note(first.name.span, format!("a {} has it already", first.role.noun()))
                    .help("rename one of them, and the inputs that mean it"),
            );
        }
    }
}

/// Whether the input names an output of the flow.
fn resolve(out: &mut Diagnostics, nodes: &[Node], at: usize, input: &Input) -> bool {
    if input.port.is_some() && position(nodes, &written(input)).is_some() {
        return false; // A name with a dot in it has been reported.
    }
    let name = input.component.value.as_str();
    let reader = &nodes[at];
    let span = input.component.span;
    let who = format!("{} '{}'", reader.role.noun(), reader.name);
    let Some(from) = position(nodes, name).map(|from| &nodes[from]) else {
        let message = format!("{who} reads '{name}', which is no component of this flow");
        let outputs = || nodes.iter().filter(|n| n.role != Role::Sink && n.name != reader.name);
        let help = did_you_mean(name, outputs().map(|n| n.name.as_str())).or_else(|| {
            let names: Vec<&str> = outputs().map(|n| n.name.as_str()).take(12).collect();
            (!names.is_empty()).then(|| format!("it can read {}", quoted(&names)))
        });
        out.push(Diagnostic::error(span, message).help_maybe(help));
        return false;
    };
    if from.role == Role::Sink {
        let message = format!("{who} reads '{name}', but a sink has no output");
        let help = format!("read what '{name}' reads instead");
        out.push(Diagnostic::error(span, message).note(from.name.span, "the sink").help(help));
        return false;
    }
    port(out, from, input, &who)
}

pub(super) fn port(out: &mut Diagnostics, from: &Node, input: &Input, who: &str) -> bool {
    let name = &from.name;
    let span = input.component.span;
    match (&from.ports, &input.port) {
        (Ports::One, Some(port)) => {
            let message = format!("{who} reads port '{port}' of '{name}', which has no ports");
            out.push(Diagnostic::error(span, message).help(format!("write \"{name}\"")));
        }
        (Ports::Named(ports), None) => {
            let message = format!("{who} reads '{name}' without naming one of its ports");
            let choices: Vec<String> = ports.iter().map(|p| format!("\"{name}.{p}\"")).collect();
            out.push(
                Diagnostic::error(span, message).help(format!("write {}", choices.join(" or "))),
            );
        }
        (Ports::Named(ports) | Ports::More(ports), Some(port)) if !ports.contains(port) => {
            let message = format!("{who} reads port '{port}' of '{name}', which is not there");
            let near = nearest(port, ports.iter().map(String::as_str));
            let help = match near {
                Some(near) => format!("did you mean '{name}.{near}'?"),
                None => {
                    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
                    format!("its ports are {}", quoted(&ports))
                }
            };
            out.push(Diagnostic::error(span, message).help(help));
        }
        _ => return true,
    }
    false
}

/// What nothing reads is probably a forgotten input.
fn unread(out: &mut Diagnostics, nodes: &[Node]) {
    for node in nodes.iter().filter(|n| n.role != Role::Sink) {
        let inputs = || nodes.iter().flat_map(|n| &n.inputs).filter(|i| i.component == node.name);
        let noun = node.role.noun();
        if inputs().next().is_none() {
            let message = format!("nothing reads {noun} '{}'", node.name);
            let help = format!("add \"{}\" to the inputs of a component, or remove it", node.name);
            out.push(Diagnostic::warning(node.name.span, message).help(help));
            continue;
        }
        if matches!(node.ports, Ports::More(_)) && !inputs().any(|i| i.port.is_none()) {
            let message = format!("nothing reads {noun} '{}' but a port of it", node.name);
            let help = format!("add \"{}\" to the inputs of a component", node.name);
            out.push(Diagnostic::warning(node.name.span, message).help(help));
        }
        let (Ports::Named(ports) | Ports::More(ports)) = &node.ports else { continue };
        for port in ports {
            // Where all ports have names, an input without one has been reported;
            // it may have meant any.
            let any = matches!(node.ports, Ports::Named(_));
            if !inputs().any(|i| i.port.as_ref().map_or(any, |p| p == port)) {
                let message = format!(
                    "nothing reads port '{port}' of '{}': its messages are dropped",
                    node.name
                );
                let help = format!("add \"{}.{port}\" to the inputs of a component", node.name);
                out.push(Diagnostic::warning(node.name.span, message).help(help));
            }
        }
    }
}
