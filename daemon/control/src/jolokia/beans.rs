//! What the daemon shows as MBeans.

use ringmain_connectors::Health;
use ringmain_metrics::Role;
use serde_json::{Value, json};

use super::name::ObjectName;
use crate::view::{FlowSample, Sample, View};

/// An attribute with its value.
pub(crate) struct Attribute {
    pub name: &'static str,
    pub about: &'static str,
    pub value: Value,
}

/// An MBean.
pub(crate) struct Bean {
    pub name: ObjectName,
    pub class: &'static str,
    pub about: &'static str,
    pub attributes: Vec<Attribute>,
    /// Operations without arguments.
    pub operations: &'static [(&'static str, &'static str)],
}

impl Attribute {
    /// The Java type that a client expects for such a value.
    pub(crate) fn java_type(&self) -> &'static str {
        match &self.value {
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "double",
            Value::Number(_) => "long",
            Value::Array(_) => "[Ljava.lang.String;",
            Value::Object(_) => "javax.management.openmbean.CompositeData",
            Value::String(_) | Value::Null => "java.lang.String",
        }
    }
}

fn attribute(name: &'static str, value: impl Into<Value>, about: &'static str) -> Attribute {
    Attribute { name, about, value: value.into() }
}

/// All of them, as they are in a reading.
pub(crate) fn all(view: &View, sample: &Sample) -> Vec<Bean> {
    let mut beans = vec![runtime(view, sample), memory(view, sample), node(view, sample)];
    beans.extend(sample.node.shards.iter().map(shard));
    for of in &sample.flows {
        beans.push(flow(of));
        let health = of.flow.control.health();
        let components = 0..of.now.components.len();
        beans.extend(components.map(|at| component(of, at, health.get(at))));
        beans.extend((0..of.now.edges.len()).map(|at| edge(of, at)));
    }
    beans
}

/// As a dashboard for JVMs expects it.
fn runtime(view: &View, sample: &Sample) -> Bean {
    let uptime_ms = sample.now.mono_us.saturating_sub(view.node.started.mono_us) / 1_000;
    let version = env!("CARGO_PKG_VERSION");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let pid = std::process::id();
    Bean {
        name: ObjectName::new("java.lang", &[("type", "Runtime")]),
        class: "ringmain.Runtime",
        about: "The process",
        attributes: vec![
            attribute("Name", format!("{pid}@{}", host.trim()), "Process and host"),
            attribute("Pid", pid, "Process"),
            attribute("Uptime", uptime_ms, "Milliseconds since the start"),
            attribute("StartTime", view.node.started.wall_us / 1_000, "Milliseconds of the epoch"),
            attribute("VmName", "ringmain", "Program"),
            attribute("VmVendor", "ringmain", "Program"),
            attribute("VmVersion", version, "Version of the program"),
            attribute("SpecName", "ringmain", "Program"),
            attribute("SpecVersion", version, "Version of the program"),
            attribute("InputArguments", Vec::<String>::new(), "None are shown"),
        ],
        operations: &[],
    }
}

/// Heap is what messages in flight may use; the rest of the process is not.
fn memory(view: &View, sample: &Sample) -> Bean {
    let reserved: u64 = sample.flows.iter().map(|flow| flow.flow.memory_now()).sum();
    let used = reserved + sample.node.grown_bytes;
    let budget = view.node.memory_bytes;
    let resident = sample.node.resident_bytes;
    let heap = json!({ "init": reserved, "used": used, "committed": used, "max": budget });
    let rest = json!({ "init": 0, "used": resident, "committed": resident, "max": -1 });
    Bean {
        name: ObjectName::new("java.lang", &[("type", "Memory")]),
        class: "ringmain.Memory",
        about: "Memory for messages in flight, and of the process",
        attributes: vec![
            attribute("HeapMemoryUsage", heap, "Queues and buffers against [shards] memory"),
            attribute("NonHeapMemoryUsage", rest, "Memory of the process in RAM"),
            attribute("ObjectPendingFinalizationCount", 0, "Always 0"),
            attribute("Verbose", false, "Always false"),
        ],
        operations: &[],
    }
}

fn node(view: &View, sample: &Sample) -> Bean {
    Bean {
        name: ObjectName::new("ringmain", &[("type", "Node")]),
        class: "ringmain.Node",
        about: "The daemon",
        attributes: vec![
            attribute("Name", view.node.name.as_str(), "`name` of [daemon]"),
            attribute("Version", env!("CARGO_PKG_VERSION"), "Version of the program"),
            attribute("Flows", sample.flows.len(), "Flows"),
            attribute("Shards", sample.node.shards.len(), "Shards with flows"),
            attribute("MemoryBudgetBytes", view.node.memory_bytes, "`memory` of [shards]"),
            attribute("ResidentBytes", sample.node.resident_bytes, "Memory in RAM"),
        ],
        operations: &[("reload", "Reads the configuration's flows again")],
    }
}

