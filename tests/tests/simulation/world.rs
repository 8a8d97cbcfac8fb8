//! The daemon of a case, step by step: shards that take their turns in any
//! order, a controller that stores checkpoints, and deaths in between.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use ringmain_base::{Now, Prng, Xoshiro};
use ringmain_config::{FlowPlan, load};
use ringmain_connectors::Claims;
use ringmain_control::{Checkpoint, Keeper, Store};
use ringmain_metrics::FlowMetrics;
use ringmain_ring::Doorbell;
use ringmain_runtime::memory::{Faults, MemoryIo};
use ringmain_runtime::{Driver, Turn};
use ringmain_shard::{
    Amended, FlowControl, FlowParts, Joints, Keep, Phase, SavedState, Shard, WireOptions, Wired,
    rewire, wire,
};
use ringmain_slab::Budget;
use tempfile::TempDir;

use crate::case::Case;

/// Steps with faults; what is left then has to come to its end without any.
const STEPS_MAX: usize = 20_000;
const QUIET_STEPS_MAX: usize = 400_000;
const SLAB_BYTES: usize = 4096;
const GROWTH_BYTES: u64 = 1 << 20;
const WALL_US: i64 = 1_700_000_000_000_000;

/// One life of the daemon.
struct Life {
    shards: Vec<Shard>,
    ios: Vec<MemoryIo>,
    control: Arc<FlowControl>,
    metrics: FlowMetrics,
    keeper: Keeper,
    budget: Budget,
    store: Store,
    inlets: Vec<SyncSender<FlowParts>>,
    claims: Claims,
    plan: Arc<FlowPlan>,
    joints: Joints,
    next: Option<Next>,
}

/// A version that is to take over.
struct Next {
    plan: Arc<FlowPlan>,
    keep: Arc<Keep>,
    wired: Option<Wired>,
    control: Arc<FlowControl>,
}

pub struct World {
    rng: Xoshiro,
    dir: TempDir,
    /// All versions, and which one runs or is to run.
    plans: Vec<Arc<FlowPlan>>,
    version: usize,
    reload: f64,
    shards: usize,
    faults: Faults,
    chops: bool,
    checkpoint: f64,
    crash: f64,
    crashes_left: u32,
    now_us: u64,
    life: Option<Life>,
    pub crashes: u64,
    pub checkpoints: u64,
    pub reloads: u64,
    /// Where each life found the ends of the files: a line that begins behind
    /// was written by it, or by a later one.
    pub births: Vec<Vec<u64>>,
    pub metrics: Option<FlowMetrics>,
}

impl World {
    pub fn new(case: &Case) -> Self {
        // Memory, where there is some: thousands of small files that sync.
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        let dir = dir.unwrap();
        fs::write(dir.path().join("in.ndjson"), &case.input).unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let versions = if case.versions.is_empty() {
            std::slice::from_ref(&case.flow)
        } else {
            &*case.versions
        };
        let plan = |flow: &String| {
            let mut flow = flow.clone();
            for name in ["in.ndjson", "out.ndjson", "copy.ndjson", "dead.ndjson"] {
                flow = flow.replace(&format!("{name:?}"), &format!("{:?}", at(name)));
            }
            let path = dir.path().join("flow.toml");
            fs::write(&path, flow).unwrap();
            let plan = load(&[path], None).unwrap_or_else(|error| panic!("{error}"));
            Arc::new(plan.flows[0].clone())
        };
        let plans = versions.iter().map(plan).collect();
        Self {
            rng: Xoshiro::new(case.seed ^ 0x5eed),
            dir,
            plans,
            version: 0,
            reload: case.reload,
            shards: case.shards,
            faults: case.faults,
            chops: case.chops,
            checkpoint: case.checkpoint,
            crash: case.crash,
            crashes_left: case.crashes_max,
            now_us: 0,
            life: None,
            crashes: 0,
            checkpoints: 0,
            reloads: 0,
            births: Vec::new(),
            metrics: None,
        }
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap_or_default()
    }

