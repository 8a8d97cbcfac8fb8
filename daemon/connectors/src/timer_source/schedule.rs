//! When a timer is due, and what becomes of times that were missed.
//!
//! Delays go by the monotonic clock, dates and cron expressions by the wall
//! clock. A wall clock that is set back begins its schedule anew from there; it
//! makes no time due twice within a second.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use ringmain_base::Now;
use ringmain_config::plan::{Misfire, TimerSchedule, TimerSource};

use crate::ConnectorError;

/// Later than this a time was missed.
const MISSED_US: i64 = 1_000_000;

/// A wall clock may jump: it is looked at so often at least.
const LOOK_US: u64 = 10_000_000;

enum Times {
    Every { initial_us: i64, delay_us: i64 },
    Date(i64),
    Cron(Box<Cron>, TimeZone),
}

/// The times of one timer.
pub(crate) struct Schedule {
    times: Times,
    misfire: Misfire,
    misfire_max: u32,
    /// The next time, on the schedule's clock; none when there is no other.
    next_us: Option<i64>,
    /// Missed times up to here are made up for.
    making_up: Option<i64>,
    begun: bool,
    /// The last time that was given out, or passed over; on the wall clock.
    last_us: Option<i64>,
    /// When it was looked at last.
    seen: Now,
}

impl Schedule {
    pub(crate) fn new(plan: &TimerSource) -> Result<Self, ConnectorError> {
        let times = match &plan.schedule {
            TimerSchedule::Every { initial_us, delay_us } => {
                let us = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
                Times::Every { initial_us: us(*initial_us), delay_us: us(*delay_us).max(1) }
            }
            TimerSchedule::Date(us) => Times::Date(*us),
            TimerSchedule::Cron(text) => {
                let parser =
                    CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
                let wrong = |error| ConnectorError::setup("cron", format!("'{text}': {error}"));
                let cron = parser.parse(text).map_err(wrong)?;
                Times::Cron(Box::new(cron), zone(plan)?)
            }
        };
        Ok(Self {
            times,
            misfire: plan.misfire,
            misfire_max: plan.misfire_max.max(1),
            next_us: None,
            making_up: None,
            begun: false,
            last_us: None,
            seen: Now::default(),
        })
    }

    /// Goes on behind a time that was given out before a restart.
    pub(crate) fn restore(&mut self, last_us: i64) {
        if !matches!(self.times, Times::Every { .. }) {
            self.last_us = Some(self.last_us.map_or(last_us, |last| last.max(last_us)));
        }
    }

    /// The last time that was given out, on the wall clock.
    pub(crate) fn last_us(&self) -> Option<i64> {
        self.last_us
    }

    /// Whether there is no other time.
    pub(crate) fn is_over(&self) -> bool {
        self.begun && self.next_us.is_none()
    }

    /// The schedule's clock.
    fn clock(&self, now: Now) -> i64 {
        match self.times {
            Times::Every { .. } => i64::try_from(now.mono_us).unwrap_or(i64::MAX),
            Times::Date(_) | Times::Cron(..) => now.wall_us,
        }
    }

    fn begin(&mut self, now: Now) {
        self.begun = true;
        let clock = self.clock(now);
        self.next_us = match &self.times {
            Times::Every { initial_us, .. } => Some(clock.saturating_add(*initial_us)),
            Times::Date(us) => Some(*us).filter(|us| self.last_us.is_none_or(|last| last < *us)),
            // Without a last time nothing was missed.
            Times::Cron(..) => self.after(self.last_us.unwrap_or(clock - 1)),
        };
    }

    /// The first time after another one.
    fn after(&self, us: i64) -> Option<i64> {
        match &self.times {
            Times::Every { delay_us, .. } => us.checked_add(*delay_us),
            Times::Date(_) => None,
            Times::Cron(cron, zone) => {
                let next = cron.find_next_occurrence(&zoned(us, zone)?, false).ok()?;
                Some(next.timestamp().as_microsecond())
            }
        }
    }

