//! The JSON codec beside `serde_json`: what one accepts the other accepts, and
//! the values are the same.

mod common;

use std::fmt::Write as _;

use common::Rig;
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Decodes `lines` one after another in one decoder, so that predictions are
/// at work; what each became.
fn decode(lines: &[Vec<u8>]) -> Vec<Result<String, String>> {
    let mut rig = Rig::json();
    let mut out = Vec::new();
    for line in lines {
        assert!(!line.contains(&b'\n'));
        rig.feed(line);
        rig.feed(b"\n");
        rig.ship();
        let rows = rig.outcome.rows.drain(..).map(Ok);
        let refused = rig.outcome.refused.drain(..).map(|r| Err(r.detail));
        let mut both: Vec<_> = rows.chain(refused).collect();
        assert!(both.len() <= 1);
        out.push(both.pop().unwrap_or(Err("blank".to_owned())));
    }
    out
}

/// Numbers beyond 64 bits are compared by their nearest double: serde_json
/// keeps u64, we keep the text.
fn comparable(value: &Value) -> Value {
    match value {
        Value::Number(n) if n.is_u64() && !n.is_i64() => Value::from(n.as_f64().unwrap()),
        Value::Array(list) => list.iter().map(comparable).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(k, v)| (k.clone(), comparable(v))).collect())
        }
        other => other.clone(),
    }
}

fn check(line: &[u8], got: &Result<String, String>) {
    let text = String::from_utf8_lossy(line);
    match (serde_json::from_slice::<Value>(line), got) {
        (Ok(expected), Ok(row)) => {
            let got: Value = serde_json::from_str(row)
                .unwrap_or_else(|error| panic!("{text}: wrote {row}: {error}"));
            assert_eq!(comparable(&got), comparable(&expected), "{text}: wrote {row}");
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(detail)) => panic!("{text}: refused: {detail}"),
        (Err(error), Ok(row)) => {
            // A number beyond f64 keeps its text here and is an error there;
            // the last level of nesting is counted differently.
            let known = ["number out of range", "recursion limit exceeded"];
            let error = error.to_string();
            assert!(known.iter().any(|k| error.starts_with(k)), "{text}: {error}, wrote {row}");
        }
    }
}

fn arb_value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-1_000_000i64..1_000_000).prop_map(|n| Value::from(n as f64 / 1000.0)),
        (-100i64..100).prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        ".{0,20}".prop_map(Value::from),
        "[a-z]{0,40}".prop_map(Value::from),
        proptest::collection::vec(any::<char>(), 0..12)
            .prop_map(|chars| Value::from(chars.into_iter().collect::<String>())),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec(("[a-f]{0,2}|.{0,9}", inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Documents of one flow: their names come from a small set, so that shapes
/// repeat and break.
fn arb_document() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        4 => "[a-d]",
        1 => "[a-z]{1,30}",
        1 => Just("a name of more than thirty-two bytes, which is long".to_owned()),
    ];
    let fields = proptest::collection::vec((name, arb_value()), 0..8);
    prop_oneof![
        6 => fields.prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        1 => arb_value(),
    ]
}

/// Writes a value in some of the many ways that the grammar has.
fn write(value: &Value, style: &mut u64, out: &mut String) {
    let mut pick = |n: u64| {
        *style =
            style.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*style >> 33) % n
    };
    let space = ["", "", "", "", " ", "\t", "  ", "\r"][pick(8) as usize];
    out.push_str(space);
    match value {
        Value::String(text) => {
            let raw = pick(2) == 0;
            out.push('"');
            for c in text.chars() {
                if c == '"' || c == '\\' || c < ' ' || (!raw && !c.is_ascii()) {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                } else {
                    out.push(c);
                }
            }
            out.push('"');
        }
        Value::Array(list) => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write(item, style, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (at, (name, item)) in map.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write(&Value::from(name.clone()), style, out);
                out.push_str(space);
                out.push(':');
                write(item, style, out);
            }
            out.push('}');
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
    out.push_str(space);
}

/// One edit that may or may not break a document.
fn mutate(line: &mut Vec<u8>, at: usize, kind: u8, byte: u8) {
    if line.is_empty() {
        return;
    }
    let at = at % line.len();
    let syntax = b"{}[]\",:\\ -+.eE019tfn\x00\x1f\x7f\xc3\xa9\xff";
    let byte = if kind & 1 == 0 { syntax[usize::from(byte) % syntax.len()] } else { byte };
    match kind / 2 % 4 {
        0 => line[at] = byte,
        1 => line.insert(at, byte),
        2 => drop(line.remove(at)),
        _ => line.truncate(at),
    }
    line.retain(|b| *b != b'\n');
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn values_come_back_whatever_the_style(
        documents in proptest::collection::vec(arb_document(), 1..12),
        mut style in any::<u64>(),
    ) {
        let mut lines = Vec::new();
        for document in &documents {
            let mut line = String::new();
            write(document, &mut style, &mut line);
            // The same shape again and again, so that it is learned.
            for _ in 0..3 {
                lines.push(line.replace('\n', " ").into_bytes());
            }
        }
        for (line, got) in lines.iter().zip(decode(&lines)) {
            prop_assert!(got.is_ok(), "{}: {got:?}", String::from_utf8_lossy(line));
            check(line, &got);
        }
    }

    #[test]
    fn broken_documents_are_refused_as_serde_json_refuses_them(
        document in arb_document(),
        edits in proptest::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..8),
    ) {
        let plain = document.to_string().into_bytes();
        let mut lines = vec![plain.clone(), plain.clone(), plain.clone()];
        for (at, kind, byte) in edits {
            let mut line = plain.clone();
            mutate(&mut line, at, kind, byte);
            lines.push(line);
            lines.push(plain.clone());
        }
        for (line, got) in lines.iter().zip(decode(&lines)) {
            check(line, &got);
        }
    }

    #[test]
    fn numbers_are_read_as_serde_json_reads_them(text in "-?[0-9]{1,25}(\\.[0-9]{0,25})?([eE][+-]?[0-9]{0,3})?") {
        let lines = [text.clone().into_bytes(), format!("{{\"n\":{text}}}").into_bytes()];
        for (line, got) in lines.iter().zip(decode(&lines)) {
            check(line, &got);
        }
    }
}
