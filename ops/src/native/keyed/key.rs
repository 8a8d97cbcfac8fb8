//! The key of a message: the values of a few fields as bytes that are equal
//! exactly when the values are.
//!
//! A number is the same key however it was written (7 and 7.0). The bytes are
//! stored with the state: a change of the encoding changes the version of
//! every state format.

use ringmain_slab::{RowBuilder, RowRef, Scalar, SharedSchema, TreeBuilder, ValueRef};

/// Longest key in bytes. What is longer is refused.
pub(crate) const KEY_BYTES_MAX: usize = 4096;

/// Kinds of values in an encoded key.
mod kind {
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const NUMBER: u8 = 5;
    pub(super) const STR: u8 = 6;
    pub(super) const BYTES: u8 = 7;
    pub(super) const LIST: u8 = 8;
    pub(super) const MAP: u8 = 9;
    pub(super) const ABSENT: u8 = 10;
}

/// Fields by slot and name.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    slots: Vec<u16>,
    names: Vec<String>,
}

impl Fields {
    /// # Errors
    /// The field that has no slot.
    pub(crate) fn bind(names: &[String], schema: &SharedSchema) -> Result<Self, String> {
        let slot = |name: &String| schema.intern(name).map_err(|full| format!("'{name}': {full}"));
        let slots = names.iter().map(slot).collect::<Result<_, _>>()?;
        Ok(Self { slots, names: names.to_vec() })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn slots(&self) -> &[u16] {
        &self.slots
    }

    /// Writes the key of a row.
    ///
    /// # Errors
    /// Why the row has none, in a sentence.
    #[inline]
    pub(crate) fn key(&self, row: RowRef<'_>, into: &mut Vec<u8>) -> Result<(), String> {
        into.clear();
        for (at, slot) in self.slots.iter().enumerate() {
            match row.get(*slot) {
                ValueRef::Str(text) => put_text(kind::STR, text.as_bytes(), into),
                ValueRef::Absent | ValueRef::Null => return Err(self.missing(at)),
                value => put(value, into),
            }
        }
        if into.len() > KEY_BYTES_MAX {
            return Err(self.too_long(into.len()));
        }
        Ok(())
    }

    #[cold]
    fn missing(&self, at: usize) -> String {
        format!("the message has no '{}', a field of the operator's key", self.names[at])
    }

    #[cold]
    fn too_long(&self, len: usize) -> String {
        let names = self.names.join(", ");
        format!("the key ({names}) has {len} bytes; at most {KEY_BYTES_MAX} are kept")
    }
}

/// Appends a value. No encoding is the beginning of another one.
#[inline]
pub(crate) fn put(value: ValueRef<'_>, into: &mut Vec<u8>) {
    match value {
        ValueRef::Absent => into.push(kind::ABSENT),
        ValueRef::Null => into.push(kind::NULL),
        ValueRef::Bool(false) => into.push(kind::FALSE),
        ValueRef::Bool(true) => into.push(kind::TRUE),
        ValueRef::Int(v) => put_int(v, into),
        // By value: -0.0 is the key 0, too.
        ValueRef::Float(v) if v == (v as i64) as f64 && v.abs() < 9e18 => put_int(v as i64, into),
        ValueRef::Float(v) => {
            into.push(kind::FLOAT);
            into.extend_from_slice(&v.to_le_bytes());
        }
        ValueRef::Number(text) => put_text(kind::NUMBER, text.as_bytes(), into),
        ValueRef::Str(text) => put_text(kind::STR, text.as_bytes(), into),
        ValueRef::Bytes(bytes) => put_text(kind::BYTES, bytes, into),
        ValueRef::List(_) | ValueRef::Map(_) => put_tree(value, into),
    }
}

/// Depth is bounded by the rows' own bound.
#[cold]
fn put_tree(value: ValueRef<'_>, into: &mut Vec<u8>) {
    match value {
        ValueRef::List(list) => {
            into.push(kind::LIST);
            into.extend_from_slice(&(list.len() as u32).to_le_bytes());
            list.iter().for_each(|item| put(item, into));
        }
        ValueRef::Map(map) => {
            into.push(kind::MAP);
            into.extend_from_slice(&(map.len() as u32).to_le_bytes());
            for (name, item) in map.iter() {
                put_text(kind::STR, name.as_bytes(), into);
                put(item, into);
            }
        }
        _ => {}
    }
}

#[inline]
fn put_int(value: i64, into: &mut Vec<u8>) {
    into.push(kind::INT);
    into.extend_from_slice(&value.to_le_bytes());
}

/// Lengths below 255 take one byte.
#[inline]
fn put_text(kind: u8, bytes: &[u8], into: &mut Vec<u8>) {
    match u8::try_from(bytes.len()) {
        Ok(len) if len < u8::MAX => into.extend_from_slice(&[kind, len]),
        _ => {
            into.extend_from_slice(&[kind, u8::MAX]);
            into.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        }
    }
    into.extend_from_slice(bytes);
}

/// Reads what [`put`] wrote; what comes from a file may be anything.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'k>(&'k [u8]);

/// A value of an encoded key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part<'k> {
    Scalar(Scalar<'k>),
    /// So many parts follow.
    List(u32),
    /// So many pairs of a text and a part follow.
    Map(u32),
}

impl<'k> Reader<'k> {
    pub(crate) fn new(key: &'k [u8]) -> Self {
        Self(key)
    }

