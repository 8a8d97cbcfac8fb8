//! How one field of a generated message gets its value.
//!
//! Everything that can be prepared is: choices are values, names are cut from
//! one string. Bound: that string is at most [`NAMES_BYTES_MAX`]; names beyond
//! it are written digit by digit.

use ringmain_base::{Prng, Xoshiro};
use ringmain_config::plan::{GenField, Scalar, TimeUnit};
use ringmain_slab::{Blank, Scalar as Value, Stamped};

const NAMES_BYTES_MAX: u64 = 1 << 20;
/// Longest decimal form of a `u64`.
const DIGITS_MAX: usize = 20;

#[derive(Debug)]
pub(crate) enum Fill {
    Const(Scalar),
    /// Choices of any kind.
    Choice(Vec<Scalar>),
    /// Choices that are all text.
    Texts(Vec<String>),
    Int {
        min: i64,
        count: u64,
    },
    Decimal {
        min: i64,
        count: u64,
        scale: f64,
    },
    Float {
        min: f64,
        width: f64,
    },
    Bool {
        below: u64,
        always: bool,
    },
    Names {
        text: String,
        width: usize,
        count: u64,
    },
    Name {
        text: String,
        prefix: usize,
        count: u64,
        digits: usize,
    },
    Sequence {
        start: i64,
        step: i64,
    },
    Letters {
        text: Vec<u8>,
    },
    Timestamp {
        divisor: i64,
    },
}

/// What a message is made of besides chance.
pub(crate) struct Moment {
    /// The first one's number among all that the twins make.
    pub(crate) number: u64,
    /// From one of this twin's messages to the next.
    pub(crate) step: u64,
    pub(crate) wall_us: i64,
}

/// A field, and the chance that is its own.
pub(crate) struct Field {
    /// Its place in the stamp.
    at: usize,
    fill: Fill,
    rng: Xoshiro,
}

impl Field {
    pub(crate) fn new(at: usize, fill: Fill, seed: u64) -> Self {
        let rng = Xoshiro::new(seed.wrapping_add((at as u64) << 32));
        Self { at, fill, rng }
    }

    /// Fills its column: what kind of field it is, is decided once for all
    /// rows.
    pub(crate) fn fill(&mut self, rows: &mut Stamped<'_>, moment: &Moment) {
        // By value, so that it stays in registers through the loop.
        let mut own = self.rng.clone();
        let (at, rng) = (self.at, &mut own);
        let all = 0..rows.len();
        match &mut self.fill {
            Fill::Const(_) => {}
            Fill::Texts(values) => all.for_each(|row| {
                let index = rng.below(values.len() as u64) as usize;
                rows.set_str(row, at, &values[index]);
            }),
            Fill::Choice(values) => all.for_each(|row| {
                let index = rng.below(values.len() as u64) as usize;
                put(rows, row, at, values.get(index));
            }),
            Fill::Int { min, count } => {
                all.for_each(|row| rows.set_int(row, at, pick(rng, *min, *count)));
            }
            Fill::Decimal { min, count, scale } => all.for_each(|row| {
                rows.set_float(row, at, pick(rng, *min, *count) as f64 / *scale);
            }),
            Fill::Float { min, width } => {
                all.for_each(|row| rows.set_float(row, at, *min + rng.unit_f64() * *width));
            }
            Fill::Bool { below, always } => {
                all.for_each(|row| rows.set_bool(row, at, rng.next_u64() < *below || *always));
            }
            Fill::Names { text, width, count } => all.for_each(|row| {
                let from = rng.below(*count) as usize * *width;
                rows.set_str(row, at, &text[from..from + *width]);
            }),
            Fill::Name { text, prefix, count, digits } => all.for_each(|row| {
                text.truncate(*prefix);
                push_number(text, rng.below(*count), *digits);
                rows.set_str(row, at, text);
            }),
            Fill::Sequence { start, step } => all.for_each(|row| {
                let number = moment.number.wrapping_add(moment.step.wrapping_mul(row as u64));
                let value = start.wrapping_add(step.wrapping_mul(number as i64));
                rows.set_int(row, at, value);
            }),
            Fill::Letters { text } => all.for_each(|row| {
                letters(text, rng);
                let text = std::str::from_utf8(text).expect("letters are ASCII");
                rows.set_str(row, at, text);
            }),
            Fill::Timestamp { divisor } => {
                let value = moment.wall_us.div_euclid(*divisor);
                all.for_each(|row| rows.set_int(row, at, value));
            }
        }
        self.rng = own;
    }
}

