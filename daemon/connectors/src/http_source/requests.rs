//! All connections of an HTTP source, and the way of their requests: head,
//! body, perhaps the wait for the sinks, answer.
//!
//! Heads are read and refused when they come; bodies only when the flow has
//! room, since they are decoded into its slabs. A request that finds none in
//! time is sent away before anything of it is in the flow; one that has begun
//! is finished. A connection has one request at a time: what comes behind it
//! waits.
//!
//! Bounds: the group's buffers ([`BUFFERS`] of [`BUFFER_BYTES`]), shared by all
//! connections, hold what has come and is not decoded; what must be kept
//! beside them (partial heads and messages, unpacking, what comes behind a
//! request that waits for its sinks) is at most [`carry_limit_bytes`] of all
//! connections together; a connection that would exceed that is closed. Every
//! state of a connection has a deadline.

use std::collections::VecDeque;

use ringmain_base::Reason;
use ringmain_config::plan::{HttpRespond, HttpSource};
use ringmain_runtime::io::{EventKind, Group, Handle, OpId, Peer};
use ringmain_slab::Slab;

use super::answer::{Answer, Status, Writer};
use super::connection::{Connection, Heading, Phase};
use super::request::{Refusal, Rules};
use super::work::{Outcome, Tools, Work};
use crate::decode::Decoding;
use crate::http::body::Body;
use crate::http::wire::Wire;
use crate::served::{FIRST_TAG, Serve};
use crate::tls::Server;
use crate::{ConnectorError, Cx, Pull};

pub(crate) const BUFFERS: u16 = 32;
pub(crate) const BUFFER_BYTES: u32 = 64 << 10;
const CARRY_BYTES: usize = 8 << 20;
/// What may wait behind a request, before no more is received.
const HELD_BYTES: usize = 16 << 10;
/// How often deadlines are looked at.
const TICK_US: u64 = 250_000;
const TICK_TAG: u32 = FIRST_TAG;
/// How long what follows the last answer is thrown away.
const LINGER_US: u64 = 2_000_000;
/// Requests that are under way when the source is stopped have this long.
const STOP_US: u64 = 2_000_000;
/// As much of a body must come in each `request_timeout`.
const PACE_BYTES: u64 = 64 << 10;

/// What connections of one source may keep beside the receive buffers.
pub(crate) fn carry_limit_bytes(frame_bytes: usize) -> usize {
    CARRY_BYTES.max(2 * frame_bytes)
}

pub(super) struct Requests {
    plan: HttpSource,
    rules: Rules,
    decoding: Decoding,
    tls: Option<Server>,
    group: Option<Group>,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    ready: VecDeque<usize>,
    /// Connections that wait for a batch, in the order of batches.
    waiting: VecDeque<(u64, usize, u64)>,
    writer: Writer,
    added: u64,
    /// Number of the last batch.
    batch: u64,
    carried: usize,
    carry_limit: usize,
    ticking: bool,
    /// Since when what has come waits for the flow.
    blocked_us: Option<u64>,
    stopped_us: Option<u64>,
    closing: bool,
}

impl Requests {
    pub(super) fn new(
        plan: &HttpSource,
        rules: Rules,
        decoding: Decoding,
        tls: Option<Server>,
    ) -> Self {
        let carry_limit = carry_limit_bytes(decoding.frame_bytes() as usize);
        Self {
            plan: plan.clone(),
            rules,
            decoding,
            tls,
            group: None,
            connections: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            writer: Writer::default(),
            added: 0,
            batch: 0,
            carried: 0,
            carry_limit,
            ticking: false,
            blocked_us: None,
            stopped_us: None,
            closing: false,
        }
    }

    fn take(&mut self, at: usize) -> Option<Box<Connection>> {
        self.connections.get_mut(at).and_then(Option::take)
    }

    /// Puts a connection back, or forgets it when nothing of it is left.
    fn put(&mut self, at: usize, mut connection: Box<Connection>, cx: &mut Cx<'_>) {
        let carried = connection.carried_bytes();
        self.carried = self.carried - connection.carried + carried;
        connection.carried = carried;
        if self.carried > self.carry_limit && carried > 0 && !connection.wire.is_closed() {
            let why = format!("requests of all connections exceed {} B", self.carry_limit);
            if let Phase::Body(work) = &mut connection.phase {
                work.abandon(Reason::Memory, &why, &connection.peer, cx.refusals);
            }
            self.drop_now(&mut connection, cx);
        }
        if connection.wire.is_quiet() {
            self.carried -= connection.carried;
            self.free.push(at);
            if self.closing && self.len() == 0 {
                self.drop_group(cx);
            }
        } else {
            self.connections[at] = Some(connection);
        }
    }

