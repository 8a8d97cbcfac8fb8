//! `retry` of sinks whose other side may fail.

use crate::diagnostics::Diagnostic;
use crate::plan::{BreakerPlan, RetryPlan};
use crate::schema;
use crate::section::{Context, Section};
use crate::value::Table;
use crate::words::format_us;

/// The key `retry` of a sink, with its defaults.
pub(super) fn retry(cx: &mut Context<'_>, section: &Section<'_>) -> Option<RetryPlan> {
    let empty = Table::default();
    let (table, span) = match section.table(cx, "retry") {
        Some(found) => found,
        None if section.has("retry") => return None,
        None => (&empty, section.span),
    };
    let what = format!("retry of {}", section.what);
    let retry = Section::open(cx, table, &schema::RETRY, &what, span, None);
    let (min, max) = (retry.time(cx, "min"), retry.time(cx, "max"));
    let limit = count(cx, &retry, "limit");
    let circuit_breaker = circuit_breaker(cx, &retry);
    let (min_us, max_us) = (min?, max?);
    if min_us > max_us {
        let (min, max) = (format_us(min_us), format_us(max_us));
        let message = format!("{what}: min {min} is above max {max}");
        let span = retry.span_of(if retry.has("min") { "min" } else { "max" });
        cx.push(Diagnostic::error(span, message).help("exchange them, or write both"));
        return None;
    }
    Some(RetryPlan { min_us, max_us, limit: limit?, circuit_breaker: circuit_breaker? })
}

/// An optional count: `None` when it was written wrong.
fn count(cx: &mut Context<'_>, section: &Section<'_>, name: &str) -> Option<Option<u32>> {
    if !section.has(name) {
        return Some(None);
    }
    let count = section.int(cx, name)?;
    u32::try_from(count).ok().map(Some)
}

fn circuit_breaker(cx: &mut Context<'_>, retry: &Section<'_>) -> Option<Option<BreakerPlan>> {
    if !retry.has("circuit_breaker") {
        return Some(None);
    }
    let (table, span) = retry.table(cx, "circuit_breaker")?;
    let what = format!("circuit_breaker of {}", retry.what);
    let section = Section::open(cx, table, &schema::CIRCUIT_BREAKER, &what, span, None);
    let (failures, pause) = (section.int(cx, "failures"), section.time(cx, "pause"));
    let failures = u32::try_from(failures?).ok()?;
    Some(Some(BreakerPlan { failures, pause_us: pause? }))
}
