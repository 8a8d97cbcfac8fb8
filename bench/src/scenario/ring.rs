//! Two cores and an edge between them.
//!
//! `ring`: the producer builds rows of 98 B in the edge's slabs, the consumer
//! reads two fields of each and gives the slab back. `ring-hop`: a row is built
//! every microsecond and sent when the consumer has taken everything before;
//! the time from before it is built to after it is read is one hop, clock
//! readings (about 2 x 25 ns) included.
//!
//! Both spin: how long a parked shard takes to wake is not measured here. The
//! round trip between the cores is measured in the same round, because cross-
//! core figures mean nothing without it.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use core_affinity::CoreId;
use hdrhistogram::Histogram;
use ringmain_ring::{Consumer, Doorbell, Downstream, Item, Producer, Span, Upstream, edge, ring};
use ringmain_slab::{Budget, RowRef, Scratch, Slab};

use super::Round;
use crate::measure::{
    Amount, Env, Spin, Timed, Wrong, laps, mix, on_core, pin, thread_cpu_s, verify,
};
use crate::report::Figure;

const TARGET_M_PER_S: f64 = 100.0;
const TARGET_HOP_NS: f64 = 1000.0;
const SLABS: usize = 16;
const ROUND_TRIPS: u64 = 20_000;
const HOP_EVERY_NS: u64 = 1_000;
/// Largest hop that is told apart.
const HOP_MAX_NS: u64 = 10_000_000_000;

const DEVICE: u16 = 0;
const SEQUENCE: u16 = 1;
const RPM: u16 = 2;
const SLOTS: u16 = 4;

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    let cores = env.two_cores()?;
    Ok(Box::new(move |env| {
        let mut figures = Vec::new();
        for (kib, name) in [(64, "16 slabs of 64 KiB"), (256, "16 slabs of 256 KiB")] {
            let rows = env.amount.messages(50e6);
            let (seconds, hash) = stream(cores, kib << 10, rows)?;
            let figure = Figure::rate(name, rows as f64 / seconds / 1e6);
            figures.push(figure.at_least(TARGET_M_PER_S).proof(rows, hash));
            figures.push(round_trip(cores, &format!("  round trip, {kib} KiB"))?);
            let sides = on_core(Some(cores[0]), || sides(kib << 10, env.amount))?;
            for (side, name) in sides.into_iter().zip(["producer", "consumer"]) {
                let name = format!("  {name} alone, by CPU time, {kib} KiB");
                figures.push(Figure::rate(name, side.rate()).at_least(TARGET_M_PER_S));
            }
        }
        Ok(figures)
    }))
}

pub(super) fn prepare_hop(env: &Env) -> Result<Round, Wrong> {
    let cores = env.two_cores()?;
    Ok(Box::new(move |env| {
        let rows = env.amount.messages(1e6);
        let (hops, seconds) = hops(cores, rows)?;
        let quantile = |name, q| Figure::new(name, hops.value_at_quantile(q) as f64, "ns");
        Ok(vec![
            quantile("p50", 0.5).at_most(TARGET_HOP_NS).proof(rows, mix(rows, hops.len())),
            quantile("p99", 0.99),
            quantile("p99.9", 0.999),
            Figure::rate("rate that was kept", rows as f64 / seconds / 1e6),
            round_trip(cores, "round trip")?,
        ])
    }))
}

type Ends = (Upstream<Slab>, Downstream<Slab>);

fn slabs_edge(slab_bytes: usize) -> Ends {
    let budget = Budget::new(0);
    let slabs = (0..SLABS).map(|_| Slab::new(slab_bytes, &budget)).collect();
    edge(slabs, 4, Doorbell::silent(), Doorbell::silent())
}

/// Seconds for so many rows, a tenth more to warm up before; and a hash.
fn stream(cores: [CoreId; 2], slab_bytes: usize, rows: u64) -> Result<(f64, u64), Wrong> {
    let (up, down) = slabs_edge(slab_bytes);
    let warm_up = rows / 10;
    let barrier = Barrier::new(2);
    let (seconds, count, sum) = thread::scope(|scope| {
        scope.spawn(|| {
            pin(Some(cores[0]));
            barrier.wait();
            produce(up, warm_up + rows);
        });
        let consumer = scope.spawn(|| {
            pin(Some(cores[1]));
            barrier.wait();
            consume(down, warm_up)
        });
        consumer.join().expect("the consumer does not panic")
    });
    let all = warm_up + rows;
    verify("rows received", count, all)?;
    verify("sum of their numbers", sum, (all - 1) * all / 2 + count * 100)?;
    Ok((seconds, mix(count, sum)))
}

