//! Frames: a naive oracle for every framing, and that cutting a stream into
//! chunks changes nothing.

mod common;

use common::{Outcome, Refusal, Rig, run};
use proptest::prelude::*;
use ringmain_base::Reason;
use ringmain_codec::{
    CsvOptions, DecodeOptions, EncodeOptions, Encoder, Framing, HEAD_BYTES, Limits,
};

const FRAME_BYTES: u32 = 20;

fn json_text(bytes: &[u8]) -> String {
    serde_json::to_string(std::str::from_utf8(bytes).unwrap()).unwrap()
}

/// What text frames should become: the obvious program.
#[derive(Default)]
struct Oracle {
    out: Outcome,
}

impl Oracle {
    fn row(&mut self, frame: &[u8]) {
        self.out.rows.push(format!("{{\"message\":{}}}", json_text(frame)));
    }

    fn refuse(&mut self, reason: Reason, detail: String, column: usize, frame: &[u8]) {
        let offset = self.out.offset;
        let (column, frame) = (column as u32, frame.to_vec());
        self.out.refused.push(Refusal { reason, detail, offset, column, frame });
    }

    fn frame(&mut self, frame: &[u8]) {
        if frame.len() > FRAME_BYTES as usize {
            let detail = format!("{} bytes, frame_bytes is {FRAME_BYTES}", frame.len());
            self.refuse(Reason::TooLong, detail, FRAME_BYTES as usize, frame);
        } else {
            let line = frame.strip_suffix(b"\r").unwrap_or(frame);
            if line.iter().any(|b| !b" \t\r".contains(b)) {
                self.row(line);
            }
        }
    }
}

fn lines(stream: &[u8]) -> Outcome {
    let mut oracle = Oracle::default();
    let mut parts = stream.split(|b| *b == b'\n').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        oracle.frame(part);
        oracle.out.offset += part.len() as u64 + u64::from(!last);
    }
    oracle.out
}

fn prefixed(mut stream: &[u8], little: bool) -> Outcome {
    let mut oracle = Oracle::default();
    while !stream.is_empty() {
        let Some((prefix, rest)) = stream.split_first_chunk::<4>() else {
            oracle.refuse(Reason::Truncated, "the stream ends within a frame".into(), 0, &[]);
            oracle.out.offset += stream.len() as u64;
            break;
        };
        let len = if little { u32::from_le_bytes(*prefix) } else { u32::from_be_bytes(*prefix) };
        let got = &rest[..rest.len().min(len as usize)];
        let whole = got.len() == len as usize;
        let limit = FRAME_BYTES as usize;
        if len > FRAME_BYTES {
            let detail = match whole {
                true => format!("{len} bytes, frame_bytes is {limit}"),
                false => format!("{} of {len} bytes came, frame_bytes is {limit}", got.len()),
            };
            oracle.refuse(Reason::TooLong, detail, limit, got);
        } else if !whole {
            let detail = "the stream ends within a frame".to_owned();
            oracle.refuse(Reason::Truncated, detail, got.len(), got);
        } else if len > 0 {
            oracle.row(got);
        }
        oracle.out.offset += 4 + got.len() as u64;
        stream = &rest[got.len()..];
    }
    oracle.out
}

