//! One record: the predicted way through it and the complete one.

use std::sync::Arc;

use ringmain_base::limits::SLOTS_MAX;
use ringmain_slab::{BARE, RowBuilder, Schema};

use super::keys::Keys;
use super::number::{Number, number, quick};
use super::rest::{Rest, too_long_for_a_slot};
use super::shape::Shapes;
use super::string::string;
use super::walk::{
    self, Member, NO_BRACE, NO_NAME, build, colon, end, literal, skip, skip_object, space,
};
use crate::refused::{Bad, bad};
use crate::scan::string_stop;

/// Name of the field that holds a value that is not an object.
pub(crate) const VALUE: &str = "value";

/// What the parser works with while a row is under construction.
pub(crate) struct Parts {
    pub(crate) keys: Keys,
    /// Rows have a slot for the rest: some record needed it.
    pub(crate) wide: bool,
    pub(crate) shapes: Shapes,
    pub(crate) unescaped: String,
    rest: Rest,
}

/// Where a record is: the next byte and the next place of the shape.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) at: usize,
    lead: usize,
    /// The object's closing brace is behind us.
    pub(crate) closed: bool,
}

/// Why the complete parser stopped.
pub(crate) enum Stop {
    Bad(Bad),
    /// A name that has no slot yet, though it could have one.
    NewName,
    /// A name that never gets a slot, in a row without the rest's slot.
    NeedsRest,
}

impl From<Bad> for Stop {
    fn from(bad: Bad) -> Self {
        Self::Bad(bad)
    }
}

/// What became of a sound record.
pub(crate) enum Done {
    Row,
    Full,
}

impl Parts {
    pub(crate) fn new(schema: Arc<Schema>) -> Self {
        Self {
            keys: Keys::new(schema),
            wide: false,
            shapes: Shapes::default(),
            unescaped: String::new(),
            rest: Rest::default(),
        }
    }

    /// Follows the shapes as far as they are right. Unless the object was
    /// closed, the place is where the first field that is not as predicted
    /// has its lead.
    #[inline(always)]
    pub(crate) fn predicted(&mut self, text: &str, row: &mut RowBuilder<'_>) -> Place {
        let bytes = text.as_bytes();
        let mut place = Place { at: 0, lead: 0, closed: false };
        loop {
            let (slot, value, next) = match self.shapes.lead(place.lead, bytes, place.at) {
                Some((slot, value)) => (slot, value, place.lead + 1),
                None if place.lead > 0 && bytes.get(place.at) == Some(&b'}') => {
                    return Place { at: place.at + 1, closed: true, ..place };
                }
                None => match self.shapes.change(place.lead, bytes, place.at) {
                    Some(found) => found,
                    None => return place,
                },
            };
            match scalar(text, value, slot, row) {
                Some(end) => place = Place { at: end, lead: next, closed: false },
                None => return place,
            }
        }
    }

    /// Reads a frame from `place` on.
    pub(crate) fn finish_frame(
        &mut self,
        text: &str,
        place: Place,
        mut row: RowBuilder<'_>,
        ts: i64,
    ) -> Result<Done, Stop> {
        let bytes = text.as_bytes();
        if place.closed {
            self.shapes.hit();
            end(bytes, place.at)?;
            return Ok(row.finish(ts).map_or(Done::Full, |()| Done::Row));
        }
        let start = if place.at == 0 { space(bytes, 0) } else { 0 };
        if place.at == 0 && bytes.get(start) != Some(&b'{') {
            self.bare(text, start, &mut row)?;
        } else {
            self.rest.clear();
            let close = self.members(text, place, &mut row)?;
            end(bytes, close)?;
            if !self.rest.is_empty() {
                self.rest.build(&mut row, text, &mut self.unescaped)?;
            }
        }
        Ok(row.finish(ts).map_or(Done::Full, |()| Done::Row))
    }

