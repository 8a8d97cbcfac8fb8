//! The encrypted side of a sink's connection. Buffers are encrypted when they
//! are written, and kept as they were until the write has ended: what a
//! connection did not take goes out again on the next, encrypted anew.

use std::collections::VecDeque;

use ringmain_runtime::io::{Handle, Io, OpId};

use super::{Client, Session, TlsError};

pub(crate) struct Outbound {
    client: Client,
    session: Option<Session>,
    /// What the writes under way carry.
    plain: VecDeque<Vec<u8>>,
    scratch: Vec<u8>,
    /// The tag of writes of the protocol's own.
    tag: u32,
    writing: bool,
    /// The other side has said something after its handshake.
    heard: bool,
}

impl Outbound {
    pub(crate) fn new(client: Client, tag: u32) -> Self {
        let (plain, scratch) = (VecDeque::new(), Vec::new());
        Self { client, session: None, plain, scratch, tag, writing: false, heard: false }
    }

    /// A new connection.
    pub(crate) fn begin(&mut self) -> Result<(), TlsError> {
        self.session = Some(self.client.session()?);
        self.heard = false;
        Ok(())
    }

    /// Bytes came: they only matter to the protocol.
    pub(crate) fn receive(&mut self, wire: &[u8]) -> Result<(), TlsError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        self.scratch.clear();
        let ready = session.is_ready();
        session.receive(wire, &mut self.scratch)?;
        self.heard |= ready;
        Ok(())
    }

    /// What came with the last [`Outbound::receive`], decrypted.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.scratch
    }

    /// Writes what the protocol has to say.
    pub(crate) fn answer(&mut self, handle: Handle, owner: u32, io: &mut dyn Io) {
        let Some(session) = self.session.as_mut().filter(|_| !self.writing) else { return };
        let mut wire = Vec::new();
        session.output(&mut wire);
        self.put(wire, handle, owner, io);
    }

    /// Says that nothing more comes.
    pub(crate) fn close(&mut self, handle: Handle, owner: u32, io: &mut dyn Io) {
        let Some(session) = self.session.as_mut().filter(|_| !self.writing) else { return };
        let mut wire = Vec::new();
        session.close(&mut wire);
        self.put(wire, handle, owner, io);
    }

    fn put(&mut self, wire: Vec<u8>, handle: Handle, owner: u32, io: &mut dyn Io) {
        self.writing = !wire.is_empty();
        if self.writing {
            io.write(handle, wire, None, OpId { owner, tag: self.tag });
        }
    }

    /// Encrypts a buffer for one write and keeps it.
    pub(crate) fn encrypt(&mut self, plain: Vec<u8>) -> Vec<u8> {
        let mut wire = Vec::new();
        if let Some(session) = &mut self.session {
            session.send(&plain, &mut wire);
        }
        self.plain.push_back(plain);
        wire
    }

    /// The oldest write of a buffer has ended: the buffer.
    pub(crate) fn returned(&mut self) -> Vec<u8> {
        self.plain.pop_front().unwrap_or_default()
    }

    /// A write of the protocol's own has ended.
    pub(crate) fn written(&mut self) {
        self.writing = false;
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_ready)
    }

    /// The other side is known to believe this one. In TLS 1.3 its refusal of
    /// our certificate, or of our having none, comes after the handshake; what
    /// was sent meanwhile would be lost. Most servers send tickets then, which
    /// settles it.
    pub(crate) fn is_believed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| self.heard || session.is_settled())
    }
}
