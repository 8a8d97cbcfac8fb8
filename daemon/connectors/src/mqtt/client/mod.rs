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

mod connect;
mod lose;
mod receive;
mod send;

use std::collections::VecDeque;

use ringmain_config::plan::{MqttClient, MqttVersion, RetryPlan};
use ringmain_runtime::io::{EventKind, Group, Handle, Lease, OpId};

use super::control::Greeting;
use super::input::Input;
use super::wire;
use crate::backoff::Backoff;
use crate::resolve::Resolver;
use crate::retry::Retry;
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
pub(in crate::mqtt) enum Notice {
    /// The broker has let us in.
    Connected(Greeting),
    /// What was written up to this mark has left.
    Written(u64),
    /// As often as the configuration allows nobody was reached.
    GiveUp,
}

pub(in crate::mqtt) struct Client {
    plan: MqttClient,
    id: String,
    resolver: Resolver,
    group_size: (u16, u32),
    group: Option<Group>,
    state: State,
    pub(in crate::mqtt) input: Input,
    tls: Option<tls::Client>,
    /// The encryption of the connection at hand.
    session: Option<tls::Session>,
    /// What came encrypted and is still so: it waits in the receive buffers,
    /// as everything does for which there is no room.
    sealed: VecDeque<Lease>,
    receiving: bool,
    /// What is to be sent, whole packets.
    pub(in crate::mqtt) out: Vec<u8>,
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
    pub(in crate::mqtt) at_hand: bool,
    trouble: Option<String>,
    notices: VecDeque<Notice>,
}

impl Client {
    pub(in crate::mqtt) fn new(
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

    pub(in crate::mqtt) fn version(&self) -> MqttVersion {
        self.plan.version
    }

    pub(in crate::mqtt) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// There is no connection, and none will be.
    pub(in crate::mqtt) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Something has come that was not looked at.
    pub(in crate::mqtt) fn has_input(&self) -> bool {
        !self.input.is_empty() || !self.sealed.is_empty()
    }

    /// What is wrong with the connection.
    pub(in crate::mqtt) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(in crate::mqtt) fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// An attempt has worked, as the owner sees it.
    pub(in crate::mqtt) fn worked(&mut self) {
        self.retry.worked();
    }

    /// How the broker ended the connection before this one, when that may have
    /// been for what it was sent.
    pub(in crate::mqtt) fn blame(&mut self) -> Option<String> {
        self.blame.take()
    }

    /// The next connection begins without the session.
    pub(in crate::mqtt) fn forget_session(&mut self) {
        self.clean = true;
    }

    /// Why nothing goes on, for a limit that gives messages up.
    pub(in crate::mqtt) fn why(&self) -> String {
        self.trouble.clone().unwrap_or_default()
    }

    pub(in crate::mqtt) fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        self.resolver.open().map_err(|error| ConnectorError { key: "url", ..error })?;
        let group = cx.io.group(self.group_size.0, self.group_size.1);
        let no_memory = |error| ConnectorError::io("url", "memory for receiving", &error);
        self.group = Some(group.map_err(no_memory)?);
        self.poll(cx);
        Ok(())
    }

    pub(in crate::mqtt) fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
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
    pub(in crate::mqtt) fn poll(&mut self, cx: &mut Cx<'_>) {
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

    pub(in crate::mqtt) fn wake_at_us(&self) -> Option<u64> {
        match self.state {
            State::Down => Some(self.retry.wake_at_us().max(self.clash_until_us)),
            State::Dialing { until_us, late: false } | State::Greeting { until_us, .. } => {
                Some(until_us)
            }
            _ => None,
        }
    }

    fn handle(&self) -> Option<Handle> {
        match self.state {
            State::Up { handle, .. } | State::Greeting { handle, .. } => Some(handle),
            State::Leaving(handle) => Some(handle),
            _ => None,
        }
    }

    /// Receives nothing more; what has been received is still given out.
    pub(in crate::mqtt) fn stop(&mut self, cx: &mut Cx<'_>) {
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
    pub(in crate::mqtt) fn is_deaf(&self) -> bool {
        self.deaf && !self.receiving
    }

    /// Sends what is left, takes leave and closes.
    pub(in crate::mqtt) fn leave(&mut self, cx: &mut Cx<'_>) {
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
pub(in crate::mqtt) fn seed(id: &str, place: &Placement) -> u64 {
    let hash = id.bytes().fold(0_u64, |hash, byte| hash.rotate_left(9) ^ u64::from(byte));
    hash ^ (u64::from(std::process::id()) << 20) ^ u64::from(place.shard)
}
