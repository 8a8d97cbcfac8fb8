//! A broker that does what a test says, and the connector at the other end of
//! the in-memory `Io`.

use bytes::BytesMut;
use ringmain_base::{Now, Reason};
use ringmain_config::load_str;
use ringmain_config::plan::{MqttVersion, SinkPlan, SourcePlan};
use ringmain_runtime::Driver;
use ringmain_runtime::io::{Event, Io};
use ringmain_runtime::memory::{End, MemoryIo, Place};
use ringmain_slab::{Budget, RowRef, SharedSchema, Slab, ValueRef};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use crate::{Cx, Placement, Pull, Refusals, Sink, Source, sink, source};

pub(super) const CONNACK4: [u8; 4] = [0x20, 2, 0, 0];
pub(super) const RESUMED4: [u8; 4] = [0x20, 2, 1, 0];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) reason: Reason,
    pub(super) detail: String,
    pub(super) origin: String,
    pub(super) bytes: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Letters(pub(super) Vec<Letter>);

impl Refusals for Letters {
    fn bytes(&mut self, reason: Reason, detail: &str, origin: &str, _: u64, bytes: &[u8]) {
        let (detail, origin, bytes) = (detail.to_owned(), origin.to_owned(), bytes.to_vec());
        self.0.push(Letter { reason, detail, origin, bytes });
    }

    fn row(&mut self, reason: Reason, detail: &str, _: RowRef<'_>) {
        let (detail, origin, bytes) = (detail.to_owned(), String::new(), Vec::new());
        self.0.push(Letter { reason, detail, origin, bytes });
    }
}

/// What the broker was sent, in the words of another implementation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Connect { id: String, clean: bool },
    Subscribe { id: u16, filters: Vec<(String, u8)> },
    Publish { id: u16, topic: String, payload: String, qos: u8, dup: bool, retain: bool },
    Ack(&'static str, u16),
    Ping,
    Disconnect,
}

/// A publication of QoS 1 without flags.
pub(super) fn publish(id: u16, topic: &str, payload: &str, dup: bool) -> Sent {
    let (topic, payload) = (topic.to_owned(), payload.to_owned());
    Sent::Publish { id, topic, payload, qos: 1, dup, retain: false }
}

pub(super) struct World {
    pub(super) io: MemoryIo,
    pub(super) letters: Letters,
    events: Vec<Event>,
    bytes: u64,
    /// Connections, in the order in which they are accepted.
    pub(super) ends: Vec<End>,
    received: Vec<BytesMut>,
    version: MqttVersion,
}

impl World {
    fn new(seed: u64, version: MqttVersion) -> Self {
        Self {
            io: MemoryIo::new(seed),
            letters: Letters::default(),
            events: Vec::new(),
            bytes: 0,
            ends: Vec::new(),
            received: Vec::new(),
            version,
        }
    }

    /// Lets one more connection reach the broker.
    pub(super) fn answer(&mut self) -> usize {
        let place = Place::Ip(([127, 0, 0, 1], 1883).into());
        self.ends.push(self.io.answer_at(place));
        self.received.push(BytesMut::new());
        self.ends.len() - 1
    }

    pub(super) fn feed(&mut self, at: usize, bytes: &[u8]) {
        self.io.feed(self.ends[at], bytes);
    }

    /// What came on a connection since the last call.
    pub(super) fn sent(&mut self, at: usize) -> Vec<Sent> {
        let bytes = self.io.take(self.ends[at], usize::MAX);
        let buffer = &mut self.received[at];
        buffer.extend_from_slice(&bytes);
        let mut sent = Vec::new();
        while !buffer.is_empty() {
            let packet = match self.version {
                MqttVersion::V311 => v4::Packet::read(buffer, usize::MAX).ok().map(sent4),
                MqttVersion::V5 => v5::Packet::read(buffer, None).ok().map(sent5),
            };
            let Some(packet) = packet else { break };
            sent.push(packet);
        }
        sent
    }

    fn now(&self) -> Now {
        Now { mono_us: self.io.now_us(), wall_us: self.io.now_us() as i64 }
    }

    fn events(&mut self) -> Vec<Event> {
        let now_us = self.io.now_us();
        self.io.begin_turn(now_us);
        let mut events = std::mem::take(&mut self.events);
        self.io.poll(&mut events, 64);
        events
    }

