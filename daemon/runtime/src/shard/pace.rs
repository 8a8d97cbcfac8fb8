//! When a shard looks again, when it waits, when it sleeps.
//!
//! Busy: turn after turn, with a visit to the executor every millisecond.
//! Idle: one more look at once; then a short wait in the driver, which costs
//! a fraction of a park; then the park. Doorbells are armed before either
//! wait. The clock is read once per turn, and around a wait.
//!
//! Where two shards feed each other, each waits for the other a little and
//! often, and going to sleep and being woken costs both of them more than the
//! wait (measured: 50 us each time). So after a wait that was short and ended
//! by another shard, the next one begins with looking at the rings for as long
//! as a sleep would cost; the first time that this is in vain, it is left.
//!
//! Where little comes but often, a sleep and two turns for each message cost
//! more than what is done about it. So while waits are short on average, and
//! ended by I/O, the driver may gather ([`Driver::wait_for_more`]).
//!
//! Knows nothing of executors, so it is tested without one.

use std::io;

use ringmain_base::{Clock, SystemClock};

use super::heartbeat::Heartbeat;
use super::turn::{Next, Turn};
use crate::driver::{Driver, GATHER_US, shorter};

/// Time between visits to the executor while busy.
const REACTOR_EVERY_US: u64 = 1_000;
/// Longest wait in the driver before the thread parks.
const SHORT_WAIT_US: u64 = 500;

/// Longest look at the rings before a wait: what a sleep costs both sides.
const WATCH_US: u64 = 50;
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;

/// Shorter waits on average make a trickle, longer ones are the end of it:
/// gathering does not bring several things together any more.
const TRICKLE_US: u64 = 50;
const SPARSE_US: u64 = GATHER_US + GATHER_US / 2;
/// Of the waits that the average is over.
const WAITS: u64 = 8;

/// What the thread is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next turn.
    Again,
    /// Let the executor run once, then the next turn.
    Executor,
    /// Sleep, at most so long; then [`Pace::unparked`].
    Park(Option<u64>),
    /// The shard is finished.
    Stop,
}

