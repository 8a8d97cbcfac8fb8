//! What the log says of a component's health: every new trouble at once, the
//! same trouble not more often than every [`AGAIN`], and that it is over when
//! it has been over for [`WELL`]. A peer that comes and goes several times a
//! second, and attempts that are counted in the text, would fill a disk.
//!
//! What is not said stands in the API, which has every state.

use std::time::{Duration, Instant};

use ringmain_connectors::Health;

/// Between two lines about the same trouble.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a component must be well to be called so.
const WELL: Duration = Duration::from_secs(1);

/// What was said of one component.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The last trouble, without its numbers, and when it was said.
    trouble: Option<(String, Instant)>,
    /// It was not called well since.
    open: bool,
    well_since: Option<Instant>,
}

impl Said {
    /// Whether this is to be said now. To be asked often: some things are said
    /// later than they happen.
    pub(crate) fn says(&mut self, health: &Health, now: Instant, is_end: bool) -> bool {
        let (Health::Retrying(why) | Health::Failed(why)) = health else {
            let since = *self.well_since.get_or_insert(now);
            let due = self.open && (is_end || now.duration_since(since) >= WELL);
            self.open &= !due;
            return due;
        };
        self.well_since = None;
        let gist = gist(why);
        let known = self
            .trouble
            .as_ref()
            .is_some_and(|(trouble, at)| *trouble == gist && now.duration_since(*at) < AGAIN);
        if !known {
            self.trouble = Some((gist, now));
            self.open = true;
        }
        !known
    }
}

/// A text without what differs from attempt to attempt.
fn gist(why: &str) -> String {
    why.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(why: &str) -> Health {
        Health::Retrying(why.to_owned())
    }

    #[test]
    fn the_same_trouble_is_said_once_in_a_while_and_another_at_once() {
        let (mut said, start) = (Said::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert!(said.says(&trouble("refused; attempt 1"), at(0), false));
        assert!(!said.says(&trouble("refused; attempt 2"), at(100), false));
        assert!(said.says(&trouble("no route; attempt 3"), at(200), false));
        assert!(!said.says(&trouble("no route; attempt 4"), at(10_199), false));
        assert!(said.says(&trouble("no route; attempt 5"), at(10_200), false));
        assert!(said.says(&Health::Failed("given up".to_owned()), at(10_201), false));
    }

    #[test]
    fn who_comes_and_goes_is_neither_ill_nor_well_each_time() {
        let (mut said, start) = (Said::default(), Instant::now());
        let mut lines = Vec::new();
        for step in 0..95_u64 {
            let health = if step % 2 == 0 { trouble("refused") } else { Health::Good };
            if said.says(&health, start + Duration::from_millis(100 * step), false) {
                lines.push((step, health));
            }
        }
        assert_eq!(lines, [(0, trouble("refused"))]);
        let well = |said: &mut Said, ms| {
            said.says(&Health::Good, start + Duration::from_millis(ms), false)
        };
        assert!(!well(&mut said, 9_500));
        assert!(!well(&mut said, 10_499));
        assert!(well(&mut said, 10_500));
        assert!(!well(&mut said, 12_000), "once");
    }

    #[test]
    fn at_the_end_nothing_is_left_open_and_the_well_are_not_mentioned() {
        let (mut said, now) = (Said::default(), Instant::now());
        assert!(!said.says(&Health::Good, now, true));
        assert!(said.says(&trouble("refused"), now, false));
        assert!(said.says(&Health::Good, now, true));
    }
}
