//! Shards on their threads: launching, sleeping, waking, failing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringmain_base::{Now, SystemClock};
use ringmain_ring::{Doorbell, Wake};
use ringmain_runtime::{
    Event, FailureReason, Io, IoKind, LaunchOptions, Next, OpId, ShardThread, Supervisor,
    SupervisorOptions, Turn, Waker, launch, probe,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The drivers that this machine has.
fn kinds() -> Vec<IoKind> {
    match probe::io_uring() {
        Ok(_) => vec![IoKind::Uring, IoKind::Poll],
        Err(refusal) => {
            eprintln!("without io_uring: {refusal}");
            vec![IoKind::Poll]
        }
    }
}

/// A shard that does what it is told through a channel, and sleeps otherwise.
struct Told {
    orders: Receiver<Order>,
    pending: Option<Order>,
    bell: Doorbell,
    answers: Sender<u64>,
    events: Vec<Event>,
}

enum Order {
    Answer(u64),
    Timer(u64),
    Panic,
    Hang(Duration),
    Stop,
}

impl Turn for Told {
    fn turn(&mut self, io: &mut dyn Io, _: Now) -> Next {
        io.poll(&mut self.events, 16);
        for event in self.events.drain(..) {
            self.answers.send(u64::from(event.op.tag)).unwrap();
        }
        match self.pending.take().or_else(|| self.orders.try_recv().ok()) {
            None => return Next::Idle { wake_in_us: None },
            Some(Order::Answer(number)) => self.answers.send(number).unwrap(),
            Some(Order::Timer(after_us)) => io.timer(after_us, OpId { owner: 0, tag: 77 }),
            Some(Order::Panic) => panic!("as told"),
            Some(Order::Hang(time)) => std::thread::sleep(time),
            Some(Order::Stop) => return Next::Stop,
        }
        Next::Busy
    }

    fn prepare_park(&mut self) -> bool {
        self.bell.arm();
        self.pending = self.orders.try_recv().ok();
        self.pending.is_some()
    }

    fn unpark(&mut self) {
        self.bell.disarm();
    }
}

struct Boss {
    shard: ShardThread,
    orders: Sender<Order>,
    bell: Doorbell,
    answers: Receiver<u64>,
}

impl Boss {
    fn of(kind: IoKind, core: Option<usize>) -> Self {
        let waker = Waker::new().unwrap();
        let bell = Doorbell::new(Arc::clone(&waker) as Arc<dyn Wake>);
        let (orders, to_shard) = channel();
        let (from_shard, answers) = channel();
        let mut options = LaunchOptions::new("told", waker, SystemClock::new());
        options.io = kind;
        options.core = core;
        let shards_bell = bell.clone();
        let shard = launch(options, move |_, _| {
            Box::new(Told {
                orders: to_shard,
                pending: None,
                bell: shards_bell,
                answers: from_shard,
                events: Vec::new(),
            })
        });
        Self { shard: shard.unwrap(), orders, bell, answers }
    }

    fn tell(&self, order: Order) {
        self.orders.send(order).unwrap();
        self.bell.ring();
    }

    fn answer(&self) -> u64 {
        self.answers.recv_timeout(PATIENCE).expect("the shard answers")
    }
}

fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} never happens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_sleeping_shard_wakes_for_every_order() {
    for kind in kinds() {
        let boss = Boss::of(kind, None);
        for number in 0..200 {
            if number % 10 == 0 {
                // Long enough to be asleep, whichever way it sleeps by now.
                std::thread::sleep(Duration::from_millis(number / 20));
            }
            boss.tell(Order::Answer(number));
            assert_eq!(boss.answer(), number);
        }
        boss.tell(Order::Stop);
        boss.shard.join().unwrap();
    }
}

#[test]
fn a_timer_ends_the_sleep() {
    for kind in kinds() {
        let boss = Boss::of(kind, None);
        for after_us in [0, 300, 3_000, 30_000, 2_000] {
            boss.tell(Order::Timer(after_us));
            assert_eq!(boss.answer(), 77);
        }
        boss.tell(Order::Stop);
        boss.shard.join().unwrap();
    }
}

