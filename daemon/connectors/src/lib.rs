//! Sources and sinks over [`Io`](ringmain_runtime::io::Io).
//!
//! Owns: the traits [`Source`] and [`Sink`], and one module for each protocol.
//! A connector is a state machine that a shard drives: it is handed events,
//! polled once a turn, and never blocks, except in `open`, where it opens
//! files, resolves names and binds.
//!
//! Invariants:
//! - A source reads no more than it is given slabs for: what it has received
//!   and not decoded stays in its group of receive buffers, which is bounded,
//!   and so the other side stops.
//! - A sink takes no more than its buffers hold, and says how many rows it
//!   took. It counts a slab as finished only when every byte of it is accepted.
//! - Whatever a source reads becomes a row or a refusal; whatever a sink is
//!   given is accepted, retried, or refused. Nothing disappears.
//!
//! Deliberately absent: rings, operators, threads (but for the short one that
//! resolves a name again); a connector does not know its flow, and no
//! connector knows another.
#![forbid(unsafe_code)]

mod backoff;
mod blackhole;
mod datagram_sink;
mod datagram_source;
mod decode;
mod encode;
mod error;
mod file_sink;
mod file_source;
mod generator;
mod http;
mod http_sink;
mod http_source;
mod line_acks;
mod lines;
mod link;
mod listening;
mod memory;
mod mqtt;
mod offline;
mod outbuf;
mod outflow;
mod overlap;
mod packets;
mod place;
mod reader;
mod resolve;
mod retry;
mod served;
mod silent;
mod sockets;
mod stdin;
mod stdout;
mod streams;
mod tcp_sink;
mod tcp_source;
mod template;
#[cfg(test)]
mod testing;
mod timer_source;
mod tls;
mod udp_sink;
mod udp_source;
mod unix_sink;
mod unix_source;
mod unsent;

pub use decode::decoder;
pub use error::{ConnectorError, Fault};
pub use memory::source_bytes;
pub use offline::{OfflineSink, OfflineSource};
pub use overlap::{sinks_hand_over, sinks_overlap, sources_overlap};
pub use place::{Claims, Placement};
pub use tls::{tls_client, tls_words};
pub use unsent::Unsent;

use ringmain_base::{Now, Reason};
use ringmain_config::plan::{SinkKind, SinkPlan, SourceKind, SourcePlan};
use ringmain_runtime::io::{EventKind, Io};
use ringmain_slab::{RowRef, SharedSchema, Slab};

/// Builds the source of a plan for one shard.
///
/// # Errors
/// What the plan asks for and this machine or this version cannot do.
pub fn source(
    plan: &SourcePlan,
    schema: &SharedSchema,
    place: &Placement,
) -> Result<Box<dyn Source>, ConnectorError> {
    Ok(match &plan.kind {
        kind @ SourceKind::Generator { .. } => {
            Box::new(generator::Generator::new(kind, schema, place)?)
        }
        SourceKind::File(file) => file_source::source(plan, file, schema, place),
        SourceKind::Http(http) => http_source::source(plan, http, schema, place)?,
        SourceKind::Mqtt(mqtt) => Box::new(mqtt::Subscriber::new(plan, mqtt, schema, place)?),
        SourceKind::Timer(timer) => Box::new(timer_source::TimerSource::new(timer, schema)?),
        SourceKind::Stdin => Box::new(stdin::Stdin::new(plan, schema, place)),
        SourceKind::Tcp { listen, connections_max, tls, acks } => {
            let tls = tls.as_ref();
            tcp_source::source(plan, listen, *connections_max, tls, *acks, schema, place)?
        }
        SourceKind::Udp { listen, receive_buffer_bytes, gro } => {
            udp_source::source(plan, listen, *receive_buffer_bytes, *gro, schema, place)
        }
        SourceKind::Unix { path, mode, connections_max } => {
            unix_source::source(plan, path, *mode, *connections_max, schema, place)
        }
    })
}

/// Builds the sink of a plan for one shard.
///
/// # Errors
/// What the plan asks for and this machine or this version cannot do.
pub fn sink(
    plan: &SinkPlan,
    schema: &SharedSchema,
    place: &Placement,
) -> Result<Box<dyn Sink>, ConnectorError> {
    Ok(match &plan.kind {
        SinkKind::File(file) => Box::new(file_sink::FileSink::new(plan, file, schema, place)?),
        SinkKind::Http(http) => http_sink::sink(plan, http, schema, place)?,
        SinkKind::Mqtt(mqtt) => Box::new(mqtt::Publisher::new(plan, mqtt, schema, place)?),
        SinkKind::Stdout => Box::new(stdout::Stdout::new(plan, schema)),
        SinkKind::Tcp { address, connect_timeout_us, retry, tls, ack_timeout_us } => {
            let to = tcp_sink::Connection {
                address,
                timeout_us: *connect_timeout_us,
                retry,
                tls: tls.as_ref(),
                ack_timeout_us: *ack_timeout_us,
            };
            tcp_sink::sink(plan, &to, schema, place)?
        }
        SinkKind::Udp { address } => udp_sink::sink(plan, address, schema, place),
        SinkKind::Unix { path, mode, retry } => {
            unix_sink::sink(plan, path, *mode, retry, schema, place)
        }
        SinkKind::Blackhole => Box::new(blackhole::Blackhole::default()),
    })
}

/// What refused messages are reported to.
pub trait Refusals {
    /// Bytes that did not become a row: `offset` is where their frame began in
    /// the stream, `origin` names the stream (file, peer).
    fn bytes(&mut self, reason: Reason, detail: &str, origin: &str, offset: u64, bytes: &[u8]);

