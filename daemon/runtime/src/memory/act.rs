//! How the twin's operations come about: one pass over them in the order of
//! their submission, each going as far as the world lets it.

use std::io;
use std::os::unix::fs::FileExt;

use ringmain_base::Prng;

use super::world::{Act, Kind, Thing};
use super::{MemoryIo, Op, What};
use crate::io::{EventKind, Group, Handle, OpId, Peer};

/// Where an operation stands after a pass.
enum Stand {
    Waits,
    Ended(EventKind),
}

impl MemoryIo {
    /// Tries every operation once, until `max` events wait.
    pub(super) fn pass(&mut self, max: usize) {
        // Handles with a write that is not done: later ones must not overtake.
        let mut writing: Vec<Handle> = Vec::new();
        let mut waiting = Vec::new();
        for mut op in std::mem::take(&mut self.ops) {
            let ordered = op.what.is_ordered();
            let held_up = ordered && op.handle.is_some_and(|handle| writing.contains(&handle));
            let stand = if held_up || self.ready.len() >= max {
                Stand::Waits
            } else {
                self.attempt(&mut op, max)
            };
            match stand {
                Stand::Ended(kind) => self.end(op, kind),
                Stand::Waits => {
                    writing.extend(op.handle.filter(|_| ordered));
                    waiting.push(op);
                }
            }
        }
        self.ops = waiting;
    }

    fn attempt(&mut self, op: &mut Op, max: usize) -> Stand {
        let id = op.id;
        if self.happens(self.faults.delay) {
            return Stand::Waits;
        }
        if let Err(error) = self.chance(op) {
            return Stand::Ended(op.failed(error));
        }
        let result = match (&mut op.what, op.handle) {
            (What::Connect(place), _) => {
                let place = place.clone();
                self.connect_now(&place)
            }
            (What::Accept, Some(handle)) => self.accept_some(handle, id, max),
            (What::Receive(group), Some(handle)) => self.receive_some(handle, *group, id, max),
            (What::Datagrams(group), Some(handle)) => {
                self.receive_datagrams_some(handle, *group, id, max)
            }
            (What::Read { group, offset }, Some(handle)) => self.read_once(handle, *group, *offset),
            (What::Write { buf, offset, written }, Some(handle)) => {
                self.write_some(handle, buf, *offset, written)
            }
            (What::Send { buf, ends }, Some(handle)) => self.send_all(handle, buf, ends),
            (What::Sync, Some(handle)) => self.sync_now(handle),
            (_, None) => Ok(Stand::Waits),
        };
        result.unwrap_or_else(|error| Stand::Ended(op.failed(error)))
    }

    fn happens(&mut self, likely: f64) -> bool {
        likely > 0.0 && self.rng.unit_f64() < likely
    }

    /// What may go wrong with an operation.
    fn chance(&mut self, op: &mut Op) -> io::Result<()> {
        let fails = |errno| Err(io::Error::from_raw_os_error(errno));
        let faults = self.faults;
        let thing = op.handle.and_then(|handle| self.thing_of(handle));
        let kind = thing.map(|at| &self.things[at].kind);
        let on_disk = matches!(kind, Some(Kind::File { .. } | Kind::Disk(_)));
        let connected = matches!(kind, Some(Kind::Stream { .. }));
        match &mut op.what {
            What::Connect(_) if self.happens(faults.refuse) => fails(libc::ECONNREFUSED),
            What::Sync if self.happens(faults.sync) => fails(libc::EIO),
            What::Write { buf, offset, written } if on_disk && self.happens(faults.full) => {
                let (mut part, handle) = (buf[*written..].to_vec(), op.handle);
                part.truncate(self.rng.below(part.len() as u64 + 1) as usize);
                if let Some(handle) = handle.filter(|_| !part.is_empty()) {
                    let offset = offset.map(|offset| offset + *written as u64);
                    *written += self.write_piece(handle, &part, offset)?;
                }
                fails(libc::ENOSPC)
            }
            What::Receive(_) | What::Write { .. } if connected && self.happens(faults.reset) => {
                if let Some(Kind::Stream { gone, .. }) = thing.map(|at| &mut self.things[at].kind) {
                    *gone = true;
                }
                fails(libc::ECONNRESET)
            }
            _ => Ok(()),
        }
    }

