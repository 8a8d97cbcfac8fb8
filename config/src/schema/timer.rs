//! Keys of the timer.

use super::Kind::{Int, OneOf, Other, Text};
use super::operator_keyed::LONG_US;
use super::source::TYPE;
use super::{Schema, def, opt};

/// Units of the Data Flow Engine's timer.
pub(crate) const TIME_UNITS: &[&str] =
    &["NANOSECONDS", "MICROSECONDS", "MILLISECONDS", "SECONDS", "MINUTES", "HOURS", "DAYS"];

/// Longest delay.
pub(crate) const DELAY_US_MAX: u64 = LONG_US;

pub(crate) static TIMER: Schema = Schema {
    title: "a timer source",
    header: "type = \"timer\"",
    about: "Makes a message at times: after a delay and again and again (`fixed_delay = \"10s\"`), \
            at one date (`date = \"2026-12-24T18:00:00Z\"`), or by a cron expression of six fields, \
            seconds first (`cron = \"0 30 6 * * MON-FRI\"` with `timezone = \"Europe/Berlin\"`). \
            The message is `{\"timestamp\":\"2026-12-24T18:00:00Z\"}` and the constants of `fields`. \
            With a data folder, dates and cron expressions remember over a restart what they have \
            sent.",
    parents: &[&TYPE],
    keys: &[
        opt(
            "fixed_delay",
            Other("a duration such as \"10s\", or an integer in `time_unit`"),
            "1s, when there is neither date nor cron",
            "Time between two messages.",
        ),
        def("time_unit", OneOf(TIME_UNITS), "SECONDS", "Unit of delays that are integers."),
        def(
            "initial_delay",
            Other("a duration such as \"10s\", or an integer in `time_unit`"),
            "0s",
            "For `fixed_delay`: time before the first message.",
        ),
        opt(
            "date",
            Text,
            "no date",
            "The one time: RFC 3339, or in `date_format`. The source has ended after it.",
        ),
        def(
            "date_format",
            Text,
            "%m/%d/%y %H:%M:%S",
            "How `date` is written in `timezone`, when it is not RFC 3339.",
        ),
        opt(
            "cron",
            Text,
            "no cron expression",
            "Seconds, minutes, hours, day of the month, month, day of the week; with names, \
             ranges, lists, steps, `L`, `W` and `#`.",
        ),
        def("timezone", Text, "UTC", "Zone of `date` and `cron`, as `Europe/Berlin`."),
        def(
            "misfire",
            OneOf(&["skip", "once", "all"]),
            "once",
            "What happens to times that were missed by more than a second, because the daemon \
             was stopped or its sinks were: nothing, one message for all of them, or all.",
        ),
        def("misfire_max", Int(1, 1_000_000), "100", "For `all`: the last so many."),
        opt("count", Int(0, i64::MAX), "endless", "How many messages; then the source has ended."),
        opt("fields", Other("a table of constants"), "none", "Fields that every message has."),
        def("timestamp", Text, "timestamp", "The field with the time that was due."),
        def(
            "timestamp_format",
            Text,
            "rfc3339",
            "`rfc3339`, `s`, `ms`, `us` (an integer), or a pattern such as `%d.%m.%Y %H:%M` in \
             `timezone`.",
        ),
    ],
};
