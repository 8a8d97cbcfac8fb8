//! One connection of an HTTP sink, and the request that is its turn.
//!
//! A request stays with its lane until the server has answered it for good,
//! over as many connections as that takes.

use ringmain_runtime::io::{EventKind, Group, OpId};

use super::Shared;
use super::batches::Batch;
use super::response::{Answer, Response};
use crate::http::wire::Wire;
use crate::retry::{Next, Tries};
use crate::{ConnectorError, Cx};

/// Tags of a lane: connecting, receiving, writing.
pub(super) const TAGS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Dialing {
        until_us: u64,
        late: bool,
    },
    /// The handshake.
    Shaking {
        until_us: u64,
    },
    /// Nothing is asked.
    Idle,
    Asking {
        until_us: u64,
    },
    /// Closed by this side; the last events are on their way.
    Closing,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Verdict {
    Accepted(Batch),
    /// The server's last word.
    Refused(Batch, String),
    /// It may take less at a time.
    TooLarge(Batch, String),
    /// Tried as often as is allowed.
    GivenUp(Batch, String),
}

pub(super) struct Lane {
    tags: u32,
    group: Group,
    state: State,
    wire: Option<Wire>,
    batch: Option<Batch>,
    response: Response,
    tries: Tries,
    /// The server asked to be left alone until then.
    hold_us: u64,
    /// Requests that this connection has carried.
    carried: u32,
}

impl Lane {
    pub(super) fn new(number: u32, group: Group, tries: Tries) -> Self {
        Self {
            tags: number * TAGS,
            group,
            state: State::Down,
            wire: None,
            batch: None,
            response: Response::default(),
            tries,
            hold_us: 0,
            carried: 0,
        }
    }

    /// It can take a batch.
    pub(super) fn is_free(&self) -> bool {
        self.batch.is_none()
    }

    /// Nothing of it is left in the driver.
    pub(super) fn is_quiet(&self) -> bool {
        self.state == State::Down && self.wire.is_none()
    }

    /// What it was to send; it sends nothing more.
    pub(super) fn take_back(&mut self) -> Option<Batch> {
        self.batch.take()
    }

    pub(super) fn give(&mut self, batch: Batch) {
        self.batch = Some(batch);
    }

    /// Does what is due.
    pub(super) fn poll(&mut self, shared: &mut Shared, cx: &mut Cx<'_>) -> Option<Verdict> {
        let now_us = cx.now.mono_us;
        match self.state {
            State::Down if self.batch.is_some() => {
                let due = now_us >= self.tries.again_us().max(self.hold_us);
                if due && shared.breaker.admits(now_us) {
                    return self.dial(shared, cx);
                }
            }
            State::Dialing { until_us, late: false } if now_us >= until_us => {
                self.state = State::Dialing { until_us, late: true };
                cx.io.cancel(OpId { owner: cx.owner, tag: self.tags });
            }
            State::Shaking { until_us } if now_us >= until_us => {
                return self.broken("the TLS handshake was not finished in time", shared, cx);
            }
            State::Asking { until_us } if now_us >= until_us => {
                return self.broken("no answer in time", shared, cx);
            }
            State::Idle if self.batch.is_some() => {
                let due = now_us >= self.tries.again_us().max(self.hold_us);
                if due && shared.breaker.admits(now_us) {
                    self.ask(shared, cx);
                }
            }
            _ => {}
        }
        None
    }

    pub(super) fn wake_at_us(&self, shared: &Shared) -> Option<u64> {
        match self.state {
            State::Down | State::Idle => self.batch.as_ref().map(|_| {
                let open_until_us = shared.breaker.open_until_us().unwrap_or(0);
                self.tries.again_us().max(self.hold_us).max(open_until_us)
            }),
            State::Dialing { until_us, late: false }
            | State::Shaking { until_us }
            | State::Asking { until_us } => Some(until_us),
            State::Dialing { .. } | State::Closing => None,
        }
    }

    fn dial(&mut self, shared: &mut Shared, cx: &mut Cx<'_>) -> Option<Verdict> {
        let Some(address) = shared.resolver.next() else {
            return self.failed("no address is known", shared, cx);
        };
        let until_us = cx.now.mono_us.saturating_add(shared.timeout_us);
        self.state = State::Dialing { until_us, late: false };
        cx.io.connect(address, OpId { owner: cx.owner, tag: self.tags });
        None
    }

