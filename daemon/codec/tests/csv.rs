//! CSV: its rules one by one, csv-core as the oracle of well-formed records,
//! and what is written is read back.

mod common;

use common::{Rig, run};
use proptest::prelude::*;
use ringmain_codec::{
    CsvEncodeOptions, CsvOptions, CsvTypes, DecodeOptions, EncodeOptions, Encoder, Framing,
};

fn options(header: bool, columns: &[&str]) -> DecodeOptions {
    let columns = columns.iter().map(|name| (*name).to_owned()).collect();
    DecodeOptions::Csv(CsvOptions { header, columns, ..CsvOptions::default() })
}

fn rows(options: DecodeOptions, text: &str) -> Vec<String> {
    let out = run(options, Framing::Newline, 1 << 20, text.as_bytes(), &[usize::MAX]);
    assert_eq!(out.refused, [], "{text:?}");
    out.rows
}

#[test]
fn the_header_names_the_fields() {
    let text = "\u{feff}a,\"b c\"\r\n1,x\r\n\r\n2.5,\"y,\"\"z\"\"\nw\"\r\n,\n";
    let want = [r#"{"a":1,"b c":"x"}"#, r#"{"a":2.5,"b c":"y,\"z\"\nw"}"#, "{}"];
    assert_eq!(rows(options(true, &[]), text), want);
}

#[test]
fn configured_columns_go_before_the_header() {
    let want = [r#"{"x":1,"y":2}"#];
    assert_eq!(rows(options(true, &["x", "y"]), "a,b\n1,2\n"), want);
    assert_eq!(rows(options(false, &["x", "y"]), "1,2\n"), want);
    assert_eq!(rows(options(false, &[]), "1,2\n"), [r#"{"c1":1,"c2":2}"#]);
}

#[test]
fn numbers_become_numbers_and_what_may_be_a_code_stays_text() {
    let text = "7,-1.5,0.001,07,1.50,1e3,+1,-0,1.0,99999999999999999999,true,\"3\", 4\n";
    let want = concat!(
        r#"{"c1":7,"c2":-1.5,"c3":0.001,"c4":"07","c5":1.5,"c6":"1e3","c7":"+1","c8":"-0","#,
        r#""c9":1.0,"c10":"99999999999999999999","c11":"true","c12":3,"c13":" 4"}"#
    );
    assert_eq!(rows(options(false, &[]), text), [want]);
    let text_only = CsvOptions { header: false, types: CsvTypes::Text, ..CsvOptions::default() };
    assert_eq!(rows(DecodeOptions::Csv(text_only), "7\n"), [r#"{"c1":"7"}"#]);
}

#[test]
fn a_record_that_does_not_fit_is_refused_and_the_next_is_not() {
    let text = b"a,b\n1\n1,2,3\n\"x\"y,1\nx\"y,1\n\xff,1\n1,\"open\n";
    let out = run(options(true, &[]), Framing::Newline, 1 << 20, text, &[usize::MAX]);
    assert_eq!(out.rows, [r#"{"a":"x\"y","b":1}"#]);
    let details: Vec<_> = out.refused.iter().map(|r| &*r.detail).collect();
    assert_eq!(
        details,
        [
            "fewer fields than columns at byte 1",
            "more fields than columns at byte 2",
            "something follows a closing quote at byte 3",
            "invalid UTF-8 at byte 0",
            "a quoted field does not end at byte 2",
        ]
    );
}

#[test]
fn an_open_quote_stops_at_the_frame_limit() {
    let text = format!("a\n\"{}\nnext\n{}\nlast\n", "x".repeat(30), "y".repeat(30));
    let out = run(options(true, &[]), Framing::Newline, 40, text.as_bytes(), &[3]);
    assert_eq!(out.refused.len(), 1);
    assert_eq!(out.refused[0].detail, "67 bytes, frame_bytes is 40");
    assert_eq!(out.rows, [r#"{"a":"last"}"#]);
}

#[test]
fn a_resumed_stream_needs_its_header_read_again() {
    let mut rig = Rig::new(options(true, &[]), Framing::Newline, 1 << 20);
    assert!(!rig.decoder.read_header(&mut rig.framer, b"a,b"));
    assert!(rig.decoder.read_header(&mut rig.framer, "\u{feff}a,b\r\n1,2\n".as_bytes()));
    rig.feed(b"3,4\n");
    rig.finish();
    assert_eq!(rig.outcome.rows, [r#"{"a":3,"b":4}"#]);
}

#[test]
fn columns_beyond_the_slots_are_kept() {
    let names: Vec<_> = (0..80).map(|n| format!("n{n}")).collect();
    let values: Vec<_> = (0..80).map(|n| n.to_string()).collect();
    let text = format!("{}\n{}\n", names.join(","), values.join(","));
    let want: Vec<_> = names.iter().zip(&values).map(|(n, v)| format!("\"{n}\":{v}")).collect();
    assert_eq!(rows(options(true, &[]), &text), [format!("{{{}}}", want.join(","))]);
}

#[test]
fn fields_are_quoted_only_where_needed() {
    let mut rig = Rig::json();
    rig.feed(br#"{"a":"x;y","b":1.50,"c":"say \"hi\"\n","d":{"k":[1,null]},"e":null,"f":true}"#);
    rig.feed(b"\n{\"z\":1}\n");
    let columns = ["d", "a", "b", "c", "e", "f", "none"].map(str::to_owned).to_vec();
    let csv = CsvEncodeOptions { columns, delimiter: b';' };
    let mut encoder = Encoder::new(EncodeOptions::Csv(csv), rig.schema.clone());
    assert_eq!(encoder.header(), b"d;a;b;c;e;f;none\n");
    let mut out = Vec::new();
    let refused = &mut |_, error| panic!("{error}");
    encoder.encode_slab(&rig.slab, 0, &mut out, 9999, Framing::Newline, refused);
    let want = "\"{\"\"k\"\":[1,null]}\";\"x;y\";1.5;\"say \"\"hi\"\"\n\";;true;\n;;;;;;\n";
    assert_eq!(String::from_utf8(out).unwrap(), want);
}

/// Records as csv-core reads them.
fn oracle(mut input: &[u8]) -> Vec<Vec<String>> {
    let mut reader =
        csv_core::ReaderBuilder::new().terminator(csv_core::Terminator::Any(b'\n')).build();
    let (mut records, mut ends, mut text) = (Vec::new(), [0; 64], [0; 4096]);
    let (mut used, mut fields) = (0, 0);
    loop {
        let (result, read, wrote, ended) =
            reader.read_record(input, &mut text[used..], &mut ends[fields..]);
        input = &input[read..];
        used += wrote;
        fields += ended;
        match result {
            csv_core::ReadRecordResult::Record => {
                let starts = [0].into_iter().chain(ends.iter().copied());
                let spans = starts.zip(&ends[..fields]);
                records.push(
                    spans
                        .map(|(from, to)| String::from_utf8(text[from..*to].to_vec()).unwrap())
                        .collect(),
                );
                (used, fields) = (0, 0);
            }
            csv_core::ReadRecordResult::End => return records,
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn sound_records_are_what_csv_core_reads(
        records in proptest::collection::vec(
            proptest::collection::vec("[a-z]{0,6}|\"([a-z,\n]|\"\"){0,8}\"|[a-z][a-z\"]{0,4}", 3), 1..12),
        cut in 1usize..30,
    ) {
        let lines: Vec<_> = records.iter().map(|fields| fields.join(",") + "\n").collect();
        let text = lines.concat();
        let got = run(options(false, &[]), Framing::Newline, 1 << 20, text.as_bytes(), &[cut]);
        prop_assert_eq!(&got.refused, &[]);
        let want: Vec<serde_json::Value> = oracle(text.as_bytes())
            .into_iter()
            .map(|fields| {
                let named = fields.into_iter().enumerate().filter(|(_, text)| !text.is_empty());
                named.map(|(at, text)| (format!("c{}", at + 1), serde_json::Value::from(text))).collect()
            })
            .collect();
        let got: Vec<serde_json::Value> =
            got.rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn what_is_written_is_read_back(
        values in proptest::collection::vec(proptest::collection::vec(".{0,9}|[\",\r\n a-c]{0,6}", 2), 1..9),
    ) {
        let mut rig = Rig::json();
        for pair in &values {
            let (a, b) = (serde_json::Value::from(&*pair[0]), serde_json::Value::from(&*pair[1]));
            rig.feed(format!("{{\"a\":{a},\"b\":{b}}}\n").as_bytes());
        }
        let csv = CsvEncodeOptions { columns: vec!["a".into(), "b".into()], delimiter: b',' };
        let mut encoder = Encoder::new(EncodeOptions::Csv(csv), rig.schema.clone());
        let mut out = encoder.header().to_vec();
        let refused = &mut |_, error| panic!("{error}");
        encoder.encode_slab(&rig.slab, 0, &mut out, 1 << 20, Framing::Newline, refused);
        let text_only = CsvOptions { types: CsvTypes::Text, ..CsvOptions::default() };
        let got = run(DecodeOptions::Csv(text_only), Framing::Newline, 1 << 20, &out, &[13]);
        prop_assert_eq!(&got.refused, &[]);
        rig.finish();
        // Empty fields are absent when they are read again.
        let want: Vec<_> = rig.outcome.rows.iter().map(|row| {
            let mut row: serde_json::Map<_, _> = serde_json::from_str(row).unwrap();
            row.retain(|_, value| *value != "");
            serde_json::Value::Object(row)
        }).collect();
        let got: Vec<serde_json::Value> =
            got.rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        prop_assert_eq!(got, want);
    }
}
