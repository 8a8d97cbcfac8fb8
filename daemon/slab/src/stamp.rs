//! Many rows of one shape, filled column by column: for whoever makes
//! messages up. Copying a row's image and writing into it beats building it
//! field by field, since nothing about a field is decided per row.
//!
//! Invariant: every text of a stamp has bytes of its own in the row, so that
//! filling one cannot reach into another.

use std::marker::PhantomData;
use std::ptr;

use rkyv::rend::i64_le;

use crate::budget::Budget;
use crate::build::{Scalar, Scratch, copy_short};
use crate::layout::{HEADER_BYTES, Node, RowHeader, SLOT_BYTES, align8, tag};
use crate::slab::Slab;

/// What a field of a stamp holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blank<'a> {
    /// The same value in every row.
    Value(Scalar<'a>),
    /// A number or a truth value, written later.
    Plain,
    /// Text of at most so many bytes, written later; empty until then.
    Text(usize),
}

/// The shape of rows to come.
#[derive(Debug)]
pub struct Stamp {
    /// The image of a row, in words so that it is aligned.
    image: Vec<u64>,
    /// By field in the order given: its slot, and for text where its bytes
    /// are and how many it may have.
    fields: Vec<(usize, usize, usize)>,
}

impl Stamp {
    /// A stamp of rows with `slots` slots.
    ///
    /// # Panics
    /// When a field's slot is not below `slots`, or all of it is larger than a
    /// slab may be.
    #[must_use]
    pub fn new(version: u16, slots: u16, fields: &[(u16, Blank<'_>)]) -> Self {
        let bytes = |blank: &Blank<'_>| match blank {
            Blank::Text(bytes) => *bytes,
            Blank::Value(Scalar::Str(text) | Scalar::Number(text)) => text.len(),
            Blank::Value(Scalar::Bytes(bytes)) => bytes.len(),
            _ => 0,
        };
        let variable: usize = fields.iter().map(|(_, blank)| bytes(blank)).sum();
        let fixed = HEADER_BYTES + usize::from(slots) * SLOT_BYTES;
        let mut slab = Slab::new(fixed + variable + 1024, &Budget::new(0));
        let mut scratch = Scratch::default();
        let mut row = slab.build(version, slots, &mut scratch);
        let mut places = Vec::new();
        let mut at = fixed;
        for (slot, blank) in fields {
            match blank {
                Blank::Value(value) => row.set(*slot, *value),
                Blank::Plain => row.set_int(*slot, 0),
                Blank::Text(bytes) => row.set_str(*slot, &"\0".repeat(*bytes)),
            }
            let room = if let Blank::Text(bytes) = blank { *bytes } else { 0 };
            places.push((usize::from(*slot), at, room));
            at += bytes(blank);
        }
        row.finish(0).expect("the slab was made for this row");
        let image = slab.row(0).image();
        let words = image.chunks_exact(8);
        let image = words.map(|w| u64::from_ne_bytes(w.try_into().expect("8 bytes"))).collect();
        Self { image, fields: places }
    }

    /// Bytes that a row takes, its index entry included.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        size_of_val(&*self.image) + size_of::<u32>()
    }
}

/// Rows that were just stamped, for filling.
pub struct Stamped<'s> {
    first: *mut u8,
    rows: usize,
    stamp: &'s Stamp,
    slab: PhantomData<&'s mut Slab>,
}

impl Slab {
    /// Appends rows of one shape: as many as fit, `rows` at most.
    pub fn stamp<'s>(&'s mut self, stamp: &'s Stamp, rows: usize, ts: i64) -> Stamped<'s> {
        let image = &stamp.image;
        let len = size_of_val(&**image);
        let inner = self.inner_mut();
        let first = inner.used;
        let mut count = 0;
        while count < rows && inner.room() >= len {
            let at = inner.used;
            // SAFETY: `room` says that `len` bytes behind `used` are free; the
            // image is a whole row, and offsets are multiples of 8.
            unsafe {
                let to = inner.data().add(at);
                ptr::copy_nonoverlapping(image.as_ptr().cast::<u8>(), to, len);
                (*to.cast::<RowHeader>()).ts = i64_le::from_native(ts);
            }
            inner.publish(at, len);
            count += 1;
        }
        // SAFETY: `first` is at most the capacity.
        let first = unsafe { inner.data().add(first) };
        Stamped { first, rows: count, stamp, slab: PhantomData }
    }
}

