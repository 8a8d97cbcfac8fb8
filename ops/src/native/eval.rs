//! One expression on one row, with everything that Lua does: the slow form,
//! which the fast ones fall back to for rows that they do not understand.
//!
//! Strings that an expression makes lie in a buffer of the evaluator, so that
//! nothing is allocated per row once it has its size.

use std::cmp::Ordering;
use std::fmt::Write as _;

use ringmain_slab::{RowRef, ValueRef};

use super::number;
use super::parse::{Compare, Expr, Math};

/// A field of a bound expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub slot: u16,
    pub name: String,
}

/// An expression over slots.
pub(crate) type Bound = Expr<Field>;

/// A Lua value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Nil,
    Bool(bool),
    Number(f64),
    Text(&'a [u8]),
    /// Text from `.0` to `.1` in the evaluator's buffer.
    Made(usize, usize),
    /// A nested value, which is the field in this slot.
    Table(u16),
}

/// The expression raised an error; its message is in the evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raised;

/// What evaluation needs besides the expression and the row.
#[derive(Debug, Default)]
pub(crate) struct Evaluator {
    made: Vec<u8>,
    detail: String,
}

impl Value<'_> {
    pub(crate) fn is_true(self) -> bool {
        !matches!(self, Value::Nil | Value::Bool(false))
    }

    /// As in LuaJIT's messages.
    fn type_name(self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::Text(_) | Value::Made(..) => "string",
            Value::Table(_) => "table",
        }
    }
}

