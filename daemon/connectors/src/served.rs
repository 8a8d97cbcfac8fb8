//! A source of connections that others open, whatever the family of address.
//!
//! Bound: `connections_max`. When so many are open, no more are accepted; they
//! wait in the kernel's queue. Those that were accepted before the kernel
//! learned of it are kept aside until there is room, at most as many as that
//! queue holds.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use ringmain_runtime::io::{EventKind, Handle, OpId, Peer};
use ringmain_slab::Slab;

use crate::{ConnectorError, Cx, Health, Pull, Source};

/// Connections that the kernel keeps until they are accepted.
pub(crate) const BACKLOG: i32 = 1024;
/// Wait after accepting failed (out of descriptors).
const ACCEPT_AGAIN_US: u64 = 100_000;
const ACCEPT_TAG: u32 = 0;
/// Tags of streams.
pub(crate) const FIRST_TAG: u32 = 1;

/// Where a source listens.
pub(crate) trait Bind {
    /// The key that names the address.
    const KEY: &'static str;

    /// A listening socket.
    fn bind(&mut self) -> Result<OwnedFd, ConnectorError>;

    /// The source has ended.
    fn unbind(&mut self) {}
}

/// What is done with connections. Their tags begin at [`FIRST_TAG`].
pub(crate) trait Serve {
    /// Makes room for what will be received. `key` names the address.
    fn open(&mut self, key: &'static str, cx: &mut Cx<'_>) -> Result<(), ConnectorError>;

    /// A connection was accepted.
    fn add(&mut self, handle: Handle, peer: Peer, cx: &mut Cx<'_>);

    /// Connections that are open or have something left.
    fn len(&self) -> usize;

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>);

    /// Decodes what has been received; never [`Pull::Ended`].
    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull;

    /// When it wants to be polled though nothing comes.
    fn wake_at_us(&self) -> Option<u64> {
        None
    }

    /// Receives nothing more; what has been received is still decoded.
    fn stop(&mut self, cx: &mut Cx<'_>);

    /// There is nothing left for the decoder, and there will not be.
    fn is_read(&self) -> bool;

    /// Gives back what is not needed any more: it is drained.
    fn close(&mut self, cx: &mut Cx<'_>);

    /// Peers are told when their messages are accepted.
    fn has_acks(&self) -> bool;

    /// With [`Serve::has_acks`]: the last poll was a batch, or was not.
    fn polled(&mut self, is_batch: bool, cx: &mut Cx<'_>);

    /// See [`Source::accepted`].
    fn accepted(&mut self, batch: u64, cx: &mut Cx<'_>);

    /// Nothing that a peer must be told is on its way there.
    fn is_told(&self) -> bool;
}

pub(crate) struct Served<B, S> {
    bind: B,
    streams: S,
    connections_max: usize,
    listener: Option<Handle>,
    accepting: bool,
    accept_at_us: Option<u64>,
    waiting: VecDeque<(Handle, Peer)>,
    trouble: Option<String>,
    stopped: bool,
}

impl<B: Bind, S: Serve> Served<B, S> {
    pub(crate) fn new(bind: B, streams: S, connections_max: u32) -> Self {
        Self {
            bind,
            streams,
            connections_max: connections_max.max(1) as usize,
            listener: None,
            accepting: false,
            accept_at_us: None,
            waiting: VecDeque::new(),
            trouble: None,
            stopped: false,
        }
    }

    fn is_full(&self) -> bool {
        self.streams.len() >= self.connections_max
    }

    /// Takes in who waits, and goes on accepting when there is room.
    fn admit(&mut self, cx: &mut Cx<'_>) {
        while !self.is_full()
            && let Some((handle, peer)) = self.waiting.pop_front()
        {
            self.streams.add(handle, peer, cx);
        }
        let op = OpId { owner: cx.owner, tag: ACCEPT_TAG };
        let Some(listener) = self.listener else { return };
        if self.is_full() {
            if self.accepting && self.trouble.is_none() {
                self.trouble = Some(format!(
                    "{} connections are open (connections_max); more wait",
                    self.connections_max
                ));
                cx.io.cancel(op);
            }
        } else if !self.accepting && self.accept_at_us.is_none_or(|at| cx.now.mono_us >= at) {
            self.accept_at_us = None;
            self.trouble = None;
            self.accepting = true;
            cx.io.accept(listener, op);
        }
    }

    fn accept_failed(&mut self, error: &std::io::Error, now_us: u64) {
        self.accepting = false;
        if error.raw_os_error() != Some(rustix::io::Errno::CANCELED.raw_os_error()) {
            self.accept_at_us = Some(now_us + ACCEPT_AGAIN_US);
            self.trouble = Some(format!("cannot accept connections: {error}; trying again"));
        }
    }
}

impl<B: Bind, S: Serve> Source for Served<B, S> {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        let socket = self.bind.bind()?;
        self.streams.open(B::KEY, cx)?;
        let listener = cx.io.adopt(socket);
        self.listener =
            Some(listener.map_err(|error| ConnectorError::io(B::KEY, "listener", &error))?);
        self.admit(cx);
        Ok(())
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        if tag != ACCEPT_TAG {
            return self.streams.on_event(tag, event, cx);
        }
        match event {
            EventKind::Accepted { handle, peer } if self.stopped => {
                let _ = peer;
                cx.io.close(handle);
            }
            EventKind::Accepted { handle, peer } => {
                self.waiting.push_back((handle, peer));
                self.admit(cx);
            }
            EventKind::Failed { error } => self.accept_failed(&error, cx.now.mono_us),
            _ => {}
        }
    }

    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        let pull = self.streams.poll(slab, cx);
        if !self.stopped {
            self.admit(cx);
        } else if pull == Pull::Idle && self.streams.is_read() {
            self.streams.close(cx);
            return Pull::Ended;
        }
        pull
    }

    fn wants_acks(&self) -> bool {
        self.streams.has_acks()
    }

    fn polled(&mut self, is_batch: bool, cx: &mut Cx<'_>) {
        self.streams.polled(is_batch, cx);
    }

    fn accepted(&mut self, batch: u64, cx: &mut Cx<'_>) {
        self.streams.accepted(batch, cx);
    }

    fn is_idle(&self) -> bool {
        self.streams.is_told()
    }

    fn wake_at_us(&self) -> Option<u64> {
        let accept_at_us = self.accept_at_us.filter(|_| !self.stopped);
        [accept_at_us, self.streams.wake_at_us()].into_iter().flatten().min()
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        self.stopped = true;
        for (handle, _) in self.waiting.drain(..) {
            cx.io.close(handle);
        }
        if let Some(listener) = self.listener.take() {
            cx.io.close(listener);
            self.bind.unbind();
        }
        self.streams.stop(cx);
    }

    fn health(&self) -> Health {
        self.trouble.clone().map_or(Health::Good, Health::Retrying)
    }
}