    /// A row that a sink cannot express or the other side refused for good.
    fn row(&mut self, reason: Reason, detail: &str, row: RowRef<'_>);
}

/// What a connector may use while it is called.
pub struct Cx<'a> {
    /// The machine.
    pub io: &'a mut dyn Io,
    /// The turn's reading of the clock.
    pub now: Now,
    /// The connector's number on this shard: the owner of its operations.
    pub owner: u32,
    /// Takes what is refused.
    pub refusals: &'a mut dyn Refusals,
    /// Bytes that the connector read or wrote are added here.
    pub bytes: &'a mut u64,
}

/// What a source did when it was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// It put rows into the slab, or could do more at once.
    More,
    /// Nothing is there until an event or a timer comes.
    Idle,
    /// Everything has been read; there will be no more rows.
    Ended,
}

/// How a connector is doing, for people.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Health {
    /// As it should.
    #[default]
    Good,
    /// It tries again; the text says what went wrong, when it tries next.
    Retrying(String),
    /// It has given up.
    Failed(String),
}

/// A connector that brings messages in.
pub trait Source {
    /// Opens, binds, starts to receive. Called once, before any poll.
    ///
    /// # Errors
    /// What must be changed in the configuration or on the machine.
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError>;

    /// Something that the source asked for under `tag` has happened.
    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>);

    /// Decodes what has been received into `slab`, as much as fits.
    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull;

    /// When the source wants to be polled though no event came, on the
    /// monotonic clock in microseconds.
    fn wake_at_us(&self) -> Option<u64> {
        None
    }

    /// Where reading goes on after everything that was given out, in the
    /// source's own format; `None` for a source that cannot resume.
    fn position(&self) -> Option<Vec<u8>> {
        None
    }

    /// Goes back to a position, before `open`. Called once for each position
    /// that was stored, those of its twins on other shards included.
    ///
    /// # Errors
    /// When the bytes are not a position of this source.
    fn restore(&mut self, position: &[u8]) -> Result<(), ConnectorError> {
        let _ = position;
        Ok(())
    }

    /// Whether [`Source::polled`] and [`Source::accepted`] are to be called.
    fn wants_acks(&self) -> bool {
        false
    }

    /// The last `poll` is over; `is_batch` says whether it was a batch: whether
    /// it left rows in the slab or refused something. The first batch is
    /// number 1. What was taken in a poll that was none belongs to the batch
    /// before.
    fn polled(&mut self, is_batch: bool, cx: &mut Cx<'_>) {
        let _ = (is_batch, cx);
    }

    /// Every batch up to number `batch` has been accepted by all sinks that it
    /// reaches, and the flow's state is safe. A refused message counts as
    /// accepted when its dead letter is stored, or when there is nowhere to keep
    /// it. Called with rising numbers, also after the source has ended, and
    /// never late enough to matter for speed: once per turn at most.
    fn accepted(&mut self, batch: u64, cx: &mut Cx<'_>) {
        let _ = (batch, cx);
    }

    /// Nothing that its peer must be told is still on its way there. A flow
    /// that has ended waits for this, as long as it may take to drain.
    fn is_idle(&self) -> bool {
        true
    }

    /// Takes no more in; what has been received is still given out, then
    /// `poll` says [`Pull::Ended`].
    fn stop(&mut self, cx: &mut Cx<'_>);

    /// How it is doing.
    fn health(&self) -> Health {
        Health::Good
    }
}

/// A connector that takes messages out.
pub trait Sink {
    /// Opens or begins to connect. Called once, before anything is pushed.
    ///
    /// # Errors
    /// What must be changed in the configuration or on the machine.
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError>;

    /// Something that the sink asked for under `tag` has happened.
    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>);

    /// Encodes rows of `slab` from `from` on, as many as its buffers hold,
    /// and returns how many it took (refused ones included).
    fn push(&mut self, slab: &Slab, from: usize, cx: &mut Cx<'_>) -> usize;

    /// Everything of one more slab has been pushed.
    fn slab_end(&mut self);

    /// Slabs of which every byte has been accepted, since the start.
    fn finished(&self) -> u64;

    /// Called once a turn: submits what has waited long enough, reconnects,
    /// rotates.
    fn poll(&mut self, cx: &mut Cx<'_>);

    /// When the sink wants to be polled though no event came, on the monotonic
    /// clock in microseconds.
    fn wake_at_us(&self) -> Option<u64> {
        None
    }

    /// Writes out what is buffered, without waiting for more; and, when `last`
    /// is set, syncs and closes.
    fn flush(&mut self, last: bool, cx: &mut Cx<'_>);

    /// Closes the file that it writes to under another name, and goes on in a
    /// new one; called until it is true, when the closed one is whole. Never
    /// true for a sink that does not write to one file.
    fn set_aside(&mut self, cx: &mut Cx<'_>) -> bool {
        let _ = cx;
        false
    }

    /// Stops where it is, for good: another sink sends what is left. To be
    /// called until it is true; then nothing is under way any more.
    fn retire(&mut self, cx: &mut Cx<'_>) -> bool {
        let _ = cx;
        true
    }

    /// What it has taken and nobody has accepted, once it is retired, for a
    /// sink for which [`sinks_hand_over`]; `None` where there is none.
    fn take_unsent(&mut self) -> Option<Unsent> {
        None
    }

    /// Goes on with what another sink has left, of which it counts the slabs
    /// as its own first ones. Called before anything is pushed.
    fn inherit(&mut self, unsent: Unsent) {
        debug_assert_eq!(unsent.slabs(), 0, "only where sinks_hand_over says so");
    }

    /// Nothing is buffered or in flight.
    fn is_idle(&self) -> bool;

    /// How it is doing.
    fn health(&self) -> Health {
        Health::Good
    }
}
