//! Datagrams of a source: what has been received and not decoded.
//!
//! Bounds: the group's buffers ([`BUFFERS`] of [`BUFFER_BYTES`], the longest
//! datagram). When they are on loan, datagrams wait in the kernel's receive
//! buffer, and what does not fit there the kernel drops: that is what datagrams
//! are.

use std::collections::VecDeque;

use ringmain_base::Reason;
use ringmain_codec::{Framer, Framing};
use ringmain_runtime::io::{EventKind, Group, Handle, Lease, OpId, Peer};
use ringmain_slab::Slab;

use crate::decode::{Decoding, Origin};
use crate::{ConnectorError, Cx, Pull};

pub(crate) const BUFFERS: u16 = 32;
pub(crate) const BUFFER_BYTES: u32 = 64 << 10;
const RECEIVE_TAG: u32 = 0;
/// Wait after receiving failed.
const AGAIN_US: u64 = 100_000;

pub(crate) struct Packets {
    decoding: Decoding,
    framer: Framer,
    group: Option<Group>,
    handle: Option<Handle>,
    queue: VecDeque<Packet>,
    receiving: bool,
    again_us: Option<u64>,
    trouble: Option<String>,
    stopped: bool,
}

struct Packet {
    lease: Lease,
    /// Length of each datagram but the last.
    segment_bytes: usize,
    peer: Peer,
    truncated: bool,
    /// Bytes of the lease that are decoded.
    from: usize,
    /// The end of the datagram at hand has come, but not its last row.
    finishing: bool,
}

impl Packets {
    pub(crate) fn new(decoding: Decoding) -> Self {
        let framer = decoding.stream();
        Self {
            decoding,
            framer,
            group: None,
            handle: None,
            queue: VecDeque::new(),
            receiving: false,
            again_us: None,
            trouble: None,
            stopped: false,
        }
    }

    /// Receives from a socket that is bound.
    pub(crate) fn start(
        &mut self,
        socket: std::os::fd::OwnedFd,
        key: &'static str,
        cx: &mut Cx<'_>,
    ) -> Result<(), ConnectorError> {
        let group = cx.io.group(BUFFERS, BUFFER_BYTES);
        let no_memory = |error| ConnectorError::io(key, "memory for receiving", &error);
        self.group = Some(group.map_err(no_memory)?);
        let handle = cx.io.adopt(socket);
        self.handle = Some(handle.map_err(|error| ConnectorError::io(key, "socket", &error))?);
        self.receive(cx);
        Ok(())
    }

    fn receive(&mut self, cx: &mut Cx<'_>) {
        if let (Some(handle), Some(group)) = (self.handle, self.group) {
            self.receiving = true;
            self.again_us = None;
            let op = OpId { owner: cx.owner, tag: RECEIVE_TAG };
            cx.io.receive_datagrams(handle, group, op);
        }
    }

    pub(crate) fn on_event(&mut self, event: EventKind, cx: &mut Cx<'_>) {
        match event {
            EventKind::Datagrams { lease, segment_bytes, peer, truncated } => {
                *cx.bytes += lease.len() as u64;
                self.trouble = None;
                let segment_bytes = (segment_bytes as usize).max(1);
                self.queue.push_back(Packet {
                    lease,
                    segment_bytes,
                    peer,
                    truncated,
                    from: 0,
                    finishing: false,
                });
            }
            EventKind::Received { lease } => cx.io.release(lease),
            EventKind::Eof => self.receiving = false,
            EventKind::Failed { error } => {
                self.receiving = false;
                if !self.stopped {
                    self.again_us = Some(cx.now.mono_us + AGAIN_US);
                    self.trouble = Some(format!("receiving failed: {error}; trying again"));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        if self.again_us.is_some_and(|at| cx.now.mono_us >= at) {
            self.receive(cx);
        }
        while let Some(mut packet) = self.queue.pop_front() {
            if !self.decode(&mut packet, slab, cx) {
                self.queue.push_front(packet);
                return Pull::More;
            }
            cx.io.release(packet.lease);
        }
        if self.stopped && !self.receiving {
            if let Some(group) = self.group.take() {
                cx.io.drop_group(group);
            }
            return Pull::Ended;
        }
        Pull::Idle
    }

    /// False when the slab is full.
    fn decode(&mut self, packet: &mut Packet, slab: &mut Slab, cx: &mut Cx<'_>) -> bool {
        let bytes = cx.io.bytes(&packet.lease);
        let peer = &packet.peer;
        let name = || match peer {
            Peer::Ip(addr) => addr.to_string(),
            Peer::Local => "local".to_owned(),
        };
        if packet.truncated {
            let detail = format!("the datagram is longer than {} B", bytes.len());
            cx.refusals.bytes(Reason::TooLong, &detail, &name(), self.framer.offset(), bytes);
            return true;
        }
        let ts = cx.now.wall_us;
        while packet.from < bytes.len() || packet.finishing {
            if !packet.finishing {
                let ahead = packet.segment_bytes - packet.from % packet.segment_bytes;
                let end = (packet.from + ahead).min(bytes.len());
                let datagram = &bytes[packet.from..end];
                let origin = Origin { name: &name, refusals: &mut *cx.refusals };
                let fed = self.decoding.feed(&mut self.framer, datagram, slab, ts, origin);
                packet.from += fed.consumed;
                if fed.full {
                    return false;
                }
                packet.finishing = self.decoding.framing() != Framing::Whole;
            }
            if packet.finishing {
                // Frames end with their datagram.
                let origin = Origin { name: &name, refusals: &mut *cx.refusals };
                if self.decoding.finish(&mut self.framer, slab, ts, origin).full {
                    return false;
                }
                packet.finishing = false;
            }
        }
        true
    }

    pub(crate) fn wake_at_us(&self) -> Option<u64> {
        self.again_us.filter(|_| !self.stopped)
    }

    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        self.stopped = true;
        if let Some(handle) = self.handle.take() {
            cx.io.close(handle);
        }
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }
}
