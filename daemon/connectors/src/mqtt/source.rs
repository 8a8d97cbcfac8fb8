//! The source that subscribes.
//!
//! A publication becomes rows when there is a slab for it; until then it lies
//! in the receive buffers, and when they are full the broker waits. It is
//! acknowledged when its batch is accepted ([`Inbox`]). What cannot be decoded
//! is refused with the topic as its origin, and acknowledged when that is
//! stored.
//!
//! Subscribes after every connection. A topic that the broker refuses is asked
//! for again with growing waits, while the others are received. What an earlier
//! configuration subscribed to in the same session is taken back ([`Filters`]).

use ringmain_base::Reason;
use ringmain_codec::Framer;
use ringmain_config::plan::{MqttSource, MqttTopic, Qos, RetryPlan, SourcePlan};
use ringmain_runtime::io::EventKind;
use ringmain_slab::{Scalar, SharedSchema, Slab};

use super::client::{Client, Notice, seed};
use super::control::{self, FILTERS_PER_PACKET};
use super::filter::Filters;
use super::inbox::Inbox;
use super::input::{Found, HEAD_BYTES};
use super::wire::{self, Garbage, Kind};
use crate::backoff::Backoff;
use crate::decode::{Decoding, Origin};
use crate::{ConnectorError, Cx, Health, Placement, Pull, Source};

/// Receive buffers: number and size.
pub(crate) const GROUP: (u16, u32) = (16, 64 << 10);
/// Waits before a refused topic is asked for again.
const SUBSCRIBE_RETRY: RetryPlan = RetryPlan::new(1_000_000, 60_000_000);
/// Ids of subscriptions are counted from 1.
const UNSUBSCRIBE_ID: u16 = u16::MAX;
/// Of a message that is too long, this much goes to the dead letters.
const HEAD_SHOWN_BYTES: usize = 256;

/// What one source may take besides its receive buffers.
pub(crate) fn bytes(frame_bytes: usize) -> u64 {
    let ids = 1 << 16;
    // An entry for each publication under way is below what `ids` takes.
    (frame_bytes + HEAD_BYTES + 2 * ids) as u64
}

/// A subscription, and what became of it.
struct Subscription {
    topic: MqttTopic,
    /// Asked for, and not answered.
    asked: bool,
    trouble: Option<String>,
}

pub(crate) struct Subscriber {
    client: Client,
    inbox: Inbox,
    decoding: Decoding,
    framer: Framer,
    subscriptions: Vec<Subscription>,
    filters: Filters,
    subscribing: Backoff,
    subscribe_at_us: Option<u64>,
    topic_slot: Option<u16>,
    max_inflight: usize,
    /// Batches so far, and how many of them are accepted.
    batches: u64,
    accepted: u64,
    stopped: bool,
    ended: bool,
}

/// What became of a packet.
enum Step {
    Done,
    /// There is no room for it in the slab.
    Full,
}

impl Subscriber {
    pub(crate) fn new(
        plan: &SourcePlan,
        mqtt: &MqttSource,
        schema: &SharedSchema,
        place: &Placement,
    ) -> Result<Self, ConnectorError> {
        let id = &mqtt.client.client_id.value;
        let id = match mqtt.is_shared() && place.shards > 1 {
            true => format!("{id}-{}", place.shard),
            false => id.clone(),
        };
        let no_slot = |_| {
            ConnectorError::setup("topic_field", "the flow has too many fields; name one of them")
        };
        let slot = mqtt.topic_field.as_ref().map(|name| schema.intern(name).map_err(no_slot));
        let seed = seed(&id, place);
        let decoding = Decoding::new(plan, schema);
        let packet_bytes_max = HEAD_BYTES + plan.frame_bytes as usize;
        let topics = mqtt.topics.iter().cloned();
        Ok(Self {
            client: Client::new(&mqtt.client, id, GROUP, packet_bytes_max, seed)?,
            inbox: Inbox::new(),
            framer: decoding.stream(),
            decoding,
            subscriptions: topics
                .map(|topic| Subscription { topic, asked: false, trouble: None })
                .collect(),
            filters: Filters::new(&mqtt.topics),
            subscribing: Backoff::new(&SUBSCRIBE_RETRY, seed),
            subscribe_at_us: None,
            topic_slot: slot.transpose()?,
            max_inflight: usize::from(mqtt.client.max_inflight),
            batches: 0,
            accepted: 0,
            stopped: false,
            ended: false,
        })
    }

