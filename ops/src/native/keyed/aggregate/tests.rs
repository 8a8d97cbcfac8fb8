use ringmain_base::Reason;
use ringmain_slab::{RowRef, Scalar, Slab, ValueRef};

use crate::native::keyed::tests::{Rig, names};
use crate::native::keyed::{Clock, Compute, Late, TimeUnit, WindowOptions, aggregate};
use crate::{Context, Operator};

const SECOND_US: u64 = 1_000_000;

type Functions = Vec<(String, Compute, Option<String>)>;

fn functions(list: &[(&str, Compute, &str)]) -> Functions {
    let of = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    list.iter().map(|(into, compute, field)| ((*into).into(), *compute, of(field))).collect()
}

struct Windows {
    window_us: u64,
    slide_us: u64,
    clock: Clock,
    lateness_us: u64,
    late: Late,
}

fn windows(window_s: u64, slide_s: u64) -> Windows {
    Windows {
        window_us: window_s * SECOND_US,
        slide_us: slide_s * SECOND_US,
        clock: Clock::Server,
        lateness_us: 0,
        late: Late::Drop,
    }
}

/// By the time in `v`, in seconds.
fn by_event(window_s: u64, slide_s: u64, lateness_s: u64, late: Late) -> Windows {
    let clock = Clock::Event(Some("v".into()), TimeUnit::Seconds);
    Windows { clock, lateness_us: lateness_s * SECOND_US, late, ..windows(window_s, slide_s) }
}

fn build(rig: &Rig, windows: &Windows, functions: &Functions) -> Box<dyn Operator> {
    let options = WindowOptions {
        window_us: windows.window_us,
        slide_us: windows.slide_us,
        clock: &windows.clock,
        lateness_us: windows.lateness_us,
        late: windows.late,
        functions,
        unit: TimeUnit::Seconds,
    };
    aggregate(&rig.by(&names(&["id"])), &options).unwrap()
}

/// Key, start relative to `base`, and each result, of every row.
fn take(rig: &mut Rig, base: i64, fields: &[&str]) -> Vec<String> {
    let schema = rig.schema.snapshot();
    let text = |row: RowRef<'_>, name: &str| match row.get(schema.slot(name).unwrap()) {
        ValueRef::Int(v) => v.to_string(),
        ValueRef::Float(v) => format!("{v:.3}"),
        ValueRef::Str(v) => v.to_owned(),
        ValueRef::Absent => "-".to_owned(),
        value => format!("{value:?}"),
    };
    let show = |row: RowRef<'_>| {
        let start = row.number(schema.slot("window_start").unwrap()).unwrap() as i64 - base;
        let values: Vec<String> = fields.iter().map(|name| text(row, name)).collect();
        format!("{}@{start} {}", text(row, "id"), values.join(" "))
    };
    let shown = rig.slab.rows().map(show).collect();
    rig.slab.clear();
    shown
}

fn process(rig: &mut Rig, operator: &mut dyn Operator) {
    let (now, ports) = (rig.now, &mut rig.ports[..]);
    operator.process(&mut rig.slab, &mut Context { now, refuse: &mut rig.refused, ports });
}

fn timer(rig: &mut Rig, operator: &mut dyn Operator) {
    let (now, ports) = (rig.now, &mut rig.ports[..]);
    operator.on_timer(&mut rig.slab, &mut Context { now, refuse: &mut rig.refused, ports });
}

/// Rows with event times, one batch; what leaves.
fn feed(rig: &mut Rig, operator: &mut dyn Operator, times: &[i64]) -> Vec<String> {
    times.iter().for_each(|time| rig.push(Scalar::Str("a"), Scalar::Int(*time)));
    process(rig, operator);
    take(rig, 0, &["n_"])
}

fn end(rig: &mut Rig, operator: &mut dyn Operator) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let (now, ports) = (rig.now, &mut rig.ports[..]);
        let mut cx = Context { now, refuse: &mut rig.refused, ports };
        let more = operator.on_end(&mut rig.slab, &mut cx);
        all.extend(take(rig, 0, &["n_"]));
        if !more {
            return all;
        }
    }
}

fn count() -> Functions {
    functions(&[("n_", Compute::Count, "")])
}

