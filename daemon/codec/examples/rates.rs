//! Nanoseconds per line of decoding and encoding JSON, beside `serde_json` in
//! the same run: absolute figures move with the machine, ratios do not.
//!
//! usage: cargo run --release --example rates [LINES [ROUNDS [INPUT]]]

use std::hint::black_box;
use std::time::Instant;

use ringmain_base::{Prng, Xoshiro};
use ringmain_codec::{DecodeOptions, Decoder, EncodeOptions, Encoder, Framer, Framing, Limits};
use ringmain_slab::{Budget, SharedSchema, Slab};

const CHUNK_BYTES: usize = 64 << 10;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: usize| args.get(at).map_or(or, |n| n.parse().expect("a number"));
    run(number(0, 20_000), number(1, 15), args.get(2).map(String::as_str));
}

/// Measures every input, or only the one of that name.
pub fn run(lines: usize, rounds: usize, only: Option<&str>) {
    println!("ns per line, fastest of {rounds} rounds; serde_json::Value in brackets");
    for (name, input) in [
        ("sensors", sensors(lines, false, ",", ":")),
        ("spaced", sensors(lines, false, ", ", ": ")),
        ("mixed", mixed(lines)),
        ("shuffled", sensors(lines, true, ",", ":")),
        ("nested", nested(lines)),
    ] {
        if only.is_none_or(|only| only == name) {
            compare(name, &input, lines, rounds);
        }
    }
}

fn compare(name: &str, input: &[u8], lines: usize, rounds: usize) {
    let schema = SharedSchema::new();
    let mut slabs = Vec::new();
    decode(input, &schema, &mut |slab| {
        slabs.push(std::mem::replace(slab, new_slab()));
    });
    let values: Vec<serde_json::Value> = serde_lines(input).collect();
    let mut best = [f64::MAX; 5];
    for _ in 0..rounds {
        let runs: [&dyn Fn() -> usize; 5] = [
            &|| decode(input, &schema, &mut |_| {}),
            &|| encode(&slabs, &schema),
            &|| both(input, &schema),
            &|| serde_lines(input).filter(serde_json::Value::is_object).count(),
            &|| serde_out(&values),
        ];
        for (run, best) in runs.into_iter().zip(&mut best) {
            *best = best.min(time(lines, run));
        }
    }
    let [decode, encode, both, serde_in, serde_out] = best;
    println!(
        "{name:<9} {:>3} B: decode {decode:>5.1} [{serde_in:>6.1}, x{:.1}]  encode {encode:>5.1} \
         [{serde_out:>6.1}, x{:.1}]  both {both:>5.1} [{:>6.1}, x{:.1}]",
        input.len() / lines,
        serde_in / decode,
        serde_out / encode,
        serde_in + serde_out,
        (serde_in + serde_out) / both,
    );
}

/// Noise only ever adds, so the fastest of some rounds is taken.
fn time(lines: usize, run: &dyn Fn() -> usize) -> f64 {
    let start = Instant::now();
    black_box(run());
    start.elapsed().as_nanos() as f64 / lines as f64
}

fn new_slab() -> Slab {
    Slab::new(64 << 10, &Budget::new(1 << 26))
}

fn decode(input: &[u8], schema: &SharedSchema, ship: &mut dyn FnMut(&mut Slab)) -> usize {
    let mut decoder = Decoder::new(DecodeOptions::Json, schema.clone());
    let mut framer = Framer::new(Framing::Newline, Limits::default());
    let mut slab = new_slab();
    let mut rows = 0;
    for chunk in input.chunks(CHUNK_BYTES) {
        let mut at = 0;
        loop {
            let refuse = &mut |r: ringmain_codec::Refused<'_>| panic!("refused: {r:?}");
            let progress = decoder.feed(&mut framer, &chunk[at..], &mut slab, 0, refuse);
            at += progress.consumed;
            rows += slab.len();
            ship(&mut slab);
            slab.clear();
            if !progress.full {
                break;
            }
        }
    }
    rows
}

