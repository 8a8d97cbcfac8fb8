//! A client's connection to its broker: made, kept alive, lost and made again.
//!
//! Owns the bytes in both directions. What a packet means beyond the
//! connection is its owner's business, who is told of a connection that was
//! made and takes the packets one by one. Packets that came before the end of
//! a connection are given out before the next one is made.
//!
//! A connection that the broker ends soon after it was made, again and again,
//! is most likely another client with the same id: that is said, and the waits
//! grow, or the two would throw each other out for ever.
//!
//! Bounds: one connection; [`WRITES_MAX`] writes are in the driver's hands and
//! one buffer is being filled, which the owner keeps short; the group's
//! receive buffers and [`Input`]. Every wait has an end: connecting and the
//! broker's greeting `connect_timeout`, silence `keep_alive`.

use std::collections::VecDeque;
use std::io;

use ringmain_config::plan::{MqttClient, MqttVersion, RetryPlan};
use ringmain_runtime::io::{EventKind, Group, Handle, Lease, OpId};

use super::control::{self, Farewell, Greeting};
use super::input::{Found, Input, Piece};
use super::wire::{self, Garbage, Kind};
use crate::backoff::Backoff;
use crate::resolve::Resolver;
use crate::retry::{Next, Retry};
use crate::tls;
use crate::{ConnectorError, Cx, Placement};

const DIAL_TAG: u32 = 0;
const READ_TAG: u32 = 1;
const TIMER_TAG: u32 = 2;
const WRITE_TAG: u32 = 3;
const WRITES_MAX: usize = 2;
/// What gathers before more is asked of the owner.
pub(super) const OUT_BYTES: usize = 64 << 10;

/// A connection that ends sooner was not in use.
const SHORT_LIFE_US: u64 = 5_000_000;
/// So many short lives in a row are no accident.
const SHORT_LIVES: u32 = 3;
/// Beside a window of so many messages, an acknowledgement may be a fraction of
/// a millisecond late.
const WIDE_WINDOW: u16 = 64;
/// Waits when another client has the same id.
const CLASH_RETRY: RetryPlan = RetryPlan::new(2_000_000, 60_000_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Dialing {
        until_us: u64,
        late: bool,
    },
    /// Connected, and waiting for the broker's greeting.
    Greeting {
        handle: Handle,
        until_us: u64,
    },
    Up {
        handle: Handle,
        since_us: u64,
    },
    /// Closed by this side; the last events are on their way, and what has
    /// been received may have to be taken up.
    Breaking,
    /// The broker is being told.
    Leaving(Handle),
    Done,
}

/// What the owner must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The broker has let us in.
    Connected(Greeting),
    /// What was written up to this mark has left.
    Written(u64),
    /// As often as the configuration allows nobody was reached.
    GiveUp,
}

pub(super) struct Client {
    plan: MqttClient,
    id: String,
    resolver: Resolver,
    group_size: (u16, u32),
    group: Option<Group>,
    state: State,
    pub(super) input: Input,
    tls: Option<tls::Client>,
    /// The encryption of the connection at hand.
    session: Option<tls::Session>,
    /// What came encrypted and is still so: it waits in the receive buffers,
    /// as everything does for which there is no room.
    sealed: VecDeque<Lease>,
    receiving: bool,
    /// What is to be sent, whole packets.
    pub(super) out: Vec<u8>,
    /// How far the owner had come with what is in `out`.
    mark: u64,
    /// Marks of the writes that are under way.
    writes: VecDeque<u64>,
    write_sequence: u32,
    spare: Vec<Vec<u8>>,
    /// Begin without the session, once or always.
    clean: bool,
    retry: Retry,
    /// Waits when another client has the same id.
    clash: Backoff,
    /// Waits when that may be so.
    flap: Backoff,
    clash_until_us: u64,
    short_lives: u32,
    keep_alive_us: u64,
    timer: bool,
    sent_us: u64,
    received_us: u64,
    /// A ping without an answer.
    ping_us: Option<u64>,
    deaf: bool,
    /// How the broker ended the last connection, when that may have been for
    /// what it was sent.
    blame: Option<String>,
    /// There are messages that could be given up.
    pub(super) at_hand: bool,
    trouble: Option<String>,
    notices: VecDeque<Notice>,
}