    fn drop_group(&mut self, cx: &mut Cx<'_>) {
        if let Some(group) = self.group.take() {
            cx.io.drop_group(group);
        }
    }

    /// Closes without an answer.
    fn drop_now(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) {
        connection.phase = Phase::Linger;
        connection.head = Vec::new();
        connection.wire.close(cx.io);
        self.carried -= connection.carried;
        connection.carried = 0;
    }

    fn enqueue(&mut self, at: usize, connection: &mut Connection, now_us: u64) {
        if !connection.queued {
            connection.queued = true;
            connection.queued_us = now_us;
            self.ready.push_back(at);
            self.blocked_us.get_or_insert(now_us);
        }
    }

    /// What can be done without a slab.
    fn advance(&mut self, at: usize, connection: &mut Connection, cx: &mut Cx<'_>) {
        while !connection.wire.is_closed() {
            match &connection.phase {
                Phase::Head => {
                    if !self.head(at, connection, cx) {
                        return;
                    }
                }
                Phase::Body(_) => {
                    // It may have been stopped while the request before this
                    // one waited.
                    connection.wire.receive(cx.io);
                    if connection.wire.has_bytes() || connection.wire.is_ended() {
                        self.enqueue(at, connection, cx.now.mono_us);
                    }
                    return;
                }
                Phase::Waiting { .. } | Phase::Answering { .. } => {
                    if connection.wire.has_bytes() {
                        connection.wire.hold(HELD_BYTES, cx.io);
                    }
                    return;
                }
                Phase::Linger => {
                    connection.wire.receive(cx.io);
                    return self.linger(connection, cx);
                }
            }
        }
    }

    /// Reads a head; false when more must come.
    fn head(&mut self, at: usize, connection: &mut Connection, cx: &mut Cx<'_>) -> bool {
        connection.wire.receive(cx.io);
        let filled = connection.wire.fill(cx.io);
        connection.wire.flush(cx.io);
        if let Err(error) = filled {
            cx.refusals.bytes(Reason::Rejected, &error.to_string(), &connection.peer, 0, &[]);
            self.last_words(connection, cx);
            return true;
        }
        match connection.read_head(cx.now.mono_us, cx.io) {
            Heading::Complete => {}
            Heading::TooLong => {
                let refusal = Refusal::last(Status::HeadTooLong, "the head is too long");
                self.refuse(connection, refusal, cx);
                return true;
            }
            Heading::Incomplete if connection.wire.has_bytes() => return true,
            Heading::Incomplete => {
                if connection.wire.is_ended() {
                    self.drop_now(connection, cx);
                }
                return false;
            }
        }
        let head = self.rules.judge(&connection.head);
        connection.head.clear();
        match head {
            Err(refusal) => self.refuse(connection, refusal, cx),
            Ok(head) if self.is_blocked(cx.now.mono_us) => {
                self.busy(connection, Body::new(head.length), head.keep_alive, cx);
            }
            Ok(head) => {
                if head.expects && !connection.wire.has_bytes() {
                    connection.wire.out().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    connection.wire.flush(cx.io);
                }
                let work = Work::new(&head, self.plan.body_bytes, &self.decoding);
                connection.phase = Phase::Body(Box::new(work));
                connection.since_us = cx.now.mono_us;
                self.enqueue(at, connection, cx.now.mono_us);
            }
        }
        true
    }

    fn is_blocked(&self, now_us: u64) -> bool {
        self.blocked_us.is_some_and(|since| now_us.saturating_sub(since) >= self.plan.busy_us)
    }

    fn busy(&mut self, connection: &mut Connection, body: Body, keep: bool, cx: &mut Cx<'_>) {
        let text = "the flow has no room now; nothing of this request was taken, send it again";
        self.answer(connection, &Answer::problem(Status::Busy, text), keep, Some(body), cx);
    }