    /// From the first birth to the end of the flow, and one more life that
    /// finds everything done.
    pub fn run(&mut self) {
        for step in 0.. {
            assert!(step < STEPS_MAX + QUIET_STEPS_MAX, "the flow does not end: {}", self.counts());
            if step == STEPS_MAX {
                self.calm_down();
            }
            if self.life.is_none() {
                self.birth();
            }
            if step < STEPS_MAX && self.crashes_left > 0 && self.happens(self.crash) {
                self.crashes_left -= 1;
                self.crashes += 1;
                self.life = None;
                continue;
            }
            if self.step() {
                break;
            }
        }
        let before = self.read("out.ndjson");
        self.calm_down();
        self.metrics = self.life.take().map(|life| life.metrics);
        self.birth();
        for _ in 0..QUIET_STEPS_MAX {
            if self.step() {
                assert!(self.read("out.ndjson") == before, "a life after the end wrote again");
                return;
            }
        }
        panic!("a life after the end does not end: {}", self.counts());
    }

    fn calm_down(&mut self) {
        self.faults = Faults::default();
        self.crashes_left = 0;
        self.reload = 0.0;
        for io in self.life.iter_mut().flat_map(|life| &mut life.ios) {
            io.set_faults(Faults::default());
        }
    }

    fn happens(&mut self, likely: f64) -> bool {
        likely > 0.0 && self.rng.unit_f64() < likely
    }

    fn birth(&mut self) {
        let store = Store::open(&self.dir.path().join("data")).unwrap_or_else(|e| panic!("{e}"));
        let plan = &self.plans[self.version];
        let checkpoint = store.load(plan).unwrap_or_else(|e| panic!("{e}"));
        let mut life = Life::new(plan, self.shards, checkpoint, store);
        for io in &mut life.ios {
            *io = MemoryIo::new(self.rng.next_u64());
            io.chop(self.chops);
            io.set_faults(self.faults);
        }
        self.life = Some(life);
        for at in 0..self.shards {
            self.turn(at);
        }
        let errors = self.life.as_ref().map(|life| life.control.errors());
        assert_eq!(errors, Some(Vec::new()));
        let length = |name| self.read(name).len() as u64;
        self.births.push(vec![length("out.ndjson"), length("copy.ndjson")]);
        if let Some(life) = &self.life {
            life.control.set_phase(Phase::Run);
        }
    }

    /// True when the flow has ended and its last checkpoint is stored.
    fn step(&mut self) -> bool {
        let at = self.rng.below(self.shards as u64) as usize;
        self.turn(at);
        if self.rng.below(4) == 0 {
            self.now_us += self.rng.below(20_000);
        }
        self.tend_reload();
        let due = self.happens(self.checkpoint);
        let Some(life) = &mut self.life else { return false };
        let budget = &life.budget;
        assert!(budget.used_bytes() <= budget.limit_bytes(), "memory is over its bound");
        if life.control.removed() == life.shards.len() {
            life.keeper.tick(&life.control, &life.store, true);
            return true;
        }
        life.keeper.tick(&life.control, &life.store, due);
        self.checkpoints += u64::from(due);
        false
    }

    fn turn(&mut self, at: usize) {
        let now = Now { mono_us: self.now_us, wall_us: WALL_US + self.now_us as i64 };
        let Some(life) = &mut self.life else { return };
        let io = &mut life.ios[at];
        io.begin_turn(now.mono_us);
        let _ = life.shards[at].turn(io, now);
    }