/// A value of any kind; text where the stamp has room for it.
fn put(rows: &mut Stamped<'_>, row: usize, at: usize, value: Option<&Scalar>) {
    match value {
        Some(Scalar::String(text)) => rows.set_str(row, at, text),
        Some(Scalar::Integer(number)) => rows.set_int(row, at, *number),
        Some(Scalar::Float(number)) => rows.set_float(row, at, *number),
        Some(Scalar::Boolean(flag)) => rows.set_bool(row, at, *flag),
        None => rows.set_null(row, at),
    }
}

impl Fill {
    pub(crate) fn new(field: &GenField) -> Self {
        match field {
            GenField::Const(value) => Self::Const(value.clone()),
            GenField::Choice { values } => choice(values),
            GenField::Int { min, max } => Self::Int { min: *min, count: span(*min, *max) },
            GenField::Float { min, max, decimals } => decimal(*min, *max, *decimals),
            GenField::Bool { probability } => Self::Bool {
                below: (probability.clamp(0.0, 1.0) * 2f64.powi(64)) as u64,
                always: *probability >= 1.0,
            },
            GenField::Name { prefix, count, digits } => {
                names(prefix, (*count).max(1), usize::from(*digits))
            }
            GenField::Sequence { start, step } => Self::Sequence { start: *start, step: *step },
            GenField::String { length } => Self::Letters { text: vec![b'a'; *length as usize] },
            GenField::Timestamp { unit } => Self::Timestamp {
                divisor: match unit {
                    TimeUnit::S => 1_000_000,
                    TimeUnit::Ms => 1_000,
                    TimeUnit::Us => 1,
                },
            },
        }
    }

    /// Most bytes that a value takes in the row's variable part.
    pub(crate) fn bytes_max(&self) -> usize {
        match self {
            Self::Const(value) => scalar_bytes(value),
            Self::Choice(values) => values.iter().map(scalar_bytes).max().unwrap_or(0),
            Self::Texts(values) => values.iter().map(String::len).max().unwrap_or(0),
            Self::Names { width, .. } => *width,
            Self::Name { prefix, digits, .. } => prefix + DIGITS_MAX.max(*digits),
            Self::Letters { text } => text.len(),
            _ => 0,
        }
    }

    /// What the stamp holds for it.
    pub(crate) fn blank(&self) -> Blank<'_> {
        match (self, self.bytes_max()) {
            (Self::Const(value), _) => Blank::Value(scalar(value)),
            (_, 0) => Blank::Plain,
            (_, bytes) => Blank::Text(bytes),
        }
    }
}

fn choice(values: &[Scalar]) -> Fill {
    let text = |value: &Scalar| match value {
        Scalar::String(text) => Some(text.clone()),
        _ => None,
    };
    let texts: Option<Vec<_>> = values.iter().map(text).collect();
    match texts {
        Some(texts) if !texts.is_empty() => Fill::Texts(texts),
        _ => Fill::Choice(values.to_vec()),
    }
}

/// Integers from `min` to `max`; 0 stands for all 2^64.
fn span(min: i64, max: i64) -> u64 {
    (max.max(min).wrapping_sub(min) as u64).wrapping_add(1)
}

#[inline]
fn pick(rng: &mut Xoshiro, min: i64, count: u64) -> i64 {
    let offset = if count == 0 { rng.next_u64() } else { rng.below(count) };
    min.wrapping_add(offset as i64)
}

