//! Whole shards over the in-memory `Io`, with virtual time and faults by
//! chance: short reads and writes, operations that take their time, full
//! disks, connections that break, shards that take their turns in any order,
//! and a daemon that dies at any step. Everything follows from a seed, which
//! is in every failure.
//!
//! `SIM_SEED=1234 cargo test -p ringmain-tests --test simulation one` runs one
//! again; `SIM_SEEDS=10000` runs more than the tests do by default.

mod case;
mod check;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use case::Case;
use world::World;

/// Seeds that the tests run unless `SIM_SEEDS` says otherwise.
const SEEDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Odd seeds are the stories of the even ones before them, with reloads.
fn simulate(seed: u64) -> check::Totals {
    let case = if seed.is_multiple_of(2) { Case::of(seed) } else { Case::with_reloads(seed - 1) };
    let mut world = World::new(&case);
    world.run();
    check::outcome(&case, &world)
}

/// Runs a seed and says which one it was, whatever goes wrong.
fn run_seed(seed: u64) -> Result<check::Totals, String> {
    std::panic::catch_unwind(|| simulate(seed)).map_err(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|&why| why.to_owned()));
        format!(
            "seed {seed}: {}\nrun it again: SIM_SEED={seed} cargo test -p ringmain-tests --test \
             simulation one -- --nocapture",
            why.unwrap_or_default()
        )
    })
}

#[test]
fn nothing_is_lost_and_every_key_stays_in_order_whatever_happens() {
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let totals = Mutex::new(check::Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).min(8) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failures.lock().unwrap().len() >= 3 {
                        break;
                    }
                    match run_seed(seed) {
                        Ok(one) => totals.lock().unwrap().add(&one),
                        Err(why) => failures.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {seeds} seeds failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    let totals = totals.into_inner().unwrap();
    println!("{seeds} seeds: {totals:?}");
    // A simulation in which nothing happens proves nothing.
    if seeds >= 100 {
        assert!(totals.crashes > seeds / 4 && totals.duplicates > 0, "{totals:?}");
        assert!(totals.checkpoints > totals.crashes, "{totals:?}");
        assert!(totals.reloads > seeds, "{totals:?}");
    }
}

#[test]
fn one() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{:?}", simulate(seed));
    }
}
