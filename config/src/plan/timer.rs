//! Where messages come from by the clock.

use super::source::Scalar;
use crate::span::Spanned;

/// `type = "timer"`
#[derive(Clone, Debug, PartialEq)]
pub struct TimerSource {
    /// When.
    pub schedule: TimerSchedule,
    /// Zone of dates and cron expressions.
    pub timezone: Spanned<String>,
    /// What happens to times that were missed.
    pub misfire: Misfire,
    /// How many missed times `all` makes up for.
    pub misfire_max: u32,
    /// How many messages; endless without.
    pub count: Option<u64>,
    /// Constant fields.
    pub fields: Vec<(Spanned<String>, Scalar)>,
    /// The field with the time.
    pub timestamp: Spanned<String>,
    /// How it is written.
    pub format: TimeFormat,
}

/// When a timer makes a message.
#[derive(Clone, Debug, PartialEq)]
pub enum TimerSchedule {
    /// After a first delay, and then again and again.
    Every {
        /// Before the first message.
        initial_us: u64,
        /// Between two messages.
        delay_us: u64,
    },
    /// Once, in microseconds since the Unix epoch.
    Date(i64),
    /// By a cron expression of six fields, which has been checked.
    Cron(Spanned<String>),
}

/// `misfire`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfire {
    /// Nothing.
    Skip,
    /// One message for all of them.
    Once,
    /// A message for each.
    All,
}

/// `timestamp_format`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// An integer since 1970.
    Number(super::source::TimeUnit),
    /// As in RFC 3339, in UTC.
    Rfc3339,
    /// A pattern with `%`, in the timer's zone.
    Pattern(String),
}
