//! Flows: the list, one with its components and edges, its definition.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use ringmain_connectors::Health;
use ringmain_metrics::Role;
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use super::node::rounded;
use super::problem::Problem;
use crate::schedule::Outcome;
use crate::view::{FlowSample, Status, View};

/// A line of the list of flows.
#[derive(Serialize, ToSchema)]
pub(crate) struct FlowReport {
    name: String,
    status: Status,
    /// `opening`, `running`, `draining`, `ended` or `aborted`.
    phase: &'static str,
    /// Messages per second, from the sources.
    throughput_in: f64,
    /// Messages per second, through the sinks.
    throughput_out: f64,
    /// Of the worst edge: part of the last second without credit.
    backpressure_percent: f64,
    /// Shards that work on it.
    runners: usize,
    /// Messages from the sources since it was started.
    messages_in: u64,
    /// Messages through the sinks.
    messages_out: u64,
    /// Messages refused by any component.
    rejected: u64,
    memory_bytes: u64,
    /// Who put it in.
    creator: String,
    /// When it was put in (RFC 3339).
    created: String,
    /// When it runs, in a few words; null where it runs all the time.
    schedule: Option<String>,
    /// The next time that it runs (RFC 3339), where that is known.
    next_run: Option<String>,
    /// When the last run of its schedule began (RFC 3339).
    last_run: Option<String>,
    /// What became of it.
    last_result: Option<Outcome>,
    /// When it was last replaced by another version while it ran (RFC 3339).
    last_changed: Option<String>,
    /// What became of its components then.
    last_change: Option<String>,
}

/// A flow with its components and edges.
#[derive(Serialize, ToSchema)]
struct FlowDetail {
    #[serde(flatten)]
    flow: FlowReport,
    /// The file it was read from.
    file: Option<String>,
    /// What kept it from starting.
    errors: Vec<String>,
    components: Vec<ComponentReport>,
    edges: Vec<EdgeReport>,
}

/// A component.
#[derive(Serialize, ToSchema)]
struct ComponentReport {
    name: String,
    /// `source`, `operator` or `sink`.
    role: &'static str,
    /// `good`, `retrying` or `failed`.
    health: &'static str,
    /// What went wrong.
    health_detail: Option<String>,
    messages_in: u64,
    messages_out: u64,
    /// Dropped on purpose, or by a full edge.
    dropped: u64,
    /// Those dropped by a full edge.
    dropped_full: u64,
    /// Refused.
    dead: u64,
    /// Refused, by reason.
    #[schema(value_type = Object)]
    dead_by_reason: serde_json::Map<String, serde_json::Value>,
    bytes_in: u64,
    bytes_out: u64,
    /// Messages per second.
    rate_in: f64,
    /// Messages per second.
    rate_out: f64,
    /// Of a source: how long it takes to give out a batch, lately.
    pull_latency_us: Option<f64>,
    /// Of a sink: messages that were stored on disk because it had no room.
    spilled: u64,
    /// Stored messages that it was given.
    resent: u64,
    /// Bytes that stored messages take on disk.
    spill_disk_bytes: u64,
    /// Bytes of torn ends of what was stored, cut off at the start.
    spill_torn_bytes: u64,
    /// Of an operator: keys that it knows.
    keys: u64,
    /// Keys that it has forgotten to make room.
    keys_evicted: u64,
    /// Messages that came after their window was closed.
    late: u64,
}

/// An edge.
#[derive(Serialize, ToSchema)]
struct EdgeReport {
    from: String,
    to: String,
    /// Part of the last second without credit.
    backpressure_percent: f64,
    /// Time without credit since the start.
    blocked_us: u64,
    /// Batches in the queues behind it.
    queued_batches: u64,
}

/// All flows.
#[utoipa::path(get, path = "/api/v1/flows", tag = "flows", security(("token" = [])), responses(
    (status = 200, body = Vec<FlowReport>)
))]
pub(super) async fn list(State(api): State<Shared>) -> Json<Vec<FlowReport>> {
    Json(api.view.sample().flows.iter().map(|flow| report(&api.view, flow)).collect())
}