    fn take(&mut self, len: usize) -> Option<&'k [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'k [u8]> {
        let len = match self.take(1)?[0] {
            u8::MAX => self.u32()? as usize,
            len => usize::from(len),
        };
        self.take(len)
    }

    pub(crate) fn part(&mut self) -> Option<Part<'k>> {
        let kind = self.take(1)?[0];
        Some(Part::Scalar(match kind {
            kind::NULL => Scalar::Null,
            kind::FALSE => Scalar::Bool(false),
            kind::TRUE => Scalar::Bool(true),
            kind::INT => Scalar::Int(i64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            kind::FLOAT => Scalar::Float(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            kind::NUMBER => Scalar::Number(str::from_utf8(self.text()?).ok()?),
            kind::STR => Scalar::Str(str::from_utf8(self.text()?).ok()?),
            kind::BYTES => Scalar::Bytes(self.text()?),
            kind::LIST => return Some(Part::List(self.u32()?)),
            kind::MAP => return Some(Part::Map(self.u32()?)),
            kind::ABSENT => Scalar::Absent,
            _ => return None,
        }))
    }

    /// Skips one value, to a bounded depth.
    fn skip(&mut self, depth: usize) -> Option<()> {
        match self.part()? {
            Part::Scalar(_) => {}
            _ if depth == 0 => return None,
            Part::List(items) => {
                for _ in 0..items {
                    self.skip(depth - 1)?;
                }
            }
            Part::Map(pairs) => {
                for _ in 0..pairs {
                    matches!(self.part()?, Part::Scalar(Scalar::Str(_))).then_some(())?;
                    self.skip(depth - 1)?;
                }
            }
        }
        Some(())
    }

    /// Whether these are `values` values, no more and no less.
    pub(crate) fn is_valid(mut self, values: usize) -> bool {
        const DEPTH: usize = ringmain_base::limits::DEPTH_MAX;
        (0..values).all(|_| self.skip(DEPTH).is_some()) && self.0.is_empty()
    }

    /// Writes the next value into a field of a row under construction. The
    /// bytes must be valid.
    pub(crate) fn set(&mut self, row: &mut RowBuilder<'_>, slot: u16) {
        match self.part() {
            Some(Part::Scalar(value)) => row.set(slot, value),
            Some(part) => {
                let mut tree = row.tree(slot);
                self.add(part, &mut tree);
                tree.finish();
            }
            None => {}
        }
    }

    fn add(&mut self, part: Part<'_>, tree: &mut TreeBuilder<'_, '_>) {
        let (count, map) = match part {
            Part::Scalar(value) => return tree.scalar(value),
            Part::List(count) => (count, false),
            Part::Map(count) => (count, true),
        };
        let open = if map { tree.map() } else { tree.list() };
        debug_assert!(open, "as deep as the row that it came from");
        for _ in 0..count {
            if map && let Some(Part::Scalar(Scalar::Str(name))) = self.part() {
                tree.key(name);
            }
            if let Some(part) = self.part() {
                self.add(part, tree);
            }
        }
        tree.close();
    }

    /// The values as people write them, with commas between.
    pub(crate) fn shown(mut self) -> String {
        let mut text = String::new();
        while let Some(part) = self.part() {
            if !text.is_empty() {
                text.push(',');
            }
            match part {
                Part::Scalar(Scalar::Str(v) | Scalar::Number(v)) => text.push_str(v),
                Part::Scalar(Scalar::Int(v)) => text.push_str(&v.to_string()),
                Part::Scalar(Scalar::Float(v)) => text.push_str(&v.to_string()),
                Part::Scalar(Scalar::Bool(v)) => text.push_str(if v { "true" } else { "false" }),
                Part::Scalar(Scalar::Bytes(v)) => text.push_str(&String::from_utf8_lossy(v)),
                Part::Scalar(Scalar::Null | Scalar::Absent) => text.push_str("null"),
                Part::List(_) | Part::Map(_) => return text + "...",
            }
        }
        text
    }
}
