//! A sink that keeps one connection, and makes it again when it breaks.
//!
//! What a broken connection had not taken goes out again from a frame's
//! beginning, whole buffers of it: messages may come twice, none is lost that
//! this side still had. Accepted means that the kernel took it; what the other
//! side's kernel had and its program did not read is beyond what TCP tells.
//! So that an end is noticed early, the connection is also received from;
//! what comes is thrown away. The other side closing its direction counts as
//! the end of the connection.
//!
//! Where the other side acknowledges lines ([`crate::line_acks`]), accepted
//! means acknowledged, and nothing is lost with a connection; one on which no
//! acknowledgement comes for `ack_timeout` is broken and made again.
//!
//! Where `retry` has a limit, what is in the buffers is given up, frame by
//! frame, after so many attempts that failed. An attempt has worked when
//! something was accepted, not when a connection was made.
//!
//! With TLS the connection is up when the handshake is done, for which there
//! is as much time as for connecting.
//!
//! Bounds: those of [`crate::outflow`]; one connection, [`WATCH_BYTES`] of
//! receive buffer, and with TLS the encrypted copies of what is being written.

use std::io;

use ringmain_config::plan::RetryPlan;
use ringmain_runtime::io::{EventKind, Group, Handle, Io, OpId};
use ringmain_slab::Slab;

use crate::line_acks::Answers;
use crate::outflow::{Outflow, WRITES_MAX};
use crate::retry::{Next, Retry};
use crate::tls::Outbound;
use crate::unsent::Unsent;
use crate::{ConnectorError, Cx, Health, Sink};

const DIAL_TAG: u32 = 0;
const WATCH_TAG: u32 = 1;
/// Tags of writes.
pub(crate) const WRITE_TAG: u32 = 2;
/// Writes of the protocol that encrypts.
pub(crate) const TLS_TAG: u32 = WRITE_TAG + WRITES_MAX as u32;
/// How long the other side may take to say that it does not believe us.
const BELIEVED_US: u64 = 500_000;
const WATCH_BUFFERS: u16 = 2;
const WATCH_BYTES: u32 = 4 << 10;

/// How a connection is made.
pub(crate) trait Dial {
    /// The key that names the address.
    const KEY: &'static str;

    /// Looks the address up.
    fn open(&mut self) -> Result<(), ConnectorError>;

    /// Begins to connect; false when there is no address now.
    fn dial(&mut self, io: &mut dyn Io, op: OpId) -> bool;

    /// The last attempt made a connection.
    fn works(&mut self) {}

    /// What to call the other side.
    fn name(&self) -> &str;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Dialing {
        until_us: u64,
        late: bool,
    },
    /// Connected, and not yet known to be the right one.
    Securing {
        handle: Handle,
        until_us: u64,
        /// Done, but for a word of the other side that it believes us.
        ready: bool,
    },
    Up(Handle),
    /// Everything is out; the other side is told.
    Closing(Handle),
    /// Closed by this side; the last events are on their way.
    Breaking,
    /// After the last flush.
    Done,
}

impl State {
    /// The connection, while it is of use.
    fn handle(self) -> Option<Handle> {
        match self {
            Self::Securing { handle, .. } | Self::Up(handle) | Self::Closing(handle) => {
                Some(handle)
            }
            _ => None,
        }
    }
}

pub(crate) struct Link<D> {
    dial: D,
    out: Outflow,
    tls: Option<Outbound>,
    state: State,
    group: Option<Group>,
    watching: bool,
    timeout_us: u64,
    retry: Retry,
    trouble: Option<String>,
    finishing: bool,
    answers: Answers,
    ack_timeout_us: u64,
    /// When an acknowledgement must have come, while one is owed.
    acked_by_us: Option<u64>,
    /// Another sends what is left.
    retired: bool,
}

impl<D: Dial> Link<D> {
    pub(crate) fn new(
        dial: D,
        out: Outflow,
        timeout_us: u64,
        retry: &RetryPlan,
        seed: u64,
    ) -> Self {
        Self {
            dial,
            out,
            tls: None,
            state: State::Down,
            group: None,
            watching: false,
            timeout_us,
            retry: Retry::new(retry, seed),
            trouble: None,
            finishing: false,
            answers: Answers::default(),
            ack_timeout_us: 0,
            acked_by_us: None,
            retired: false,
        }
    }

