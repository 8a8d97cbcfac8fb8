//! The JSON conformance corpus (Nicolas Seriot's JSONTestSuite), where it is
//! at hand: beside the workspace in `shared/`, or where `RINGMAIN_SHARED` says.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Outcome, Rig, run};
use ringmain_codec::{DecodeOptions, Framing};

fn shared(below: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let root = std::env::var_os("RINGMAIN_SHARED").map_or_else(beside, PathBuf::from);
    let path = root.join(below);
    if !path.exists() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}

/// The texts have line feeds in them, so each is a datagram.
fn decode(text: &[u8]) -> Outcome {
    run(DecodeOptions::Json, Framing::Whole, 1 << 20, text, &[usize::MAX])
}

#[test]
fn the_corpus_is_accepted_and_refused_as_it_says() {
    let Some(folder) = shared("data/json-test-suite/test_parsing") else { return };
    let (mut accepted, mut refused, mut either) = (0, 0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read(&path).unwrap();
        let out = decode(&text);
        match name.as_bytes()[0] {
            b'y' => {
                assert_eq!((out.rows.len(), &*out.refused), (1, &[][..]), "{name}");
                same_value(&name, &text, &out.rows[0]);
                accepted += 1;
            }
            b'n' => {
                // An empty datagram is no message at all.
                let frames = usize::from(!text.is_empty());
                assert_eq!((out.rows.len(), out.refused.len()), (0, frames), "{name}");
                refused += 1;
            }
            _ => {
                assert_eq!(out.rows.len() + out.refused.len(), 1, "{name}");
                either += 1;
            }
        }
    }
    println!("{accepted} accepted, {refused} refused, {either} either way");
    assert!(accepted >= 90 && refused >= 180 && either >= 30);
}

fn same_value(name: &str, text: &[u8], written: &str) {
    let Ok(expected) = serde_json::from_slice::<serde_json::Value>(text) else {
        // serde_json refuses what it cannot represent; we kept it.
        return;
    };
    let got: serde_json::Value = serde_json::from_str(written).unwrap();
    assert_eq!(got, expected, "{name}: {written}");
}

#[test]
fn real_events_come_back_as_the_same_values() {
    let Some(path) = shared("data/github_events.ndjson") else { return };
    let text = fs::read(path).unwrap();
    let mut rig = Rig::json();
    for _ in 0..3 {
        for chunk in text.chunks(1000) {
            rig.feed(chunk);
        }
    }
    rig.finish();
    assert_eq!(rig.outcome.refused, []);
    let lines: Vec<_> = text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(rig.outcome.rows.len(), 3 * lines.len());
    for (line, row) in lines.iter().cycle().zip(&rig.outcome.rows) {
        let expected: serde_json::Value = serde_json::from_slice(line).unwrap();
        let got: serde_json::Value = serde_json::from_str(row).unwrap();
        assert_eq!(got, expected);
    }
}
