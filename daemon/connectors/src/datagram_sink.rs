//! A sink of datagrams, one for each row, whatever the family of address.
//!
//! Accepted means that the kernel took it. A datagram that the other side's
//! machine answers with "nobody listens" is sent again with growing waits; one
//! that the way there does not take in its length is refused. Bounds: `buffer`
//! bytes, one batch is with the kernel.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use ringmain_base::Reason;
use ringmain_config::plan::RetryPlan;
use ringmain_runtime::io::{EventKind, Handle, OpId};
use ringmain_slab::Slab;

use crate::encode::Encoding;
use crate::outbuf::{Buf, Room};
use crate::retry::{Next, Retry};
use crate::{ConnectorError, Cx, Health, Sink};

const CHUNK_BYTES: usize = 128 << 10;
const SEND_TAG: u32 = 0;

/// Where datagrams are sent to.
pub(crate) trait Aim {
    /// Looks the address up.
    fn open(&mut self) -> Result<(), ConnectorError>;

    /// A connected datagram socket. Does not block.
    fn socket(&mut self) -> io::Result<OwnedFd>;

    /// What to call the other side.
    fn name(&self) -> &str;
}

/// Datagrams with their ends.
struct Batch {
    buf: Buf,
    ends: Vec<u32>,
}

pub(crate) struct DatagramSink<A> {
    aim: A,
    encoding: Encoding,
    room: Room,
    /// Longest datagram.
    bytes_max: usize,
    handle: Option<Handle>,
    filling: Option<Batch>,
    sealed: VecDeque<Batch>,
    /// First slab and ends of the batch that the kernel has.
    flight: Option<(u64, Vec<u32>)>,
    retry: Retry,
    /// The last attempt failed.
    waiting: bool,
    trouble: Option<String>,
    finishing: bool,
}

impl<A: Aim> DatagramSink<A> {
    pub(crate) fn new(
        aim: A,
        encoding: Encoding,
        buffer_bytes: u64,
        bytes_max: usize,
        retry: &RetryPlan,
        seed: u64,
    ) -> Self {
        Self {
            aim,
            encoding,
            room: Room::new(buffer_bytes, CHUNK_BYTES),
            bytes_max,
            handle: None,
            filling: None,
            sealed: VecDeque::new(),
            flight: None,
            retry: Retry::new(retry, seed),
            waiting: false,
            trouble: None,
            finishing: false,
        }
    }

    fn push_row(&mut self, slab: &Slab, at: usize, cx: &mut Cx<'_>) {
        let row = slab.row(at);
        let room = &mut self.room;
        let new = || Batch { buf: room.take(), ends: Vec::new() };
        let batch = self.filling.get_or_insert_with(new);
        let out = &mut batch.buf.bytes;
        let before = out.len();
        if !self.encoding.row(row, out, cx.refusals) {
            return;
        }
        let bytes = out.len() - before;
        if bytes > self.bytes_max {
            out.truncate(before);
            let detail = format!("{bytes} B; a datagram holds {} B at most", self.bytes_max);
            cx.refusals.row(Reason::TooLong, &detail, row);
            return;
        }
        if before == 0 {
            batch.buf.first_slab = self.room.slab();
        }
        self.room.add(bytes);
        batch.ends.push(batch.buf.bytes.len() as u32);
        if batch.buf.bytes.len() >= self.room.chunk_bytes() {
            self.sealed.extend(self.filling.take());
        }
    }

    fn submit(&mut self, cx: &mut Cx<'_>) {
        if self.flight.is_some() || self.waiting {
            return;
        }
        if self.sealed.is_empty() {
            let filled = self.filling.take_if(|batch| !batch.ends.is_empty());
            self.sealed.extend(filled);
        }
        if self.sealed.is_empty() {
            return;
        }
        let handle = match self.handle {
            Some(handle) => handle,
            None => match self.aim.socket().and_then(|socket| cx.io.adopt(socket)) {
                Ok(handle) => *self.handle.insert(handle),
                Err(error) => return self.fail(&error, cx),
            },
        };
        if let Some(batch) = self.sealed.pop_front() {
            self.flight = Some((batch.buf.first_slab, batch.ends.clone()));
            let op = OpId { owner: cx.owner, tag: SEND_TAG };
            cx.io.send_datagrams(handle, batch.buf.bytes, batch.ends, op);
        }
    }

    fn fail(&mut self, error: &io::Error, cx: &mut Cx<'_>) {
        // A socket of the file system that was made anew needs a new
        // connection.
        if let Some(handle) = self.handle.take() {
            cx.io.close(handle);
        }
        let next = self.retry.failed(!self.is_empty(), cx.now.mono_us);
        self.waiting = true;
        let trouble = format!("{}: {error}; {}", self.aim.name(), self.retry.describe());
        if next == Next::GiveUp {
            self.give_up(&trouble, cx);
        }
        self.trouble = Some(trouble);
    }