    /// The other side acknowledges lines, each within so long.
    pub(crate) fn with_acks(mut self, timeout_us: Option<u64>) -> Self {
        self.out = self.out.with_acks(timeout_us.is_some());
        self.ack_timeout_us = timeout_us.unwrap_or(0);
        self
    }

    /// The connection is encrypted; writes of the protocol have [`TLS_TAG`].
    pub(crate) fn with_tls(mut self, tls: Option<Outbound>) -> Self {
        self.tls = tls;
        self
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        let op = OpId { owner: cx.owner, tag: DIAL_TAG };
        if self.dial.dial(cx.io, op) {
            let until_us = cx.now.mono_us.saturating_add(self.timeout_us);
            self.state = State::Dialing { until_us, late: false };
        } else {
            self.down("no address is known", cx);
        }
    }

    fn down(&mut self, why: &str, cx: &mut Cx<'_>) {
        self.state = State::Down;
        let next = self.retry.failed(!self.out.is_empty(), cx.now.mono_us);
        let trouble = format!("{}: {why}; {}", self.dial.name(), self.retry.describe());
        if next == Next::GiveUp {
            self.out.give_up(&trouble, cx.refusals);
        }
        self.trouble = Some(trouble);
    }

    fn connected(&mut self, handle: Handle, cx: &mut Cx<'_>) {
        if let Some(group) = self.group {
            self.watching = true;
            cx.io.receive(handle, group, OpId { owner: cx.owner, tag: WATCH_TAG });
        }
        let Some(tls) = &mut self.tls else { return self.up(handle, cx) };
        let until_us = cx.now.mono_us.saturating_add(self.timeout_us);
        self.state = State::Securing { handle, until_us, ready: false };
        match tls.begin() {
            Ok(()) => tls.answer(handle, cx.owner, cx.io),
            Err(error) => self.broken(&error.to_string(), cx),
        }
    }

    fn up(&mut self, handle: Handle, cx: &mut Cx<'_>) {
        self.dial.works();
        self.trouble = None;
        self.answers = Answers::default();
        self.acked_by_us = None;
        self.state = State::Up(handle);
        self.out.restart(true);
        self.submit(true, cx);
    }

    fn submit(&mut self, linger_over: bool, cx: &mut Cx<'_>) {
        let State::Up(handle) = self.state else { return };
        match &mut self.tls {
            None => self.out.submit(handle, cx.owner, linger_over, cx.io),
            Some(tls) => {
                let encrypt = |plain| tls.encrypt(plain);
                self.out.submit_as(handle, cx.owner, linger_over, encrypt, cx.io);
            }
        }
    }

    /// Bytes for the protocol that encrypts.
    fn shake(&mut self, wire: &[u8], cx: &mut Cx<'_>) {
        let (Some(handle), Some(tls)) = (self.state.handle(), &mut self.tls) else { return };
        let received = tls.receive(wire);
        tls.answer(handle, cx.owner, cx.io);
        let plain = if self.out.has_acks() { tls.plain().to_vec() } else { Vec::new() };
        match received {
            Err(error) => self.broken(&error.to_string(), cx),
            Ok(()) => match self.state {
                State::Up(_) => self.answered(&plain, cx),
                State::Securing { .. } if tls.is_believed() => self.up(handle, cx),
                State::Securing { ready: false, .. } if tls.is_ready() => {
                    let until_us = cx.now.mono_us.saturating_add(BELIEVED_US);
                    self.state = State::Securing { handle, until_us, ready: true };
                }
                _ => {}
            },
        }
    }

    /// The other side says how many lines it has accepted.
    fn answered(&mut self, bytes: &[u8], cx: &mut Cx<'_>) {
        if !self.out.has_acks() {
            return;
        }
        match self.answers.read(bytes) {
            Ok(None) => {}
            Ok(Some(total)) => match self.out.acked(total) {
                Some(()) => {
                    self.retry.worked();
                    self.expect_ack(true, cx.now.mono_us);
                }
                None => self.broken("the other side acknowledged more than it was sent", cx),
            },
            Err(why) => self.broken(why, cx),
        }
    }