/// A prefix that promises an overlong frame and never sends it is reported
/// only when the stream ends, and not if nothing came behind it.
fn normalised(mut outcome: Outcome) -> Outcome {
    outcome.refused.retain(|r| !r.detail.starts_with("0 of "));
    outcome.refused.retain(|r| !(r.reason == Reason::Truncated && r.frame.is_empty()));
    outcome
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![usize::MAX]), Just(vec![1]), proptest::collection::vec(1usize..40, 1..6),]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn lines_are_what_splitting_at_line_feeds_gives(
        stream in "([ a-z]{0,9}(\r?\n)?|[é\r\n ]{0,3}|[a-z]{0,60}\n?){0,12}",
        cuts in cuts(),
    ) {
        let got = run(DecodeOptions::Text, Framing::Newline, FRAME_BYTES, stream.as_bytes(), &cuts);
        prop_assert_eq!(got, lines(stream.as_bytes()));
    }

    #[test]
    fn prefixed_frames_are_what_their_lengths_say(
        frames in proptest::collection::vec("[a-zé ]{0,30}", 0..8),
        little in any::<bool>(),
        cut_off in 0usize..50,
        cuts in cuts(),
    ) {
        let mut stream = Vec::new();
        for frame in &frames {
            let len = frame.len() as u32;
            stream.extend(if little { len.to_le_bytes() } else { len.to_be_bytes() });
            stream.extend(frame.as_bytes());
        }
        // Cut between characters, so that what is cut off is text.
        let mut end = stream.len().saturating_sub(if cut_off > 25 { 0 } else { cut_off });
        while end < stream.len() && stream[end] & 0xC0 == 0x80 { end -= 1; }
        stream.truncate(end);
        let framing = if little { Framing::U32Le } else { Framing::U32Be };
        let got = run(DecodeOptions::Text, framing, FRAME_BYTES, &stream, &cuts);
        prop_assert_eq!(normalised(got), normalised(prefixed(&stream, little)));
    }

    #[test]
    fn a_stream_of_json_is_the_same_however_it_is_cut(
        stream in "((\\{\"a\":[0-9]{1,3},\"b\":\"[a-zé]{0,12}\"\\}|\\{\"a\":[0-9\\[]{1,2}\\}|[\\[\\]{}\",:0-9 \r]{0,9}|[é]{0,30})\r?\n?){0,14}",
        broken in any::<(bool, usize)>(),
        cuts in cuts(),
        frame_bytes in prop_oneof![Just(1u32 << 20), 1u32..60],
    ) {
        let mut stream = stream.into_bytes();
        if let (true, false) = (broken.0, stream.is_empty()) {
            let at = broken.1 % stream.len();
            stream[at] = 0xff;
        }
        let whole = run(DecodeOptions::Json, Framing::Newline, frame_bytes, &stream, &[usize::MAX]);
        let cut = run(DecodeOptions::Json, Framing::Newline, frame_bytes, &stream, &cuts);
        prop_assert_eq!(whole.offset, stream.len() as u64);
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn a_stream_of_csv_is_the_same_however_it_is_cut(
        stream in "([a-c]{0,3}|\"|,|\r?\n|\"[a-c\n,]{0,4}\"|\u{e9}){0,40}",
        cuts in cuts(),
        frame_bytes in prop_oneof![Just(1u32 << 20), 1u32..30],
        header in any::<bool>(),
    ) {
        let options = || DecodeOptions::Csv(CsvOptions { header, ..CsvOptions::default() });
        let whole = run(options(), Framing::Newline, frame_bytes, stream.as_bytes(), &[usize::MAX]);
        let cut = run(options(), Framing::Newline, frame_bytes, stream.as_bytes(), &cuts);
        prop_assert_eq!(whole.offset, stream.len() as u64);
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn what_is_framed_is_read_back(
        texts in proptest::collection::vec("[a-z \"\\\\]{1,20}", 0..40),
        framing in prop_oneof![Just(Framing::Newline), Just(Framing::U32Be), Just(Framing::U32Le)],
        limit in 1usize..300,
    ) {
        let mut rig = Rig::json();
        for text in &texts {
            rig.feed(format!("{{\"t\":{}}}\n", json_text(text.as_bytes())).as_bytes());
        }
        let mut encoder = Encoder::new(EncodeOptions::Json, rig.schema.clone());
        let (mut bytes, mut from) = (Vec::new(), 0);
        while from < rig.slab.len() {
            let before = bytes.len();
            let refused = &mut |_, error| panic!("{error}");
            let taken = encoder.encode_slab(&rig.slab, from, &mut bytes, limit, framing, refused);
            prop_assert!(taken > 0 && bytes.len() - before < limit + 60);
            from += taken;
        }
        rig.finish();
        let again = run(DecodeOptions::Json, framing, 1 << 20, &bytes, &[7]);
        prop_assert_eq!(again.rows, rig.outcome.rows);
        prop_assert_eq!(again.refused, vec![]);
    }
}

#[test]
fn an_overlong_line_keeps_its_head_and_is_never_buffered() {
    let mut rig = Rig::new(DecodeOptions::Text, Framing::Newline, 10_000);
    rig.feed(b"before\n");
    let mut most = 0;
    for n in 0..1000 {
        rig.feed(&[b'a' + (n % 26) as u8; 1000]);
        most = most.max(rig.framer.carry_bytes());
    }
    assert!(most <= 10_000);
    assert_eq!(rig.framer.offset(), 7);
    rig.feed(b"\nafter\n");
    rig.finish();
    assert_eq!(rig.outcome.rows, ["{\"message\":\"before\"}", "{\"message\":\"after\"}"]);
    let refusal = &rig.outcome.refused[0];
    assert_eq!((refusal.reason, refusal.offset), (Reason::TooLong, 7));
    assert_eq!(refusal.detail, "1000000 bytes, frame_bytes is 10000");
    assert_eq!(refusal.frame.len(), HEAD_BYTES);
    assert_eq!((&refusal.frame[999..1001], rig.outcome.offset), (&b"ab"[..], 1_000_014));
}

#[test]
fn a_declared_length_costs_no_memory_until_bytes_come() {
    let mut rig = Rig::new(DecodeOptions::Bytes, Framing::U32Be, 64 << 20);
    rig.feed(&(64u32 << 20).to_be_bytes());
    rig.feed(b"abc");
    assert_eq!(rig.framer.carry_bytes(), 3);
    rig.finish();
    assert_eq!(rig.outcome.refused[0].reason, Reason::Truncated);
    assert_eq!(rig.outcome.refused[0].frame, b"abc");
}

#[test]
fn a_datagram_is_a_message() {
    let mut rig = Rig::new(DecodeOptions::Text, Framing::Whole, 10);
    for datagram in ["one", "", "two\n", "three and more"] {
        rig.feed(datagram.as_bytes());
    }
    rig.finish();
    assert_eq!(rig.outcome.rows, ["{\"message\":\"one\"}", "{\"message\":\"two\\n\"}"]);
    assert_eq!(rig.outcome.refused[0].detail, "14 bytes, frame_bytes is 10");
    assert_eq!((rig.outcome.refused[0].offset, rig.outcome.offset), (7, 21));
}

#[test]
fn text_that_is_not_utf_8_is_refused_and_bytes_are_not() {
    let stream = b"a\xffb\nc\n";
    let text = run(DecodeOptions::Text, Framing::Newline, 99, stream, &[9]);
    assert_eq!(text.rows, ["{\"message\":\"c\"}"]);
    assert_eq!(text.refused[0].detail, "invalid UTF-8 at byte 1");
    let bytes = run(DecodeOptions::Bytes, Framing::Newline, 99, stream, &[9]);
    assert_eq!(bytes.rows, ["{\"message\":\"Yf9i\"}", "{\"message\":\"c\"}"]);
}

#[test]
fn a_byte_order_mark_at_the_start_is_no_part_of_the_text() {
    let json = run(
        DecodeOptions::Json,
        Framing::Newline,
        99,
        b"\xEF\xBB\xBF{\"a\":1}\n{\"a\":2}\n",
        &[99],
    );
    assert_eq!((json.rows.len(), json.refused.len()), (2, 0));
    let later = run(DecodeOptions::Json, Framing::Newline, 99, b"{}\n\xEF\xBB\xBF{}\n", &[99]);
    assert_eq!((later.rows.len(), later.refused.len()), (1, 1));
}

#[test]
fn a_stream_is_resumed_where_its_first_unfinished_frame_begins() {
    let stream = b"{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n";
    for cut in 0..=stream.len() {
        let mut first = Rig::json();
        first.feed(&stream[..cut]);
        let offset = first.framer.offset();
        first.ship();
        let mut second = Rig::json();
        second.framer =
            ringmain_codec::Framer::resume_at(Framing::Newline, Limits::default(), offset);
        second.feed(&stream[offset as usize..]);
        second.finish();
        let rows = [first.outcome.rows, second.outcome.rows].concat();
        assert_eq!(rows, ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
        assert_eq!(second.outcome.offset, stream.len() as u64);
    }
}

#[test]
fn a_full_slab_loses_nothing_and_repeats_nothing() {
    for framing in [Framing::Newline, Framing::U32Be] {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        // Some rows are larger than the headroom, so that they are found not
        // to fit only after they were read.
        for n in 0..600 {
            let text = format!("{{\"n\":{n},\"s\":\"{}\"}}", "x".repeat(n * 37 % 3000));
            if framing == Framing::U32Be {
                stream.extend((text.len() as u32).to_be_bytes());
            }
            stream.extend(text.as_bytes());
            if framing == Framing::Newline {
                stream.push(b'\n');
            }
            expected.push(text);
        }
        for cut in [1, 100, 5000, usize::MAX] {
            let got = run(DecodeOptions::Json, framing, 1 << 20, &stream, &[cut]);
            assert_eq!(got.rows, expected);
            assert_eq!(got.offset, stream.len() as u64);
        }
    }
}

#[test]
fn a_full_slab_loses_no_csv_record() {
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    for n in 0..300 {
        let text = "x\n".repeat(n * 37 % 1500);
        stream.extend(format!("{n},\"{text}\"\n").as_bytes());
        let text = if text.is_empty() {
            String::new()
        } else {
            format!(",\"c2\":{}", json_text(text.as_bytes()))
        };
        expected.push(format!("{{\"c1\":{n}{text}}}"));
    }
    let csv = || DecodeOptions::Csv(CsvOptions { header: false, ..CsvOptions::default() });
    for cut in [7, 100, 5000, usize::MAX] {
        let got = run(csv(), Framing::Newline, 1 << 20, &stream, &[cut]);
        assert_eq!(got.rows, expected);
        assert_eq!((got.offset, got.refused.len()), (stream.len() as u64, 0));
    }
}
