//! The codecs as a source and a sink use them: text in chunks of 64 KiB to
//! slabs of rows, and slabs to text.

use ringmain_codec::{DecodeOptions, Decoder, EncodeOptions, Encoder, Framer, Framing, Limits};
use ringmain_slab::{Budget, SharedSchema, Slab};

use crate::measure::Wrong;

const CHUNK_BYTES: usize = 64 << 10;
const SLAB_BYTES: usize = 64 << 10;

/// Lines of JSON to rows.
pub(super) struct Reader {
    schema: SharedSchema,
    decoder: Decoder,
    framer: Framer,
    slab: Slab,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self::with(SharedSchema::new())
    }

    /// With the fields that operators have named already, as in a flow.
    pub(super) fn with(schema: SharedSchema) -> Self {
        let decoder = Decoder::new(DecodeOptions::Json, schema.clone());
        let framer = Framer::new(Framing::Newline, Limits::default());
        Self { schema, decoder, framer, slab: Self::slab() }
    }

    pub(super) fn schema(&self) -> SharedSchema {
        self.schema.clone()
    }

    /// An empty slab; it may grow when an operator writes much.
    pub(super) fn slab() -> Slab {
        Slab::new(SLAB_BYTES, &Budget::new(64 << 20))
    }

    /// Gives every slab that is full, and the last one, to `ship`.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        mut ship: impl FnMut(&mut Slab),
    ) -> Result<(), Wrong> {
        let mut refused = None;
        for chunk in text.chunks(CHUNK_BYTES) {
            let mut at = 0;
            loop {
                let refuse = &mut |line: ringmain_codec::Refused<'_>| {
                    refused = Some(format!("refused: {line:?}"));
                };
                let Self { decoder, framer, slab, .. } = self;
                let progress = decoder.feed(framer, &chunk[at..], slab, 0, refuse);
                at += progress.consumed;
                if !progress.full {
                    break;
                }
                ship(&mut self.slab);
                self.slab.clear();
            }
        }
        ship(&mut self.slab);
        self.slab.clear();
        refused.map_or(Ok(()), |why| Err(Wrong::Failed(why)))
    }
}

/// Rows to lines of JSON.
pub(super) struct Writer {
    encoder: Encoder,
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn new(schema: SharedSchema) -> Self {
        Self { encoder: Encoder::new(EncodeOptions::Json, schema), out: Vec::new() }
    }

    /// The rows as text, until the next call; and how many they were.
    pub(super) fn write(&mut self, slab: &Slab) -> Result<(u64, &[u8]), Wrong> {
        self.out.clear();
        let mut refused = None;
        let refuse = &mut |_, error: ringmain_codec::EncodeError| refused = Some(error.to_string());
        let framing = Framing::Newline;
        let rows = self.encoder.encode_slab(slab, 0, &mut self.out, usize::MAX, framing, refuse);
        refused.map_or(Ok((rows as u64, self.out.as_slice())), |why| Err(Wrong::Failed(why)))
    }
}
