//! What a run came to, for people and for programs.

use std::fmt;

use ringmain_base::units::{format_bytes, grouped};
use ringmain_metrics::{NamedSnapshot, Snapshot};
use serde::{Serialize, Serializer};

/// One flow's totals.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The flow.
    pub flow: String,
    /// From the first turn to the end; of all its lives together.
    pub seconds: f64,
    /// It ended before the daemon did.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// A life of it ended before everything under way had arrived.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut_off: bool,
    /// Totals by component, in the order of the graph.
    #[serde(serialize_with = "as_map")]
    pub components: Vec<(String, Totals)>,
    /// Edges, in the order of the graph.
    pub edges: Vec<EdgeTotals>,
    /// Metrics that operators name themselves, by component.
    #[serde(serialize_with = "metrics_as_map", skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<(String, Vec<MetricTotal>)>,
}

/// A metric that an operator names itself.
#[derive(Clone, Debug)]
pub struct MetricTotal {
    /// Its name.
    pub name: String,
    /// What it came to.
    pub value: MetricValue,
}

/// What a metric came to.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum MetricValue {
    /// A counter or a gauge.
    Number(f64),
    /// A histogram.
    Histogram {
        /// Values that were observed.
        count: u64,
        /// Their sum.
        sum: f64,
        /// The least of them.
        min: f64,
        /// The greatest of them.
        max: f64,
    },
}

/// A component's totals, in messages and bytes.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Totals {
    /// Messages that came in.
    #[serde(rename = "in")]
    pub rows_in: u64,
    /// Messages that went out.
    #[serde(rename = "out")]
    pub rows_out: u64,
    /// Messages dropped on purpose or by a full edge's policy.
    pub dropped: u64,
    /// Messages refused.
    pub dead: u64,
    /// Bytes read from outside.
    pub bytes_in: u64,
    /// Bytes written to the outside.
    pub bytes_out: u64,
    /// Failures that belong to no message, such as a timer's.
    #[serde(skip_serializing_if = "is_zero")]
    pub errors: u64,
    /// Keys that an operator had to forget to make room.
    #[serde(skip_serializing_if = "is_zero")]
    pub evicted: u64,
    /// Messages that came after their window was closed.
    #[serde(skip_serializing_if = "is_zero")]
    pub late: u64,
    /// Messages that were stored on disk because the sink had no room.
    #[serde(skip_serializing_if = "is_zero")]
    pub spilled: u64,
    /// Stored messages that the sink was given.
    #[serde(skip_serializing_if = "is_zero")]
    pub resent: u64,
    /// Bytes that stored messages still take on disk.
    #[serde(skip_serializing_if = "is_zero")]
    pub disk_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// An edge's total.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeTotals {
    /// Producer.
    pub from: String,
    /// Consumer.
    pub to: String,
    /// Part of the time that the producer had no credit.
    pub backpressure_pct: f64,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.dropped += other.dropped;
        self.dead += other.dead;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.errors += other.errors;
        self.evicted += other.evicted;
        self.late += other.late;
        self.spilled += other.spilled;
        self.resent += other.resent;
        // What is left on disk, the later life has found there.
    }

    /// Whether every message that came in is accounted for; what is stored
    /// is left for the next run.
    #[must_use]
    pub fn balance(&self) -> bool {
        let accounted = self.rows_out + self.dropped + self.dead;
        self.rows_in == accounted || (self.disk_bytes > 0 && self.rows_in > accounted)
    }
}

impl Summary {
    pub(crate) fn of(snapshot: &Snapshot, seconds: f64) -> Self {
        let component = |c: &ringmain_metrics::ComponentSnapshot| {
            let totals = Totals {
                rows_in: c.rows_in,
                rows_out: c.rows_out,
                dropped: c.dropped,
                dead: c.dead,
                bytes_in: c.bytes_in,
                bytes_out: c.bytes_out,
                errors: c.errors,
                evicted: c.evicted,
                late: c.late,
                spilled: c.spilled,
                resent: c.resent,
                disk_bytes: c.disk_bytes,
            };
            (c.name.clone(), totals)
        };
        let edge = |e: &ringmain_metrics::EdgeSnapshot| EdgeTotals {
            from: e.from.clone(),
            to: e.to.clone(),
            backpressure_pct: percent(e.blocked_us, seconds),
        };
        let metrics = snapshot.components.iter().filter(|c| !c.named.is_empty());
        let metrics = metrics.map(|c| (c.name.clone(), c.named.iter().map(metric).collect()));
        Self {
            metrics: metrics.collect(),
            flow: snapshot.flow.clone(),
            seconds,
            ended: false,
            cut_off: false,
            components: snapshot.components.iter().map(component).collect(),
            edges: snapshot.edges.iter().map(edge).collect(),
        }
    }

