//! Windows and their functions.

use super::operator_keyed::{clock, fields, unit};
use crate::diagnostics::{Diagnostic, did_you_mean};
use crate::plan::{AggregatePlan, ComputePlan, FunctionPlan, KeyedPlan, LatePlan};
use crate::section::{Context, Section};
use crate::value::Value;
use crate::words::{format_us, wrong_type};

/// Panes of a window, at most.
const PANES_MAX: u64 = 10_000;

const NAMES: [&str; 10] =
    ["count", "sum", "min", "max", "mean", "stddev", "percentile", "first", "last", "distinct"];

pub(super) fn aggregate(cx: &mut Context<'_>, section: &Section<'_>) -> Option<AggregatePlan> {
    let key = fields(cx, section, "key");
    let max_keys = section.int(cx, "max_keys").and_then(|n| u64::try_from(n).ok());
    let spans = spans(cx, section);
    let clock = clock(cx, section);
    let unit = unit(cx, section);
    let lateness_us = section.time(cx, "allowed_lateness");
    let lates =
        [("drop", LatePlan::Drop), ("dead_letter", LatePlan::DeadLetter), ("port", LatePlan::Port)];
    let late = section.one_of(cx, "late", &lates);
    let compute = compute(cx, section);
    let (window_us, slide_us) = spans?;
    Some(AggregatePlan {
        by: KeyedPlan { key: key?, max_keys: max_keys?, ttl_us: None },
        window_us,
        slide_us,
        clock: clock?,
        unit: unit?,
        lateness_us: lateness_us?,
        late: late?.value,
        compute: compute?,
    })
}

/// Window and slide.
fn spans(cx: &mut Context<'_>, section: &Section<'_>) -> Option<(u64, u64)> {
    let window_us = section.time(cx, "window");
    let slide_us = section.time(cx, "slide");
    (slide_us.is_some() || !section.has("slide")).then_some(())?;
    let window_us = window_us?;
    let slide_us = slide_us.unwrap_or(window_us);
    let problem = if slide_us > window_us {
        Some("is longer than the window, so that messages would fall between two".to_owned())
    } else if window_us % slide_us != 0 {
        Some(format!("does not divide the window of {}", format_us(window_us)))
    } else if window_us / slide_us > PANES_MAX {
        Some(format!("divides the window into more than {PANES_MAX} parts"))
    } else {
        None
    };
    let Some(problem) = problem else { return Some((window_us, slide_us)) };
    let message = format!("'slide' of {} {problem}", section.what);
    cx.push(
        Diagnostic::error(section.span_of("slide"), message)
            .help("choose a slide that divides the window, as \"10s\" does \"1m\""),
    );
    None
}

fn compute(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Vec<FunctionPlan>> {
    let (table, _) = section.table(cx, "compute")?;
    let mut functions = Vec::with_capacity(table.entries.len());
    for (into, value) in &table.entries {
        let what = format!("'{into}' in 'compute' of {}", section.what);
        let Value::String(text) = &value.value else {
            cx.push(wrong_type(&what, "a function such as \"mean(rpm)\" in a string", value));
            continue;
        };
        match function(text) {
            Ok((compute, of)) => functions.push(FunctionPlan { into: into.clone(), compute, of }),
            Err((why, help)) => {
                cx.push(Diagnostic::error(value.span, format!("{what}: {why}")).help(help));
            }
        }
    }
    if table.entries.is_empty() {
        cx.push(
            Diagnostic::error(
                section.span_of("compute"),
                format!("'compute' of {} is empty", section.what),
            )
            .help("name at least one result: n = \"count()\""),
        );
        return None;
    }
    (functions.len() == table.entries.len()).then_some(functions)
}

type Problem = (String, String);

/// `name(field)`, `count()`, `percentile(field, 99)`.
fn function(text: &str) -> Result<(ComputePlan, Option<String>), Problem> {
    let example = || "write a function such as \"count()\", \"mean(rpm)\"".to_owned();
    let text = text.trim();
    let call = text.strip_suffix(')').and_then(|text| text.split_once('('));
    let Some((name, arguments)) = call else {
        return Err((format!("'{text}' is no function"), example()));
    };
    let name = name.trim();
    let mut arguments = arguments.split(',').map(str::trim);
    let field = arguments.next().filter(|field| !field.is_empty()).map(str::to_owned);
    let second = arguments.next();
    let compute = match name {
        "count" => ComputePlan::Count,
        "sum" => ComputePlan::Sum,
        "min" => ComputePlan::Min,
        "max" => ComputePlan::Max,
        "mean" => ComputePlan::Mean,
        "stddev" => ComputePlan::Stddev,
        "first" => ComputePlan::First,
        "last" => ComputePlan::Last,
        "distinct" => ComputePlan::Distinct,
        "percentile" => {
            let percent = second.and_then(|text| text.parse::<f64>().ok());
            let Some(percent) = percent.filter(|percent| (0.0..=100.0).contains(percent)) else {
                let why = format!("'{text}' needs a number from 0 to 100");
                return Err((why, "write \"percentile(rpm, 99)\"".to_owned()));
            };
            ComputePlan::Percentile(percent / 100.0)
        }
        other => {
            let near = did_you_mean(other, NAMES);
            let help = near.unwrap_or_else(|| format!("functions: {}", NAMES.join(", ")));
            return Err((format!("there is no function '{other}'"), help));
        }
    };
    let most = if name == "percentile" { 2 } else { 1 };
    if text.matches(',').count() >= most {
        return Err((format!("'{text}' has too many arguments"), example()));
    }
    if field.is_none() && name != "count" {
        return Err((format!("'{text}' needs a field"), format!("write \"{name}(field)\"")));
    }
    Ok((compute, field))
}
