//! The thread that watches over shards: kicks those whose heartbeat stands
//! still, and reports a turn that lasts too long, once per stall.
//!
//! The kick is a net under the executor, which can go to sleep with a task
//! runnable. A kick costs an idle shard a good 100 us, so one that rests is
//! kicked when it was woken and has not heard, and otherwise only now and
//! then, for whatever nobody has thought of.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::heartbeat::Monitor;

/// Looks at a resting shard between kicks without a cause.
const LOOKS_PER_KICK: u32 = 20;

/// How often and how strictly to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupervisorOptions {
    /// Time between looks.
    pub period_ms: u64,
    /// A turn that lasts longer is a stall.
    pub stall_ms: u64,
}

impl Default for SupervisorOptions {
    fn default() -> Self {
        Self { period_ms: 100, stall_ms: 1_000 }
    }
}

/// A shard whose turn does not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The shard's name.
    pub shard: String,
    /// How long its turn has lasted when this was noticed.
    pub lasted_us: u64,
}

/// Watches while it lives; dropping it ends the watch.
#[derive(Debug)]
pub struct Supervisor {
    stop: Option<SyncSender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Supervisor {
    /// Starts watching. `on_stall` runs on the watching thread.
    ///
    /// # Errors
    /// When the system is out of threads.
    pub fn start(
        monitors: Vec<Monitor>,
        options: SupervisorOptions,
        mut on_stall: impl FnMut(Stall) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let thread = thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
            let mut watches: Vec<Watch> = monitors.into_iter().map(Watch::new).collect();
            let period = Duration::from_millis(options.period_ms.max(1));
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                let stall_us = options.stall_ms.saturating_mul(1_000);
                watches.iter_mut().filter_map(|watch| watch.look(stall_us)).for_each(&mut on_stall);
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // Its panic, in the callback, has been printed where it happened.
            let _ = thread.join();
        }
    }
}

struct Watch {
    monitor: Monitor,
    turns: u64,
    reported_turn: u64,
    looks: u32,
}

impl Watch {
    fn new(monitor: Monitor) -> Self {
        Self { monitor, turns: 0, reported_turn: 0, looks: 0 }
    }

    fn look(&mut self, stall_us: u64) -> Option<Stall> {
        let turns = self.monitor.heartbeat().turns;
        let stands_still = turns == self.turns;
        self.turns = turns;
        self.looks = if stands_still { self.looks + 1 } else { 0 };
        if !stands_still {
            return None;
        }
        let rests = self.monitor.heartbeat().turn_began_us.is_none();
        if !rests || self.monitor.rests_unheard() || self.looks.is_multiple_of(LOOKS_PER_KICK) {
            self.monitor.kick();
        }
        let lasted_us = self.monitor.turn_lasts_us();
        if lasted_us < stall_us || self.reported_turn == turns {
            return None;
        }
        self.reported_turn = turns;
        Some(Stall { shard: self.monitor.name().to_owned(), lasted_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::heartbeat::{Heartbeat, Kick, Target};
    use crate::waker::{Waker, eventfd};
    use ringmain_base::SystemClock;
    use ringmain_ring::Wake as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Shard {
        watch: Watch,
        heartbeat: Arc<Heartbeat>,
        kicks: Arc<Count>,
        waker: Arc<Waker>,
    }

    fn shard() -> Shard {
        let heartbeat = Arc::new(Heartbeat::default());
        let (kicks, waker) = (Arc::new(Count::default()), Waker::new().unwrap());
        let kick = Arc::new(Kick::default());
        let park = eventfd(0).unwrap();
        kick.set(Some(Target { waker: Arc::clone(&kicks).into(), park }));
        let monitor = Monitor {
            name: "shard-0".into(),
            heartbeat: Arc::clone(&heartbeat),
            kick,
            waker: Arc::clone(&waker),
            clock: SystemClock::new(),
        };
        Shard { watch: Watch::new(monitor), heartbeat, kicks, waker }
    }

    #[test]
    fn a_stall_is_reported_once() {
        let Shard { mut watch, heartbeat, kicks, .. } = shard();
        heartbeat.turn(0);
        assert_eq!(watch.look(0), None, "the heartbeat has moved since the last look");
        let stall = watch.look(0).expect("it stands still");
        assert_eq!(stall.shard, "shard-0");
        assert_eq!(watch.look(0), None, "the same turn");
        heartbeat.turn(0);
        assert_eq!(watch.look(0), None);
        assert!(watch.look(0).is_some(), "another turn, another stall");
        assert_eq!(kicks.0.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_resting_shard_is_kicked_when_it_was_woken_and_has_not_heard() {
        let Shard { mut watch, heartbeat, kicks, waker } = shard();
        heartbeat.turn(0);
        heartbeat.rest(0);
        assert_eq!(watch.look(1), None);
        assert_eq!(watch.look(1), None);
        assert_eq!(kicks.0.load(Ordering::Relaxed), 0);
        waker.wake();
        assert_eq!(watch.look(1), None, "to rest is no stall");
        assert_eq!(kicks.0.load(Ordering::Relaxed), 1);
        waker.clear();
        for _ in 0..LOOKS_PER_KICK {
            assert_eq!(watch.look(1), None);
        }
        assert_eq!(kicks.0.load(Ordering::Relaxed), 2, "now and then without a cause");
    }
}
