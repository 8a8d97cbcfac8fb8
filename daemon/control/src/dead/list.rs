//! Dead letters at a glance.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::letters::Letter;

/// A table: how many, of which flow and component, for which reason, since
/// when, and an example of why.
#[must_use]
pub fn list<'a>(letters: impl IntoIterator<Item = &'a Letter>) -> String {
    let mut kinds: BTreeMap<(&str, &str, &str), (usize, &Letter, &Letter)> = BTreeMap::new();
    for letter in letters {
        let kind = (letter.flow.as_str(), letter.component.as_str(), letter.reason.as_str());
        let (count, first, last) = kinds.entry(kind).or_insert((0, letter, letter));
        *count += 1;
        if letter.time < first.time {
            *first = letter;
        }
        if letter.time >= last.time {
            *last = letter;
        }
    }
    let mut out = format!(
        "{:>8}  {:<32} {:<12} {:<20} {:<20} last detail\n",
        "letters", "component", "reason", "first", "last"
    );
    for ((flow, component, reason), (count, first, last)) in kinds {
        let name = format!("{flow}.{component}");
        let (from, to) = (seconds(&first.time), seconds(&last.time));
        let detail = &last.detail;
        let _ = writeln!(out, "{count:>8}  {name:<32} {reason:<12} {from:<20} {to:<20} {detail}");
    }
    out
}

/// A time without its fraction.
fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}
