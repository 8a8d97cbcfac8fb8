//! The report for people.

use std::fmt;

use super::{TestCase, TestReport};

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for suite in &self.suites {
            for case in &suite.cases {
                let word = if case.failures.is_empty() { "ok  " } else { "FAIL" };
                writeln!(f, "{word}  {}: {}", suite.flow, case.name)?;
                for line in lines(case) {
                    writeln!(f, "  {line}")?;
                }
            }
        }
        if self.failed() > 0 {
            writeln!(f)?;
        }
        writeln!(f, "{} passed, {} failed", self.passed(), self.failed())
    }
}

/// Why a test failed, line by line.
pub(super) fn lines(case: &TestCase) -> Vec<String> {
    let mut lines = Vec::new();
    for failure in &case.failures {
        lines.push(format!("{}: {}", failure.place, failure.message));
        lines.extend(failure.details.iter().map(|line| format!("  {line}")));
    }
    lines.extend(case.notes.iter().cloned());
    lines
}
