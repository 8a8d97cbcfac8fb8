//! `ringmain test`: runs the `[[tests]]` of flows.
//!
//! Each file is loaded by itself, so that flows which could not run side by
//! side (one address, one name) can be tested together. A test runs on a
//! [`TestBench`](ringmain_shard::TestBench) of its own: no I/O, no threads, a
//! virtual clock. A message that is refused fails a test which does not look at
//! the dead letters, and so does a timer that fails: what a script did wrong
//! must not look like what it did on purpose.

mod compare;
mod expected;
mod junit;
mod log;
mod report;
mod run;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringmain_config::{Diagnostic, Diagnostics, FlowPlan, Plan, Span, load_with};

pub(crate) use expected::check;
pub use junit::junit;

/// What the tests came to.
#[derive(Debug, Default)]
pub struct TestReport {
    /// By file.
    pub suites: Vec<TestSuite>,
    /// Warnings of the files, rendered.
    pub warnings: String,
}

/// The tests of a flow.
#[derive(Debug)]
pub struct TestSuite {
    /// The flow.
    pub flow: String,
    /// Its file, as it was named.
    pub file: String,
    /// In the order of the file.
    pub cases: Vec<TestCase>,
}

/// A test that was run.
#[derive(Debug)]
pub struct TestCase {
    /// Its name.
    pub name: String,
    /// Its line in the file.
    pub line: usize,
    /// How long it took.
    pub took: Duration,
    /// Why it failed; nothing when it passed.
    pub failures: Vec<Failure>,
    /// What happened besides, when it failed: refused messages, counts, log.
    pub notes: Vec<String>,
}

/// Why a test failed.
#[derive(Debug)]
pub struct Failure {
    /// `file:line` of the expectation.
    pub place: String,
    /// In one line.
    pub message: String,
    /// Line by line.
    pub details: Vec<String>,
}

impl TestReport {
    /// Tests that passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.cases().filter(|case| case.failures.is_empty()).count()
    }

    /// Tests that failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.cases().filter(|case| !case.failures.is_empty()).count()
    }

    fn cases(&self) -> impl Iterator<Item = &TestCase> {
        self.suites.iter().flat_map(|suite| &suite.cases)
    }
}

/// Loads every flow and runs its tests, or those whose flow and name contain
/// `filter`.
///
/// # Errors
/// Every error of every file; no test is run then.
pub fn test(paths: &[PathBuf], filter: Option<&str>) -> Result<TestReport, Vec<Diagnostics>> {
    let (mut plans, mut refused) = (Vec::new(), Vec::new());
    for file in paths.iter().flat_map(|path| files(path)) {
        match load_with(&[file], None, crate::check::operators) {
            Ok(plan) => plans.push(plan),
            Err(diagnostics) => refused.push(diagnostics),
        }
    }
    if paths.is_empty() {
        let mut nothing = Diagnostics::default();
        nothing.push(
            Diagnostic::general("there is no flow to test")
                .help("name flow files, or folders of them: ringmain test flows/"),
        );
        refused.push(nothing);
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let mut report = TestReport::default();
    for plan in &plans {
        report.warnings.push_str(&plan.warnings.to_string());
        let suites = plan.flows.iter().map(|flow| suite(plan, flow, filter));
        report.suites.extend(suites.filter(|suite| !suite.cases.is_empty()));
    }
    if report.cases().next().is_none() {
        let why = if filter.is_some() { "the filter leaves none" } else { "there are none" };
        report.warnings.push_str(&format!("warning: no test was run: {why}\n"));
    }
    Ok(report)
}

/// The flows of a folder, or the file itself, there or not.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "toml") && file.is_file());
    files.sort();
    // Nothing in it: the loader says so.
    if files.is_empty() { vec![path.to_owned()] } else { files }
}

fn suite(plan: &Plan, flow: &FlowPlan, filter: Option<&str>) -> TestSuite {
    let name = flow.name.value.clone();
    let chosen = |test: &str| filter.is_none_or(|text| name.contains(text) || test.contains(text));
    let mut cases = Vec::new();
    for test in flow.tests.iter().filter(|test| chosen(&test.name)) {
        let begin = Instant::now();
        let (failures, notes) = run::run(plan, flow, test);
        cases.push(TestCase {
            name: test.name.value.clone(),
            line: plan.sources.position(test.name.span).line,
            took: begin.elapsed(),
            failures,
            notes,
        });
    }
    let file = plan.sources.get(flow.file).map(|file| file.name.clone()).unwrap_or_default();
    TestSuite { flow: name, file, cases }
}

/// `file:line`.
fn place(plan: &Plan, span: Span) -> String {
    let file = plan.sources.get(span.file).map_or("?", |file| file.name.as_str());
    format!("{file}:{}", plan.sources.position(span).line)
}
