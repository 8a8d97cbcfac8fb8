//! The times of a cron expression, on the wall clock, in microseconds.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Times of a schedule.
pub(crate) struct Times {
    cron: Box<Cron>,
    zone: TimeZone,
}

impl Times {
    /// Of an expression and a zone that the configuration has checked.
    pub(crate) fn new(cron: &str, zone: &str) -> Result<Self, String> {
        let parser =
            CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
        let cron = parser.parse(cron).map_err(|error| format!("'{cron}': {error}"))?;
        let zone = TimeZone::get(zone).map_err(|error| format!("'{zone}': {error}"))?;
        Ok(Self { cron: Box::new(cron), zone })
    }

    /// The first time after this one.
    pub(crate) fn after(&self, us: i64) -> Option<i64> {
        let next = self.cron.find_next_occurrence(&self.zoned(us)?, false).ok()?;
        Some(next.timestamp().as_microsecond())
    }

    /// The last time up to this one.
    pub(crate) fn upto(&self, us: i64) -> Option<i64> {
        let before = self.cron.find_previous_occurrence(&self.zoned(us)?, true).ok()?;
        Some(before.timestamp().as_microsecond())
    }

    fn zoned(&self, us: i64) -> Option<Zoned> {
        Some(Timestamp::from_microsecond(us).ok()?.to_zoned(self.zone.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn times_follow_their_zone_through_the_change_of_the_hour() {
        let times = Times::new("0 0 6 * * *", "Europe/Berlin").unwrap();
        assert_eq!(times.after(us("2026-10-24T00:00:00Z")), Some(us("2026-10-24T04:00:00Z")));
        // Winter time begins on the 25th.
        assert_eq!(times.after(us("2026-10-24T04:00:00Z")), Some(us("2026-10-25T05:00:00Z")));
        assert_eq!(times.upto(us("2026-10-25T05:00:00Z")), Some(us("2026-10-25T05:00:00Z")));
        assert_eq!(times.upto(us("2026-10-25T05:00:00.5Z")), Some(us("2026-10-25T05:00:00Z")));
        assert_eq!(times.upto(us("2026-10-25T04:59:59.9Z")), Some(us("2026-10-24T04:00:00Z")));
    }
}