    fn refuse(&mut self, connection: &mut Connection, refusal: Refusal, cx: &mut Cx<'_>) {
        let body = refusal.length.map(Body::new);
        let keep = refusal.keep_alive && body.is_some();
        let answer = Answer::problem(refusal.status, refusal.text);
        self.answer(connection, &answer, keep, body, cx);
    }

    /// Sends an answer. The connection goes on behind it if that is wanted and
    /// the rest of the body has come already.
    fn answer(
        &mut self,
        connection: &mut Connection,
        answer: &Answer,
        keep: bool,
        rest: Option<Body>,
        cx: &mut Cx<'_>,
    ) {
        let wire = &mut connection.wire;
        let passed = rest.is_none_or(|body| pass_over(wire, body, cx));
        let keep_alive = keep && passed && self.stopped_us.is_none() && !wire.is_ended();
        self.writer.write(answer, keep_alive, cx.now.wall_us, wire.out());
        wire.flush(cx.io);
        connection.phase = Phase::Answering { keep_alive };
        connection.since_us = cx.now.mono_us;
    }

    /// A write has ended.
    fn written(&mut self, connection: &mut Connection, buf: Vec<u8>, good: bool, cx: &mut Cx<'_>) {
        connection.wire.written(buf);
        if !good {
            self.gone(connection, cx);
            return;
        }
        connection.wire.flush(cx.io);
        if connection.wire.is_writing() {
            return;
        }
        match connection.phase {
            Phase::Answering { keep_alive: true } if self.stopped_us.is_none() => {
                connection.phase = Phase::Head;
                connection.since_us = cx.now.mono_us;
            }
            Phase::Answering { .. } => self.last_words(connection, cx),
            Phase::Linger => connection.wire.shut(cx.io),
            _ => {}
        }
    }

    /// Nothing more is said on this connection.
    fn last_words(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) {
        connection.phase = Phase::Linger;
        connection.since_us = cx.now.mono_us;
        connection.wire.say_close(cx.io);
        if !connection.wire.is_writing() {
            connection.wire.shut(cx.io);
        }
        connection.wire.receive(cx.io);
    }

    /// Throws away what comes behind the last answer.
    fn linger(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) {
        while connection.wire.has_bytes() && connection.wire.fill(cx.io).is_ok() {
            let len = connection.wire.bytes(cx.io).len();
            if len == 0 {
                break;
            }
            connection.wire.consume(len, cx.io);
        }
        if connection.wire.is_ended() && !connection.wire.is_writing() {
            self.drop_now(connection, cx);
        }
    }

    /// The peer cannot be reached any more.
    fn gone(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) {
        if let Phase::Body(work) = &mut connection.phase {
            let why = "the connection broke within the request";
            work.abandon(Reason::Truncated, why, &connection.peer, cx.refusals);
        }
        self.drop_now(connection, cx);
    }

    /// One connection's turn with a slab. True when that is full.
    fn work(
        &mut self,
        at: usize,
        connection: &mut Connection,
        slab: &mut Slab,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Phase::Body(work) = &mut connection.phase else { return false };
        // The time that it waited for the flow is not the client's.
        let waited = cx.now.mono_us.saturating_sub(connection.queued_us);
        connection.since_us += waited.min(cx.now.mono_us - connection.since_us);
        let pace = work.received() / PACE_BYTES;
        let decoding = &mut self.decoding;
        let mut tools = Tools { decoding, slab, peer: &connection.peer, batch: self.batch + 1 };
        let outcome = work.run(&mut connection.wire, &mut tools, cx);
        if work.received() / PACE_BYTES != pace {
            connection.since_us = cx.now.mono_us;
        }
        let (batch, keep) = (work.batch, work.keep_alive);
        match outcome {
            Outcome::Full => {
                connection.queued = true;
                connection.queued_us = cx.now.mono_us;
                self.ready.push_front(at);
                return true;
            }
            Outcome::Wait => connection.wire.flush(cx.io),
            Outcome::Cut => self.gone(connection, cx),
            Outcome::Done(answer) => self.done(at, connection, batch, answer, keep, cx),
            Outcome::Bad(answer) => self.done(at, connection, batch, answer, false, cx),
        }
        false
    }

