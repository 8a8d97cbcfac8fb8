//! Figures to other systems: pushed at intervals (StatsD, DogStatsD,
//! Graphite), or rendered when somebody asks (Prometheus).
//!
//! All are fed from the same [`figures`] through the `metrics` facade, except
//! Graphite, for which the facade has no exporter and a line per figure is the
//! whole protocol.

mod graphite;
mod packets;
mod prometheus;
mod statsd;

use ringmain_config::MetricsPlan;

pub(crate) use prometheus::render as prometheus;

use self::graphite::Graphite;
use self::statsd::{Form, Statsd};
use crate::view::{Sample, View};

/// Everything that figures are pushed to.
pub(crate) struct Exporters {
    statsd: Vec<Statsd>,
    graphite: Option<Graphite>,
}

impl Exporters {
    pub(crate) fn new(plan: &MetricsPlan) -> Self {
        let statsd = plan.statsd.as_ref().map(|to| Statsd::new(to, Form::Path, plan));
        let datadog = plan.datadog.as_ref().map(|to| Statsd::new(to, Form::Tags, plan));
        let graphite = plan.graphite.as_ref().map(|to| Graphite::new(to, &plan.prefix));
        Self { statsd: statsd.into_iter().chain(datadog).collect(), graphite }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.statsd.is_empty() && self.graphite.is_none()
    }

    /// Sends a reading to all of them.
    pub(crate) async fn send(&mut self, view: &View, sample: &Sample) {
        for statsd in &mut self.statsd {
            statsd.send(view, sample);
        }
        if let Some(graphite) = &mut self.graphite {
            graphite.send(view, sample).await;
        }
    }
}
