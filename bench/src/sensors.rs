//! The input of the JSON scenarios: lines of about 104 B, equal in shape to
//! what the comparison with other systems uses, the same for the same seed.
//!
//! A line is known in two forms: as text, and as the hash of its values. What
//! comes out of a scenario is parsed by `serde_json`, hashed in the same way
//! and compared; how numbers are written does not matter, what they are does.

use std::io::{self, Write};

use ringmain_base::{Prng, Xoshiro};
use serde::{Deserialize, Serialize};

use crate::measure::{mix, mix_bytes};

/// A message, as `serde_json` reads and writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sensor<'a> {
    pub(crate) ts: u64,
    pub(crate) device: &'a str,
    pub(crate) plant: &'a str,
    pub(crate) rpm: f64,
    pub(crate) temp: f64,
    pub(crate) status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) severity: Option<&'a str>,
}

impl Sensor<'_> {
    /// The hash of its values.
    pub(crate) fn hash(&self) -> u64 {
        let text = |hash, text: &str| mix_bytes(hash, text.as_bytes());
        let hash = mix(mix(mix(1, self.ts), self.rpm.to_bits()), self.temp.to_bits());
        let hash = text(text(text(hash, self.device), self.plant), self.status);
        self.severity.map_or(hash, |severity| text(hash, severity))
    }

    /// Whether the filter of every scenario, `rpm > 100`, lets it pass.
    pub(crate) fn passes(&self) -> bool {
        self.rpm > 100.0
    }
}

/// How many messages, and which: `ordered` changes with their order, `sum`
/// does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    pub(crate) ordered: u64,
    pub(crate) sum: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, sensor: &Sensor<'_>) {
        self.add_hash(sensor.hash());
    }

    /// Adds a message by its hash.
    pub(crate) fn add_hash(&mut self, hash: u64) {
        self.rows += 1;
        self.ordered = mix(self.ordered, hash);
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Of lines of JSON.
    pub(crate) fn of(lines: &[u8]) -> Result<Self, String> {
        let mut tally = Self::default();
        for line in split(lines) {
            let sensor = serde_json::from_slice(line)
                .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(line)))?;
            tally.add(&sensor);
        }
        Ok(tally)
    }
}

/// The lines of a text that ends with a line feed.
pub(crate) fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Hashes of what has to come out of filter and map for these lines.
pub(crate) fn marked(lines: &[u8]) -> Result<Vec<u64>, serde_json::Error> {
    let sensors = split(lines).map(serde_json::from_slice::<Sensor<'_>>);
    let passing = sensors.filter(|sensor| sensor.as_ref().map_or(true, Sensor::passes));
    let hash = |sensor| Sensor { severity: Some("high"), ..sensor }.hash();
    passing.map(|sensor| sensor.map(hash)).collect()
}

/// What lines hold, and what has to come out of filter and map.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) all: Tally,
    /// With `rpm > 100`, and `severity = 'high'` added.
    pub(crate) marked: Tally,
}

/// Writes so many lines.
pub(crate) fn write(count: u64, out: &mut impl Write) -> io::Result<Expected> {
    let mut rng = Xoshiro::new(7);
    let mut ts = 1_732_270_000_000;
    let mut expected = Expected::default();
    for _ in 0..count {
        ts += rng.below(4);
        let device = format!("motor-{:04}", rng.below(1000));
        let plant = format!("plant-{}", rng.below(10));
        // Exact decimals, so that text and value are the same number.
        let rpm = (400 + rng.below(1201)) as f64 / 10.0;
        let temp = (2_000 + rng.below(9_001)) as f64 / 100.0;
        let status = if rng.below(4) == 0 { "warn" } else { "ok" };
        writeln!(
            out,
            "{{\"ts\":{ts},\"device\":\"{device}\",\"plant\":\"{plant}\",\"rpm\":{rpm:.1},\"temp\":{temp:.2},\"status\":\"{status}\"}}"
        )?;
        let (device, plant) = (device.as_str(), plant.as_str());
        let sensor = Sensor { ts, device, plant, rpm, temp, status, severity: None };
        expected.all.add(&sensor);
        if sensor.passes() {
            expected.marked.add(&Sensor { severity: Some("high"), ..sensor });
        }
    }
    Ok(expected)
}

/// So many lines in memory.
pub(crate) fn lines(count: u64) -> (Vec<u8>, Expected) {
    let mut text = Vec::new();
    let expected = write(count, &mut text).expect("a vector takes everything");
    (text, expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_back_as_what_they_were_made_of() {
        let (text, expected) = lines(500);
        assert_eq!(Tally::of(&text).unwrap(), expected.all);
        assert_eq!(expected.all.rows, 500);
        let mut again = Tally::default();
        super::marked(&text).unwrap().into_iter().for_each(|hash| again.add_hash(hash));
        assert_eq!(again, expected.marked);
        let marked = expected.marked.rows;
        assert!((200..300).contains(&marked), "half of them pass: {marked}");
        let mean = text.len() / 500;
        assert!((98..108).contains(&mean), "{mean} B");
    }

    #[test]
    fn another_order_changes_one_hash_and_not_the_other() {
        let (text, expected) = lines(2);
        let mut split: Vec<&[u8]> = split(&text).collect();
        split.reverse();
        let turned = Tally::of(&split.join(&b'\n')).unwrap();
        assert_eq!(turned.sum, expected.all.sum);
        assert_ne!(turned.ordered, expected.all.ordered);
    }

    #[test]
    fn an_unknown_field_is_no_sensor() {
        assert!(Tally::of(b"{\"ts\":1,\"extra\":2}\n").is_err());
    }
}
