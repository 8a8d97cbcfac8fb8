//! Sinks that spill, over the in-memory `Io`: what waits on disk, in which
//! order it comes back, and what is left after a crash.

mod world;

use std::fs;
use std::path::{Path, PathBuf};

use ringmain_connectors::Health;
use ringmain_runtime::memory::{End, Faults};
use ringmain_shard::Phase;
use world::{World, numbers, place};

const COUNT: u64 = 60_000;

fn flow(spill: &str) -> String {
    format!(
        r#"
        name = "f"
        allow_loss = true
        [sources.g]
        type = "generator"
        count = {COUNT}
        fields = {{ n = {{ type = "sequence" }} }}
        [sinks.out]
        type = "tcp"
        address = "127.0.0.1:4000"
        inputs = ["g"]
        buffer = "64KiB"
        when_full = "spill"
        spill = {{ {spill} }}
        [sinks.other]
        type = "blackhole"
        inputs = ["g"]
        "#
    )
}

/// A world whose sink has no room for more than a thousand bytes.
fn stalled(flow: &str, dir: &Path) -> (World, End) {
    let mut world = World::in_folder(flow, 1, Some(dir));
    let end = world.ios[0].answer_at(place(4000));
    world.ios[0].set_window(end, 1000);
    world.start();
    (world, end)
}

/// Turns and virtual time, until `done`.
fn run_until(world: &mut World, what: &str, mut done: impl FnMut(&mut World) -> bool) {
    for _ in 0..100_000 {
        if done(world) {
            return;
        }
        world.turn();
        world.ios[0].advance(500);
    }
    panic!("never: {what}: {:#?}\n{:?}", world.metrics.snapshot(0), world.control.health());
}

fn read_all(world: &mut World, end: End, piece: usize) -> Vec<u64> {
    let mut received = Vec::new();
    world.finish(|io| received.extend(io.take(end, piece)));
    received.extend(world.ios[0].take(end, usize::MAX));
    numbers(&received)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let folder = dir.join("spill/f/out/shard-0");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "spill"))
        .collect();
    found.sort();
    found
}

fn is_all(numbers: &[u64]) {
    assert_eq!(numbers.len() as u64, COUNT);
    assert!(numbers.iter().copied().eq(0..COUNT), "out of order");
}

#[test]
fn a_stalled_sink_that_spills_stops_nobody_and_everything_comes_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, end) = stalled(&flow("segment = \"64KiB\""), dir.path());
    run_until(&mut world, "the sibling has all", |w| w.component("other").rows_out == COUNT);
    let sink = world.component("out");
    assert!(sink.spilled > COUNT / 2 && sink.rows_out < COUNT / 10, "{sink:?}");
    assert!(segments(dir.path()).len() > 3);
    is_all(&read_all(&mut world, end, 5_000));
    let sink = world.component("out");
    assert_eq!((sink.rows_in, sink.rows_out, sink.dropped, sink.dead), (COUNT, COUNT, 0, 0));
    assert_eq!((sink.resent, sink.disk_bytes), (sink.spilled, 0));
    assert_eq!(segments(dir.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_slow_reader_gets_everything_once_and_in_order() {
    for seed in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let text = flow("segment = \"64KiB\", fsync = \"always\"");
        let mut world = World::in_folder(&text, 1, Some(dir.path()));
        let end = world.ios[0].answer_at(place(4000));
        world.ios[0].set_window(end, 4_000 + 3_000 * seed);
        world.ios[0].chop(seed % 2 == 1);
        world.start();
        is_all(&read_all(&mut world, end, 700 + 500 * seed));
        let sink = world.component("out");
        assert_eq!((sink.rows_in, sink.rows_out), (COUNT, COUNT));
    }
}

#[test]
fn a_sink_with_room_writes_nothing_to_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::in_folder(&flow(""), 1, Some(dir.path()));
    let end = world.ios[0].answer_at(place(4000));
    world.ios[0].set_window(end, usize::MAX);
    world.start();
    is_all(&read_all(&mut world, end, usize::MAX));
    assert_eq!(world.component("out").spilled, 0);
}

