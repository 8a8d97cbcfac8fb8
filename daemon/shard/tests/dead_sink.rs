//! One of three sinks dead for ten minutes of virtual time: the other two keep
//! their rate, memory stays within its budget, and what was spilled arrives
//! afterwards, in order per key.

mod world;

use std::collections::HashMap;
use std::path::Path;

use ringmain_runtime::memory::{End, MemoryIo};
use ringmain_shard::Phase;
use world::{BUDGET_BYTES, World, place};

const RATE: u64 = 100;
const DEAD_S: u64 = 600;
const STEP_US: u64 = 20_000;
const SECOND_US: u64 = 1_000_000;

fn flow(when_full: &str) -> String {
    format!(
        r#"
        name = "f"
        allow_loss = true
        [partition]
        key = ["k"]
        [sources.g]
        type = "generator"
        rate = {RATE}
        fields = {{ k = {{ type = "int", min = 0, max = 40 }}, n = {{ type = "sequence" }} }}
        [operators.some]
        type = "filter"
        inputs = ["g"]
        where = "n >= 0"
        [sinks.one]
        type = "tcp"
        address = "127.0.0.1:4000"
        inputs = ["some"]
        [sinks.two]
        type = "tcp"
        address = "127.0.0.1:4001"
        inputs = ["some"]
        [sinks.dead]
        type = "tcp"
        address = "127.0.0.1:4002"
        inputs = ["some"]
        buffer = "64KiB"
        {when_full}
        "#
    )
}

/// A peer that reads what comes, and knows the last number of each key. The
/// generator of each shard makes messages of all keys, and every second number.
struct Peer {
    end: End,
    rest: Vec<u8>,
    last: HashMap<(u64, u64), u64>,
    count: u64,
}

impl Peer {
    fn at(world: &mut World, port: u16) -> Self {
        let end = world.ios[0].answer_at(place(port));
        world.ios[0].set_window(end, usize::MAX);
        Self { end, rest: Vec::new(), last: HashMap::new(), count: 0 }
    }

    fn read(&mut self, io: &mut MemoryIo) {
        self.rest.extend(io.take(self.end, usize::MAX));
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in std::str::from_utf8(&self.rest[..whole]).unwrap().lines() {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            let [key, number] = ["k", "n"].map(|field| message[field].as_u64().unwrap());
            let last = self.last.insert((key, number % 2), number);
            assert!(last.is_none_or(|last| last < number), "key {key}: {number} after {last:?}");
            self.count += 1;
        }
        self.rest.drain(..whole);
    }
}

struct Plant {
    world: World,
    alive: [Peer; 2],
}

impl Plant {
    /// Lives on while nobody is at the third address.
    fn with_a_dead_sink(when_full: &str, dir: &Path) -> Self {
        let mut world = World::in_folder(&flow(when_full), 2, Some(dir));
        let alive = [Peer::at(&mut world, 4000), Peer::at(&mut world, 4001)];
        world.start();
        let mut plant = Self { world, alive };
        plant.run(DEAD_S * SECOND_US);
        plant
    }

    fn run(&mut self, us: u64) {
        for _ in 0..us / STEP_US {
            self.step();
        }
    }

    fn step(&mut self) {
        self.world.turn();
        for io in &mut self.world.ios {
            io.advance(STEP_US);
        }
        self.alive.iter_mut().for_each(|peer| peer.read(&mut self.world.ios[0]));
        assert!(self.world.budget.used_bytes() <= BUDGET_BYTES, "memory beyond its budget");
    }

    fn assert_the_living_kept_their_rate(&self) {
        let most = RATE * DEAD_S;
        for peer in &self.alive {
            let (count, most) = (peer.count as f64, most as f64);
            assert!(count >= 0.99 * most && count <= 1.01 * most, "{count} of {most}");
        }
    }
}

#[test]
fn a_sink_that_is_dead_for_ten_minutes_and_spills_costs_the_others_nothing_and_gets_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::with_a_dead_sink("when_full = \"spill\"", dir.path());
    plant.assert_the_living_kept_their_rate();
    let dead = plant.world.component("dead");
    assert_eq!((dead.rows_out, dead.dropped, dead.dead), (0, 0, 0), "{dead:?}");
    assert!(dead.disk_bytes > 0 && dead.spilled > RATE * DEAD_S * 9 / 10, "{dead:?}");
    // It comes back, catches up while the others go on, and then all end.
    let mut revived = Peer::at(&mut plant.world, 4002);
    let mut turns = 0;
    while plant.world.ended != [true, true] {
        plant.step();
        revived.read(&mut plant.world.ios[0]);
        // What is on disk at a drain stays there for the next run.
        if revived.count >= RATE * DEAD_S && plant.world.component("dead").disk_bytes == 0 {
            plant.world.control.set_phase(Phase::Drain);
        }
        turns += 1;
        assert!(turns < 100_000, "{:?}", plant.world.component("dead"));
    }
    for peer in plant.alive.iter_mut().chain([&mut revived]) {
        peer.read(&mut plant.world.ios[0]);
    }
    let made = plant.world.component("g").rows_out;
    for peer in [&plant.alive[0], &plant.alive[1], &revived] {
        assert_eq!((peer.count, &peer.last), (made, &revived.last));
    }
    let dead = plant.world.component("dead");
    assert_eq!((dead.rows_out, dead.dropped, dead.dead, dead.disk_bytes), (made, 0, 0, 0));
}

#[test]
fn a_sink_that_is_dead_for_ten_minutes_and_drops_costs_the_others_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::with_a_dead_sink("when_full = \"drop_oldest\"", dir.path());
    plant.assert_the_living_kept_their_rate();
    let dead = plant.world.component("dead");
    assert_eq!((dead.rows_out, dead.dead), (0, 0), "{dead:?}");
    assert!(dead.dropped > RATE * DEAD_S * 9 / 10, "{dead:?}");
}
