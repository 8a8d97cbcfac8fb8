//! Figures of all rounds: as a table, as JSON, as a page with plots.
//!
//! Owns: what a figure is, and the lines of several rounds. `text` prints
//! them, `markdown` writes them as a page, `plot` draws them.

mod markdown;
mod plot;
mod text;

use serde::Serialize;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::measure::Wrong;
use crate::scenario::{Clock, Scenario};
use crate::stats::Spread;

const RATE_UNIT: &str = "M msg/s";

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Target {
    pub(crate) bound: f64,
    /// Whether the bound is the least that is good, or the most.
    pub(crate) at_least: bool,
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        if self.at_least { value >= self.bound } else { value <= self.bound }
    }
}

/// What a curve shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CurveKind {
    /// (part of all messages, microseconds)
    Latency,
    /// (seconds, MiB)
    Memory,
}

/// A figure's course.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Curve {
    pub(crate) kind: CurveKind,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One number of one round.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
    target: Option<Target>,
    /// What a prototype reached, once and elsewhere: to compare, not to judge.
    prototype: Option<f64>,
    /// Messages that were measured, and the hash of what came out.
    proof: Option<(u64, u64)>,
    curve: Option<Curve>,
    /// Whether the rate is of wall time in a scenario by CPU time, or the
    /// other way round.
    is_other_clock: bool,
    /// Bytes of a message, where they are not the scenario's.
    bytes: Option<usize>,
    note: Option<String>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            unit,
            value,
            target: None,
            prototype: None,
            proof: None,
            curve: None,
            is_other_clock: false,
            bytes: None,
            note: None,
        }
    }

    /// A rate in million messages per second.
    pub(crate) fn rate(name: impl Into<String>, value: f64) -> Self {
        Self::new(name, value, RATE_UNIT)
    }

    pub(crate) fn at_least(mut self, bound: f64) -> Self {
        self.target = Some(Target { bound, at_least: true });
        self
    }

    pub(crate) fn at_most(mut self, bound: f64) -> Self {
        self.target = Some(Target { bound, at_least: false });
        self
    }

    pub(crate) fn prototype(mut self, value: f64) -> Self {
        self.prototype = Some(value);
        self
    }

    pub(crate) fn proof(mut self, messages: u64, hash: u64) -> Self {
        self.proof = Some((messages, hash));
        self
    }

    pub(crate) fn curve(mut self, kind: CurveKind, points: Vec<(f64, f64)>) -> Self {
        self.curve = Some(Curve { kind, points });
        self
    }

    /// The rate is divided by the clock that the scenario does not go by.
    pub(crate) fn other_clock(mut self) -> Self {
        self.is_other_clock = true;
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    unit: &'static str,
    #[serde(rename = "rounds")]
    values: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prototype: Option<f64>,
    #[serde(skip)]
    proof: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    curve: Option<Curve>,
    /// Of the rate, from the size of a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_bytes: Option<usize>,
    #[serde(skip)]
    is_cpu_rate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

struct Section {
    scenario: &'static Scenario,
    lines: Vec<Line>,
    wrong: Option<Wrong>,
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    sections: Vec<Section>,
}

impl Report {
    /// Begins a scenario; its number.
    pub(crate) fn add(&mut self, scenario: &'static Scenario) -> usize {
        self.sections.push(Section { scenario, lines: Vec::new(), wrong: None });
        self.sections.len() - 1
    }

    pub(crate) fn name(&self, section: usize) -> &'static str {
        self.sections[section].scenario.name
    }

    pub(crate) fn goes_on(&self, section: usize) -> bool {
        self.sections[section].wrong.is_none()
    }

    pub(crate) fn stop(&mut self, section: usize, wrong: Wrong) {
        self.sections[section].wrong = Some(wrong);
    }

    /// Takes the figures of one round.
    pub(crate) fn take(&mut self, section: usize, figures: Vec<Figure>) {
        let Section { scenario, lines, .. } = &mut self.sections[section];
        for figure in figures {
            match lines.iter_mut().find(|line| line.name == figure.name) {
                Some(line) => {
                    line.values.push(figure.value);
                    line.proof = figure.proof;
                    line.note = figure.note;
                    line.curve = figure.curve.or(line.curve.take());
                }
                None => lines.push(Line::new(scenario, figure)),
            }
        }
    }

    /// Whether no result was wrong.
    pub(crate) fn is_right(&self) -> bool {
        !self.sections.iter().any(|section| matches!(section.wrong, Some(Wrong::Failed(_))))
    }

    pub(crate) fn json(&self, machine: &Machine, repeat: usize) -> String {
        let scenarios: Vec<Value> = self.sections.iter().map(Section::json).collect();
        let all = json!({
            "machine": machine,
            "repeat": repeat,
            "harness_rss_mib": harness_rss_mib(),
            "scenarios": scenarios,
        });
        serde_json::to_string_pretty(&all).expect("numbers and names serialise")
    }
}

