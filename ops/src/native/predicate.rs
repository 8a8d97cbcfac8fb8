//! Whether an expression is true of a row, without making its value: the
//! shapes that filters have, over the types that their rows have.

use ringmain_slab::{RowRef, ValueRef};

use super::eval::{Bound, math};
use super::parse::{Compare, Expr, Math};

/// A question to a row. The answer `None` means that the row has a type for
/// which Lua has a rule of its own, or an error: evaluate it in full.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Predicate {
    /// `field < 3`
    Number(Compare, u16, f64),
    /// `field == 'text'`; false for `~=`.
    Text(bool, u16, Vec<u8>),
    /// `field == true`; false for `~=`.
    Bool(bool, u16, bool),
    /// `field == nil`; false for `~=`.
    Nil(bool, u16),
    /// `field`
    True(u16),
    /// `a + b < c * 2`
    Numbers(Compare, Numeric, Numeric),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

/// Arithmetic over fields that are numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Numeric {
    Field(u16),
    Constant(f64),
    Minus(Box<Self>),
    Math(Math, Box<Self>, Box<Self>),
}

impl Numeric {
    /// The arithmetic form of an expression, if it has no other.
    pub(crate) fn compile(expr: &Bound) -> Option<Self> {
        Some(match expr {
            Expr::Number(value) => Self::Constant(*value),
            Expr::Field(field) => Self::Field(field.slot),
            Expr::Minus(inner) => match Self::compile(inner)? {
                Self::Constant(value) => Self::Constant(-value),
                inner => Self::Minus(Box::new(inner)),
            },
            Expr::Math(op, left, right) => match (Self::compile(left)?, Self::compile(right)?) {
                (Self::Constant(a), Self::Constant(b)) => Self::Constant(math(*op, a, b)),
                (left, right) => Self::Math(*op, Box::new(left), Box::new(right)),
            },
            _ => return None,
        })
    }

    fn value(&self, row: RowRef<'_>) -> Option<f64> {
        Some(match self {
            Self::Field(slot) => row.number(*slot)?,
            Self::Constant(value) => *value,
            Self::Minus(inner) => -inner.value(row)?,
            Self::Math(op, left, right) => math(*op, left.value(row)?, right.value(row)?),
        })
    }
}

/// Compares as IEEE 754 does, which is what Lua does.
#[inline]
pub(crate) fn compare(op: Compare, left: f64, right: f64) -> bool {
    match op {
        Compare::Eq => left == right,
        Compare::Ne => left != right,
        Compare::Lt => left < right,
        Compare::Le => left <= right,
        Compare::Gt => left > right,
        Compare::Ge => left >= right,
    }
}

/// `3 < a` is `a > 3`.
fn flip(op: Compare) -> Compare {
    match op {
        Compare::Lt => Compare::Gt,
        Compare::Le => Compare::Ge,
        Compare::Gt => Compare::Lt,
        Compare::Ge => Compare::Le,
        same => same,
    }
}

impl Predicate {
    /// The question that an expression asks, if it is one of these.
    pub(crate) fn compile(expr: &Bound) -> Option<Self> {
        let boxed = |expr: &Bound| Self::compile(expr).map(Box::new);
        match expr {
            Expr::Field(field) => Some(Self::True(field.slot)),
            Expr::Not(inner) => Some(Self::Not(boxed(inner)?)),
            Expr::And(left, right) => Some(Self::And(boxed(left)?, boxed(right)?)),
            Expr::Or(left, right) => Some(Self::Or(boxed(left)?, boxed(right)?)),
            Expr::Compare(op, left, right) => match (&**left, &**right) {
                (Expr::Field(field), constant) => Self::field(*op, field.slot, constant),
                (constant, Expr::Field(field)) => Self::field(flip(*op), field.slot, constant),
                _ => None,
            }
            .or_else(|| Self::numbers(*op, left, right)),
            _ => None,
        }
    }