impl Client {
    pub(super) fn new(
        plan: &MqttClient,
        id: String,
        group_size: (u16, u32),
        packet_bytes_max: usize,
        seed: u64,
    ) -> Result<Self, ConnectorError> {
        let host = tls::host_of(&plan.address);
        let tls = plan.tls.as_ref().map(|plan| tls::Client::new(plan, host, &[])).transpose()?;
        Ok(Self {
            tls,
            session: None,
            sealed: VecDeque::new(),
            resolver: Resolver::new(&plan.address),
            group_size,
            group: None,
            state: State::Down,
            input: Input::new(plan.version, packet_bytes_max),
            receiving: false,
            out: Vec::new(),
            mark: 0,
            writes: VecDeque::new(),
            write_sequence: 0,
            spare: Vec::new(),
            clean: plan.clean_start,
            retry: Retry::new(&plan.retry, seed),
            clash: Backoff::new(&CLASH_RETRY, seed),
            flap: Backoff::new(&plan.retry, seed),
            clash_until_us: 0,
            short_lives: 0,
            keep_alive_us: plan.keep_alive_us,
            timer: false,
            sent_us: 0,
            received_us: 0,
            ping_us: None,
            deaf: false,
            blame: None,
            at_hand: false,
            trouble: None,
            notices: VecDeque::new(),
            plan: plan.clone(),
            id,
        })
    }

    pub(super) fn version(&self) -> MqttVersion {
        self.plan.version
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// There is no connection, and none will be.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Something has come that was not looked at.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty() || !self.sealed.is_empty()
    }

    /// What is wrong with the connection.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// An attempt has worked, as the owner sees it.
    pub(super) fn worked(&mut self) {
        self.retry.worked();
    }

    /// How the broker ended the connection before this one, when that may have
    /// been for what it was sent.
    pub(super) fn blame(&mut self) -> Option<String> {
        self.blame.take()
    }

    /// The next connection begins without the session.
    pub(super) fn forget_session(&mut self) {
        self.clean = true;
    }

