//! The decoder of a source, built from its plan, and the way of what it
//! refuses.

use ringmain_codec::{
    CsvOptions, CsvTypes, DecodeOptions, Decoder, Framer, Framing, Limits, Progress, Refused,
};
use ringmain_config::plan::{DecodePlan, FramePlan, SourcePlan};
use ringmain_slab::{SharedSchema, Slab};

use crate::Refusals;

/// One per source; streams keep a [`Framer`] of their own.
pub(crate) struct Decoding {
    decoder: Decoder,
    framing: Framing,
    limits: Limits,
    header: bool,
}

/// Which stream bytes belong to, for what is refused of them.
pub(crate) struct Origin<'a> {
    /// File or peer. Made only when something is refused.
    pub(crate) name: &'a dyn Fn() -> String,
    pub(crate) refusals: &'a mut dyn Refusals,
}

impl Decoding {
    pub(crate) fn new(plan: &SourcePlan, schema: &SharedSchema) -> Self {
        let (options, header) = options(&plan.decode);
        Self {
            decoder: Decoder::new(options, schema.clone()),
            framing: framing(plan.frame),
            limits: Limits { frame_bytes: plan.frame_bytes },
            header,
        }
    }

    /// The state of a new stream.
    pub(crate) fn stream(&self) -> Framer {
        Framer::new(self.framing, self.limits)
    }

    /// The state of a new stream whose frames end otherwise.
    pub(crate) fn stream_as(&self, framing: Framing) -> Framer {
        Framer::new(framing, self.limits)
    }

    /// The state of a stream that goes on at `offset`, where a frame begins.
    /// `head` reads the beginning of the stream, where its header is.
    pub(crate) fn resume(&mut self, offset: u64, head: impl FnOnce() -> Vec<u8>) -> Framer {
        let mut framer = Framer::resume_at(self.framing, self.limits, offset);
        if self.header && offset > 0 {
            // Without a whole header the names stay unknown, and records are
            // refused one by one, which says more than a failed start.
            self.decoder.read_header(&mut framer, &head());
        }
        framer
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    pub(crate) fn frame_bytes(&self) -> u32 {
        self.limits.frame_bytes
    }

    pub(crate) fn feed(
        &mut self,
        framer: &mut Framer,
        bytes: &[u8],
        slab: &mut Slab,
        ts: i64,
        mut origin: Origin<'_>,
    ) -> Progress {
        self.decoder.feed(framer, bytes, slab, ts, &mut |refused| report(&refused, &mut origin))
    }

    pub(crate) fn finish(
        &mut self,
        framer: &mut Framer,
        slab: &mut Slab,
        ts: i64,
        mut origin: Origin<'_>,
    ) -> Progress {
        self.decoder.finish(framer, slab, ts, &mut |refused| report(&refused, &mut origin))
    }
}

/// A decoder of bytes that come from nowhere else than this process.
#[must_use]
pub fn decoder(plan: &DecodePlan, schema: &SharedSchema) -> Decoder {
    Decoder::new(options(plan).0, schema.clone())
}

fn report(refused: &Refused<'_>, origin: &mut Origin<'_>) {
    let name = (origin.name)();
    let Refused { reason, detail, offset, frame, .. } = *refused;
    origin.refusals.bytes(reason, detail, &name, offset, frame);
}

fn options(plan: &DecodePlan) -> (DecodeOptions, bool) {
    match plan {
        DecodePlan::Json => (DecodeOptions::Json, false),
        DecodePlan::Text => (DecodeOptions::Text, false),
        DecodePlan::Bytes => (DecodeOptions::Bytes, false),
        DecodePlan::Csv(csv) => {
            let options = CsvOptions {
                header: csv.header,
                columns: csv.columns.clone(),
                delimiter: csv.delimiter,
                quote: csv.quote,
                types: if csv.numbers { CsvTypes::Auto } else { CsvTypes::Text },
            };
            (DecodeOptions::Csv(options), csv.header)
        }
    }
}

pub(crate) fn framing(plan: FramePlan) -> Framing {
    match plan {
        FramePlan::Newline => Framing::Newline,
        FramePlan::U32 => Framing::U32Be,
        FramePlan::U32Le => Framing::U32Le,
        FramePlan::Datagram => Framing::Whole,
    }
}
