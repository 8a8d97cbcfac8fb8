//! Sizes and durations as users write them: always with a unit.

use std::fmt;
use std::time::Duration;

/// Why a size or a duration was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// There is no number at the start.
    NoNumber,
    /// The number has no unit.
    NoUnit {
        /// Units that would do.
        expected: &'static str,
    },
    /// The unit is not known.
    UnknownUnit {
        /// What was written.
        unit: String,
        /// Units that would do.
        expected: &'static str,
    },
    /// The value does not fit 64 bits.
    TooLarge,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber => f.write_str("expected a number with a unit"),
            Self::NoUnit { expected } => write!(f, "needs a unit ({expected})"),
            Self::UnknownUnit { unit, expected } => {
                write!(f, "unknown unit '{unit}' (use {expected})")
            }
            Self::TooLarge => f.write_str("is too large"),
        }
    }
}

impl std::error::Error for UnitError {}

const SIZE_UNITS: &str = "B, KB, KiB, MB, MiB, GB, GiB, TiB";
const TIME_UNITS: &str = "us, ms, s, m, h, d";

/// Parses `"64MiB"`, `"1.5 GiB"`, `"100 B"` into bytes. Decimal units (KB) are
/// powers of 1000, binary ones (KiB) powers of 1024.
///
/// # Errors
/// Says what is missing or unknown.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    scaled(text, SIZE_UNITS, |unit| {
        Some(match unit.to_ascii_lowercase().as_str() {
            "b" => 1,
            "kb" => 1_000,
            "kib" => 1 << 10,
            "mb" => 1_000_000,
            "mib" => 1 << 20,
            "gb" => 1_000_000_000,
            "gib" => 1 << 30,
            "tb" => 1_000_000_000_000,
            "tib" => 1 << 40,
            _ => return None,
        })
    })
}

/// Parses `"250ms"`, `"10s"`, `"1.5h"`.
///
/// # Errors
/// Says what is missing or unknown.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    scaled(text, TIME_UNITS, |unit| {
        Some(match unit {
            "us" | "µs" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" | "min" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => return None,
        })
    })
    .map(Duration::from_micros)
}

fn scaled(
    text: &str,
    expected: &'static str,
    factor: impl Fn(&str) -> Option<u64>,
) -> Result<u64, UnitError> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(UnitError::NoNumber);
    }
    if unit.is_empty() {
        return Err(UnitError::NoUnit { expected });
    }
    let unknown = || UnitError::UnknownUnit { unit: unit.to_owned(), expected };
    let factor = factor(unit).ok_or_else(unknown)?;
    let whole: u64 = whole.parse().map_err(|_| UnitError::TooLarge)?;
    let mut value = whole.checked_mul(factor).ok_or(UnitError::TooLarge)?;
    // Exact decimals: the fraction is applied digit by digit, rounding down.
    let mut step = factor;
    for digit in fraction.bytes() {
        let place = u64::from(digit - b'0');
        value = value.checked_add(place * step / 10).ok_or(UnitError::TooLarge)?;
        step /= 10;
    }
    Ok(value)
}

/// Writes bytes with the largest binary unit that keeps the number short.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut at = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && at + 1 < UNITS.len() {
        value /= 1024.0;
        at += 1;
    }
    if value.fract() == 0.0 {
        format!("{value:.0} {}", UNITS[at])
    } else {
        format!("{value:.1} {}", UNITS[at])
    }
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_units() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1.5 GiB", 3 << 29),
            ("100 B", 100),
            ("1kb", 1000),
            ("0.5KiB", 512),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_carry_units() {
        for (text, us) in [("250ms", 250_000), ("10s", 10_000_000), ("1.5h", 5_400_000_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(us)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(
            parse_bytes("64").unwrap_err().to_string(),
            format!("needs a unit ({SIZE_UNITS})")
        );
        assert!(parse_duration("5 sec").unwrap_err().to_string().contains("'sec'"));
        assert_eq!(parse_bytes("MiB"), Err(UnitError::NoNumber));
        assert_eq!(parse_bytes("1.MiB"), Err(UnitError::NoNumber));
        assert_eq!(parse_bytes("99999999999TiB"), Err(UnitError::TooLarge));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn bytes_are_written_short() {
        assert_eq!(format_bytes(64 << 20), "64 MiB");
        assert_eq!(format_bytes(1536), "1.5 KiB");
        assert_eq!(format_bytes(7), "7 B");
    }
}
