//! The sink that publishes.
//!
//! A slab is finished when the broker has acknowledged each of its messages
//! (PUBACK, PUBCOMP), with QoS 0 when they are written. See [`Outbox`] for what
//! happens to the others.
//!
//! A broker may end the connection over a message (mosquitto does for a topic
//! of more than 200 levels) instead of refusing it, and would again for ever.
//! So after [`ALONE_AFTER`] connections in a row that the broker ended without
//! an answer to anything, the oldest message is sent alone; when it ends
//! [`REFUSE_AFTER`] more over that one, it is refused.

use ringmain_base::Reason;
use ringmain_config::plan::{MqttSink, Qos, SinkPlan};
use ringmain_runtime::io::EventKind;
use ringmain_slab::{SharedSchema, Slab};

use super::client::{Client, Notice, OUT_BYTES, seed};
use super::control::Greeting;
use super::input::{Found, HEAD_BYTES};
use super::outbox::{Limits, Outbox};
use super::topic::{Properties, Topic};
use super::wire::{self, BODY_BYTES_MAX, Garbage, Kind};
use crate::encode::Encoding;
use crate::{ConnectorError, Cx, Health, Placement, Sink};

/// Receive buffers: number and size. What comes is acknowledgements.
const GROUP: (u16, u32) = (4, 16 << 10);

const ALONE_AFTER: u32 = 3;
const REFUSE_AFTER: u32 = 3;

pub(crate) struct Publisher {
    client: Client,
    outbox: Outbox,
    encoding: Encoding,
    topic: Topic,
    properties: Properties,
    retain: bool,
    qos: Qos,
    max_inflight: usize,
    limits: Limits,
    /// What may be under way on this connection when nothing is suspected.
    in_flight_max: usize,
    /// Connections in a row that the broker ended without an answer.
    unanswered: u32,
    payload: Vec<u8>,
    /// The last message that the broker refused.
    refused: Option<String>,
    finishing: bool,
}

impl Publisher {
    pub(crate) fn new(
        plan: &SinkPlan,
        mqtt: &MqttSink,
        schema: &SharedSchema,
        place: &Placement,
    ) -> Result<Self, ConnectorError> {
        let id = mqtt.client.client_id.value.clone();
        let seed = seed(&id, place);
        let max_inflight = usize::from(mqtt.client.max_inflight);
        Ok(Self {
            client: Client::new(&mqtt.client, id, GROUP, HEAD_BYTES, seed)?,
            outbox: Outbox::new(mqtt.client.version, mqtt.qos, plan.buffer_bytes),
            encoding: Encoding::new(plan, schema),
            topic: Topic::new(&mqtt.topic, schema, place.shard),
            properties: Properties::new(mqtt, schema, place.shard),
            retain: mqtt.retain,
            qos: mqtt.qos,
            max_inflight,
            limits: Limits {
                in_flight: max_inflight,
                packet_bytes: usize::MAX,
                out_bytes: OUT_BYTES,
            },
            in_flight_max: max_inflight,
            unanswered: 0,
            payload: Vec::new(),
            refused: None,
            finishing: false,
        })
    }

    fn push_row(&mut self, slab: &Slab, at: usize, cx: &mut Cx<'_>) {
        let row = slab.row(at);
        let Some(topic) = self.topic.fill(row, cx.refusals) else { return };
        self.payload.clear();
        if !self.encoding.row(row, &mut self.payload, cx.refusals) {
            return;
        }
        let properties = self.properties.fill(row);
        let beside = properties.map_or(0, <[u8]>::len);
        if self.payload.len() + beside + HEAD_BYTES > BODY_BYTES_MAX {
            let detail = format!("{} B are too long for a packet of MQTT", self.payload.len());
            return cx.refusals.row(Reason::TooLong, &detail, row);
        }
        self.outbox.push(topic, &self.payload, self.retain, properties);
    }

    fn heed(&mut self, cx: &mut Cx<'_>) {
        while let Some(notice) = self.client.notice() {
            match notice {
                Notice::Connected(greeting) => self.connected(&greeting, cx),
                Notice::Written(mark) => {
                    self.outbox.written(mark);
                    if self.qos == Qos::AtMostOnce && mark > 0 {
                        self.client.worked();
                    }
                }
                Notice::GiveUp => {
                    let why = self.client.why();
                    self.outbox.give_up(&why, cx.refusals);
                    // The broker may hold ids of what was given up.
                    self.client.forget_session();
                }
            }
        }
    }