#[test]
fn what_the_sink_has_and_does_not_accept_is_safe_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let text = flow("").replace(&format!("count = {COUNT}"), "count = 20");
    // Nobody answers at the address: everything stays in the sink's buffer.
    let mut world = World::in_folder(&text, 1, Some(dir.path()));
    world.start();
    run_until(&mut world, "the messages are on disk", |w| w.component("out").disk_bytes > 0);
    world.control.set_phase(Phase::Drain);
    run_until(&mut world, "the end", |w| w.ended[0]);
    assert_eq!(world.component("out").rows_out, 0);
    drop(world);
    // The next run delivers them.
    let text = text.replace("count = 20", "count = 0");
    let mut world = World::in_folder(&text, 1, Some(dir.path()));
    let end = world.ios[0].answer_at(place(4000));
    world.start();
    assert_eq!(read_all(&mut world, end, 5_000), (0..20).collect::<Vec<_>>());
    let sink = world.component("out");
    assert_eq!((sink.rows_in, sink.rows_out), (20, 20));
    assert_eq!(segments(dir.path()), Vec::<PathBuf>::new());
}

#[test]
fn after_a_crash_nothing_is_missing_and_little_comes_twice() {
    for crash_at in [1, 3, 10, 40, 100, 200] {
        let dir = tempfile::tempdir().unwrap();
        let text = flow("segment = \"64KiB\", fsync = \"1ms\"");
        let (mut world, end) = stalled(&text, dir.path());
        run_until(&mut world, "the sibling has all", |w| w.component("other").rows_out == COUNT);
        // All is read from the source; wait until all is safe, then some more
        // is delivered, then the process dies.
        for _ in 0..1_000 {
            world.turn();
            world.ios[0].advance(500);
        }
        let mut received = Vec::new();
        for _ in 0..crash_at {
            received.extend(world.ios[0].take(end, 1_000));
            world.turn();
            world.ios[0].advance(500);
        }
        received.extend(world.ios[0].take(end, usize::MAX));
        drop(world);
        let whole = received.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let first = numbers(&received[..whole]);
        assert!(first.iter().copied().eq(0..first.len() as u64));

        let text = text.replace(&format!("count = {COUNT}"), "count = 0");
        let mut world = World::in_folder(&text, 1, Some(dir.path()));
        let end = world.ios[0].answer_at(place(4000));
        world.start();
        let second = read_all(&mut world, end, usize::MAX);
        assert_eq!(second.last(), Some(&(COUNT - 1)), "{crash_at}");
        assert!(second.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{crash_at}");
        let twice = first.len() as u64 - second[0];
        assert!(second[0] <= first.len() as u64, "{crash_at}: {} is missing", first.len());
        // 200 ms of a kilobyte each half a millisecond, and what was under way.
        assert!(twice <= 15_000, "{crash_at}: {twice} twice");
    }
}

#[test]
fn a_bound_on_the_disk_makes_the_flow_wait_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, end) = stalled(&flow("segment = \"64KiB\", max_size = \"1MiB\""), dir.path());
    let full = |w: &World| {
        w.control.health().iter().any(
            |h| matches!(h, Health::Retrying(why) if why.contains("max_size (1 MiB) is full: the flow waits")),
        )
    };
    run_until(&mut world, "it says that it is full", |w| full(w));
    let before = world.component("g").rows_out;
    assert!(before < COUNT);
    for _ in 0..200 {
        world.turn();
        world.ios[0].advance(5_000);
    }
    assert_eq!(world.component("g").rows_out, before, "it does not wait");
    assert!(world.component("out").disk_bytes <= 1 << 20);
    is_all(&read_all(&mut world, end, 5_000));
}

#[test]
fn beyond_the_bound_new_messages_are_dropped_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let text = flow("segment = \"64KiB\", max_size = \"1MiB\", when_full = \"drop_newest\"");
    let (mut world, end) = stalled(&text, dir.path());
    run_until(&mut world, "the sibling has all", |w| w.component("other").rows_out == COUNT);
    let received = read_all(&mut world, end, 5_000);
    let sink = world.component("out");
    assert_eq!(sink.rows_in, COUNT);
    assert!(sink.dropped_full > 0 && received.is_sorted());
    assert_eq!(sink.dropped_full + received.len() as u64, COUNT);
}