/// One flow.
#[utoipa::path(get, path = "/api/v1/flows/{name}", tag = "flows", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the flow")), responses(
    (status = 200, body = FlowDetail), (status = 404, body = Problem)
))]
pub(super) async fn find(
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let sample = api.view.sample();
    let flow = sample.flow(&name).ok_or_else(|| no_flow(&name))?;
    let health = flow.flow.control.health();
    let components = flow.now.components.iter().enumerate();
    let components = components.map(|(at, c)| component(flow, at, c, health.get(at)));
    let edges = flow.now.edges.iter().enumerate().map(|(at, edge)| EdgeReport {
        from: edge.from.clone(),
        to: edge.to.clone(),
        backpressure_percent: rounded(flow.backpressure_pct(at)),
        blocked_us: edge.blocked_us,
        queued_batches: edge.queued,
    });
    Ok(Json(FlowDetail {
        flow: report(&api.view, flow),
        file: flow.flow.file.as_ref().map(|file| file.display().to_string()),
        errors: flow.flow.control.errors(),
        components: components.collect(),
        edges: edges.collect(),
    }))
}

/// The text of a flow, as it was read.
#[utoipa::path(get, path = "/api/v1/flows/{name}/definition", tag = "flows",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    responses(
    (status = 200, body = String, content_type = "application/toml"), (status = 404, body = Problem)
))]
pub(super) async fn definition(
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let flows = api.view.flows();
    let flow = flows.iter().find(|flow| flow.name() == name).ok_or_else(|| no_flow(&name))?;
    Ok(([(header::CONTENT_TYPE, "application/toml")], flow.text.to_string()))
}

pub(super) fn no_flow(name: &str) -> Problem {
    Problem::not_found(&format!("flow '{name}'"))
}

fn report(view: &View, sample: &FlowSample) -> FlowReport {
    let flow = &sample.flow;
    let schedule = view.schedule(flow.name());
    let last = schedule.as_ref().and_then(|schedule| schedule.last());
    let (throughput_in, throughput_out) = sample.throughput();
    let (messages_in, messages_out, rejected) = sample.totals();
    FlowReport {
        name: flow.name().to_owned(),
        status: sample.status(),
        phase: flow.phase(),
        throughput_in: rounded(throughput_in),
        throughput_out: rounded(throughput_out),
        backpressure_percent: rounded(sample.worst_pct()),
        runners: flow.at_work(),
        messages_in,
        messages_out,
        rejected,
        memory_bytes: flow.memory_bytes,
        creator: flow.creator.clone(),
        created: ringmain_shard::rfc3339(flow.created.wall_us),
        last_run: last.map(|(started, _)| started.to_owned()),
        last_result: last.map(|(_, result)| result),
        next_run: schedule.as_ref().and_then(|schedule| schedule.next_run.clone()),
        schedule: schedule.map(|schedule| schedule.schedule.clone()),
        last_changed: flow.last_change.as_ref().map(|(at, _)| ringmain_shard::rfc3339(at.wall_us)),
        last_change: flow.last_change.as_ref().map(|(_, said)| said.to_string()),
    }
}

fn component(
    flow: &FlowSample,
    at: usize,
    component: &ringmain_metrics::ComponentSnapshot,
    health: Option<&Health>,
) -> ComponentReport {
    let (rate_in, rate_out) = flow.rates(at);
    let (health, health_detail) = match health {
        None | Some(Health::Good) => ("good", None),
        Some(Health::Retrying(why)) => ("retrying", Some(why.clone())),
        Some(Health::Failed(why)) => ("failed", Some(why.clone())),
    };
    let reasons = component.dead_by_reason.iter();
    ComponentReport {
        name: component.name.clone(),
        role: match component.role {
            Role::Source => "source",
            Role::Operator => "operator",
            Role::Sink => "sink",
        },
        health,
        health_detail,
        messages_in: component.rows_in,
        messages_out: component.rows_out,
        dropped: component.dropped,
        dropped_full: component.dropped_full,
        dead: component.dead,
        dead_by_reason: reasons.map(|(r, n)| (r.name().to_owned(), (*n).into())).collect(),
        bytes_in: component.bytes_in,
        bytes_out: component.bytes_out,
        rate_in: rounded(rate_in),
        rate_out: rounded(rate_out),
        pull_latency_us: component.pull_ns.map(|ns| rounded(ns as f64 / 1e3)),
        spilled: component.spilled,
        resent: component.resent,
        spill_disk_bytes: component.disk_bytes,
        spill_torn_bytes: component.torn_bytes,
        keys: component.keys,
        keys_evicted: component.evicted,
        late: component.late,
    }
}