    fn field(op: Compare, slot: u16, constant: &Bound) -> Option<Self> {
        if let Some(Numeric::Constant(value)) = Numeric::compile(constant) {
            return Some(Self::Number(op, slot, value));
        }
        let equal = match op {
            Compare::Eq => true,
            Compare::Ne => false,
            _ => return None,
        };
        match constant {
            Expr::Text(text) => Some(Self::Text(equal, slot, text.clone())),
            Expr::Bool(value) => Some(Self::Bool(equal, slot, *value)),
            Expr::Nil => Some(Self::Nil(equal, slot)),
            _ => None,
        }
    }

    /// Two fields may be two texts, equal or not, so `==` of them is no matter
    /// of numbers alone; but if both are numbers, it is.
    fn numbers(op: Compare, left: &Bound, right: &Bound) -> Option<Self> {
        Some(Self::Numbers(op, Numeric::compile(left)?, Numeric::compile(right)?))
    }

    /// The answer of a row.
    #[inline]
    pub(crate) fn holds(&self, row: RowRef<'_>) -> Option<bool> {
        match self {
            Self::Not(inner) => inner.holds_nested(row).map(|is| !is),
            Self::And(left, right) => {
                if left.holds_nested(row)? {
                    right.holds_nested(row)
                } else {
                    Some(false)
                }
            }
            Self::Or(left, right) => {
                if left.holds_nested(row)? {
                    Some(true)
                } else {
                    right.holds_nested(row)
                }
            }
            leaf => leaf.holds_leaf(row),
        }
    }

    /// Leaves are asked in place, only trees of trees by a call.
    #[inline]
    fn holds_nested(&self, row: RowRef<'_>) -> Option<bool> {
        match self {
            Self::Not(_) | Self::And(..) | Self::Or(..) => self.holds_deep(row),
            leaf => leaf.holds_leaf(row),
        }
    }

    #[inline(never)]
    fn holds_deep(&self, row: RowRef<'_>) -> Option<bool> {
        self.holds(row)
    }

    #[inline]
    fn holds_leaf(&self, row: RowRef<'_>) -> Option<bool> {
        match self {
            Self::Number(op, slot, value) => number(row, *slot, *op, *value),
            Self::Text(equal, slot, value) => Some(text(row, *slot, value) == *equal),
            Self::Bool(equal, slot, value) => {
                let same = matches!(row.get(*slot), ValueRef::Bool(is) if is == *value);
                Some(same == *equal)
            }
            Self::Nil(equal, slot) => {
                Some(matches!(row.get(*slot), ValueRef::Absent | ValueRef::Null) == *equal)
            }
            Self::True(slot) => Some(!matches!(
                row.get(*slot),
                ValueRef::Absent | ValueRef::Null | ValueRef::Bool(false)
            )),
            Self::Numbers(op, left, right) => {
                Some(compare(*op, left.value(row)?, right.value(row)?))
            }
            Self::Not(_) | Self::And(..) | Self::Or(..) => None,
        }
    }
}

/// A field against a constant number. Other types are ordered by an error, and
/// equal to no number.
#[inline]
pub(crate) fn number(row: RowRef<'_>, slot: u16, op: Compare, value: f64) -> Option<bool> {
    match row.number(slot) {
        Some(is) => Some(compare(op, is, value)),
        None => other_than_number(row, slot, op),
    }
}

#[cold]
fn other_than_number(row: RowRef<'_>, slot: u16, op: Compare) -> Option<bool> {
    match (row.get(slot), op) {
        (ValueRef::Number(_), _) => None,
        (_, Compare::Eq) => Some(false),
        (_, Compare::Ne) => Some(true),
        _ => None,
    }
}

/// Whether a field is this text.
#[inline]
pub(crate) fn text(row: RowRef<'_>, slot: u16, value: &[u8]) -> bool {
    match row.get(slot) {
        ValueRef::Str(text) => text.as_bytes() == value,
        ValueRef::Bytes(bytes) => bytes == value,
        _ => false,
    }
}
