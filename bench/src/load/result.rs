//! What a run of the generator came to, and who was the limit.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::LoadArgs;

/// A wire that was full for less of the time does not explain a missed rate.
const BLOCKED_MIN: f64 = 0.1;
/// Of a rate that was asked for.
const KEPT_MIN: f64 = 0.99;
/// Messages handed over later than this were not sent on schedule.
const LATE_US: f64 = 1_000.0;

/// Latencies in nanoseconds, up to a minute, three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("these bounds are allowed")
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) messages: u64,
    pub(super) message_bytes: usize,
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
    /// How long the wire was full.
    pub(super) blocked_ns: u64,
    pub(super) cpu_s: f64,
}

/// What kept it from sending more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Limit {
    /// The rate that was asked for.
    Schedule,
    /// Whoever reads the other end.
    Receiver,
    /// The generator, or its core.
    Generator,
}

/// Percentiles of latencies from the time at which a message was due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// (part of all messages, microseconds)
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Latency {
    pub(super) fn of(all: &Histogram<u64>) -> Self {
        let us = |quantile| all.value_at_quantile(quantile) as f64 / 1e3;
        let quantiles = [
            0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999,
            0.99999,
        ];
        let known = quantiles.iter().filter(|q| (1.0 - **q) * all.len() as f64 >= 1.0);
        Self {
            count: all.len(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: all.max() as f64 / 1e3,
            curve: known.map(|q| (*q, us(*q))).collect(),
        }
    }
}

/// The result, as it is printed and read by scenarios.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LoadResult {
    pub(crate) version: String,
    pub(crate) messages: u64,
    pub(crate) message_bytes: usize,
    /// On the monotonic clock, which is the same for all processes.
    pub(crate) began_ns: u64,
    pub(crate) ended_ns: u64,
    pub(crate) m_per_s: f64,
    pub(crate) asked_per_s: Option<u64>,
    /// Part of the time that the wire was full.
    pub(crate) blocked: f64,
    /// CPU time of the generator, as a part of the time.
    pub(crate) busy: f64,
    /// How late messages were handed over while the wire was not full.
    pub(crate) late_p99_us: f64,
    pub(crate) limit: Limit,
    pub(crate) latency: Option<Latency>,
    /// Sent and not come back.
    pub(crate) lost: u64,
}

impl LoadResult {
    pub(super) fn new(
        args: &LoadArgs,
        sent: &Sent,
        late: &Histogram<u64>,
        latencies: Option<&Histogram<u64>>,
        lost: u64,
        pushes_back: bool,
    ) -> Self {
        let ns = (sent.ended_ns - sent.began_ns).max(1) as f64;
        let per_s = sent.messages as f64 * 1e9 / ns;
        let blocked = sent.blocked_ns as f64 / ns;
        let late_p99_us = late.value_at_quantile(0.99) as f64 / 1e3;
        let kept = args.rate.is_some_and(|rate| per_s >= KEPT_MIN * rate as f64);
        let limit = if kept && late_p99_us <= LATE_US {
            Limit::Schedule
        } else if pushes_back && blocked >= BLOCKED_MIN {
            Limit::Receiver
        } else {
            Limit::Generator
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            messages: sent.messages,
            message_bytes: sent.message_bytes,
            began_ns: sent.began_ns,
            ended_ns: sent.ended_ns,
            m_per_s: per_s / 1e6,
            asked_per_s: args.rate,
            blocked,
            busy: sent.cpu_s * 1e9 / ns,
            late_p99_us,
            limit,
            latency: latencies.filter(|all| !all.is_empty()).map(Latency::of),
            lost,
        }
    }
}

impl fmt::Display for LoadResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, message_bytes, m_per_s, blocked, busy, late_p99_us, .. } = self;
        let seconds = (self.ended_ns - self.began_ns) as f64 / 1e9;
        writeln!(f, "sent        {messages} messages of {message_bytes} B in {seconds:.2} s")?;
        let gb = m_per_s * *message_bytes as f64 / 1e3;
        writeln!(f, "rate        {m_per_s:.3} M msg/s, {gb:.2} GB/s")?;
        let limit = match self.limit {
            Limit::Schedule => "the schedule: it was kept",
            Limit::Receiver => "the receiver",
            Limit::Generator => "this generator, or its core: do not read this as the receiver's",
        };
        writeln!(f, "limit       {limit}")?;
        let (full, busy) = (100.0 * blocked, 100.0 * busy);
        writeln!(f, "            wire full {full:.0} % of the time, generator busy {busy:.0} %,")?;
        writeln!(f, "            p99 of how late it sent: {late_p99_us:.1} us")?;
        if let Some(latency) = &self.latency {
            let Latency { count, p50_us, p90_us, p99_us, p999_us, max_us, .. } = latency;
            writeln!(f, "latency     {count} messages, from when each was due, in us:")?;
            writeln!(
                f,
                "            p50 {p50_us:.1}  p90 {p90_us:.1}  p99 {p99_us:.1}  p99.9 {p999_us:.1}  \
                 max {max_us:.1}"
            )?;
        }
        if self.lost > 0 {
            writeln!(f, "lost        {} messages did not come back", self.lost)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn limit(rate: &str, messages: u64, blocked_ns: u64, late_ns: u64, pushes_back: bool) -> Limit {
        let mut words = vec!["load", "tcp", "localhost:1"];
        if !rate.is_empty() {
            words.extend(["--rate", rate]);
        }
        let args = Line::parse_from(words).load;
        let sent = Sent { messages, ended_ns: 1_000_000_000, blocked_ns, ..Sent::default() };
        let mut late = histogram();
        late.saturating_record(late_ns);
        LoadResult::new(&args, &sent, &late, None, 0, pushes_back).limit
    }

    #[test]
    fn it_says_who_was_the_limit() {
        let half = 500_000_000;
        assert_eq!(limit("1000", 1000, 0, 10, true), Limit::Schedule);
        assert_eq!(limit("1000", 1000, 0, 5_000_000, true), Limit::Generator);
        assert_eq!(limit("1000", 700, 0, 10, true), Limit::Generator);
        assert_eq!(limit("1000", 700, half, 10, true), Limit::Receiver);
        assert_eq!(limit("", 700, half, 0, true), Limit::Receiver);
        assert_eq!(limit("", 700, 0, 0, true), Limit::Generator);
        assert_eq!(limit("", 700, half, 0, false), Limit::Generator);
    }

    #[test]
    fn percentiles_are_shown_as_far_as_there_are_messages_for_them() {
        let mut all = histogram();
        (1..=100).for_each(|us| all.saturating_record(us * 1_000));
        let latency = Latency::of(&all);
        assert_eq!(latency.count, 100);
        assert!((latency.p50_us - 50.0).abs() < 0.5 && latency.max_us >= 100.0);
        assert_eq!(latency.curve.last().unwrap().0, 0.99);
    }
}
