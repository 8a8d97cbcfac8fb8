//! What a test does to the world of the twin, and asks of it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::MemoryIo;
use super::world::{Act, Arrival, End, Faults, Kind, Place, Thing};
use crate::io::{Handle, Peer};

/// An end of another kind was named: a fault of the test.
const WRONG_END: &str = "this end is of another kind";

impl MemoryIo {
    fn put(&mut self, thing: Thing) -> (Handle, End) {
        let end = self.add_thing(thing);
        let handle = self.open(end.0).expect("a test opens few handles");
        (handle, end)
    }

    pub(super) fn add_thing(&mut self, thing: Thing) -> End {
        self.things.push(thing);
        End(self.things.len() - 1)
    }

    /// A connected stream.
    pub fn stream(&mut self) -> (Handle, End) {
        self.put(Thing::stream())
    }

    /// A listener, to be dialled with [`Self::dial`].
    pub fn listener(&mut self) -> (Handle, End) {
        self.put(Thing::new(Kind::Listener { waiting: VecDeque::new() }))
    }

    /// A connected datagram socket.
    pub fn datagrams(&mut self) -> (Handle, End) {
        self.put(Thing::new(Kind::Datagrams { inbox: VecDeque::new(), outbox: Vec::new() }))
    }

    /// A file with this content, all of it on stable storage.
    pub fn file(&mut self, content: &[u8]) -> (Handle, End) {
        let (content, durable) = (content.to_vec(), content.to_vec());
        self.put(Thing::new(Kind::File { content, durable }))
    }

    /// A descriptor that [`crate::Io::adopt`] takes for this end, for
    /// connectors that open things themselves.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn stand_in(&mut self, end: End) -> io::Result<OwnedFd> {
        let fd: OwnedFd = std::fs::File::open("/dev/null")?.into();
        self.stand_ins.insert(fd.as_raw_fd(), end.0);
        Ok(fd)
    }

    /// Somebody connects to the listener; the far end of that connection.
    pub fn dial(&mut self, listener: End) -> End {
        let end = self.add_thing(Thing::stream());
        match &mut self.things[listener.0].kind {
            Kind::Listener { waiting } => waiting.push_back(end.0),
            _ => panic!("{WRONG_END}"),
        }
        end
    }

    /// Lets connections to `place` reach this stream, once. Elsewhere nobody
    /// listens.
    pub fn answer_at(&mut self, place: Place) -> End {
        let end = self.add_thing(Thing::stream());
        self.answers.entry(place).or_default().push_back(end.0);
        end
    }

    /// Sends bytes to the connector.
    pub fn feed(&mut self, end: End, bytes: &[u8]) {
        match &mut self.things[end.0].kind {
            Kind::Stream { inbox, .. } => inbox.extend(bytes),
            Kind::File { content, .. } => content.extend_from_slice(bytes),
            _ => panic!("{WRONG_END}"),
        }
    }

    /// Sends datagrams of `segment_bytes` each to the connector, coalesced.
    pub fn arrive(&mut self, end: End, bytes: &[u8], segment_bytes: u32, peer: Peer) {
        match &mut self.things[end.0].kind {
            Kind::Datagrams { inbox, .. } => {
                inbox.push_back(Arrival { bytes: bytes.to_vec(), segment_bytes, peer });
            }
            _ => panic!("{WRONG_END}"),
        }
    }

    /// Sends no more; the connector can still write.
    pub fn finish(&mut self, end: End) {
        match &mut self.things[end.0].kind {
            Kind::Stream { finished, .. } => *finished = true,
            _ => panic!("{WRONG_END}"),
        }
    }

    /// The peer vanishes: what was not read is lost, writing fails.
    pub fn vanish(&mut self, end: End) {
        match &mut self.things[end.0].kind {
            Kind::Stream { gone, .. } => *gone = true,
            _ => panic!("{WRONG_END}"),
        }
    }

    /// Reads at most `max` bytes of what the connector wrote to a stream.
    pub fn take(&mut self, end: End, max: usize) -> Vec<u8> {
        match &mut self.things[end.0].kind {
            Kind::Stream { outbox, .. } => {
                let count = outbox.len().min(max);
                outbox.drain(..count).collect()
            }
            _ => panic!("{WRONG_END}"),
        }
    }

    /// The datagrams that the connector sent since the last call.
    pub fn sent(&mut self, end: End) -> Vec<Vec<u8>> {
        match &mut self.things[end.0].kind {
            Kind::Datagrams { outbox, .. } => std::mem::take(outbox),
            _ => panic!("{WRONG_END}"),
        }
    }

    /// What is in the file.
    #[must_use]
    pub fn content(&self, end: End) -> &[u8] {
        match &self.things[end.0].kind {
            Kind::File { content, .. } => content,
            _ => panic!("{WRONG_END}"),
        }
    }

    /// What of the file would be there after the power failed.
    #[must_use]
    pub fn durable(&self, end: End) -> &[u8] {
        match &self.things[end.0].kind {
            Kind::File { durable, .. } => durable,
            _ => panic!("{WRONG_END}"),
        }
    }

    /// Whether the connector has closed its side of a stream.
    #[must_use]
    pub fn is_closed(&self, end: End) -> bool {
        matches!(self.things[end.0].kind, Kind::Stream { closed: true, .. })
    }

    /// How much of what the connector writes may lie unread: the window of a
    /// slow reader; 0 for one that stalls.
    pub fn set_window(&mut self, end: End, bytes: usize) {
        self.things[end.0].window_bytes = bytes;
    }

    /// Has the next such act on this end fail with an error number. A
    /// receiving operation ends with it, as it does with the kernel's.
    pub fn fail_next(&mut self, end: End, act: Act, errno: i32) {
        self.things[end.0].failures.push_back((act, errno));
    }

    /// From now on things go wrong by chance.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// From now on reads and writes come in pieces of random length.
    pub fn chop(&mut self, on: bool) {
        self.chops = on;
    }

    /// Lets time pass.
    pub fn advance(&mut self, us: u64) {
        self.now_us = self.now_us.saturating_add(us);
    }

    /// The twin's time.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.now_us
    }
}
