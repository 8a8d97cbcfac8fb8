//! Paths and topics with parts that are filled in per message.
//!
//! In a path, a value must not leave the folder that the rest of the path names: `/` and
//! NUL become `_`, and a value that is `.`, `..` or nothing becomes `_` too.
//! Dates are UTC, of the message's own time.

use std::fmt::Write;

use ringmain_base::Reason;
use ringmain_config::plan::{DateField, Segment, Template};
use ringmain_slab::{RowRef, SharedSchema, ValueRef};

const NAME_BYTES_MAX: usize = 200;
const MINUTE_US: i64 = 60_000_000;

/// A template with its fields looked up.
#[derive(Debug)]
pub(crate) struct Path {
    parts: Vec<Part>,
    guard: Guard,
    shard: u16,
    /// The minute of the last date, and its text for each part.
    minute: Option<i64>,
    dates: Vec<String>,
}

/// What values are kept from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// Leaving the folder.
    Folder,
    /// Nothing: they stand as they are.
    Nothing,
    /// Being read as part of an address: they are percent-encoded.
    Url,
    /// Ending the line that they stand in.
    Line,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Field { name: String, slot: Option<u16> },
    Date { format: Vec<DateField>, index: usize },
    Shard,
}

/// Why a row has no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoPath {
    pub(crate) field: String,
}

impl NoPath {
    pub(crate) const REASON: Reason = Reason::Field;

    pub(crate) fn detail(&self) -> String {
        format!("path: the message has no usable field '{}'", self.field)
    }
}

impl Path {
    pub(crate) fn new(template: &Template, schema: &SharedSchema, shard: u16) -> Self {
        let mut dates = Vec::new();
        let part = |segment: &Segment| match segment {
            Segment::Literal(text) => Part::Literal(text.clone()),
            // A field that nobody has named yet gets its slot now, or is one
            // of those in the row's rest.
            Segment::Field(name) => {
                Part::Field { name: name.clone(), slot: schema.intern(name).ok() }
            }
            Segment::Date(format) => {
                dates.push(String::new());
                Part::Date { format: format.clone(), index: dates.len() - 1 }
            }
            Segment::Shard => Part::Shard,
        };
        let parts = template.segments.iter().map(part).collect();
        Self { parts, guard: Guard::Folder, shard, minute: None, dates }
    }

    /// A text that is no path of files.
    pub(crate) fn verbatim(template: &Template, schema: &SharedSchema, shard: u16) -> Self {
        Self { guard: Guard::Nothing, ..Self::new(template, schema, shard) }
    }

    /// Path and query of an address.
    pub(crate) fn url(template: &Template, schema: &SharedSchema, shard: u16) -> Self {
        Self { guard: Guard::Url, ..Self::new(template, schema, shard) }
    }

    /// What stands in a header line.
    pub(crate) fn header(template: &Template, schema: &SharedSchema, shard: u16) -> Self {
        Self { guard: Guard::Line, ..Self::new(template, schema, shard) }
    }

    /// The path is the same for every message.
    pub(crate) fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_) | Part::Shard))
    }

    /// Every shard has its own.
    pub(crate) fn has_shard(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Shard))
    }

    /// The folder that every path lies in.
    pub(crate) fn folder(&self) -> std::path::PathBuf {
        let literal = match self.parts.first() {
            Some(Part::Literal(text)) => text.as_str(),
            _ => "",
        };
        literal
            .rsplit_once('/')
            .map_or("", |(folder, _)| if folder.is_empty() { "/" } else { folder })
            .into()
    }

    /// The path of a constant template.
    pub(crate) fn constant(&self) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Shard => push_number(&mut out, self.shard),
                Part::Field { .. } | Part::Date { .. } => {}
            }
        }
        out
    }

    /// Writes the path of a row to `out`.
    pub(crate) fn fill(&mut self, row: RowRef<'_>, out: &mut String) -> Result<(), NoPath> {
        out.clear();
        if !self.dates.is_empty() {
            self.date(row.ts());
        }
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Shard => push_number(out, self.shard),
                Part::Date { index, .. } => out.push_str(&self.dates[*index]),
                Part::Field { name, slot } => {
                    let value = match slot {
                        Some(slot) => row.get(*slot),
                        None => row.rest().map_or(ValueRef::Absent, |rest| rest.get(name)),
                    };
                    if !push_value(out, value, self.guard) {
                        return Err(NoPath { field: name.clone() });
                    }
                }
            }
        }
        Ok(())
    }

    fn date(&mut self, ts_us: i64) {
        let minute = ts_us.div_euclid(MINUTE_US);
        if self.minute == Some(minute) {
            return;
        }
        self.minute = Some(minute);
        for part in &self.parts {
            if let Part::Date { format, index } = part {
                let text = &mut self.dates[*index];
                text.clear();
                push_date(text, format, minute);
            }
        }
    }
}

fn push_number(out: &mut String, number: u16) {
    // Writing to a `String` cannot fail.
    let _ = write!(out, "{number}");
}

