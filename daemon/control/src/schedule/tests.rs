//! Schedules on a virtual clock, with flows that do as they are told.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;
use ringmain_config::{MqttTrigger, load_str};

use super::topics::{Heard, Leave, Listener, Opening};
use super::*;

const S: i64 = 1_000_000;
const H: i64 = 3_600 * S;

/// A life that a test ends.
#[derive(Default)]
struct Played {
    id: u64,
    at_work: AtomicBool,
    told: AtomicBool,
    broken: AtomicBool,
    rows: AtomicU64,
}

impl Life for Played {
    fn id(&self) -> u64 {
        self.id
    }

    fn at_work(&self) -> bool {
        self.at_work.load(Ordering::Relaxed)
    }

    fn told_to_end(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    fn errors(&self) -> Vec<String> {
        if self.broken.load(Ordering::Relaxed) { vec!["broken".into()] } else { Vec::new() }
    }

    fn counts(&self) -> Counts {
        let rows = self.rows.load(Ordering::Relaxed);
        Counts { messages_in: rows, messages_out: rows, dropped: 0, dead: 0 }
    }
}

#[derive(Default)]
struct Theatre {
    life: RefCell<Option<Arc<Played>>>,
    lives: Cell<u64>,
    wishes: RefCell<Vec<Wish>>,
    refuses: Cell<bool>,
}

/// Nobody who listens: messages come from the test.
#[derive(Clone)]
struct Stubs {
    waker: Arc<Waker>,
    openings: Rc<RefCell<Vec<(Listener, Opening)>>>,
}

impl Ears for Stubs {
    fn listen(&mut self, _: &MqttTrigger, opening: Opening) -> Listener {
        let listener = Listener::new(self.waker.clone());
        self.openings.borrow_mut().push((listener.clone(), opening));
        listener
    }
}

/// A scheduler over a flow called `f`.
struct Play {
    scheduler: Scheduler,
    stubs: Stubs,
    theatre: Rc<Theatre>,
    wall_us: i64,
    report: Option<ScheduleReport>,
}

struct Hands(Rc<Theatre>);

impl Stage for Hands {
    fn life(&self, _: &str) -> Option<Arc<dyn Life>> {
        let life = self.0.life.borrow().clone()?;
        Some(life)
    }

    fn begin(&mut self, name: &str, wish: Wish) -> oneshot::Receiver<Answer> {
        assert_eq!(name, "f");
        self.0.wishes.borrow_mut().push(wish);
        let (answer, answered) = oneshot::channel();
        let report = Report {
            flows: Vec::new(),
            action: "started",
            duration_ms: 0,
            drained: true,
            ..Report::default()
        };
        let result = match wish {
            Wish::Run if self.0.refuses.get() => Err(Failure::new("no memory")),
            Wish::Run => {
                self.0.start();
                Ok(report)
            }
            Wish::Stop => {
                self.0.stop();
                Ok(report)
            }
        };
        answer.send(result).unwrap();
        answered
    }
}

impl Theatre {
    fn start(&self) {
        self.lives.set(self.lives.get() + 1);
        let life = Played { id: self.lives.get(), at_work: true.into(), ..Played::default() };
        *self.life.borrow_mut() = Some(Arc::new(life));
    }

    fn stop(&self) {
        let life = self.life.borrow().clone().unwrap();
        life.told.store(true, Ordering::Relaxed);
        life.at_work.store(false, Ordering::Relaxed);
    }

    /// Its sources come to their end.
    fn complete(&self, rows: u64) {
        let life = self.life.borrow().clone().unwrap();
        life.rows.store(rows, Ordering::Relaxed);
        life.at_work.store(false, Ordering::Relaxed);
    }
}

fn plan(keys: &str) -> SchedulePlan {
    let text = format!(
        "[schedule]\n{keys}\n[sources.a]\ntype = \"stdin\"\n[sinks.b]\ntype = \"stdout\"\ninputs \
         = [\"a\"]\n"
    );
    load_str("f.toml", &text).unwrap().flows.remove(0).schedule.unwrap()
}

fn us(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_microsecond()
}

impl Play {
    fn new(keys: &str, start: &str) -> Self {
        Self::kept(keys, start, None)
    }

