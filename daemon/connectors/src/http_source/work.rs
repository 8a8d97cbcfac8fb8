//! One request's body on its way into rows.
//!
//! What becomes of messages is decided for each by itself: good ones are in
//! the flow, and what cannot be read is refused, as in any other source; the
//! answer counts both.

use ringmain_base::Reason;
use ringmain_codec::{Framer, Framing, Progress};
use ringmain_slab::{RowRef, Slab};

use super::answer::{Answer, Status};
use super::array::Array;
use super::request::{Head, Shape};
use crate::decode::{Decoding, Origin};
use crate::http::body::Body;
use crate::http::gunzip::{GUNZIP_BYTES, Gunzip};
use crate::http::wire::Wire;
use crate::{Cx, Refusals};

/// Text that is made at once of packed bodies and of arrays.
const TEXT_BYTES: usize = 64 << 10;

/// How far a body has come.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The slab is full.
    Full,
    /// More bytes must come.
    Wait,
    /// The peer has gone in the middle of it.
    Cut,
    /// It is through; the connection may go on.
    Done(Answer),
    /// What follows in the connection cannot be understood, or is too much.
    Bad(Answer),
}

pub(super) struct Work {
    pub(super) keep_alive: bool,
    /// The batch that its last message or refusal is in; 0 for none.
    pub(super) batch: u64,
    body: Body,
    gunzip: Option<Gunzip>,
    array: Option<Array>,
    shape: Shape,
    framer: Framer,
    /// A body that is one message, as far as it has come.
    message: Vec<u8>,
    /// Plain text that is not decoded.
    text: Vec<u8>,
    text_from: usize,
    /// Bytes of the body at the front of what has come.
    run: usize,
    /// Bytes of the body, plain.
    bytes: u64,
    bytes_max: u64,
    /// Bytes of the body that have come.
    received: u64,
    /// What is wrong behind what is still to be decoded.
    fault: Option<Fault>,
    /// That is behind the text at hand; nothing more is made of what has come.
    ends_here: bool,
    tally: Tally,
}

struct Fault {
    status: Status,
    reason: Reason,
    what: String,
}

/// What became of the messages so far.
#[derive(Default)]
struct Tally {
    rows: u64,
    refused: u64,
    problem: Option<String>,
}

struct Counting<'a> {
    inner: &'a mut dyn Refusals,
    tally: &'a mut Tally,
}

impl Refusals for Counting<'_> {
    fn bytes(&mut self, reason: Reason, detail: &str, origin: &str, offset: u64, bytes: &[u8]) {
        let tally = &mut *self.tally;
        tally.refused += 1;
        tally.problem.get_or_insert_with(|| format!("at byte {offset}: {detail}"));
        self.inner.bytes(reason, detail, origin, offset, bytes);
    }

    fn row(&mut self, reason: Reason, detail: &str, row: RowRef<'_>) {
        self.tally.refused += 1;
        self.tally.problem.get_or_insert_with(|| detail.to_owned());
        self.inner.row(reason, detail, row);
    }
}

/// What a step of the work needs from the source.
pub(super) struct Tools<'a> {
    pub(super) decoding: &'a mut Decoding,
    pub(super) slab: &'a mut Slab,
    pub(super) peer: &'a str,
    /// Number of the batch that this poll fills.
    pub(super) batch: u64,
}

impl Work {
    pub(super) fn new(head: &Head, bytes_max: u64, decoding: &Decoding) -> Self {
        Self {
            keep_alive: head.keep_alive,
            batch: 0,
            body: Body::new(head.length),
            gunzip: head.gzip.then(Gunzip::new),
            array: (head.shape == Shape::Array).then(Array::new),
            shape: head.shape,
            framer: decoding.stream_as(match head.shape {
                Shape::Message => Framing::Whole,
                _ => Framing::Newline,
            }),
            message: Vec::new(),
            text: Vec::new(),
            text_from: 0,
            run: 0,
            bytes: 0,
            bytes_max,
            received: 0,
            fault: None,
            ends_here: false,
            tally: Tally::default(),
        }
    }

    /// Nothing of it is in the flow.
    pub(super) fn is_untouched(&self) -> bool {
        self.received == 0
    }

    /// Bytes of the body that have come.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// What it keeps beside the receive buffers.
    pub(super) fn carried_bytes(&self) -> usize {
        let gunzip = if self.gunzip.is_some() { GUNZIP_BYTES } else { 0 };
        self.framer.carry_bytes() + self.message.len() + gunzip
    }

    /// The body, to be passed over.
    pub(super) fn into_body(self) -> Body {
        self.body
    }

