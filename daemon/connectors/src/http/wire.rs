//! A connection as a protocol of requests and answers sees it: bytes that
//! have come, in order, plain; and bytes that are to go.
//!
//! What has come stays in the receive buffers until it is consumed, so a
//! reader that stops stops the peer. A reader that must stop for long, and
//! shares its buffers with others, puts them aside with [`Wire::hold`]: then
//! the bytes are copied and no more are received. One write is under way at a
//! time.

use std::collections::VecDeque;

use ringmain_runtime::io::{Group, Handle, Io, Lease, OpId};

use crate::tls::{Session, TlsError};

/// Bytes that are decrypted at once: little more than that is kept plain.
const PIECE_BYTES: usize = 4 << 10;
/// Buffers that grew beyond this are not kept.
const KEPT_BYTES: usize = 16 << 10;

enum Piece {
    Lent(Lease),
    Held(Vec<u8>),
}

pub(crate) struct Wire {
    handle: Handle,
    op: OpId,
    group: Group,
    tls: Option<Session>,
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are used.
    from: usize,
    plain: Vec<u8>,
    plain_from: usize,
    out: Vec<u8>,
    writing: bool,
    receiving: bool,
    /// Receiving was stopped by this side, to go on.
    paused: bool,
    closed: bool,
    /// The peer sends no more.
    ended: bool,
}

impl Wire {
    /// A connection that is received from under the id `op`, and written to
    /// under the next tag.
    pub(crate) fn new(handle: Handle, tls: Option<Session>, op: OpId, group: Group) -> Self {
        Self {
            handle,
            op,
            group,
            tls,
            pieces: VecDeque::new(),
            from: 0,
            plain: Vec::new(),
            plain_from: 0,
            out: Vec::new(),
            writing: false,
            receiving: false,
            paused: false,
            closed: false,
            ended: false,
        }
    }

    /// Receiving can be cancelled without the write under way.
    fn write_op(&self) -> OpId {
        OpId { tag: self.op.tag + 1, ..self.op }
    }

    /// Begins to receive, or goes on.
    pub(crate) fn receive(&mut self, io: &mut dyn Io) {
        if !self.receiving && !self.closed && !self.ended {
            self.receiving = true;
            self.paused = false;
            io.receive(self.handle, self.group, self.op);
        }
    }

    pub(crate) fn received(&mut self, lease: Lease, io: &mut dyn Io) {
        if self.closed || lease.is_empty() {
            return io.release(lease);
        }
        self.pieces.push_back(Piece::Lent(lease));
    }

    /// Receiving has ended: with `eof` the peer has sent everything.
    pub(crate) fn stopped(&mut self, eof: bool) {
        self.receiving = false;
        self.ended |= eof || !self.paused;
    }

    /// Makes bytes readable, if there are any.
    pub(crate) fn fill(&mut self, io: &mut dyn Io) -> Result<(), TlsError> {
        while self.tls.is_some() && self.plain_from == self.plain.len() && !self.pieces.is_empty() {
            self.plain.clear();
            self.plain_from = 0;
            let Some(tls) = &mut self.tls else { return Ok(()) };
            let piece = raw(&self.pieces, self.from, io);
            let piece = &piece[..piece.len().min(PIECE_BYTES)];
            let used = piece.len();
            let received = tls.receive(piece, &mut self.plain);
            self.ended |= tls.is_peer_closed();
            self.use_raw(used, io);
            received?;
        }
        Ok(())
    }

    /// What has come and is not consumed, as far as it lies together. With
    /// TLS only what [`Wire::fill`] made readable.
    pub(crate) fn bytes<'a>(&'a self, io: &'a dyn Io) -> &'a [u8] {
        match &self.tls {
            Some(_) => &self.plain[self.plain_from..],
            None => raw(&self.pieces, self.from, io),
        }
    }

    /// So many bytes of [`Wire::bytes`] are not needed any more.
    pub(crate) fn consume(&mut self, bytes: usize, io: &mut dyn Io) {
        if self.tls.is_none() {
            return self.use_raw(bytes, io);
        }
        self.plain_from += bytes;
        if self.plain_from == self.plain.len() && self.plain.capacity() > 2 * KEPT_BYTES {
            self.plain = Vec::new();
            self.plain_from = 0;
        }
    }

