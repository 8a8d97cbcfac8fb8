//! Fuzz targets as plain functions of bytes, run here over seeded mutations
//! for a second each; `RINGMAIN_FUZZ_ROUNDS` multiplies that, and
//! `RINGMAIN_FUZZ_SEED` begins elsewhere.

mod common;

use common::{Outcome, Rig, run};
use ringmain_base::{Prng, Xoshiro};
use ringmain_codec::{
    CsvEncodeOptions, CsvOptions, DecodeOptions, EncodeOptions, Encoder, Framing,
};

/// One line of JSON: accepted exactly if `serde_json` accepts it, alone and
/// behind lines that predict it, with the same value.
fn fuzz_json(line: &[u8]) {
    if line.contains(&b'\n') || line.starts_with(b"\xEF\xBB\xBF") {
        return;
    }
    let stream = [line, b"\n", line, b"\n", line, b"\n", line, b"\n"].concat();
    let out = run(DecodeOptions::Json, Framing::Newline, 1 << 20, &stream, &[usize::MAX]);
    let text = String::from_utf8_lossy(line);
    if line.iter().all(|b| b" \t\r".contains(b)) {
        return assert_eq!((out.rows.len(), out.refused.len()), (0, 0), "{text:?}");
    }
    assert!(matches!((out.rows.len(), out.refused.len()), (4, 0) | (0, 4)), "{text:?}: {out:?}");
    assert!(out.rows.windows(2).all(|pair| pair[0] == pair[1]), "{text:?}: {out:?}");
    match serde_json::from_slice::<serde_json::Value>(line) {
        Ok(expected) => {
            assert!(!out.rows.is_empty(), "{text:?}: {out:?}");
            let row: serde_json::Value = serde_json::from_str(&out.rows[0]).unwrap();
            assert_eq!(loose(&row), loose(&expected), "{text:?}: {out:?}");
        }
        Err(error) => {
            let known = ["number out of range", "recursion limit exceeded"];
            let known = known.iter().any(|k| error.to_string().starts_with(k));
            assert!(out.rows.is_empty() || known, "{text:?}: {error}: {out:?}");
        }
    }
}

/// Whole numbers beyond 64 bits by their nearest double.
fn loose(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Number(n) if n.is_u64() && !n.is_i64() => format!("{:?}", n.as_f64()),
        Value::Number(n) if n.is_f64() => format!("{:?}", n.as_f64()),
        Value::Array(list) => format!("{:?}", list.iter().map(loose).collect::<Vec<_>>()),
        Value::Object(map) => {
            format!("{:?}", map.iter().map(|(k, v)| (k, loose(v))).collect::<Vec<_>>())
        }
        other => other.to_string(),
    }
}

/// Any stream in any format and framing: cutting it changes nothing, every
/// byte is accounted for, and what was written is read back the same.
fn fuzz_stream(input: &[u8]) {
    let Some(([choice, cut, limit], stream)) = input.split_first_chunk() else { return };
    let framings = [Framing::Newline, Framing::U32Be, Framing::U32Le];
    let framing = framings[usize::from(choice >> 4) % 3];
    let csv = CsvOptions { header: choice & 8 == 0, ..CsvOptions::default() };
    let options = match choice % 4 {
        0 => DecodeOptions::Json,
        1 => DecodeOptions::Text,
        2 => DecodeOptions::Bytes,
        _ => DecodeOptions::Csv(csv),
    };
    let frame_bytes = u32::from(*limit) + 1;
    let decode = |cuts: &[usize]| run(options.clone(), framing, frame_bytes, stream, cuts);
    let whole: Outcome = decode(&[usize::MAX]);
    assert_eq!(whole.offset, stream.len() as u64);
    assert_eq!(decode(&[usize::from(*cut), 3, 1]), whole);
    assert!(whole.refused.iter().all(|r| r.frame.len() <= 4096 && !r.detail.is_empty()));
    let written = whole.rows.iter().map(|row| row.clone() + "\n").collect::<String>();
    let again = run(DecodeOptions::Json, Framing::Newline, 1 << 20, written.as_bytes(), &[9999]);
    assert_eq!(again.refused, []);
    // Other orders of names give other slots, so values are compared.
    let values = |rows: &[String]| -> Vec<serde_json::Value> {
        rows.iter().filter_map(|row| serde_json::from_str(row).ok()).collect()
    };
    assert_eq!(values(&again.rows), values(&whole.rows));
}