impl Stamped<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there was no room for any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Writes a whole number into a [`Blank::Plain`] field (by its place in
    /// the stamp) of a row.
    #[inline]
    pub fn set_int(&mut self, row: usize, field: usize, value: i64) {
        self.put(row, field, Node::new(tag::INT, 0, value as u64));
    }

    /// Writes a number.
    #[inline]
    pub fn set_float(&mut self, row: usize, field: usize, value: f64) {
        self.put(row, field, Node::new(tag::FLOAT, 0, value.to_bits()));
    }

    /// Writes a truth value.
    #[inline]
    pub fn set_bool(&mut self, row: usize, field: usize, value: bool) {
        self.put(row, field, Node::new(tag::BOOL, 0, u64::from(value)));
    }

    /// Takes the field away.
    #[inline]
    pub fn set_null(&mut self, row: usize, field: usize) {
        self.put(row, field, Node::new(tag::NULL, 0, 0));
    }

    /// Writes text into a [`Blank::Text`] field.
    ///
    /// # Panics
    /// When it is longer than the field.
    #[inline]
    pub fn set_str(&mut self, row: usize, field: usize, text: &str) {
        let (_, at, bytes_max) = self.stamp.fields[field];
        assert!(text.len() <= bytes_max, "{} bytes of text for {bytes_max}", text.len());
        // SAFETY: the row is one of those stamped, and the field's bytes lie
        // in it and belong to no other field.
        unsafe { copy_short(text.as_bytes(), self.row(row).add(at)) };
        self.put(row, field, Node::new(tag::STR, text.len() as u32, at as u64));
    }

    #[inline]
    fn row(&mut self, row: usize) -> *mut u8 {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the rows lie one behind the other.
        unsafe { self.first.add(row * align8(size_of_val(&*self.stamp.image))) }
    }

    #[inline]
    fn put(&mut self, row: usize, field: usize, node: Node) {
        let (slot, ..) = self.stamp.fields[field];
        // SAFETY: the slot is one of the row's, which `Stamp::new` wrote.
        unsafe { node.write(self.row(row).add(HEADER_BYTES + slot * SLOT_BYTES).cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ValueRef;

    fn stamp() -> Stamp {
        let fields = [
            (0, Blank::Text(6)),
            (1, Blank::Plain),
            (3, Blank::Value(Scalar::Str("same"))),
            (4, Blank::Text(3)),
        ];
        Stamp::new(5, 5, &fields)
    }

    #[test]
    fn stamped_rows_read_back_as_filled() {
        let stamp = stamp();
        let mut slab = Slab::new(4096, &Budget::new(0));
        let mut rows = slab.stamp(&stamp, 10, 77);
        assert_eq!(rows.len(), 10);
        for row in 0..10 {
            rows.set_str(row, 0, &"motor9"[..row.min(6)]);
            rows.set_float(row, 1, row as f64 / 2.0);
            rows.set_str(row, 3, "abc");
        }
        for (at, row) in slab.rows().enumerate() {
            assert!(matches!(row.get(0), ValueRef::Str(text) if text == &"motor9"[..at.min(6)]));
            assert_eq!(row.number(1), Some(at as f64 / 2.0));
            assert!(matches!(row.get(2), ValueRef::Absent));
            assert!(matches!(row.get(3), ValueRef::Str("same")));
            assert!(matches!(row.get(4), ValueRef::Str("abc")));
            assert_eq!(row.ts(), 77);
        }
    }

    #[test]
    fn as_many_rows_are_stamped_as_fit_and_they_pass_the_check() {
        let stamp = stamp();
        let mut slab = Slab::new(1024, &Budget::new(0));
        let count = slab.stamp(&stamp, 1_000, 0).len();
        assert_eq!(count, slab.len());
        assert_eq!(count, 1024 / stamp.row_bytes());
        assert_eq!(slab.stamp(&stamp, 1, 0).len(), 0);
        let mut other = Slab::new(4096, &Budget::new(0));
        for row in slab.rows() {
            other.push_checked(row.image()).unwrap();
        }
    }

    #[test]
    #[should_panic(expected = "7 bytes of text for 6")]
    fn text_does_not_grow_into_the_next_field() {
        let stamp = stamp();
        let mut slab = Slab::new(4096, &Budget::new(0));
        slab.stamp(&stamp, 1, 0).set_str(0, 0, "1234567");
    }
}