    fn use_raw(&mut self, bytes: usize, io: &mut dyn Io) {
        self.from += bytes;
        let len = match self.pieces.front() {
            Some(Piece::Lent(lease)) => lease.len(),
            Some(Piece::Held(held)) => held.len(),
            None => return,
        };
        if self.from >= len {
            self.from = 0;
            if let Some(Piece::Lent(lease)) = self.pieces.pop_front() {
                io.release(lease);
            }
        }
    }

    /// Something may be readable.
    pub(crate) fn has_bytes(&self) -> bool {
        self.plain_from < self.plain.len() || !self.pieces.is_empty()
    }

    /// Puts what has come aside, and receives no more when it is over `limit`
    /// bytes.
    pub(crate) fn hold(&mut self, limit: usize, io: &mut dyn Io) {
        for at in 0..self.pieces.len() {
            if let Piece::Lent(lease) = &self.pieces[at] {
                let held = Piece::Held(io.bytes(lease).to_vec());
                if let Piece::Lent(lease) = std::mem::replace(&mut self.pieces[at], held) {
                    io.release(lease);
                }
            }
        }
        if self.held_bytes() > limit && self.receiving && !self.paused {
            self.paused = true;
            io.cancel(self.op);
        }
    }

    /// Bytes that were put aside.
    pub(crate) fn held_bytes(&self) -> usize {
        let held = |piece: &Piece| match piece {
            Piece::Held(held) => held.len(),
            Piece::Lent(_) => 0,
        };
        self.pieces.iter().map(held).sum()
    }

    /// Where bytes that are to go are appended; [`Wire::flush`] sends them.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Sends what is to go, if no write is under way.
    pub(crate) fn flush(&mut self, io: &mut dyn Io) {
        if self.writing || self.closed {
            return;
        }
        let wire = match &mut self.tls {
            None => std::mem::take(&mut self.out),
            Some(tls) => {
                let mut wire = Vec::new();
                tls.output(&mut wire);
                if tls.is_ready() && !self.out.is_empty() {
                    tls.send(&self.out, &mut wire);
                    self.out.clear();
                }
                wire
            }
        };
        if !wire.is_empty() {
            self.writing = true;
            io.write(self.handle, wire, None, self.write_op());
        }
    }

    /// A write has ended; its buffer is used again.
    pub(crate) fn written(&mut self, mut buf: Vec<u8>) {
        self.writing = false;
        if self.tls.is_none() && self.out.is_empty() && buf.capacity() <= KEPT_BYTES {
            buf.clear();
            self.out = buf;
        }
    }

    /// With TLS: says that nothing more comes. To be flushed.
    pub(crate) fn say_close(&mut self, io: &mut dyn Io) {
        self.flush(io);
        if let Some(tls) = self.tls.as_mut().filter(|_| !self.writing && !self.closed) {
            let mut wire = Vec::new();
            tls.close(&mut wire);
            if !wire.is_empty() {
                self.writing = true;
                io.write(self.handle, wire, None, self.write_op());
            }
        }
    }

    /// Tells the peer that nothing more comes, while this side still reads.
    pub(crate) fn shut(&self, io: &dyn Io) {
        if let Some(socket) = io.descriptor(self.handle) {
            // Closing says the same; this only says it first.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
        }
    }

    /// Ends everything; the last events are still to come.
    pub(crate) fn close(&mut self, io: &mut dyn Io) {
        for piece in self.pieces.drain(..) {
            if let Piece::Lent(lease) = piece {
                io.release(lease);
            }
        }
        self.from = 0;
        self.plain = Vec::new();
        self.plain_from = 0;
        self.out = Vec::new();
        if !self.closed {
            self.closed = true;
            io.close(self.handle);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Closed, and every event has come.
    pub(crate) fn is_quiet(&self) -> bool {
        self.closed && !self.receiving && !self.writing
    }

    /// Bytes are on their way out, or are to go.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing || !self.out.is_empty()
    }

    /// The peer sends no more than what has come.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The handshake is over, if there is one.
    pub(crate) fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(Session::is_ready)
    }
}

fn raw<'a>(pieces: &'a VecDeque<Piece>, from: usize, io: &'a dyn Io) -> &'a [u8] {
    match pieces.front() {
        Some(Piece::Lent(lease)) => &io.bytes(lease)[from..],
        Some(Piece::Held(held)) => &held[from..],
        None => &[],
    }
}
