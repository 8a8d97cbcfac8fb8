//! One test for each rule of decoding and encoding JSON.

mod common;

use common::{Rig, run};
use ringmain_base::Reason;
use ringmain_base::limits::SLOTS_MAX;
use ringmain_codec::{DecodeOptions, Framing};
use ringmain_slab::ValueRef;

/// Decodes and encodes each line twice: the second time over a prediction.
fn check(text: &str, expected: &str) {
    let mut rig = Rig::json();
    for _ in 0..4 {
        rig.feed(text.as_bytes());
        rig.feed(b"\n");
    }
    rig.finish();
    assert_eq!(rig.outcome.refused, [], "{text}");
    assert_eq!(rig.outcome.rows, [expected; 4], "{text}");
}

fn refused(text: &str, detail: &str) {
    let mut rig = Rig::json();
    rig.feed(b"{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":\"y\"}\n");
    rig.feed(text.as_bytes());
    rig.feed(b"\n{\"a\":3,\"b\":\"z\"}\n");
    rig.finish();
    assert_eq!(rig.outcome.rows.len(), 3, "{text}: {:?}", rig.outcome.rows);
    let refusal = &rig.outcome.refused[0];
    assert_eq!((refusal.reason, &*refusal.detail), (Reason::Decode, detail), "{text}");
    assert_eq!(refusal.frame, text.as_bytes());
    assert_eq!(refusal.offset, 32);
    assert_eq!(rig.schema.snapshot().version(), 2, "{text}: garbage got a slot");
}

#[test]
fn every_kind_of_value_comes_back() {
    for text in [
        r#"{"a":1,"b":-2.5,"c":"x","d":true,"e":false,"f":null}"#,
        r#"{"a":[],"b":{},"c":[1,[2,{"d":[null]}],"x"],"e":{"f":{"g":1.5}}}"#,
        r#"{"a":9223372036854775807,"b":-9223372036854775808}"#,
        r#"{"a":9223372036854775808,"b":[123456789012345678901234567890],"c":1e400}"#,
        r#"{"a":"\"\\\b\f\n\r\t\u0001é€😀"}"#,
        r#"{"":1,"a b":2,"é":3}"#,
        "{}",
    ] {
        check(text, text);
    }
}

