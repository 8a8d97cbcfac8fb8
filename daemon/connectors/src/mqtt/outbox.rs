//! Publications that go out, until the broker has them for good.
//!
//! They lie in the order in which they came, as the bytes that are sent, and
//! are copied from here to a connection; so whatever happens to connections,
//! what is not done is still here and goes out again in the same order. A
//! packet id follows from the place in the row and is used again only when
//! everything before it is done, so two publications cannot meet under one id.
//!
//! On a connection of the same session what was sent before goes out with the
//! same id and marked as a duplicate, or, where the broker has said that it has
//! it (QoS 2), as the release alone. A new session gets everything as new.
//!
//! Bounds: `buffer` bytes, [`ENTRIES_MAX`] publications; of those without an
//! acknowledgement as many are under way as the caller allows.

use std::collections::VecDeque;

use ringmain_base::Reason;
use ringmain_config::plan::{MqttVersion, Qos};

use super::wire::{self, DUP, put_pubrel};
use crate::Refusals;
use crate::outbuf::{Buf, Room};
use crate::outflow::STREAM_CHUNK_BYTES;

/// Fewer than there are packet ids, so that each is used once.
const ENTRIES_MAX: usize = 60_000;
const IDS: u64 = 65_535;
/// What one publication takes besides its bytes.
const ENTRY_BYTES: usize = size_of::<Entry>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The broker does not have it, as far as is known.
    Open,
    /// The broker has it and waits for the release (QoS 2).
    Received,
    Done,
}

#[derive(Debug)]
struct Entry {
    chunk: u64,
    start: u32,
    len: u32,
    slab: u64,
    state: State,
    /// It has been sent in this session.
    sent: bool,
}

/// How far sending may go at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Publications without an acknowledgement.
    pub(super) in_flight: usize,
    /// Longest packet that the broker takes.
    pub(super) packet_bytes: usize,
    /// Bytes that may gather in the output.
    pub(super) out_bytes: usize,
}

pub(super) struct Outbox {
    version: MqttVersion,
    qos: Qos,
    room: Room,
    chunks: VecDeque<Buf>,
    /// Number of the first chunk.
    first_chunk: u64,
    entries: VecDeque<Entry>,
    /// Number of the first entry.
    first: u64,
    /// Number of the next that is to be sent on this connection.
    next: u64,
    in_flight: usize,
}

fn id_of(number: u64) -> u16 {
    (number % IDS) as u16 + 1
}