#[test]
fn a_pinned_shard_says_where_it_is() {
    let core = ringmain_runtime::cores::available()[0];
    for kind in kinds() {
        let boss = Boss::of(kind, Some(core));
        let place = boss.shard.place();
        assert_eq!((&*place.name, place.core), ("told", Some(core)));
        assert_eq!(place.io, if kind == IoKind::Poll { "poll" } else { "io_uring" });
        boss.tell(Order::Stop);
        boss.shard.join().unwrap();
    }
}

#[test]
fn a_core_that_is_not_there_is_an_error() {
    let mut options = LaunchOptions::new("nowhere", Waker::new().unwrap(), SystemClock::new());
    options.core = Some(100_000);
    let error = launch(options, |_, _| panic!("it never comes to this")).unwrap_err();
    assert!(error.to_string().contains("core 100000"), "{error}");
}

#[test]
fn a_panic_ends_its_shard_and_no_other() {
    for kind in kinds() {
        let other = Boss::of(kind, None);
        let boss = Boss::of(kind, None);
        boss.tell(Order::Panic);
        let failure = boss.shard.join().unwrap_err();
        assert_eq!(failure.to_string(), "shard told panicked: as told");
        assert!(matches!(failure.reason, FailureReason::Panic(_)));
        other.tell(Order::Answer(5));
        assert_eq!(other.answer(), 5);
        other.tell(Order::Stop);
        other.shard.join().unwrap();
    }
}

#[test]
fn a_panic_while_the_shard_is_made_is_reported() {
    for kind in kinds() {
        let mut options = LaunchOptions::new("unborn", Waker::new().unwrap(), SystemClock::new());
        options.io = kind;
        let shard = launch(options, |_, _| panic!("cannot be made")).unwrap();
        let failure = shard.join().unwrap_err();
        assert_eq!(failure.to_string(), "shard unborn panicked: cannot be made");
    }
}

#[test]
fn the_supervisor_kicks_a_sleeper_and_reports_a_stall_once() {
    for kind in kinds() {
        let boss = Boss::of(kind, None);
        let stalls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&stalls);
        let options = SupervisorOptions { period_ms: 5, stall_ms: 20 };
        let supervisor = Supervisor::start(vec![boss.shard.monitor()], options, move |stall| {
            seen.lock().unwrap().push(stall);
        })
        .unwrap();
        // Kicked many times while asleep; that is no stall.
        std::thread::sleep(Duration::from_millis(50));
        boss.tell(Order::Answer(1));
        assert_eq!(boss.answer(), 1);
        assert!(stalls.lock().unwrap().is_empty());
        boss.tell(Order::Hang(Duration::from_millis(150)));
        eventually("a stall report", || !stalls.lock().unwrap().is_empty());
        boss.tell(Order::Answer(2));
        assert_eq!(boss.answer(), 2);
        eventually("a long turn", || boss.shard.heartbeat().longest_turn_us >= 150_000);
        drop(supervisor);
        let stalls = stalls.lock().unwrap();
        assert_eq!(stalls.len(), 1, "{stalls:?}");
        assert_eq!(stalls[0].shard, "told");
        boss.tell(Order::Stop);
        boss.shard.join().unwrap();
    }
}

#[test]
fn a_busy_shard_never_sleeps_and_its_heart_beats() {
    struct Busy(Arc<AtomicU64>);
    impl Turn for Busy {
        fn turn(&mut self, _: &mut dyn Io, _: Now) -> Next {
            let count = self.0.fetch_add(1, Ordering::Relaxed);
            if count == u64::MAX { Next::Stop } else { Next::Busy }
        }
        fn prepare_park(&mut self) -> bool {
            panic!("a busy shard does not park")
        }
        fn unpark(&mut self) {}
    }
    for kind in kinds() {
        let mut options = LaunchOptions::new("busy", Waker::new().unwrap(), SystemClock::new());
        options.io = kind;
        let turns = Arc::new(AtomicU64::new(0));
        let shards_turns = Arc::clone(&turns);
        let shard = launch(options, move |_, _| Box::new(Busy(shards_turns))).unwrap();
        let before = shard.heartbeat().turns;
        eventually("a heartbeat", || shard.heartbeat().turns > before + 10_000);
        turns.store(u64::MAX, Ordering::Relaxed);
        shard.join().unwrap();
    }
}
