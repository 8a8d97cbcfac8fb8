//! StatsD, and its dialect with tags, by way of the `metrics` facade.

use std::collections::HashMap;

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_statsd::{StatsdBuilder, StatsdRecorder};
use ringmain_config::MetricsPlan;

use super::packets::Packets;
use crate::figures::{Figure, Value, each};
use crate::view::{Sample, View};

pub(super) const META: Metadata<'static> = Metadata::new("ringmain", Level::INFO, None);

/// How a figure is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All in the path: every server understands it.
    Path,
    /// With tags, as Datadog's agent does.
    Tags,
}

/// One server.
pub(super) struct Statsd {
    recorder: StatsdRecorder,
    packets: Packets,
    form: Form,
    /// What was sent of each counter so far, by life and path. StatsD wants
    /// what has come since.
    sent: HashMap<(u64, String), u64>,
}

impl Statsd {
    pub(super) fn new(to: &str, form: Form, plan: &MetricsPlan) -> Self {
        let packets = Packets::new(to);
        let mut builder = StatsdBuilder::from("", 0).with_sink(packets.clone());
        if form == Form::Tags {
            for (key, value) in &plan.tags {
                builder = builder.with_default_tag(key, value);
            }
        }
        let recorder =
            builder.build(Some(&plan.prefix)).expect("with a sink there is no address to refuse");
        Self { recorder, packets, form, sent: HashMap::new() }
    }

    pub(super) fn send(&mut self, view: &View, sample: &Sample) {
        let mut sent = HashMap::with_capacity(self.sent.len());
        each(view, sample, &mut |figure| {
            let key = key(&figure, self.form);
            match figure.value {
                Value::Gauge(value) => self.recorder.register_gauge(&key, &META).set(value),
                Value::Counter(value) => {
                    let at = (figure.id(), figure.path());
                    let before = self.sent.get(&at).copied().unwrap_or(0);
                    sent.insert(at, value);
                    let since = value.saturating_sub(before);
                    if since > 0 {
                        self.recorder.register_counter(&key, &META).increment(since);
                    }
                }
            }
        });
        // Those of flows that are gone are forgotten.
        self.sent = sent;
        self.packets.flush();
    }
}

fn key(figure: &Figure<'_>, form: Form) -> Key {
    match form {
        Form::Path => Key::from_name(figure.path()),
        Form::Tags => {
            let tags = figure.tags().into_iter();
            let labels: Vec<_> =
                tags.map(|(key, value)| Label::new(key, value.to_owned())).collect();
            Key::from_parts(figure.tagged_name(), labels)
        }
    }
}