impl Section {
    fn json(&self) -> Value {
        let (status, why) = match &self.wrong {
            None => ("ok", None),
            Some(Wrong::Skipped(why)) => ("skipped", Some(why)),
            Some(Wrong::Failed(why)) => ("failed", Some(why)),
        };
        let figures: Vec<Value> = self.lines.iter().map(Line::json).collect();
        let Scenario { name, what, cores, bytes, clock, .. } = self.scenario;
        json!({ "name": name, "what": what, "cores": cores, "message_bytes": bytes,
                "clock": clock, "status": status, "why": why, "figures": figures })
    }
}

impl Line {
    fn new(scenario: &Scenario, figure: Figure) -> Self {
        let Figure { name, unit, value, target, prototype, proof, curve, note, .. } = figure;
        let is_rate = unit == RATE_UNIT;
        let is_cpu = (scenario.clock == Clock::Cpu) != figure.is_other_clock;
        let bytes = figure.bytes.or(Some(scenario.bytes).filter(|bytes| *bytes > 0));
        Self {
            name,
            unit,
            values: vec![value],
            target,
            prototype,
            proof,
            curve,
            message_bytes: bytes.filter(|_| is_rate),
            is_cpu_rate: is_rate && is_cpu,
            note,
        }
    }

    /// GB/s of the median, for rates of messages whose size is known.
    fn gb_per_s(&self) -> Option<f64> {
        self.message_bytes.map(|bytes| self.spread().median * bytes as f64 / 1e3)
    }

    /// CPU time of a message, where the rate is by CPU time.
    fn cpu_ns(&self) -> Option<f64> {
        self.is_cpu_rate.then(|| 1e3 / self.spread().median)
    }

    fn spread(&self) -> Spread {
        Spread::of(&self.values)
    }

    fn json(&self) -> Value {
        let Spread { median, min, max } = self.spread();
        let mut value = json!({ "median": median, "min": min, "max": max });
        let more = serde_json::to_value(self).expect("numbers and names serialise");
        let object = value.as_object_mut().expect("made as an object");
        object.extend(more.as_object().expect("a struct is an object").clone());
        for (name, value) in [("gb_per_s", self.gb_per_s()), ("cpu_ns_per_message", self.cpu_ns())]
        {
            if let Some(value) = value {
                object.insert(name.into(), value.into());
            }
        }
        if let Some(target) = self.target {
            object.insert("met".into(), target.is_met(median).into());
        }
        if let Some((messages, hash)) = self.proof {
            object.insert("messages".into(), messages.into());
            object.insert("hash".into(), format!("{hash:016x}").into());
        }
        value
    }

    fn is_met(&self) -> bool {
        self.target.is_none_or(|target| target.is_met(self.spread().median))
    }

    fn verdict(&self) -> String {
        let median = self.spread().median;
        let Some(target) = self.target else {
            let beside = |p| format!("prototype {} x{:.2}", number(p), median / p);
            return self.prototype.map_or(String::new(), beside);
        };
        let sign = if target.at_least { ">=" } else { "<=" };
        let ratio = median / target.bound;
        let word = if target.is_met(median) { "ok" } else { "MISSED" };
        format!("{sign} {} x{ratio:.2} {word}", number(target.bound))
    }
}

/// The most memory that this process has had: it holds the inputs.
fn harness_rss_mib() -> f64 {
    crate::daemon::status_kib(std::process::id(), "VmHWM:").unwrap_or(0) as f64 / 1024.0
}

/// Of a hash, as much as a table has room for.
fn short(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

/// Three digits that matter.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_from_its_own_side() {
        let least = Target { bound: 2.0, at_least: true };
        let most = Target { bound: 2.0, at_least: false };
        for (value, is_least, is_most) in
            [(1.9, false, true), (2.0, true, true), (2.1, true, false)]
        {
            assert_eq!((least.is_met(value), most.is_met(value)), (is_least, is_most));
        }
    }

    #[test]
    fn a_figure_of_several_rounds_is_one_line() {
        let mut report = Report::default();
        let section = report.add(&crate::scenario::ALL[0]);
        for value in [1.0, 3.0, 2.0] {
            report.take(section, vec![Figure::rate("a", value).at_least(2.5).proof(7, 1 << 32)]);
        }
        let text = report.to_string();
        assert!(text.contains(">= 2.50 x0.80 MISSED"), "{text}");
        assert!(text.contains("7 00000001"), "{text}");
        assert!(report.is_right());
        report.stop(section, Wrong::skip("x"));
        assert!(report.is_right());
        report.stop(section, Wrong::fail("x"));
        assert!(!report.is_right());
    }
}