#[test]
fn numbers_are_written_by_their_shortest_text() {
    check(
        r#"{"a":1.50,"b":1e2,"c":-0,"d":-0.0,"e":1E-7}"#,
        r#"{"a":1.5,"b":100.0,"c":-0.0,"d":-0.0,"e":1e-7}"#,
    );
    check(r#"{"a":0.1000000000000000055511151231257827}"#, r#"{"a":0.1}"#);
}

#[test]
fn white_space_and_escapes_are_normalised() {
    check(
        " {\t\"a\" : 1 ,\r\"\\u0062\":[ 1 , 2 ] , \"c\" : \"\\u00e9\\/\" } ",
        r#"{"a":1,"b":[1,2],"c":"é/"}"#,
    );
    check("{ }", "{}");
}

#[test]
fn the_last_of_equal_names_wins() {
    check(r#"{"a":1,"b":2,"a":"three"}"#, r#"{"a":"three","b":2}"#);
    check(r#"{"a":1,"\u0061":[2]}"#, r#"{"a":[2]}"#);
}

#[test]
fn the_last_of_equal_nested_names_is_the_one_that_is_found() {
    let mut rig = Rig::json();
    rig.feed(b"{\"a\":{\"b\":1,\"c\":2,\"b\":3}}\n");
    let ValueRef::Map(map) = rig.slab.row(0).get(0) else { panic!("a map") };
    assert!(matches!(map.get("b"), ValueRef::Int(3)));
    rig.finish();
    assert_eq!(rig.outcome.rows, [r#"{"a":{"b":1,"c":2,"b":3}}"#]);
}

#[test]
fn what_is_not_an_object_is_written_back_bare() {
    for text in
        ["1", "\"x\"", "[1,2]", "null", "true", "-1.5", "[]", "18446744073709551616", "\"a\\n\""]
    {
        check(text, text);
    }
    check(r#"{"value":1}"#, r#"{"value":1}"#);
}

#[test]
fn a_bare_value_with_other_fields_becomes_an_object() {
    let mut rig = Rig::json();
    rig.feed(b"7\n{\"value\":1,\"x\":2}\n8\n");
    rig.slab.edit(0).set(1, ringmain_slab::Scalar::Bool(true)).unwrap();
    rig.finish();
    assert_eq!(rig.outcome.rows, [r#"{"value":7,"x":true}"#, r#"{"value":1,"x":2}"#, "8"]);
}

#[test]
fn fields_come_in_the_order_of_their_slots() {
    let mut rig = Rig::json();
    rig.feed(b"{\"a\":1,\"b\":2}\n{\"b\":3,\"a\":4}\n{\"c\":5}\n{\"c\":6,\"a\":7}\n");
    rig.finish();
    assert_eq!(
        rig.outcome.rows,
        [r#"{"a":1,"b":2}"#, r#"{"a":4,"b":3}"#, r#"{"c":5}"#, r#"{"a":7,"c":6}"#]
    );
}

#[test]
fn a_refusal_says_what_and_where() {
    for (text, detail) in [
        (r#"{"a":1,"b":"x""#, "expected ',' or '}' at byte 14"),
        (r#"{"a":1,"b":"x"]"#, "expected ',' or '}' at byte 14"),
        (r#"{"a":1,"b":"x"}x"#, "something follows the value at byte 15"),
        (r#"{"a":1,"b":"x"},"#, "something follows the value at byte 15"),
        (r#"{"a":01}"#, "a leading zero at byte 5"),
        (r#"{"a":1.}"#, "expected a digit at byte 7"),
        (r#"{"a":1,}"#, "expected a name in quotes at byte 7"),
        (r#"{"a" 1}"#, "expected ':' at byte 5"),
        (r#"{"a":}"#, "expected a value at byte 5"),
        (r#"{"a":nul}"#, "expected a value at byte 5"),
        (r#"{"a":"\ud800"}"#, "an unpaired surrogate at byte 6"),
        (r#"{"a":"x"#, "the string does not end at byte 7"),
        ("{\"a\":\"\t\"}", "a control character in a string at byte 6"),
        (r#"{"new":1,"b":[1,2}"#, "expected ',' or ']' at byte 17"),
        (r#"{"new":{"x":1,"y"}}"#, "expected ':' at byte 17"),
        (r#"nope"#, "expected a value at byte 0"),
        ("[1,2", "expected ',' or ']' at byte 4"),
    ] {
        refused(text, detail);
    }
}

#[test]
fn invalid_utf_8_is_refused_and_the_lines_around_it_are_not() {
    let mut rig = Rig::json();
    rig.feed(b"{\"a\":\"x\"}\n{\"a\":\"\xff\"}\n{\"a\":\"y\xc3\xa9\"}\n{\"a\xc3\":1}\n{\"a\":1}\n");
    rig.finish();
    assert_eq!(rig.outcome.rows, ["{\"a\":\"x\"}", "{\"a\":\"y\u{e9}\"}", "{\"a\":1}"]);
    let details: Vec<_> = rig.outcome.refused.iter().map(|r| (&*r.detail, r.offset)).collect();
    assert_eq!(details, [("invalid UTF-8 at byte 6", 10), ("invalid UTF-8 at byte 3", 32)]);
}

#[test]
fn nesting_is_bounded_and_what_is_within_comes_back() {
    let nested = |open: &str, close: &str, n: usize| open.repeat(n) + &close.repeat(n);
    check(&nested("[", "]", 128), &nested("[", "]", 128));
    let within = format!("{{\"a\":{}}}", nested("[", "]", 127));
    check(&within, &within);
    let within = nested("{\"a\":", "}", 127).replace("{\"a\":}", "{\"a\":{}}");
    check(&within, &within);
    for beyond in [nested("[", "]", 129), format!("{{\"a\":{}}}", nested("[", "]", 128))] {
        let out = run(DecodeOptions::Json, Framing::Newline, 1 << 20, beyond.as_bytes(), &[9999]);
        assert!(out.refused[0].detail.starts_with("nested deeper than 128"), "{:?}", out.refused);
    }
}

#[test]
fn fields_beyond_the_slots_are_kept_in_order() {
    let total = usize::from(SLOTS_MAX) + 20;
    let field = |n: usize, v: &str| format!("\"f{n}\":{v}");
    let all: Vec<_> = (0..total).map(|n| field(n, &format!("[{n},\"é\\n\"]"))).collect();
    let text = format!("{{{}}}", all.join(","));
    check(&text, &text);
    let mut rig = Rig::json();
    rig.feed(format!("{text}\n{{\"f1\":1,\"f70\":2,\"f71\":{{}},\"f70\":3}}\n5\n").as_bytes());
    rig.finish();
    assert_eq!(rig.outcome.rows[1..], [r#"{"f1":1,"f71":{},"f70":3}"#, "5"]);
}

#[test]
fn names_too_long_for_a_slot_are_kept() {
    let long = "n".repeat(2000);
    let text = format!("{{\"a\":1,\"{long}\":2,\"b\":{{\"{long}\":3}}}}");
    let expected = format!("{{\"a\":1,\"b\":{{\"{long}\":3}},\"{long}\":2}}");
    check(&text, &expected);
}

#[test]
fn a_row_larger_than_the_slab_grows_it() {
    let big = format!("{{\"a\":\"{}\",\"b\":[{}1]}}", "x".repeat(20_000), "1,".repeat(5_000));
    let mut rig = Rig::json();
    for _ in 0..3 {
        rig.feed(format!("{{\"a\":1}}\n{big}\n").as_bytes());
    }
    rig.finish();
    let (small, big) = ("{\"a\":1}", &*big);
    assert_eq!(rig.outcome.rows, [small, big, small, big, small, big]);
}

#[test]
fn a_row_beyond_the_budget_is_refused_and_the_next_is_not() {
    let mut rig = Rig::json();
    rig.slab = ringmain_slab::Slab::new(4096, &ringmain_slab::Budget::new(8192));
    rig.feed(
        format!("{{\"a\":1}}\n{{\"a\":\"{}\"}}\n{{\"a\":2}}\n", "x".repeat(20_000)).as_bytes(),
    );
    rig.finish();
    assert_eq!(rig.outcome.rows, ["{\"a\":1}", "{\"a\":2}"]);
    assert_eq!(rig.outcome.refused[0].reason, Reason::Memory);
}

#[test]
fn rows_of_a_stream_that_changes_its_order_are_all_right() {
    let mut rig = Rig::json();
    let mut expected = Vec::new();
    for n in 0..500 {
        let (a, b, c) = (format!("\"a\":{n}"), format!("\"b\":\"{n}\""), format!("\"c\":{n}.5"));
        let text = match n / 7 % 5 {
            0 => format!("{{{a},{b},{c}}}"),
            1 => format!("{{{c},{b},{a}}}"),
            2 => format!("{{{a}, {b}, {c}}}"),
            3 => format!("{{{b},{c},{a},{b}}}"),
            _ => format!("{{{a},{c},{b}}}\r"),
        };
        rig.feed(text.as_bytes());
        rig.feed(b"\n");
        expected.push(format!("{{{a},{b},{c}}}"));
    }
    rig.finish();
    assert_eq!(rig.outcome.rows, expected);
}

#[test]
fn values_are_of_the_right_kind() {
    let mut rig = Rig::json();
    rig.feed(b"{\"i\":1,\"f\":1.0,\"n\":18446744073709551615,\"s\":\"1\",\"z\":null}\n");
    let row = rig.slab.row(0);
    assert!(matches!(row.get(0), ValueRef::Int(1)));
    assert!(matches!(row.get(1), ValueRef::Float(1.0)));
    assert!(matches!(row.get(2), ValueRef::Number("18446744073709551615")));
    assert!(matches!(row.get(3), ValueRef::Str("1")));
    assert!(matches!(row.get(4), ValueRef::Null));
}

/// Every short sequence of pieces that shapes are made of, between records
/// that keep the shapes learned: accepted exactly if `serde_json` accepts it.
#[test]
fn a_prediction_excuses_no_mistake() {
    let pieces = ["{\"a\":", ",\"b\":", ",\"c\":", "1", "}", "{\"b\":", "\"x\"", " "];
    let warm = ["{\"a\":1,\"b\":2}", "{\"b\":1,\"c\":\"x\"}", "{\"a\":1,\"c\":2}", "{\"d\":1}"];
    let mut rig = Rig::json();
    for line in warm.iter().cycle().take(40) {
        rig.feed(format!("{line}\n").as_bytes());
    }
    rig.ship();
    rig.outcome.rows.clear();
    let mut accepted = 0;
    for number in 0..8usize.pow(5) {
        let line: String = (0..5).map(|at| pieces[number >> (3 * at) & 7]).collect();
        let warm = warm[number % 4];
        rig.feed(format!("{line}\n{warm}\n{warm}\n").as_bytes());
        rig.ship();
        let sound = serde_json::from_str::<serde_json::Value>(&line).is_ok();
        let rows = rig.outcome.rows.drain(..).count();
        assert_eq!(rows, if sound { 3 } else { 2 }, "{line}");
        let refused = usize::from(!sound && !line.trim().is_empty());
        assert_eq!(rig.outcome.refused.drain(..).count(), refused, "{line}");
        accepted += usize::from(sound);
    }
    assert!(accepted > 50, "{accepted}");
}

#[test]
fn a_first_field_that_no_shape_has_excuses_no_mistake() {
    let mut rig = Rig::json();
    // The second record comes too soon after the first to be learned.
    rig.feed(b"{\"a\":1}\n{\"c\":1}\n{\"a\":1}\n{\"c\":1{\"a\":2}\n");
    rig.finish();
    assert_eq!((rig.outcome.rows.len(), rig.outcome.refused.len()), (3, 1));
}

#[test]
fn a_first_field_without_a_slot_excuses_no_mistake() {
    let long = "n".repeat(2000);
    let mut rig = Rig::json();
    for _ in 0..5 {
        rig.feed(format!("{{\"{long}\":1,\"b\":2}}\n").as_bytes());
    }
    rig.feed(b",\"b\":2}\n");
    rig.finish();
    assert_eq!((rig.outcome.rows.len(), rig.outcome.refused.len()), (5, 1));
}