    fn connected(&mut self, greeting: &Greeting, cx: &mut Cx<'_>) {
        let lacks = if greeting.qos_max < self.qos {
            Some(format!("QoS {} at most", greeting.qos_max as u8))
        } else if self.retain && !greeting.retains {
            Some("no retained messages".to_owned())
        } else {
            None
        };
        if let Some(lacks) = lacks {
            let why = format!("the broker takes {lacks}; change 'qos' or 'retain'");
            return self.client.lose(&why, cx);
        }
        self.suspect(cx);
        self.in_flight_max = self.max_inflight.min(usize::from(greeting.receive_max));
        let alone = self.unanswered >= ALONE_AFTER;
        self.limits.in_flight = if alone { 1 } else { self.in_flight_max };
        self.limits.packet_bytes = greeting.packet_bytes_max.map_or(usize::MAX, |max| max as usize);
        self.outbox.connected(greeting.session);
    }

    /// Judges how the connection before this one ended.
    fn suspect(&mut self, cx: &mut Cx<'_>) {
        let Some(why) = self.client.blame().filter(|_| self.outbox.is_unanswered()) else {
            self.unanswered = 0;
            return;
        };
        self.unanswered += 1;
        if self.unanswered >= ALONE_AFTER + REFUSE_AFTER {
            self.unanswered = 0;
            let why = format!("{why}, {REFUSE_AFTER} times over this message alone");
            self.outbox.refuse_first(&why, cx.refusals);
            self.refused = Some(why);
        }
    }

    /// The broker has answered.
    fn answered(&mut self) {
        self.unanswered = 0;
        self.limits.in_flight = self.in_flight_max;
    }

    fn take(&mut self, cx: &mut Cx<'_>) {
        while let Some(found) = self.client.packet(cx) {
            match self.packet(found, cx) {
                Ok(()) => self.client.input.pass(found, cx.io),
                Err(garbage) => self.client.garbage(&garbage, cx),
            }
        }
    }

    fn packet(&mut self, found: Found, cx: &mut Cx<'_>) -> Result<(), Garbage> {
        let bytes = self.client.input.bytes(found, cx.io);
        let body = &bytes[found.header.bytes..];
        let (id, reason) = match found.header.kind {
            Kind::PubAck | Kind::PubRec | Kind::PubComp => wire::ack(body)?,
            // What an earlier life of the session subscribed to.
            Kind::Publish => return Ok(()),
            _ => return Err(Garbage("an answer to something that was not asked")),
        };
        self.answered();
        let worked = match found.header.kind {
            Kind::PubComp => self.outbox.completed(id),
            _ if reason >= 0x80 => {
                let why = format!("the broker refuses the message: {}", wire::reason(reason));
                self.outbox.rejected(id, &why, cx.refusals);
                self.refused = Some(why);
                true
            }
            Kind::PubAck => self.outbox.acknowledged(id),
            _ => {
                self.outbox.received(id, &mut self.client.out);
                false
            }
        };
        if worked {
            self.client.worked();
        }
        Ok(())
    }

    /// Sends as much as may be sent.
    fn pump(&mut self, cx: &mut Cx<'_>) {
        while self.client.takes_more() && self.outbox.has_more(self.limits) {
            self.outbox.send(&mut self.client.out, self.limits, cx.refusals);
            self.client.flush(self.outbox.mark(), cx);
        }
        self.client.flush(self.outbox.mark(), cx);
        self.client.at_hand = !self.outbox.is_empty();
    }
}

impl Sink for Publisher {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        self.client.open(cx)
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        self.client.on_event(tag, event, cx);
        self.heed(cx);
        self.take(cx);
        self.heed(cx);
        self.pump(cx);
    }

    fn push(&mut self, slab: &Slab, from: usize, cx: &mut Cx<'_>) -> usize {
        let mut at = from;
        while at < slab.len() && self.outbox.is_open() {
            self.push_row(slab, at, cx);
            at += 1;
        }
        self.pump(cx);
        at - from
    }

    fn slab_end(&mut self) {
        self.outbox.slab_end();
    }

    fn finished(&self) -> u64 {
        self.outbox.finished()
    }

    fn poll(&mut self, cx: &mut Cx<'_>) {
        self.client.poll(cx);
        self.heed(cx);
        self.pump(cx);
        if self.finishing && self.outbox.is_empty() {
            self.client.leave(cx);
        }
    }

    fn wake_at_us(&self) -> Option<u64> {
        let leave = self.finishing && self.outbox.is_empty() && self.client.is_up();
        if leave { Some(0) } else { self.client.wake_at_us() }
    }

    fn flush(&mut self, last: bool, cx: &mut Cx<'_>) {
        self.finishing |= last;
        self.poll(cx);
    }

    fn is_idle(&self) -> bool {
        self.outbox.is_empty() && (!self.finishing || self.client.is_done())
    }

    fn health(&self) -> Health {
        let trouble = self.client.trouble().or(self.refused.as_deref());
        trouble.map_or(Health::Good, |trouble| Health::Retrying(trouble.to_owned()))
    }
}