    fn heed(&mut self, cx: &mut Cx<'_>) {
        while let Some(notice) = self.client.notice() {
            if let Notice::Connected(greeting) = notice {
                self.client.worked();
                self.inbox.connected(greeting.session);
                let former = self.filters.connected(greeting.session);
                if !former.is_empty() {
                    let version = self.client.version();
                    wire::put_unsubscribe(&mut self.client.out, UNSUBSCRIBE_ID, former, version);
                }
                self.subscribe(|_| true);
            }
        }
        self.client.flush(0, cx);
    }

    /// Asks for those topics that `which` names.
    fn subscribe(&mut self, which: impl Fn(&Subscription) -> bool) {
        self.subscribe_at_us = None;
        let version = self.client.version();
        let out = &mut self.client.out;
        for (id, chunk) in (1..).zip(self.subscriptions.chunks_mut(FILTERS_PER_PACKET)) {
            chunk.iter_mut().for_each(|s| s.asked = which(s));
            let topics: Vec<&MqttTopic> =
                chunk.iter().filter(|s| s.asked).map(|s| &s.topic).collect();
            if !topics.is_empty() {
                control::subscribe(&topics, id, version, out);
            }
        }
    }

    /// The broker answers for the topics of one packet.
    fn subscribed(&mut self, body: (u16, Vec<u8>), now_us: u64) -> Result<(), Garbage> {
        let (id, reasons) = body;
        let chunk = (usize::from(id) - 1) * FILTERS_PER_PACKET;
        let rest = self.subscriptions.iter_mut().skip(chunk).take(FILTERS_PER_PACKET);
        let asked: Vec<_> = rest.filter(|s| s.asked).collect();
        if asked.len() != reasons.len() {
            return Err(Garbage("an answer to another number of topics than were asked for"));
        }
        for (subscription, reason) in asked.into_iter().zip(reasons) {
            let Subscription { topic, asked, trouble } = subscription;
            *asked = false;
            *trouble = refusal(topic, reason);
            if reason >= 0x80 {
                let at_us = now_us.saturating_add(self.subscribing.wait_us());
                self.subscribe_at_us.get_or_insert(at_us);
            }
        }
        if self.subscriptions.iter().all(|s| s.trouble.is_none()) {
            self.subscribing.reset();
        }
        Ok(())
    }

    /// Takes up packets while there is room.
    fn take(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        // What waits for its release is not among those that wait for sinks:
        // the release may stand behind the next publication.
        while self.inbox.len() < self.max_inflight {
            let Some(found) = self.client.packet(cx) else { return Pull::Idle };
            match self.packet(found, slab, cx) {
                Ok(Step::Done) => self.client.input.pass(found, cx.io),
                Ok(Step::Full) => return Pull::More,
                Err(garbage) => self.client.garbage(&garbage, cx),
            }
        }
        Pull::Idle
    }

    fn packet(&mut self, found: Found, slab: &mut Slab, cx: &mut Cx<'_>) -> Result<Step, Garbage> {
        let version = self.client.version();
        let bytes = self.client.input.bytes(found, cx.io);
        let body = &bytes[found.header.bytes..];
        match found.header.kind {
            Kind::Publish => {}
            Kind::PubRel => {
                let (id, _) = wire::ack(body)?;
                self.inbox.released(id, &mut self.client.out);
                return Ok(Step::Done);
            }
            Kind::SubAck => {
                let (id, reasons) = wire::suback(body, version)?;
                if id == 0 {
                    return Err(Garbage("a packet id of 0"));
                }
                let answer = (id, reasons.to_vec());
                self.subscribed(answer, cx.now.mono_us)?;
                return Ok(Step::Done);
            }
            Kind::UnsubAck => {
                self.filters.taken_back();
                return Ok(Step::Done);
            }
            _ => return Err(Garbage("an acknowledgement of something that was not sent")),
        }
        let first = found.header.first;
        let (topic, qos, id, rest) = wire::publish_head(first, body)?;
        self.filters.saw(topic);
        if self.inbox.knows(id, qos) {
            self.inbox.again(id, &mut self.client.out);
            return Ok(Step::Done);
        }
        if found.is_cut {
            let detail =
                format!("a message of {} B is longer than frame_bytes", found.header.body_bytes);
            let shown = &rest[..rest.len().min(HEAD_SHOWN_BYTES)];
            cx.refusals.bytes(Reason::TooLong, &detail, topic, 0, shown);
        } else {
            let payload = wire::publish(first, body, version)?.payload;
            let origin = Origin { name: &|| topic.to_owned(), refusals: cx.refusals };
            let before = slab.len();
            let ts = cx.now.wall_us;
            if self.decoding.feed(&mut self.framer, payload, slab, ts, origin).full {
                return Ok(Step::Full);
            }
            if let Some(slot) = self.topic_slot
                && !set_topic(slab, before, slot, topic)
            {
                slab.truncate(before);
                if before > 0 {
                    return Ok(Step::Full);
                }
                cx.refusals.bytes(Reason::Memory, "no memory for the topic", topic, 0, payload);
            }
        }
        self.inbox.given(id, qos, self.batches + 1);
        Ok(Step::Done)
    }