    pub(super) fn on_event(
        &mut self,
        tag: u32,
        event: EventKind,
        shared: &mut Shared,
        cx: &mut Cx<'_>,
    ) -> Option<Verdict> {
        if tag == self.tags {
            return self.dialed(event, shared, cx);
        }
        let Some(wire) = &mut self.wire else {
            if let EventKind::Received { lease } = event {
                cx.io.release(lease);
            }
            return None;
        };
        let mut trouble = None;
        match event {
            EventKind::Received { lease } => wire.received(lease, cx.io),
            EventKind::Eof => wire.stopped(true),
            EventKind::Failed { error } => {
                wire.stopped(false);
                trouble = Some(error.to_string());
            }
            EventKind::Written { buf, written, result } => {
                *cx.bytes += written as u64;
                wire.written(buf);
                wire.flush(cx.io);
                trouble = result.err().map(|error| error.to_string());
            }
            _ => {}
        }
        if self.state == State::Closing {
            return self.settle();
        }
        let verdict = self.read(shared, cx);
        match (verdict, trouble, &self.wire) {
            (Some(verdict), ..) => Some(verdict),
            (None, Some(why), Some(wire)) if !wire.is_closed() => self.broken(&why, shared, cx),
            (None, None, Some(wire)) if wire.is_ended() && !wire.is_closed() => {
                self.broken("the server closed the connection", shared, cx)
            }
            _ => None,
        }
    }

    fn settle(&mut self) -> Option<Verdict> {
        if self.wire.as_ref().is_some_and(Wire::is_quiet) {
            self.wire = None;
            self.state = State::Down;
        }
        None
    }

    fn dialed(
        &mut self,
        event: EventKind,
        shared: &mut Shared,
        cx: &mut Cx<'_>,
    ) -> Option<Verdict> {
        let State::Dialing { late, .. } = self.state else {
            if let EventKind::Connected { handle } = event {
                cx.io.close(handle);
            }
            return None;
        };
        match event {
            EventKind::Connected { handle } => {
                let session = match shared.client.as_ref().map(|c| c.session()).transpose() {
                    Ok(session) => session,
                    Err(error) => {
                        cx.io.close(handle);
                        return self.failed(&error.to_string(), shared, cx);
                    }
                };
                let op = OpId { owner: cx.owner, tag: self.tags + 1 };
                let mut wire = Wire::new(handle, session, op, self.group);
                wire.receive(cx.io);
                wire.flush(cx.io);
                self.wire = Some(wire);
                self.carried = 0;
                self.response = Response::default();
                let until_us = cx.now.mono_us.saturating_add(shared.timeout_us);
                self.state = State::Shaking { until_us };
                self.ready(shared, cx);
                None
            }
            EventKind::Failed { error } => {
                let why = if late { "no answer in time".to_owned() } else { error.to_string() };
                self.failed(&why, shared, cx)
            }
            _ => None,
        }
    }

    /// The handshake may be over: then the request goes out.
    fn ready(&mut self, shared: &mut Shared, cx: &mut Cx<'_>) {
        let ready = self.wire.as_ref().is_some_and(Wire::is_ready);
        if ready && matches!(self.state, State::Shaking { .. }) {
            shared.resolver.works();
            self.state = State::Idle;
            if self.batch.is_some() {
                self.ask(shared, cx);
            }
        }
    }

    fn ask(&mut self, shared: &mut Shared, cx: &mut Cx<'_>) {
        let (Some(batch), Some(wire)) = (&self.batch, &mut self.wire) else { return };
        shared.write_request(batch, wire.out());
        wire.flush(cx.io);
        self.carried += 1;
        let until_us = cx.now.mono_us.saturating_add(shared.timeout_us);
        self.state = State::Asking { until_us };
    }

    /// Looks at what has come.
    fn read(&mut self, shared: &mut Shared, cx: &mut Cx<'_>) -> Option<Verdict> {
        let wire = self.wire.as_mut()?;
        if !matches!(self.state, State::Asking { .. }) {
            let filled = wire.fill(cx.io);
            wire.flush(cx.io);
            let unasked = !wire.bytes(cx.io).is_empty();
            if let Err(error) = filled {
                return self.broken(&error.to_string(), shared, cx);
            }
            if unasked {
                return self.broken("the server answered without being asked", shared, cx);
            }
            self.ready(shared, cx);
            return None;
        }
        match self.response.read(wire, cx.now.wall_us, cx.io) {
            Ok(None) => {
                wire.flush(cx.io);
                None
            }
            Ok(Some(answer)) => self.answered(&answer, shared, cx),
            Err(why) => self.broken(&why, shared, cx),
        }
    }

