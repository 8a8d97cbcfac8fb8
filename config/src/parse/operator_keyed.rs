//! Operators that remember something by key, and those that split lists.

use std::path::Path;

use crate::diagnostics::Diagnostic;
use crate::plan::{
    ChangePlan, ClockPlan, HysteresisPlan, KeyedPlan, OperatorKind, QualityPlan, SamplePlan,
    SplitPlan, TimeSeriesPlan, TimeUnit,
};
use crate::section::{Context, Section};
use crate::span::Spanned;

/// The operator of that type, if it is one of these.
pub(super) fn keyed(
    cx: &mut Context<'_>,
    kind: &str,
    section: &Section<'_>,
    base_dir: &Path,
) -> Option<OperatorKind> {
    match kind {
        "aggregate" => super::aggregate::aggregate(cx, section).map(OperatorKind::Aggregate),
        "throttle" => super::throttle::throttle(cx, section, base_dir).map(OperatorKind::Throttle),
        "split" => split(cx, section).map(OperatorKind::Split),
        "time_series" => time_series(cx, section).map(OperatorKind::TimeSeries),
        "change_detector" => change(cx, section).map(OperatorKind::ChangeDetector),
        "sample" => sample(cx, section).map(OperatorKind::Sample),
        _ => hysteresis(cx, section).map(OperatorKind::Hysteresis),
    }
}

/// Names of fields: none is empty, none there twice.
pub(super) fn fields(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    key: &str,
) -> Option<Vec<Spanned<String>>> {
    let names = section.texts(cx, key)?;
    let mut good = true;
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || names[..at].contains(name) {
            let problem = if name.is_empty() { "an empty name" } else { "a field twice" };
            let message = format!("'{key}' of {} has {problem}", section.what);
            cx.push(Diagnostic::error(name.span, message).help("remove it"));
            good = false;
        }
    }
    good.then_some(names)
}

pub(super) fn by_key(cx: &mut Context<'_>, section: &Section<'_>) -> Option<KeyedPlan> {
    let key = fields(cx, section, "key");
    let max_keys = section.int(cx, "max_keys").and_then(|n| u64::try_from(n).ok());
    let ttl_us = section.time(cx, "ttl");
    (ttl_us.is_some() || !section.has("ttl")).then_some(())?;
    Some(KeyedPlan { key: key?, max_keys: max_keys?, ttl_us })
}

const UNITS: &[(&str, TimeUnit)] =
    &[("s", TimeUnit::S), ("ms", TimeUnit::Ms), ("us", TimeUnit::Us)];

/// `time_unit`
pub(super) fn unit(cx: &mut Context<'_>, section: &Section<'_>) -> Option<TimeUnit> {
    section.one_of(cx, "time_unit", UNITS).map(|unit| unit.value)
}

pub(super) fn clock(cx: &mut Context<'_>, section: &Section<'_>) -> Option<ClockPlan> {
    let event = section.one_of(cx, "clock", &[("server", false), ("event", true)]);
    let field = section.filled(cx, "time_field");
    let unit = unit(cx, section);
    if !event.as_ref()?.value {
        for key in ["time_field"] {
            if let Some((key, _)) = section.table.entry(key) {
                let message = format!("'{key}' of {} has no effect", section.what);
                cx.push(
                    Diagnostic::warning(key.span, message)
                        .help("it is for clock = \"event\"; add that, or remove the key"),
                );
            }
        }
        return Some(ClockPlan::Server);
    }
    (field.is_some() || !section.has("time_field")).then_some(())?;
    Some(ClockPlan::Event { field, unit: unit? })
}

fn change(cx: &mut Context<'_>, section: &Section<'_>) -> Option<ChangePlan> {
    let by = by_key(cx, section);
    let fields = fields(cx, section, "fields");
    let first = section.one_of(cx, "first", &[("pass", true), ("drop", false)]);
    let deadband = section.number(cx, "deadband");
    (deadband.is_some() || !section.has("deadband")).then_some(())?;
    Some(ChangePlan { by: by?, fields: fields?, first_passes: first?.value, deadband })
}

fn sample(cx: &mut Context<'_>, section: &Section<'_>) -> Option<SamplePlan> {
    let by = by_key(cx, section);
    let every_us = section.time(cx, "every");
    let clock = clock(cx, section);
    Some(SamplePlan { by: by?, every_us: every_us?, clock: clock? })
}

fn hysteresis(cx: &mut Context<'_>, section: &Section<'_>) -> Option<HysteresisPlan> {
    let by = by_key(cx, section);
    let emit_when = section.filled(cx, "emit_when");
    let release_when = section.filled(cx, "release_when");
    (release_when.is_some() || !section.has("release_when")).then_some(())?;
    Some(HysteresisPlan { by: by?, emit_when: emit_when?, release_when })
}

/// A text that may be absent, but not empty.
fn name(cx: &mut Context<'_>, section: &Section<'_>, key: &str) -> Option<Option<Spanned<String>>> {
    let name = section.filled(cx, key);
    (name.is_some() || !section.has(key)).then_some(name)
}

fn split(cx: &mut Context<'_>, section: &Section<'_>) -> Option<SplitPlan> {
    let field = section.filled(cx, "field");
    let into = name(cx, section, "into");
    let index = name(cx, section, "index");
    let keep = fields(cx, section, "keep");
    let keep = keep.map(|keep| section.has("keep").then_some(keep));
    Some(SplitPlan { field: field?, into: into?, index: index?, keep: keep? })
}

fn time_series(cx: &mut Context<'_>, section: &Section<'_>) -> Option<TimeSeriesPlan> {
    let field = section.filled(cx, "field");
    let time_field = section.filled(cx, "time_field");
    let timestamp = name(cx, section, "timestamp");
    let unit = section.one_of(cx, "time_unit", UNITS);
    let suffix = section.filled(cx, "quality_suffix");
    let qualities =
        [("keep", QualityPlan::Keep), ("remove", QualityPlan::Remove), ("good", QualityPlan::Good)];
    let quality = section.one_of(cx, "quality", &qualities);
    Some(TimeSeriesPlan {
        field: field?,
        time_field: time_field?,
        timestamp: timestamp?,
        unit: unit?.value,
        suffix: suffix?.value,
        quality: quality?.value,
    })
}