    /// Sets the time by which the next acknowledgement must come; `anew` when
    /// one came.
    fn expect_ack(&mut self, anew: bool, now_us: u64) {
        if !self.out.is_owed() {
            self.acked_by_us = None;
        } else if anew || self.acked_by_us.is_none() {
            self.acked_by_us = Some(now_us.saturating_add(self.ack_timeout_us));
        }
    }

    /// The connection is of no use any more.
    fn broken(&mut self, why: &str, cx: &mut Cx<'_>) {
        if let Some(handle) = self.state.handle() {
            self.trouble = Some(format!("{}: {why}", self.dial.name()));
            self.state = State::Breaking;
            cx.io.close(handle);
        }
        self.settle(cx);
    }

    /// When nothing of the old connection is left, another may be made.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        let tls = self.tls.as_ref().is_some_and(Outbound::is_writing);
        let quiet = !self.out.is_writing() && !self.watching && !tls;
        if self.state == State::Breaking && quiet {
            self.out.restart(true);
            if self.retired {
                self.state = State::Done;
                return;
            }
            let why = self.trouble.take().unwrap_or_default();
            let why = why.strip_prefix(self.dial.name()).unwrap_or(&why);
            let why = why.strip_prefix(": ").unwrap_or(why).to_owned();
            self.down(&why, cx);
        }
    }

    fn dialed(&mut self, event: EventKind, cx: &mut Cx<'_>) {
        match event {
            EventKind::Connected { handle }
                if matches!(self.state, State::Dialing { .. }) && !self.retired =>
            {
                self.connected(handle, cx);
            }
            EventKind::Connected { handle } => cx.io.close(handle),
            EventKind::Failed { error } => {
                let late = matches!(self.state, State::Dialing { late: true, .. });
                if matches!(self.state, State::Dialing { .. }) && !self.retired {
                    let why = if late { "no answer in time".to_owned() } else { error.to_string() };
                    self.down(&why, cx);
                }
            }
            _ => {}
        }
    }

    fn watched(&mut self, event: EventKind, cx: &mut Cx<'_>) {
        match event {
            EventKind::Received { lease } => {
                if self.tls.is_some() || self.out.has_acks() {
                    let wire = cx.io.bytes(&lease).to_vec();
                    match (&self.tls, self.state) {
                        (Some(_), _) => self.shake(&wire, cx),
                        (None, State::Up(_)) => self.answered(&wire, cx),
                        _ => {}
                    }
                }
                cx.io.release(lease);
            }
            EventKind::Eof => {
                self.watching = false;
                self.broken("the other side closed the connection", cx);
            }
            EventKind::Failed { error } => {
                self.watching = false;
                self.broken(&error.to_string(), cx);
            }
            _ => {}
        }
    }

    fn written(&mut self, tag: u32, result: io::Result<()>, buf: Vec<u8>, cx: &mut Cx<'_>) {
        let Some(tls) = &mut self.tls else { return self.taken(buf, result, cx) };
        if tag != TLS_TAG {
            let plain = tls.returned();
            return self.taken(plain, result, cx);
        }
        tls.written();
        match (self.state, result) {
            (State::Closing(_), _) => self.end(cx),
            (_, Err(error)) => self.broken(&error.to_string(), cx),
            (state, Ok(())) => {
                if let Some(handle) = state.handle() {
                    tls.answer(handle, cx.owner, cx.io);
                }
            }
        }
        self.settle(cx);
    }

    /// A write of messages has ended.
    fn taken(&mut self, buf: Vec<u8>, result: io::Result<()>, cx: &mut Cx<'_>) {
        let (bytes, result) = self.out.written(buf, 0, result, false);
        *cx.bytes += bytes as u64;
        match result {
            Ok(()) if self.out.has_acks() => self.expect_ack(false, cx.now.mono_us),
            Ok(()) => self.retry.worked(),
            Err(error) => self.broken(&error.to_string(), cx),
        }
        self.settle(cx);
        self.submit(false, cx);
    }

    /// The other side is told that nothing more comes.
    fn end(&mut self, cx: &mut Cx<'_>) {
        if let (State::Up(handle), Some(tls)) = (self.state, &mut self.tls) {
            tls.close(handle, cx.owner, cx.io);
            if tls.is_writing() {
                self.state = State::Closing(handle);
                return;
            }
        }
        if let Some(handle) = self.state.handle() {
            if let Some(socket) = cx.io.descriptor(handle) {
                // Closing says the same; this only says it first.
                let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
            }
            cx.io.close(handle);
        }
        if matches!(self.state, State::Dialing { .. }) {
            cx.io.cancel(OpId { owner: cx.owner, tag: DIAL_TAG });
        }
        self.state = State::Done;
        if let Some(group) = self.group.take() {
            cx.io.drop_group(group);
        }
    }
}

