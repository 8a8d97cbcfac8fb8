//! The rows of one flow's JSON: lines and frames, growth of the schema.

use memchr::memchr;
use ringmain_base::limits::SLOTS_MAX;
use ringmain_slab::{Scratch, SharedSchema, Slab};

use super::keys::Keys;
use super::record::{Done, Parts, Stop, VALUE};
use super::string::string;
use super::walk::{end, skip, skip_object, space};
use crate::refused::{Bad, Fail};

/// Decodes frames of JSON into rows of one flow.
pub(crate) struct JsonRows {
    schema: SharedSchema,
    scratch: Scratch,
    parts: Parts,
}

impl JsonRows {
    pub(crate) fn new(schema: SharedSchema) -> Self {
        let parts = Parts::new(schema.snapshot());
        Self { schema, scratch: Scratch::default(), parts }
    }

    /// Takes over fields that others have added to the schema.
    pub(crate) fn refresh(&mut self) {
        let snapshot = self.schema.snapshot();
        if snapshot.version() != self.parts.keys.version() {
            self.parts.keys = Keys::new(snapshot);
        }
    }

    /// Decodes the line at the start of `text`, which holds whole lines. The
    /// line's length with its line feed when it became a row.
    ///
    /// `Err` is the line's length without its line feed, and what is wrong.
    #[inline]
    pub(crate) fn line(
        &mut self,
        text: &str,
        slab: &mut Slab,
        ts: i64,
    ) -> Result<usize, (usize, Fail)> {
        let bytes = text.as_bytes();
        let mut row = slab.build(self.parts.keys.version(), self.slots(), &mut self.scratch);
        let place = self.parts.predicted(text, &mut row);
        let end = if place.closed { place.at } else { usize::MAX };
        if bytes.get(end) == Some(&b'\n') {
            self.parts.shapes.hit();
            return match row.finish(ts) {
                Ok(()) => Ok(end + 1),
                Err(_) => Err((end, Fail::Full)),
            };
        }
        let len = memchr(b'\n', &bytes[place.at..]).map_or(bytes.len(), |n| place.at + n);
        let frame = text[..len].strip_suffix('\r').unwrap_or(&text[..len]);
        let done = match self.parts.finish_frame(frame, place, row, ts) {
            Ok(Done::Row) => Ok(()),
            Ok(Done::Full) => Err(Fail::Full),
            Err(Stop::Bad(bad)) => Err(bad.into()),
            Err(stop) => self.again(frame, slab, ts, &stop),
        };
        done.map(|()| len + 1).map_err(|fail| (len, fail))
    }

    /// Decodes one whole frame.
    pub(crate) fn frame(&mut self, text: &str, slab: &mut Slab, ts: i64) -> Result<(), Fail> {
        let mut row = slab.build(self.parts.keys.version(), self.slots(), &mut self.scratch);
        let place = self.parts.predicted(text, &mut row);
        match self.parts.finish_frame(text, place, row, ts) {
            Ok(Done::Row) => Ok(()),
            Ok(Done::Full) => Err(Fail::Full),
            Err(Stop::Bad(bad)) => Err(bad.into()),
            Err(stop) => self.again(text, slab, ts, &stop),
        }
    }

    fn slots(&self) -> u16 {
        if self.parts.wide { SLOTS_MAX + 1 } else { self.parts.keys.version() }
    }

    /// Reads a frame again after giving slots to its names.
    #[cold]
    fn again(&mut self, text: &str, slab: &mut Slab, ts: i64, stop: &Stop) -> Result<(), Fail> {
        match stop {
            Stop::NeedsRest => self.parts.wide = true,
            _ => self.learn_names(text)?,
        }
        self.frame(text, slab, ts)
    }

    /// Gives slots to the names of a frame if all of it is sound.
    fn learn_names(&mut self, text: &str) -> Result<(), Bad> {
        let bytes = text.as_bytes();
        let at = space(bytes, 0);
        let mut names = Vec::new();
        if bytes.get(at) == Some(&b'{') {
            let close = skip_object(text, at, 0, &mut |member| names.push(member.name))?;
            end(bytes, close)?;
        } else {
            end(bytes, skip(text, at, 0)?)?;
            // No room for it: the row's only field goes to the rest.
            let _in_rest = self.schema.arrive(VALUE);
        }
        for start in names {
            let (name, _) = string(text, start, &mut self.parts.unescaped)?;
            // Without a free slot, it goes to the rest.
            let _in_rest = self.schema.arrive(name);
        }
        self.parts.keys = Keys::new(self.schema.snapshot());
        Ok(())
    }
}
