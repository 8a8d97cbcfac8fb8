//! What the operators by key promise, on rows made here.

mod lists;
mod rate;

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use ringmain_base::{Now, Reason};
use ringmain_slab::{Budget, RowRef, Scalar, Scratch, SharedSchema, Slab, ValueRef};

use super::{Beyond, ByKey, Clock, Condition, Over, TimeUnit, change_detector, hysteresis, sample};
use crate::native::keyed::table::{Bounds, Tables};
use crate::{Context, Operator, Refuse};

const MINUTE_US: u64 = 60_000_000;
const START_US: i64 = 1_528_283_220_000_000;

#[derive(Default)]
pub(crate) struct Refused(pub(crate) Vec<(Reason, String)>);

impl Refuse for Refused {
    fn refuse(&mut self, _: RowRef<'_>, reason: Reason, detail: &str) {
        self.0.push((reason, detail.to_owned()));
    }
}

/// Rows of the fields `id` and `v` and the clock that they meet.
pub(crate) struct Rig {
    pub(crate) schema: SharedSchema,
    pub(crate) slab: Slab,
    pub(crate) refused: Refused,
    pub(crate) now: Now,
    pub(crate) ports: Vec<Slab>,
    scratch: Scratch,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let schema = SharedSchema::new();
        for name in ["id", "v", "n"] {
            schema.intern(name).unwrap();
        }
        let budget = Budget::new(64 << 20);
        Self {
            schema,
            slab: Slab::new(1 << 16, &budget),
            refused: Refused::default(),
            now: Now { mono_us: 7_000_000, wall_us: START_US },
            ports: vec![Slab::new(1 << 12, &budget)],
            scratch: Scratch::default(),
        }
    }

    pub(crate) fn by<'a>(&'a self, key: &'a [String]) -> ByKey<'a> {
        ByKey { key, partitions: 1, max_keys: 1000, ttl_us: None, schema: &self.schema }
    }

    pub(crate) fn pass(&mut self, us: u64) {
        self.now.mono_us += us;
        self.now.wall_us += us as i64;
    }

    /// A row; its number is in `n`.
    pub(crate) fn push(&mut self, id: Scalar<'_>, v: Scalar<'_>) {
        let n = self.slab.len() as i64;
        let mut row = self.slab.build(3, 3, &mut self.scratch);
        row.set(0, id);
        row.set(1, v);
        row.set_int(2, n);
        row.finish(self.now.wall_us).unwrap();
    }

    /// The numbers of the rows that are left.
    pub(crate) fn run(&mut self, operator: &mut dyn Operator) -> Vec<i64> {
        let (now, ports) = (self.now, &mut self.ports[..]);
        operator.process(&mut self.slab, &mut Context { now, refuse: &mut self.refused, ports });
        let number = |row: RowRef<'_>| match row.get(2) {
            ValueRef::Int(n) => n,
            _ => -1,
        };
        let left = self.slab.rows().map(number).collect();
        self.slab.clear();
        left
    }

    /// One row of the key `a`; whether it passes.
    pub(crate) fn one(&mut self, operator: &mut dyn Operator, v: Scalar<'_>) -> bool {
        self.push(Scalar::Str("a"), v);
        !self.run(operator).is_empty()
    }
}

pub(crate) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_sampler_of_two_minutes_drops_the_message_of_1128_whatever_its_own_time_says() {
    let mut rig = Rig::new();
    let key = names(&["id"]);
    let mut operator = sample(&rig.by(&key), 2 * MINUTE_US, &Clock::Server).unwrap();
    // 11:27, with the time stamp 11:06; then 11:28 with 11:21.
    assert!(rig.one(&mut *operator, Scalar::Str("2018.06.07T11:06:00.000Z")));
    rig.pass(MINUTE_US);
    assert!(!rig.one(&mut *operator, Scalar::Str("2018.06.07T11:21:00.000Z")));
    rig.pass(MINUTE_US);
    assert!(rig.one(&mut *operator, Scalar::Str("2018.06.07T11:22:00.000Z")));
}