/// The value that Lua sees in a field.
pub(crate) fn field(row: RowRef<'_>, slot: u16) -> Value<'_> {
    match row.get(slot) {
        ValueRef::Absent | ValueRef::Null => Value::Nil,
        ValueRef::Bool(value) => Value::Bool(value),
        ValueRef::Int(value) => Value::Number(value as f64),
        ValueRef::Float(value) => Value::Number(value),
        ValueRef::Number(text) => Value::Number(text.parse().unwrap_or(f64::NAN)),
        ValueRef::Str(text) => Value::Text(text.as_bytes()),
        ValueRef::Bytes(bytes) => Value::Text(bytes),
        ValueRef::List(_) | ValueRef::Map(_) => Value::Table(slot),
    }
}

/// Lua's arithmetic on numbers, as LuaJIT's interpreter does it.
#[inline]
pub(crate) fn math(op: Math, left: f64, right: f64) -> f64 {
    match op {
        Math::Add => left + right,
        Math::Sub => left - right,
        Math::Mul => left * right,
        Math::Div => left / right,
        Math::Mod => left - (left / right).floor() * right,
        Math::Pow => left.powf(right),
    }
}

impl Evaluator {
    /// Why the last evaluation failed.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The bytes of a text, wherever they are.
    pub(crate) fn text<'v>(&'v self, value: Value<'v>) -> Option<&'v [u8]> {
        match value {
            Value::Text(text) => Some(text),
            Value::Made(from, to) => self.made.get(from..to),
            _ => None,
        }
    }

    /// Copies a text to the evaluator, as its row is about to be edited.
    pub(crate) fn hold(&mut self, text: &[u8]) -> (usize, usize) {
        let from = self.made.len();
        self.made.extend_from_slice(text);
        (from, self.made.len())
    }

    /// The bytes of [`Evaluator::hold`] or [`Value::Made`].
    pub(crate) fn made(&self, from: usize, to: usize) -> &[u8] {
        &self.made[from..to]
    }

    /// Forgets the strings made so far.
    pub(crate) fn reset(&mut self) {
        self.made.clear();
    }

    /// The value of an expression. [`Value::Made`] is good until
    /// [`Evaluator::reset`].
    pub(crate) fn value<'a>(
        &mut self,
        expr: &'a Bound,
        row: RowRef<'a>,
    ) -> Result<Value<'a>, Raised> {
        Ok(match expr {
            Expr::Nil => Value::Nil,
            Expr::Bool(value) => Value::Bool(*value),
            Expr::Number(value) => Value::Number(*value),
            Expr::Text(text) => Value::Text(text),
            Expr::Field(at) => field(row, at.slot),
            Expr::Not(inner) => Value::Bool(!self.value(inner, row)?.is_true()),
            Expr::Minus(inner) => {
                let value = self.value(inner, row)?;
                Value::Number(-self.number(inner, value)?)
            }
            Expr::Math(op, left, right) => {
                let (a, b) = (self.value(left, row)?, self.value(right, row)?);
                let a = self.number(left, a)?;
                Value::Number(math(*op, a, self.number(right, b)?))
            }
            Expr::Compare(op, left, right) => {
                let (a, b) = (self.value(left, row)?, self.value(right, row)?);
                Value::Bool(self.compare(*op, (left, a), (right, b))?)
            }
            Expr::And(left, right) => {
                let value = self.value(left, row)?;
                if value.is_true() { self.value(right, row)? } else { value }
            }
            Expr::Or(left, right) => {
                let value = self.value(left, row)?;
                if value.is_true() { value } else { self.value(right, row)? }
            }
            Expr::Concat(left, right) => {
                let (a, b) = (self.value(left, row)?, self.value(right, row)?);
                // Lua joins from the right, so it finds that fault first.
                let start = self.made.len();
                for (expr, value) in [(right, b), (left, a)] {
                    if matches!(value, Value::Nil | Value::Bool(_) | Value::Table(_)) {
                        return Err(self.raise("concatenate", expr, value));
                    }
                }
                self.append(a);
                self.append(b);
                Value::Made(start, self.made.len())
            }
        })
    }

    fn append(&mut self, value: Value<'_>) {
        match value {
            Value::Text(text) => self.made.extend_from_slice(text),
            Value::Made(from, to) => self.made.extend_from_within(from..to),
            Value::Number(number) => number::write(&mut self.made, number),
            Value::Nil | Value::Bool(_) | Value::Table(_) => {}
        }
    }

    /// An operand of arithmetic: texts that read as numbers count as such.
    fn number(&mut self, expr: &Bound, value: Value<'_>) -> Result<f64, Raised> {
        let number = match value {
            Value::Number(number) => Some(number),
            _ => self.text(value).and_then(number::scan),
        };
        number.ok_or_else(|| self.raise("perform arithmetic on", expr, value))
    }

    fn compare(
        &mut self,
        op: Compare,
        left: (&Bound, Value<'_>),
        right: (&Bound, Value<'_>),
    ) -> Result<bool, Raised> {
        if matches!(op, Compare::Eq | Compare::Ne) {
            return Ok(self.equal(left.1, right.1) == (op == Compare::Eq));
        }
        let order = match (left.1, right.1) {
            (Value::Number(a), Value::Number(b)) => a.partial_cmp(&b),
            (a, b) => match (self.text(a), self.text(b)) {
                (Some(a), Some(b)) => Some(a.cmp(b)),
                _ => return Err(self.raise_compare(left, right)),
            },
        };
        Ok(order.is_some_and(|order| holds(op, order)))
    }

    fn equal(&self, left: Value<'_>, right: Value<'_>) -> bool {
        match (left, right) {
            (Value::Nil, Value::Nil) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a == b,
            // Each look at a nested value makes another table.
            (Value::Table(_), Value::Table(_)) => false,
            (a, b) => self.text(a).is_some() && self.text(a) == self.text(b),
        }
    }

    #[cold]
    fn raise(&mut self, what: &str, expr: &Bound, value: Value<'_>) -> Raised {
        self.detail.clear();
        let _ = write!(self.detail, "attempt to {what} {}", Operand(expr, value));
        Raised
    }

    #[cold]
    fn raise_compare(&mut self, left: (&Bound, Value<'_>), right: (&Bound, Value<'_>)) -> Raised {
        let (left, right) = (Operand(left.0, left.1), Operand(right.0, right.1));
        self.detail.clear();
        let _ = write!(self.detail, "attempt to compare {left} with {right}");
        Raised
    }
}

fn holds(op: Compare, order: Ordering) -> bool {
    match op {
        Compare::Eq => order.is_eq(),
        Compare::Ne => order.is_ne(),
        Compare::Lt => order.is_lt(),
        Compare::Le => order.is_le(),
        Compare::Gt => order.is_gt(),
        Compare::Ge => order.is_ge(),
    }
}

/// What a message calls an operand: by name, if it is a field.
struct Operand<'a>(&'a Bound, Value<'a>);

impl std::fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0, self.1.type_name()) {
            (Expr::Field(field), kind) => write!(f, "field '{}' (a {kind} value)", field.name),
            (_, "nil") => f.write_str("a nil value"),
            (_, kind) => write!(f, "a {kind}"),
        }
    }
}