impl<D: Dial> Sink for Link<D> {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        self.dial.open()?;
        let group = cx.io.group(WATCH_BUFFERS, WATCH_BYTES);
        let no_memory = |error| ConnectorError::io(D::KEY, "memory for receiving", &error);
        self.group = Some(group.map_err(no_memory)?);
        if self.retry.begin(cx.now.mono_us) {
            self.begin(cx);
        }
        Ok(())
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        match (tag, event) {
            (DIAL_TAG, event) => self.dialed(event, cx),
            (WATCH_TAG, event) => self.watched(event, cx),
            (tag, EventKind::Written { buf, result, .. }) => self.written(tag, result, buf, cx),
            _ => {}
        }
    }

    fn push(&mut self, slab: &Slab, from: usize, cx: &mut Cx<'_>) -> usize {
        let took = self.out.push(slab, from, cx.refusals);
        self.submit(false, cx);
        took
    }

    fn slab_end(&mut self) {
        self.out.slab_end();
    }

    fn finished(&self) -> u64 {
        self.out.finished()
    }

    fn poll(&mut self, cx: &mut Cx<'_>) {
        if self.retired {
            return;
        }
        let now_us = cx.now.mono_us;
        let ending = matches!(self.state, State::Closing(_) | State::Done);
        if self.finishing && self.out.is_empty() && !ending {
            return self.end(cx);
        }
        match self.state {
            State::Down if self.retry.begin(now_us) => self.begin(cx),
            State::Dialing { until_us, late: false } if now_us >= until_us => {
                self.state = State::Dialing { until_us, late: true };
                cx.io.cancel(OpId { owner: cx.owner, tag: DIAL_TAG });
            }
            State::Securing { handle, until_us, ready: true } if now_us >= until_us => {
                self.up(handle, cx);
            }
            State::Securing { until_us, .. } if now_us >= until_us => {
                self.broken("the TLS handshake was not finished in time", cx);
            }
            State::Up(_) if self.acked_by_us.is_some_and(|at| now_us >= at) => {
                self.broken("no acknowledgement came within ack_timeout", cx);
            }
            State::Up(_) => self.submit(true, cx),
            _ => {}
        }
    }

    fn wake_at_us(&self) -> Option<u64> {
        match self.state {
            _ if self.retired => None,
            State::Down => Some(self.retry.wake_at_us()),
            State::Dialing { until_us, late: false } => Some(until_us),
            State::Securing { until_us, .. } => Some(until_us),
            State::Up(_) if !self.out.is_writing() && self.out.has_more() => Some(0),
            State::Up(_) => self.acked_by_us,
            _ => None,
        }
    }

    fn flush(&mut self, last: bool, cx: &mut Cx<'_>) {
        self.finishing |= last;
        self.poll(cx);
    }

    fn retire(&mut self, cx: &mut Cx<'_>) -> bool {
        if !self.retired {
            self.retired = true;
            if let Some(handle) = self.state.handle() {
                self.state = State::Breaking;
                cx.io.close(handle);
            }
        }
        !self.out.is_writing()
    }

    fn take_unsent(&mut self) -> Option<Unsent> {
        Some(self.out.take_unsent())
    }

    fn inherit(&mut self, unsent: Unsent) {
        self.out.inherit(unsent);
    }

    fn is_idle(&self) -> bool {
        self.out.is_empty() && (!self.finishing || self.state == State::Done)
    }

    fn health(&self) -> Health {
        self.trouble.clone().map_or(Health::Good, Health::Retrying)
    }
}