fn shard(shard: &crate::node::ShardSample) -> Bean {
    Bean {
        name: ObjectName::new("ringmain", &[("type", "Shard"), ("name", &shard.name)]),
        class: "ringmain.Shard",
        about: "A shard: one core's thread",
        attributes: vec![
            attribute("CpuPercent", shard.cpu_pct, "Of its core, in the last second"),
            attribute("CpuMicroseconds", shard.cpu_us, "CPU time"),
            attribute("Turns", shard.turns, "Turns taken"),
            attribute("LongestTurnMicroseconds", shard.longest_turn_us, "The longest turn"),
        ],
        operations: &[],
    }
}

fn flow(sample: &FlowSample) -> Bean {
    let flow = &sample.flow;
    let (rate_in, rate_out) = sample.throughput();
    let (messages_in, messages_out, rejected) = sample.totals();
    let status = serde_json::to_value(sample.status()).unwrap_or_default();
    Bean {
        name: ObjectName::new("ringmain", &[("type", "Flow"), ("name", flow.name())]),
        class: "ringmain.Flow",
        about: "A flow",
        attributes: vec![
            attribute(
                "Status",
                status,
                "deploying, deployed, undeployed, partial, failed, error or unknown",
            ),
            attribute("Phase", flow.phase(), "What it is doing"),
            attribute("ThroughputIn", rate_in, "Messages per second, from its sources"),
            attribute("ThroughputOut", rate_out, "Messages per second, through its sinks"),
            attribute("BackpressurePercent", sample.worst_pct(), "Of its worst edge"),
            attribute("MessagesIn", messages_in, "Messages from its sources"),
            attribute("MessagesOut", messages_out, "Messages through its sinks"),
            attribute("Rejected", rejected, "Messages refused"),
            attribute("Runners", flow.at_work(), "Shards that work on it"),
            attribute("MemoryBytes", flow.memory_now(), "Its queues and buffers"),
            attribute("Creator", flow.creator.as_str(), "Who put it in"),
            attribute("Created", ringmain_shard::rfc3339(flow.created.wall_us), "When"),
        ],
        operations: &[("start", "Runs it"), ("stop", "Drains and stops it")],
    }
}

fn component(sample: &FlowSample, at: usize, health: Option<&Health>) -> Bean {
    let component = &sample.now.components[at];
    let (rate_in, rate_out) = sample.rates(at);
    let (health, why) = match health {
        None | Some(Health::Good) => ("good", Value::Null),
        Some(Health::Retrying(why)) => ("retrying", why.as_str().into()),
        Some(Health::Failed(why)) => ("failed", why.as_str().into()),
    };
    let pull = component.pull_ns.map(|ns| ns as f64 / 1e3);
    let role = match component.role {
        Role::Source => "source",
        Role::Operator => "operator",
        Role::Sink => "sink",
    };
    let keys = [("type", "Component"), ("flow", sample.flow.name()), ("name", &component.name)];
    Bean {
        name: ObjectName::new("ringmain", &keys),
        class: "ringmain.Component",
        about: "A component of a flow",
        attributes: vec![
            attribute("Role", role, "source, operator or sink"),
            attribute("Health", health, "good, retrying or failed"),
            attribute("HealthDetail", why, "What went wrong"),
            attribute("MessagesIn", component.rows_in, "Messages that came in"),
            attribute("MessagesOut", component.rows_out, "Messages that went out"),
            attribute("Dropped", component.dropped, "Dropped on purpose or by a full edge"),
            attribute("DroppedFull", component.dropped_full, "Dropped by a full edge"),
            attribute("Dead", component.dead, "Refused"),
            attribute("BytesIn", component.bytes_in, "Bytes read from outside"),
            attribute("BytesOut", component.bytes_out, "Bytes written to the outside"),
            attribute("RateIn", rate_in, "Messages per second"),
            attribute("RateOut", rate_out, "Messages per second"),
            attribute("PullLatencyMicroseconds", pull, "A source's: time for a batch"),
            attribute("Spilled", component.spilled, "Stored on disk for want of room"),
            attribute("Resent", component.resent, "Stored messages that the sink was given"),
            attribute("SpillDiskBytes", component.disk_bytes, "Stored messages on disk"),
            attribute("Keys", component.keys, "Keys that an operator knows"),
        ],
        operations: &[],
    }
}

fn edge(sample: &FlowSample, at: usize) -> Bean {
    let edge = &sample.now.edges[at];
    let flow = sample.flow.name();
    let keys = [("type", "Edge"), ("flow", flow), ("from", &edge.from), ("to", &edge.to)];
    Bean {
        name: ObjectName::new("ringmain", &keys),
        class: "ringmain.Edge",
        about: "An edge of a flow",
        attributes: vec![
            attribute("BackpressurePercent", sample.backpressure_pct(at), "Time without credit"),
            attribute("BlockedMicroseconds", edge.blocked_us, "Time without credit, in all"),
            attribute("QueuedBatches", edge.queued, "Batches in the queues behind it"),
        ],
        operations: &[],
    }
}