    /// Everything of a request is in the flow or refused.
    fn done(
        &mut self,
        at: usize,
        connection: &mut Connection,
        batch: u64,
        answer: Answer,
        keep: bool,
        cx: &mut Cx<'_>,
    ) {
        if self.plan.respond == HttpRespond::Accepted || batch == 0 {
            return self.answer(connection, &answer, keep, None, cx);
        }
        connection.phase = Phase::Waiting { batch, answer, keep_alive: keep };
        connection.since_us = cx.now.mono_us;
        self.waiting.push_back((batch, at, connection.number));
    }

    /// Looks at every deadline.
    fn tick(&mut self, cx: &mut Cx<'_>) {
        for at in 0..self.connections.len() {
            let Some(mut connection) = self.take(at) else { continue };
            if !connection.wire.is_closed() {
                self.expire(&mut connection, cx);
                self.advance(at, &mut connection, cx);
            }
            self.put(at, connection, cx);
        }
        self.ticking = self.len() > 0;
        if self.ticking {
            cx.io.timer(TICK_US, OpId { owner: cx.owner, tag: TICK_TAG });
        }
    }

    fn expire(&mut self, connection: &mut Connection, cx: &mut Cx<'_>) {
        let now_us = cx.now.mono_us;
        let waited = now_us.saturating_sub(connection.since_us);
        let stopping = self.stopped_us.is_some_and(|since| now_us - since >= STOP_US);
        let slow = waited >= self.plan.request_timeout_us;
        match &mut connection.phase {
            Phase::Head if !connection.head.is_empty() && (slow || stopping) => {
                let text = "the request did not come in time";
                self.refuse(connection, Refusal::last(Status::Timeout, text), cx);
            }
            Phase::Head => {
                let idle = waited >= self.plan.idle_timeout_us;
                if idle || stopping || (slow && !connection.wire.is_ready()) {
                    self.drop_now(connection, cx);
                }
            }
            Phase::Body(work) if connection.queued => {
                if work.is_untouched() && waited >= self.plan.busy_us {
                    let keep = work.keep_alive;
                    let phase = std::mem::replace(&mut connection.phase, Phase::Head);
                    if let Phase::Body(work) = phase {
                        self.busy(connection, work.into_body(), keep, cx);
                    }
                }
            }
            Phase::Body(work) if slow || stopping => {
                let (status, why) = match stopping {
                    true => (Status::Unavailable, "the source was stopped"),
                    false => (Status::Timeout, "the request did not come in time"),
                };
                work.abandon(Reason::Truncated, why, &connection.peer, cx.refusals);
                self.answer(connection, &Answer::problem(status, why), false, None, cx);
            }
            Phase::Body(_) => {}
            Phase::Waiting { answer, keep_alive, .. } if waited >= self.plan.ack_timeout_us => {
                let text = "the messages are in the flow and not yet accepted by every sink; \
                            they may come twice when they are sent again";
                let status = Status::Unavailable;
                let answer = Answer { status, text: text.to_owned(), ..answer.clone() };
                let keep = *keep_alive;
                self.answer(connection, &answer, keep, None, cx);
            }
            Phase::Waiting { .. } => {}
            Phase::Answering { .. } if slow => self.drop_now(connection, cx),
            Phase::Answering { .. } => {}
            Phase::Linger if waited >= LINGER_US => self.drop_now(connection, cx),
            Phase::Linger => {}
        }
    }
}

/// Reads over what has come of a body; true when that was all of it.
fn pass_over(wire: &mut Wire, mut body: Body, cx: &mut Cx<'_>) -> bool {
    while !body.is_done() {
        if wire.fill(cx.io).is_err() {
            return false;
        }
        let bytes = wire.bytes(cx.io);
        if bytes.is_empty() {
            return false;
        }
        let Ok(found) = body.next(bytes) else { return false };
        wire.consume(found.consumed, cx.io);
    }
    true
}

impl Serve for Requests {
    fn open(&mut self, key: &'static str, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        let group = cx.io.group(BUFFERS, BUFFER_BYTES);
        let no_memory = |error| ConnectorError::io(key, "memory for receiving", &error);
        self.group = Some(group.map_err(no_memory)?);
        Ok(())
    }

