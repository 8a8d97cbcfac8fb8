//! Frames that are one value: text and bytes.

use ringmain_slab::{REST_SLOT, Scalar, Scratch, SharedSchema, Slab};

use crate::decoder::valid_up_to;
use crate::refused::{Bad, Fail};

/// The field that holds it.
pub(crate) const MESSAGE: &str = "message";

pub(crate) struct MessageRows {
    schema: SharedSchema,
    version: u16,
    /// None when the schema was full: the field goes to the rest.
    slot: Option<u16>,
    text: bool,
    scratch: Scratch,
}

impl MessageRows {
    pub(crate) fn new(text: bool, schema: SharedSchema) -> Self {
        let slot = schema.arrive(MESSAGE).ok();
        let version = schema.snapshot().version();
        Self { schema, version, slot, text, scratch: Scratch::default() }
    }

    pub(crate) fn is_text(&self) -> bool {
        self.text
    }

    pub(crate) fn refresh(&mut self) {
        self.version = self.schema.snapshot().version();
    }

    pub(crate) fn row(&mut self, frame: &[u8], slab: &mut Slab, ts: i64) -> Result<(), Fail> {
        let value = if self.text {
            match simdutf8::basic::from_utf8(frame) {
                Ok(text) => Scalar::Str(text),
                Err(_) => return Err(Bad { at: valid_up_to(frame), what: "invalid UTF-8" }.into()),
            }
        } else {
            Scalar::Bytes(frame)
        };
        let slots = if self.slot.is_some() { self.version } else { REST_SLOT + 1 };
        let mut row = slab.build(self.version, slots, &mut self.scratch);
        match self.slot {
            Some(slot) => row.set(slot, value),
            None => {
                let mut tree = row.tree(REST_SLOT);
                let _opened = tree.map();
                tree.key(MESSAGE);
                tree.scalar(value);
                tree.close();
                tree.finish();
            }
        }
        row.finish(ts).map_err(|_| Fail::Full)
    }
}