    fn answered(
        &mut self,
        answer: &Answer,
        shared: &mut Shared,
        cx: &mut Cx<'_>,
    ) -> Option<Verdict> {
        // An answer before the whole request was taken: the rest is of no use.
        let writing = self.wire.as_ref().is_some_and(Wire::is_writing);
        let ended = self.wire.as_ref().is_none_or(Wire::is_ended);
        if answer.keep_alive && !writing && !ended {
            self.state = State::Idle;
        } else {
            self.close(cx);
        }
        let batch = self.batch.take()?;
        let text =
            if answer.text.is_empty() { String::new() } else { format!(": {}", answer.text) };
        let why = format!("the server answered {}{text}", answer.code);
        match answer.code {
            200..=299 => {
                self.tries.worked();
                shared.breaker.worked();
                shared.trouble = None;
                Some(Verdict::Accepted(batch))
            }
            408 | 425 | 429 | 500..=599 => {
                self.batch = Some(batch);
                if let Some(wait_us) = answer.retry_after_us {
                    let wait_us = wait_us.min(super::RETRY_AFTER_MAX_US);
                    self.hold_us = cx.now.mono_us.saturating_add(wait_us);
                }
                self.retry(&why, shared, cx)
            }
            _ => {
                self.tries.worked();
                shared.breaker.worked();
                Some(match answer.code {
                    413 => Verdict::TooLarge(batch, why),
                    _ => Verdict::Refused(batch, why),
                })
            }
        }
    }

    fn close(&mut self, cx: &mut Cx<'_>) {
        if let Some(wire) = &mut self.wire {
            wire.close(cx.io);
            self.state = State::Closing;
        }
        self.response = Response::default();
        self.settle();
    }

    /// The connection is of no use any more.
    fn broken(&mut self, why: &str, shared: &mut Shared, cx: &mut Cx<'_>) -> Option<Verdict> {
        let asking = matches!(self.state, State::Asking { .. });
        let shaking = matches!(self.state, State::Shaking { .. });
        // A server may close a connection that was idle just when it is used
        // again; that says nothing about how it is.
        let stale = asking && self.carried > 1 && self.response.is_untouched();
        self.close(cx);
        if (asking || shaking) && !stale {
            return self.retry(why, shared, cx);
        }
        if stale {
            shared.breaker.untold();
        }
        None
    }

    fn failed(&mut self, why: &str, shared: &mut Shared, cx: &mut Cx<'_>) -> Option<Verdict> {
        self.state = State::Down;
        self.retry(why, shared, cx)
    }

    /// An attempt has failed.
    fn retry(&mut self, why: &str, shared: &mut Shared, cx: &mut Cx<'_>) -> Option<Verdict> {
        let now_us = cx.now.mono_us;
        shared.breaker.failed(now_us);
        let next = self.tries.failed(self.batch.is_some(), now_us);
        let open_until_us = shared.breaker.open_until_us().unwrap_or(0);
        let again_us = self.tries.again_us().max(self.hold_us).max(open_until_us);
        let wait_ms = again_us.saturating_sub(now_us) / 1_000;
        let attempts = self.tries.attempts();
        let url = &shared.url;
        let trouble =
            format!("{url}: {why}; attempt {attempts} failed, the next is in {wait_ms} ms");
        shared.trouble = Some(trouble.clone());
        match next {
            Next::Wait => None,
            Next::GiveUp => {
                self.batch.take().map(|batch| Verdict::GivenUp(batch, format!("{url}: {why}")))
            }
        }
    }

    /// Ends the connection; the request at hand is over.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        if let State::Dialing { .. } = self.state {
            cx.io.cancel(OpId { owner: cx.owner, tag: self.tags });
            self.state = State::Down;
        }
        self.close(cx);
    }
}

/// Why the key is named: errors of the resolver are about the url here.
pub(super) fn of_url(error: ConnectorError) -> ConnectorError {
    ConnectorError { key: "url", ..error }
}
