//! Byte streams of a source: what has been received and not decoded, and the
//! partial frame of each.
//!
//! Every stream with something to decode is in a queue and gives one buffer at
//! a time, so none starves the others. Bounds: the group's buffers hold what is
//! received ([`BUFFERS`] of [`BUFFER_BYTES`]); when they are on loan, receiving
//! stops and with it the peers. Partial frames of all streams together are at
//! most [`CARRY_BYTES`] (or two frames of the largest size), allocated as they
//! come; a stream that would exceed that is refused its frame and closed. The
//! number of streams is bounded by the caller.
//!
//! How a stream ends decides about its last line: when the peer closes, a line
//! without line feed is a message (as `printf x | nc` sends); when the
//! connection breaks, it is refused as truncated. With TLS it closes when it
//! says so; an end without that is a break. Handshakes have a deadline, and one
//! that fails is reported as a refusal, so that it can be found with its peer.
//! Only one stream at a time holds more plaintext than the end of a handshake
//! leaves, and its own part of a record.
//!
//! Where lines are acknowledged ([`crate::line_acks`]), a stream stays until
//! its peer knows of all its lines or is gone, and what is left of a partial
//! line is its sender's to send again.

mod acks;
mod secure;

use std::collections::VecDeque;
use std::io;

use ringmain_base::Reason;
use ringmain_codec::Framer;
use ringmain_runtime::io::{EventKind, Group, Handle, Io, Lease, OpId, Peer};
use ringmain_slab::Slab;

use crate::decode::{Decoding, Origin};
use crate::served::Serve;
use crate::tls::{HANDSHAKE_US, Inbound, Server};
use crate::{ConnectorError, Cx, Pull};
use acks::{Acks, Told};

pub(crate) const BUFFERS: u16 = 32;
pub(crate) const BUFFER_BYTES: u32 = 64 << 10;
const CARRY_BYTES: usize = 8 << 20;
/// In the tags of what is written to streams: receiving is cancelled alone.
const WRITE_BIT: u32 = 1 << 31;

/// What all partial frames of one source may take.
pub(crate) fn carry_limit_bytes(frame_bytes: usize) -> usize {
    CARRY_BYTES.max(2 * frame_bytes)
}

pub(crate) struct Streams {
    decoding: Decoding,
    group: Option<Group>,
    /// Tags from here on are of streams.
    first_tag: u32,
    streams: Vec<Option<Stream>>,
    free: Vec<usize>,
    ready: VecDeque<usize>,
    carried_bytes: usize,
    carry_limit_bytes: usize,
    tls: Option<Server>,
    /// Memory for plaintext.
    spare: Vec<u8>,
    /// Handshakes by the time at which they must be done, and their streams'
    /// numbers.
    shaking: VecDeque<(u64, usize, u64)>,
    added: u64,
    acks: Option<Acks>,
}

struct Stream {
    /// Which of all streams that there were.
    number: u64,
    tag: u32,
    handle: Handle,
    peer: Peer,
    tls: Option<Box<Inbound>>,
    framer: Framer,
    chunks: VecDeque<Lease>,
    /// Bytes of the first chunk that are decoded.
    from: usize,
    receiving: bool,
    queued: bool,
    end: Option<End>,
    told: Told,
}

#[derive(Debug)]
enum End {
    /// The peer has sent everything.
    Closed,
    /// Something came between, and the rest of the last frame will not come.
    Broken(String),
    /// Nothing of it is wanted any more.
    Gone,
    /// The source takes nothing more.
    Stopped,
}

impl Streams {
    pub(crate) fn new(decoding: Decoding, first_tag: u32) -> Self {
        let carry_limit_bytes = carry_limit_bytes(decoding.frame_bytes() as usize);
        Self {
            decoding,
            group: None,
            first_tag,
            streams: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            carried_bytes: 0,
            carry_limit_bytes,
            tls: None,
            spare: Vec::new(),
            shaking: VecDeque::new(),
            added: 0,
            acks: None,
        }
    }