/// So many keys are looked up ahead, a slab at a time, some more than once in a
/// slab, some new, and one message without a key among them.
#[test]
fn each_of_many_keys_is_told_from_the_others() {
    const KEYS: i64 = 30_000;
    let mut rig = Rig::new();
    let key = names(&["id"]);
    let by = ByKey { max_keys: KEYS as usize, partitions: 4, ..rig.by(&key) };
    let mut operator = sample(&by, 2 * MINUTE_US, &Clock::Server).unwrap();
    let mut passes = |rig: &mut Rig, from: i64| {
        for id in from..from + 100 {
            rig.push(Scalar::Int(id % KEYS), Scalar::Null);
            rig.push(Scalar::Str(&format!("device {}", id % KEYS / 2)), Scalar::Null);
        }
        rig.push(Scalar::Absent, Scalar::Null);
        rig.run(&mut *operator).len()
    };
    let first: usize = (0..KEYS / 2).step_by(100).map(|from| passes(&mut rig, from)).sum();
    assert_eq!(first as i64, KEYS / 2 + KEYS / 4, "all numbers, and every text once");
    let again: usize = (0..KEYS / 2).step_by(100).map(|from| passes(&mut rig, from)).sum();
    assert_eq!(again, 0, "all are known");
    rig.pass(3 * MINUTE_US);
    let later: usize = (0..KEYS / 2).step_by(100).map(|from| passes(&mut rig, from)).sum();
    assert_eq!(later as i64, KEYS / 2 + KEYS / 4);
    assert_eq!(rig.refused.0.len() as i64, 3 * KEYS / 2 / 100);
    assert_eq!(operator.tally().map(|tally| tally.keys), Some(22_500));
}

#[test]
fn a_sampler_by_event_time_goes_by_the_time_in_the_messages() {
    let mut rig = Rig::new();
    let key = names(&["id"]);
    let clock = Clock::Event(Some("v".into()), TimeUnit::Millis);
    let mut operator = sample(&rig.by(&key), 2 * MINUTE_US, &clock).unwrap();
    let times = [
        ("2018.06.07T11:06:00.000Z", true),
        ("2018.06.07T11:21:00.000Z", true),
        ("2018.06.07T11:22:59.999Z", false),
        // A little late is no new interval, a clock set back is one.
        ("2018.06.07T11:20:00.000Z", false),
        ("2017-01-01T00:00:00Z", true),
        ("2017-01-01T00:02:00Z", true),
    ];
    for (time, passes) in times {
        assert_eq!(rig.one(&mut *operator, Scalar::Str(time)), passes, "{time}");
    }
    assert!(!rig.one(&mut *operator, Scalar::Bool(true)));
    assert!(!rig.one(&mut *operator, Scalar::Absent));
    let expected = [
        (Reason::Field, "'v' is no time: Bool(true)".to_owned()),
        (Reason::Field, "the message has no 'v', its time".to_owned()),
    ];
    assert_eq!(rig.refused.0, expected);
}

#[test]
fn a_wall_clock_that_jumps_back_silences_nobody() {
    let mut rig = Rig::new();
    let key = names(&["id"]);
    let mut operator = sample(&rig.by(&key), MINUTE_US, &Clock::Server).unwrap();
    assert!(rig.one(&mut *operator, Scalar::Null));
    rig.now.wall_us -= 86_400_000_000;
    assert!(!rig.one(&mut *operator, Scalar::Null));
    rig.pass(MINUTE_US);
    assert!(rig.one(&mut *operator, Scalar::Null));
}

fn motor(rig: &Rig, release: Option<&str>) -> Box<dyn Operator> {
    let condition = |expr: &str| Condition::native(expr, &rig.schema).unwrap();
    hysteresis(&rig.by(&names(&["id"])), condition("v > 100"), release.map(condition)).unwrap()
}

#[test]
fn a_motor_that_swings_about_its_threshold_is_reported_once() {
    let mut rig = Rig::new();
    let mut operator = motor(&rig, Some("v < 80"));
    let speeds = [
        (99, false),
        (101, true),
        (99, false),
        (101, false),
        (79, false),
        (100, false),
        (102, true),
    ];
    for (rpm, passes) in speeds {
        assert_eq!(rig.one(&mut *operator, Scalar::Int(rpm)), passes, "{rpm}");
    }
}