    /// The whole of it, or a random part where the twin chops.
    fn piece(&mut self, len: usize) -> usize {
        if self.chops && len > 1 { 1 + self.rng.below(len as u64) as usize } else { len }
    }

    fn thing(&mut self, handle: Handle) -> io::Result<&mut Thing> {
        let at = self.thing_of(handle).ok_or_else(crate::sys::bad_handle)?;
        Ok(&mut self.things[at])
    }

    fn may(&mut self, handle: Handle, act: Act) -> io::Result<()> {
        self.thing(handle)?.take_failure(act).map_or(Ok(()), Err)
    }

    fn connect_now(&mut self, place: &super::world::Place) -> io::Result<Stand> {
        let answer = self.answers.get_mut(place).and_then(std::collections::VecDeque::pop_front);
        let refused = || io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let handle = self.open(answer.ok_or_else(refused)?)?;
        Ok(Stand::Ended(EventKind::Connected { handle }))
    }

    fn accept_some(&mut self, handle: Handle, id: OpId, max: usize) -> io::Result<Stand> {
        while self.ready.len() < max {
            self.may(handle, Act::Accept)?;
            let Kind::Listener { waiting } = &mut self.thing(handle)?.kind else {
                return Err(wrong_kind());
            };
            let Some(at) = waiting.pop_front() else { break };
            let port = 1024 + (at % 60_000) as u16;
            let peer = Peer::Ip(([127, 0, 0, 1], port).into());
            let handle = self.open(at)?;
            self.report(id, EventKind::Accepted { handle, peer });
        }
        Ok(Stand::Waits)
    }

    fn receive_some(
        &mut self,
        handle: Handle,
        group: Group,
        id: OpId,
        max: usize,
    ) -> io::Result<Stand> {
        self.may(handle, Act::Read)?;
        while self.ready.len() < max {
            let Kind::Stream { inbox, finished, gone, .. } = &self.thing(handle)?.kind else {
                return Err(wrong_kind());
            };
            if *gone {
                return Err(io::Error::from_raw_os_error(libc::ECONNRESET));
            }
            let (len, finished) = (inbox.len(), *finished);
            if len == 0 {
                return Ok(if finished { Stand::Ended(EventKind::Eof) } else { Stand::Waits });
            }
            if !self.groups.has_free(group) {
                break;
            }
            let len = len.min(self.groups.buffer_bytes(group));
            let len = self.piece(len);
            let Kind::Stream { inbox, .. } = &mut self.thing(handle)?.kind else { break };
            let bytes: Vec<u8> = inbox.drain(..len).collect();
            let lease = self.groups.fill_from(group, &bytes)?;
            self.report(id, EventKind::Received { lease });
        }
        Ok(Stand::Waits)
    }

    fn receive_datagrams_some(
        &mut self,
        handle: Handle,
        group: Group,
        id: OpId,
        max: usize,
    ) -> io::Result<Stand> {
        self.may(handle, Act::Read)?;
        while self.ready.len() < max && self.groups.has_free(group) {
            let Kind::Datagrams { inbox, .. } = &mut self.thing(handle)?.kind else {
                return Err(wrong_kind());
            };
            let Some(arrival) = inbox.pop_front() else { break };
            let len = arrival.bytes.len().min(self.groups.buffer_bytes(group));
            let truncated = len < arrival.bytes.len();
            let lease = self.groups.fill_from(group, &arrival.bytes[..len])?;
            let (segment_bytes, peer) = (arrival.segment_bytes, arrival.peer);
            self.report(id, EventKind::Datagrams { lease, segment_bytes, peer, truncated });
        }
        Ok(Stand::Waits)
    }