    /// Lines are acknowledged.
    pub(crate) fn with_acks(mut self, on: bool) -> Self {
        self.acks = on.then(Acks::default);
        self
    }

    /// Streams are encrypted.
    pub(crate) fn with_tls(mut self, tls: Option<Server>) -> Self {
        self.tls = tls;
        self
    }

    pub(crate) fn open(
        &mut self,
        key: &'static str,
        io: &mut dyn Io,
    ) -> Result<(), ConnectorError> {
        let group = io.group(BUFFERS, BUFFER_BYTES);
        let no_memory = |error| ConnectorError::io(key, "memory for receiving", &error);
        self.group = Some(group.map_err(no_memory)?);
        Ok(())
    }

    /// Streams that are open or have something left.
    pub(crate) fn len(&self) -> usize {
        self.streams.len() - self.free.len()
    }

    /// Receives from a stream until it ends.
    pub(crate) fn add(&mut self, handle: Handle, peer: Peer, cx: &mut Cx<'_>) {
        let Some(group) = self.group else { return cx.io.close(handle) };
        let tls = match self.tls.as_ref().map(Server::session).transpose() {
            Ok(session) => session.map(|session| Box::new(Inbound::new(session))),
            Err(error) => {
                let (name, detail) = (name(&peer), error.to_string());
                cx.refusals.bytes(Reason::Rejected, &detail, &name, 0, &[]);
                return cx.io.close(handle);
            }
        };
        self.added += 1;
        let number = self.added;
        let mut stream = Stream {
            number,
            tag: 0,
            handle,
            peer,
            tls,
            framer: self.decoding.stream(),
            chunks: VecDeque::new(),
            from: 0,
            receiving: true,
            queued: false,
            end: None,
            told: Told::default(),
        };
        let at = self.free.pop().unwrap_or(self.streams.len());
        if at == self.streams.len() {
            self.streams.push(None);
        }
        if self.tls.is_some() {
            self.shaking.push_back((cx.now.mono_us + HANDSHAKE_US, at, number));
        }
        stream.tag = self.op(at, cx.owner).tag;
        self.streams[at] = Some(stream);
        cx.io.receive(handle, group, self.op(at, cx.owner));
    }

    fn op(&self, at: usize, owner: u32) -> OpId {
        OpId { owner, tag: self.first_tag + at as u32 }
    }

    fn write_op(&self, at: usize, owner: u32) -> OpId {
        let op = self.op(at, owner);
        OpId { tag: op.tag | WRITE_BIT, ..op }
    }