#[test]
fn without_a_release_every_match_passes() {
    let mut rig = Rig::new();
    let mut operator = motor(&rig, None);
    for (rpm, passes) in [(99, false), (101, true), (99, false), (101, true), (102, true)] {
        assert_eq!(rig.one(&mut *operator, Scalar::Int(rpm)), passes, "{rpm}");
    }
}

#[test]
fn each_key_has_a_state_of_its_own_and_a_message_that_fails_is_refused_once() {
    let mut rig = Rig::new();
    let mut operator = motor(&rig, Some("v < 80"));
    rig.push(Scalar::Str("a"), Scalar::Int(101));
    rig.push(Scalar::Str("b"), Scalar::Int(101));
    rig.push(Scalar::Str("a"), Scalar::Int(101));
    rig.push(Scalar::Str("a"), Scalar::Absent);
    rig.push(Scalar::Absent, Scalar::Int(101));
    rig.push(Scalar::Int(7), Scalar::Int(101));
    rig.push(Scalar::Float(7.0), Scalar::Int(101));
    assert_eq!(rig.run(&mut *operator), [0, 1, 5]);
    let reasons: Vec<Reason> = rig.refused.0.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(reasons, [Reason::Script, Reason::Field]);
    assert_eq!(rig.refused.0[1].1, "the message has no 'id', a field of the operator's key");
    assert_eq!(operator.tally().unwrap().keys, 3);
}

/// A filter that is asked as an operator gives the answers of the native form.
#[test]
fn a_condition_that_is_an_operator_answers_like_a_native_one_and_changes_nothing() {
    for rows in [0, 1, 50] {
        let mut rig = Rig::new();
        let filter = crate::native::filter("f", "v > 100", &rig.schema).unwrap();
        let by = names(&["id"]);
        let release = Condition::filter(crate::native::filter("f", "v < 80", &rig.schema).unwrap());
        let mut operator =
            hysteresis(&rig.by(&by), Condition::filter(filter), Some(release)).unwrap();
        let mut native = motor(&rig, Some("v < 80"));
        let fill = |rig: &mut Rig| {
            for n in 0..rows {
                let v = if n % 7 == 3 { Scalar::Str("x") } else { Scalar::Int(n * 37 % 130) };
                rig.push(Scalar::Int(n % 3), v);
            }
        };
        fill(&mut rig);
        let asked = rig.run(&mut *operator);
        let refused = std::mem::take(&mut rig.refused.0);
        fill(&mut rig);
        assert_eq!(rig.run(&mut *native), asked);
        assert_eq!(rig.refused.0, refused);
    }
}

#[test]
fn a_change_detector_passes_changes_and_the_first_message_if_told_so() {
    for first_passes in [true, false] {
        let mut rig = Rig::new();
        let (key, fields) = (names(&["id"]), names(&["v"]));
        let mut operator = change_detector(&rig.by(&key), &fields, first_passes, None).unwrap();
        let values = [
            (Scalar::Int(1), first_passes),
            (Scalar::Int(1), false),
            (Scalar::Float(1.0), false),
            (Scalar::Int(2), true),
            (Scalar::Str("2"), true),
            (Scalar::Absent, true),
            (Scalar::Absent, false),
            (Scalar::Null, true),
            (Scalar::Bool(false), true),
            (Scalar::Int(1), true),
        ];
        for (value, passes) in values {
            assert_eq!(rig.one(&mut *operator, value), passes, "{value:?}");
        }
    }
}

#[test]
fn a_deadband_is_measured_from_the_last_message_that_passed() {
    let mut rig = Rig::new();
    let (key, fields) = (names(&["id"]), names(&["v"]));
    let mut operator = change_detector(&rig.by(&key), &fields, true, Some(0.5)).unwrap();
    let values = [(20.0, true), (20.4, false), (20.5, false), (20.6, true), (20.2, false)];
    for (value, passes) in values {
        assert_eq!(rig.one(&mut *operator, Scalar::Float(value)), passes, "{value}");
    }
    assert!(rig.one(&mut *operator, Scalar::Str("broken")));
    assert!(!rig.one(&mut *operator, Scalar::Str("broken")));
    assert!(rig.one(&mut *operator, Scalar::Float(20.6)));
}

