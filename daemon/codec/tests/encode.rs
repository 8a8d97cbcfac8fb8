//! Encoding beside what the other tests cover: values that only operators
//! make, text, limits, refusals.

mod common;

use common::Rig;
use ringmain_base::Reason;
use ringmain_codec::{CsvEncodeOptions, EncodeError, EncodeOptions, Encoder, Framing};
use ringmain_slab::{Budget, Scalar, Scratch, SharedSchema, Slab};

fn rows(values: &[(&str, Scalar<'_>)]) -> (SharedSchema, Slab) {
    let schema = SharedSchema::new();
    let mut slab = Slab::new(64 << 10, &Budget::new(0));
    for (name, value) in values {
        let slot = schema.intern(name).unwrap();
        let mut scratch = Scratch::default();
        let version = schema.snapshot().version();
        let mut row = slab.build(version, version, &mut scratch);
        row.set(slot, *value);
        row.finish(0).unwrap();
    }
    (schema, slab)
}

fn encode_all(
    options: EncodeOptions,
    values: &[(&str, Scalar<'_>)],
) -> (String, Vec<(usize, EncodeError)>) {
    // The encoder is older than the fields.
    let schema = SharedSchema::new();
    let mut encoder = Encoder::new(options, schema.clone());
    let (_, slab) = rows(values);
    for (name, _) in values {
        schema.intern(name).unwrap();
    }
    let (mut out, mut refused) = (b"start|".to_vec(), Vec::new());
    let note = &mut |row, error| refused.push((row, error));
    let taken = encoder.encode_slab(&slab, 0, &mut out, usize::MAX, Framing::Newline, note);
    assert_eq!(taken, slab.len());
    (String::from_utf8(out).unwrap(), refused)
}

#[test]
fn json_refuses_what_it_cannot_express_and_goes_on() {
    let (out, refused) = encode_all(
        EncodeOptions::Json,
        &[
            ("a", Scalar::Float(f64::NAN)),
            ("b", Scalar::Float(1.5)),
            ("c", Scalar::Float(f64::NEG_INFINITY)),
            ("d", Scalar::Bytes(b"\xff\x00")),
            ("e", Scalar::Bytes("é".as_bytes())),
            ("f", Scalar::Absent),
        ],
    );
    assert_eq!(out, "start|{\"b\":1.5}\n{\"d\":\"/wA=\"}\n{\"e\":\"é\"}\n{}\n");
    assert_eq!(refused, [(0, EncodeError::NotFinite), (2, EncodeError::NotFinite)]);
    assert_eq!(EncodeError::NotFinite.reason(), Reason::Encode);
}

#[test]
fn text_is_the_message_as_it_is() {
    let (out, refused) = encode_all(
        EncodeOptions::Text,
        &[
            ("message", Scalar::Str("one\ttwo")),
            ("message", Scalar::Bytes(b"bytes")),
            ("message", Scalar::Int(5)),
            ("message", Scalar::Null),
            ("other", Scalar::Str("x")),
        ],
    );
    assert_eq!(out, "start|one\ttwo\nbytes\n5\n");
    assert_eq!(refused, [(3, EncodeError::NoMessage), (4, EncodeError::NoMessage)]);
}

#[test]
fn a_csv_record_of_one_empty_field_is_not_an_empty_line() {
    let options = CsvEncodeOptions { columns: vec!["a".to_owned()], delimiter: b',' };
    let values = [("a", Scalar::Int(1)), ("b", Scalar::Int(2)), ("a", Scalar::Str(""))];
    let (out, refused) = encode_all(EncodeOptions::Csv(options), &values);
    assert_eq!((&*out, &*refused), ("start|1\n\"\"\n\"\"\n", &[][..]));
}

#[test]
fn strings_of_every_length_and_character_are_escaped_where_needed() {
    let mut rig = Rig::json();
    let mut expected = Vec::new();
    for len in 0..70 {
        for special in ['x', '"', '\\', '\n', '\u{1}', 'é', '\u{7f}', '😀'] {
            for at in [0, len / 2, len] {
                let mut text = "0123456789".repeat(7)[..len].to_owned();
                text.insert(at, special);
                expected.push(serde_json::json!({ &*text: text }).to_string());
            }
        }
    }
    for line in &expected {
        // One name each; most go to the rest.
        rig.feed(format!("{line}\n").as_bytes());
    }
    rig.finish();
    assert_eq!(rig.outcome.refused, []);
    assert_eq!(rig.outcome.rows, expected);
}

#[test]
fn a_limit_is_passed_by_less_than_one_message() {
    let values = [("a", Scalar::Int(1)); 100];
    let (schema, slab) = rows(&values);
    let mut encoder = Encoder::new(EncodeOptions::Json, schema);
    let (mut from, mut calls) = (0, 0);
    while from < slab.len() {
        let mut out = Vec::new();
        let refused = &mut |_, error| panic!("{error}");
        let taken = encoder.encode_slab(&slab, from, &mut out, 20, Framing::Newline, refused);
        assert_eq!((taken, out.len()), if from < 99 { (3, 24) } else { (1, 8) });
        (from, calls) = (from + taken, calls + 1);
    }
    assert_eq!(calls, 34);
}

#[test]
fn a_message_larger_than_any_buffer_is_written_whole() {
    let mut rig = Rig::json();
    let line = format!("{{\"a\":\"{}\",\"b\":[{}0]}}", "\\n".repeat(60_000), "{},".repeat(9000));
    rig.feed(line.as_bytes());
    rig.finish();
    assert_eq!(rig.outcome.rows, [line]);
}