/// Lines one after another: what lines before taught the decoder changes
/// neither what is accepted nor the values nor what is said about mistakes.
fn fuzz_prediction(input: &[u8]) {
    let input = input.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(input);
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    for line in input.split(|b| *b == b'\n') {
        let line = [b"\n", line].concat();
        let alone = run(DecodeOptions::Json, Framing::Newline, 1 << 20, &line, &[usize::MAX]);
        rows.extend(alone.rows);
        refused.extend(alone.refused.into_iter().map(|r| (r.detail, r.column, r.frame)));
    }
    let input = [b"\n", input].concat();
    let all = run(DecodeOptions::Json, Framing::Newline, 1 << 20, &input, &[usize::MAX]);
    let said: Vec<_> = all.refused.into_iter().map(|r| (r.detail, r.column, r.frame)).collect();
    assert_eq!(said, refused);
    let values = |rows: &[String]| -> Vec<Option<serde_json::Value>> {
        rows.iter().map(|row| serde_json::from_str(row).ok()).collect()
    };
    assert_eq!(values(&all.rows), values(&rows));
}

/// Rows of JSON as CSV: always well-formed, with one record for each row.
fn fuzz_csv_out(input: &[u8]) {
    let mut rig = Rig::json();
    rig.feed(input);
    rig.feed(b"\n");
    let columns: Vec<_> = ["a", "b", "", "value"].map(str::to_owned).to_vec();
    let options = EncodeOptions::Csv(CsvEncodeOptions { columns, delimiter: b',' });
    let mut encoder = Encoder::new(options, rig.schema.clone());
    let mut out = encoder.header().to_vec();
    let refused = &mut |_, error| panic!("{error}");
    encoder.encode_slab(&rig.slab, 0, &mut out, usize::MAX, Framing::Newline, refused);
    let csv = DecodeOptions::Csv(CsvOptions::default());
    let again = run(csv, Framing::Newline, 64 << 20, &out, &[11]);
    assert_eq!(again.refused, []);
    assert_eq!(again.rows.len(), rig.slab.len());
}

const SEEDS: [&str; 10] = [
    r#"{"ts":1732270000000,"device":"motor-0001","rpm":123.4,"temp":-20.25,"ok":true,"x":null}"#,
    r#"{"a":1,"b":{"c":[1,2,{"d":"e"}]},"a":"again","":0}"#,
    "{\"s\":\"\\u00e9\\ud83d\\ude00\\n\\\\\",\"t\":\"é😀 more than sixteen bytes of text\"}",
    r#" [ 1 , -0 , 0.5 , 1e-7 , 18446744073709551616 , "x" , { } , [ ] ] "#,
    r#"{"n":[0.30000000000000004,123456789012345678,1E400,-1.5e+3,0e0]}"#,
    "a,b\n1,\"x,\"\"y\"\"\n\"\n2.50,é\r\n",
    "\0\0\0\u{5}hello\0\0\0\u{2}{}",
    "{\"a\":1}\n{\"a\":2,\"b\":\"x\"}\n\n{\"a\":3}\r\n{\"b\":\"y\",\"a\":4}\n",
    "[[[[[[[[[[\"deep\"]]]]]]]]]]",
    "\"\\\"\"",
];

