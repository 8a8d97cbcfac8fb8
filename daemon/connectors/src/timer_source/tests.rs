use ringmain_base::Now;
use ringmain_config::plan::SourceKind;
use ringmain_slab::{Budget, RowRef, ValueRef};

use super::*;
use crate::testing::Bench;

/// 2026-03-29 00:00 UTC: an hour before the clocks of Berlin go from 2 to 3.
const START_US: i64 = 1_774_742_400_000_000;

fn timer(keys: &str) -> TimerSource {
    let text = format!(
        "[sources.t]\ntype = \"timer\"\n{keys}\n[sinks.out]\ntype = \"blackhole\"\ninputs = [\"t\"]"
    );
    let plan = ringmain_config::load_str("t.toml", &text).unwrap_or_else(|e| panic!("{e}"));
    let SourceKind::Timer(plan) = &plan.flows[0].sources[0].kind else { panic!("a timer") };
    TimerSource::new(plan, &SharedSchema::new()).unwrap()
}

struct Rig {
    bench: Bench,
    slab: Slab,
    now: Now,
}

impl Rig {
    fn new() -> Self {
        let slab = Slab::new(4096, &Budget::new(1 << 20));
        Self { bench: Bench::new(), slab, now: Now { mono_us: 1_000, wall_us: START_US } }
    }

    fn pass(&mut self, us: i64) {
        self.now.mono_us += us as u64;
        self.now.wall_us += us;
    }

    /// Seconds since the start of each message that is made now.
    fn poll(&mut self, timer: &mut TimerSource) -> Vec<f64> {
        let second = |row: RowRef<'_>| match row.get(0) {
            ValueRef::Str(text) => {
                let us = text.parse::<Timestamp>().unwrap().as_microsecond();
                (us - START_US) as f64 / 1e6
            }
            value => panic!("{value:?}"),
        };
        let mut made = Vec::new();
        loop {
            let pull = timer.poll(&mut self.slab, &mut self.bench.cx(self.now));
            made.extend(self.slab.rows().map(second));
            self.slab.clear();
            if pull != Pull::More {
                return made;
            }
        }
    }
}

const SECOND: i64 = 1_000_000;

#[test]
fn a_delay_is_kept_from_the_first_message_on() {
    let mut rig = Rig::new();
    for keys in [
        "fixed_delay = \"10s\"\ninitial_delay = \"3s\"",
        "fixed_delay = 10\ninitial_delay = 3000000\n#",
    ] {
        let keys = keys.replace("3000000\n#", "3");
        let mut timer = timer(&keys);
        let begin = (rig.now.wall_us - START_US) as f64 / 1e6;
        assert!(rig.poll(&mut timer).is_empty());
        assert_eq!(timer.wake_at_us(), Some(rig.now.mono_us + 3_000_000));
        rig.pass(3 * SECOND);
        assert_eq!(rig.poll(&mut timer), [begin + 3.0]);
        // A turn that is late moves nothing that follows.
        rig.pass(10 * SECOND + 7);
        assert_eq!(rig.poll(&mut timer), [begin + 13.0]);
        rig.pass(10 * SECOND - 8);
        assert!(rig.poll(&mut timer).is_empty());
        rig.pass(1);
        assert_eq!(rig.poll(&mut timer), [begin + 23.0]);
    }
}

#[test]
fn without_a_schedule_there_is_a_message_every_second() {
    let (mut rig, mut timer) = (Rig::new(), timer("count = 3"));
    assert_eq!(rig.poll(&mut timer), [0.0]);
    rig.pass(SECOND);
    assert_eq!(rig.poll(&mut timer), [1.0]);
    rig.pass(SECOND);
    assert_eq!(rig.poll(&mut timer), [2.0]);
    let pull = timer.poll(&mut rig.slab, &mut rig.bench.cx(rig.now));
    assert_eq!((pull, timer.wake_at_us()), (Pull::Ended, None));
}

#[test]
fn times_that_were_missed_are_skipped_or_joined_or_made_up_for() {
    for (misfire, expected) in [
        ("skip", vec![100.0]),
        ("once", vec![100.0]),
        ("all\"\nmisfire_max = \"4", vec![70.0, 80.0, 90.0, 100.0]),
    ] {
        let keys = format!("fixed_delay = \"10s\"\nmisfire = \"{misfire}\"");
        let keys = keys.replace("\"4\"", "4");
        let (mut rig, mut timer) = (Rig::new(), timer(&keys));
        assert_eq!(rig.poll(&mut timer), [0.0]);
        rig.pass(100 * SECOND);
        assert_eq!(rig.poll(&mut timer), expected, "{misfire}");
        rig.pass(10 * SECOND);
        assert_eq!(rig.poll(&mut timer), [110.0]);
    }
    let mut timer = timer("fixed_delay = \"10s\"\nmisfire = \"skip\"");
    let mut rig = Rig::new();
    assert_eq!(rig.poll(&mut timer), [0.0]);
    rig.pass(18 * SECOND);
    assert!(rig.poll(&mut timer).is_empty());
    rig.pass(2 * SECOND);
    assert_eq!(rig.poll(&mut timer), [20.0]);
}

