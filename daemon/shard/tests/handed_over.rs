//! A sink whose address is wrong, or whose other side stands still, and is
//! changed again and again until somebody takes what it has: whatever happens
//! on the way, every message arrives, in order, and is acknowledged once.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use ringmain_base::{Now, Prng, Xoshiro};
use ringmain_config::{FlowPlan, load_str};
use ringmain_connectors::Claims;
use ringmain_metrics::FlowMetrics;
use ringmain_ring::Doorbell;
use ringmain_runtime::memory::{End, Faults, MemoryIo};
use ringmain_runtime::{Driver, Turn};
use ringmain_shard::{
    Amended, FlowControl, FlowParts, Joints, Keep, Phase, Shard, WireOptions, Wired, rewire, wire,
};
use ringmain_slab::Budget;
use world::place;

const SEEDS: u64 = 100;
/// Messages per second.
const RATE: u64 = 2_000;
const FIRST_PORT: u16 = 4_000;

/// After so long the controller does not wait for a sink that leaves.
const HURRY_AFTER_US: u64 = 3_000_000;
const STEPS_MAX: usize = 200_000;

/// Who is at an address.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Other {
    Nobody,
    /// Somebody who takes so many bytes, and then none.
    Still(usize),
    All,
}

struct Story {
    rng: Xoshiro,
    shards: Vec<Shard>,
    ios: Vec<MemoryIo>,
    inlets: Vec<SyncSender<FlowParts>>,
    control: Arc<FlowControl>,
    metrics: FlowMetrics,
    plan: Arc<FlowPlan>,
    joints: Joints,
    budget: Budget,
    claims: Claims,
    /// Who was at the addresses, one after the other.
    ends: Vec<Option<End>>,
}

