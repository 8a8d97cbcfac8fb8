//! Two reports beside each other: what moved by more than it moves by itself.
//!
//! Figures agree when their spreads, from the least round to the greatest,
//! touch. On one machine two runs of one build should; a figure that does not
//! is a change, or a machine that changed meanwhile, which the header of either
//! run helps to tell apart.
//!
//! Deliberately absent: an exit code that depends on a time.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::report::number;
use crate::stats::Spread;

#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// What `--json` printed, or results.json of `--out`
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// A later one
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Also show figures that agree
    #[arg(long)]
    all: bool,
}

#[derive(Deserialize)]
struct Report {
    machine: Machine,
    scenarios: Vec<Scenario>,
}

#[derive(Deserialize)]
struct Machine {
    cpu: String,
    cores: usize,
    load_average: f64,
    commit: String,
}

#[derive(Deserialize)]
struct Scenario {
    name: String,
    figures: Vec<Figure>,
}

#[derive(Deserialize)]
struct Figure {
    name: String,
    unit: String,
    rounds: Vec<f64>,
}

/// One figure in both.
struct Pair {
    name: String,
    unit: String,
    old: Spread,
    new: Spread,
}

impl Pair {
    fn agrees(&self) -> bool {
        self.old.min <= self.new.max && self.new.min <= self.old.max
    }
}

pub(crate) struct Diff {
    machines: [Machine; 2],
    pairs: Vec<Pair>,
    /// Figures that one of the two does not have.
    alone: usize,
    all: bool,
}

/// Reads both.
///
/// # Errors
/// Which file is no report, and why.
pub(crate) fn diff(args: &DiffArgs) -> Result<Diff, String> {
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    Ok(Diff::of(old, new, args.all))
}

fn read(path: &Path) -> Result<Report, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| {
        format!("{}: {error}; give what `ringmain-bench all --json` printed", path.display())
    })
}

impl Diff {
    fn of(old: Report, new: Report, all: bool) -> Self {
        let mut olds = figures(old.scenarios);
        let (mut pairs, mut alone) = (Vec::new(), 0);
        for (name, figure) in figures(new.scenarios) {
            let Some(at) = olds.iter().position(|(other, _)| *other == name) else {
                alone += 1;
                continue;
            };
            let (old, new) = (Spread::of(&olds.remove(at).1.rounds), Spread::of(&figure.rounds));
            pairs.push(Pair { name, unit: figure.unit, old, new });
        }
        Self { machines: [old.machine, new.machine], pairs, alone: alone + olds.len(), all }
    }
}

/// Those that were measured, by the name of their scenario and their own.
fn figures(scenarios: Vec<Scenario>) -> Vec<(String, Figure)> {
    let named = |scenario: Scenario| {
        let name = scenario.name;
        let own = move |figure: Figure| (format!("{name}: {}", figure.name.trim()), figure);
        scenario.figures.into_iter().filter(|figure| !figure.rounds.is_empty()).map(own)
    };
    scenarios.into_iter().flat_map(named).collect()
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (which, machine) in ["old", "new"].into_iter().zip(&self.machines) {
            let Machine { cpu, cores, load_average: load, commit } = machine;
            writeln!(f, "{which}: {commit} on {cores} cores of {cpu}, load {load:.2}")?;
        }
        let shown: Vec<_> = self.pairs.iter().filter(|pair| self.all || !pair.agrees()).collect();
        if !shown.is_empty() {
            writeln!(f, "\n  {:<52}{:>9}{:>9}{:>8}  spread: old, new", "", "old", "new", "ratio")?;
        }
        for pair in shown {
            let Pair { name, unit, old, new } = pair;
            let ratio = if old.median == 0.0 { 1.0 } else { new.median / old.median };
            let [a, b] = [old, new].map(|spread| number(spread.median));
            let [min, max, new_min, new_max] = [old.min, old.max, new.min, new.max].map(number);
            writeln!(
                f,
                "  {name:<52}{a:>9}{b:>9}{ratio:>8.2}  {min} to {max}, {new_min} to {new_max} {unit}"
            )?;
        }
        let agree = self.pairs.iter().filter(|pair| pair.agrees()).count();
        write!(f, "\n{agree} of {} figures agree within their spread", self.pairs.len())?;
        if self.alone > 0 {
            write!(f, "; {} are in one report only", self.alone)?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(figures: &[(&str, &[f64])]) -> Report {
        let figures: Vec<_> = figures
            .iter()
            .map(|(name, rounds)| serde_json::json!({"name": name, "unit": "M msg/s", "rounds": rounds}))
            .collect();
        let machine =
            serde_json::json!({"cpu": "x", "cores": 2, "load_average": 0.1, "commit": "c"});
        let scenarios = serde_json::json!([{"name": "ring", "figures": figures}]);
        serde_json::from_value(serde_json::json!({"machine": machine, "scenarios": scenarios}))
            .unwrap()
    }

    #[test]
    fn figures_agree_when_their_spreads_touch() {
        let old = report(&[("a", &[1.0, 2.0, 3.0]), ("b", &[1.0, 1.1]), ("gone", &[1.0])]);
        let new = report(&[("b", &[1.2, 1.3]), ("  a", &[3.0, 9.0]), ("skipped", &[])]);
        let text = Diff::of(old, new, false).to_string();
        assert!(text.contains("1 of 2 figures agree within their spread; 1 are in one"), "{text}");
        assert!(text.contains("ring: b") && !text.contains("ring: a"), "{text}");
        assert!(text.contains("1.19  1.00 to 1.10, 1.20 to 1.30 M msg/s"), "{text}");
    }
}