    pub(crate) fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        let at = (tag & !WRITE_BIT).wrapping_sub(self.first_tag) as usize;
        let Some(stream) = self.streams.get_mut(at).and_then(Option::as_mut) else {
            if let EventKind::Received { lease } = event {
                cx.io.release(lease);
            }
            return;
        };
        match event {
            EventKind::Received { lease } => {
                *cx.bytes += lease.len() as u64;
                if matches!(stream.end, Some(End::Gone)) {
                    cx.io.release(lease);
                    return;
                }
                match &mut stream.tls {
                    Some(tls) if !tls.is_ready() => self.shake(at, lease, cx),
                    _ => stream.chunks.push_back(lease),
                }
            }
            EventKind::Written { result, .. } => {
                stream.told.written(result.is_ok());
                if let Some(tls) = &mut stream.tls {
                    tls.written();
                }
                self.answer(at, cx);
                self.tell(at, cx);
            }
            EventKind::Eof => stream.ended(End::Closed),
            EventKind::Failed { error } => stream.ended(End::Broken(why(&error))),
            _ => return,
        }
        self.enqueue(at);
    }

    fn enqueue(&mut self, at: usize) {
        if let Some(stream) = self.streams[at].as_mut().filter(|stream| !stream.queued) {
            stream.queued = true;
            self.ready.push_back(at);
        }
    }

    fn enqueue_first(&mut self, at: usize) {
        if let Some(stream) = self.streams[at].as_mut().filter(|stream| !stream.queued) {
            stream.queued = true;
            self.ready.push_front(at);
        }
    }

    /// Decodes what has been received; never [`Pull::Ended`].
    pub(crate) fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        self.expire(cx);
        while let Some(at) = self.ready.pop_front() {
            let Some(mut stream) = self.streams[at].take() else { continue };
            stream.queued = false;
            let full = self.decode(&mut stream, slab, cx);
            let writing = stream.tls.as_ref().is_some_and(|tls| tls.is_writing());
            let owed = self.acks.is_some() && stream.is_owed();
            let held = stream.tls.as_ref().is_some_and(|tls| !tls.rest().is_empty());
            let read = !full && stream.chunks.is_empty() && !stream.receiving;
            let done = read && !writing && !owed;
            let more = full || held || !stream.chunks.is_empty();
            if done {
                cx.io.close(stream.handle);
                self.carried_bytes -= stream.framer.carry_bytes();
                self.free.push(at);
            } else {
                let secure = stream.tls.is_some();
                self.streams[at] = Some(stream);
                if secure {
                    self.answer(at, cx);
                }
                if held {
                    // Its plaintext comes before anybody else's is made.
                    self.enqueue_first(at);
                } else if more {
                    self.enqueue(at);
                }
            }
            if full {
                return Pull::More;
            }
        }
        Pull::Idle
    }

    /// One buffer of a stream, or its end. True when the slab is full.
    fn decode(&mut self, stream: &mut Stream, slab: &mut Slab, cx: &mut Cx<'_>) -> bool {
        let carried = stream.framer.carry_bytes();
        let full = match stream.chunks.front() {
            _ if stream.tls.is_some() => self.decode_secure(stream, slab, cx),
            Some(lease) => {
                let len = lease.len();
                let bytes = &cx.io.bytes(lease)[stream.from..];
                let peer = &stream.peer;
                let origin = Origin { name: &|| name(peer), refusals: cx.refusals };
                let ts = cx.now.wall_us;
                let fed = self.decoding.feed(&mut stream.framer, bytes, slab, ts, origin);
                if self.acks.is_some() {
                    stream.told.count(&bytes[..fed.consumed]);
                }
                stream.from += fed.consumed;
                if stream.from >= len
                    && let Some(lease) = stream.chunks.pop_front()
                {
                    stream.from = 0;
                    cx.io.release(lease);
                }
                fed.full
            }
            None => false,
        };
        let full = full || self.end(stream, slab, cx);
        self.note(stream);
        self.carried_bytes = self.carried_bytes - carried + stream.framer.carry_bytes();
        if self.carried_bytes > self.carry_limit_bytes {
            self.refuse_partial(stream, cx);
        }
        full
    }

    /// What the end of a stream means for its last frame. True when the slab
    /// is full.
    fn end(&mut self, stream: &mut Stream, slab: &mut Slab, cx: &mut Cx<'_>) -> bool {
        let held = stream.tls.as_ref().is_some_and(|tls| !tls.rest().is_empty());
        if !stream.chunks.is_empty() || held {
            return false;
        }
        if stream.is_cut() {
            let why = "the connection ended without the notice that TLS asks for";
            stream.end = Some(End::Broken(why.to_owned()));
        }
        match &stream.end {
            Some(End::Closed) => {
                let peer = &stream.peer;
                let origin = Origin { name: &|| name(peer), refusals: cx.refusals };
                let left = stream.framer.carry_bytes() > 0;
                let fed = self.decoding.finish(&mut stream.framer, slab, cx.now.wall_us, origin);
                stream.told.last(left && !fed.full);
                fed.full
            }
            Some(End::Broken(_)) if self.acks.is_some() => {
                stream.framer.reset();
                false
            }
            Some(End::Broken(why)) if stream.framer.carry_bytes() > 0 => {
                let bytes = stream.framer.carry_bytes();
                let detail = format!("{why} after {bytes} B of a message");
                let origin = name(&stream.peer);
                let offset = stream.framer.offset();
                cx.refusals.bytes(Reason::Truncated, &detail, &origin, offset, &[]);
                stream.framer.reset();
                false
            }
            _ => false,
        }
    }

    /// There is no memory left for the frame at hand of this stream.
    fn refuse_partial(&mut self, stream: &mut Stream, cx: &mut Cx<'_>) {
        let bytes = stream.framer.carry_bytes();
        let detail = format!(
            "partial messages of all connections exceed {} B; the connection is closed after \
             {bytes} B of one",
            self.carry_limit_bytes
        );
        let origin = name(&stream.peer);
        cx.refusals.bytes(Reason::Memory, &detail, &origin, stream.framer.offset(), &[]);
        self.carried_bytes -= bytes;
        stream.framer.reset();
        for lease in stream.chunks.drain(..) {
            cx.io.release(lease);
        }
        stream.from = 0;
        stream.end = Some(End::Gone);
        if stream.receiving {
            cx.io.close(stream.handle);
        }
    }

    /// Receives nothing more; what has been received is still decoded.
    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        for stream in self.streams.iter_mut().flatten().filter(|stream| stream.receiving) {
            if self.acks.is_some() {
                // What it has sent so far is still to be acknowledged.
                stream.end.get_or_insert(End::Stopped);
                cx.io.cancel(OpId { owner: cx.owner, tag: stream.tag });
                continue;
            }
            if stream.end.is_none() {
                stream.end = Some(End::Broken("the source was stopped".to_owned()));
            }
            cx.io.close(stream.handle);
        }
    }

    /// Nothing more can come, and everything is decoded.
    pub(crate) fn is_read(&self) -> bool {
        self.streams.iter().flatten().all(|stream| {
            let held = stream.tls.as_ref().is_some_and(|tls| !tls.rest().is_empty());
            stream.chunks.is_empty() && !stream.receiving && !held
        })
    }

    /// Gives the buffers back, and lets go of streams as their peers are told.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_>) {
        if let Some(group) = self.group.take() {
            cx.io.drop_group(group);
        }
        for at in 0..self.streams.len() {
            self.tell(at, cx);
        }
    }
}

