//! Every figure by name: the one grammar that all exporters follow.
//!
//! ```text
//! tags:    PREFIX_SCOPE_NAME[_UNIT][_total]{tags}      Prometheus, DogStatsD, JSON
//! path:    PREFIX.SCOPE.ITS_NAME[...].NAME[_UNIT]       StatsD, Graphite
//! ```
//!
//! Scopes are `node`, `shard`, `flow`, `component` and `edge`. Units stand last.
//! What only grows is a counter, and ends in `_total` where there are tags. A
//! path of a component is `flow.FLOW.component.COMPONENT.NAME`; a dot inside a
//! name becomes `__`.
//!
//! Invariant: the number of figures is bounded by what is configured: shards,
//! flows, components, edges, times the closed set of names here. No value of a
//! message, no address, no text is ever part of a name or tag.

use ringmain_connectors::Health;
use ringmain_metrics::{ComponentSnapshot, Role};

use crate::view::{FlowSample, Sample, Status, View};

/// What a figure is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    Node,
    Shard(&'a str),
    Flow { id: u64, flow: &'a str },
    Component { id: u64, flow: &'a str, component: &'a str },
    Dead { id: u64, flow: &'a str, component: &'a str, reason: &'a str },
    Edge { id: u64, flow: &'a str, from: &'a str, to: &'a str },
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    /// Only grows while its flow lives.
    Counter(u64),
    Gauge(f64),
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure<'a> {
    pub subject: Subject<'a>,
    pub name: &'static str,
    pub value: Value,
    pub help: &'static str,
}

impl Figure<'_> {
    fn scope(&self) -> &'static str {
        match self.subject {
            Subject::Node => "node",
            Subject::Shard(_) => "shard",
            Subject::Flow { .. } => "flow",
            Subject::Component { .. } | Subject::Dead { .. } => "component",
            Subject::Edge { .. } => "edge",
        }
    }

    /// Which life of a flow it belongs to; 0 for what lives as long as the
    /// process.
    pub(crate) fn id(&self) -> u64 {
        match self.subject {
            Subject::Node | Subject::Shard(_) => 0,
            Subject::Flow { id, .. }
            | Subject::Component { id, .. }
            | Subject::Dead { id, .. }
            | Subject::Edge { id, .. } => id,
        }
    }

    /// The name where there are tags, without the prefix.
    pub(crate) fn tagged_name(&self) -> String {
        let total = if matches!(self.value, Value::Counter(_)) { "_total" } else { "" };
        format!("{}_{}{total}", self.scope(), self.name)
    }

    pub(crate) fn tags(&self) -> Vec<(&'static str, &str)> {
        match self.subject {
            Subject::Node => Vec::new(),
            Subject::Shard(shard) => vec![("shard", shard)],
            Subject::Flow { flow, .. } => vec![("flow", flow)],
            Subject::Component { flow, component, .. } => {
                vec![("flow", flow), ("component", component)]
            }
            Subject::Dead { flow, component, reason, .. } => {
                vec![("flow", flow), ("component", component), ("reason", reason)]
            }
            Subject::Edge { flow, from, to, .. } => {
                vec![("flow", flow), ("from", from), ("to", to)]
            }
        }
    }

    /// The path where there are none, without the prefix.
    pub(crate) fn path(&self) -> String {
        let name = self.name;
        match self.subject {
            Subject::Node => format!("node.{name}"),
            Subject::Shard(shard) => format!("shard.{}.{name}", plain(shard)),
            Subject::Flow { flow, .. } => format!("flow.{}.{name}", plain(flow)),
            Subject::Component { flow, component, .. } => {
                format!("flow.{}.component.{}.{name}", plain(flow), plain(component))
            }
            Subject::Dead { flow, component, reason, .. } => {
                format!("flow.{}.component.{}.{name}.{reason}", plain(flow), plain(component))
            }
            Subject::Edge { flow, from, to, .. } => {
                format!("flow.{}.edge.{}.{}.{name}", plain(flow), plain(from), plain(to))
            }
        }
    }
}

/// A name as one step of a path.
fn plain(name: &str) -> String {
    name.replace('.', "__")
}

/// Every figure of a reading.
pub(crate) fn each<'a>(view: &'a View, sample: &'a Sample, to: &mut dyn FnMut(Figure<'a>)) {
    node(view, sample, to);
    for flow in &sample.flows {
        of_flow(flow, to);
    }
}

