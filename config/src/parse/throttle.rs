//! The throttle and its table of limits.

use std::path::Path;

use ringmain_base::units;

use super::operator_keyed::by_key;
use crate::diagnostics::Diagnostic;
use crate::plan::{LimitPlan, OverPlan, ThrottlePlan};
use crate::schema::LIMIT;
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::Value;
use crate::words::wrong_type;

pub(super) fn throttle(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    base_dir: &Path,
) -> Option<ThrottlePlan> {
    let by = by_key(cx, section);
    let per_us = section.time(cx, "per");
    let limit = limit(cx, section, per_us);
    let limits = limits(cx, section, per_us.unwrap_or(1), base_dir);
    let drop = ("drop", OverPlan::Drop);
    let (letter, port) = (("dead_letter", OverPlan::DeadLetter), ("port", OverPlan::Port));
    let over = section.one_of(cx, "over", &[drop, ("delay", OverPlan::Delay), letter, port]);
    let delay_buffer_bytes = section.size(cx, "delay_buffer");
    let delay_full = section.one_of(cx, "delay_full", &[drop, letter, port]);
    let over = over?.value;
    if over != OverPlan::Delay {
        for key in ["delay_buffer", "delay_full"] {
            if let Some((key, _)) = section.table.entry(key) {
                let message = format!("'{key}' of {} has no effect", section.what);
                cx.push(
                    Diagnostic::warning(key.span, message)
                        .help("it is for over = \"delay\"; add that, or remove the key"),
                );
            }
        }
    }
    Some(ThrottlePlan {
        by: by?,
        limit: limit?,
        limits: limits?,
        over,
        delay_buffer_bytes: delay_buffer_bytes?,
        delay_full: delay_full?.value,
    })
}

/// The three keys of a limit; `per_us` is what holds without its own.
fn limit(cx: &mut Context<'_>, section: &Section<'_>, per_us: Option<u64>) -> Option<LimitPlan> {
    let rate = section.number(cx, "rate");
    let burst = section.int(cx, "burst");
    (burst.is_some() || !section.has("burst")).then_some(())?;
    let rate = rate?;
    Some(LimitPlan { rate, per_us: per_us?, burst: burst_or(burst, rate) })
}

fn burst_or(burst: Option<i64>, rate: f64) -> u64 {
    burst.and_then(|n| u64::try_from(n).ok()).unwrap_or((rate.ceil() as u64).max(1))
}

type Limits = Vec<(String, LimitPlan)>;

fn limits(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    per_us: u64,
    base_dir: &Path,
) -> Option<Limits> {
    let Some(value) = section.raw(cx, "limits") else { return Some(Vec::new()) };
    let Value::Table(table) = &value.value else {
        let Value::String(text) = &value.value else {
            section.wrong(cx, "limits", value);
            return None;
        };
        let name = cx.expand(&Spanned::new(text.clone(), value.span))?;
        return file(cx, section, &name, per_us, base_dir);
    };
    let mut limits = Vec::with_capacity(table.entries.len());
    for (key, value) in &table.entries {
        let what = format!("'{key}' in 'limits' of {}", section.what);
        let found = match &value.value {
            Value::Integer(rate) if *rate > 0 => Some(plain(*rate as f64, per_us)),
            Value::Float(rate) if *rate > 0.0 && rate.is_finite() => Some(plain(*rate, per_us)),
            Value::Integer(_) | Value::Float(_) => {
                let message = format!("{what} must be above 0");
                cx.push(Diagnostic::error(value.span, message));
                None
            }
            Value::Table(table) => {
                let own = Section::open(cx, table, &LIMIT, &what, key.span, None);
                let own_per = own.time(cx, "per");
                let per_us = if own.has("per") { own_per } else { Some(per_us) };
                limit(cx, &own, per_us)
            }
            _ => {
                cx.push(wrong_type(&what, "a rate or a table { rate = ..., ... }", value));
                None
            }
        };
        limits.extend(found.map(|limit| (key.value.clone(), limit)));
    }
    (limits.len() == table.entries.len()).then_some(limits)
}

fn plain(rate: f64, per_us: u64) -> LimitPlan {
    LimitPlan { rate, per_us, burst: burst_or(None, rate) }
}

/// Limits of a CSV file beside the flow.
fn file(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    name: &Spanned<String>,
    per_us: u64,
    base_dir: &Path,
) -> Option<Limits> {
    let path = base_dir.join(&name.value);
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    let limits = read.and_then(|text| rows(&text, per_us));
    limits
        .map_err(|why| {
            let path = path.strip_prefix(".").unwrap_or(&path).display().to_string();
            let message = format!("'limits' of {}: {path}: {why}", section.what);
            cx.push(
                Diagnostic::error(name.span, message)
                    .help("a CSV file beside the flow, with the columns key, rate, per, burst"),
            );
        })
        .ok()
}

fn rows(text: &str, per_us: u64) -> Result<Limits, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| header.iter().position(|column| column == name);
    let unknown = header.iter().find(|name| !["key", "rate", "per", "burst"].contains(name));
    if let Some(name) = unknown {
        return Err(format!("unknown column '{name}'"));
    }
    let (Some(key), Some(rate)) = (column("key"), column("rate")) else {
        return Err("the first line must name the columns, key and rate among them".into());
    };
    let mut limits = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |what: &str, text: &str| format!("line {line}: '{text}' is no {what}");
        let get = |column: Option<usize>| {
            column.and_then(|at| record.get(at)).filter(|text| !text.is_empty())
        };
        let text = get(Some(rate)).unwrap_or("");
        let rate: f64 = text.parse().map_err(|_| wrong("rate", text))?;
        if !(rate > 0.0 && rate.is_finite()) {
            return Err(wrong("rate above 0", text));
        }
        let per = get(column("per")).map(|text| {
            let time = units::parse_duration(text).ok().filter(|time| !time.is_zero());
            let us = time.and_then(|time| u64::try_from(time.as_micros()).ok());
            us.ok_or_else(|| wrong("duration such as \"1m\"", text))
        });
        let burst = get(column("burst")).map(|text| {
            let burst = text.parse::<i64>().ok().filter(|burst| *burst > 0);
            burst.ok_or_else(|| wrong("number of messages", text))
        });
        let burst = burst_or(burst.transpose()?, rate);
        let per_us = per.transpose()?.unwrap_or(per_us);
        let key = record.get(key).unwrap_or("").to_owned();
        limits.push((key, LimitPlan { rate, per_us, burst }));
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_file_has_a_limit_per_line() {
        let text = "key,rate,burst,per\na, 5,,\n\"x,7\",0.5,3,1m\n";
        let limits = rows(text, 1_000_000).unwrap();
        let first = LimitPlan { rate: 5.0, per_us: 1_000_000, burst: 5 };
        let second = LimitPlan { rate: 0.5, per_us: 60_000_000, burst: 3 };
        assert_eq!(limits, [("a".into(), first), ("x,7".into(), second)]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        for (text, why) in [
            ("key,rate\na,x\n", "line 2: 'x' is no rate"),
            ("key,rate\na,-1\n", "line 2: '-1' is no rate above 0"),
            ("key,rate,per\na,1,soon\n", "line 2: 'soon' is no duration such as \"1m\""),
            ("key,rate,burst\na,1,0\n", "line 2: '0' is no number of messages"),
            ("key,limit\n", "unknown column 'limit'"),
            ("rate\n", "the first line must name the columns, key and rate among them"),
        ] {
            assert_eq!(rows(text, 1).unwrap_err(), why);
        }
        assert!(rows("key,rate\na\n", 1).unwrap_err().contains("line: 2"));
    }
}