fn flow(port: u16, shards: usize, buffer_kib: u64, more: &str) -> Arc<FlowPlan> {
    let partition = if shards > 1 { "[partition]\nkey = [\"k\"]\ncount = 8\n" } else { "" };
    let text = format!(
        r#"
        name = "f"
        {partition}
        [sources.g]
        type = "generator"
        rate = {RATE}
        fields = {{ k = {{ type = "int", min = 0, max = 9 }}, n = {{ type = "sequence" }} }}
        [sinks.out]
        type = "tcp"
        address = "127.0.0.1:{port}"
        inputs = ["g"]
        buffer = "{buffer_kib}KiB"
        retry = {{ min = "1ms", max = "20ms" }}
        {more}
        "#
    );
    let plan = load_str("flow.toml", &text).unwrap_or_else(|e| panic!("{e}"));
    Arc::new(plan.flows[0].clone())
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut rng = Xoshiro::new(seed);
        let shards = 1 + rng.below(2) as usize;
        let plan = flow(FIRST_PORT, shards, 4 + rng.below(30), "");
        let (budget, claims) = (Budget::new(1 << 20), Claims::default());
        let bells: Vec<_> = (0..shards).map(|_| Doorbell::silent()).collect();
        let wired = wire(&plan, &options(&bells, &budget, &claims));
        let Wired { parts, metrics, control, joints, .. } = wired;
        let mut own: Vec<_> = (0..shards).map(|_| Vec::new()).collect();
        parts.into_iter().for_each(|part| own[part.shard].push(part));
        let mut inlets = Vec::new();
        let shard = |parts| {
            let (sender, inlet) = sync_channel(1);
            inlets.push(sender);
            Shard::new(parts, Doorbell::silent()).with_inlet(inlet)
        };
        let shards: Vec<_> = own.into_iter().map(shard).collect();
        let faults = Faults {
            delay: rng.unit_f64() * 0.6,
            refuse: rng.unit_f64() * 0.3,
            ..Faults::default()
        };
        let chops = rng.below(3) > 0;
        let io = |at: usize| {
            let mut io = MemoryIo::new(seed * 7 + at as u64);
            io.set_faults(faults);
            io.chop(chops);
            io
        };
        let ios = (0..shards.len()).map(io).collect();
        let ends = Vec::new();
        Self { rng, shards, ios, inlets, control, metrics, plan, joints, budget, claims, ends }
    }

    /// The next address, and who is there.
    fn place(&mut self, other: Other) -> u16 {
        let port = FIRST_PORT + self.ends.len() as u16;
        let window = match other {
            Other::Nobody => None,
            Other::Still(bytes) => Some(bytes),
            Other::All => Some(usize::MAX),
        };
        let end = window.map(|bytes| {
            let end = self.ios[0].answer_at(place(port));
            self.ios[0].set_window(end, bytes);
            end
        });
        self.ends.push(end);
        port
    }

    fn step(&mut self) {
        for at in 0..self.shards.len() {
            if self.rng.below(4) == 0 {
                continue;
            }
            let io = &mut self.ios[at];
            let now_us = io.now_us();
            io.begin_turn(now_us);
            let now = Now { mono_us: now_us, wall_us: now_us as i64 };
            let _ = self.shards[at].turn(io, now);
        }
        let us = self.rng.below(5_000);
        self.ios.iter_mut().for_each(|io| io.advance(us));
    }

    fn until(&mut self, what: &str, mut look: impl FnMut(&Self) -> bool) {
        for _ in 0..STEPS_MAX {
            if look(self) {
                return;
            }
            self.step();
        }
        panic!("never: {what}: {:?}", self.metrics.snapshot(0));
    }

    /// The sink moves on.
    fn change(&mut self, plan: Arc<FlowPlan>) {
        let keep = Keep::of(&self.plan, &plan, &self.joints).unwrap_or_else(|why| panic!("{why}"));
        assert!(!keep.loses() && !keep.takes_leave());
        let keep = Arc::new(keep);
        let bells: Vec<_> = self.shards.iter().map(|_| Doorbell::silent()).collect();
        let options = options(&bells, &self.budget, &self.claims);
        let (joints, control, metrics) = (&self.joints, &self.control, &self.metrics);
        let mut wired = rewire(&plan, &options, Amended { keep: &keep, joints, control, metrics });
        for part in std::mem::take(&mut wired.parts) {
            assert!(self.inlets[part.shard].try_send(part).is_ok());
        }
        let (all, next) = (self.shards.len(), wired.control.clone());
        self.until("it stands by", |_| next.opened() == all);
        assert_eq!(next.errors(), Vec::<String>::new());
        if next.unfit().is_some() {
            // It has come to its end meanwhile.
            return next.set_phase(Phase::Abort);
        }
        next.take_over(&self.control, keep.operators());
        let Wired { metrics, control, joints, .. } = wired;
        (self.metrics, self.control, self.joints, self.plan) = (metrics, control, joints, plan);
        let hurry_at_us = self.ios[0].now_us() + HURRY_AFTER_US;
        self.until("it settles", |story| {
            if story.ios[0].now_us() > hurry_at_us {
                story.control.hurry();
            }
            next.settled() == all || next.ended() > 0
        });
        assert_eq!((self.control.errors(), self.control.discarded()), (Vec::new(), 0));
    }

    fn run(mut self) -> u64 {
        let others = |rng: &mut Xoshiro| match rng.below(3) {
            0 => Other::Nobody,
            1 => Other::Still(rng.below(20_000) as usize),
            _ => Other::All,
        };
        let first = others(&mut self.rng);
        let _ = self.place(first);
        self.until("it is open", |story| story.control.opened() == story.shards.len());
        self.control.set_phase(Phase::Run);
        for change in 0..self.rng.below(4) + 1 {
            (0..self.rng.below(400)).for_each(|_| self.step());
            let other = others(&mut self.rng);
            self.change_to(other, change);
        }
        self.change_to(Other::All, 9);
        self.control.set_phase(Phase::Drain);
        self.until("the flow ends", |story| story.control.removed() == story.shards.len());
        self.check()
    }

    fn change_to(&mut self, other: Other, change: u64) {
        if self.control.ended() > 0 {
            return;
        }
        let port = self.place(other);
        let buffer_kib = 4 + self.rng.below(60);
        let more = format!("connect_timeout = \"{}ms\"", 50 + change);
        self.change(flow(port, self.shards.len(), buffer_kib, &more));
    }

    /// How many messages came twice.
    fn check(mut self) -> u64 {
        let (mut seen, mut again) = (BTreeSet::new(), 0);
        let last = self.ends.len() - 1;
        for (at, end) in std::mem::take(&mut self.ends).into_iter().enumerate() {
            let Some(end) = end else { continue };
            let bytes = self.ios[0].take(end, usize::MAX);
            let text = String::from_utf8(bytes).unwrap();
            assert!(at < last || text.is_empty() || text.ends_with('\n'));
            let mut before = BTreeMap::new();
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                let message: serde_json::Value = serde_json::from_str(line).unwrap();
                let [k, n] = ["k", "n"].map(|field| message[field].as_u64().unwrap());
                // What one source makes of one key stays in order.
                let before = before.insert((k, n % 2), n);
                assert!(before.is_none_or(|before| before < n), "{n} after {before:?}");
                again += u64::from(!seen.insert(n));
            }
        }
        let snapshot = self.metrics.snapshot(0);
        let component =
            |name: &str| snapshot.components.iter().find(|c| c.name == name).expect("it is there");
        let (made, out) = (component("g").rows_out, component("out"));
        assert_eq!(seen.len() as u64, made, "{} of {made} have come", seen.len());
        assert_eq!((out.rows_in, out.rows_out, out.dropped, out.dead), (made, made, 0, 0));
        again
    }
}

fn options<'a>(bells: &'a [Doorbell], budget: &'a Budget, claims: &'a Claims) -> WireOptions<'a> {
    WireOptions {
        bells,
        home: 0,
        slab_bytes: 4096,
        linger_us: 1_000,
        budget,
        restore: &[],
        states: Box::leak(Box::default()),
        keep_positions: false,
        data_dir: None,
        claims,
    }
}

#[test]
fn whatever_a_sink_could_not_get_rid_of_arrives_where_it_is_sent_next() {
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    let only: Option<u64> = std::env::var("SIM_SEED").ok().and_then(|n| n.parse().ok());
    let mut again = 0;
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        let story = std::panic::catch_unwind(|| Story::new(seed).run());
        again += story.unwrap_or_else(|_| panic!("SIM_SEED={seed} runs it again"));
    }
    println!("{again} messages came twice");
}
