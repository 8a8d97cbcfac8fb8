//! What was expected beside what came, as lines for people.

use ringmain_config::Spanned;
use ringmain_shard::{Datum, Message, holds};

/// Messages or differences that are shown; the rest is counted.
const SHOWN_MAX: usize = 10;

/// Beyond this many pairs messages are compared by their numbers only.
const PAIRS_MAX: usize = 1_000_000;

/// A summary, and the lines below it.
pub(super) type Wrong = (String, Vec<String>);

pub(super) fn none(got: &[Message]) -> Option<Wrong> {
    (!got.is_empty()).then(|| (format!("expected none, got {}", messages(got.len())), list(got)))
}

pub(super) fn count(expected: u64, got: &[Message]) -> Option<Wrong> {
    (expected != got.len() as u64)
        .then(|| (format!("expected a count of {expected}, got {}", got.len()), list(got)))
}

/// All messages, in order.
pub(super) fn exact(expected: &[Message], got: &[Message]) -> Option<Wrong> {
    if expected == got {
        return None;
    }
    let mut lines = Lines::default();
    let (mut e, mut g) = (0, 0);
    for (next_e, next_g) in alignment(expected, got) {
        gap(expected, got, (e, next_e), (g, next_g), &mut lines);
        (e, g) = (next_e + 1, next_g + 1);
    }
    let what = match (expected.len(), got.len()) {
        (a, b) if a == b => format!("expected {} like these, got others", messages(a)),
        (a, b) => format!("expected {}, got {b}", messages(a)),
    };
    Some((what, lines.finish()))
}

/// Which of what was expected is which of what came: the longest sequence of
/// equal messages, then the ends.
fn alignment(expected: &[Message], got: &[Message]) -> Vec<(usize, usize)> {
    let (n, m) = (expected.len(), got.len());
    let mut pairs = Vec::new();
    if n * m <= PAIRS_MAX {
        let mut longest = vec![0u32; (n + 1) * (m + 1)];
        let at = |e: usize, g: usize| e * (m + 1) + g;
        for e in (0..n).rev() {
            for g in (0..m).rev() {
                longest[at(e, g)] = if expected[e] == got[g] {
                    longest[at(e + 1, g + 1)] + 1
                } else {
                    longest[at(e + 1, g)].max(longest[at(e, g + 1)])
                };
            }
        }
        let (mut e, mut g) = (0, 0);
        while e < n && g < m {
            if expected[e] == got[g] {
                pairs.push((e, g));
                (e, g) = (e + 1, g + 1);
            } else if longest[at(e + 1, g)] >= longest[at(e, g + 1)] {
                e += 1;
            } else {
                g += 1;
            }
        }
    } else {
        pairs.extend((0..n.min(m)).filter(|i| expected[*i] == got[*i]).map(|i| (i, i)));
    }
    pairs.push((n, m));
    pairs
}

/// Messages between two that are equal.
fn gap(
    expected: &[Message],
    got: &[Message],
    (e, e_end): (usize, usize),
    (g, g_end): (usize, usize),
    lines: &mut Lines,
) {
    let both = (e_end - e).min(g_end - g);
    for i in 0..both {
        let (want, have) = (&expected[e + i], &got[g + i]);
        let mut parts = vec![format!("message {}:", g + i + 1)];
        parts.extend(differences(want, have, true));
        parts.push(format!("  expected {want}"));
        parts.push(format!("  got      {have}"));
        lines.add(parts);
    }
    for want in &expected[e + both..e_end] {
        lines.add(vec![format!("missing: {want}")]);
    }
    for have in &got[g + both..g_end] {
        lines.add(vec![format!("not expected: {have}")]);
    }
}

/// For each of what is expected, a message of its own with at least its fields.
pub(super) fn contains(expected: &[Message], got: &[Message]) -> Option<Wrong> {
    let mut owner = vec![None; got.len()];
    let missing: Vec<&Message> = (0..expected.len())
        .filter(|at| !assign(*at, expected, got, &mut owner, &mut vec![false; got.len()]))
        .map(|at| &expected[at])
        .collect();
    let first = missing.first()?;
    let mut lines = Lines::default();
    for want in &missing {
        let mut parts = vec![format!("missing: {want}")];
        let near = got.iter().enumerate().map(|(at, have)| (differences(want, have, false), at));
        if let Some((found, at)) = near.min_by_key(|(found, at)| (found.len(), *at)) {
            parts.push(format!("  nearest is message {}: {}", at + 1, got[at]));
            if found.is_empty() {
                parts.push("  which another expectation has taken".to_owned());
            }
            parts.extend(found);
        }
        lines.add(parts);
    }
    let came =
        if got.is_empty() { "nothing came".to_owned() } else { messages(got.len()) + " came" };
    let what = match missing.len() {
        1 => format!("no message has the fields of {first}; {came}"),
        n => format!("{n} of {} are missing; {came}", messages(expected.len())),
    };
    Some((what, lines.finish()))
}

/// Finds a message for `want`, moving those of others if need be.
fn assign(
    want: usize,
    expected: &[Message],
    got: &[Message],
    owner: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for at in 0..got.len() {
        if tried[at] || !differences(&expected[want], &got[at], false).is_empty() {
            continue;
        }
        tried[at] = true;
        if owner[at].is_none_or(|other| assign(other, expected, got, owner, tried)) {
            owner[at] = Some(want);
            return true;
        }
    }
    false
}