#[test]
fn a_change_detector_without_fields_passes_everything() {
    let mut rig = Rig::new();
    let mut operator = change_detector(&rig.by(&[]), &[], false, None).unwrap();
    assert!(rig.one(&mut *operator, Scalar::Int(1)) && rig.one(&mut *operator, Scalar::Int(1)));
}

#[test]
fn beyond_max_keys_old_ones_are_forgotten_and_counted() {
    let mut rig = Rig::new();
    let key = names(&["id"]);
    let by = ByKey { max_keys: 100, partitions: 8, ..rig.by(&key) };
    let mut operator = sample(&by, MINUTE_US, &Clock::Server).unwrap();
    for id in 0..1000 {
        rig.push(Scalar::Int(id), Scalar::Null);
        assert_eq!(rig.run(&mut *operator).len(), 1);
        let known = u64::min(id as u64 + 1, 100);
        let tally = operator.tally().unwrap();
        assert_eq!((tally.keys, tally.evicted), (known, id as u64 + 1 - known));
    }
}

#[test]
fn keys_whose_time_is_over_are_swept_out() {
    let mut rig = Rig::new();
    let key = names(&["id"]);
    let mut operator = sample(&rig.by(&key), MINUTE_US, &Clock::Server).unwrap();
    for id in 0..500 {
        rig.push(Scalar::Int(id), Scalar::Null);
    }
    assert_eq!(rig.run(&mut *operator).len(), 500);
    rig.pass(3 * MINUTE_US);
    for _ in 0..100 {
        assert!(rig.one(&mut *operator, Scalar::Null) || operator.tally().unwrap().keys > 0);
    }
    let tally = operator.tally().unwrap();
    assert_eq!((tally.keys, tally.expired), (1, 500));
}

#[test]
fn a_key_that_is_too_long_is_refused() {
    let mut rig = Rig::new();
    let key = names(&["id"]);
    let mut operator = sample(&rig.by(&key), MINUTE_US, &Clock::Server).unwrap();
    rig.push(Scalar::Str(&"x".repeat(5000)), Scalar::Null);
    rig.push(Scalar::Str(&"x".repeat(1000)), Scalar::Null);
    assert_eq!(rig.run(&mut *operator), [1]);
    assert_eq!(rig.refused.0[0].1, "the key (id) has 5006 bytes; at most 4096 are kept");
}

/// Every operator that changes no message, made anew.
fn all(rig: &Rig) -> Vec<Box<dyn Operator>> {
    let (key, fields) = (names(&["id"]), names(&["v"]));
    let by = rig.by(&key);
    vec![
        sample(&by, MINUTE_US, &Clock::Server).unwrap(),
        change_detector(&by, &fields, true, None).unwrap(),
        change_detector(&by, &fields, true, Some(3.0)).unwrap(),
        motor(rig, Some("v < 80")),
        rate::throttled(rig, 1.0, 3, Over::Drop),
        rate::throttled(rig, 1.0, 3, Over::Delay(1 << 20, Beyond::Drop)),
    ]
}

