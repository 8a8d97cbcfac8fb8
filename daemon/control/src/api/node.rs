//! The node: is it well, how is it used, all figures.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use crate::figures::{Value, each};
use crate::view::Status;

/// Whether it is well.
#[derive(Serialize, ToSchema)]
struct HealthReport {
    /// `up`, or `starting`, or `failed` when a flow is.
    status: &'static str,
}

/// The node.
#[derive(Serialize, ToSchema)]
struct NodeReport {
    /// `name` of [daemon].
    name: String,
    /// The program's version.
    version: &'static str,
    /// When it was started (RFC 3339).
    started: String,
    uptime_seconds: f64,
    memory: MemoryReport,
    shards: Vec<ShardReport>,
    queues: Vec<QueueReport>,
}

/// Bytes of memory.
#[derive(Serialize, ToSchema)]
struct MemoryReport {
    /// `memory` of [shards].
    budget_bytes: u64,
    /// Queues and buffers of all flows.
    reserved_bytes: u64,
    /// What batches have grown by beyond them.
    grown_bytes: u64,
    /// Memory of the process in RAM.
    resident_bytes: u64,
}

/// A shard.
#[derive(Serialize, ToSchema)]
struct ShardReport {
    name: String,
    /// The core it is pinned to.
    core: Option<usize>,
    /// CPU time since the start.
    cpu_seconds: f64,
    /// Of its core, in the last second.
    cpu_percent: f64,
    turns: u64,
    longest_turn_us: u64,
}

/// An edge's queues.
#[derive(Serialize, ToSchema)]
struct QueueReport {
    flow: String,
    from: String,
    to: String,
    /// Batches under way.
    batches: u64,
}

/// One figure.
#[derive(Serialize, ToSchema)]
struct FigureReport {
    name: String,
    /// `counter` or `gauge`.
    kind: &'static str,
    #[schema(value_type = Object)]
    tags: serde_json::Map<String, serde_json::Value>,
    #[schema(value_type = f64)]
    value: serde_json::Value,
}

/// Whether the daemon is up, for load balancers; needs no token.
#[utoipa::path(get, path = "/api/v1/health", tag = "node", responses(
    (status = 200, body = HealthReport), (status = 503, body = HealthReport)
))]
pub(super) async fn health(State(api): State<Shared>) -> impl IntoResponse {
    let flows = api.view.flows();
    // How a run of a schedule went says nothing about the daemon.
    let mut lasting = flows.iter().filter(|flow| flow.plan.schedule.is_none());
    let any_failed = lasting.any(|flow| matches!(flow.status(), Status::Failed | Status::Error));
    let (code, status) = if any_failed {
        (StatusCode::SERVICE_UNAVAILABLE, "failed")
    } else if !api.view.is_ready() {
        (StatusCode::SERVICE_UNAVAILABLE, "starting")
    } else {
        (StatusCode::OK, "up")
    };
    (code, Json(HealthReport { status }))
}

/// CPU by shard, memory against the budget, queue depths.
#[utoipa::path(get, path = "/api/v1/node", tag = "node", security(("token" = [])), responses(
    (status = 200, body = NodeReport)
))]
pub(super) async fn node(State(api): State<Shared>) -> impl IntoResponse {
    let (view, sample) = (&api.view, api.view.sample());
    let shard = |shard: &crate::node::ShardSample| {
        let number = shard.name.rsplit('-').next().and_then(|n| n.parse::<usize>().ok());
        ShardReport {
            name: shard.name.clone(),
            core: number.and_then(|n| view.node.cores.get(n).copied()),
            cpu_seconds: shard.cpu_us as f64 / 1e6,
            cpu_percent: rounded(shard.cpu_pct),
            turns: shard.turns,
            longest_turn_us: shard.longest_turn_us,
        }
    };
    let queues = sample.flows.iter().flat_map(|flow| {
        flow.now.edges.iter().map(|edge| QueueReport {
            flow: flow.flow.name().to_owned(),
            from: edge.from.clone(),
            to: edge.to.clone(),
            batches: edge.queued,
        })
    });
    Json(NodeReport {
        name: view.node.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        started: ringmain_shard::rfc3339(view.node.started.wall_us),
        uptime_seconds: view.node.started_at.elapsed().as_secs_f64(),
        memory: MemoryReport {
            budget_bytes: view.node.memory_bytes,
            reserved_bytes: sample.flows.iter().map(|flow| flow.flow.memory_now()).sum(),
            grown_bytes: sample.node.grown_bytes,
            resident_bytes: sample.node.resident_bytes,
        },
        shards: sample.node.shards.iter().map(shard).collect(),
        queues: queues.collect(),
    })
}

/// Every figure, by the names that the exporters use.
#[utoipa::path(get, path = "/api/v1/metrics", tag = "node", security(("token" = [])), responses(
    (status = 200, body = Vec<FigureReport>)
))]
pub(super) async fn metrics(State(api): State<Shared>) -> impl IntoResponse {
    let sample = api.view.sample();
    let mut figures = Vec::new();
    each(&api.view, &sample, &mut |figure| {
        let (kind, value) = match figure.value {
            Value::Counter(value) => ("counter", value.into()),
            Value::Gauge(value) => ("gauge", value.into()),
        };
        let tags = figure.tags().into_iter().map(|(k, v)| (k.to_owned(), v.into())).collect();
        let name = format!("{}_{}", api.metrics.prefix, figure.tagged_name());
        figures.push(FigureReport { name, kind, tags, value });
    });
    Json(figures)
}

/// Every figure in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "node", security(("token" = [])), responses(
    (status = 200, body = String, content_type = "text/plain")
))]
pub(super) async fn prometheus(State(api): State<Shared>) -> impl IntoResponse {
    let text = crate::export::prometheus(&api.metrics, &api.view, &api.view.sample());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// To a tenth.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
