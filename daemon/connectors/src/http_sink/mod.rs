//! The sink that sends messages to an HTTP server.
//!
//! With one connection requests go out one after the other, each when the one
//! before has its answer, so the order of messages is kept through retries.
//! Accepted means answered with 2xx. A request whose answer was lost is sent
//! again: messages may come twice.
//!
//! Bounds: those of [`batches`]; `connections` connections with one request
//! each, whose copy is on its way out, and [`BUFFERS`] receive buffers of
//! [`BUFFER_BYTES`] for each.

mod batches;
mod lane;
mod response;

use std::io::Write as _;

use ringmain_base::Reason;
use ringmain_config::plan::{HttpAuth, HttpBody, HttpSink, SinkPlan};
use ringmain_runtime::io::{EventKind, Group};
use ringmain_slab::{SharedSchema, Slab};

use crate::encode::Encoding;
use crate::resolve::Resolver;
use crate::retry::{Breaker, Tries};
use crate::tls::{Client, host_of};
use crate::unsent::Unsent;
use crate::{ConnectorError, Cx, Health, Placement, Sink};
pub(crate) use batches::Batch;
use batches::Batches;
use lane::{Lane, TAGS, Verdict, of_url};

const BUFFERS: u16 = 2;
const BUFFER_BYTES: u32 = 8 << 10;
/// No server is left alone for longer, whatever it asks.
const RETRY_AFTER_MAX_US: u64 = 600_000_000;

/// What the lanes share.
struct Shared {
    url: String,
    resolver: Resolver,
    client: Option<Client>,
    breaker: Breaker,
    timeout_us: u64,
    /// From behind the method to the lines that depend on the messages.
    method: &'static str,
    head: String,
    trouble: Option<String>,
}

impl Shared {
    fn new(plan: &HttpSink, content_type: &str) -> Result<Self, ConnectorError> {
        let tls = plan.tls.as_ref();
        let host = host_of(&plan.address);
        let client = tls.map(|tls| Client::new(tls, host, &["http/1.1"])).transpose()?;
        let encoding = if plan.gzip { "Content-Encoding: gzip\r\n" } else { "" };
        let given = |name: &str| plan.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let agent = match given("user-agent") {
            true => String::new(),
            false => format!("User-Agent: ringmain/{}\r\n", env!("CARGO_PKG_VERSION")),
        };
        let content_type = match given("content-type") {
            true => String::new(),
            false => format!("Content-Type: {content_type}\r\n"),
        };
        let head = format!(
            "Host: {}\r\n{agent}{content_type}{encoding}{}",
            plan.host,
            authorization(&plan.auth)
        );
        Ok(Self {
            url: plan.url.value.clone(),
            resolver: Resolver::new(&plan.address),
            client,
            breaker: Breaker::new(plan.retry.circuit_breaker.as_ref()),
            timeout_us: plan.timeout_us,
            method: plan.method,
            head,
            trouble: None,
        })
    }

    fn write_request(&self, batch: &Batch, out: &mut Vec<u8>) {
        let body = batch.body();
        // Writing to a vector cannot fail.
        let _ = write!(
            out,
            "{} {} HTTP/1.1\r\n{}Content-Length: {}\r\n{}\r\n",
            self.method,
            batch.key.path,
            self.head,
            body.len(),
            batch.key.headers
        );
        out.extend_from_slice(body);
    }
}

fn authorization(auth: &HttpAuth) -> String {
    match auth {
        HttpAuth::Nobody => String::new(),
        HttpAuth::Bearer(token) => format!("Authorization: Bearer {}\r\n", token.reveal()),
        HttpAuth::Basic { username, password } => {
            let pair = format!("{username}:{}", password.reveal());
            format!("Authorization: Basic {}\r\n", base64(pair.as_bytes()))
        }
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { letter as char } else { '=' });
        }
    }
    out
}

pub(crate) struct Requests {
    batches: Batches,
    shared: Shared,
    lanes: Vec<Lane>,
    plan: HttpSink,
    seed: u64,
    group: Option<Group>,
    finishing: bool,
    ended: bool,
}

pub(crate) fn sink(
    plan: &SinkPlan,
    http: &HttpSink,
    schema: &SharedSchema,
    place: &Placement,
) -> Result<Box<dyn Sink>, ConnectorError> {
    let content_type = match (http.body, &plan.encode) {
        (HttpBody::Lines, ringmain_config::plan::EncodePlan::Json) => "application/x-ndjson",
        (_, ringmain_config::plan::EncodePlan::Json) => "application/json",
        (_, ringmain_config::plan::EncodePlan::Csv { .. }) => "text/csv",
        (_, ringmain_config::plan::EncodePlan::Text) => "text/plain; charset=utf-8",
    };
    let encoding = Encoding::new(plan, schema);
    let batches = Batches::new(http, encoding, plan.buffer_bytes, schema, place.shard);
    let hash = http.address.bytes().fold(0_u64, |hash, b| hash.rotate_left(9) ^ u64::from(b));
    let seed = hash ^ (u64::from(std::process::id()) << 20) ^ u64::from(place.shard);
    Ok(Box::new(Requests {
        batches,
        shared: Shared::new(http, content_type)?,
        lanes: Vec::new(),
        plan: http.clone(),
        seed,
        group: None,
        finishing: false,
        ended: false,
    }))
}