#[test]
fn tumbling_windows_leave_at_their_end_with_every_function() {
    let mut rig = Rig::new();
    let all = functions(&[
        ("n_", Compute::Count, ""),
        ("with", Compute::Count, "v"),
        ("sum", Compute::Sum, "v"),
        ("min", Compute::Min, "v"),
        ("max", Compute::Max, "v"),
        ("mean", Compute::Mean, "v"),
        ("dev", Compute::Stddev, "v"),
        ("p50", Compute::Percentile(0.5), "v"),
        ("first", Compute::First, "v"),
        ("last", Compute::Last, "v"),
        ("kinds", Compute::Distinct, "v"),
    ]);
    let mut operator = build(&rig, &windows(60, 60), &all);
    let base = rig.now.wall_us.div_euclid(60_000_000) * 60;
    for value in [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
        rig.push(Scalar::Str("a"), Scalar::Float(value));
    }
    rig.push(Scalar::Str("a"), Scalar::Absent);
    rig.push(Scalar::Str("b"), Scalar::Int(3));
    rig.push(Scalar::Str("b"), Scalar::Str("three"));
    process(&mut rig, &mut *operator);
    assert!(rig.slab.is_empty());
    let why = "'v' is no number: Str(\"three\")".to_owned();
    assert_eq!(rig.refused.0, [(Reason::Field, why)]);
    let due = operator.timer_at_us().unwrap();
    rig.pass(due - rig.now.mono_us);
    timer(&mut rig, &mut *operator);
    let fields =
        ["n_", "with", "sum", "min", "max", "mean", "dev", "p50", "first", "last", "kinds"];
    let results = take(&mut rig, base, &fields);
    let expected = ["a@0 9 8 40 2 9 5 2.138 5.020 2 9 5", "b@0 1 1 3 3 3 3 - 3 3 3 1"];
    assert_eq!(results.len(), 2);
    assert_eq!(results[1], expected[1]);
    let (head, tail) = (&results[0][..27], &results[0][results[0].len() - 6..]);
    assert_eq!((head, tail), (&expected[0][..27], " 2 9 5"));
    // Keys that are seen no more are forgotten a window later.
    assert_eq!(operator.tally().unwrap().keys, 2);
    let due = operator.timer_at_us().unwrap();
    rig.pass(due - rig.now.mono_us);
    timer(&mut rig, &mut *operator);
    assert_eq!((rig.slab.len(), operator.tally().unwrap().keys), (0, 0));
    assert_eq!(operator.timer_at_us(), None);
}

#[test]
fn sliding_windows_share_their_panes() {
    let mut rig = Rig::new();
    let mut operator = build(&rig, &windows(30, 10), &count());
    let base = rig.now.wall_us.div_euclid(10_000_000) * 10;
    let mut all = Vec::new();
    for step in 0..7 {
        if step < 2 {
            rig.push(Scalar::Str("a"), Scalar::Null);
            process(&mut rig, &mut *operator);
        }
        rig.pass(10 * SECOND_US);
        timer(&mut rig, &mut *operator);
        all.extend(take(&mut rig, base, &["n_"]));
    }
    assert_eq!(all, ["a@-20 1", "a@-10 2", "a@0 2", "a@10 1"]);
    assert_eq!(operator.tally().unwrap().keys, 0);
}

#[test]
fn event_time_windows_wait_for_the_allowed_lateness_and_no_longer() {
    let mut rig = Rig::new();
    let mut operator = build(&rig, &by_event(10, 10, 5, Late::Port), &count());
    assert!(feed(&mut rig, &mut *operator, &[101, 109, 111]).is_empty());
    // 114 - 5 is before the end of the first window.
    assert!(feed(&mut rig, &mut *operator, &[114, 103]).is_empty());
    assert_eq!(feed(&mut rig, &mut *operator, &[115]), ["a@100 3"]);
    assert!(feed(&mut rig, &mut *operator, &[109, 112]).is_empty());
    assert_eq!((operator.tally().unwrap().late, rig.ports[0].len()), (1, 1));
    // A gap of empty windows makes no results.
    assert_eq!(feed(&mut rig, &mut *operator, &[1005]), ["a@110 4"]);
    assert_eq!(end(&mut rig, &mut *operator), ["a@1000 1"]);
}