    fn kept(keys: &str, start: &str, data_dir: Option<&Path>) -> Self {
        let stubs = Stubs { waker: Waker::new().unwrap(), openings: Rc::default() };
        let mut scheduler = Scheduler::with_ears(data_dir, Box::new(stubs.clone()));
        scheduler.take_up(&[("f".to_owned(), plan(keys))]);
        let theatre = Rc::new(Theatre::default());
        let mut play = Self { scheduler, stubs, theatre, wall_us: us(start), report: None };
        play.tick();
        play
    }

    fn now(&self) -> Now {
        Now { mono_us: (self.wall_us - us("2026-01-01T00:00:00Z")) as u64, wall_us: self.wall_us }
    }

    fn tick(&mut self) {
        let now = self.now();
        for (_, report) in self.scheduler.tick(now, &mut Hands(self.theatre.clone())) {
            self.report = Some(report);
        }
    }

    /// Time passes, and is looked at.
    fn pass(&mut self, us: i64) {
        self.wall_us += us;
        self.tick();
    }

    fn wishes(&self) -> Vec<Wish> {
        std::mem::take(&mut self.theatre.wishes.borrow_mut())
    }

    /// The newest listener, and how it began.
    fn listener(&self) -> (Listener, Opening) {
        self.stubs.openings.borrow().last().unwrap().clone()
    }

    /// A message comes, and is looked at.
    fn message(&mut self, receipt: u64) {
        let topic = "plant/7/start".to_owned();
        self.listener().0.tell(Heard { topic, receipt: Some(receipt) });
        self.tick();
    }

    /// What was acknowledged since the last time.
    fn receipts(&self) -> Vec<u64> {
        self.listener().0.receipts()
    }

    fn report(&self) -> &ScheduleReport {
        self.report.as_ref().unwrap()
    }

