//! The report as JUnit XML, which CI systems read.

use std::fmt::Write;

use super::{TestCase, TestReport, report};

/// The report as an XML document.
#[must_use]
pub fn junit(report: &TestReport) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all: Vec<&TestCase> = report.suites.iter().flat_map(|suite| &suite.cases).collect();
    let _ = writeln!(out, "<testsuites {}>", totals(&all));
    for suite in &report.suites {
        let cases: Vec<&TestCase> = suite.cases.iter().collect();
        let (flow, file) = (escaped(&suite.flow), escaped(&suite.file));
        let totals = totals(&cases);
        let _ = writeln!(out, "  <testsuite name=\"{flow}\" file=\"{file}\" {totals}>");
        for test in cases {
            case(&mut out, &flow, &file, test);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn totals(cases: &[&TestCase]) -> String {
    let failures = cases.iter().filter(|case| !case.failures.is_empty()).count();
    let seconds: f64 = cases.iter().map(|case| case.took.as_secs_f64()).sum();
    format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{seconds:.6}\"", cases.len())
}

fn case(out: &mut String, flow: &str, file: &str, case: &TestCase) {
    let (name, seconds) = (escaped(&case.name), case.took.as_secs_f64());
    let _ = write!(
        out,
        "    <testcase classname=\"{flow}\" name=\"{name}\" file=\"{file}\" line=\"{}\" \
         time=\"{seconds:.6}\"",
        case.line
    );
    let Some(first) = case.failures.first() else {
        out.push_str("/>\n");
        return;
    };
    // In an attribute a line break would be read as a space.
    let message = escaped(&format!("{}: {}", first.place, first.message)).replace('\n', "&#10;");
    let text = escaped(&report::lines(case).join("\n"));
    let _ =
        writeln!(out, ">\n      <failure message=\"{message}\">{text}</failure>\n    </testcase>");
}

/// For text and attributes. What XML cannot express becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' | '\r' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
