//! Rows as JSON, written straight into the output.
//!
//! Every write checks that its bytes fit, so no size is computed beforehand:
//! when a row does not fit, the output grows and the row is written again.

use std::sync::Arc;

use ringmain_base::limits::SLOTS_MAX;
use ringmain_slab::{BARE, RowRef, Schema, SharedSchema, Slab, ValueRef};

use super::EncodeError;
use super::base64;
use super::number::{self, ROOM};
use super::string::string;
use crate::json::VALUE;

/// Names up to this length are copied with one move of fixed size.
const SHORT: usize = 32;

/// Output of one row grows by at least this.
const ROW_BYTES: usize = 512;

/// Output of many rows grows by at least this: zeroing it costs less than one
/// more check for each row would.
const BATCH_BYTES: usize = 32 << 10;

/// Writes rows as JSON objects.
pub(crate) struct JsonWriter {
    schema: SharedSchema,
    known: Arc<Schema>,
    /// Slots and names in the order in which they are written.
    names: Vec<(u16, Name)>,
    value: Option<u16>,
}

/// `,"name":`, escaped.
struct Name {
    short: [u8; SHORT],
    len: usize,
    long: Vec<u8>,
}

/// Why a row was not written.
pub(crate) enum Stop {
    Room,
    Error(EncodeError),
}

pub(crate) type At = Result<usize, Stop>;

impl JsonWriter {
    pub(crate) fn new(schema: SharedSchema) -> Self {
        let known = Arc::default();
        let mut new = Self { schema, known, names: Vec::new(), value: None };
        new.refresh();
        new
    }

    /// Takes over fields that have been added to the schema.
    #[cold]
    fn refresh(&mut self) {
        self.known = self.schema.snapshot();
        let slots = self.known.in_order().into_iter();
        let name = |slot| Some((slot, Name::new(self.known.name(slot)?)));
        self.names = slots.filter_map(name).collect();
        self.value = self.known.slot(VALUE);
    }

    /// The names of all fields that `row` may have.
    #[inline]
    pub(crate) fn schema_of(&mut self, row: RowRef<'_>) -> &Schema {
        if usize::from(row.slots().min(SLOTS_MAX)) > self.names.len() {
            self.refresh();
        }
        &self.known
    }

    /// Appends one row.
    pub(crate) fn row(&mut self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let end = self.try_row(row, out, start, ROW_BYTES);
        out.truncate(*end.as_ref().unwrap_or(&start));
        end.map(|_| ())
    }

    /// Appends rows as lines, as [`super::Encoder::encode_slab`] says.
    pub(crate) fn lines(
        &mut self,
        slab: &Slab,
        from_row: usize,
        out: &mut Vec<u8>,
        limit_bytes: usize,
        refused: &mut dyn FnMut(usize, EncodeError),
    ) -> usize {
        let start = out.len();
        let mut at = start;
        let mut row = from_row;
        while row < slab.len() && at - start < limit_bytes {
            match self.try_row(slab.row(row), out, at, BATCH_BYTES) {
                Ok(end) => {
                    // The row's last write left room behind it.
                    out[end] = b'\n';
                    at = end + 1;
                }
                Err(error) => refused(row, error),
            }
            row += 1;
        }
        out.truncate(at);
        row.saturating_sub(from_row)
    }

    /// Writes a row at `at`, growing `out` by `step` or more as needed; where it ends, which is
    /// before the end of `out`.
    fn try_row(
        &mut self,
        row: RowRef<'_>,
        out: &mut Vec<u8>,
        at: usize,
        step: usize,
    ) -> Result<usize, EncodeError> {
        self.schema_of(row);
        loop {
            match self.object(row, out, at) {
                Ok(end) => return Ok(end),
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Room) => grow(out, at, step),
            }
        }
    }

    fn object(&self, row: RowRef<'_>, out: &mut [u8], start: usize) -> At {
        if row.header().flags.to_native() & BARE != 0
            && let Some(only) = self.only_value(row)
        {
            let end = value(out, start, only)?;
            return byte(out, end, b'\n').map(|_| end);
        }
        let mut at = start;
        for (slot, name) in &self.names {
            let field = row.get(*slot);
            if matches!(field, ValueRef::Absent) {
                continue;
            }
            at = name.put(out, at)?;
            at = value(out, at, field)?;
        }
        if let Some(rest) = row.rest() {
            for (name, field) in rest.iter() {
                at = byte(out, at, b',')?;
                at = string(out, at, name)?;
                at = byte(out, at, b':')?;
                at = value(out, at, field)?;
            }
        }
        // The first comma stands where the brace belongs.
        at = at.max(byte(out, start, b'{')?);
        at = byte(out, at, b'}')?;
        byte(out, at, b'\n').map(|_| at)
    }

    /// The field `value`, if it is the only one.
    #[cold]
    fn only_value<'s>(&self, row: RowRef<'s>) -> Option<ValueRef<'s>> {
        let present = |slot: &u16| !matches!(row.get(*slot), ValueRef::Absent);
        let mut slots = (0..row.slots().min(SLOTS_MAX)).filter(present);
        match (slots.next(), slots.next(), row.rest()) {
            (Some(slot), None, None) if Some(slot) == self.value => Some(row.get(slot)),
            (None, None, Some(rest)) if rest.len() == 1 => match rest.get(VALUE) {
                ValueRef::Absent => None,
                value => Some(value),
            },
            _ => None,
        }
    }
}