impl Requests {
    fn judge(&mut self, verdict: Option<Verdict>, cx: &mut Cx<'_>) {
        match verdict {
            None => {}
            Some(Verdict::Accepted(batch)) => self.batches.done(batch),
            Some(Verdict::Refused(batch, why)) => self.refuse(batch, &why, cx),
            Some(Verdict::TooLarge(batch, _)) if batch.count() > 1 => self.batches.halve(batch),
            Some(Verdict::TooLarge(batch, why)) => self.refuse(batch, &why, cx),
            Some(Verdict::GivenUp(batch, why)) => {
                self.batches.refuse(batch, Reason::Undelivered, &why, cx.refusals);
            }
        }
    }

    fn refuse(&mut self, batch: Batch, why: &str, cx: &mut Cx<'_>) {
        let why = format!("{}: {why}", self.shared.url);
        self.batches.refuse(batch, Reason::Rejected, &why, cx.refusals);
    }

    /// Hands out batches and does what is due.
    fn step(&mut self, cx: &mut Cx<'_>) {
        let all = self.finishing || self.plan.batch.linger_us == 0;
        self.batches.ripen(all, cx.now.mono_us);
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            if lane.is_free()
                && let Some(batch) = self.batches.take()
            {
                lane.give(batch);
            }
            let verdict = lane.poll(&mut self.shared, cx);
            self.judge(verdict, cx);
        }
        if self.finishing && self.batches.is_empty() {
            self.end(cx);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if !self.ended {
            self.ended = true;
            self.lanes.iter_mut().for_each(|lane| lane.end(cx));
        }
        if self.lanes.iter().all(Lane::is_quiet)
            && let Some(group) = self.group.take()
        {
            cx.io.drop_group(group);
        }
    }
}

impl Sink for Requests {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        self.shared.resolver.open().map_err(of_url)?;
        let lanes = u16::try_from(self.plan.connections).unwrap_or(u16::MAX);
        let group = cx.io.group(lanes.next_power_of_two() * BUFFERS, BUFFER_BYTES);
        let no_memory = |error| ConnectorError::io("url", "memory for receiving", &error);
        let group = group.map_err(no_memory)?;
        self.group = Some(group);
        for number in 0..self.plan.connections {
            let tries = Tries::new(&self.plan.retry, self.seed.wrapping_add(u64::from(number)));
            self.lanes.push(Lane::new(number, group, tries));
        }
        Ok(())
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        let Some(lane) = self.lanes.get_mut((tag / TAGS) as usize) else { return };
        let verdict = lane.on_event(tag, event, &mut self.shared, cx);
        self.judge(verdict, cx);
        self.step(cx);
    }

    fn push(&mut self, slab: &Slab, from: usize, cx: &mut Cx<'_>) -> usize {
        let took = self.batches.push(slab, from, cx.now.mono_us, cx.refusals);
        if took == 0 && from < slab.len() {
            // There is no room: what is open has waited long enough.
            self.batches.ripen(true, cx.now.mono_us);
        }
        self.step(cx);
        took
    }

    fn slab_end(&mut self) {
        self.batches.slab_end();
    }

    fn finished(&self) -> u64 {
        self.batches.finished()
    }

    fn poll(&mut self, cx: &mut Cx<'_>) {
        self.step(cx);
    }

    fn wake_at_us(&self) -> Option<u64> {
        let lanes = self.lanes.iter().filter_map(|lane| lane.wake_at_us(&self.shared));
        let free = self.lanes.iter().any(Lane::is_free);
        let sealed = (free && self.batches.has_sealed()).then_some(0);
        lanes.chain(self.batches.ripe_at_us()).chain(sealed).min()
    }

    fn flush(&mut self, last: bool, cx: &mut Cx<'_>) {
        self.finishing |= last;
        self.batches.ripen(true, cx.now.mono_us);
        self.step(cx);
    }

    fn take_unsent(&mut self) -> Option<Unsent> {
        // What is on the wire is a copy; its answer is not waited for.
        let taken = self.lanes.iter_mut().filter_map(Lane::take_back).collect();
        Some(self.batches.take_unsent(taken))
    }

    fn inherit(&mut self, unsent: Unsent) {
        self.batches.inherit(unsent);
    }

    fn is_idle(&self) -> bool {
        let ended = self.ended && self.lanes.iter().all(Lane::is_quiet);
        self.batches.is_empty() && (!self.finishing || ended)
    }

    fn health(&self) -> Health {
        self.shared.trouble.clone().map_or(Health::Good, Health::Retrying)
    }
}

#[cfg(test)]
mod tests;
