//! Whole shards over the in-memory `Io`, with virtual time: what a turn does,
//! and when it says that it has nothing to do.

mod world;

use ringmain_runtime::memory::End;
use world::{World, numbers, place};

const TO_TCP: &str = r#"
[sources.g]
type = "generator"
count = 20000
fields = { n = { type = "sequence" } }
[sinks.out]
type = "tcp"
address = "127.0.0.1:4000"
inputs = ["g"]
buffer = "64KiB"
"#;

#[test]
fn a_stalled_sink_stops_its_source_and_lets_the_shard_rest() {
    let mut world = World::new(TO_TCP, 1);
    let end = world.ios[0].answer_at(place(4000));
    world.ios[0].set_window(end, 1000);
    world.start();
    world.settle();
    let stuck = world.component("g").rows_out;
    assert!(stuck > 0 && stuck < 20_000, "{stuck}");
    // Time alone changes nothing, and costs no turn that does anything.
    for _ in 0..50 {
        world.ios[0].advance(10_000);
        assert!(!world.turn(), "a shard that can do nothing says that it is busy");
    }
    assert_eq!(world.component("g").rows_out, stuck);
    let snapshot = world.metrics.snapshot(world.ios[0].now_us());
    assert!(snapshot.edges[0].blocked_us >= 490_000, "{:?}", snapshot.edges);
}

#[test]
fn what_a_stalled_peer_did_not_read_arrives_once_and_in_order_when_it_does() {
    let mut world = World::new(TO_TCP, 1);
    let end = world.ios[0].answer_at(place(4000));
    world.ios[0].set_window(end, 1000);
    world.start();
    world.settle();
    let mut received = Vec::new();
    world.finish(|io| received.extend(io.take(end, 5_000)));
    received.extend(world.ios[0].take(end, usize::MAX));
    assert_eq!(numbers(&received), (0..20_000).collect::<Vec<_>>());
    let sink = world.component("out");
    assert_eq!((sink.rows_in, sink.rows_out, sink.dead), (20_000, 20_000, 0));
}

#[test]
fn a_branch_that_drops_does_not_hold_up_its_sibling() {
    let flow = r#"
        allow_loss = true
        [sources.g]
        type = "generator"
        count = 20000
        fields = { n = { type = "sequence" } }
        [sinks.dropping]
        type = "tcp"
        address = "127.0.0.1:4000"
        inputs = ["g"]
        when_full = "drop_newest"
        buffer = "64KiB"
        [sinks.other]
        type = "blackhole"
        inputs = ["g"]
    "#;
    let mut world = World::new(flow, 1);
    let end = world.ios[0].answer_at(place(4000));
    world.ios[0].set_window(end, 1000);
    world.start();
    world.settle();
    assert_eq!(world.component("other").rows_out, 20_000);
    let mut received = Vec::new();
    world.finish(|io| received.extend(io.take(end, 100_000)));
    received.extend(world.ios[0].take(end, usize::MAX));
    let sink = world.component("dropping");
    let numbers = numbers(&received);
    assert_eq!(sink.rows_in, 20_000);
    assert_eq!(sink.dropped_full, 20_000 - numbers.len() as u64);
    assert!(sink.dropped_full > 0 && numbers.is_sorted());
}

#[test]
fn dropping_the_oldest_keeps_the_newest() {
    let flow = TO_TCP.replace("buffer = ", "when_full = \"drop_oldest\"\nbuffer = ");
    let mut world = World::new(&format!("allow_loss = true\n{flow}"), 1);
    let end = world.ios[0].answer_at(place(4000));
    world.ios[0].set_window(end, 1000);
    world.start();
    world.settle();
    let mut received = Vec::new();
    world.finish(|io| received.extend(io.take(end, 100_000)));
    received.extend(world.ios[0].take(end, usize::MAX));
    let numbers = numbers(&received);
    let sink = world.component("out");
    assert_eq!(sink.rows_in, 20_000);
    assert_eq!(sink.dropped_full, 20_000 - numbers.len() as u64);
    assert!(sink.dropped_full > 0 && numbers.is_sorted());
    assert_eq!(numbers.last(), Some(&19_999));
}

#[test]
fn every_key_stays_in_order_through_the_exchange_and_nothing_is_lost() {
    let flow = r#"
        [partition]
        key = ["k"]
        [sources.g]
        type = "generator"
        count = 30000
        fields = { k = { type = "int", min = 0, max = 40 }, n = { type = "sequence" } }
        [operators.some]
        type = "filter"
        inputs = ["g"]
        where = "n >= 1000"
        [sinks.out]
        type = "tcp"
        address = "127.0.0.1:4000"
        inputs = ["some"]
    "#;
    for seed in 0..5 {
        let mut world = World::new(flow, 3);
        let end: End = world.ios[0].answer_at(place(4000));
        world.ios[0].set_window(end, 3_000 + seed * 1_000);
        world.start();
        let mut received = Vec::new();
        world.finish(|io| received.extend(io.take(end, 2_000)));
        received.extend(world.ios[0].take(end, usize::MAX));
        let text = String::from_utf8(received).unwrap();
        assert_eq!(text.lines().count(), 29_000);
        let mut last = std::collections::HashMap::new();
        for line in text.lines() {
            let (key, n) = line.split_once(",\"n\":").unwrap();
            // The twins' numbers interleave; order holds within each of them.
            let n: u64 = n.trim_end_matches('}').parse().unwrap();
            let before = last.insert((key.to_owned(), n % 3), n);
            assert!(before.is_none_or(|before| before < n), "{key}: {n} after {before:?}");
        }
    }
}

const CYCLE: &str = r#"
        allow_loss = true
        [sources.g]
        type = "generator"
        count = 3000
        fields = { n = { type = "sequence" }, left = { type = "int", min = 0, max = 3 } }
        [operators.again]
        type = "route"
        inputs = ["g", { from = "less", bound = "64KiB", when_full = "block" }]
        default = "done"
        [operators.again.routes]
        more = "left > 0"
        [operators.less]
        type = "map"
        inputs = ["again.more"]
        set = { left = "left - 1" }
        [sinks.out]
        type = "blackhole"
        inputs = ["again.done"]
    "#;

#[test]
fn a_cycle_with_a_bound_ends_and_loses_nothing() {
    let mut world = World::new(CYCLE, 1);
    world.start();
    world.finish(|_| ());
    assert_eq!(world.component("out").rows_out, 3_000);
    let (less, again) = (world.component("less"), world.component("again"));
    assert_eq!(again.rows_in, 3_000 + less.rows_out);
}

#[test]
fn a_cycle_that_drops_ends_and_counts_what_it_dropped() {
    for policy in ["drop_newest", "drop_oldest"] {
        let mut world = World::new(&CYCLE.replace("\"block\"", &format!("{policy:?}")), 1);
        world.start();
        world.finish(|_| ());
        let (less, again) = (world.component("less"), world.component("again"));
        let dropped = again.dropped_full;
        assert_eq!(world.component("out").rows_out + dropped, 3_000, "{policy}");
        assert_eq!(again.rows_in, 3_000 + less.rows_out, "{policy}");
    }
}