/// A condition that every message satisfies.
pub(super) fn satisfies(condition: &Spanned<String>, got: &[Message]) -> Option<Wrong> {
    if got.is_empty() {
        return Some((format!("nothing came of which '{condition}' could be true"), Vec::new()));
    }
    let results = match holds(condition, got) {
        Ok(results) => results,
        Err(error) => return Some((error.message, Vec::new())),
    };
    let mut lines = Lines::default();
    let mut failed = 0;
    for (at, (result, message)) in results.iter().zip(got).enumerate() {
        let why = match result {
            Ok(true) => continue,
            Ok(false) => String::new(),
            Err(error) => format!(" ({error})"),
        };
        failed += 1;
        lines.add(vec![format!("message {}{why}: {message}", at + 1)]);
    }
    let what = format!("'{condition}' is not true of {failed} of {}", messages(got.len()));
    (failed > 0).then(|| (what, lines.finish()))
}

/// Field by field; with `whole`, also fields that nobody expects.
fn differences(expected: &Message, got: &Message, whole: bool) -> Vec<String> {
    let mut found = Vec::new();
    maps("", expected, got, whole, &mut found);
    found.into_iter().map(|line| format!("  {line}")).collect()
}

fn maps(path: &str, expected: &Message, got: &Message, whole: bool, found: &mut Vec<String>) {
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, want) in &expected.0 {
        match got.get(name) {
            None => found.push(format!("{}: expected {want}, got nothing", below(name))),
            Some(have) => values(&below(name), want, have, whole, found),
        }
    }
    if whole {
        for (name, have) in got.0.iter().filter(|(name, _)| expected.get(name).is_none()) {
            found.push(format!("{}: not expected, got {have}", below(name)));
        }
    }
}

fn values(path: &str, expected: &Datum, got: &Datum, whole: bool, found: &mut Vec<String>) {
    match (expected, got) {
        (Datum::Map(want), Datum::Map(have)) => maps(path, want, have, whole, found),
        (Datum::List(want), Datum::List(have)) if want.len() == have.len() => {
            for (at, (want, have)) in want.iter().zip(have).enumerate() {
                values(&format!("{path}[{}]", at + 1), want, have, whole, found);
            }
        }
        (want, have) if want != have => {
            found.push(format!("{path}: expected {want}, got {have}"));
        }
        _ => {}
    }
}

/// Messages by their numbers.
pub(super) fn list(got: &[Message]) -> Vec<String> {
    let mut lines = Lines::default();
    for (at, message) in got.iter().enumerate() {
        lines.add(vec![format!("message {}: {message}", at + 1)]);
    }
    lines.finish()
}

pub(super) fn messages(count: usize) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

/// Lines of which only the first are shown.
#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    entries: usize,
}

impl Lines {
    fn add(&mut self, lines: Vec<String>) {
        self.entries += 1;
        if self.entries <= SHOWN_MAX {
            self.lines.extend(lines);
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.entries > SHOWN_MAX {
            self.lines.push(format!("... and {} more", self.entries - SHOWN_MAX));
        }
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let datum = prop_oneof![
            Just(Datum::Null),
            (0..3i64).prop_map(Datum::Int),
            (0..3u8).prop_map(|v| Datum::Float(f64::from(v))),
            "[ab]{0,2}".prop_map(Datum::Str),
        ];
        let datum = datum.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Datum::List),
                prop::collection::vec(("[xyz]", inner), 0..3).prop_map(|list| {
                    let mut message = Message::default();
                    list.into_iter().for_each(|(name, value)| message.set(&name, value));
                    Datum::Map(message)
                }),
            ]
        });
        prop::collection::vec(("[xyz]", datum), 0..4).prop_map(|list| {
            let mut message = Message::default();
            list.into_iter().for_each(|(name, value)| message.set(&name, value));
            message
        })
    }

    fn messages() -> impl Strategy<Value = Vec<Message>> {
        prop::collection::vec(message(), 0..6)
    }

    proptest! {
        #[test]
        fn exact_is_satisfied_by_equal_messages_only(a in messages(), b in messages()) {
            prop_assert_eq!(exact(&a, &b).is_none(), a == b);
            prop_assert!(exact(&a, &a).is_none());
        }

        #[test]
        fn messages_are_equal_when_there_is_no_difference(a in message(), b in message()) {
            prop_assert_eq!(differences(&a, &b, true).is_empty(), a == b);
        }

        #[test]
        fn contains_finds_what_is_there(
            list in messages(), keep in prop::collection::vec(any::<bool>(), 24)
        ) {
            // Some fields of some messages, in the opposite order.
            let mut keep = keep.into_iter();
            let part = |message: &Message| {
                let fields = message.0.iter().filter(|_| keep.next().unwrap_or(true));
                Message(fields.cloned().collect())
            };
            let some: Vec<Message> = list.iter().rev().map(part).collect();
            prop_assert!(contains(&some, &list).is_none());
            prop_assert!(contains(&[some.as_slice(), &[Message::default()]].concat(), &list).is_some());
        }

        #[test]
        fn what_differs_is_all_there_is(a in messages(), b in messages()) {
            let pairs = alignment(&a, &b);
            let (last, equal) = pairs.split_last().expect("the ends are always there");
            prop_assert_eq!(*last, (a.len(), b.len()));
            prop_assert!(equal.iter().all(|(e, g)| a[*e] == b[*g]));
            prop_assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
        }
    }
}