    fn read_once(&mut self, handle: Handle, group: Group, offset: u64) -> io::Result<Stand> {
        if !self.groups.has_free(group) {
            return Ok(Stand::Waits);
        }
        self.may(handle, Act::Read)?;
        let at = self.thing_of(handle).ok_or_else(crate::sys::bad_handle)?;
        if let Kind::Disk(file) = &self.things[at].kind {
            let mut bytes = vec![0; self.groups.buffer_bytes(group)];
            let len = file.read_at(&mut bytes, offset)?;
            if len == 0 {
                return Ok(Stand::Ended(EventKind::Eof));
            }
            let len = self.piece(len);
            let lease = self.groups.fill_from(group, &bytes[..len])?;
            return Ok(Stand::Ended(EventKind::Received { lease }));
        }
        let Kind::File { content, .. } = &self.things[at].kind else { return Err(wrong_kind()) };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let rest = content.len() - offset;
        if rest == 0 {
            return Ok(Stand::Ended(EventKind::Eof));
        }
        let len = rest.min(self.groups.buffer_bytes(group));
        let len = self.piece(len);
        let Kind::File { content, .. } = &self.things[at].kind else { return Err(wrong_kind()) };
        let lease = self.groups.fill_from(group, &content[offset..offset + len])?;
        Ok(Stand::Ended(EventKind::Received { lease }))
    }

    fn write_some(
        &mut self,
        handle: Handle,
        buf: &mut Vec<u8>,
        offset: Option<u64>,
        written: &mut usize,
    ) -> io::Result<Stand> {
        self.may(handle, Act::Write)?;
        let rest = buf.len() - *written;
        let len = if rest == 0 { 0 } else { self.piece(rest) };
        let at = offset.map(|offset| offset + *written as u64);
        let len = self.write_piece(handle, &buf[*written..*written + len], at)?;
        *written += len;
        if *written < buf.len() {
            return Ok(Stand::Waits);
        }
        let (buf, written) = (std::mem::take(buf), *written);
        Ok(Stand::Ended(EventKind::Written { buf, written, result: Ok(()) }))
    }

    /// As much of it as the other side takes.
    fn write_piece(
        &mut self,
        handle: Handle,
        bytes: &[u8],
        offset: Option<u64>,
    ) -> io::Result<usize> {
        let thing = self.thing(handle)?;
        let mut len = bytes.len();
        match &mut thing.kind {
            Kind::Stream { gone: true, .. } => {
                return Err(io::Error::from_raw_os_error(libc::EPIPE));
            }
            Kind::Stream { outbox, .. } => {
                len = len.min(thing.window_bytes.saturating_sub(outbox.len()));
                outbox.extend_from_slice(&bytes[..len]);
            }
            Kind::File { content, .. } => {
                let at = offset.map_or(content.len(), |offset| offset as usize);
                content.resize(content.len().max(at + len), 0);
                content[at..at + len].copy_from_slice(bytes);
            }
            Kind::Disk(file) => {
                let end = file.metadata()?.len();
                file.write_all_at(bytes, offset.unwrap_or(end))?;
            }
            _ => return Err(wrong_kind()),
        }
        Ok(len)
    }

    fn send_all(&mut self, handle: Handle, buf: &mut Vec<u8>, ends: &[u32]) -> io::Result<Stand> {
        self.may(handle, Act::Write)?;
        let Kind::Datagrams { outbox, .. } = &mut self.thing(handle)?.kind else {
            return Err(wrong_kind());
        };
        let mut start = 0;
        for end in ends {
            outbox.push(buf[start..*end as usize].to_vec());
            start = *end as usize;
        }
        let buf = std::mem::take(buf);
        let written = buf.len();
        Ok(Stand::Ended(EventKind::Written { buf, written, result: Ok(()) }))
    }

    fn sync_now(&mut self, handle: Handle) -> io::Result<Stand> {
        self.may(handle, Act::Sync)?;
        match &mut self.thing(handle)?.kind {
            Kind::File { content, durable } => durable.clone_from(content),
            // Nothing here cuts the power of the machine.
            Kind::Disk(_) => {}
            _ => return Err(wrong_kind()),
        }
        Ok(Stand::Ended(EventKind::Synced))
    }
}

fn wrong_kind() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}
