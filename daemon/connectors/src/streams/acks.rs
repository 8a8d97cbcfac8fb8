//! Telling peers how many of their lines are accepted ([`crate::line_acks`]).
//!
//! Bound: one entry for each stream of each batch that is not accepted yet;
//! one answer per stream is being written, the next says what has come since.

use std::collections::VecDeque;

use super::{End, Stream, Streams};
use crate::Cx;

/// Lines that are in batches and not known to be accepted.
#[derive(Default)]
pub(super) struct Acks {
    /// The last batch that was given out.
    batch: u64,
    accepted: u64,
    /// Batch, stream, its number, and its lines up to there; batches rise.
    waiting: VecDeque<(u64, usize, u64, u64)>,
    /// Streams that the poll under way has read from.
    touched: Vec<(usize, u64, u64)>,
}

/// What the peer of one stream knows.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Lines that were decoded, accepted, and told.
    seen: u64,
    accepted: u64,
    told: u64,
    writing: bool,
    /// It cannot be told any more.
    deaf: bool,
}

impl Told {
    pub(super) fn count(&mut self, bytes: &[u8]) {
        self.seen += memchr::memchr_iter(b'\n', bytes).count() as u64;
    }

    /// A last line without line feed.
    pub(super) fn last(&mut self, is_line: bool) {
        self.seen += u64::from(is_line);
    }

    pub(super) fn written(&mut self, good: bool) {
        self.writing = false;
        self.deaf |= !good;
    }
}

impl Stream {
    /// Its peer waits to be told of lines.
    pub(super) fn is_owed(&self) -> bool {
        let listens = matches!(self.end, None | Some(End::Closed | End::Stopped));
        listens && !self.told.deaf && (self.told.told < self.told.seen || self.told.writing)
    }
}

impl Streams {
    /// A stream was read from.
    pub(super) fn note(&mut self, stream: &Stream) {
        let at = (stream.tag - self.first_tag) as usize;
        let Some(acks) = &mut self.acks else { return };
        match acks.touched.last_mut().filter(|(last, ..)| *last == at) {
            Some((.., seen)) => *seen = stream.told.seen,
            None => acks.touched.push((at, stream.number, stream.told.seen)),
        }
    }

    /// A poll is over; `is_batch` when it gave something out.
    pub(crate) fn polled(&mut self, is_batch: bool, cx: &mut Cx<'_>) {
        let Some(acks) = &mut self.acks else { return };
        acks.batch += u64::from(is_batch);
        let batch = acks.batch;
        let touched = acks.touched.drain(..);
        acks.waiting.extend(touched.map(|(at, number, seen)| (batch, at, number, seen)));
        let accepted = acks.accepted;
        self.accepted(accepted, cx);
    }

    /// Everything up to this batch is accepted.
    pub(crate) fn accepted(&mut self, batch: u64, cx: &mut Cx<'_>) {
        let Some(acks) = &mut self.acks else { return };
        acks.accepted = batch;
        while let Some(acks) = &mut self.acks
            && acks.waiting.front().is_some_and(|(of, ..)| *of <= batch)
            && let Some((_, at, number, lines)) = acks.waiting.pop_front()
        {
            let stream = self.streams[at].as_mut().filter(|stream| stream.number == number);
            if let Some(stream) = stream {
                stream.told.accepted = lines;
                self.tell(at, cx);
            }
        }
    }

    /// Whether polls are to say whether they were batches.
    pub(crate) fn has_acks(&self) -> bool {
        self.acks.is_some()
    }

    /// No peer waits to be told of anything.
    pub(crate) fn is_told(&self) -> bool {
        self.acks.is_none() || !self.streams.iter().flatten().any(Stream::is_owed)
    }

    /// Tells a peer what is new, and lets go of it when that was the last.
    pub(super) fn tell(&mut self, at: usize, cx: &mut Cx<'_>) {
        if self.acks.is_none() {
            return;
        }
        let op = self.write_op(at, cx.owner);
        let Some(stream) = self.streams[at].as_mut() else { return };
        let told = &mut stream.told;
        let listens = matches!(stream.end, None | Some(End::Closed | End::Stopped));
        if listens && !told.writing && !told.deaf && told.told < told.accepted {
            told.told = told.accepted;
            let text = format!("{}\n", told.told);
            match &mut stream.tls {
                None => {
                    told.writing = true;
                    cx.io.write(stream.handle, text.into_bytes(), None, op);
                }
                Some(tls) => {
                    tls.say(text.as_bytes());
                    tls.answer(stream.handle, op, cx.io);
                }
            }
        }
        // An end that has not been looked at may make a message of its own.
        if stream.receiving || stream.is_owed() || stream.queued {
            return;
        }
        let writing = stream.tls.as_ref().is_some_and(|tls| tls.is_writing());
        let held = stream.tls.as_ref().is_some_and(|tls| !tls.rest().is_empty());
        if !writing && !held && stream.chunks.is_empty() {
            cx.io.close(stream.handle);
            self.carried_bytes -= stream.framer.carry_bytes();
            self.streams[at] = None;
            self.free.push(at);
        }
    }
}
