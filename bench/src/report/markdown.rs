//! The page: what was measured on what, what was missed and by how much, and a
//! table for each scenario.

use std::fmt::Write as _;

use super::{Line, Report, Section, number, short};
use crate::machine::Machine;
use crate::measure::Wrong;
use crate::scenario::Scenario;
use crate::stats::Spread;

impl Report {
    /// The page, with links to plots that lie in a folder beside it.
    pub(crate) fn markdown(
        &self,
        machine: &Machine,
        how: &str,
        plots: &[(String, String)],
    ) -> String {
        let mut page = String::from("# Results\n\n");
        let quiet = if machine.load_average > 0.5 {
            " Others were at work on it: trust ratios and figures by CPU time, not rates by wall time."
        } else {
            ""
        };
        // Writing into a text cannot fail.
        let _ = write!(
            page,
            "Written by `ringmain-bench {how}`; do not edit.\n\n\
             - {} at commit {}, {} build, {}\n- {}\n- {}{} cores, {:.0} GiB, Linux {}, load {:.2} \
             at the start.{quiet}\n\n\
             Shown are the median of the rounds, the least and the greatest. GB/s is the rate times \
             the size of a message; CPU is the CPU time of a message, where a rate is by CPU time. \
             What a figure stands for: [README.md](README.md).\n",
            format_args!("ringmain {}", machine.version),
            machine.commit,
            machine.build,
            machine.rustc,
            machine.date,
            if machine.virtual_machine {
                format!("{}, virtual, ", machine.cpu)
            } else {
                format!("{}, ", machine.cpu)
            },
            machine.cores,
            machine.memory_gib,
            machine.kernel,
            machine.load_average,
        );
        self.targets(&mut page);
        for (title, file) in plots {
            let _ = write!(page, "\n![{title}]({file})\n");
        }
        for section in &self.sections {
            section.markdown(&mut page);
        }
        page
    }

    /// All targets, the missed ones first.
    fn targets(&self, page: &mut String) {
        let lines = self.sections.iter().flat_map(|s| s.lines.iter().map(move |line| (s, line)));
        let mut judged: Vec<_> = lines.filter(|(_, line)| line.target.is_some()).collect();
        if judged.is_empty() {
            return;
        }
        judged.sort_by_key(|(_, line)| line.is_met());
        let missed = judged.iter().filter(|(_, line)| !line.is_met()).count();
        let _ = write!(
            page,
            "\n## Targets\n\n{missed} of {} are missed.\n\n\
             | scenario | figure | median | target | |\n| --- | --- | ---: | ---: | --- |\n",
            judged.len()
        );
        for (section, line) in judged {
            let Some(target) = line.target else { continue };
            let (sign, median) = (if target.at_least { "≥" } else { "≤" }, line.spread().median);
            let off = 100.0 * (median / target.bound - 1.0).abs();
            let word = match (line.is_met(), target.bound) {
                (true, _) => "met".to_owned(),
                (false, _) => format!("**missed** by {off:.0} %"),
            };
            let (name, bound) = (section.scenario.name, number(target.bound));
            let (figure, median) = (line.name.trim(), number(median));
            let unit = line.unit;
            let _ =
                writeln!(page, "| {name} | {figure} | {median} {unit} | {sign} {bound} | {word} |");
        }
    }
}

impl Section {
    fn markdown(&self, page: &mut String) {
        let Scenario { name, what, cores, bytes, .. } = self.scenario;
        let size = if *bytes == 0 { String::new() } else { format!(" Messages of {bytes} B.") };
        let _ = write!(page, "\n## {name}\n\n{what}. Cores: {cores}.{size}\n");
        match &self.wrong {
            Some(Wrong::Skipped(why)) => {
                let _ = write!(page, "\nSkipped: {why}.\n");
            }
            Some(Wrong::Failed(why)) => {
                let _ = write!(page, "\n**WRONG**: {why}\n");
            }
            None => {}
        }
        if self.lines.is_empty() {
            return;
        }
        page.push_str(
            "\n| figure | median | min to max | unit | GB/s | CPU ns | compared with | verified |\n\
             | --- | ---: | ---: | --- | ---: | ---: | --- | --- |\n",
        );
        for line in &self.lines {
            line.markdown(page);
        }
        for line in self.lines.iter().filter(|line| line.note.is_some()) {
            let note = line.note.as_deref().unwrap_or_default();
            let _ = write!(page, "\n{}: {note}.\n", line.name.trim());
        }
    }
}

impl Line {
    fn markdown(&self, page: &mut String) {
        let Spread { median, min, max } = self.spread();
        let [median, min, max] = [median, min, max].map(number);
        let [gb, ns] = [self.gb_per_s(), self.cpu_ns()].map(|v| v.map_or(String::new(), number));
        let proof = self
            .proof
            .map_or(String::new(), |(messages, hash)| format!("{messages}, `{:08x}`", short(hash)));
        let (name, unit, verdict) = (self.name.trim(), self.unit, self.verdict());
        let _ = writeln!(
            page,
            "| {name} | {median} | {min} to {max} | {unit} | {gb} | {ns} | {verdict} | {proof} |"
        );
    }
}
