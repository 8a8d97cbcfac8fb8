//! What a broker has sent, packet by packet.
//!
//! Packets that lie whole in one receive buffer are read there; the others are
//! put together in `carry`. A packet that is longer than may be kept is given
//! out as far as its topic and the beginning of its payload go, the rest is
//! passed over.
//!
//! Bounds: the group's buffers, and `carry`, which holds one packet of at most
//! `packet_bytes_max`.

use std::collections::VecDeque;

use ringmain_config::plan::MqttVersion;
use ringmain_runtime::io::{Io, Lease};

use super::wire::{Garbage, HEADER_BYTES_MAX, Header, header};

/// What a packet may have besides its payload: header, topic, id, and
/// properties of usual length.
pub(super) const HEAD_BYTES: usize = HEADER_BYTES_MAX + 2 + 65_535 + 2 + 1024;

/// A piece of the stream.
pub(super) enum Piece {
    Lease(Lease),
    /// What TLS made of leases.
    Plain(Vec<u8>),
}

/// Where a packet lies until [`Input::pass`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) header: Header,
    in_carry: bool,
    /// Only its beginning is here.
    pub(super) is_cut: bool,
}

pub(super) struct Input {
    version: MqttVersion,
    packet_bytes_max: usize,
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are done with.
    from: usize,
    carry: Vec<u8>,
    /// Bytes to pass over.
    skip: usize,
}

impl Input {
    pub(super) fn new(version: MqttVersion, packet_bytes_max: usize) -> Self {
        Self {
            version,
            packet_bytes_max: packet_bytes_max.max(HEAD_BYTES),
            pieces: VecDeque::new(),
            from: 0,
            carry: Vec::new(),
            skip: 0,
        }
    }

    pub(super) fn add(&mut self, piece: Piece) {
        self.pieces.push_back(piece);
    }

    /// Nothing has come that was not looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Forgets everything: the connection is gone.
    pub(super) fn clear(&mut self, io: &mut dyn Io) {
        while self.drop_piece(io) {}
        self.carry.clear();
        self.skip = 0;
    }

    fn drop_piece(&mut self, io: &mut dyn Io) -> bool {
        self.from = 0;
        match self.pieces.pop_front() {
            Some(Piece::Lease(lease)) => io.release(lease),
            Some(Piece::Plain(_)) => {}
            None => return false,
        }
        true
    }

    /// What is left of the first piece.
    fn front<'a>(&'a self, io: &'a dyn Io) -> &'a [u8] {
        match self.pieces.front() {
            Some(Piece::Lease(lease)) => &io.bytes(lease)[self.from..],
            Some(Piece::Plain(bytes)) => &bytes[self.from..],
            None => &[],
        }
    }

    /// The next packet, if it has come.
    pub(super) fn next(&mut self, io: &mut dyn Io) -> Result<Option<Found>, Garbage> {
        while !self.pieces.is_empty() {
            let rest = self.front(io);
            if rest.is_empty() {
                self.drop_piece(io);
                continue;
            }
            if self.skip > 0 {
                let take = self.skip.min(rest.len());
                self.skip -= take;
                self.from += take;
                continue;
            }
            if self.carry.is_empty()
                && let Some(header) = header(rest, self.version)?
                && header.total() <= rest.len()
            {
                // Even one that is longer than may be kept: it is here.
                return Ok(Some(Found { header, in_carry: false, is_cut: false }));
            }
            if let Some(found) = self.collect(io)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Takes from the first piece what the packet in `carry` lacks.
    fn collect(&mut self, io: &dyn Io) -> Result<Option<Found>, Garbage> {
        loop {
            let header = header(&self.carry, self.version)?;
            let (wanted, is_cut) = match header {
                // One more byte of the header.
                None => (self.carry.len() + 1, false),
                Some(header) if header.total() > self.packet_bytes_max => (HEAD_BYTES, true),
                Some(header) => (header.total(), false),
            };
            if let Some(header) = header
                && self.carry.len() >= wanted
            {
                return Ok(Some(Found { header, in_carry: true, is_cut }));
            }
            let mut carry = std::mem::take(&mut self.carry);
            let rest = self.front(io);
            let take = (wanted - carry.len()).min(rest.len());
            carry.extend_from_slice(&rest[..take]);
            self.carry = carry;
            self.from += take;
            if take == 0 {
                return Ok(None);
            }
        }
    }

    /// The packet, header included, as far as it is here.
    pub(super) fn bytes<'a>(&'a self, found: Found, io: &'a dyn Io) -> &'a [u8] {
        match found.in_carry {
            true => &self.carry,
            false => &self.front(io)[..found.header.total()],
        }
    }

    /// The packet is done with.
    pub(super) fn pass(&mut self, found: Found, io: &mut dyn Io) {
        if found.in_carry {
            self.skip = found.header.total() - self.carry.len();
            self.carry.clear();
            return;
        }
        self.from += found.header.total();
        if self.front(io).is_empty() {
            self.drop_piece(io);
        }
    }
}

#[cfg(test)]
mod tests {
    use ringmain_runtime::memory::MemoryIo;

    use super::*;
    use crate::mqtt::wire::Kind;

    const V5: MqttVersion = MqttVersion::V5;

    /// The packets of a stream that comes in the given pieces: kind, bytes
    /// that are here, whether it is cut.
    fn packets(pieces: &[&[u8]], max: usize) -> Vec<(Kind, Vec<u8>, bool)> {
        let mut io = MemoryIo::new(1);
        let mut input = Input::new(V5, 0);
        input.packet_bytes_max = max;
        let mut packets = Vec::new();
        for piece in pieces {
            input.add(Piece::Plain(piece.to_vec()));
            while let Some(found) = input.next(&mut io).unwrap() {
                let bytes = input.bytes(found, &io).to_vec();
                packets.push((found.header.kind, bytes, found.is_cut));
                input.pass(found, &mut io);
            }
        }
        assert!(input.is_empty());
        packets
    }

    fn publication(payload_bytes: usize) -> Vec<u8> {
        let payload = vec![b'x'; payload_bytes];
        let message = crate::mqtt::wire::Publish {
            topic: "a/b",
            qos: ringmain_config::plan::Qos::AtLeastOnce,
            id: 7,
            payload: &payload,
        };
        let mut out = Vec::new();
        crate::mqtt::wire::put_publish(&mut out, message, false, Some(&[]));
        out
    }

    #[test]
    fn packets_are_the_same_wherever_the_stream_is_cut() {
        let mut stream = publication(10);
        stream.extend_from_slice(&[0xD0, 0]);
        stream.extend_from_slice(&publication(300));
        stream.extend_from_slice(&[0x40, 2, 0, 1]);
        let whole = packets(&[&stream], 4096);
        assert_eq!(whole.len(), 4);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(packets(&pieces, 4096), whole, "cut at {first} and {second}");
            }
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(packets(&bytes, 4096), whole);
    }

    #[test]
    fn a_packet_that_is_too_long_shows_its_head_and_the_next_one_follows() {
        let mut stream = publication(200_000);
        stream.extend_from_slice(&[0xD0, 0]);
        let pieces: Vec<&[u8]> = stream.chunks(1_000).collect();
        let found = packets(&pieces, 100_000);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1, stream[..HEAD_BYTES]);
        assert!(found[0].2);
        assert_eq!(found[1].0, Kind::PingResp);
    }
}
