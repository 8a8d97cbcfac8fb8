//! The timer.

use std::fmt::Debug;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use ringmain_base::units;

use super::generator::scalar;
use crate::diagnostics::{Diagnostic, did_you_mean};
use crate::plan::{Misfire, SourceKind, TimeFormat, TimeUnit, TimerSchedule, TimerSource};
use crate::schema::{DELAY_US_MAX, TIME_UNITS};
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::Value;
use crate::words::format_us;

/// Nanoseconds of each of [`TIME_UNITS`].
const UNIT_NS: [u64; 7] =
    [1, 1_000, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000, 86_400_000_000_000];

pub(super) fn timer(cx: &mut Context<'_>, section: &Section<'_>) -> Option<SourceKind> {
    let zone_name = section.filled(cx, "timezone");
    let zone = zone_name.as_ref().and_then(|name| zone(cx, section, name));
    let schedule = schedule(cx, section, zone.as_ref());
    let policies = [("skip", Misfire::Skip), ("once", Misfire::Once), ("all", Misfire::All)];
    let misfire = section.one_of(cx, "misfire", &policies);
    let misfire_max = section.int(cx, "misfire_max").and_then(|n| u32::try_from(n).ok());
    let count = section.int(cx, "count").and_then(|n| u64::try_from(n).ok());
    let fields = fields(cx, section);
    let timestamp = section.filled(cx, "timestamp");
    let format = format(cx, section);
    (count.is_some() || !section.has("count")).then_some(())?;
    zone?;
    Some(SourceKind::Timer(TimerSource {
        schedule: schedule?,
        timezone: zone_name?,
        misfire: misfire?.value,
        misfire_max: misfire_max?,
        count,
        fields: fields?,
        timestamp: timestamp?,
        format: format?,
    }))
}

pub(super) fn zone(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    name: &Spanned<String>,
) -> Option<TimeZone> {
    let found = TimeZone::get(name).ok();
    if found.is_none() {
        let message = format!("'timezone' of {}: there is no zone '{name}'", section.what);
        let near = did_you_mean(name, ["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"]);
        let help = near.unwrap_or_else(|| "write a name such as \"Europe/Berlin\"".into());
        cx.push(Diagnostic::error(name.span, message).help(help));
    }
    found
}

fn schedule(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    zone: Option<&TimeZone>,
) -> Option<TimerSchedule> {
    let given: Vec<_> = ["fixed_delay", "date", "cron"]
        .into_iter()
        .filter_map(|key| section.table.entry(key).map(|(key, _)| key))
        .collect();
    if let [first, second, ..] = given.as_slice() {
        let message = format!("{} has both '{first}' and '{second}'", section.what);
        cx.push(
            Diagnostic::error(second.span, message)
                .note(first.span, format!("'{first}' is here"))
                .help("keep one of them"),
        );
        return None;
    }
    let unit = section.one_of(cx, "time_unit", &units_of());
    let initial_us = delay(cx, section, "initial_delay", unit.as_ref().map(|u| u.value), 0);
    match given.first().map(|key| key.as_str()) {
        Some("date") => {
            let text = section.filled(cx, "date")?;
            let format = section.filled(cx, "date_format")?;
            date(cx, section, &text, &format, zone?).map(TimerSchedule::Date)
        }
        Some("cron") => {
            let text = section.filled(cx, "cron")?;
            cron(cx, section, &text).then_some(TimerSchedule::Cron(text))
        }
        _ => {
            let delay_us = delay(cx, section, "fixed_delay", unit.as_ref().map(|u| u.value), 1);
            Some(TimerSchedule::Every { initial_us: initial_us?, delay_us: delay_us? })
        }
    }
}

fn units_of() -> Vec<(&'static str, u64)> {
    TIME_UNITS.iter().copied().zip(UNIT_NS).collect()
}