    /// The next time that is due, in microseconds since the Unix epoch. It is
    /// taken with [`Schedule::take`].
    pub(crate) fn due(&mut self, now: Now) -> Option<i64> {
        if !self.begun {
            self.begin(now);
        }
        self.look_for_jumps(now);
        let clock = self.clock(now);
        loop {
            let due = self.next_us.filter(|due| *due <= clock)?;
            let made_up = self.making_up.is_some_and(|upto| due <= upto);
            if made_up || clock - due <= MISSED_US {
                return Some(due - clock + now.wall_us);
            }
            match self.misfire {
                Misfire::Skip => self.next_us = self.from(clock - MISSED_US, due),
                Misfire::Once => {
                    self.next_us = self.last_before(clock, due);
                    self.making_up = Some(clock);
                }
                Misfire::All => {
                    self.next_us = Some(self.some_before(clock, due));
                    self.making_up = Some(clock);
                }
            }
        }
    }

    /// The time that [`Schedule::due`] named has been given out.
    pub(crate) fn take(&mut self, now: Now) {
        let Some(due) = self.next_us else { return };
        self.last_us = Some(due - self.clock(now) + now.wall_us);
        self.next_us = self.after(due);
    }

    /// The first time from `from` on, where `due` is a time before it.
    fn from(&self, from: i64, due: i64) -> Option<i64> {
        match &self.times {
            Times::Every { delay_us, .. } => {
                let steps = (from - due + delay_us - 1) / delay_us;
                due.checked_add(steps.checked_mul(*delay_us)?)
            }
            Times::Date(_) => None,
            Times::Cron(..) => self.after(from - 1),
        }
    }

    /// The last time up to `clock`, from `due` on.
    fn last_before(&self, clock: i64, due: i64) -> Option<i64> {
        Some(self.back(clock, due, 1))
    }

    /// The first of the last so many times up to `clock`, from `due` on.
    fn some_before(&self, clock: i64, due: i64) -> i64 {
        self.back(clock, due, self.misfire_max)
    }

    fn back(&self, clock: i64, due: i64, count: u32) -> i64 {
        match &self.times {
            Times::Every { delay_us, .. } => {
                let steps = (clock - due) / delay_us;
                due + (steps - (i64::from(count) - 1)).max(0) * delay_us
            }
            Times::Date(_) => due,
            Times::Cron(cron, zone) => {
                let mut at = clock + 1;
                for _ in 0..count {
                    let before = zoned(at, zone)
                        .and_then(|time| cron.find_previous_occurrence(&time, false).ok());
                    match before.map(|time| time.timestamp().as_microsecond()) {
                        Some(before) if before > due => at = before,
                        _ => return due,
                    }
                }
                at
            }
        }
    }

    fn look_for_jumps(&mut self, now: Now) {
        let passed = now.mono_us.saturating_sub(self.seen.mono_us) as i64;
        let back = self.seen.wall_us + passed - now.wall_us;
        let cron = matches!(self.times, Times::Cron(..));
        if self.seen != Now::default() && cron && back > MISSED_US {
            self.making_up = None;
            self.next_us = self.after(now.wall_us - 1);
        }
        self.seen = now;
    }

    /// When to look again, on the monotonic clock.
    pub(crate) fn wake_at_us(&self) -> Option<u64> {
        if !self.begun {
            return Some(0);
        }
        let wait = self.next_us? - self.clock(self.seen);
        let wait = u64::try_from(wait).unwrap_or(0);
        let wait = if matches!(self.times, Times::Every { .. }) { wait } else { wait.min(LOOK_US) };
        Some(self.seen.mono_us.saturating_add(wait))
    }
}

fn zoned(us: i64, zone: &TimeZone) -> Option<Zoned> {
    Some(Timestamp::from_microsecond(us).ok()?.to_zoned(zone.clone()))
}

/// The timer's zone.
pub(crate) fn zone(plan: &TimerSource) -> Result<TimeZone, ConnectorError> {
    TimeZone::get(&plan.timezone)
        .map_err(|error| ConnectorError::setup("timezone", format!("'{}': {error}", plan.timezone)))
}
