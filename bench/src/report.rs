//! Figures of all rounds, as a table or as JSON.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::measure::Wrong;
use crate::scenario::Scenario;
use crate::stats::Spread;

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
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), unit, value, target: None, prototype: None, proof: None }
    }

    /// A rate in million messages per second.
    pub(crate) fn rate(name: impl Into<String>, value: f64) -> Self {
        Self::new(name, value, "M msg/s")
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
}

struct Section {
    name: &'static str,
    what: &'static str,
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
    pub(crate) fn add(&mut self, scenario: &Scenario) -> usize {
        let Scenario { name, what, .. } = *scenario;
        self.sections.push(Section { name, what, lines: Vec::new(), wrong: None });
        self.sections.len() - 1
    }

    pub(crate) fn name(&self, section: usize) -> &'static str {
        self.sections[section].name
    }

    pub(crate) fn goes_on(&self, section: usize) -> bool {
        self.sections[section].wrong.is_none()
    }

    pub(crate) fn stop(&mut self, section: usize, wrong: Wrong) {
        self.sections[section].wrong = Some(wrong);
    }

    /// Takes the figures of one round.
    pub(crate) fn take(&mut self, section: usize, figures: Vec<Figure>) {
        let lines = &mut self.sections[section].lines;
        for figure in figures {
            let Figure { name, unit, value, target, prototype, proof } = figure;
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => {
                    line.values.push(value);
                    line.proof = proof;
                }
                None => {
                    let values = vec![value];
                    lines.push(Line { name, unit, values, target, prototype, proof });
                }
            }
        }
    }

    /// Whether no result was wrong.
    pub(crate) fn is_right(&self) -> bool {
        !self.sections.iter().any(|section| matches!(section.wrong, Some(Wrong::Failed(_))))
    }

    pub(crate) fn json(&self, machine: &Machine, repeat: usize) -> String {
        let scenarios: Vec<Value> = self.sections.iter().map(Section::json).collect();
        let all = json!({ "machine": machine, "repeat": repeat, "scenarios": scenarios });
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
        json!({ "name": self.name, "what": self.what, "status": status, "why": why,
                "figures": figures })
    }
}

impl Line {
    fn spread(&self) -> Spread {
        Spread::of(&self.values)
    }

    fn json(&self) -> Value {
        let Spread { median, min, max } = self.spread();
        let mut value = json!({ "median": median, "min": min, "max": max });
        let more = serde_json::to_value(self).expect("numbers and names serialise");
        let object = value.as_object_mut().expect("made as an object");
        object.extend(more.as_object().expect("a struct is an object").clone());
        if let Some(target) = self.target {
            object.insert("met".into(), target.is_met(median).into());
        }
        if let Some((messages, hash)) = self.proof {
            object.insert("messages".into(), messages.into());
            object.insert("hash".into(), format!("{hash:016x}").into());
        }
        value
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.sections {
            writeln!(f, "\n{}: {}", section.name, section.what)?;
            if !section.lines.is_empty() {
                writeln!(
                    f,
                    "  {:<44}{:>9}{:>9}{:>9}  {:<11} {:<22} verified",
                    "", "median", "min", "max", "", "target"
                )?;
            }
            for line in &section.lines {
                let Spread { median, min, max } = line.spread();
                let [median, min, max] = [median, min, max].map(number);
                let proof = line.proof.map_or(String::new(), |(messages, hash)| {
                    format!("{messages} {:08x}", hash >> 32)
                });
                let (name, unit, verdict) = (&line.name, line.unit, line.verdict());
                writeln!(
                    f,
                    "  {name:<44}{median:>9}{min:>9}{max:>9}  {unit:<11} {verdict:<22} {proof}"
                )?;
            }
            match &section.wrong {
                Some(Wrong::Skipped(why)) => writeln!(f, "  skipped: {why}")?,
                Some(Wrong::Failed(why)) => writeln!(f, "  WRONG: {why}")?,
                None => {}
            }
        }
        Ok(())
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
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