pub(crate) struct Pace<'a> {
    turn: Box<dyn Turn>,
    clock: SystemClock,
    heartbeat: &'a Heartbeat,
    executor_at_us: u64,
    idle_turns: u32,
    /// Whether a short wait in the driver comes before the park.
    waits_first: bool,
    /// The last wait was short, and another shard ended it.
    watches: bool,
    /// How long waits last on average, where no other shard ends them.
    wait_us: u64,
    /// Little comes, but often.
    trickles: bool,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(
        turn: Box<dyn Turn>,
        clock: SystemClock,
        heartbeat: &'a Heartbeat,
        waits_first: bool,
    ) -> Self {
        Self {
            turn,
            clock,
            heartbeat,
            executor_at_us: 0,
            idle_turns: 0,
            waits_first,
            watches: false,
            wait_us: SPARSE_US,
            trickles: false,
        }
    }

    /// Runs one turn.
    pub(crate) fn step(&mut self, io: &mut dyn Driver) -> io::Result<Step> {
        let now = self.clock.now();
        self.heartbeat.turn(now.mono_us);
        io.begin_turn(now.mono_us);
        match self.turn.turn(io, now) {
            Next::Stop => {
                // Who is gone is not in a turn that never ends.
                self.heartbeat.rest(self.clock.now().mono_us);
                Ok(Step::Stop)
            }
            // Due at once is as good as busy: neither may starve the executor.
            Next::Busy | Next::Idle { wake_in_us: Some(0) } => {
                self.idle_turns = 0;
                if now.mono_us.saturating_sub(self.executor_at_us) < REACTOR_EVERY_US {
                    return Ok(Step::Again);
                }
                self.executor_at_us = now.mono_us;
                Ok(Step::Executor)
            }
            Next::Idle { wake_in_us } => self.idle(io, wake_in_us),
        }
    }

    fn idle(&mut self, io: &mut dyn Driver, wake_in_us: Option<u64>) -> io::Result<Step> {
        self.idle_turns += 1;
        let gathers = self.trickles && io.may_gather();
        if self.idle_turns == 1 && !gathers {
            return Ok(Step::Again);
        }
        if self.watches {
            self.watches = self.watch();
            if self.watches {
                self.idle_turns = 0;
                return Ok(Step::Again);
            }
        }
        if self.turn.prepare_park() {
            self.unparked();
            return Ok(Step::Again);
        }
        let began_us = self.clock.now().mono_us;
        self.heartbeat.rest(began_us);
        if self.waits_first && self.idle_turns <= 2 {
            self.idle_turns = 2;
            let timeout_us = shorter(wake_in_us, Some(SHORT_WAIT_US));
            match gathers {
                true => io.wait_for_more(timeout_us)?,
                false => io.wait(timeout_us)?,
            }
            self.learn(self.clock.now().mono_us.saturating_sub(began_us));
            self.turn.unpark();
            return Ok(Step::Again);
        }
        Ok(Step::Park(wake_in_us))
    }

    /// After a wait: whether looking, or a longer one, would have been cheaper.
    fn learn(&mut self, waited_us: u64) {
        let news = self.turn.has_news();
        self.watches = waited_us < WATCH_US && news;
        self.wait_us = match news {
            true => SPARSE_US,
            false => (self.wait_us * (WAITS - 1) + waited_us) / WAITS,
        };
        let below_us = if self.trickles { SPARSE_US } else { TRICKLE_US };
        self.trickles = self.wait_us < below_us;
    }

    /// Looks at the rings for a while; true when something has come.
    fn watch(&self) -> bool {
        let until_us = self.clock.now().mono_us + WATCH_US;
        loop {
            for _ in 0..LOOKS {
                if self.turn.has_news() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if self.clock.now().mono_us >= until_us {
                return false;
            }
        }
    }

    /// The sleep is over.
    pub(crate) fn unparked(&mut self) {
        self.turn.unpark();
        self.idle_turns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Io;
    use crate::{PollIo, Waker};
    use ringmain_base::Now;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Script {
        next: VecDeque<Next>,
        work_at_park: bool,
        /// By look at the rings; nothing is new at the others.
        news: RefCell<VecDeque<bool>>,
        armed: Arc<AtomicU32>,
    }

    impl Turn for Script {
        fn turn(&mut self, _: &mut dyn Io, _: Now) -> Next {
            self.next.pop_front().unwrap_or(Next::Stop)
        }

        fn prepare_park(&mut self) -> bool {
            self.armed.fetch_add(1, Ordering::Relaxed);
            std::mem::take(&mut self.work_at_park)
        }

        fn has_news(&self) -> bool {
            self.news.borrow_mut().pop_front().unwrap_or(false)
        }

        fn unpark(&mut self) {
            self.armed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn pace<'a>(
        next: &[Next],
        work_at_park: bool,
        news: &[bool],
        heartbeat: &'a Heartbeat,
    ) -> Pace<'a> {
        let script = Script {
            next: next.iter().copied().collect(),
            work_at_park,
            news: RefCell::new(news.iter().copied().collect()),
            armed: Arc::default(),
        };
        Pace::new(Box::new(script), SystemClock::new(), heartbeat, true)
    }

    fn steps(next: &[Next], work_at_park: bool) -> (Vec<Step>, u32) {
        let heartbeat = Heartbeat::default();
        let armed = Arc::new(AtomicU32::new(0));
        let script = Script {
            next: next.iter().copied().collect(),
            work_at_park,
            news: RefCell::default(),
            armed: Arc::clone(&armed),
        };
        let mut pace = Pace::new(Box::new(script), SystemClock::new(), &heartbeat, true);
        pace.executor_at_us = u64::MAX;
        let mut io = PollIo::new(Waker::new().unwrap());
        let mut steps = Vec::new();
        loop {
            let step = pace.step(&mut io).unwrap();
            steps.push(step);
            match step {
                Step::Stop => return (steps, armed.load(Ordering::Relaxed)),
                Step::Park(_) => pace.unparked(),
                _ => {}
            }
        }
    }

    const IDLE: Next = Next::Idle { wake_in_us: Some(700) };

    #[test]
    fn it_parks_at_the_third_idle_turn() {
        let (steps, armed) = steps(&[Next::Busy, IDLE, IDLE, IDLE, IDLE], false);
        let park = Step::Park(Some(700));
        assert_eq!(steps, [Step::Again, Step::Again, Step::Again, park, Step::Again, Step::Stop]);
        assert_eq!(armed, 0);
    }

    #[test]
    fn work_that_shows_up_while_parking_is_not_slept_over() {
        let (steps, armed) = steps(&[IDLE, IDLE, IDLE], true);
        assert_eq!(steps, [Step::Again, Step::Again, Step::Again, Step::Stop]);
        assert_eq!(armed, 0);
    }

    #[test]
    fn news_that_end_a_short_wait_make_it_watch_before_the_next() {
        let heartbeat = Heartbeat::default();
        let mut pace = pace(&[], false, &[true, false, true], &heartbeat);
        for (waited_us, watches) in [(WATCH_US - 1, true), (1, false), (WATCH_US, false)] {
            pace.learn(waited_us);
            assert_eq!(pace.watches, watches, "{waited_us}");
        }
    }

    #[test]
    fn waits_that_are_short_on_average_are_a_trickle_until_they_are_long() {
        let heartbeat = Heartbeat::default();
        let mut pace = pace(&[], false, &[], &heartbeat);
        let mut learn = |waited_us: u64, times: usize| {
            (0..times).for_each(|_| pace.learn(waited_us));
            pace.trickles
        };
        assert!(!learn(10, 4), "a few may be chance");
        assert!(learn(10, 40));
        assert!(learn(GATHER_US + 40, 100), "as long as gathering takes");
        assert!(learn(500, 1), "one may be chance");
        assert!(!learn(500, 20));
        assert!(!learn(GATHER_US, 100), "too long to begin with it");
    }

    #[test]
    fn where_another_shard_ends_a_wait_nothing_is_gathered() {
        let heartbeat = Heartbeat::default();
        let news: Vec<bool> = (0..41).map(|at| at == 40).collect();
        let mut pace = pace(&[], false, &news, &heartbeat);
        (0..40).for_each(|_| pace.learn(10));
        assert!(pace.trickles);
        pace.learn(10);
        assert!(!pace.trickles);
    }

    #[test]
    fn it_watches_until_that_is_in_vain_once() {
        let heartbeat = Heartbeat::default();
        let mut pace = pace(&[IDLE; 5], false, &[false, false, true], &heartbeat);
        pace.executor_at_us = u64::MAX;
        pace.watches = true;
        let mut io = PollIo::new(Waker::new().unwrap());
        assert_eq!(pace.step(&mut io).unwrap(), Step::Again);
        // News, though not at the first look: as good as work.
        assert_eq!(pace.step(&mut io).unwrap(), Step::Again);
        assert!(pace.watches && pace.idle_turns == 0);
        // None: the wait, then the park, and no watch before that.
        assert_eq!(pace.step(&mut io).unwrap(), Step::Again);
        assert_eq!(pace.step(&mut io).unwrap(), Step::Again);
        assert!(!pace.watches && pace.idle_turns == 2);
        assert_eq!(pace.step(&mut io).unwrap(), Step::Park(Some(700)));
    }

    #[test]
    fn a_shard_that_has_stopped_is_in_no_turn() {
        let heartbeat = Heartbeat::default();
        let mut pace = pace(&[Next::Busy], false, &[], &heartbeat);
        let mut io = PollIo::new(Waker::new().unwrap());
        while pace.step(&mut io).unwrap() != Step::Stop {
            assert!(heartbeat.sample().turn_began_us.is_some());
        }
        assert_eq!(heartbeat.sample().turn_began_us, None);
    }

    #[test]
    fn a_turn_that_is_due_at_once_is_not_waited_for() {
        let due = Next::Idle { wake_in_us: Some(0) };
        let (steps, _) = steps(&[due, due, due, due], false);
        assert_eq!(steps, [Step::Again, Step::Again, Step::Again, Step::Again, Step::Stop]);
    }
}