fn node<'a>(view: &View, sample: &'a Sample, to: &mut dyn FnMut(Figure<'a>)) {
    let node = &sample.node;
    let mut gauge = |name, value: f64, help| {
        to(Figure { subject: Subject::Node, name, value: Value::Gauge(value), help });
    };
    let uptime_us = sample.now.mono_us.saturating_sub(view.node.started.mono_us);
    gauge("uptime_seconds", uptime_us as f64 / 1e6, "Time since the start.");
    gauge("memory_budget_bytes", view.node.memory_bytes as f64, "`memory` of [shards].");
    let reserved: u64 = sample.flows.iter().map(|flow| flow.flow.memory_now()).sum();
    gauge("memory_reserved_bytes", reserved as f64, "Queues and buffers of all flows.");
    gauge("memory_grown_bytes", node.grown_bytes as f64, "What batches have grown by beyond them.");
    gauge("memory_resident_bytes", node.resident_bytes as f64, "Memory of the process in RAM.");
    for shard in &node.shards {
        let subject = Subject::Shard(&shard.name);
        let mut figure = |name, value, help| to(Figure { subject, name, value, help });
        figure("cpu_microseconds", Value::Counter(shard.cpu_us), "CPU time.");
        figure("cpu_percent", Value::Gauge(shard.cpu_pct), "Of a core, since the reading before.");
        figure("turns", Value::Counter(shard.turns), "Turns taken.");
        let longest = Value::Gauge(shard.longest_turn_us as f64);
        figure("longest_turn_microseconds", longest, "The longest turn so far.");
    }
}

fn of_flow<'a>(sample: &'a FlowSample, to: &mut dyn FnMut(Figure<'a>)) {
    let (id, flow) = (sample.flow.id, sample.flow.name());
    let mut figure = |name, value, help| {
        to(Figure { subject: Subject::Flow { id, flow }, name, value, help });
    };
    let (rows_in, rows_out, dead) = sample.totals();
    figure("messages_in", Value::Counter(rows_in), "Messages that its sources brought.");
    figure("messages_out", Value::Counter(rows_out), "Messages that its sinks delivered.");
    figure("messages_rejected", Value::Counter(dead), "Messages refused by any component.");
    let up = f64::from(u8::from(sample.status() == Status::Deployed));
    figure("up", Value::Gauge(up), "1 while it is deployed and well.");
    let failed = matches!(sample.status(), Status::Failed | Status::Error | Status::Unknown);
    let help = "1 when it could not be started, went wrong, or its shard does not answer.";
    figure("failed", Value::Gauge(f64::from(u8::from(failed))), help);
    figure("shards", Value::Gauge(sample.flow.at_work() as f64), "Shards that work on it.");
    let memory = Value::Gauge(sample.flow.memory_now() as f64);
    figure("memory_bytes", memory, "Its queues and buffers.");
    let worst = Value::Gauge(sample.worst_pct());
    figure("backpressure_percent", worst, "Of its worst edge, since the reading before.");
    let health = sample.flow.control.health();
    for (at, component) in sample.now.components.iter().enumerate() {
        of_component(id, flow, component, health.get(at), to);
    }
    for (at, edge) in sample.now.edges.iter().enumerate() {
        let subject = Subject::Edge { id, flow, from: &edge.from, to: &edge.to };
        let mut figure = |name, value, help| to(Figure { subject, name, value, help });
        let blocked = Value::Counter(edge.blocked_us);
        figure("blocked_microseconds", blocked, "Time that the producer had no credit.");
        let percent = Value::Gauge(sample.backpressure_pct(at));
        figure("backpressure_percent", percent, "Part of that since the reading before.");
        let queued = Value::Gauge(edge.queued as f64);
        figure("queued_batches", queued, "Batches in the queues behind it.");
    }
}