    /// Decodes what has come.
    pub(super) fn run(
        &mut self,
        wire: &mut Wire,
        tools: &mut Tools<'_>,
        cx: &mut Cx<'_>,
    ) -> Outcome {
        loop {
            if self.text_from < self.text.len() {
                let text = std::mem::take(&mut self.text);
                let (used, full) = {
                    let ts = cx.now.wall_us;
                    self.decode(&text[self.text_from..], false, tools, ts, cx.refusals)
                };
                self.text = text;
                self.text_from += used;
                if full {
                    return Outcome::Full;
                }
                continue;
            }
            self.text.clear();
            self.text_from = 0;
            if self.run > 0 {
                if self.take(wire, tools, cx) {
                    return Outcome::Full;
                }
            } else if let Some(fault) = self.fault.take() {
                return Outcome::Bad(self.bad(fault, tools, cx));
            } else if self.body.is_done() {
                return self.finish(tools, cx);
            } else if !self.more(wire, cx) {
                return if wire.is_ended() { Outcome::Cut } else { Outcome::Wait };
            }
        }
    }

    /// Finds the next run of the body; false when nothing more has come.
    fn more(&mut self, wire: &mut Wire, cx: &mut Cx<'_>) -> bool {
        if let Err(error) = wire.fill(cx.io) {
            self.fail(Status::BadRequest, Reason::Truncated, error.to_string());
            return true;
        }
        let bytes = wire.bytes(cx.io);
        if bytes.is_empty() {
            return false;
        }
        match self.body.next(bytes) {
            Ok(found) => {
                self.run = found.data.len();
                self.received += self.run as u64;
                wire.consume(found.data.start, cx.io);
                let over = self.received.saturating_sub(self.bytes_max);
                if over > 0 {
                    self.run = self.run.saturating_sub(over as usize);
                    self.too_large();
                }
            }
            Err(what) => self.fail(Status::BadRequest, Reason::Truncated, what),
        }
        true
    }

    /// Takes some of the run. True when the slab is full.
    fn take(&mut self, wire: &mut Wire, tools: &mut Tools<'_>, cx: &mut Cx<'_>) -> bool {
        let io = &*cx.io;
        let bytes = wire.bytes(io);
        let bytes = &bytes[..self.run.min(bytes.len())];
        let (mut used, mut full) = (bytes.len(), false);
        if self.gunzip.is_some() {
            used = self.unpack(bytes);
        } else {
            self.decide(bytes);
            if self.array.is_some() {
                used = used.min(TEXT_BYTES);
                self.text.extend_from_slice(&bytes[..used]);
                self.split();
            } else {
                let last = self.body.is_done() && self.run == bytes.len();
                (used, full) = self.decode(bytes, last, tools, cx.now.wall_us, cx.refusals);
            }
        }
        wire.consume(used, cx.io);
        self.run = if self.ends_here { 0 } else { self.run - used };
        full
    }

    /// Makes text of packed bytes; returns how many it used.
    fn unpack(&mut self, bytes: &[u8]) -> usize {
        let Some(gunzip) = &mut self.gunzip else { return 0 };
        let used = gunzip.next(bytes, &mut self.text, TEXT_BYTES);
        let left = self.bytes_max - self.bytes;
        if self.text.len() as u64 > left {
            self.text.truncate(left as usize);
            self.too_large();
        }
        self.bytes += self.text.len() as u64;
        let stuck = matches!(used, Ok(0)) && self.text.is_empty();
        if let Err(what) = used {
            self.fail(Status::BadRequest, Reason::Decode, what);
        } else if stuck {
            self.fail(Status::BadRequest, Reason::Decode, "the gzip body is damaged");
        }
        self.ends_here |= self.fault.is_some();
        let text = std::mem::take(&mut self.text);
        self.decide(&text);
        self.text = text;
        self.split();
        used.unwrap_or(0)
    }

    /// Makes lines of an array's text.
    fn split(&mut self) {
        let Some(array) = &mut self.array else { return };
        if let Err(problem) = array.lines(&mut self.text) {
            self.text.truncate(problem.at);
            self.fail(Status::BadRequest, Reason::Decode, problem.what);
            self.ends_here = true;
        }
    }

    fn fail(&mut self, status: Status, reason: Reason, what: impl Into<String>) {
        self.fault.get_or_insert(Fault { status, reason, what: what.into() });
    }

    fn too_large(&mut self) {
        let what = format!("a body has at most {} bytes", self.bytes_max);
        self.fail(Status::TooLarge, Reason::TooLong, what);
    }

    /// The first character tells an array from a message.
    fn decide(&mut self, bytes: &[u8]) {
        if self.shape != Shape::Json {
            return;
        }
        let blank = |byte: &&u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match bytes.iter().find(blank) {
            None => {}
            Some(b'[') => {
                self.shape = Shape::Array;
                self.array = Some(Array::new());
            }
            Some(_) => {
                self.shape = Shape::Message;
                self.framer.reset_as(Framing::Whole);
            }
        }
    }