    /// Reads members in any order and form; where the object ends.
    fn members(
        &mut self,
        text: &str,
        mut place: Place,
        row: &mut RowBuilder<'_>,
    ) -> Result<usize, Stop> {
        let bytes = text.as_bytes();
        let mut missed = false;
        loop {
            let start = place.at;
            let (slot, value) = match self.shapes.lead(place.lead, bytes, start) {
                Some((slot, value)) => {
                    place.lead += 1;
                    (Some(slot), value)
                }
                None => match self.name(text, start)? {
                    Ok((slot, value)) => {
                        missed = true;
                        place.lead = self.shapes.behind(slot, place.lead);
                        (slot, value)
                    }
                    Err(close) => {
                        self.judge(text, missed);
                        return Ok(close);
                    }
                },
            };
            place.at = match slot {
                Some(slot) => self.value(text, value, slot, row)?,
                None => self.aside(text, value)?,
            };
        }
    }

    /// Reads what leads to the next value, without help from the shape: its
    /// slot and where it stands. `Err` is the end of the object.
    fn name(&mut self, text: &str, at: usize) -> Result<Result<(Option<u16>, usize), usize>, Stop> {
        let bytes = text.as_bytes();
        let mut pos = space(bytes, at);
        // Only before the first member is nothing behind us.
        let first = at == 0;
        match bytes.get(pos) {
            Some(b'{') if first => {
                pos = space(bytes, pos + 1);
                if bytes.get(pos) == Some(&b'}') {
                    return Ok(Err(pos + 1));
                }
            }
            Some(b',') if !first => pos = space(bytes, pos + 1),
            Some(b'}') if !first => return Ok(Err(pos + 1)),
            _ => return Err(Bad { at: pos, what: NO_BRACE }.into()),
        }
        if bytes.get(pos) != Some(&b'"') {
            return Err(Bad { at: pos, what: NO_NAME }.into());
        }
        let stop = string_stop(bytes, pos + 1);
        if bytes.get(stop) == Some(&b'"')
            && let Some(slot) = self.keys.slot(text, pos + 1, stop)
        {
            return Ok(Ok((Some(slot), colon(bytes, stop + 1)?)));
        }
        self.odd_name(text, pos)
    }

    /// Reads a name that has escapes, or no slot.
    #[cold]
    fn odd_name(
        &mut self,
        text: &str,
        at: usize,
    ) -> Result<Result<(Option<u16>, usize), usize>, Stop> {
        let (name, end) = string(text, at, &mut self.unescaped)?;
        let value = colon(text.as_bytes(), end)?;
        if let Some(slot) = self.keys.slot(name, 0, name.len()) {
            return Ok(Ok((Some(slot), value)));
        }
        if self.keys.version() < SLOTS_MAX && !too_long_for_a_slot(name) {
            return Err(Stop::NewName);
        }
        self.rest.push(name, value);
        Ok(Ok((None, value)))
    }

    /// Passes over a value that goes to the rest.
    fn aside(&self, text: &str, at: usize) -> Result<usize, Stop> {
        if !self.wide {
            return Err(Stop::NeedsRest);
        }
        Ok(skip(text, at, 1)?)
    }

    /// Reads any value into its slot; where it ends.
    #[inline]
    fn value(
        &mut self,
        text: &str,
        at: usize,
        slot: u16,
        row: &mut RowBuilder<'_>,
    ) -> Result<usize, Bad> {
        if let Some(end) = scalar(text, at, slot, row) {
            return Ok(end);
        }
        // A lead may be right and yet be followed by white space this time.
        let behind = space(text.as_bytes(), at);
        match scalar(text, behind, slot, row) {
            Some(end) if behind != at => Ok(end),
            _ => self.odd_value(text, behind, 1, slot, row),
        }
    }

    /// Reads a value that is nested, has escapes or is wrong.
    fn odd_value(
        &mut self,
        text: &str,
        at: usize,
        depth: usize,
        slot: u16,
        row: &mut RowBuilder<'_>,
    ) -> Result<usize, Bad> {
        match text.as_bytes().get(at) {
            Some(b'{' | b'[') => {
                let mut tree = row.tree(slot);
                let end = build(&mut tree, text, at, depth, &mut self.unescaped)?;
                tree.finish();
                Ok(end)
            }
            Some(b'"') => {
                let (value, end) = string(text, at, &mut self.unescaped)?;
                row.set_str(slot, value);
                Ok(end)
            }
            Some(b'-' | b'0'..=b'9') => number(text, at).map(|(_, end)| end),
            _ => bad(at, walk::NO_VALUE),
        }
    }