/// A duration with a unit, or an integer in the timer's unit.
fn delay(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    key: &str,
    unit_ns: Option<u64>,
    min_us: u64,
) -> Option<u64> {
    let value = section.table.get(key);
    let Some(value) = value else { return Some(if min_us == 0 { 0 } else { 1_000_000 }) };
    let us = match &value.value {
        Value::Integer(n) => {
            let ns = u128::try_from(*n).ok().map(|n| n * u128::from(unit_ns.unwrap_or(1)));
            ns.and_then(|ns| u64::try_from(ns / 1000).ok()).ok_or_else(|| "is too large".to_owned())
        }
        Value::String(text) => {
            let text = cx.expand(&Spanned::new(text.clone(), value.span))?;
            units::parse_duration(&text)
                .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
                .map_err(|error| format!("'{text}' {error}"))
        }
        _ => {
            section.wrong(cx, key, value);
            return None;
        }
    };
    let us = us.and_then(|us| match us {
        us if us < min_us => Err("must be at least 1us".to_owned()),
        us if us > DELAY_US_MAX => Err(format!("must be at most {}", format_us(DELAY_US_MAX))),
        us => Ok(us),
    });
    us.map_err(|why| {
        let message = format!("'{key}' of {}: {why}", section.what);
        cx.push(Diagnostic::error(value.span, message).help("write a duration such as \"10s\""));
    })
    .ok()
}

fn date(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    text: &Spanned<String>,
    format: &Spanned<String>,
    zone: &TimeZone,
) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_microsecond());
    }
    let civil = civil::DateTime::strptime(format.as_str(), text.as_str());
    let time = civil.and_then(|civil| zone.to_timestamp(civil));
    time.map(|time| time.as_microsecond())
        .map_err(|error| {
            let message = format!("'date' of {}: '{text}' is no date: {error}", section.what);
            cx.push(
                Diagnostic::error(text.span, message)
                    .help(format!("write \"2026-12-24T18:00:00Z\", or a date as '{format}' says")),
            );
        })
        .ok()
}

pub(super) fn cron(cx: &mut Context<'_>, section: &Section<'_>, text: &Spanned<String>) -> bool {
    let parsed =
        CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build().parse(text);
    let Err(error) = parsed else { return true };
    let message = format!("'cron' of {}: '{text}': {}", section.what, words(&error));
    cx.push(Diagnostic::error(text.span, message).help(
        "six fields: second minute hour day-of-month month day-of-week, as \"0 */10 * * * *\"",
    ));
    false
}

fn words(error: &(impl std::fmt::Display + Debug)) -> String {
    error.to_string().trim_end_matches('.').to_owned()
}

fn fields(
    cx: &mut Context<'_>,
    section: &Section<'_>,
) -> Option<Vec<(Spanned<String>, crate::plan::Scalar)>> {
    let Some((table, _)) = section.table(cx, "fields") else {
        return (!section.has("fields")).then(Vec::new);
    };
    let mut fields = Vec::with_capacity(table.entries.len());
    for (name, value) in &table.entries {
        let what = format!("field '{name}' of {}", section.what);
        fields.extend(scalar(cx, &what, value).map(|value| (name.clone(), value)));
    }
    (fields.len() == table.entries.len()).then_some(fields)
}

fn format(cx: &mut Context<'_>, section: &Section<'_>) -> Option<TimeFormat> {
    let text = section.filled(cx, "timestamp_format")?;
    let message = match text.as_str() {
        "rfc3339" => return Some(TimeFormat::Rfc3339),
        "s" => return Some(TimeFormat::Number(TimeUnit::S)),
        "ms" => return Some(TimeFormat::Number(TimeUnit::Ms)),
        "us" => return Some(TimeFormat::Number(TimeUnit::Us)),
        pattern if !pattern.contains('%') => format!("'{text}' is no format"),
        pattern => {
            let epoch = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
            match jiff::fmt::strtime::format(pattern, &epoch) {
                Ok(_) => return Some(TimeFormat::Pattern(text.value)),
                Err(error) => format!("'{text}': {error}"),
            }
        }
    };
    cx.push(
        Diagnostic::error(text.span, format!("'timestamp_format' of {}: {message}", section.what))
            .help("use rfc3339, s, ms, us, or a pattern such as '%Y-%m-%d %H:%M:%S'"),
    );
    None
}