/// A mutated seed, or a splice of two.
fn input(rng: &mut Xoshiro) -> Vec<u8> {
    let below = |rng: &mut Xoshiro, n: usize| rng.below(n as u64) as usize;
    let seed = |rng: &mut Xoshiro| SEEDS[below(rng, SEEDS.len())].as_bytes();
    let mut bytes = seed(rng).to_vec();
    if rng.below(3) == 0 {
        let other = seed(rng);
        let (from, to) = (below(rng, other.len()), below(rng, bytes.len()));
        bytes.truncate(to);
        bytes.extend_from_slice(&other[from..]);
    }
    for _ in 0..rng.below(6) {
        if bytes.is_empty() {
            break;
        }
        let at = below(rng, bytes.len());
        let syntax = b"{}[]\",:\\ \n\r-+.eE019tfnul\x00\x1f\xc3\xa9\xed\xf0";
        let byte = syntax[below(rng, syntax.len())];
        match rng.below(5) {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => drop(bytes.remove(at)),
            3 => bytes[at] = rng.next_u64() as u8,
            _ => {
                let end = (at + 1 + below(rng, 12)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = below(rng, bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
    bytes
}

fn env(name: &str, or: u64) -> u64 {
    std::env::var(name).map_or(or, |text| text.parse().expect("a number"))
}

/// Lines that are put together from pieces of shapes, mostly sound ones.
fn lines(rng: &mut Xoshiro) -> Vec<u8> {
    let names =
        ["\"a\"", "\"b\"", "\"c\"", "\"a long name, longer than 16\"", "\"\\u0061\"", "\"\""];
    let values = [
        "1",
        "-2.5",
        "\"x\"",
        "\"a string, longer than 16\"",
        "{\"a\":1}",
        "[]",
        "null",
        "\"\\n\"",
    ];
    let noise = ["{", "}", ",", ":", " ", "\r", "\"", "1", "]", "e", "\t", "\u{e9}"];
    let mut out = String::new();
    for _ in 0..rng.below(40) {
        out.push('{');
        let first = rng.below(3);
        for at in 0..rng.below(5) {
            out.push_str(if at > 0 { "," } else { "" });
            let name = if rng.below(4) == 0 { rng.below(6) } else { (first + at) % 6 };
            out.push_str(names[name as usize]);
            out.push_str(if rng.below(20) == 0 { " : " } else { ":" });
            out.push_str(values[(rng.below(2) * rng.below(7) + name % 2) as usize]);
        }
        out.push('}');
        if rng.below(6) == 0 {
            let at = out.len() - rng.below(out.len().min(12) as u64) as usize;
            if out.is_char_boundary(at) {
                out.insert_str(at, noise[rng.below(12) as usize]);
            }
        }
        if rng.below(8) == 0 {
            out.pop();
        }
        out.push('\n');
    }
    out.into_bytes()
}

fn smoke(target: fn(&[u8]), make: fn(&mut Xoshiro) -> Vec<u8>, rounds: u64, prefix: usize) {
    let rounds = rounds * env("RINGMAIN_FUZZ_ROUNDS", 1);
    let first = env("RINGMAIN_FUZZ_SEED", 1);
    for seed in first..first + rounds {
        let mut rng = Xoshiro::new(seed);
        let mut bytes: Vec<u8> = (0..prefix).map(|_| rng.next_u64() as u8).collect();
        bytes.extend(make(&mut rng));
        let shown = bytes.clone();
        if std::panic::catch_unwind(|| target(&bytes)).is_err() {
            panic!("seed {seed}: {:?}", String::from_utf8_lossy(&shown));
        }
    }
}

#[test]
fn json_agrees_with_serde_json_on_mutated_lines() {
    smoke(fuzz_json, input, 8_000, 0);
}

#[test]
fn streams_are_the_same_however_they_are_cut() {
    smoke(fuzz_stream, input, 4_000, 3);
}

#[test]
fn csv_that_is_written_is_well_formed() {
    smoke(fuzz_csv_out, input, 4_000, 0);
}

#[test]
fn what_came_before_changes_nothing() {
    smoke(fuzz_prediction, lines, 2_000, 0);
    smoke(fuzz_prediction, input, 2_000, 0);
}