    /// Reads a text that is not an object.
    #[cold]
    fn bare(&mut self, text: &str, at: usize, row: &mut RowBuilder<'_>) -> Result<(), Stop> {
        row.set_flags(BARE);
        let bytes = text.as_bytes();
        match self.keys.slot(VALUE, 0, VALUE.len()) {
            Some(slot) => {
                let close = match scalar(text, at, slot, row) {
                    Some(end) => end,
                    None => self.odd_value(text, at, 0, slot, row)?,
                };
                Ok(end(bytes, close)?)
            }
            None if self.keys.version() < SLOTS_MAX => Err(Stop::NewName),
            None => {
                end(bytes, self.aside(text, at)?)?;
                self.rest.clear();
                self.rest.push(VALUE, at);
                Ok(self.rest.build(row, text, &mut self.unescaped)?)
            }
        }
    }

    /// Draws a conclusion from a record that was read to its closing brace.
    #[inline]
    fn judge(&mut self, text: &str, missed: bool) {
        if !missed {
            self.shapes.hit();
        } else if self.shapes.miss() {
            self.learn(text);
        }
    }

    /// Learns the shape of a record.
    #[cold]
    fn learn(&mut self, text: &str) {
        let (mut leads, mut start) = (Vec::new(), 0);
        let member = &mut |member: Member| {
            let name = string(text, member.name, &mut self.unescaped);
            // Names without a slot are left out; the next lead begins behind.
            if let Some(slot) = name.ok().and_then(|(n, _)| self.keys.slot(n, 0, n.len())) {
                leads.push((start, member.value, slot));
            }
            start = member.end;
        };
        // What follows the object may yet be wrong; its members are not.
        let sound = skip_object(text, space(text.as_bytes(), 0), 0, member).is_ok();
        // A shape has to begin where records begin.
        if sound && leads.first().is_some_and(|(start, ..)| *start == 0) {
            self.shapes.learn(text.as_bytes(), &leads);
        }
    }
}

/// Reads a plain string, a number or a literal into its slot; where
/// it ends. `None` for anything else, right or wrong.
#[inline(always)]
fn scalar(text: &str, at: usize, slot: u16, row: &mut RowBuilder<'_>) -> Option<usize> {
    let bytes = text.as_bytes();
    match bytes.get(at)? {
        b'"' => {
            let stop = string_stop(bytes, at + 1);
            if bytes.get(stop) != Some(&b'"') {
                return None;
            }
            row.set_str_in(slot, text, at + 1, stop).then_some(stop + 1)
        }
        b'0'..=b'9' => store_number(text, at, slot, row, quick::<false>(text, at)),
        b'-' => store_number(text, at, slot, row, quick::<true>(text, at)),
        b't' | b'f' | b'n' => {
            let (value, end) = literal(bytes, at).ok()?;
            row.set(slot, value);
            Some(end)
        }
        _ => None,
    }
}

#[inline(always)]
fn store_number(
    text: &str,
    at: usize,
    slot: u16,
    row: &mut RowBuilder<'_>,
    read: Option<(Number, usize)>,
) -> Option<usize> {
    match read {
        Some((Number::Int(value), end)) => {
            row.set_int(slot, value);
            Some(end)
        }
        Some((Number::Float(value), end)) => {
            row.set_float(slot, value);
            Some(end)
        }
        _ => store_rare_number(text, at, slot, row),
    }
}

#[cold]
#[inline(never)]
fn store_rare_number(text: &str, at: usize, slot: u16, row: &mut RowBuilder<'_>) -> Option<usize> {
    let (value, end) = number(text, at).ok()?;
    row.set(slot, value.scalar(&text[at..end]));
    Some(end)
}
