//! JSON in, JSON out, and both, beside `serde_json` with a struct made for
//! these very lines: the fastest that it can be.
//!
//! Input and output are memory that stays in the second cache; framing is
//! included on both sides. Measured against: what the prototypes reached on
//! this class of machine, and the rival in the same round.

use ringmain_slab::Slab;

use super::Round;
use crate::measure::{Amount, Env, Timed, Wrong, laps, on_core, verify};
use crate::report::Figure;
use crate::scenario::codec::{Reader, Writer};
use crate::sensors::{Expected, Sensor, Tally, lines, split};

/// About 850 KB.
const LINES: u64 = 8_192;

/// Million lines per second that the prototypes reached.
const DECODE_M_PER_S: f64 = 18.4;
const ENCODE_M_PER_S: f64 = 18.6;
/// The sum of the two.
const BOTH_M_PER_S: f64 = 9.25;

#[derive(Clone, Copy)]
enum What {
    Decode,
    Encode,
    Both,
}

pub(super) fn prepare_decode(_: &Env) -> Result<Round, Wrong> {
    Ok(prepare(What::Decode, DECODE_M_PER_S))
}

pub(super) fn prepare_encode(_: &Env) -> Result<Round, Wrong> {
    Ok(prepare(What::Encode, ENCODE_M_PER_S))
}

pub(super) fn prepare_both(_: &Env) -> Result<Round, Wrong> {
    Ok(prepare(What::Both, BOTH_M_PER_S))
}

fn prepare(what: What, bound: f64) -> Round {
    let (text, expected) = lines(LINES);
    Box::new(move |env| {
        let core = env.cores.first().copied();
        let input = Input { text: &text, expected };
        let (ours, rival) = on_core(core, || -> Result<_, Wrong> {
            Ok((input.ours(what, env.amount)?, input.rival(what, env.amount)?))
        })?;
        let hash = expected.all.ordered;
        Ok(vec![
            Figure::rate("Ringmain, rows", ours.rate()).prototype(bound).proof(ours.messages, hash),
            Figure::rate("serde_json, typed", rival.rate()).proof(rival.messages, hash),
            Figure::new("  Ringmain / serde_json", ours.rate() / rival.rate(), "x"),
        ])
    })
}

struct Input<'a> {
    text: &'a [u8],
    expected: Expected,
}

impl Input<'_> {
    fn ours(&self, what: What, amount: Amount) -> Result<Timed, Wrong> {
        let mut reader = Reader::new();
        let mut writer = Writer::new(reader.schema());
        let slabs = self.slabs(&mut reader)?;
        match what {
            What::Decode => laps(amount, || {
                let mut rows = 0;
                reader.read(self.text, |slab| rows += slab.len() as u64)?;
                verify("rows", rows, LINES)?;
                Ok(rows)
            }),
            What::Encode => laps(amount, || {
                let mut rows = 0;
                for slab in &slabs {
                    rows += writer.write(slab)?.0;
                }
                Ok(rows)
            }),
            What::Both => laps(amount, || {
                let mut written = Ok((0, 0));
                reader.read(self.text, |slab| {
                    written = written.clone().and_then(|(rows, bytes)| {
                        let (more, text) = writer.write(slab)?;
                        Ok((rows + more, bytes + text.len()))
                    });
                })?;
                written.map(|(rows, _)| rows)
            }),
        }
    }

    /// The rows in slabs of their own, proven to be what the lines say.
    fn slabs(&self, reader: &mut Reader) -> Result<Vec<Slab>, Wrong> {
        let mut slabs = Vec::new();
        reader.read(self.text, |slab| slabs.push(std::mem::replace(slab, Reader::slab())))?;
        let mut writer = Writer::new(reader.schema());
        let mut text = Vec::new();
        for slab in &slabs {
            text.extend_from_slice(writer.write(slab)?.1);
        }
        verify("the lines", Tally::of(&text).map_err(Wrong::fail)?, self.expected.all)?;
        Ok(slabs)
    }

    fn rival(&self, what: What, amount: Amount) -> Result<Timed, Wrong> {
        let sensors = parse(self.text)?;
        let mut out = Vec::new();
        laps(amount, || {
            if !matches!(what, What::Encode) {
                let mut tally = 0;
                for line in split(self.text) {
                    let sensor: Sensor<'_> = serde_json::from_slice(line).map_err(Wrong::fail)?;
                    tally += u64::from(std::hint::black_box(&sensor).rpm >= 40.0);
                    if matches!(what, What::Both) {
                        put(&sensor, &mut out)?;
                    }
                }
                verify("rows of serde_json", tally, LINES)?;
            } else {
                sensors.iter().try_for_each(|sensor| put(sensor, &mut out))?;
            }
            Ok(LINES)
        })
    }
}

fn parse(text: &[u8]) -> Result<Vec<Sensor<'_>>, Wrong> {
    split(text).map(|line| serde_json::from_slice(line).map_err(Wrong::fail)).collect()
}

/// Writes a line to a buffer that is used again every 64 KiB, as a sink does.
fn put(sensor: &Sensor<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    if out.len() > 64 << 10 {
        std::hint::black_box(&out);
        out.clear();
    }
    serde_json::to_writer(&mut *out, sensor).map_err(Wrong::fail)?;
    out.push(b'\n');
    Ok(())
}