#[test]
fn a_cron_expression_has_seconds_and_a_zone() {
    let (mut rig, mut ten) = (Rig::new(), timer("cron = \"*/10 * * * * *\""));
    assert_eq!(rig.poll(&mut ten), [0.0]);
    rig.pass(10 * SECOND);
    assert_eq!(rig.poll(&mut ten), [10.0]);
    // On this day 3:30 in Berlin is 01:30 UTC, an hour and a half after midnight.
    let keys = "cron = \"0 30 3 * * *\"\ntimezone = \"Europe/Berlin\"";
    let (mut rig, mut berlin) = (Rig::new(), timer(keys));
    assert!(rig.poll(&mut berlin).is_empty());
    rig.pass(3600 * SECOND + 1799 * SECOND);
    assert!(rig.poll(&mut berlin).is_empty());
    rig.pass(SECOND);
    assert_eq!(rig.poll(&mut berlin), [5400.0]);
    rig.pass(86_400 * SECOND);
    assert_eq!(rig.poll(&mut berlin), [91_800.0]);
}

#[test]
fn a_clock_that_is_set_back_begins_the_schedule_anew() {
    let (mut rig, mut hourly) = (Rig::new(), timer("cron = \"0 0 * * * *\""));
    assert_eq!(rig.poll(&mut hourly), [0.0]);
    rig.pass(60 * SECOND);
    rig.now.wall_us -= 7200 * SECOND;
    assert!(rig.poll(&mut hourly).is_empty());
    rig.pass(3540 * SECOND);
    assert_eq!(rig.poll(&mut hourly), [-3600.0]);
}

#[test]
fn a_date_comes_once_and_is_not_repeated_after_a_restart() {
    let keys = "date = \"03/29/26 02:00:00\"\ntimezone = \"Europe/Berlin\"";
    for keys in ["date = \"2026-03-29T01:00:00Z\"", keys] {
        let (mut rig, mut date) = (Rig::new(), timer(keys));
        assert!(rig.poll(&mut date).is_empty());
        rig.pass(3600 * SECOND);
        assert_eq!(rig.poll(&mut date), [3600.0], "{keys}");
        let pull = date.poll(&mut rig.slab, &mut rig.bench.cx(rig.now));
        assert_eq!(pull, Pull::Ended);
        let mut again = timer(keys);
        again.restore(&date.position().unwrap()).unwrap();
        rig.pass(60 * SECOND);
        assert!(rig.poll(&mut again).is_empty());
    }
}

#[test]
fn what_was_missed_while_the_daemon_was_down_is_made_up_for() {
    for (misfire, expected) in
        [("skip", vec![]), ("once", vec![7200.0]), ("all", vec![3600.0, 7200.0])]
    {
        let keys = format!("cron = \"0 0 * * * *\"\nmisfire = \"{misfire}\"");
        let (mut rig, mut before) = (Rig::new(), timer(&keys));
        assert_eq!(rig.poll(&mut before), [0.0]);
        let mut after = timer(&keys);
        after.restore(&before.position().unwrap()).unwrap();
        rig.pass(7300 * SECOND);
        assert_eq!(rig.poll(&mut after), expected, "{misfire}");
    }
    assert!(timer("").restore(&[1, 2, 3]).is_err());
}

#[test]
fn the_message_is_what_the_template_says() {
    let (mut rig, mut timer) = (
        Rig::new(),
        timer(
            "timestamp = \"at\"\ntimestamp_format = \"%d.%m.%Y %H:%M\"\ntimezone = \"Asia/Tokyo\"\n\
             fields = { site = \"north\", line = 7, rate = 0.5, test = true }",
        ),
    );
    timer.poll(&mut rig.slab, &mut rig.bench.cx(rig.now));
    let shown = format!("{:?}", rig.slab.row(0));
    let expected = "[Str(\"29.03.2026 09:00\"), Str(\"north\"), Int(7), Float(0.5), Bool(true)]";
    assert_eq!(shown, expected);
}