/// What either end costs when it never waits and its slabs are warm: one thread
/// is producer and consumer in turn. The slower one bounds the rate of two.
fn sides(slab_bytes: usize, amount: Amount) -> Result<[Timed; 2], Wrong> {
    let (mut up, mut down) = slabs_edge(slab_bytes);
    let mut scratch = Scratch::default();
    let (mut next, mut sum) = (0, 0);
    let [mut producer, mut consumer] = [Timed::default(); 2];
    laps(amount, || {
        let (first, start) = (next, thread_cpu_s());
        while let Some(mut slab) = up.take_empty(0) {
            let before = next;
            next = fill(&mut slab, &mut scratch, before, u64::MAX);
            up.send(slab, 0, Span::new(before + 1, next));
        }
        let sent = thread_cpu_s();
        while let Some(Item::Slab { mut slab, .. }) = down.recv() {
            sum += read(&slab);
            slab.clear();
            down.give_back(slab);
            down.ack(down.received());
        }
        producer.add(next - first, sent - start);
        consumer.add(next - first, thread_cpu_s() - sent);
        Ok(next - first)
    })?;
    verify("sum of all numbers", sum, (next - 1) * next / 2 + next * 100)?;
    Ok([producer, consumer])
}

fn produce(mut up: Upstream<Slab>, rows: u64) {
    let mut scratch = Scratch::default();
    let mut spin = Spin::default();
    let mut next = 0;
    while next < rows {
        let Some(mut slab) = up.take_empty(0) else {
            spin.wait();
            continue;
        };
        spin.found();
        let first = next;
        next = fill(&mut slab, &mut scratch, first, rows);
        up.send(slab, 0, Span::new(first + 1, next));
    }
    // What is sent stays received only while the edge is whole.
    while up.in_flight() > 0 {
        spin.wait();
    }
}

/// Builds rows from number `next` on, as many as fit; the number after them.
fn fill(slab: &mut Slab, scratch: &mut Scratch, mut next: u64, end: u64) -> u64 {
    while next < end && slab.room() >= 128 {
        row(slab, scratch, next, 0);
        next += 1;
    }
    next
}

/// The sum of two fields of all rows.
fn read(slab: &Slab) -> u64 {
    let number = |row: RowRef<'_>, slot| row.number(slot).unwrap_or(0.0) as u64;
    slab.rows().map(|row| number(row, SEQUENCE) + number(row, RPM)).sum()
}

fn row(slab: &mut Slab, scratch: &mut Scratch, number: u64, ts: i64) {
    let mut row = slab.build(SLOTS, SLOTS, scratch);
    row.set_str(DEVICE, "motor-0001");
    row.set_int(SEQUENCE, number as i64);
    row.set_float(RPM, 100.0);
    row.finish(ts).expect("there is room for 128 B");
}

/// Seconds from the end of the warm-up to the end, the count and the sum.
fn consume(mut down: Downstream<Slab>, warm_up: u64) -> (f64, u64, u64) {
    let mut spin = Spin::default();
    let (mut count, mut sum) = (0u64, 0u64);
    let mut start = Instant::now();
    loop {
        let Some(Item::Slab { mut slab, .. }) = down.recv() else {
            if down.is_finished() {
                return (start.elapsed().as_secs_f64(), count, sum);
            }
            spin.wait();
            continue;
        };
        spin.found();
        let before = count;
        sum += read(&slab);
        count += slab.len() as u64;
        if before < warm_up && count >= warm_up {
            start = Instant::now();
        }
        slab.clear();
        down.give_back(slab);
        down.ack(down.received());
    }
}