fn encode(slabs: &[Slab], schema: &SharedSchema) -> usize {
    let mut encoder = Encoder::new(EncodeOptions::Json, schema.clone());
    let mut out = Vec::new();
    slabs.iter().map(|slab| encode_slab(&mut encoder, slab, &mut out)).sum()
}

fn encode_slab(encoder: &mut Encoder, slab: &Slab, out: &mut Vec<u8>) -> usize {
    out.clear();
    let refuse = &mut |_, error| panic!("not encoded: {error}");
    encoder.encode_slab(slab, 0, out, usize::MAX, Framing::Newline, refuse);
    out.len()
}

fn both(input: &[u8], schema: &SharedSchema) -> usize {
    let mut encoder = Encoder::new(EncodeOptions::Json, schema.clone());
    let mut out = Vec::new();
    let mut bytes = 0;
    decode(input, schema, &mut |slab| bytes += encode_slab(&mut encoder, slab, &mut out));
    bytes
}

fn serde_lines(input: &[u8]) -> impl Iterator<Item = serde_json::Value> {
    let lines = input.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("valid JSON"))
}

fn serde_out(values: &[serde_json::Value]) -> usize {
    let mut out = Vec::new();
    let mut bytes = 0;
    for values in values.chunks(600) {
        out.clear();
        for value in values {
            serde_json::to_writer(&mut out, value).expect("values can be written");
            out.push(b'\n');
        }
        bytes += out.len();
    }
    bytes
}

fn sensors(lines: usize, shuffled: bool, comma: &str, colon: &str) -> Vec<u8> {
    let mut rng = Xoshiro::new(7);
    let mut ts = 1_732_270_000_000u64;
    let mut out = String::new();
    for _ in 0..lines {
        ts += rng.below(4);
        let field = |name: &str, value: String| format!("\"{name}\"{colon}{value}");
        let mut fields = [
            field("ts", ts.to_string()),
            field("device", format!("\"motor-{:04}\"", rng.below(1000))),
            field("plant", format!("\"plant-{}\"", rng.below(10))),
            field("rpm", format!("{:.1}", 40.0 + 120.0 * rng.unit_f64())),
            field("temp", format!("{:.2}", 20.0 + 90.0 * rng.unit_f64())),
            field("status", if rng.below(4) == 0 { "\"warn\"" } else { "\"ok\"" }.to_owned()),
        ];
        if shuffled {
            for at in (1..fields.len()).rev() {
                fields.swap(at, rng.below(at as u64 + 1) as usize);
            }
        }
        out.push('{');
        out.push_str(&fields.join(comma));
        out.push_str("}\n");
    }
    out.into_bytes()
}

/// Three kinds of records, one of which lacks a field now and then.
fn mixed(lines: usize) -> Vec<u8> {
    let mut rng = Xoshiro::new(9);
    let mut out = String::new();
    for n in 0..lines {
        let (id, value) = (rng.below(1000), rng.below(100_000) as f64 / 100.0);
        out.push_str(&match rng.below(4) {
            0 => format!("{{\"ts\":{n},\"door\":\"d-{id}\",\"open\":{},\"by\":\"badge-{id}\"}}", id % 2 == 0),
            1 => format!("{{\"ts\":{n},\"meter\":\"m-{id}\",\"kwh\":{value},\"phase\":{}}}", id % 3),
            2 => format!("{{\"ts\":{n},\"motor\":\"e-{id}\",\"rpm\":{value},\"temp\":{id}.5,\"status\":\"ok\"}}"),
            _ => format!("{{\"ts\":{n},\"motor\":\"e-{id}\",\"rpm\":{value},\"status\":\"ok\"}}"),
        });
        out.push('\n');
    }
    out.into_bytes()
}

fn nested(lines: usize) -> Vec<u8> {
    let mut rng = Xoshiro::new(8);
    let mut out = String::new();
    for n in 0..lines {
        out.push_str(&format!(
            "{{\"id\":{n},\"user\":{{\"name\":\"u{}\",\"tags\":[\"a\",\"b\",{}]}},\"text\":\"line \\\"{}\\\" end\"}}\n",
            rng.below(1000),
            rng.below(10),
            rng.below(100)
        ));
    }
    out.into_bytes()
}