    fn add(&mut self, handle: Handle, peer: Peer, cx: &mut Cx<'_>) {
        let peer = match peer {
            Peer::Ip(addr) => addr.to_string(),
            Peer::Local => "local".to_owned(),
        };
        let session = match self.tls.as_ref().map(Server::session).transpose() {
            Ok(session) => session,
            Err(error) => {
                cx.refusals.bytes(Reason::Rejected, &error.to_string(), &peer, 0, &[]);
                return cx.io.close(handle);
            }
        };
        let Some(group) = self.group else { return cx.io.close(handle) };
        let at = self.free.pop().unwrap_or(self.connections.len());
        if at == self.connections.len() {
            self.connections.push(None);
        }
        self.added += 1;
        let op = OpId { owner: cx.owner, tag: TICK_TAG + 1 + 2 * at as u32 };
        let mut wire = Wire::new(handle, session, op, group);
        wire.receive(cx.io);
        let connection = Connection::new(self.added, wire, peer, cx.now.mono_us);
        self.connections[at] = Some(Box::new(connection));
        if !self.ticking {
            self.ticking = true;
            cx.io.timer(TICK_US, OpId { owner: cx.owner, tag: TICK_TAG });
        }
    }

    fn len(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        if tag == TICK_TAG {
            return self.tick(cx);
        }
        let at = (tag.wrapping_sub(TICK_TAG + 1) / 2) as usize;
        let Some(mut connection) = self.take(at) else {
            if let EventKind::Received { lease } = event {
                cx.io.release(lease);
            }
            return;
        };
        match event {
            EventKind::Received { lease } => {
                *cx.bytes += lease.len() as u64;
                connection.wire.received(lease, cx.io);
            }
            EventKind::Eof => connection.wire.stopped(true),
            EventKind::Failed { .. } => connection.wire.stopped(false),
            EventKind::Written { buf, result, .. } => {
                self.written(&mut connection, buf, result.is_ok(), cx);
            }
            _ => {}
        }
        self.advance(at, &mut connection, cx);
        self.put(at, connection, cx);
    }

    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        self.blocked_us = None;
        let mut full = false;
        while !full && let Some(at) = self.ready.pop_front() {
            let Some(mut connection) = self.take(at) else { continue };
            connection.queued = false;
            full = self.work(at, &mut connection, slab, cx);
            if !full {
                self.advance(at, &mut connection, cx);
            }
            self.put(at, connection, cx);
        }
        if full || !self.ready.is_empty() {
            self.blocked_us = Some(cx.now.mono_us);
            return Pull::More;
        }
        Pull::Idle
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        self.stopped_us = Some(cx.now.mono_us);
        for at in 0..self.connections.len() {
            let Some(mut connection) = self.take(at) else { continue };
            let idle = connection.head.is_empty() && !connection.wire.has_bytes();
            if matches!(connection.phase, Phase::Head) && idle {
                self.drop_now(&mut connection, cx);
            }
            self.put(at, connection, cx);
        }
    }

    fn is_read(&self) -> bool {
        let done = |connection: &Connection| match connection.phase {
            Phase::Head => connection.wire.is_closed(),
            Phase::Body(_) => false,
            _ => true,
        };
        self.connections.iter().flatten().all(|connection| done(connection))
    }

    fn close(&mut self, cx: &mut Cx<'_>) {
        self.closing = true;
        if self.len() == 0 {
            self.drop_group(cx);
        }
    }

    fn has_acks(&self) -> bool {
        self.plan.respond == HttpRespond::Acked
    }

    fn polled(&mut self, is_batch: bool, _: &mut Cx<'_>) {
        self.batch += u64::from(is_batch);
    }

    fn accepted(&mut self, batch: u64, cx: &mut Cx<'_>) {
        while let Some((wanted, at, number)) = self.waiting.front().copied()
            && wanted <= batch
        {
            self.waiting.pop_front();
            let Some(mut connection) = self.take(at) else { continue };
            if connection.number == number
                && let Phase::Waiting { batch, answer, keep_alive } = &connection.phase
                && *batch == wanted
            {
                let (answer, keep) = (answer.clone(), *keep_alive);
                self.answer(&mut connection, &answer, keep, None, cx);
            }
            self.put(at, connection, cx);
        }
    }

    fn is_told(&self) -> bool {
        self.len() == 0
    }
}