/// A number there and back through two rings.
fn round_trip(cores: [CoreId; 2], name: &str) -> Result<Figure, Wrong> {
    let (there, mut arrives) = ring::<u64>(8);
    let (mut back, returns) = ring::<u64>(8);
    let barrier = Barrier::new(2);
    let (ns, sum) = thread::scope(|scope| {
        scope.spawn(|| {
            pin(Some(cores[1]));
            barrier.wait();
            let mut spin = Spin::default();
            while !arrives.is_finished() {
                match arrives.pop() {
                    Some(number) => {
                        spin.found();
                        // Refused only when the other end is gone.
                        let _ = back.push(number);
                    }
                    None => spin.wait(),
                }
            }
        });
        let pinger = scope.spawn(|| {
            let mut ends = (there, returns);
            pin(Some(cores[0]));
            barrier.wait();
            ping(&mut ends, ROUND_TRIPS / 10);
            let start = Instant::now();
            let sum = ping(&mut ends, ROUND_TRIPS);
            (start.elapsed().as_nanos() as f64 / ROUND_TRIPS as f64, sum)
        });
        pinger.join().expect("the pinger does not panic")
    });
    verify("sum of what came back", sum, ROUND_TRIPS * (ROUND_TRIPS - 1) / 2)?;
    Ok(Figure::new(name, ns, "ns"))
}

fn ping((there, returns): &mut (Producer<u64>, Consumer<u64>), trips: u64) -> u64 {
    let mut spin = Spin::default();
    let mut sum = 0;
    for number in 0..trips {
        there.push(number).expect("one number is under way, there is room for eight");
        sum += loop {
            match returns.pop() {
                Some(number) => break number,
                None => spin.wait(),
            }
        };
        spin.found();
    }
    sum
}

/// The hops of so many rows, and the seconds that they took.
fn hops(cores: [CoreId; 2], rows: u64) -> Result<(Histogram<u64>, f64), Wrong> {
    let (up, down) = slabs_edge(64 << 10);
    let epoch = Instant::now();
    let now_ns = move || epoch.elapsed().as_nanos() as u64;
    let barrier = Barrier::new(2);
    let warm_up = rows / 10;
    let (hops, count, seconds) = thread::scope(|scope| {
        scope.spawn(|| {
            pin(Some(cores[0]));
            barrier.wait();
            produce_paced(up, warm_up + rows, now_ns);
        });
        let consumer = scope.spawn(|| {
            pin(Some(cores[1]));
            barrier.wait();
            consume_hops(down, warm_up, now_ns)
        });
        consumer.join().expect("the consumer does not panic")
    });
    verify("rows received", count, warm_up + rows)?;
    verify("hops measured", hops.len(), rows)?;
    Ok((hops, seconds))
}

/// Builds a row each microsecond; a slab leaves when the ring is idle or the
/// slab is full.
fn produce_paced(mut up: Upstream<Slab>, rows: u64, now_ns: impl Fn() -> u64) {
    let mut scratch = Scratch::default();
    let mut spin = Spin::default();
    let mut open: Option<(Slab, u64)> = None;
    let mut next = 0;
    let start = now_ns();
    while next < rows || open.is_some() {
        let now = now_ns();
        if next < rows && now >= start + next * HOP_EVERY_NS {
            if open.is_none() {
                open = up.take_empty(0).map(|slab| (slab, next + 1));
            }
            if let Some((slab, _)) = &mut open
                && slab.room() >= 128
            {
                row(slab, &mut scratch, next, now as i64);
                next += 1;
                spin.found();
            }
        }
        let full = open.as_ref().is_some_and(|(slab, _)| slab.room() < 128);
        if (full || up.idle())
            && let Some((slab, first)) = open.take()
        {
            up.send(slab, 0, Span::new(first, next));
        }
        spin.wait();
    }
    while up.in_flight() > 0 {
        spin.wait();
    }
}

fn consume_hops(
    mut down: Downstream<Slab>,
    warm_up: u64,
    now_ns: impl Fn() -> u64,
) -> (Histogram<u64>, u64, f64) {
    let mut hops = Histogram::new_with_max(HOP_MAX_NS, 3).expect("three digits are allowed");
    let mut spin = Spin::default();
    let (mut count, mut start) = (0, Instant::now());
    loop {
        let Some(Item::Slab { mut slab, .. }) = down.recv() else {
            if down.is_finished() {
                return (hops, count, start.elapsed().as_secs_f64());
            }
            spin.wait();
            continue;
        };
        spin.found();
        for row in slab.rows() {
            let hop = now_ns().saturating_sub(row.ts() as u64);
            count += 1;
            if count > warm_up {
                hops.saturating_record(hop);
            } else {
                start = Instant::now();
            }
        }
        slab.clear();
        down.give_back(slab);
        down.ack(down.received());
    }
}