    fn results(&self) -> Vec<Outcome> {
        self.report().runs.iter().map(|run| run.result).collect()
    }
}

#[test]
fn a_run_begins_at_its_time_and_is_counted_at_its_end() {
    let mut play = Play::new("cron = \"0 0 6 * * *\"", "2026-11-22T05:00:00Z");
    assert_eq!(play.report().next_run.as_deref(), Some("2026-11-22T06:00:00Z"));
    play.pass(H - 1);
    assert_eq!(play.wishes(), []);
    play.pass(1);
    assert_eq!(play.wishes(), [Wish::Run]);
    play.pass(S);
    play.theatre.complete(42);
    play.pass(S);
    // What it held is given back.
    assert_eq!(play.wishes(), [Wish::Stop]);
    let report = play.report();
    assert_eq!((report.runs_started, report.runs_failed, report.skipped), (1, 0, 0));
    assert_eq!(report.next_run.as_deref(), Some("2026-11-23T06:00:00Z"));
    let run = &report.runs[0];
    assert_eq!((run.cause, run.result), (book::Cause::Time, Outcome::Completed));
    assert_eq!((run.counts.messages_in, run.counts.messages_out), (42, 42));
    assert_eq!(run.due, "2026-11-22T06:00:00Z");
    play.pass(24 * H);
    assert_eq!(play.wishes(), [Wish::Run]);
}

#[test]
fn a_window_is_closed_at_its_end_and_entered_in_its_midst() {
    let keys = "cron = \"0 0 22 * * *\"\nduration = \"6h\"";
    let mut play = Play::new(keys, "2026-11-22T23:30:00Z");
    assert_eq!(play.wishes(), [Wish::Run]);
    assert_eq!(play.report().runs[0].due, "2026-11-22T22:00:00Z");
    play.pass(4 * H);
    assert_eq!(play.wishes(), []);
    play.pass(H / 2);
    play.pass(S);
    assert_eq!(play.wishes(), [Wish::Stop]);
    assert_eq!(play.results(), [Outcome::Expired]);
    // Outside of it nothing is made up for.
    let outside = Play::new(keys, "2026-11-22T12:00:00Z");
    assert_eq!(outside.wishes(), []);
}

#[test]
fn times_that_come_while_it_runs_are_skipped_queued_or_end_the_run() {
    let play = |overlap: &str| {
        let keys = format!("cron = \"0 0 * * * *\"\noverlap = \"{overlap}\"");
        let mut play = Play::new(&keys, "2026-11-22T05:30:00Z");
        for _ in 0..3 {
            play.pass(H - 2 * S);
            play.pass(S);
            play.pass(S);
        }
        play
    };
    let skip = play("skip");
    assert_eq!((skip.wishes(), skip.report().skipped), (vec![Wish::Run], 2));
    let mut queue = play("queue");
    assert!(queue.report().queued && queue.wishes() == [Wish::Run]);
    queue.theatre.complete(1);
    queue.pass(S);
    // One follows, however many times have come.
    assert_eq!(queue.wishes(), [Wish::Stop, Wish::Run]);
    assert_eq!(queue.results(), [Outcome::Completed, Outcome::Running]);
    assert!(!queue.report().queued);
    let restart = play("restart");
    use Wish::{Run, Stop};
    assert_eq!(restart.wishes(), [Run, Stop, Run, Stop, Run]);
    use Outcome::{Restarted, Running};
    assert_eq!(restart.results(), [Restarted, Restarted, Running]);
}

#[test]
fn what_was_missed_is_made_up_for_once_or_not_at_all() {
    for (misfire, wishes) in [("once", vec![Wish::Run]), ("skip", vec![])] {
        let dir = tempfile::tempdir().unwrap();
        let keys = format!("cron = \"0 0 * * * *\"\nmisfire = \"{misfire}\"");
        drop(Play::kept(&keys, "2026-11-22T05:30:00Z", Some(dir.path())));
        let later = Play::kept(&keys, "2026-11-22T09:30:00Z", Some(dir.path()));
        assert_eq!(later.wishes(), wishes, "{misfire}");
        // Nothing is known of times before the first start.
        assert_eq!(Play::new(&keys, "2026-11-22T09:30:00Z").wishes(), []);
    }
}

#[test]
fn runs_are_remembered_over_a_restart_and_one_that_was_cut_off_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let keys = "cron = \"0 0 22 * * *\"\nduration = \"6h\"\nhistory = 2";
    let mut play = Play::kept(keys, "2026-11-22T22:00:00Z", Some(dir.path()));
    play.pass(S);
    assert_eq!(play.results(), [Outcome::Running]);
    drop(play);
    // Killed in its window: it goes on there.
    let mut play = Play::kept(keys, "2026-11-22T23:00:00Z", Some(dir.path()));
    assert_eq!(
        (play.wishes(), play.results()),
        (vec![Wish::Run], {
            use Outcome::{Interrupted, Running};
            vec![Interrupted, Running]
        })
    );
    play.pass(S);
    play.theatre.complete(3);
    play.pass(S);
    play.scheduler.end(play.now());
    // It had come to its end: nothing is left of the window.
    let play = Play::kept(keys, "2026-11-23T01:00:00Z", Some(dir.path()));
    assert_eq!(play.wishes(), []);
    assert_eq!(play.results(), [Outcome::Interrupted, Outcome::Completed]);
    assert_eq!(play.report().runs_started, 2);
    // A flow that is gone takes its book with it.
    let mut scheduler = play.scheduler;
    scheduler.take_up(&[]);
    assert!(scheduler.is_empty());
    assert_eq!(std::fs::read_dir(dir.path().join("schedule")).unwrap().count(), 0);
}

#[test]
fn a_run_that_cannot_start_or_breaks_has_failed_and_says_why() {
    let mut play = Play::new("cron = \"0 0 * * * *\"", "2026-11-22T05:30:00Z");
    play.theatre.refuses.set(true);
    play.pass(H);
    play.pass(S);
    assert_eq!(play.report().runs[0].errors, ["no memory"]);
    play.theatre.refuses.set(false);
    play.pass(H);
    play.pass(S);
    play.theatre.life.borrow().as_ref().unwrap().broken.store(true, Ordering::Relaxed);
    play.theatre.complete(1);
    play.pass(S);
    assert_eq!(play.results(), [Outcome::Failed, Outcome::Failed]);
    assert_eq!(play.report().runs_failed, 2);
    assert_eq!(play.report().runs[1].errors, ["broken"]);
}