impl Outbox {
    pub(super) fn new(version: MqttVersion, qos: Qos, buffer_bytes: u64) -> Self {
        Self {
            version,
            qos,
            room: Room::new(buffer_bytes, STREAM_CHUNK_BYTES),
            chunks: VecDeque::new(),
            first_chunk: 0,
            entries: VecDeque::new(),
            first: 0,
            next: 0,
            in_flight: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.room.is_open() && self.entries.len() < ENTRIES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// There is something that was not sent on this connection.
    pub(super) fn has_more(&self, limits: Limits) -> bool {
        self.next < self.first + self.entries.len() as u64
            && (self.qos == Qos::AtMostOnce || self.in_flight < limits.in_flight)
    }

    /// Where the next to be sent stands: everything before it has been sent.
    pub(super) fn mark(&self) -> u64 {
        self.next
    }

    pub(super) fn slab_end(&mut self) {
        self.room.slab_end();
    }

    pub(super) fn finished(&self) -> u64 {
        self.room.finished(self.entries.front().map(|entry| entry.slab))
    }

    /// Takes a publication in.
    pub(super) fn push(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        properties: Option<&[u8]>,
    ) {
        let full = self.chunks.back().is_none_or(|c| c.bytes.len() >= self.room.chunk_bytes());
        if full {
            let chunk = self.room.take();
            self.chunks.push_back(chunk);
        }
        let chunk = self.first_chunk + self.chunks.len() as u64 - 1;
        let Some(buf) = self.chunks.back_mut() else { return };
        let start = buf.bytes.len();
        let id = id_of(self.first + self.entries.len() as u64);
        let message = wire::Publish { topic, qos: self.qos, id, payload };
        wire::put_publish(&mut buf.bytes, message, retain, properties);
        let len = buf.bytes.len() - start;
        self.room.add(len + ENTRY_BYTES);
        self.entries.push_back(Entry {
            chunk,
            start: start as u32,
            len: len as u32,
            slab: self.room.slab(),
            state: State::Open,
            sent: false,
        });
    }

    /// A connection was made; `session` says whether the broker goes on with
    /// the session.
    pub(super) fn connected(&mut self, session: bool) {
        self.next = self.first;
        self.in_flight = 0;
        if session {
            return;
        }
        for entry in &mut self.entries {
            entry.sent = false;
            if entry.state == State::Received {
                // The broker lost it, or has published it already: it comes
                // twice rather than never.
                entry.state = State::Open;
            }
        }
    }

    /// Copies to `out` what may be sent.
    pub(super) fn send(&mut self, out: &mut Vec<u8>, limits: Limits, refusals: &mut dyn Refusals) {
        let mut refused = false;
        while out.len() < limits.out_bytes && self.has_more(limits) {
            let number = self.next;
            let entry = &mut self.entries[(number - self.first) as usize];
            self.next += 1;
            match entry.state {
                State::Done => continue,
                State::Received => put_pubrel(out, id_of(number)),
                State::Open if entry.len as usize > limits.packet_bytes => {
                    let (bytes, max) = (entry.len, limits.packet_bytes);
                    let detail = format!("{bytes} B; the broker takes packets of {max} B at most");
                    entry.state = State::Done;
                    self.refuse(number, Reason::TooLong, &detail, refusals);
                    refused = true;
                    continue;
                }
                State::Open => {
                    let at = out.len();
                    let chunk = &self.chunks[(entry.chunk - self.first_chunk) as usize].bytes;
                    let (start, len) = (entry.start as usize, entry.len as usize);
                    out.extend_from_slice(&chunk[start..start + len]);
                    if entry.sent && self.qos != Qos::AtMostOnce {
                        out[at] |= DUP;
                    }
                    entry.sent = true;
                }
            }
            self.in_flight += usize::from(self.qos != Qos::AtMostOnce);
        }
        if refused {
            self.drop_done();
        }
    }

    fn refuse(&self, number: u64, reason: Reason, detail: &str, refusals: &mut dyn Refusals) {
        let entry = &self.entries[(number - self.first) as usize];
        let chunk = &self.chunks[(entry.chunk - self.first_chunk) as usize].bytes;
        let packet = &chunk[entry.start as usize..][..entry.len as usize];
        if let Ok(Some(header)) = wire::header(packet, self.version)
            && let Ok(message) = wire::publish(header.first, &packet[header.bytes..], self.version)
        {
            refusals.bytes(reason, detail, message.topic, 0, message.payload);
        }
    }

    /// What was sent up to `mark` has left, which is all there is to know of
    /// QoS 0.
    pub(super) fn written(&mut self, mark: u64) {
        if self.qos == Qos::AtMostOnce {
            let count = mark.saturating_sub(self.first) as usize;
            for entry in self.entries.iter_mut().take(count) {
                entry.state = State::Done;
            }
            self.drop_done();
        }
    }

    /// The entry of an id that was sent on this connection and is not done.
    fn find(&self, id: u16) -> Option<usize> {
        let ahead = (u64::from(id) + IDS - u64::from(id_of(self.first))) % IDS;
        let sent = (self.next - self.first).min(self.entries.len() as u64);
        (id > 0 && ahead < sent && self.entries[ahead as usize].state != State::Done)
            .then_some(ahead as usize)
    }

    /// PUBACK, or PUBCOMP with `State::Received`. True when it ended
    /// something.
    fn done(&mut self, id: u16, from: State) -> bool {
        let Some(at) = self.find(id).filter(|at| self.entries[*at].state == from) else {
            return false;
        };
        self.entries[at].state = State::Done;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.drop_done();
        true
    }

    /// The broker has a publication of QoS 1.
    pub(super) fn acknowledged(&mut self, id: u16) -> bool {
        self.qos == Qos::AtLeastOnce && self.done(id, State::Open)
    }

    /// The broker has a publication of QoS 2 and waits for the release.
    pub(super) fn received(&mut self, id: u16, out: &mut Vec<u8>) {
        match self.find(id).filter(|_| self.qos == Qos::ExactlyOnce) {
            Some(at) => {
                self.entries[at].state = State::Received;
                put_pubrel(out, id);
            }
            // Of an earlier life: released, it is forgotten.
            None => put_pubrel(out, id),
        }
    }

    /// The broker has forgotten the id of a publication of QoS 2.
    pub(super) fn completed(&mut self, id: u16) -> bool {
        self.done(id, State::Received)
    }

    /// The broker refuses a publication for good.
    pub(super) fn rejected(&mut self, id: u16, detail: &str, refusals: &mut dyn Refusals) {
        if let Some(at) = self.find(id) {
            self.refuse(self.first + at as u64, Reason::Rejected, detail, refusals);
            self.entries[at].state = State::Done;
            self.in_flight = self.in_flight.saturating_sub(1);
            self.drop_done();
        }
    }

    /// Something was sent on this connection and has no answer.
    pub(super) fn is_unanswered(&self) -> bool {
        self.in_flight > 0
    }

    /// The oldest that is not done is refused.
    pub(super) fn refuse_first(&mut self, detail: &str, refusals: &mut dyn Refusals) {
        if let Some(entry) = self.entries.front_mut() {
            entry.state = State::Done;
            self.refuse(self.first, Reason::Rejected, detail, refusals);
            self.drop_done();
        }
    }

    /// Everything that is not done is refused.
    pub(super) fn give_up(&mut self, why: &str, refusals: &mut dyn Refusals) {
        for at in 0..self.entries.len() {
            if self.entries[at].state != State::Done {
                self.refuse(self.first + at as u64, Reason::Undelivered, why, refusals);
                self.entries[at].state = State::Done;
            }
        }
        self.in_flight = 0;
        self.drop_done();
    }

    fn drop_done(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.state == State::Done) {
            self.entries.pop_front();
            self.first += 1;
            self.room.sub(ENTRY_BYTES);
        }
        self.next = self.next.max(self.first);
        let still = self.entries.front().map_or(u64::MAX, |entry| entry.chunk);
        while self.first_chunk < still
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.room.give_back(chunk.bytes);
            self.first_chunk += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Refused;

    const LIMITS: Limits = Limits { in_flight: 1_000, packet_bytes: 1 << 20, out_bytes: 1 << 20 };

    fn outbox(qos: Qos, count: usize) -> Outbox {
        let mut outbox = Outbox::new(MqttVersion::V311, qos, 1 << 20);
        outbox.connected(false);
        for number in 0..count {
            outbox.push("t", number.to_string().as_bytes(), false, None);
            outbox.slab_end();
        }
        outbox
    }

    /// What is sent: id (negative for a release), payload, duplicate.
    fn sent(outbox: &mut Outbox, limits: Limits) -> Vec<(i32, String, bool)> {
        let mut out = Vec::new();
        outbox.send(&mut out, limits, &mut Vec::<Refused>::new());
        let mut rest = &out[..];
        let mut packets = Vec::new();
        while let Ok(Some(header)) = wire::header(rest, MqttVersion::V311) {
            let body = &rest[header.bytes..header.total()];
            packets.push(match header.kind {
                wire::Kind::Publish => {
                    let m = wire::publish(header.first, body, MqttVersion::V311).unwrap();
                    let text = String::from_utf8(m.payload.to_vec()).unwrap();
                    (i32::from(m.id), text, header.first & DUP != 0)
                }
                _ => (-i32::from(wire::ack(body).unwrap().0), String::new(), false),
            });
            rest = &rest[header.total()..];
        }
        packets
    }

    fn publication(id: i32, number: usize, dup: bool) -> (i32, String, bool) {
        (id, number.to_string(), dup)
    }

    #[test]
    fn slabs_are_finished_in_order_although_acknowledgements_are_not() {
        let mut outbox = outbox(Qos::AtLeastOnce, 3);
        assert_eq!(sent(&mut outbox, LIMITS).len(), 3);
        assert!(outbox.acknowledged(2));
        assert_eq!(outbox.finished(), 0);
        assert!(outbox.acknowledged(1) && !outbox.acknowledged(1));
        assert_eq!(outbox.finished(), 2);
        assert!(outbox.acknowledged(3));
        assert_eq!((outbox.finished(), outbox.is_empty()), (3, true));
    }

    #[test]
    fn no_more_are_under_way_than_the_broker_takes() {
        let mut outbox = outbox(Qos::AtLeastOnce, 10);
        let limits = Limits { in_flight: 4, ..LIMITS };
        assert_eq!(sent(&mut outbox, limits).len(), 4);
        assert_eq!(sent(&mut outbox, limits), []);
        assert!(outbox.acknowledged(3), "out of order");
        assert_eq!(sent(&mut outbox, limits), [publication(5, 4, false)]);
    }

    #[test]
    fn a_resumed_session_gets_the_same_ids_marked_as_duplicates_and_a_new_one_everything_anew() {
        for session in [true, false] {
            let mut outbox = outbox(Qos::AtLeastOnce, 4);
            assert_eq!(sent(&mut outbox, LIMITS).len(), 4);
            assert!(outbox.acknowledged(1) && outbox.acknowledged(3));
            outbox.connected(session);
            assert!(!outbox.acknowledged(2), "nothing was sent on this connection");
            let again = [publication(2, 1, session), publication(4, 3, session)];
            assert_eq!(sent(&mut outbox, LIMITS), again);
        }
    }

    #[test]
    fn qos_2_goes_on_where_it_was_in_a_resumed_session() {
        let mut outbox = outbox(Qos::ExactlyOnce, 3);
        assert_eq!(sent(&mut outbox, LIMITS).len(), 3);
        let mut out = Vec::new();
        for id in [1, 2] {
            outbox.received(id, &mut out);
        }
        assert_eq!(out, [0x62, 2, 0, 1, 0x62, 2, 0, 2]);
        assert!(outbox.completed(1) && !outbox.completed(3));
        outbox.connected(true);
        let release = (-2, String::new(), false);
        assert_eq!(sent(&mut outbox, LIMITS), [release, publication(3, 2, true)]);
        outbox.connected(false);
        let anew = [publication(2, 1, false), publication(3, 2, false)];
        assert_eq!(sent(&mut outbox, LIMITS), anew, "the broker forgot what it had");
    }

    #[test]
    fn qos_0_is_done_when_it_is_written() {
        let mut outbox = outbox(Qos::AtMostOnce, 3);
        let few = Limits { out_bytes: 1, in_flight: 0, ..LIMITS };
        assert_eq!(sent(&mut outbox, few), [publication(0, 0, false)]);
        let mark = outbox.mark();
        assert_eq!(sent(&mut outbox, LIMITS).len(), 2);
        outbox.written(mark);
        assert_eq!(outbox.finished(), 1);
        outbox.connected(true);
        let again = [publication(0, 1, false), publication(0, 2, false)];
        assert_eq!(sent(&mut outbox, LIMITS), again);
    }

    #[test]
    fn what_the_broker_does_not_take_in_its_length_or_at_all_is_refused() {
        let mut outbox = outbox(Qos::AtLeastOnce, 2);
        outbox.push("long", &[b'x'; 100], false, None);
        let mut refused: Vec<Refused> = Vec::new();
        let limits = Limits { packet_bytes: 50, ..LIMITS };
        outbox.send(&mut Vec::new(), limits, &mut refused);
        assert_eq!(refused.len(), 1);
        assert_eq!((refused[0].reason, refused[0].bytes.len()), (Reason::TooLong, 100));
        outbox.rejected(1, "the broker refuses it: quota exceeded", &mut refused);
        assert_eq!((refused[1].reason, &refused[1].bytes[..]), (Reason::Rejected, &b"0"[..]));
        assert!(outbox.acknowledged(2) && outbox.is_empty());
    }

    #[test]
    fn what_is_given_up_is_refused_and_makes_room() {
        let mut outbox = outbox(Qos::AtLeastOnce, 5);
        let mut refused: Vec<Refused> = Vec::new();
        outbox.give_up("nobody there", &mut refused);
        assert_eq!((refused.len(), outbox.finished()), (5, 5));
        assert_eq!(outbox.room.slab(), 5);
        outbox.push("t", b"5", false, None);
        assert_eq!(sent(&mut outbox, LIMITS), [publication(6, 5, false)]);
    }

    #[test]
    fn room_comes_back_to_the_last_byte() {
        let mut outbox = Outbox::new(MqttVersion::V311, Qos::AtLeastOnce, 100_000);
        for round in 0..50 {
            let mut count = 0;
            while outbox.is_open() {
                outbox.push("t", &[b'x'; 100], false, None);
                count += 1;
            }
            assert!((500..1_000).contains(&count), "{count} in round {round}");
            outbox.connected(false);
            sent(&mut outbox, Limits { out_bytes: usize::MAX, ..LIMITS });
            for number in outbox.first..outbox.next {
                assert!(outbox.acknowledged(id_of(number)));
            }
            assert!(outbox.is_empty() && outbox.chunks.is_empty());
        }
        assert!(outbox.first > 25_000);
    }

    /// What a broker of the model has stored of what it was sent.
    #[derive(Default)]
    struct Broker {
        stored: Vec<u64>,
        /// Ids of QoS 2 that are not released.
        held: std::collections::BTreeMap<u16, u64>,
        /// Answers that are on their way.
        answers: VecDeque<(wire::Kind, u16)>,
    }

    impl Broker {
        fn takes(&mut self, bytes: &[u8], qos: Qos) {
            let mut rest = bytes;
            while let Ok(Some(header)) = wire::header(rest, MqttVersion::V311) {
                let body = &rest[header.bytes..header.total()];
                rest = &rest[header.total()..];
                if header.kind == wire::Kind::PubRel {
                    let id = wire::ack(body).unwrap().0;
                    self.held.remove(&id);
                    self.answers.push_back((wire::Kind::PubComp, id));
                    continue;
                }
                let m = wire::publish(header.first, body, MqttVersion::V311).unwrap();
                let number = std::str::from_utf8(m.payload).unwrap().parse().unwrap();
                if qos == Qos::ExactlyOnce {
                    let dup = header.first & DUP != 0;
                    match self.held.insert(m.id, number) {
                        Some(held) => assert!(held == number && dup, "two meet under one id"),
                        None => self.stored.push(number),
                    }
                    self.answers.push_back((wire::Kind::PubRec, m.id));
                } else {
                    self.stored.push(number);
                    self.answers.push_back((wire::Kind::PubAck, m.id));
                }
            }
        }
    }

    proptest! {
        /// Connections break anywhere, sessions get lost, and still every
        /// publication arrives, first arrivals in order, and with QoS 2 in a
        /// lasting session once.
        #[test]
        fn nothing_is_lost_whenever_the_connection_breaks(
            exactly: bool,
            keeps_session: bool,
            in_flight in 1_usize..20,
            steps in prop::collection::vec((0_u8..5, 0_usize..40), 1..200),
        ) {
            let qos = if exactly { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
            let mut outbox = Outbox::new(MqttVersion::V311, qos, 1 << 20);
            let mut broker = Broker::default();
            let mut pushed = 0_u64;
            let limits = Limits { in_flight, ..LIMITS };
            let mut none: Vec<Refused> = Vec::new();
            outbox.connected(false);
            let answer = |outbox: &mut Outbox, broker: &mut Broker| {
                let Some((kind, id)) = broker.answers.pop_front() else { return };
                let mut out = Vec::new();
                match kind {
                    wire::Kind::PubAck => drop(outbox.acknowledged(id)),
                    wire::Kind::PubRec => outbox.received(id, &mut out),
                    _ => drop(outbox.completed(id)),
                }
                broker.takes(&out, qos);
            };
            for (step, count) in steps.into_iter().chain([(9, 0)]) {
                match step {
                    0 | 1 => for _ in 0..count {
                        outbox.push("t", pushed.to_string().as_bytes(), false, None);
                        pushed += 1;
                    },
                    2 => {
                        let mut out = Vec::new();
                        outbox.send(&mut out, limits, &mut none);
                        broker.takes(&out, qos);
                    }
                    3 => for _ in 0..count { answer(&mut outbox, &mut broker) },
                    4 => {
                        // What was on its way in either direction is gone.
                        let mut out = Vec::new();
                        if count % 2 == 0 {
                            outbox.send(&mut out, limits, &mut none);
                        }
                        broker.answers.clear();
                        if !keeps_session {
                            broker.held.clear();
                        }
                        outbox.connected(keeps_session);
                    }
                    _ => while !outbox.is_empty() {
                        let mut out = Vec::new();
                        outbox.send(&mut out, limits, &mut none);
                        broker.takes(&out, qos);
                        answer(&mut outbox, &mut broker);
                    },
                }
            }
            let mut seen = std::collections::BTreeSet::new();
            let firsts: Vec<u64> = broker.stored.iter().copied().filter(|n| seen.insert(*n)).collect();
            prop_assert_eq!(firsts, (0..pushed).collect::<Vec<_>>());
            if exactly && keeps_session {
                prop_assert_eq!(broker.stored.len() as u64, pushed);
            }
            prop_assert!(none.is_empty());
        }
    }
}