    fn with<R>(&mut self, call: impl FnOnce(&mut Cx<'_>) -> R) -> R {
        let now = self.now();
        let (io, refusals, bytes) = (&mut self.io, &mut self.letters, &mut self.bytes);
        call(&mut Cx { io, now, owner: 0, refusals, bytes })
    }
}

fn sent4(packet: v4::Packet) -> Sent {
    match packet {
        v4::Packet::Connect(c) => Sent::Connect { id: c.client_id, clean: c.clean_session },
        v4::Packet::Subscribe(s) => {
            let filters = s.filters.into_iter().map(|f| (f.path, f.qos as u8)).collect();
            Sent::Subscribe { id: s.pkid, filters }
        }
        v4::Packet::Publish(p) => Sent::Publish {
            id: p.pkid,
            topic: p.topic,
            payload: String::from_utf8_lossy(&p.payload).into_owned(),
            qos: p.qos as u8,
            dup: p.dup,
            retain: p.retain,
        },
        v4::Packet::PubAck(a) => Sent::Ack("puback", a.pkid),
        v4::Packet::PubRec(a) => Sent::Ack("pubrec", a.pkid),
        v4::Packet::PubRel(a) => Sent::Ack("pubrel", a.pkid),
        v4::Packet::PubComp(a) => Sent::Ack("pubcomp", a.pkid),
        v4::Packet::PingReq => Sent::Ping,
        v4::Packet::Disconnect => Sent::Disconnect,
        other => panic!("a client sent {other:?}"),
    }
}

fn sent5(packet: v5::Packet) -> Sent {
    match packet {
        v5::Packet::Connect(c, ..) => Sent::Connect { id: c.client_id, clean: c.clean_start },
        v5::Packet::Subscribe(s) => {
            let filters = s.filters.into_iter().map(|f| (f.path, f.qos as u8)).collect();
            Sent::Subscribe { id: s.pkid, filters }
        }
        v5::Packet::Publish(p) => Sent::Publish {
            id: p.pkid,
            topic: String::from_utf8_lossy(&p.topic).into_owned(),
            payload: String::from_utf8_lossy(&p.payload).into_owned(),
            qos: p.qos as u8,
            dup: p.dup,
            retain: p.retain,
        },
        v5::Packet::PubAck(a) => Sent::Ack("puback", a.pkid),
        v5::Packet::PubRec(a) => Sent::Ack("pubrec", a.pkid),
        v5::Packet::PubRel(a) => Sent::Ack("pubrel", a.pkid),
        v5::Packet::PubComp(a) => Sent::Ack("pubcomp", a.pkid),
        v5::Packet::PingReq(_) => Sent::Ping,
        v5::Packet::Disconnect(_) => Sent::Disconnect,
        other => panic!("a client sent {other:?}"),
    }
}

fn plans(keys: &str) -> (SourcePlan, SinkPlan) {
    let (of_source, of_sink) = match keys.contains("topics") {
        true => (keys, "topic = \"x\""),
        false => ("topics = \"x\"", keys),
    };
    let common = "type = \"mqtt\"\nurl = \"mqtt://127.0.0.1\"\n";
    let retry = |keys: &str| match keys.contains("retry") {
        true => "",
        false => "retry = { min = \"100ms\", max = \"100ms\" }\n",
    };
    let (source_retry, sink_retry) = (retry(of_source), retry(of_sink));
    let text = format!(
        "name = \"f\"\n[sources.in]\n{common}{source_retry}{of_source}\n\
         [sinks.out]\n{common}inputs = [\"in\"]\n{sink_retry}{of_sink}\n"
    );
    let flow = load_str("f.toml", &text).unwrap_or_else(|e| panic!("{e}")).flows.remove(0);
    (flow.sources[0].clone(), flow.sinks[0].clone())
}

fn version(keys: &str) -> MqttVersion {
    if keys.contains("3.1.1") { MqttVersion::V311 } else { MqttVersion::V5 }
}

/// A source, and what it gave out.
pub(super) struct Reading {
    pub(super) world: World,
    pub(super) source: Box<dyn Source>,
    slab: Slab,
    schema: SharedSchema,
    /// The field `n` of each row, and the topic if it is kept.
    pub(super) rows: Vec<String>,
    pub(super) batches: u64,
    /// Batches are accepted at once.
    pub(super) accepts: bool,
    pub(super) ended: bool,
}

impl Reading {
    pub(super) fn new(seed: u64, keys: &str) -> Self {
        let schema = SharedSchema::new();
        schema.intern("n").unwrap();
        let source = source(&plans(keys).0, &schema, &Placement::alone()).unwrap();
        let mut reading = Self {
            world: World::new(seed, version(keys)),
            source,
            slab: Slab::new(4096, &Budget::new(1 << 20)),
            schema,
            rows: Vec::new(),
            batches: 0,
            accepts: true,
            ended: false,
        };
        reading.world.answer();
        let Reading { world, source, .. } = &mut reading;
        world.with(|cx| source.open(cx)).unwrap();
        reading
    }