#[test]
fn what_somebody_starts_and_stops_by_hand_is_a_run_too() {
    let mut play = Play::new("cron = \"0 0 6 * * *\"", "2026-11-22T05:30:00Z");
    play.theatre.start();
    play.pass(S);
    play.theatre.stop();
    play.pass(S);
    assert_eq!(play.results(), [Outcome::Stopped]);
    assert_eq!(play.report().runs[0].cause, book::Cause::Manual);
    assert_eq!(play.wishes(), []);
    // One that is over before anybody looks.
    play.theatre.start();
    play.theatre.complete(7);
    play.pass(S);
    play.pass(S);
    assert_eq!(play.results(), [Outcome::Stopped, Outcome::Completed]);
    assert_eq!(play.report().runs[1].counts.messages_in, 7);
    assert_eq!(play.wishes(), [Wish::Stop]);
}

#[test]
fn a_suspended_schedule_begins_nothing_and_makes_up_for_nothing() {
    let mut play = Play::new("cron = \"0 0 * * * *\"", "2026-11-22T05:30:00Z");
    play.scheduler.suspend("f", true).unwrap();
    play.pass(5 * H);
    assert!(play.report().suspended && play.report().next_run.is_none());
    play.scheduler.suspend("f", false).unwrap();
    play.pass(S);
    assert_eq!(play.wishes(), []);
    play.pass(H);
    assert_eq!(play.wishes(), [Wish::Run]);
    assert!(play.scheduler.suspend("g", true).is_err());
}

#[test]
fn a_file_that_appears_begins_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| std::fs::write(dir.path().join(name), "x").unwrap();
    let glob = dir.path().join("*.csv").display().to_string();
    file("old.csv");
    let start = "2126-11-22T05:30:00Z";
    for (misfire, at_start) in [("once", vec![Wish::Run]), ("skip", vec![])] {
        let keys = format!("files = {glob:?}\nsettle = \"0s\"\nmisfire = \"{misfire}\"");
        let mut play = Play::new(&keys, start);
        assert_eq!(play.wishes(), at_start);
        if misfire == "once" {
            play.pass(S);
            play.theatre.complete(1);
        }
        play.pass(S);
        play.wishes();
        file(&format!("{misfire}.csv"));
        play.pass(S);
        assert_eq!(play.wishes(), [Wish::Run]);
        play.pass(S);
        assert_eq!(play.wishes(), [], "the same file begins nothing more");
    }
}

#[test]
fn a_clock_that_is_set_back_begins_anew_from_there() {
    let mut play = Play::new("cron = \"0 0 * * * *\"", "2026-11-22T05:30:00Z");
    play.wall_us -= 2 * H;
    play.tick();
    assert_eq!(play.report().next_run.as_deref(), Some("2026-11-22T04:00:00Z"));
    assert_eq!(play.wishes(), []);
}

const MQTT: &str = "mqtt = { url = \"mqtt://b\", topics = [\"plant/+/start\"] }";

#[test]
fn a_message_begins_a_run_and_is_acknowledged_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut play = Play::kept(MQTT, "2026-11-22T05:30:00Z", Some(dir.path()));
    assert_eq!(play.wishes(), []);
    play.message(1);
    assert_eq!((play.wishes(), play.receipts()), (vec![Wish::Run], vec![1]));
    let run = &play.report().runs[0];
    assert_eq!((run.cause, run.topic.as_deref()), (book::Cause::Message, Some("plant/7/start")));
    assert_eq!((play.report().trigger, play.report().next_run.as_deref()), ("mqtt", None));
    assert_eq!(play.report().listener.as_ref().unwrap().messages, 1);
    // What the run began with is still known after a death.
    let after = Play::kept(MQTT, "2026-11-22T05:31:00Z", Some(dir.path()));
    let run = &after.report().runs[0];
    assert_eq!(run.topic.as_deref(), Some("plant/7/start"));
    assert_eq!(after.wishes(), [], "the broker sends again what was not acknowledged");
}