    pub(super) fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        self.resolver.open().map_err(|error| ConnectorError { key: "url", ..error })?;
        let group = cx.io.group(self.group_size.0, self.group_size.1);
        let no_memory = |error| ConnectorError::io("url", "memory for receiving", &error);
        self.group = Some(group.map_err(no_memory)?);
        self.poll(cx);
        Ok(())
    }

    pub(super) fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        match (tag, event) {
            (DIAL_TAG, event) => self.dialed(event, cx),
            (READ_TAG, event) => self.received(event, cx),
            (TIMER_TAG, _) => {
                self.timer = false;
                self.keep_alive(cx);
            }
            (_, EventKind::Written { buf, result, .. }) => self.written(buf, result, cx),
            _ => {}
        }
    }

    /// Connects, or gives up waiting, when it is time.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) {
        let now_us = cx.now.mono_us;
        match self.state {
            State::Down if now_us >= self.clash_until_us && self.retry.begin(now_us) => {
                self.dial(cx)
            }
            State::Dialing { until_us, late: false } if now_us >= until_us => {
                self.state = State::Dialing { until_us, late: true };
                cx.io.cancel(OpId { owner: cx.owner, tag: DIAL_TAG });
            }
            State::Greeting { until_us, .. } if now_us >= until_us => {
                self.lose("the broker does not answer in time", cx);
            }
            State::Breaking => self.settle(cx),
            _ => {}
        }
    }

    pub(super) fn wake_at_us(&self) -> Option<u64> {
        match self.state {
            State::Down => Some(self.retry.wake_at_us().max(self.clash_until_us)),
            State::Dialing { until_us, late: false } | State::Greeting { until_us, .. } => {
                Some(until_us)
            }
            _ => None,
        }
    }

    fn dial(&mut self, cx: &mut Cx<'_>) {
        match self.resolver.next() {
            Some(address) => {
                let until_us = cx.now.mono_us.saturating_add(self.plan.connect_timeout_us);
                self.state = State::Dialing { until_us, late: false };
                cx.io.connect(address, OpId { owner: cx.owner, tag: DIAL_TAG });
            }
            None => self.down("no address is known", cx),
        }
    }

    fn dialed(&mut self, event: EventKind, cx: &mut Cx<'_>) {
        match (event, self.state) {
            (EventKind::Connected { handle }, State::Dialing { until_us, .. }) => {
                self.greet(handle, until_us, cx);
            }
            (EventKind::Connected { handle }, _) => cx.io.close(handle),
            (EventKind::Failed { error }, State::Dialing { late, .. }) => {
                let why = if late { "no answer in time".to_owned() } else { error.to_string() };
                self.down(&why, cx);
            }
            _ => {}
        }
    }

    fn greet(&mut self, handle: Handle, until_us: u64, cx: &mut Cx<'_>) {
        let Some(group) = self.group else { return cx.io.close(handle) };
        self.resolver.works();
        if self.plan.max_inflight >= WIDE_WINDOW {
            cx.io.patient(handle);
        }
        self.state = State::Greeting { handle, until_us };
        self.receiving = true;
        cx.io.receive(handle, group, OpId { owner: cx.owner, tag: READ_TAG });
        self.out.clear();
        self.out.extend(control::connect(&self.plan, &self.id, self.clean));
        match self.tls.as_ref().map(tls::Client::session).transpose() {
            Ok(session) => {
                self.session = session;
                self.flush(0, cx);
            }
            Err(error) => self.lose(&error.to_string(), cx),
        }
    }

    fn received(&mut self, event: EventKind, cx: &mut Cx<'_>) {
        match event {
            EventKind::Received { lease } => {
                *cx.bytes += lease.len() as u64;
                self.received_us = cx.now.mono_us;
                self.ping_us = None;
                if self.state == State::Done {
                    return cx.io.release(lease);
                }
                match self.session {
                    None => self.input.add(Piece::Lease(lease)),
                    Some(_) => self.sealed.push_back(lease),
                }
                if matches!(self.state, State::Greeting { .. }) {
                    self.answered(cx);
                }
            }
            EventKind::Eof => {
                self.receiving = false;
                let why = self.unanswered("the broker closed the connection".to_owned());
                self.lose_to_broker(&why, cx);
            }
            EventKind::Failed { error } => {
                self.receiving = false;
                if self.deaf && self.is_up() {
                    return;
                }
                let why = self.unanswered(error.to_string());
                match error.kind() {
                    io::ErrorKind::ConnectionReset => self.lose_to_broker(&why, cx),
                    _ => self.lose(&why, cx),
                }
            }
            _ => {}
        }
    }

    /// A broker that goes without a word most likely expected another protocol.
    fn unanswered(&self, why: String) -> String {
        let other = if self.plan.tls.is_some() { "no TLS (mqtt://)" } else { "TLS (mqtts://)" };
        match self.state {
            State::Greeting { .. } => format!("{why} and said nothing; perhaps it speaks {other}"),
            _ => why,
        }
    }

    /// The broker's answer to the greeting, when it is complete.
    fn answered(&mut self, cx: &mut Cx<'_>) {
        let State::Greeting { handle, .. } = self.state else { return };
        let answer = match self.input.next(cx.io) {
            Ok(None) if self.unseal(cx) => return self.answered(cx),
            Ok(None) => return,
            Ok(Some(found)) if found.header.kind == Kind::ConnAck => {
                let bytes = self.input.bytes(found, cx.io);
                let answer = control::greeting(bytes, self.plan.version);
                self.input.pass(found, cx.io);
                answer
            }
            Ok(Some(_)) => Err(Garbage("a packet before the answer to the connection")),
            Err(garbage) => Err(garbage),
        };
        match answer {
            Ok(Ok(greeting)) => self.up(handle, greeting, cx),
            Ok(Err(refusal)) => self.lose(&refusal, cx),
            Err(garbage) => self.garbage(&garbage, cx),
        }
    }

    /// Decrypts one more buffer. False when there is none, or the connection
    /// ended over it.
    fn unseal(&mut self, cx: &mut Cx<'_>) -> bool {
        let (Some(session), Some(lease)) = (&mut self.session, self.sealed.pop_front()) else {
            return false;
        };
        let mut plain = Vec::new();
        let result = session.receive(cx.io.bytes(&lease), &mut plain);
        cx.io.release(lease);
        self.input.add(Piece::Plain(plain));
        if let Some(handle) = self.handle() {
            // What the protocol has to answer.
            self.write(handle, cx);
        }
        match result {
            Ok(()) => true,
            Err(error) => {
                self.unsealed(cx);
                self.lose(&error.to_string(), cx);
                false
            }
        }
    }

    /// What is still encrypted is of no use any more.
    fn unsealed(&mut self, cx: &mut Cx<'_>) {
        for lease in self.sealed.drain(..) {
            cx.io.release(lease);
        }
    }

    fn handle(&self) -> Option<Handle> {
        match self.state {
            State::Up { handle, .. } | State::Greeting { handle, .. } => Some(handle),
            State::Leaving(handle) => Some(handle),
            _ => None,
        }
    }

    fn up(&mut self, handle: Handle, greeting: Greeting, cx: &mut Cx<'_>) {
        let now_us = cx.now.mono_us;
        self.state = State::Up { handle, since_us: now_us };
        self.trouble = None;
        self.clean = self.plan.clean_start && self.plan.version == MqttVersion::V311;
        self.keep_alive_us = greeting.keep_alive_us.unwrap_or(self.plan.keep_alive_us);
        (self.sent_us, self.received_us, self.ping_us) = (now_us, now_us, None);
        self.notices.push_back(Notice::Connected(greeting));
        self.set_timer(cx);
    }

    /// The next packet that the owner must look at.
    pub(super) fn packet(&mut self, cx: &mut Cx<'_>) -> Option<Found> {
        if matches!(self.state, State::Greeting { .. }) {
            return None;
        }
        loop {
            let found = match self.input.next(cx.io) {
                Ok(Some(found)) => found,
                Ok(None) if self.unseal(cx) => continue,
                Ok(None) => {
                    self.settle(cx);
                    return None;
                }
                Err(garbage) => {
                    self.garbage(&garbage, cx);
                    return None;
                }
            };
            match found.header.kind {
                Kind::PingResp => self.input.pass(found, cx.io),
                Kind::Disconnect => {
                    let farewell = control::farewell(self.input.bytes(found, cx.io));
                    self.input.pass(found, cx.io);
                    match farewell {
                        Ok(farewell) => self.left(farewell, cx),
                        Err(garbage) => self.garbage(&garbage, cx),
                    }
                }
                _ => return Some(found),
            }
        }
    }

    fn left(&mut self, farewell: Farewell, cx: &mut Cx<'_>) {
        let mut why = farewell.why;
        if farewell.taken_over {
            let id = &self.id;
            why = format!("another client came with the same client_id '{id}'; give each its own");
            let wait_us = self.clash.wait_us();
            self.clash_until_us = cx.now.mono_us.saturating_add(wait_us);
        }
        if self.state == State::Breaking {
            // What the broker said before it closed explains more than that it
            // closed.
            self.trouble = Some(why.clone());
            self.settle(cx);
        } else {
            self.lose(&why, cx);
        }
        self.blame = farewell.is_rebuke.then_some(why);
    }

    /// The broker ended the connection without a reason.
    fn lose_to_broker(&mut self, why: &str, cx: &mut Cx<'_>) {
        let was_up = self.is_up();
        self.lose(why, cx);
        if was_up {
            self.blame = Some(why.to_owned());
        }
    }

    /// What came is not MQTT.
    pub(super) fn garbage(&mut self, garbage: &Garbage, cx: &mut Cx<'_>) {
        self.input.clear(cx.io);
        self.unsealed(cx);
        let why = format!("what came is not MQTT: {}", garbage.0);
        self.lose(&why, cx);
    }

    /// The connection is of no use any more.
    pub(super) fn lose(&mut self, why: &str, cx: &mut Cx<'_>) {
        let mut why = why.to_owned();
        let handle = match self.state {
            State::Up { handle, since_us } => {
                self.blame = None;
                self.judge(since_us, &mut why, cx.now.mono_us);
                handle
            }
            State::Greeting { handle, .. } => handle,
            State::Leaving(handle) => {
                cx.io.close(handle);
                return self.done(cx);
            }
            State::Breaking => return self.settle(cx),
            State::Down | State::Dialing { .. } | State::Done => return,
        };
        cx.io.close(handle);
        self.trouble = Some(why);
        self.out.clear();
        self.state = State::Breaking;
        self.settle(cx);
    }

    /// A short life may be the work of another client with the same id.
    fn judge(&mut self, since_us: u64, why: &mut String, now_us: u64) {
        if now_us.saturating_sub(since_us) >= SHORT_LIFE_US {
            self.short_lives = 0;
            self.clash.reset();
            self.flap.reset();
            return;
        }
        self.short_lives += 1;
        if self.short_lives >= SHORT_LIVES && now_us >= self.clash_until_us {
            let (times, id) = (self.short_lives, &self.id);
            why.push_str(&format!(
                ", {times} times in a row soon after it was made; perhaps another client has the \
                 same client_id '{id}'"
            ));
            self.clash_until_us = now_us.saturating_add(self.flap.wait_us());
        }
    }

    /// When nothing of the old connection is left, another may be made.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        let over = !self.receiving && self.writes.is_empty();
        if self.state != State::Breaking || !over || self.has_input() {
            return;
        }
        self.input.clear(cx.io);
        self.session = None;
        if self.deaf {
            return self.done(cx);
        }
        let why = self.trouble.take().unwrap_or_default();
        self.down(&why, cx);
    }

    fn down(&mut self, why: &str, cx: &mut Cx<'_>) {
        self.state = State::Down;
        if self.retry.failed(self.at_hand, cx.now.mono_us) == Next::GiveUp {
            self.notices.push_back(Notice::GiveUp);
        }
        let held = self.clash_until_us.saturating_sub(cx.now.mono_us) / 1_000;
        let next = match held {
            0 => self.retry.describe(),
            held => format!("the next attempt is in {held} ms"),
        };
        self.trouble = Some(format!("{}: {why}; {next}", self.plan.url));
    }

    /// Why nothing goes on, for a limit that gives messages up.
    pub(super) fn why(&self) -> String {
        self.trouble.clone().unwrap_or_default()
    }

    /// Hands what is to be sent to the driver; `mark` comes back when it has
    /// left.
    pub(super) fn flush(&mut self, mark: u64, cx: &mut Cx<'_>) {
        self.mark = mark;
        if let State::Up { handle, .. } | State::Greeting { handle, .. } = self.state {
            self.write(handle, cx);
        }
    }

    fn write(&mut self, handle: Handle, cx: &mut Cx<'_>) {
        if self.writes.len() >= WRITES_MAX {
            return;
        }
        let mut buf = self.spare.pop().unwrap_or_default();
        match &mut self.session {
            None => std::mem::swap(&mut self.out, &mut buf),
            Some(session) if session.is_ready() && !self.out.is_empty() => {
                session.send(&self.out, &mut buf);
                self.out.clear();
                if matches!(self.state, State::Leaving(_)) {
                    session.close(&mut buf);
                }
            }
            Some(session) => session.output(&mut buf),
        }
        if buf.is_empty() {
            return self.spare.push(buf);
        }
        let tag = WRITE_TAG + self.write_sequence % WRITES_MAX as u32;
        self.write_sequence = self.write_sequence.wrapping_add(1);
        self.writes.push_back(self.mark);
        self.sent_us = cx.now.mono_us;
        cx.io.write(handle, buf, None, OpId { owner: cx.owner, tag });
    }

    /// More may be put into `out`.
    pub(super) fn takes_more(&self) -> bool {
        self.is_up() && self.out.len() < OUT_BYTES && self.writes.len() < WRITES_MAX
    }

    fn written(&mut self, mut buf: Vec<u8>, result: io::Result<()>, cx: &mut Cx<'_>) {
        let mark = self.writes.pop_front().unwrap_or(0);
        let bytes = buf.len();
        if buf.capacity() <= 4 * OUT_BYTES && self.spare.len() < WRITES_MAX {
            buf.clear();
            self.spare.push(buf);
        }
        if let Err(error) = result {
            match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    self.lose_to_broker(&error.to_string(), cx);
                }
                _ => self.lose(&error.to_string(), cx),
            }
            return self.settle(cx);
        }
        *cx.bytes += bytes as u64;
        self.notices.push_back(Notice::Written(mark));
        match self.state {
            State::Leaving(handle) if self.out.is_empty() && self.writes.is_empty() => {
                cx.io.close(handle);
                self.done(cx);
            }
            State::Leaving(handle) => self.write(handle, cx),
            _ => self.settle(cx),
        }
    }

    fn set_timer(&mut self, cx: &mut Cx<'_>) {
        if self.keep_alive_us > 0 && !self.timer {
            self.timer = true;
            cx.io.timer(self.keep_alive_us / 2, OpId { owner: cx.owner, tag: TIMER_TAG });
        }
    }

    /// Asks a silent broker for a sign of life, and leaves one that gives none.
    fn keep_alive(&mut self, cx: &mut Cx<'_>) {
        if !self.is_up() || self.keep_alive_us == 0 {
            return;
        }
        let now_us = cx.now.mono_us;
        let ago = |then_us: u64| now_us.saturating_sub(then_us);
        if self.has_input() {
            // What lies here may be followed by a sign of life that was not
            // received for want of buffers: the sinks are slow, not the broker.
            self.ping_us = None;
        }
        if self.ping_us.is_some_and(|at| ago(at) >= self.keep_alive_us) {
            let seconds = self.keep_alive_us / 1_000_000;
            let why = format!("the broker did not answer a ping within {seconds} s (keep_alive)");
            return self.lose(&why, cx);
        }
        if ago(self.sent_us.min(self.received_us)) >= self.keep_alive_us / 2 {
            self.ping_us.get_or_insert(now_us);
            self.out.extend_from_slice(&wire::PINGREQ);
            self.flush(self.mark, cx);
        }
        self.set_timer(cx);
    }

    /// Receives nothing more; what has been received is still given out.
    pub(super) fn stop(&mut self, cx: &mut Cx<'_>) {
        self.deaf = true;
        match self.state {
            State::Up { .. } => cx.io.cancel(OpId { owner: cx.owner, tag: READ_TAG }),
            State::Greeting { .. } => self.lose("the source was stopped", cx),
            State::Dialing { .. } => {
                cx.io.cancel(OpId { owner: cx.owner, tag: DIAL_TAG });
                self.done(cx);
            }
            State::Down => self.done(cx),
            State::Breaking | State::Leaving(_) | State::Done => {}
        }
    }

    /// Nothing more will be received.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf && !self.receiving
    }

    /// Sends what is left, takes leave and closes.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) {
        match self.state {
            State::Up { handle, .. } => {
                self.out.extend_from_slice(&wire::DISCONNECT);
                self.state = State::Leaving(handle);
                self.write(handle, cx);
            }
            State::Leaving(_) | State::Done => {}
            State::Breaking => self.deaf = true,
            State::Down | State::Dialing { .. } | State::Greeting { .. } => self.stop(cx),
        }
    }

    fn done(&mut self, cx: &mut Cx<'_>) {
        self.state = State::Done;
        self.input.clear(cx.io);
        self.unsealed(cx);
        if self.timer {
            cx.io.cancel(OpId { owner: cx.owner, tag: TIMER_TAG });
        }
        if let Some(group) = self.group.take() {
            cx.io.drop_group(group);
        }
    }
}

/// Clients of different daemons and shards must not wait alike.
pub(super) fn seed(id: &str, place: &Placement) -> u64 {
    let hash = id.bytes().fold(0_u64, |hash, byte| hash.rotate_left(9) ^ u64::from(byte));
    hash ^ (u64::from(std::process::id()) << 20) ^ u64::from(place.shard)
}