#[test]
fn sliding_event_time_windows_leave_once_each_in_order() {
    let mut rig = Rig::new();
    let mut operator = build(&rig, &by_event(30, 10, 0, Late::Drop), &count());
    let mut all = feed(&mut rig, &mut *operator, &[100, 105, 118, 131]);
    // 105 is late for two of its windows, not for the third.
    all.extend(feed(&mut rig, &mut *operator, &[129, 105, 99]));
    all.extend(end(&mut rig, &mut *operator));
    let expected = ["a@80 2", "a@90 3", "a@100 3", "a@110 3", "a@120 2", "a@130 1"];
    assert_eq!(all[0], expected[0]);
    let starts: Vec<&str> = all.iter().map(|r| r.split(' ').next().unwrap()).collect();
    let wanted: Vec<&str> = expected.iter().map(|r| r.split(' ').next().unwrap()).collect();
    assert_eq!(starts, wanted);
}

#[test]
fn results_that_find_no_room_leave_later_and_none_twice() {
    let mut rig = Rig::new();
    rig.slab = Slab::new(4096, &ringmain_slab::Budget::new(0));
    let mut operator = build(&rig, &windows(60, 60), &count());
    let mut pushed = 0;
    while pushed < 300 {
        for _ in 0..10 {
            rig.push(Scalar::Int(pushed), Scalar::Null);
            pushed += 1;
        }
        process(&mut rig, &mut *operator);
        assert!(rig.slab.is_empty());
    }
    rig.pass(60 * SECOND_US);
    let (mut seen, mut calls) = (std::collections::HashSet::new(), 0);
    while operator.timer_at_us().is_some_and(|due| due <= rig.now.mono_us) {
        calls += 1;
        timer(&mut rig, &mut *operator);
        for result in take(&mut rig, 0, &["n_"]) {
            assert!(seen.insert(result), "twice");
        }
    }
    assert!(calls > 5);
    assert_eq!(seen.len(), 300);
}

#[test]
fn windows_are_saved_open_and_closed_by_the_next_run() {
    let mut rig = Rig::new();
    let all = functions(&[
        ("n_", Compute::Count, ""),
        ("p", Compute::Percentile(0.9), "v"),
        ("d", Compute::Distinct, "v"),
        ("l", Compute::Last, "v"),
        ("m", Compute::Mean, "v"),
    ]);
    let spec = by_event(10, 10, 5, Late::Drop);
    let (mut old, mut new) = (build(&rig, &spec, &all), build(&rig, &spec, &all));
    feed(&mut rig, &mut *old, &[101, 102, 111]);
    let mut bytes = Vec::new();
    old.save(0, &mut bytes).unwrap();
    new.restore(0, &bytes).unwrap();
    for operator in [&mut old, &mut new] {
        assert_eq!(feed(&mut rig, &mut **operator, &[120]), ["a@100 2"]);
        assert!(feed(&mut rig, &mut **operator, &[103]).is_empty());
        assert_eq!(operator.tally().unwrap().late, 1);
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        let mut other = build(&rig, &spec, &all);
        if other.restore(0, &damaged).is_ok() {
            feed(&mut rig, &mut *other, &[120, 130]);
            end(&mut rig, &mut *other);
        }
    }
    let mut other = build(&rig, &by_event(20, 10, 5, Late::Drop), &all);
    assert!(other.restore(0, &bytes).is_err());
}

#[test]
fn a_key_for_which_there_is_no_room_is_refused() {
    let mut rig = Rig::new();
    let options = windows(60, 60);
    let by = names(&["id"]);
    let by = crate::native::keyed::ByKey { max_keys: 2, ..rig.by(&by) };
    let functions = count();
    let options = WindowOptions {
        window_us: options.window_us,
        slide_us: options.slide_us,
        clock: &Clock::Server,
        lateness_us: 0,
        late: Late::Drop,
        functions: &functions,
        unit: TimeUnit::Millis,
    };
    let mut operator = aggregate(&by, &options).unwrap();
    for id in [1, 2, 3, 1] {
        rig.push(Scalar::Int(id), Scalar::Null);
    }
    process(&mut rig, &mut *operator);
    assert_eq!((rig.refused.0.len(), rig.refused.0[0].0), (1, Reason::Limit));
}
