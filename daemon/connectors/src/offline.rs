//! What a source and a sink make of bytes and rows, without their connectors:
//! for tests of flows, which have no I/O.

use ringmain_codec::{Framer, Framing};
use ringmain_config::plan::{SinkKind, SinkPlan, SourcePlan};
use ringmain_slab::{Full, RowRef, SharedSchema, Slab};

use crate::Refusals;
use crate::decode::{Decoding, Origin};
use crate::encode::Encoding;

/// The framing and the decoder of a source, over one stream of bytes.
pub struct OfflineSource {
    decoding: Decoding,
    framer: Framer,
    bytes: Vec<u8>,
}

impl OfflineSource {
    /// At the beginning of the stream.
    #[must_use]
    pub fn new(plan: &SourcePlan, schema: &SharedSchema) -> Self {
        let decoding = Decoding::new(plan, schema);
        Self { framer: decoding.stream(), decoding, bytes: Vec::new() }
    }

    /// One frame comes in, and becomes rows or refusals.
    ///
    /// # Errors
    /// When the slab cannot grow as far as is needed.
    pub fn frame(
        &mut self,
        frame: &[u8],
        slab: &mut Slab,
        ts: i64,
        refusals: &mut dyn Refusals,
    ) -> Result<(), Full> {
        self.bytes.clear();
        let length = u32::try_from(frame.len()).map_err(|_| Full)?;
        match self.decoding.framing() {
            Framing::U32Be => self.bytes.extend_from_slice(&length.to_be_bytes()),
            Framing::U32Le => self.bytes.extend_from_slice(&length.to_le_bytes()),
            Framing::Newline | Framing::Whole => {}
        }
        self.bytes.extend_from_slice(frame);
        if self.decoding.framing() == Framing::Newline {
            self.bytes.push(b'\n');
        }
        let mut from = 0;
        loop {
            let origin = Origin { name: &|| "test".to_owned(), refusals: &mut *refusals };
            let rest = &self.bytes[from..];
            let progress = self.decoding.feed(&mut self.framer, rest, slab, ts, origin);
            from += progress.consumed;
            if !progress.full {
                return Ok(());
            }
            slab.reserve(slab.room() + slab.capacity())?;
        }
    }
}

/// The encoder of a sink, whose bytes go nowhere.
pub struct OfflineSink {
    /// None where nothing is encoded.
    encoding: Option<Encoding>,
    bytes: Vec<u8>,
}

impl OfflineSink {
    /// The sink of a plan.
    #[must_use]
    pub fn new(plan: &SinkPlan, schema: &SharedSchema) -> Self {
        let encodes = !matches!(plan.kind, SinkKind::Blackhole);
        Self { encoding: encodes.then(|| Encoding::new(plan, schema)), bytes: Vec::new() }
    }

    /// Whether the sink can express the row; otherwise it is refused.
    pub fn accepts(&mut self, row: RowRef<'_>, refusals: &mut dyn Refusals) -> bool {
        self.bytes.clear();
        let Some(encoding) = &mut self.encoding else { return true };
        encoding.row(row, &mut self.bytes, refusals)
    }
}