/// Floats with few digits are made as integers and divided, which gives the
/// double nearest to the decimal, and so its short form in text.
fn decimal(min: f64, max: f64, decimals: u8) -> Fill {
    const EXACT: f64 = (1u64 << 53) as f64;
    let scale = 10f64.powi(i32::from(decimals));
    let (low, high) = ((min * scale).round(), (max * scale).round());
    if low.abs() < EXACT && high.abs() < EXACT && scale < EXACT {
        let (low, high) = (low as i64, high as i64);
        Fill::Decimal { min: low, count: span(low, high), scale }
    } else {
        Fill::Float { min, width: max - min }
    }
}

fn names(prefix: &str, count: u64, digits: usize) -> Fill {
    let mut text = prefix.to_owned();
    push_number(&mut text, count - 1, digits);
    let width = text.len();
    text.clear();
    text.push_str(prefix);
    push_number(&mut text, 0, digits);
    let equal = text.len() == width;
    if !equal || count.saturating_mul(width as u64) > NAMES_BYTES_MAX {
        text.truncate(prefix.len());
        return Fill::Name { text, prefix: prefix.len(), count, digits };
    }
    text.clear();
    for number in 0..count {
        text.push_str(prefix);
        push_number(&mut text, number, digits);
    }
    Fill::Names { text, width, count }
}

fn push_number(text: &mut String, mut number: u64, digits: usize) {
    let mut reversed = [b'0'; DIGITS_MAX];
    let mut len = 0;
    while number > 0 || len == 0 {
        reversed[len] = b'0' + (number % 10) as u8;
        number /= 10;
        len += 1;
    }
    for _ in len..digits {
        text.push('0');
    }
    for digit in reversed[..len].iter().rev() {
        text.push(char::from(*digit));
    }
}

/// The bias of taking a byte times 26 is below 0.4 %.
fn letters(text: &mut [u8], rng: &mut Xoshiro) {
    for chunk in text.chunks_mut(8) {
        let random = rng.next_u64().to_le_bytes();
        for (letter, byte) in chunk.iter_mut().zip(random) {
            *letter = b'a' + ((u16::from(byte) * 26) >> 8) as u8;
        }
    }
}

#[inline]
fn scalar(value: &Scalar) -> Value<'_> {
    match value {
        Scalar::String(text) => Value::Str(text),
        Scalar::Integer(number) => Value::Int(*number),
        Scalar::Float(number) => Value::Float(*number),
        Scalar::Boolean(flag) => Value::Bool(*flag),
    }
}

fn scalar_bytes(value: &Scalar) -> usize {
    match value {
        Scalar::String(text) => text.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_to_their_digits() {
        let mut text = "m-".to_owned();
        push_number(&mut text, 42, 4);
        assert_eq!(text, "m-0042");
        text.clear();
        push_number(&mut text, u64::MAX, 2);
        assert_eq!(text, u64::MAX.to_string());
        text.clear();
        push_number(&mut text, 0, 0);
        assert_eq!(text, "0");
    }

    #[test]
    fn names_of_equal_length_are_prepared_and_others_are_not() {
        assert!(matches!(names("m", 100, 2), Fill::Names { width: 3, count: 100, .. }));
        assert!(matches!(names("m", 101, 2), Fill::Name { .. }));
        assert!(matches!(names("m", 1 << 40, 20), Fill::Name { .. }));
    }

    #[test]
    fn the_whole_range_of_integers_is_reached() {
        assert_eq!(span(i64::MIN, i64::MAX), 0);
        assert_eq!(span(-1, 1), 3);
        assert_eq!(span(5, 4), 1);
        let mut rng = Xoshiro::new(1);
        let seen: std::collections::BTreeSet<i64> =
            (0..100).map(|_| pick(&mut rng, -1, 3)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [-1, 0, 1]);
    }
}
