//! A flow as a picture: Mermaid for pages, DOT for graphviz.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::plan::{FlowPlan, Input};

/// What is written beside components and edges: figures of a running flow.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// By component.
    pub components: BTreeMap<String, String>,
    /// By producer, with its port, and consumer.
    pub edges: BTreeMap<(String, String), String>,
}

impl Notes {
    fn of_component(&self, name: &str, line_end: &str) -> String {
        self.components.get(name).map(|note| format!("{line_end}{note}")).unwrap_or_default()
    }

    /// With what is written at the edge anyway.
    fn of_edge(&self, edge: &Edge<'_>) -> Option<String> {
        let from = match edge.port {
            Some(port) => format!("{}.{port}", edge.from),
            None => edge.from.to_owned(),
        };
        let note = self.edges.get(&(from, edge.to.to_owned())).cloned();
        let words: Vec<String> = edge.label.clone().into_iter().chain(note).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// Mermaid flowchart of a flow.
#[must_use]
pub fn mermaid(flow: &FlowPlan, notes: &Notes) -> String {
    let mut out = String::from("flowchart LR\n");
    for shape in shapes(flow) {
        let (open, close) = match shape.role {
            Role::Source => ("([", "])"),
            Role::Operator => ("[", "]"),
            Role::Sink => ("[/", "/]"),
        };
        let id = mermaid_id(shape.name);
        let note = notes.of_component(shape.name, "<br/>");
        let _ = writeln!(out, "    {id}{open}\"{}<br/>{}{note}\"{close}", shape.name, shape.kind);
    }
    for edge in edges(flow) {
        let arrow = if edge.bounded { "-.->" } else { "-->" };
        let label = notes.of_edge(&edge).map(|l| format!("|\"{l}\"|")).unwrap_or_default();
        let (from, to) = (mermaid_id(edge.from), mermaid_id(edge.to));
        let _ = writeln!(out, "    {from} {arrow}{label} {to}");
    }
    out
}

/// Graphviz DOT of a flow.
#[must_use]
pub fn dot(flow: &FlowPlan, notes: &Notes) -> String {
    let mut out = format!("digraph \"{}\" {{\n    rankdir=LR;\n", flow.name);
    for shape in shapes(flow) {
        let style = match shape.role {
            Role::Source => "ellipse",
            Role::Operator => "box",
            Role::Sink => "house",
        };
        let (name, kind) = (shape.name, shape.kind);
        let note = notes.of_component(name, "\\n");
        let _ = writeln!(out, "    \"{name}\" [shape={style}, label=\"{name}\\n{kind}{note}\"];");
    }
    for edge in edges(flow) {
        let mut options: Vec<String> = Vec::new();
        options.extend(notes.of_edge(&edge).map(|l| format!("label=\"{l}\"")));
        if edge.bounded {
            options.push("style=dashed".to_owned());
        }
        let options =
            if options.is_empty() { String::new() } else { format!(" [{}]", options.join(", ")) };
        let _ = writeln!(out, "    \"{}\" -> \"{}\"{options};", edge.from, edge.to);
    }
    out.push_str("}\n");
    out
}

enum Role {
    Source,
    Operator,
    Sink,
}

struct Shape<'a> {
    name: &'a str,
    kind: &'static str,
    role: Role,
}

fn shapes(flow: &FlowPlan) -> Vec<Shape<'_>> {
    let mut shapes = Vec::new();
    for source in &flow.sources {
        shapes.push(Shape { name: &source.name, kind: source.kind.name(), role: Role::Source });
    }
    for operator in &flow.operators {
        shapes.push(Shape {
            name: &operator.name,
            kind: operator.kind.name(),
            role: Role::Operator,
        });
    }
    for sink in flow.sinks.iter().chain(&flow.dead_letters) {
        shapes.push(Shape { name: &sink.name, kind: sink.kind.name(), role: Role::Sink });
    }
    shapes
}

struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    port: Option<&'a str>,
    /// Port, and what happens when full unless that is to block.
    label: Option<String>,
    bounded: bool,
}

fn edges(flow: &FlowPlan) -> Vec<Edge<'_>> {
    let mut edges = Vec::new();
    for operator in &flow.operators {
        edges.extend(operator.inputs.iter().map(|i| edge(i, &operator.name, None)));
    }
    for sink in &flow.sinks {
        let policy = Some(sink.when_full.value).filter(|w| w.drops()).map(|w| w.name());
        edges.extend(sink.inputs.iter().map(|i| edge(i, &sink.name, policy)));
    }
    edges
}

fn edge<'a>(input: &'a Input, to: &'a str, policy: Option<&str>) -> Edge<'a> {
    let policy = input.bound.as_ref().map(|b| b.when_full.value.name()).or(policy);
    let words: Vec<&str> = input.port.as_deref().into_iter().chain(policy).collect();
    let label = (!words.is_empty()).then(|| words.join(", "));
    let port = input.port.as_deref();
    Edge { from: &input.component, to, port, label, bounded: input.bound.is_some() }
}

/// Mermaid has words of its own ("end", "graph"), so that a name alone could
/// break the picture; '-' is part of its arrows.
fn mermaid_id(name: &str) -> String {
    format!("c_{}", name.replace('-', "__"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = r#"
        name = "end"
        [sources.in-a]
        type = "udp"
        listen = "127.0.0.1:0"
        [operators.end]
        type = "route"
        inputs = ["in-a", { from = "again", bound = "1MiB", when_full = "drop_newest" }]
        routes = { high = "x > 1" }
        [operators.again]
        type = "filter"
        inputs = ["end.high"]
        where = "true"
        [sinks.out]
        type = "udp"
        inputs = ["again"]
        address = "h:1"
        when_full = "drop_oldest"
    "#;

    #[test]
    fn a_flow_is_drawn_with_ports_policies_and_the_way_back() {
        let plan = crate::load_str("a.toml", FLOW).unwrap_or_else(|e| panic!("{e}"));
        let expected = "\
flowchart LR
    c_in__a([\"in-a<br/>udp\"])
    c_end[\"end<br/>route\"]
    c_again[\"again<br/>filter\"]
    c_out[/\"out<br/>udp\"/]
    c_in__a --> c_end
    c_again -.->|\"drop_newest\"| c_end
    c_end -->|\"high\"| c_again
    c_again -->|\"drop_oldest\"| c_out
";
        assert_eq!(mermaid(&plan.flows[0], &Notes::default()), expected);
        let dot = dot(&plan.flows[0], &Notes::default());
        assert!(dot.starts_with("digraph \"end\" {\n    rankdir=LR;\n"));
        assert!(dot.contains("\"again\" -> \"end\" [label=\"drop_newest\", style=dashed];\n"));
        assert!(dot.contains("\"end\" -> \"again\" [label=\"high\"];\n"));
    }
}
