//! The encrypted side of one stream of a source: bytes of the wire become
//! plaintext for the decoder, and what the protocol answers is written.
//!
//! The handshake goes on when bytes come, also while the flow takes no
//! messages; what comes behind it waits, still encrypted, for the decoder.

use ringmain_runtime::io::{Handle, Io, OpId};

use super::{Session, TlsError};

/// Pieces in which bytes are looked at during the handshake, so that little
/// of what comes behind it is decrypted early.
const PIECE_BYTES: usize = 512;

pub(crate) struct Inbound {
    session: Session,
    plain: Vec<u8>,
    /// Bytes of `plain` that are decoded.
    from: usize,
    /// Encrypted, and not written yet.
    said: Vec<u8>,
    writing: bool,
    closing: bool,
    failed: bool,
}

impl Inbound {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            plain: Vec::new(),
            from: 0,
            said: Vec::new(),
            writing: false,
            closing: false,
            failed: false,
        }
    }

    /// Takes as many bytes as the handshake needs; returns how many.
    pub(crate) fn shake(&mut self, wire: &[u8]) -> Result<usize, TlsError> {
        let mut taken = 0;
        while !self.session.is_ready() && taken < wire.len() {
            let piece = &wire[taken..wire.len().min(taken + PIECE_BYTES)];
            taken += piece.len();
            let received = self.session.receive(piece, &mut self.plain);
            received.inspect_err(|_| self.failed = true)?;
        }
        Ok(taken)
    }

    /// Decrypts everything; only when [`Inbound::rest`] is empty. `spare` is
    /// memory to do it in.
    pub(crate) fn receive(&mut self, wire: &[u8], spare: &mut Vec<u8>) -> Result<(), TlsError> {
        debug_assert!(self.rest().is_empty(), "the plaintext before it is decoded");
        std::mem::swap(&mut self.plain, spare);
        self.plain.clear();
        self.from = 0;
        self.session.receive(wire, &mut self.plain).inspect_err(|_| self.failed = true)
    }

    /// Plaintext that is not decoded.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.plain[self.from..]
    }

    /// So many bytes of the rest are decoded; memory that is not needed any
    /// more goes to `spare`.
    pub(crate) fn consume(&mut self, bytes: usize, spare: &mut Vec<u8>) {
        self.from += bytes;
        if self.from >= self.plain.len() {
            std::mem::swap(&mut self.plain, spare);
            self.plain = Vec::new();
            self.from = 0;
        }
    }

    /// Encrypts a word for the peer; it goes out with the next answer.
    pub(crate) fn say(&mut self, plain: &[u8]) {
        self.session.send(plain, &mut self.said);
    }

    /// Writes what the protocol has to say, if no write is under way. When
    /// the peer has closed, so does this side: true once that is said.
    pub(crate) fn answer(&mut self, handle: Handle, op: OpId, io: &mut dyn Io) -> bool {
        if self.writing {
            return false;
        }
        if self.closing {
            return true;
        }
        let mut wire = std::mem::take(&mut self.said);
        if self.session.is_peer_closed() {
            self.session.close(&mut wire);
            self.closing = true;
        } else {
            self.session.output(&mut wire);
            self.closing = self.failed;
        }
        self.writing = !wire.is_empty();
        if self.writing {
            io.write(handle, wire, None, op);
        }
        self.closing && !self.writing
    }

    /// The write has ended.
    pub(crate) fn written(&mut self) {
        self.writing = false;
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.session.is_ready()
    }

    pub(crate) fn is_peer_closed(&self) -> bool {
        self.session.is_peer_closed()
    }
}