    fn tell(&mut self, cx: &mut Cx<'_>) {
        self.inbox.accepted(self.accepted, &mut self.client.out);
        self.client.flush(0, cx);
        if self.ended && !self.inbox.owes() {
            self.client.leave(cx);
        }
    }
}

/// Writes the topic into the rows from `from` on; false when there is no
/// memory for it.
fn set_topic(slab: &mut Slab, from: usize, slot: u16, topic: &str) -> bool {
    (from..slab.len()).all(|at| {
        slab.edit(at).set(slot, Scalar::Str(topic)).is_ok()
            || (slab.reserve(slab.capacity() / 2 + 2 * topic.len()).is_ok()
                && slab.edit(at).set(slot, Scalar::Str(topic)).is_ok())
    })
}

/// Why a subscription is not what was asked for.
fn refusal(topic: &MqttTopic, reason: u8) -> Option<String> {
    let MqttTopic { filter, qos } = topic;
    if reason >= 0x80 {
        return Some(format!("the broker refuses topic '{filter}': {}", wire::reason(reason)));
    }
    (reason < *qos as u8).then(|| {
        let asked = *qos as u8;
        format!("the broker grants topic '{filter}' QoS {reason} only, {asked} was asked for")
    })
}

impl Source for Subscriber {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        self.client.open(cx)
    }

    fn on_event(&mut self, tag: u32, event: EventKind, cx: &mut Cx<'_>) {
        self.client.on_event(tag, event, cx);
        self.heed(cx);
    }

    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        self.client.poll(cx);
        if self.client.is_up() && self.subscribe_at_us.is_some_and(|at| cx.now.mono_us >= at) {
            self.subscribe(|s| s.trouble.is_some());
        }
        let pull = self.take(slab, cx);
        self.heed(cx);
        let over = self.client.is_deaf() || self.client.is_done();
        if pull == Pull::Idle && self.stopped && over && !self.client.has_input() {
            self.ended = true;
            self.tell(cx);
            return Pull::Ended;
        }
        pull
    }

    fn wake_at_us(&self) -> Option<u64> {
        let waits = self.client.has_input() && self.inbox.len() < self.max_inflight;
        let subscribe = self.subscribe_at_us.filter(|_| self.client.is_up());
        waits.then_some(0).into_iter().chain(subscribe).chain(self.client.wake_at_us()).min()
    }

    fn position(&self) -> Option<Vec<u8>> {
        Some(self.filters.stored())
    }

    fn restore(&mut self, position: &[u8]) -> Result<(), ConnectorError> {
        self.filters.restore(position);
        Ok(())
    }

    fn wants_acks(&self) -> bool {
        true
    }

    fn polled(&mut self, is_batch: bool, cx: &mut Cx<'_>) {
        if is_batch {
            self.batches += 1;
            return;
        }
        self.inbox.no_batch(self.batches + 1);
        if self.inbox.len() > 0 {
            self.tell(cx);
        }
    }

    fn accepted(&mut self, batch: u64, cx: &mut Cx<'_>) {
        self.accepted = batch;
        self.tell(cx);
    }

    fn is_idle(&self) -> bool {
        self.client.is_done()
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        self.stopped = true;
        self.client.stop(cx);
    }

    fn health(&self) -> Health {
        let refused = self.subscriptions.iter().filter_map(|s| s.trouble.as_deref());
        let stray = self.filters.trouble();
        let all = self.client.trouble().into_iter().chain(refused).chain(stray.as_deref());
        let all: Vec<&str> = all.collect();
        if all.is_empty() { Health::Good } else { Health::Retrying(all.join("; ")) }
    }
}

const _: () = assert!(Qos::AtMostOnce as u8 == 0 && Qos::ExactlyOnce as u8 == 2);
