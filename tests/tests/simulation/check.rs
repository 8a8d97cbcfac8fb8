//! What must be true when a story is over.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::case::Case;
use crate::world::World;

/// Over all stories.
#[derive(Debug, Default)]
pub struct Totals {
    pub messages: u64,
    pub duplicates: u64,
    pub crashes: u64,
    pub checkpoints: u64,
    pub reloads: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.duplicates += other.duplicates;
        self.crashes += other.crashes;
        self.checkpoints += other.checkpoints;
        self.reloads += other.reloads;
    }
}

pub fn outcome(case: &Case, world: &World) -> Totals {
    let mut duplicates = sink(case, world, "out.ndjson", 0);
    if case.second_sink {
        duplicates += sink(case, world, "copy.ndjson", 1);
    }
    if case.crashes_max == 0 {
        assert_eq!(duplicates, 0, "nothing died, and something came twice");
    }
    dead_letters(case, world);
    balance(world);
    Totals {
        messages: case.messages,
        duplicates,
        crashes: world.crashes,
        checkpoints: world.checkpoints,
        reloads: world.reloads,
    }
}

/// Everything is there, each life wrote every key in order, and the state that
/// a message met was that of the messages before it.
fn sink(case: &Case, world: &World, name: &str, file: usize) -> u64 {
    let bytes = world.read(name);
    let mut seen: HashSet<(String, u64)> = HashSet::new();
    let mut last: HashMap<String, u64> = HashMap::new();
    let (mut offset, mut life, mut duplicates) = (0, 0, 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        while world.births.get(life + 1).is_some_and(|ends| ends[file] <= offset) {
            life += 1;
            last.clear();
        }
        offset += line.len() as u64;
        let message: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}: {text:?}"));
        let key = message["k"].as_str().unwrap().to_owned();
        let i = message["i"].as_u64().unwrap();
        if let Some(before) = last.insert(key.clone(), i) {
            assert!(before < i, "{name}: {key}: {i} came after {before}");
        }
        if case.counts {
            assert_eq!(message["c"], i + 1, "{name}: {key}: the state of message {i} is wrong");
        }
        duplicates += u64::from(!seen.insert((key, i)));
    }
    let missing = case.messages - seen.len() as u64;
    assert_eq!(missing, 0, "{name}: {missing} of {} messages are missing", case.messages);
    duplicates
}

fn dead_letters(case: &Case, world: &World) {
    let text = String::from_utf8(world.read("dead.ndjson")).unwrap();
    let letters = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let letters: Vec<Value> = letters.filter(|letter| letter["reason"] == "decode").collect();
    let of = |n: u64| format!("{{\"garbage\":{n}");
    for n in 0..case.garbage {
        let there = letters.iter().any(|letter| letter["raw"] == of(n).as_str());
        assert!(there, "garbage {n} is not among {} dead letters", letters.len());
    }
    if case.crashes_max == 0 {
        assert_eq!(letters.len() as u64, case.garbage);
    }
}

fn balance(world: &World) {
    let snapshot = world.metrics.as_ref().expect("a life came to its end").snapshot(0);
    for c in &snapshot.components {
        assert_eq!(c.rows_in, c.rows_out + c.dropped + c.dead + c.dropped_full, "{c:?}");
    }
}