fn feed(rig: &mut Rig, operator: &mut dyn Operator, values: &[(u8, i64)]) -> Vec<i64> {
    for (id, v) in values {
        rig.push(Scalar::Int(i64::from(*id)), Scalar::Int(*v));
    }
    rig.run(operator)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_state_that_is_saved_and_restored_goes_on_as_if_nothing_had_happened(
        before in prop::collection::vec((0u8..20, 60i64..120), 0..100),
        after in prop::collection::vec((0u8..20, 60i64..120), 0..100),
    ) {
        let mut rig = Rig::new();
        let twins = all(&rig).into_iter().zip(all(&rig));
        for (mut whole, mut second) in twins {
            feed(&mut rig, &mut *whole, &before);
            let mut bytes = Vec::new();
            whole.save(0, &mut bytes).unwrap();
            prop_assert_eq!(bytes.is_empty(), before.is_empty());
            if !bytes.is_empty() {
                second.restore(0, &bytes).unwrap();
            }
            rig.pass(MINUTE_US / 2);
            prop_assert_eq!(
                feed(&mut rig, &mut *whole, &after),
                feed(&mut rig, &mut *second, &after)
            );
        }
    }

    #[test]
    fn any_bytes_are_a_state_or_are_refused(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut rig = Rig::new();
        for mut operator in all(&rig) {
            let _ = operator.restore(0, &noise);
            feed(&mut rig, &mut *operator, &[(1, 1), (2, 200), (3, 79), (1, 1)]);
            let mut bytes = Vec::new();
            operator.save(0, &mut bytes).unwrap();
            for (at, byte) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            if operator.restore(0, &bytes[..cut.index(bytes.len() + 1)]).is_err() {
                let _ = operator.restore(0, &bytes);
            }
            feed(&mut rig, &mut *operator, &[(1, 1), (2, 200), (3, 79), (1, 1)]);
        }
    }

    #[test]
    fn a_table_knows_what_a_map_knows(
        steps in prop::collection::vec((0u16..200, 0u32..3), 1..400),
        long in any::<bool>(),
    ) {
        let bounds = Bounds { partitions: 4, max_keys: 1000, ttl_s: Some(40) };
        let mut tables: Tables<u64> = Tables::new(bounds);
        let mut model: HashMap<u16, (u64, u32)> = HashMap::new();
        let mut now_s = 100;
        for (id, pause) in steps {
            now_s += pause;
            let mut key = id.to_le_bytes().to_vec();
            if long {
                key.extend_from_slice(&[7; 40]);
            }
            tables.sweep(now_s, 3);
            let (state, fresh) = tables.get(id % 4, &key, now_s);
            let known = model.get(&id).filter(|(_, seen)| now_s - seen <= 40).map(|(n, _)| *n);
            prop_assert_eq!((*state, fresh), (known.unwrap_or(0), known.is_none()));
            *state += 1;
            model.insert(id, (known.unwrap_or(0) + 1, now_s));
        }
    }
}

#[test]
fn a_state_of_other_fields_is_refused() {
    let mut rig = Rig::new();
    let (key, fields) = (names(&["id"]), names(&["v"]));
    let mut old = change_detector(&rig.by(&key), &fields, true, None).unwrap();
    rig.one(&mut *old, Scalar::Int(1));
    let mut bytes = Vec::new();
    old.save(0, &mut bytes).unwrap();
    let other = names(&["n"]);
    let mut new = change_detector(&rig.by(&key), &other, true, None).unwrap();
    let why = new.restore(0, &bytes).unwrap_err();
    assert!(why.starts_with("it was saved with other keys or fields;"), "{why}");
    assert_eq!(old.restore(3, &bytes).unwrap_err(), "there is no partition 3");
}

#[test]
fn keys_are_equal_exactly_when_their_values_are() {
    let values = [
        Scalar::Bool(false),
        Scalar::Bool(true),
        Scalar::Int(0),
        Scalar::Int(1),
        Scalar::Float(0.5),
        Scalar::Str(""),
        Scalar::Str("0"),
        Scalar::Bytes(b"0"),
        Scalar::Number("1e400"),
        Scalar::Str("1e400"),
    ];
    let mut rig = Rig::new();
    let key = names(&["id", "v"]);
    let mut operator = sample(&rig.by(&key), MINUTE_US, &Clock::Server).unwrap();
    let mut pairs = HashSet::new();
    for (a, first) in values.iter().enumerate() {
        for (b, second) in values.iter().enumerate() {
            rig.push(*first, *second);
            pairs.insert((a, b));
        }
    }
    rig.push(Scalar::Float(-0.0), Scalar::Float(1.0));
    assert_eq!(rig.run(&mut *operator).len(), pairs.len());
}