/// False when there is no text for it.
fn push_value(out: &mut String, value: ValueRef<'_>, guard: Guard) -> bool {
    let start = out.len();
    let _ = match value {
        ValueRef::Str(text) => {
            match guard {
                Guard::Folder => push_name(out, text),
                Guard::Nothing => out.push_str(text),
                Guard::Url => push_encoded(out, text),
                Guard::Line => {
                    out.extend(text.chars().map(|c| if c.is_control() { '_' } else { c }));
                }
            }
            Ok(())
        }
        ValueRef::Int(number) => write!(out, "{number}"),
        ValueRef::Bool(flag) => write!(out, "{flag}"),
        ValueRef::Float(number) => write!(out, "{number}"),
        ValueRef::Number(text) => write!(out, "{text}"),
        _ => return false,
    };
    if matches!(guard, Guard::Folder | Guard::Url) && matches!(&out[start..], "" | "." | "..") {
        out.truncate(start);
        out.push('_');
    }
    true
}

fn push_name(out: &mut String, text: &str) {
    let mut end = text.len().min(NAME_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let safe = |c: char| if matches!(c, '/' | '\0') { '_' } else { c };
    out.extend(text[..end].chars().map(safe));
}

/// RFC 3986: everything but unreserved characters.
fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte as char);
            }
            // Writing to a `String` cannot fail.
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
}

fn push_date(out: &mut String, format: &[DateField], minute: i64) {
    let (year, month, day) = civil(minute.div_euclid(24 * 60));
    let minute_of_day = minute.rem_euclid(24 * 60);
    for field in format {
        let _ = match field {
            DateField::Year => write!(out, "{year:04}"),
            DateField::Month => write!(out, "{month:02}"),
            DateField::Day => write!(out, "{day:02}"),
            DateField::Hour => write!(out, "{:02}", minute_of_day / 60),
            DateField::Minute => write!(out, "{:02}", minute_of_day % 60),
            DateField::Literal(text) => {
                out.push_str(text);
                Ok(())
            }
        };
    }
}

/// Year, month and day of a day since 1970-01-01 (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use ringmain_config::Spanned;
    use ringmain_slab::{Budget, Scalar, Scratch, Slab};

    use super::*;

    fn path(segments: Vec<Segment>, schema: &SharedSchema) -> Path {
        let template = Template { text: Spanned::new(String::new(), Default::default()), segments };
        Path::new(&template, schema, 3)
    }

    fn slab(value: Scalar<'_>, ts: i64) -> Slab {
        let mut slab = Slab::new(16 << 10, &Budget::new(0));
        let mut scratch = Scratch::default();
        let mut row = slab.build(1, 1, &mut scratch);
        row.set(0, value);
        row.finish(ts).unwrap();
        slab
    }

    fn filled(value: Scalar<'_>) -> Result<String, NoPath> {
        let schema = SharedSchema::new();
        let segments = vec![
            Segment::Literal("out/".into()),
            Segment::Field("plant".into()),
            Segment::Literal(".".into()),
            Segment::Shard,
        ];
        let mut out = "rest of the row before".to_owned();
        path(segments, &schema).fill(slab(value, 0).row(0), &mut out).map(|()| out)
    }

    #[test]
    fn values_cannot_leave_their_folder() {
        assert_eq!(filled(Scalar::Str("graz")).unwrap(), "out/graz.3");
        assert_eq!(filled(Scalar::Str("../../etc/passwd")).unwrap(), "out/.._.._etc_passwd.3");
        assert_eq!(filled(Scalar::Str("..")).unwrap(), "out/_.3");
        assert_eq!(filled(Scalar::Str("")).unwrap(), "out/_.3");
        assert_eq!(filled(Scalar::Str("a\0b")).unwrap(), "out/a_b.3");
        assert_eq!(filled(Scalar::Int(-7)).unwrap(), "out/-7.3");
        assert_eq!(filled(Scalar::Null), Err(NoPath { field: "plant".into() }));
        assert!(filled(Scalar::Str(&"ü".repeat(5_000))).unwrap().len() < 220);
    }

    #[test]
    fn dates_are_utc_and_of_the_message() {
        use DateField::{Day, Hour, Literal, Minute, Month, Year};
        let schema = SharedSchema::new();
        let format = vec![Year, Literal("/".into()), Month, Day, Literal("-".into()), Hour, Minute];
        let mut path = path(vec![Segment::Date(format)], &schema);
        let mut out = String::new();
        for (seconds, text) in [
            (0, "1970/0101-0000"),
            (951_827_696, "2000/0229-1234"),
            (1_735_689_599, "2024/1231-2359"),
            (-1, "1969/1231-2359"),
        ] {
            path.fill(slab(Scalar::Null, seconds * 1_000_000).row(0), &mut out).unwrap();
            assert_eq!(out, text);
        }
    }

    #[test]
    fn a_path_without_parts_of_the_message_is_constant() {
        let schema = SharedSchema::new();
        let path = path(vec![Segment::Literal("a".into()), Segment::Shard], &schema);
        assert!(path.is_constant() && path.has_shard());
        assert_eq!(path.constant(), "a3");
    }
}