    /// Adds what an earlier life of the flow came to. Edges and metrics are
    /// those of the last.
    pub(crate) fn add(&mut self, earlier: Self) {
        self.seconds += earlier.seconds;
        self.cut_off |= earlier.cut_off;
        for (name, totals) in earlier.components {
            match self.components.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.add(&totals),
                None => self.components.push((name, totals)),
            }
        }
    }

    /// Whether an edge has backpressure that does not come from further down:
    /// what people want to know first.
    fn is_cause(&self, edge: &EdgeTotals) -> bool {
        let behind = |other: &&EdgeTotals| {
            let from = other.from.strip_prefix(&edge.to);
            from.is_some_and(|port| port.is_empty() || port.starts_with('.'))
        };
        let passed_on = self.edges.iter().filter(behind);
        let passed_on = passed_on.map(|other| other.backpressure_pct).fold(0.0, f64::max);
        edge.backpressure_pct >= 0.1 && edge.backpressure_pct > passed_on
    }

    /// Components whose counts do not add up: messages lost, or counted
    /// wrongly. Either is a mistake of this program.
    pub fn unbalanced(&self) -> impl Iterator<Item = &str> {
        self.components.iter().filter(|(_, t)| !t.balance()).map(|(name, _)| name.as_str())
    }
}

fn as_map<S: Serializer>(list: &[(String, Totals)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(list.iter().map(|(name, totals)| (name, totals)))
}

fn metrics_as_map<S: Serializer>(
    list: &[(String, Vec<MetricTotal>)],
    to: S,
) -> Result<S::Ok, S::Error> {
    struct Metrics<'a>(&'a [MetricTotal]);
    impl Serialize for Metrics<'_> {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.collect_map(self.0.iter().map(|metric| (&metric.name, &metric.value)))
        }
    }
    to.collect_map(list.iter().map(|(name, metrics)| (name, Metrics(metrics))))
}

fn metric(metric: &NamedSnapshot) -> MetricTotal {
    let value = match &metric.histogram {
        None => MetricValue::Number(metric.value),
        Some(h) => MetricValue::Histogram { count: h.count, sum: h.sum, min: h.min, max: h.max },
    };
    MetricTotal { name: metric.name.clone(), value }
}

impl fmt::Display for MetricValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => value.fmt(f),
            Self::Histogram { count, .. } if *count == 0 => f.write_str("nothing observed"),
            Self::Histogram { count, sum, min, max } => {
                let mean = sum / *count as f64;
                write!(f, "{count} observed, mean {mean:.3}, min {min}, max {max}")
            }
        }
    }
}

fn percent(blocked_us: u64, seconds: f64) -> f64 {
    if seconds <= 0.0 {
        return 0.0;
    }
    let percent = blocked_us as f64 / (seconds * 10_000.0);
    (percent.min(100.0) * 10.0).round() / 10.0
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = if self.ended { ", ended before" } else { "" };
        writeln!(f, "{}: {:.2} s{ended}", self.flow, self.seconds)?;
        writeln!(
            f,
            "  {:<20} {:>14} {:>14} {:>12} {:>9} {:>12}",
            "component", "in", "out", "dropped", "dead", "msg/s"
        )?;
        for (name, t) in &self.components {
            let rate = t.rows_in as f64 / self.seconds.max(1e-9);
            writeln!(
                f,
                "  {:<20} {:>14} {:>14} {:>12} {:>9} {:>12}",
                name,
                grouped(t.rows_in),
                grouped(t.rows_out),
                grouped(t.dropped),
                grouped(t.dead),
                grouped(rate as u64)
            )?;
        }
        for (name, t) in &self.components {
            if t.errors > 0 {
                writeln!(f, "  {name}: {} failures of its timer", grouped(t.errors))?;
            }
            if t.evicted > 0 {
                let evicted = grouped(t.evicted);
                writeln!(f, "  {name}: {evicted} keys forgotten to make room; see max_keys")?;
            }
            if t.late > 0 {
                let late = grouped(t.late);
                writeln!(f, "  {name}: {late} messages came too late for their window")?;
            }
        }
        for (component, metrics) in &self.metrics {
            for metric in metrics {
                writeln!(f, "  {component}.{}: {}", metric.name, metric.value)?;
            }
        }
        for (name, t) in self.components.iter().filter(|(_, t)| t.spilled + t.resent > 0) {
            let (spilled, resent) = (grouped(t.spilled), grouped(t.resent));
            write!(f, "  {name}: {spilled} stored on disk, {resent} sent from there")?;
            match t.disk_bytes {
                0 => writeln!(f)?,
                bytes => writeln!(f, ", {} left", format_bytes(bytes))?,
            }
        }
        for edge in self.edges.iter().filter(|edge| self.is_cause(edge)) {
            let (from, to, pct) = (&edge.from, &edge.to, edge.backpressure_pct);
            writeln!(f, "  backpressure {pct:>5.1} %  {from} -> {to}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backpressure_is_shown_where_it_begins() {
        let edge = |from: &str, to: &str, backpressure_pct| EdgeTotals {
            from: from.into(),
            to: to.into(),
            backpressure_pct,
        };
        let edges = vec![
            edge("in", "route", 40.0),
            edge("route.high", "out", 40.0),
            edge("route.low", "other", 0.0),
        ];
        let summary = Summary {
            flow: "f".into(),
            seconds: 1.0,
            ended: false,
            cut_off: false,
            components: Vec::new(),
            edges,
            metrics: Vec::new(),
        };
        let shown = summary.edges.iter().filter(|edge| summary.is_cause(edge));
        assert_eq!(shown.map(|edge| edge.to.as_str()).collect::<Vec<_>>(), ["out"]);
    }

    #[test]
    fn backpressure_is_a_part_of_the_time() {
        assert_eq!(percent(500_000, 1.0), 50.0);
        assert_eq!(percent(2_000_000, 1.0), 100.0);
        assert_eq!(percent(1, 0.0), 0.0);
    }
}