    /// Refuses every datagram that waits.
    fn give_up(&mut self, why: &str, cx: &mut Cx<'_>) {
        for batch in self.sealed.drain(..).chain(self.filling.take()) {
            let mut start = 0;
            for end in &batch.ends {
                let end = *end as usize;
                let datagram = &batch.buf.bytes[start..end];
                cx.refusals.bytes(Reason::Undelivered, why, "", 0, datagram);
                start = end;
            }
            self.room.give_back(batch.buf.bytes);
        }
    }

    fn sent(&mut self, bytes: Vec<u8>, written: usize, result: io::Result<()>, cx: &mut Cx<'_>) {
        let Some((first_slab, ends)) = self.flight.take() else { return };
        *cx.bytes += written as u64;
        let Err(error) = result else {
            self.room.give_back(bytes);
            self.retry.worked();
            self.trouble = None;
            return;
        };
        let mut batch = Batch { buf: Buf { bytes, first_slab }, ends };
        self.drop_front(&mut batch, written);
        let too_long = error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error());
        if too_long {
            self.refuse_first(&mut batch, cx);
        }
        if batch.ends.is_empty() {
            self.room.give_back(batch.buf.bytes);
        } else {
            self.sealed.push_front(batch);
        }
        if !too_long {
            self.fail(&error, cx);
        }
    }

    /// Takes away what is done with.
    fn drop_front(&mut self, batch: &mut Batch, bytes: usize) {
        batch.buf.bytes.drain(..bytes);
        self.room.sub(bytes);
        batch.ends.retain(|end| *end as usize > bytes);
        for end in &mut batch.ends {
            *end -= bytes as u32;
        }
    }

    fn refuse_first(&mut self, batch: &mut Batch, cx: &mut Cx<'_>) {
        let Some(end) = batch.ends.first().map(|end| *end as usize) else { return };
        let detail = format!("{end} B are too long for a datagram to there");
        let datagram = &batch.buf.bytes[..end];
        cx.refusals.bytes(Reason::TooLong, &detail, self.aim.name(), 0, datagram);
        self.drop_front(batch, end);
    }

    fn is_empty(&self) -> bool {
        let filled = self.filling.as_ref().is_some_and(|batch| !batch.ends.is_empty());
        !filled && self.sealed.is_empty() && self.flight.is_none()
    }
}

impl<A: Aim> Sink for DatagramSink<A> {
    fn open(&mut self, _: &mut Cx<'_>) -> Result<(), ConnectorError> {
        self.aim.open()
    }

    fn on_event(&mut self, _: u32, event: EventKind, cx: &mut Cx<'_>) {
        if let EventKind::Written { buf, written, result } = event {
            self.sent(buf, written, result, cx);
            if !self.sealed.is_empty() {
                self.submit(cx);
            }
        }
    }

    fn push(&mut self, slab: &Slab, from: usize, cx: &mut Cx<'_>) -> usize {
        let mut at = from;
        while at < slab.len() && self.room.is_open() {
            self.push_row(slab, at, cx);
            at += 1;
        }
        if !self.sealed.is_empty() {
            self.submit(cx);
        }
        at - from
    }

    fn slab_end(&mut self) {
        self.room.slab_end();
    }

    fn finished(&self) -> u64 {
        let filling = self.filling.iter().filter(|batch| !batch.ends.is_empty());
        let bufs = self.sealed.iter().chain(filling).map(|batch| batch.buf.first_slab);
        self.room.finished(bufs.chain(self.flight.iter().map(|(slab, _)| *slab)).min())
    }

    fn poll(&mut self, cx: &mut Cx<'_>) {
        if self.waiting && self.retry.begin(cx.now.mono_us) {
            self.waiting = false;
        }
        self.submit(cx);
        if self.finishing
            && self.is_empty()
            && let Some(handle) = self.handle.take()
        {
            cx.io.close(handle);
        }
    }

    fn wake_at_us(&self) -> Option<u64> {
        let more = !self.is_empty() && self.flight.is_none();
        if self.waiting { Some(self.retry.wake_at_us()) } else { more.then_some(0) }
    }

    fn flush(&mut self, last: bool, cx: &mut Cx<'_>) {
        self.finishing |= last;
        self.poll(cx);
    }

    fn is_idle(&self) -> bool {
        self.is_empty()
    }

    fn health(&self) -> Health {
        self.trouble.clone().map_or(Health::Good, Health::Retrying)
    }
}