    fn deliver(&mut self) -> usize {
        let events = self.world.events();
        let count = events.len();
        for event in events {
            let Reading { world, source, .. } = self;
            world.with(|cx| source.on_event(event.op.tag, event.kind, cx));
        }
        count
    }

    /// Events only: the flow has no credit.
    pub(super) fn blocked_turns(&mut self) {
        for _ in 0..200 {
            self.deliver();
        }
    }

    fn turn(&mut self) {
        self.deliver();
        if self.ended {
            return;
        }
        let before = self.world.letters.0.len();
        let Reading { world, source, slab, .. } = self;
        let pull = world.with(|cx| source.poll(slab, cx));
        let topic = self.schema.snapshot().slot("topic");
        for row in self.slab.rows() {
            let text = |value: ValueRef<'_>| match value {
                ValueRef::Int(n) => n.to_string(),
                ValueRef::Str(text) => text.to_owned(),
                other => format!("{other:?}"),
            };
            let mut shown = text(row.get(0));
            if let Some(slot) = topic {
                shown.push(' ');
                shown.push_str(&text(row.get(slot)));
            }
            self.rows.push(shown);
        }
        let is_batch = !self.slab.is_empty() || self.world.letters.0.len() > before;
        self.batches += u64::from(is_batch);
        let Reading { world, source, .. } = self;
        world.with(|cx| source.polled(is_batch, cx));
        self.slab.clear();
        self.ended = pull == Pull::Ended;
        if self.accepts {
            self.accept(self.batches);
        }
    }

    pub(super) fn accept(&mut self, batch: u64) {
        if batch > 0 {
            let Reading { world, source, .. } = self;
            world.with(|cx| source.accepted(batch, cx));
        }
    }

    pub(super) fn stop(&mut self) {
        let Reading { world, source, .. } = self;
        world.with(|cx| source.stop(cx));
    }

    /// Turns without time passing.
    pub(super) fn settle(&mut self) {
        for _ in 0..300 {
            self.turn();
        }
    }

    pub(super) fn pass(&mut self, us: u64) {
        self.world.io.advance(us);
        self.settle();
    }
}

/// A sink, and rows for it.
pub(super) struct Writing {
    pub(super) world: World,
    pub(super) sink: Box<dyn Sink>,
    schema: SharedSchema,
}

impl Writing {
    pub(super) fn new(seed: u64, keys: &str) -> Self {
        let schema = SharedSchema::new();
        let sink = sink(&plans(keys).1, &schema, &Placement::alone()).unwrap();
        let mut writing = Self { world: World::new(seed, version(keys)), sink, schema };
        writing.world.answer();
        let Writing { world, sink, .. } = &mut writing;
        world.with(|cx| sink.open(cx)).unwrap();
        writing
    }

    /// A slab of one row with these fields; false when the sink has no room.
    pub(super) fn push(&mut self, fields: &[(&str, &str)]) -> bool {
        let mut slab = Slab::new(256 << 10, &Budget::new(1 << 20));
        let mut scratch = ringmain_slab::Scratch::default();
        let slots: Vec<u16> =
            fields.iter().map(|(name, _)| self.schema.intern(name).unwrap()).collect();
        let version = self.schema.snapshot().version();
        let mut row = slab.build(version, version, &mut scratch);
        for (slot, (_, value)) in slots.into_iter().zip(fields) {
            row.set_str(slot, value);
        }
        row.finish(0).unwrap();
        let Writing { world, sink, .. } = self;
        let took = world.with(|cx| sink.push(&slab, 0, cx));
        if took == 1 {
            sink.slab_end();
        }
        took == 1
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..300 {
            for event in self.world.events() {
                let Writing { world, sink, .. } = self;
                world.with(|cx| sink.on_event(event.op.tag, event.kind, cx));
            }
            let Writing { world, sink, .. } = self;
            world.with(|cx| sink.poll(cx));
        }
    }

    pub(super) fn pass(&mut self, us: u64) {
        self.world.io.advance(us);
        self.settle();
    }

    pub(super) fn finish(&mut self) {
        let Writing { world, sink, .. } = self;
        world.with(|cx| sink.flush(true, cx));
        self.settle();
    }
}