    /// What the controller does: another version stands by, then takes over.
    fn tend_reload(&mut self) {
        let begins = self.happens(self.reload);
        let (which, count) = (self.rng.below(64) as usize, self.plans.len());
        let Some(life) = &mut self.life else { return };
        let parts = life.shards.len();
        let Some(next) = &mut life.next else {
            let at_work = life.control.phase() == Phase::Run && life.control.ended() == 0;
            if begins && at_work && count > 1 {
                life.stand_by(&self.plans[which % count]);
                self.version = which % count;
            }
            return;
        };
        let control = next.control.clone();
        if let Some(wired) = next.wired.take() {
            if control.opened() < parts {
                next.wired = Some(wired);
                return;
            }
            assert_eq!(control.errors(), Vec::<String>::new());
            if control.unfit().is_some() {
                // It comes to its end: the version does not matter any more.
                control.set_phase(Phase::Abort);
                life.next = None;
                return;
            }
            assert!(!next.keep.takes_leave());
            control.take_over(&life.control, next.keep.operators());
            let Wired { metrics, control, positions, checkpoints, joints, .. } = wired;
            let fresh = Checkpoint::of(&next.plan);
            let keeper = Keeper::new("sim", fresh, positions, checkpoints);
            life.keeper.go_on(keeper, next.keep.states(), Some(&life.store));
            (life.metrics, life.control, life.joints) = (metrics, control, joints);
            life.plan = next.plan.clone();
            self.reloads += 1;
        } else if control.settled() == parts || control.ended() > 0 {
            assert_eq!(control.errors(), Vec::<String>::new());
            assert_eq!(control.discarded(), 0);
            life.next = None;
        }
    }

    fn counts(&self) -> String {
        let life =
            self.life.as_ref().map(|l| (l.metrics.snapshot(self.now_us), l.control.health()));
        format!("{life:?}")
    }
}

impl Life {
    fn new(plan: &Arc<FlowPlan>, shards: usize, checkpoint: Checkpoint, store: Store) -> Self {
        let bells: Vec<_> = (0..shards).map(|_| Doorbell::silent()).collect();
        let budget = Budget::new(GROWTH_BYTES);
        let states: Arc<[_]> = checkpoint.states.clone().into();
        let claims = Claims::default();
        let options = options(&bells, &budget, &checkpoint, &states, &claims);
        let Wired { parts, metrics, control, positions, checkpoints, joints } =
            wire(plan, &options);
        let keeper = Keeper::new(plan.name.as_str(), checkpoint, positions, checkpoints);
        let mut own: Vec<_> = (0..shards).map(|_| Vec::new()).collect();
        for part in parts {
            own[part.shard].push(part);
        }
        let mut inlets = Vec::new();
        let shard = |parts| {
            let (sender, inlet) = sync_channel(1);
            inlets.push(sender);
            Shard::new(parts, Doorbell::silent()).with_inlet(inlet)
        };
        let shards: Vec<_> = own.into_iter().map(shard).collect();
        let ios = (0..shards.len()).map(|seed| MemoryIo::new(seed as u64)).collect();
        let (plan, next) = (plan.clone(), None);
        Self {
            shards,
            ios,
            control,
            metrics,
            keeper,
            budget,
            store,
            inlets,
            claims,
            plan,
            joints,
            next,
        }
    }

    fn stand_by(&mut self, plan: &Arc<FlowPlan>) {
        let keep = Keep::of(&self.plan, plan, &self.joints);
        let keep = Arc::new(keep.unwrap_or_else(|why| panic!("{why}")));
        let bells: Vec<_> = self.shards.iter().map(|_| Doorbell::silent()).collect();
        let states = Arc::default();
        let checkpoint = self.keeper.current();
        let options = options(&bells, &self.budget, checkpoint, &states, &self.claims);
        let (joints, control, metrics) = (&self.joints, &self.control, &self.metrics);
        let mut wired = rewire(plan, &options, Amended { keep: &keep, joints, control, metrics });
        for part in std::mem::take(&mut wired.parts) {
            assert!(self.inlets[part.shard].try_send(part).is_ok(), "a shard takes no version");
        }
        let control = wired.control.clone();
        self.next = Some(Next { plan: plan.clone(), keep, wired: Some(wired), control });
    }
}

fn options<'a>(
    bells: &'a [Doorbell],
    budget: &'a Budget,
    checkpoint: &'a Checkpoint,
    states: &'a Arc<[SavedState]>,
    claims: &'a Claims,
) -> WireOptions<'a> {
    WireOptions {
        bells,
        home: 0,
        slab_bytes: SLAB_BYTES,
        linger_us: 1_000,
        budget,
        restore: &checkpoint.positions,
        states,
        keep_positions: true,
        data_dir: None,
        claims,
    }
}