#[test]
fn a_full_disk_makes_the_flow_wait_and_it_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, end) = stalled(&flow("segment = \"64KiB\""), dir.path());
    world.ios[0].set_faults(Faults { full: 1.0, ..Faults::default() });
    let full = |w: &World| {
        let why = "No space left on device";
        w.control.health().iter().any(|h| matches!(h, Health::Retrying(text) if text.contains(why)))
    };
    run_until(&mut world, "it says that the disk is full", |w| full(w));
    for _ in 0..200 {
        world.turn();
        world.ios[0].advance(5_000);
    }
    let before = world.component("g").rows_out;
    assert!(before < COUNT, "nothing waits");
    // Though nothing can be written, what is there comes out.
    let mut received = world.ios[0].take(end, 1_000);
    for _ in 0..2_000 {
        world.turn();
        world.ios[0].advance(500);
        received.extend(world.ios[0].take(end, 200));
    }
    assert!(world.component("g").rows_out > before, "it never goes on");
    world.ios[0].set_faults(Faults::default());
    world.finish(|io| received.extend(io.take(end, 5_000)));
    received.extend(world.ios[0].take(end, usize::MAX));
    is_all(&numbers(&received));
}

#[test]
fn whatever_the_disk_does_nothing_is_lost_and_order_holds() {
    for seed in 0..24_u64 {
        let dir = tempfile::tempdir().unwrap();
        let text = flow("segment = \"64KiB\", fsync = \"2ms\", max_size = \"1MiB\"");
        let mut world = World::in_folder(&text, 1, Some(dir.path()));
        world.ios[0] = ringmain_runtime::memory::MemoryIo::new(1_000 + seed);
        let end = world.ios[0].answer_at(place(4000));
        world.ios[0].set_window(end, 2_000 + 1_000 * (seed as usize % 7));
        world.ios[0].chop(true);
        let faults = Faults { delay: 0.2, full: 0.1, sync: 0.1, ..Faults::default() };
        world.ios[0].set_faults(faults);
        world.start();
        let mut received = Vec::new();
        world.finish(|io| received.extend(io.take(end, 3_000)));
        received.extend(world.ios[0].take(end, usize::MAX));
        is_all(&numbers(&received));
        assert_eq!(world.component("out").rows_out, COUNT, "seed {seed}");
    }
}

#[test]
fn stored_messages_go_out_no_faster_than_they_may() {
    let dir = tempfile::tempdir().unwrap();
    let text = flow("segment = \"64KiB\", resend_rate = 10000");
    let (mut world, end) = stalled(&text, dir.path());
    run_until(&mut world, "the sibling has all", |w| w.component("other").rows_out == COUNT);
    world.ios[0].set_window(end, usize::MAX);
    let (start_us, before) = (world.ios[0].now_us(), world.component("out").resent);
    run_until(&mut world, "a second", |w| w.ios[0].now_us() >= start_us + 1_000_000);
    let sent = world.component("out").resent - before;
    assert!((9_000..=11_500).contains(&sent), "{sent}");
    is_all(&read_all(&mut world, end, usize::MAX));
}

#[test]
fn live_messages_go_first_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let text = flow("segment = \"64KiB\", live_first = true, resend_rate = 1000");
    let text = text.replace("count = 60000", "count = 60000\nrate = 40000");
    let (mut world, end) = stalled(&text, dir.path());
    run_until(&mut world, "some are stored", |w| w.component("out").spilled > 5_000);
    world.ios[0].set_window(end, usize::MAX);
    let mut received = read_all(&mut world, end, usize::MAX);
    assert_eq!(received.len() as u64, COUNT);
    assert!(!received.is_sorted());
    // The newest came while older ones were still stored.
    let newest = received.iter().position(|n| *n == COUNT - 1).unwrap();
    assert!(newest < received.len() - 1_000, "{newest}");
    received.sort_unstable();
    is_all(&received);
}