    /// Decodes plain text; `last` says that the body is no longer. Returns how
    /// much it took, and whether the slab is full.
    fn decode(
        &mut self,
        bytes: &[u8],
        last: bool,
        tools: &mut Tools<'_>,
        ts: i64,
        refusals: &mut dyn Refusals,
    ) -> (usize, bool) {
        match self.shape {
            // Nothing but blanks so far.
            Shape::Json => (bytes.len(), false),
            Shape::Message if last && self.message.is_empty() => {
                let fed = self.feed(bytes, tools, ts, refusals);
                (fed.consumed, fed.full)
            }
            Shape::Message => {
                // One more than is allowed, so that the decoder can tell.
                let room = (tools.decoding.frame_bytes() as usize + 1) - self.message.len();
                self.message.extend_from_slice(&bytes[..bytes.len().min(room)]);
                (bytes.len(), false)
            }
            Shape::Lines | Shape::Array => {
                let fed = self.feed(bytes, tools, ts, refusals);
                (fed.consumed, fed.full)
            }
        }
    }

    fn feed(
        &mut self,
        bytes: &[u8],
        tools: &mut Tools<'_>,
        ts: i64,
        refusals: &mut dyn Refusals,
    ) -> Progress {
        let before = self.tally.refused;
        let mut counting = Counting { inner: refusals, tally: &mut self.tally };
        let peer = tools.peer;
        let origin = Origin { name: &|| peer.to_owned(), refusals: &mut counting };
        let fed = tools.decoding.feed(&mut self.framer, bytes, tools.slab, ts, origin);
        self.count(fed.rows, before, tools.batch);
        fed
    }

    fn count(&mut self, rows: u64, refused_before: u64, batch: u64) {
        self.tally.rows += rows;
        if rows > 0 || self.tally.refused != refused_before {
            self.batch = batch;
        }
    }

    /// All of the body has come.
    fn finish(&mut self, tools: &mut Tools<'_>, cx: &mut Cx<'_>) -> Outcome {
        if self.gunzip.as_ref().is_some_and(|g| !g.is_done()) && self.received > 0 {
            return Outcome::Done(self.truncated("the gzip body ends early", tools, cx));
        }
        let ts = cx.now.wall_us;
        if !self.message.is_empty() {
            let message = std::mem::take(&mut self.message);
            let fed = self.feed(&message, tools, ts, cx.refusals);
            if fed.full {
                self.message = message;
                return Outcome::Full;
            }
        }
        let before = self.tally.refused;
        let mut counting = Counting { inner: cx.refusals, tally: &mut self.tally };
        let peer = tools.peer;
        let origin = Origin { name: &|| peer.to_owned(), refusals: &mut counting };
        let fed = tools.decoding.finish(&mut self.framer, tools.slab, ts, origin);
        self.count(fed.rows, before, tools.batch);
        if fed.full {
            return Outcome::Full;
        }
        if self.array.as_ref().is_some_and(|array| !array.is_whole()) {
            return Outcome::Done(self.truncated("the array is not closed", tools, cx));
        }
        Outcome::Done(self.answer(Status::BadRequest))
    }

    fn answer(&self, status: Status) -> Answer {
        let Tally { rows, refused, problem } = &self.tally;
        let (accepted, refused) = (*rows, *refused);
        match problem {
            None => Answer { status: Status::Ok, accepted, refused, text: String::new() },
            Some(problem) => {
                let text = format!(
                    "{problem}; what was refused is among the dead letters, the rest is in the \
                     flow: correct the messages and do not send this again"
                );
                Answer { status, accepted, refused, text }
            }
        }
    }

    /// The rest of the body is of no use.
    fn bad(&mut self, fault: Fault, tools: &Tools<'_>, cx: &mut Cx<'_>) -> Answer {
        self.refuse(fault.reason, &fault.what, tools.peer, cx.refusals);
        self.batch = tools.batch;
        self.answer(fault.status)
    }

    fn truncated(&mut self, what: &str, tools: &Tools<'_>, cx: &mut Cx<'_>) -> Answer {
        let (status, reason) = (Status::BadRequest, Reason::Truncated);
        self.bad(Fault { status, reason, what: what.to_owned() }, tools, cx)
    }

    /// Reports what has come of a message that is given up.
    fn refuse(&mut self, reason: Reason, what: &str, peer: &str, refusals: &mut dyn Refusals) {
        let mut counting = Counting { inner: refusals, tally: &mut self.tally };
        counting.bytes(reason, what, peer, self.framer.offset(), &self.message);
        self.message = Vec::new();
        self.framer.reset();
    }

    /// The request will not be answered: what there is of its last message is
    /// refused. True when there was something.
    pub(super) fn abandon(
        &mut self,
        reason: Reason,
        why: &str,
        peer: &str,
        refusals: &mut dyn Refusals,
    ) -> bool {
        let partial = self.framer.carry_bytes() > 0 || !self.message.is_empty();
        if partial {
            self.refuse(reason, why, peer, refusals);
        }
        partial
    }
}