impl Stream {
    fn ended(&mut self, end: End) {
        self.receiving = false;
        self.end.get_or_insert(end);
    }
}

fn why(error: &io::Error) -> String {
    format!("the connection broke ({error})")
}

fn name(peer: &Peer) -> String {
    match peer {
        Peer::Ip(addr) => addr.to_string(),
        Peer::Local => "local".to_owned(),
    }
}

impl Serve for Streams {
    fn open(&mut self, key: &'static str, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        self.open(key, cx.io)
    }

    fn add(&mut self, handle: Handle, peer: Peer, cx: &mut Cx<'_>) {
        self.add(handle, peer, cx);
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        self.on_event(tag, event, cx);
    }

    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        self.poll(slab, cx)
    }

    fn wake_at_us(&self) -> Option<u64> {
        self.wake_at_us()
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        self.stop(cx);
    }

    fn is_read(&self) -> bool {
        self.is_read()
    }

    fn close(&mut self, cx: &mut Cx<'_>) {
        self.close(cx);
    }

    fn has_acks(&self) -> bool {
        self.has_acks()
    }

    fn polled(&mut self, is_batch: bool, cx: &mut Cx<'_>) {
        self.polled(is_batch, cx);
    }

    fn accepted(&mut self, batch: u64, cx: &mut Cx<'_>) {
        self.accepted(batch, cx);
    }

    fn is_told(&self) -> bool {
        self.is_told()
    }
}