#[test]
fn messages_that_come_while_it_runs_are_skipped_queued_or_end_the_run() {
    let play = |overlap: &str| {
        let keys = format!("{MQTT}\noverlap = \"{overlap}\"");
        let mut play = Play::new(&keys, "2026-11-22T05:30:00Z");
        (1..=3).for_each(|n| play.message(n));
        play.pass(S);
        play.pass(S);
        play
    };
    let skip = play("skip");
    assert_eq!((skip.wishes(), skip.report().skipped), (vec![Wish::Run], 2));
    assert_eq!(skip.receipts(), [1, 2, 3]);
    let mut queue = play("queue");
    // The last one stands for all that wait, and is acknowledged with its run.
    assert_eq!((queue.wishes(), queue.receipts()), (vec![Wish::Run], vec![1, 2]));
    queue.theatre.complete(1);
    queue.pass(S);
    assert_eq!((queue.wishes(), queue.receipts()), (vec![Wish::Stop, Wish::Run], vec![3]));
    assert_eq!(queue.report().runs[1].topic.as_deref(), Some("plant/7/start"));
    let restart = play("restart");
    assert_eq!(restart.wishes(), [Wish::Run, Wish::Stop, Wish::Run]);
    assert_eq!(restart.receipts(), [1, 2, 3]);
}

#[test]
fn a_suspended_schedule_passes_messages_over() {
    let keys = format!("{MQTT}\noverlap = \"queue\"");
    let mut play = Play::new(&keys, "2026-11-22T05:30:00Z");
    play.message(1);
    play.message(2);
    play.scheduler.suspend("f", true).unwrap();
    play.message(3);
    assert_eq!((play.wishes(), play.receipts()), (vec![Wish::Run], vec![1, 2, 3]));
    assert_eq!(play.report().listener.as_ref().unwrap().passed_over, 1);
    play.scheduler.suspend("f", false).unwrap();
    play.theatre.complete(1);
    play.pass(S);
    assert_eq!(play.wishes(), [Wish::Stop], "what waited is not made up for");
    play.message(4);
    assert_eq!(play.wishes(), [Wish::Run]);
}

#[test]
fn a_listener_stays_as_long_as_its_settings_do_and_its_session_longer() {
    let mut play = Play::new(MQTT, "2026-11-22T05:30:00Z");
    let change = |play: &mut Play, keys: &str| {
        let left = play.listener().0;
        play.scheduler.take_up(&[("f".to_owned(), plan(keys))]);
        play.tick();
        left.leaves()
    };
    assert_eq!(change(&mut play, &format!("{MQTT}\noverlap = \"queue\"\nhistory = 7")), None);
    // Others of the same session: the broker keeps what is not acknowledged.
    play.message(1);
    play.message(2);
    let other = "mqtt = { url = \"mqtt://b\", topics = [\"a\", \"b\"] }\noverlap = \"queue\"";
    assert_eq!(change(&mut play, other), Some(Leave::ForNow));
    let (_, opening) = play.listener();
    assert_eq!(opening.former, ["plant/+/start"]);
    assert!(opening.after.is_some() && !opening.fresh && !play.report().queued);
    // Another broker, then nobody at all.
    play.message(3);
    assert!(play.report().queued);
    let other = "mqtt = { url = \"mqtt://c\", topics = \"a\" }\noverlap = \"queue\"";
    assert_eq!(change(&mut play, other), Some(Leave::ForGood));
    assert!(play.listener().1.former.is_empty() && play.report().queued);
    assert_eq!(change(&mut play, "cron = \"0 0 6 * * *\""), Some(Leave::ForGood));
    assert!(play.report().listener.is_none());
    assert_eq!(change(&mut play, MQTT), Some(Leave::ForGood));
    let last = play.listener().0;
    play.scheduler.take_up(&[]);
    assert_eq!(last.leaves(), Some(Leave::ForGood));
    // What was kept while the daemon was stopped is wanted, or not.
    let fresh = |misfire: &str| {
        let keys = format!("{MQTT}\nmisfire = \"{misfire}\"");
        Play::new(&keys, "2026-11-22T05:30:00Z").listener().1.fresh
    };
    assert!(fresh("skip") && !fresh("once"));
}
