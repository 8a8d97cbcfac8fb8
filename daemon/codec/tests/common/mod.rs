//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use ringmain_base::Reason;
use ringmain_codec::{DecodeOptions, Decoder, EncodeOptions, Encoder, Framer, Framing, Limits};
use ringmain_slab::{Budget, RowRef, SharedSchema, Slab};

/// What became of a stream: lines of JSON, and refusals.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub rows: Vec<String>,
    pub refused: Vec<Refusal>,
    pub offset: u64,
}

/// An owned [`ringmain_codec::Refused`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub detail: String,
    pub offset: u64,
    pub column: u32,
    pub frame: Vec<u8>,
}

/// A decoder, its stream and a slab, with what came out of them.
pub struct Rig {
    pub schema: SharedSchema,
    pub decoder: Decoder,
    pub framer: Framer,
    pub encoder: Encoder,
    pub slab: Slab,
    pub outcome: Outcome,
}

impl Rig {
    pub fn new(options: DecodeOptions, framing: Framing, frame_bytes: u32) -> Self {
        let schema = SharedSchema::new();
        Self {
            decoder: Decoder::new(options, schema.clone()),
            framer: Framer::new(framing, Limits { frame_bytes }),
            encoder: Encoder::new(EncodeOptions::Json, schema.clone()),
            slab: Slab::new(4096, &Budget::new(1 << 26)),
            schema,
            outcome: Outcome::default(),
        }
    }

    pub fn json() -> Self {
        Self::new(DecodeOptions::Json, Framing::Newline, 1 << 20)
    }

    /// Feeds a chunk, shipping slabs as they fill up.
    pub fn feed(&mut self, chunk: &[u8]) {
        let mut at = 0;
        loop {
            let mut refused = Vec::new();
            let progress =
                self.decoder.feed(&mut self.framer, &chunk[at..], &mut self.slab, 7, &mut |r| {
                    refused.push(owned(r));
                });
            self.note(&progress, refused);
            at += progress.consumed;
            if !progress.full {
                assert_eq!(at, chunk.len());
                return;
            }
        }
    }

    pub fn finish(&mut self) {
        loop {
            let mut refused = Vec::new();
            let progress = self.decoder.finish(&mut self.framer, &mut self.slab, 7, &mut |r| {
                refused.push(owned(r));
            });
            self.note(&progress, refused);
            if !progress.full {
                break;
            }
        }
        self.ship();
        self.outcome.offset = self.framer.offset();
        assert_eq!(self.framer.carry_bytes(), 0);
    }

    fn note(&mut self, progress: &ringmain_codec::Progress, refused: Vec<Refusal>) {
        let rows = self.slab.len();
        assert!(progress.rows as usize <= rows);
        assert_eq!(progress.refused as usize, refused.len());
        self.outcome.refused.extend(refused);
        if progress.full {
            assert!(rows > 0, "an empty slab takes a frame");
            self.ship();
        }
    }

    /// Empties the slab into the outcome.
    pub fn ship(&mut self) {
        for row in self.slab.rows() {
            assert_eq!(row.ts(), 7);
            let line = line(&mut self.encoder, row);
            self.outcome.rows.push(line);
        }
        self.slab.clear();
    }
}

pub fn line(encoder: &mut Encoder, row: RowRef<'_>) -> String {
    let mut out = Vec::new();
    encoder.encode(row, &mut out).expect("decoded rows can be encoded");
    String::from_utf8(out).expect("JSON is UTF-8")
}

pub fn owned(r: ringmain_codec::Refused<'_>) -> Refusal {
    Refusal {
        reason: r.reason,
        detail: r.detail.to_owned(),
        offset: r.offset,
        column: r.column,
        frame: r.frame.to_vec(),
    }
}

/// What becomes of a whole stream, fed in pieces of the given lengths, again
/// and again.
pub fn run(
    options: DecodeOptions,
    framing: Framing,
    frame_bytes: u32,
    bytes: &[u8],
    cuts: &[usize],
) -> Outcome {
    let mut rig = Rig::new(options, framing, frame_bytes);
    let mut rest = bytes;
    let mut cuts = cuts.iter().copied().cycle();
    while !rest.is_empty() {
        let cut = cuts.next().unwrap_or(rest.len()).clamp(1, rest.len());
        rig.feed(&rest[..cut]);
        rest = &rest[cut..];
    }
    rig.finish();
    rig.outcome
}