#[test]
fn a_damaged_segment_is_refused_with_its_name_and_nothing_of_it_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let text = flow("segment = \"64KiB\", fsync = \"1ms\"");
    let (mut world, _) = stalled(&text, dir.path());
    run_until(&mut world, "the sibling has all", |w| w.component("other").rows_out == COUNT);
    for _ in 0..2_000 {
        world.turn();
        world.ios[0].advance(500);
    }
    drop(world);
    let first = segments(dir.path()).remove(0);
    let good = fs::read(&first).unwrap();
    for at in [3, 9, 20, 60, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&first, &bad).unwrap();
        let mut world = World::in_folder(&text, 1, Some(dir.path()));
        world.turn();
        let errors = world.control.errors();
        let name = first.display().to_string();
        assert!(errors.iter().any(|e| e.contains(&name)), "byte {at}: {errors:?}");
    }
}

#[test]
fn segments_of_another_sink_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, _) = stalled(&flow("fsync = \"1ms\""), dir.path());
    run_until(&mut world, "something is stored", |w| w.component("out").disk_bytes > 0);
    drop(world);
    let (from, to) = (dir.path().join("spill/f"), dir.path().join("spill/g"));
    fs::rename(from, to).unwrap();
    let text = flow("").replace("name = \"f\"", "name = \"g\"");
    let mut world = World::in_folder(&text, 1, Some(dir.path()));
    world.turn();
    let errors = world.control.errors().join("\n");
    assert!(errors.contains("belongs to f/out/0, not to g/out/0"), "{errors}");
}

#[test]
fn a_shard_whose_sink_is_gone_rests_when_everything_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, _) = stalled(&flow("fsync = \"1ms\""), dir.path());
    run_until(&mut world, "the sibling has all", |w| w.component("other").rows_out == COUNT);
    for _ in 0..2_000 {
        world.turn();
        world.ios[0].advance(500);
    }
    for _ in 0..50 {
        world.ios[0].advance(10_000);
        assert!(!world.turn(), "a shard that can do nothing says that it is busy");
    }
}

#[test]
fn fields_are_told_by_name_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let text = flow("").replace(&format!("count = {COUNT}"), "count = 50");
    let text = text.replace("n = {", "a = { type = \"sequence\" }, n = {");
    let mut world = World::in_folder(&text, 1, Some(dir.path()));
    world.start();
    run_until(&mut world, "the messages are on disk", |w| w.component("out").disk_bytes > 0);
    world.control.set_phase(Phase::Drain);
    run_until(&mut world, "the end", |w| w.ended[0]);
    drop(world);
    // The next version of the flow has its fields in another order.
    let text = text.replace("count = 50", "count = 0");
    let text = text.replace("a = {", "new = { type = \"sequence\" }, n2 = {");
    let mut world = World::in_folder(&text, 1, Some(dir.path()));
    let end = world.ios[0].answer_at(place(4000));
    world.start();
    let mut received = Vec::new();
    world.finish(|io| received.extend(io.take(end, 5_000)));
    received.extend(world.ios[0].take(end, usize::MAX));
    let expected: String = (0..50).map(|n| format!("{{\"a\":{n},\"n\":{n}}}\n")).collect();
    let text = String::from_utf8(received).unwrap();
    let sorted = |text: &str| {
        let fields = |line: &str| {
            let mut fields: Vec<_> =
                line.trim_matches(['{', '}']).split(',').map(str::to_owned).collect();
            fields.sort();
            fields.join(",")
        };
        text.lines().map(fields).collect::<Vec<_>>()
    };
    assert_eq!(sorted(&text), sorted(&expected));
}

#[test]
fn messages_of_a_shard_that_is_no_more_are_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, _) = stalled(&flow("fsync = \"1ms\""), dir.path());
    run_until(&mut world, "something is stored", |w| w.component("out").disk_bytes > 0);
    drop(world);
    let folder = dir.path().join("spill/f/out");
    fs::rename(folder.join("shard-0"), folder.join("shard-3")).unwrap();
    let mut world = World::in_folder(&flow(""), 1, Some(dir.path()));
    world.turn();
    let errors = world.control.errors().join("\n");
    assert!(errors.contains("shard-3 holds messages"), "{errors}");
}
