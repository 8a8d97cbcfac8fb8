//! The text that Prometheus scrapes.
//!
//! A recorder is filled anew for each scrape: what is gone since is not shown,
//! and nothing grows.

use metrics::{Key, Label, Recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use ringmain_config::MetricsPlan;

use super::statsd::META;
use crate::figures::{Value, each};
use crate::view::{Sample, View};

pub(crate) fn render(plan: &MetricsPlan, view: &View, sample: &Sample) -> String {
    let mut builder = PrometheusBuilder::new();
    for (key, value) in &plan.tags {
        builder = builder.add_global_label(key, value);
    }
    let recorder = builder.build_recorder();
    each(view, sample, &mut |figure| {
        let name = format!("{}_{}", plan.prefix, figure.tagged_name());
        let help = metrics::SharedString::const_str(figure.help);
        let labels: Vec<_> =
            figure.tags().into_iter().map(|(k, v)| Label::new(k, v.to_owned())).collect();
        let key = Key::from_parts(name.clone(), labels);
        match figure.value {
            Value::Counter(value) => {
                recorder.describe_counter(name.into(), None, help);
                recorder.register_counter(&key, &META).absolute(value);
            }
            Value::Gauge(value) => {
                recorder.describe_gauge(name.into(), None, help);
                recorder.register_gauge(&key, &META).set(value);
            }
        }
    });
    recorder.handle().render()
}