fn of_component<'a>(
    id: u64,
    flow: &'a str,
    component: &'a ComponentSnapshot,
    health: Option<&Health>,
    to: &mut dyn FnMut(Figure<'a>),
) {
    let name = component.name.as_str();
    let subject = Subject::Component { id, flow, component: name };
    let mut count = |name, count, help| {
        to(Figure { subject, name, value: Value::Counter(count), help });
    };
    count("messages_in", component.rows_in, "Messages that came in.");
    count("messages_out", component.rows_out, "Messages that went out.");
    count("messages_dropped", component.dropped, "Messages dropped on purpose or by a full edge.");
    count("messages_dropped_full", component.dropped_full, "Those dropped by a full edge.");
    count("messages_dead", component.dead, "Messages refused.");
    count("bytes_in", component.bytes_in, "Bytes read from outside.");
    count("bytes_out", component.bytes_out, "Bytes written to the outside.");
    match component.role {
        Role::Source => {}
        Role::Operator => {
            count("keys_evicted", component.evicted, "Keys forgotten to make room.");
            count("messages_late", component.late, "Messages that came after their window.");
            count("errors", component.errors, "Failures of timers.");
        }
        Role::Sink => {
            count("messages_spilled", component.spilled, "Messages stored on disk.");
            count("messages_resent", component.resent, "Stored messages that it was given.");
            let help = "Bytes of torn ends of what was stored, cut off at the start.";
            count("spill_torn_bytes", component.torn_bytes, help);
        }
    }
    let mut gauge = |name, value: u64, help| {
        to(Figure { subject, name, value: Value::Gauge(value as f64), help });
    };
    match component.role {
        Role::Source => {}
        Role::Operator => {
            gauge("keys", component.keys, "Keys that it knows.");
            gauge("messages_held", component.held, "Messages that it holds back.");
        }
        Role::Sink => gauge("spill_disk_bytes", component.disk_bytes, "Stored messages on disk."),
    }
    let health = match health {
        None | Some(Health::Good) => 0.0,
        Some(Health::Retrying(_)) => 1.0,
        Some(Health::Failed(_)) => 2.0,
    };
    let help = "0: well, 1: tries again, 2: has given up.";
    to(Figure { subject, name: "health", value: Value::Gauge(health), help });
    if let Some(ns) = component.pull_ns {
        let help = "Of a source: how long it takes to give out a batch, lately.";
        let value = Value::Gauge(ns as f64 / 1e3);
        to(Figure { subject, name: "pull_microseconds", value, help });
    }
    for (reason, count) in &component.dead_by_reason {
        let subject = Subject::Dead { id, flow, component: name, reason: reason.name() };
        let value = Value::Counter(*count);
        to(Figure { subject, name: "dead", value, help: "Messages refused, by reason." });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        let subject = Subject::Edge { id: 1, flow: "plant.a", from: "route.high", to: "out" };
        let value = Value::Counter(1);
        let figure = Figure { subject, name: "blocked_microseconds", value, help: "" };
        assert_eq!(figure.tagged_name(), "edge_blocked_microseconds_total");
        assert_eq!(figure.tags(), [("flow", "plant.a"), ("from", "route.high"), ("to", "out")]);
        assert_eq!(figure.path(), "flow.plant__a.edge.route__high.out.blocked_microseconds");
        let gauge = Figure { value: Value::Gauge(0.5), name: "up", ..figure };
        assert_eq!(gauge.tagged_name(), "edge_up");
    }
}