/// Appends one value.
pub(crate) fn append(field: ValueRef<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    loop {
        let end = match value(out, start, field) {
            Ok(end) => Ok(end),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Room) => {
                grow(out, start, ROW_BYTES);
                continue;
            }
        };
        out.truncate(*end.as_ref().unwrap_or(&start));
        return end.map(|_| ());
    }
}

/// Makes the room behind `used` at least twice as large, by `least` bytes or
/// more.
#[cold]
fn grow(out: &mut Vec<u8>, used: usize, least: usize) {
    let room = out.len() - used;
    out.resize(out.len() + room.max(least), 0);
}

impl Name {
    fn new(name: &str) -> Self {
        // Up to 6 bytes for a byte that needs an escape.
        let mut long = vec![0; 6 * name.len() + 4];
        let write = |out: &mut [u8]| -> At {
            let at = byte(out, 0, b',')?;
            let at = string(out, at, name)?;
            byte(out, at, b':')
        };
        let len = write(&mut long).unwrap_or_default();
        long.truncate(len);
        let mut short = [0; SHORT];
        let head = len.min(SHORT);
        short[..head].copy_from_slice(&long[..head]);
        Self { short, len, long }
    }

    #[inline(always)]
    fn put(&self, out: &mut [u8], at: usize) -> At {
        if self.len > SHORT {
            return put(out, at, &self.long);
        }
        let to = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<SHORT>).ok_or(Stop::Room)?;
        *to = self.short;
        Ok(at + self.len)
    }
}

#[inline(always)]
pub(crate) fn byte(out: &mut [u8], at: usize, byte: u8) -> At {
    *out.get_mut(at).ok_or(Stop::Room)? = byte;
    Ok(at + 1)
}

#[inline(always)]
pub(crate) fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> At {
    let end = at + bytes.len();
    out.get_mut(at..end).ok_or(Stop::Room)?.copy_from_slice(bytes);
    Ok(end)
}

#[inline(always)]
fn room(out: &mut [u8], at: usize) -> Result<&mut [u8; ROOM], Stop> {
    out.get_mut(at..).and_then(<[u8]>::first_chunk_mut).ok_or(Stop::Room)
}

/// Writes any value; where it ends.
#[inline(always)]
fn value(out: &mut [u8], at: usize, value: ValueRef<'_>) -> At {
    match value {
        ValueRef::Str(text) => string(out, at, text),
        ValueRef::Int(value) => Ok(at + number::int(value, room(out, at)?)),
        ValueRef::Float(value) if value.is_finite() => {
            Ok(at + number::float(value, room(out, at)?))
        }
        ValueRef::Bool(true) => put(out, at, b"true"),
        ValueRef::Bool(false) => put(out, at, b"false"),
        ValueRef::Float(_) => Err(Stop::Error(EncodeError::NotFinite)),
        other => rare(out, at, other),
    }
}

/// Writes the values that need more than a few moves.
#[inline(never)]
fn rare(out: &mut [u8], mut at: usize, field: ValueRef<'_>) -> At {
    match field {
        ValueRef::Number(text) => put(out, at, text.as_bytes()),
        ValueRef::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => string(out, at, text),
            Err(_) => string(out, at, &base64::text(bytes)),
        },
        ValueRef::List(list) => {
            let start = at;
            for item in list.iter() {
                at = byte(out, at, b',')?;
                at = value(out, at, item)?;
            }
            at = at.max(byte(out, start, b'[')?);
            byte(out, at, b']')
        }
        ValueRef::Map(map) => {
            let start = at;
            for (name, item) in map.iter() {
                at = byte(out, at, b',')?;
                at = string(out, at, name)?;
                at = byte(out, at, b':')?;
                at = value(out, at, item)?;
            }
            at = at.max(byte(out, start, b'{')?);
            byte(out, at, b'}')
        }
        // Lists and maps have no absent elements; the other kinds are above.
        _ => put(out, at, b"null"),
    }
}
