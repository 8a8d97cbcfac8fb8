//! The table for a terminal.

use std::fmt;

use super::{Report, harness_rss_mib, number, short};
use crate::measure::Wrong;
use crate::scenario::Scenario;
use crate::stats::Spread;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.sections {
            let Scenario { name, what, cores, bytes, .. } = section.scenario;
            writeln!(f, "\n{name}: {what}")?;
            let size = if *bytes == 0 { String::new() } else { format!("; {bytes} B a message") };
            writeln!(f, "  ({cores}{size})")?;
            if !section.lines.is_empty() {
                writeln!(
                    f,
                    "  {:<44}{:>9}{:>9}{:>9}  {:<11}{:>7}{:>9}  {:<22} verified",
                    "", "median", "min", "max", "", "GB/s", "CPU ns", "target"
                )?;
            }
            for line in &section.lines {
                let Spread { median, min, max } = line.spread();
                let [median, min, max] = [median, min, max].map(number);
                let proof = line.proof.map_or(String::new(), |(messages, hash)| {
                    format!("{messages} {:08x}", short(hash))
                });
                let [gb, ns] = [line.gb_per_s(), line.cpu_ns()]
                    .map(|value| value.map_or(String::new(), number));
                let (name, unit, verdict) = (&line.name, line.unit, line.verdict());
                writeln!(
                    f,
                    "  {name:<44}{median:>9}{min:>9}{max:>9}  {unit:<11}{gb:>7}{ns:>9}  \
                     {verdict:<22} {proof}"
                )?;
                if let Some(note) = &line.note {
                    writeln!(f, "      {note}")?;
                }
            }
            match &section.wrong {
                Some(Wrong::Skipped(why)) => writeln!(f, "  skipped: {why}")?,
                Some(Wrong::Failed(why)) => writeln!(f, "  WRONG: {why}")?,
                None => {}
            }
        }
        writeln!(f, "\nmemory of this harness, at most: {:.0} MiB", harness_rss_mib())
    }
}
