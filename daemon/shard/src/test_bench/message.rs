//! Messages as plain values, for looking at them outside of a slab.

use std::fmt;

use ringmain_slab::{
    Full, REST_SLOT, RowBuilder, RowRef, Scalar, Schema, Scratch, SharedSchema, Slab, TreeBuilder,
    ValueRef,
};

/// A value of a message.
#[derive(Clone, Debug)]
pub enum Datum {
    /// JSON null.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A number of more than 64 bits, as JSON text.
    Number(String),
    /// Text.
    Str(String),
    /// Bytes that are not text.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Datum>),
    /// Names and values, each name once.
    Map(Message),
}

/// A message, or a nested map: names and values in the order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Message(pub Vec<(String, Datum)>);

impl Message {
    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Datum> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Sets a field; of equal names the last one counts.
    pub fn set(&mut self, name: &str, value: Datum) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(super) fn of(row: RowRef<'_>, names: &Schema) -> Self {
        let mut message = Self::default();
        for slot in names.in_order() {
            let value = row.get(slot);
            if let (Some(name), false) = (names.name(slot), matches!(value, ValueRef::Absent)) {
                message.set(name, Datum::of(value));
            }
        }
        for (name, value) in row.rest().into_iter().flat_map(|rest| rest.iter()) {
            message.set(name, Datum::of(value));
        }
        message
    }

    /// Appends the message as a row.
    pub(super) fn push(&self, slab: &mut Slab, schema: &SharedSchema, ts: i64) -> Result<(), Full> {
        let slots: Vec<_> = self.0.iter().map(|(name, _)| schema.arrive(name).ok()).collect();
        let rest = slots.contains(&None);
        let version = schema.snapshot().version();
        let slot_count = if rest { REST_SLOT + 1 } else { version };
        let mut scratch = Scratch::default();
        loop {
            let mut row = slab.build(version, slot_count, &mut scratch);
            for (slot, (_, value)) in slots.iter().zip(&self.0) {
                if let Some(slot) = slot {
                    value.set(&mut row, *slot);
                }
            }
            if rest {
                self.set_rest(&slots, &mut row);
            }
            if row.finish(ts).is_ok() {
                return Ok(());
            }
            slab.reserve(slab.room() + slab.capacity())?;
        }
    }

    fn set_rest(&self, slots: &[Option<u16>], row: &mut RowBuilder<'_>) {
        let mut tree = row.tree(REST_SLOT);
        let _ = tree.map();
        for ((name, value), _) in self.0.iter().zip(slots).filter(|(_, slot)| slot.is_none()) {
            tree.key(name);
            value.add(&mut tree);
        }
        tree.close();
        tree.finish();
    }
}

impl Datum {
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Absent | ValueRef::Null => Self::Null,
            ValueRef::Bool(v) => Self::Bool(v),
            ValueRef::Int(v) => Self::Int(v),
            ValueRef::Float(v) => Self::Float(v),
            ValueRef::Number(v) => Self::Number(v.to_owned()),
            ValueRef::Str(v) => Self::Str(v.to_owned()),
            ValueRef::Bytes(v) => Self::Bytes(v.to_owned()),
            ValueRef::List(list) => Self::List(list.iter().map(Self::of).collect()),
            ValueRef::Map(map) => {
                let mut message = Message::default();
                for (name, value) in map.iter() {
                    message.set(name, Self::of(value));
                }
                Self::Map(message)
            }
        }
    }

    fn scalar(&self) -> Option<Scalar<'_>> {
        Some(match self {
            Self::Null => Scalar::Null,
            Self::Bool(v) => Scalar::Bool(*v),
            Self::Int(v) => Scalar::Int(*v),
            Self::Float(v) => Scalar::Float(*v),
            Self::Number(v) => Scalar::Number(v),
            Self::Str(v) => Scalar::Str(v),
            Self::Bytes(v) => Scalar::Bytes(v),
            Self::List(_) | Self::Map(_) => return None,
        })
    }

    fn set(&self, row: &mut RowBuilder<'_>, slot: u16) {
        match self.scalar() {
            Some(scalar) => row.set(slot, scalar),
            None => {
                let mut tree = row.tree(slot);
                self.add(&mut tree);
                tree.finish();
            }
        }
    }

    /// What is nested too deep becomes null.
    fn add(&self, tree: &mut TreeBuilder<'_, '_>) {
        match self {
            Self::List(items) if tree.list() => {
                items.iter().for_each(|item| item.add(tree));
                tree.close();
            }
            Self::Map(message) if tree.map() => {
                for (name, value) in &message.0 {
                    tree.key(name);
                    value.add(tree);
                }
                tree.close();
            }
            _ => tree.scalar(self.scalar().unwrap_or(Scalar::Null)),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(v) => Some(*v as f64),
            Self::Float(v) => Some(*v),
            Self::Number(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// Numbers by value, maps by name whatever their order.
impl PartialEq for Datum {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Number(a), Self::Number(b)) if a == b => true,
            _ => match (self.number(), other.number()) {
                // An expectation of nan is met by nan.
                (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
                _ => false,
            },
        }
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

/// As JSON, as far as JSON has it.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(v) => v.fmt(f),
            Self::Int(v) => v.fmt(f),
            Self::Float(v) => write!(f, "{v:?}"),
            Self::Number(v) => f.write_str(v),
            Self::Str(v) => quoted(f, v),
            Self::Bytes(v) => {
                f.write_str("bytes ")?;
                v.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(message) => message.fmt(f),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.0.iter().enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            quoted(f, name)?;
            write!(f, ": {value}")?;
        }
        f.write_str("}")
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}
