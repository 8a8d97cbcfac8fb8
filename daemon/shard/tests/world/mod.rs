//! Whole shards over the in-memory `Io`, in virtual time.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::Path;
use std::sync::Arc;

use ringmain_base::Now;
use ringmain_config::load_str;
use ringmain_connectors::Claims;
use ringmain_metrics::{ComponentSnapshot, FlowMetrics};
use ringmain_ring::Doorbell;
use ringmain_runtime::memory::{MemoryIo, Place};
use ringmain_runtime::{Driver, Next, Turn};
use ringmain_shard::{FlowControl, Phase, Shard, WireOptions, memory_bytes, wire};
use ringmain_slab::Budget;

/// More turns than any of these flows needs.
const TURNS_MAX: usize = 200_000;

/// What slabs may grow by.
pub const BUDGET_BYTES: u64 = 1 << 20;

pub struct World {
    pub shards: Vec<Shard>,
    pub ios: Vec<MemoryIo>,
    pub control: Arc<FlowControl>,
    pub metrics: FlowMetrics,
    pub ended: Vec<bool>,
    pub budget: Budget,
}

impl World {
    pub fn new(flow: &str, shards: usize) -> Self {
        Self::in_folder(flow, shards, None)
    }

    pub fn in_folder(flow: &str, shards: usize, data_dir: Option<&Path>) -> Self {
        let plan = load_str("flow.toml", flow).unwrap_or_else(|e| panic!("{e}"));
        let plan = Arc::new(plan.flows[0].clone());
        let bells: Vec<_> = (0..shards).map(|_| Doorbell::silent()).collect();
        let budget = Budget::new(BUDGET_BYTES);
        let options = WireOptions {
            bells: &bells,
            home: 0,
            slab_bytes: 4096,
            linger_us: 1_000,
            budget: &budget,
            restore: &[],
            states: &Arc::default(),
            keep_positions: false,
            data_dir,
            claims: &Claims::default(),
        };
        let wired = wire(&plan, &options);
        assert!(memory_bytes(&plan, shards, 4096) > 0);
        let mut parts: Vec<_> = (0..shards).map(|_| Vec::new()).collect();
        for part in wired.parts {
            parts[part.shard].push(part);
        }
        let shards: Vec<_> =
            parts.into_iter().map(|parts| Shard::new(parts, Doorbell::silent())).collect();
        let ios = (0..shards.len()).map(|seed| MemoryIo::new(seed as u64)).collect();
        let ended = vec![false; shards.len()];
        Self { shards, ios, control: wired.control, metrics: wired.metrics, ended, budget }
    }

    /// Opens everything and lets messages move.
    pub fn start(&mut self) {
        self.turn();
        assert_eq!(self.control.errors(), Vec::<String>::new());
        self.control.set_phase(Phase::Run);
    }

    /// One turn of each shard; true when any was busy.
    pub fn turn(&mut self) -> bool {
        let mut busy = false;
        for (at, shard) in self.shards.iter_mut().enumerate() {
            if self.ended[at] {
                continue;
            }
            let io = &mut self.ios[at];
            let now_us = io.now_us();
            io.begin_turn(now_us);
            let now = Now { mono_us: now_us, wall_us: now_us as i64 };
            match shard.turn(io, now) {
                Next::Busy => busy = true,
                Next::Idle { .. } => {}
                Next::Stop => self.ended[at] = true,
            }
        }
        busy
    }

    /// Turns until none is busy, without letting time pass.
    pub fn settle(&mut self) -> usize {
        (0..TURNS_MAX).find(|_| !self.turn()).expect("the shards never come to rest")
    }

    /// Turns and time until the flow has ended; `home` may read what the home
    /// shard's sinks wrote.
    pub fn finish(&mut self, mut home: impl FnMut(&mut MemoryIo)) {
        for _ in 0..TURNS_MAX {
            if self.ended.iter().all(|ended| *ended) {
                return;
            }
            self.turn();
            for io in &mut self.ios {
                io.advance(100);
            }
            home(&mut self.ios[0]);
        }
        panic!("the flow does not end: {:?}", self.metrics.snapshot(0));
    }

    pub fn component(&self, name: &str) -> ComponentSnapshot {
        let snapshot = self.metrics.snapshot(self.ios[0].now_us());
        for c in &snapshot.components {
            let accounted = c.rows_out + c.dropped + c.dead;
            assert!(c.rows_in >= accounted, "{}: more came out than in: {c:?}", c.name);
        }
        snapshot.components.into_iter().find(|c| c.name == name).expect("the component exists")
    }
}

pub fn place(port: u16) -> Place {
    Place::Ip(([127, 0, 0, 1], port).into())
}

pub fn numbers(bytes: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(bytes).unwrap();
    let number = |line: &str| {
        let digits = line.split_once("\"n\":").unwrap().1;
        digits.trim_end_matches('}').parse().unwrap()
    };
    text.lines().map(number).collect()
}
