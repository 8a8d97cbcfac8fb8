//! What a message costs here and in rumqttc's own state machine, run by hand:
//! `cargo test --release -p ringmain-connectors --lib mqtt::tests::speed -- --ignored --nocapture`
//!
//! Both sides in turns on one thread; the best round of each counts, so other
//! load on the machine does not decide.

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use ringmain_config::plan::{MqttVersion, Qos};
use ringmain_runtime::memory::MemoryIo;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish};
use rumqttc::{MqttState, Request};

use super::rig::Letters;
use crate::mqtt::inbox::Inbox;
use crate::mqtt::input::{Input, Piece};
use crate::mqtt::outbox::{Limits, Outbox};
use crate::mqtt::wire;

const V4: MqttVersion = MqttVersion::V311;
/// Messages of a round, and as many under way.
const ROUND: u16 = 1_000;
const ROUNDS: usize = 300;
const TOPIC: &str = "plant/graz/motor-0042";

fn payload() -> Vec<u8> {
    vec![b'x'; 100]
}

/// Packets as a broker sends them.
fn stream(qos: Qos) -> Vec<u8> {
    let mut out = Vec::new();
    for id in 1..=ROUND {
        let message = wire::Publish { topic: TOPIC, qos, id, payload: &payload() };
        wire::put_publish(&mut out, message, false, None);
    }
    out
}

fn receive_here(stream: &[u8], rounds: &mut f64, inbox: &mut Inbox, batch: &mut u64) {
    let mut io = MemoryIo::new(1);
    let mut input = Input::new(V4, 1 << 20);
    let mut out = Vec::with_capacity(16 << 10);
    let pieces: Vec<Vec<u8>> = stream.chunks(64 << 10).map(<[u8]>::to_vec).collect();
    let start = Instant::now();
    for piece in pieces {
        input.add(Piece::Plain(piece));
        while let Some(found) = input.next(&mut io).unwrap() {
            let bytes = input.bytes(found, &io);
            let body = &bytes[found.header.bytes..];
            let message = wire::publish(found.header.first, body, V4).unwrap();
            black_box((message.topic.len(), message.payload));
            inbox.given(message.id, message.qos, *batch);
            input.pass(found, &mut io);
        }
    }
    inbox.accepted(*batch, &mut out);
    *batch += 1;
    *rounds = rounds.min(start.elapsed().as_nanos() as f64 / f64::from(ROUND));
    black_box(out);
}

fn receive_there(stream: &[u8], rounds: &mut f64, state: &mut MqttState) {
    let mut buffer = BytesMut::new();
    let mut out = BytesMut::with_capacity(16 << 10);
    let start = Instant::now();
    for piece in stream.chunks(64 << 10) {
        buffer.extend_from_slice(piece);
        while let Ok(packet) = Packet::read(&mut buffer, 1 << 20) {
            if let Some(answer) = state.handle_incoming_packet(packet).unwrap() {
                answer.write(&mut out, 1 << 20).unwrap();
            }
            black_box(state.events.drain(..).count());
        }
    }
    *rounds = rounds.min(start.elapsed().as_nanos() as f64 / f64::from(ROUND));
    black_box(out);
}

fn send_here(rounds: &mut f64, outbox: &mut Outbox, next: &mut u64) {
    let (payload, mut out) = (payload(), Vec::with_capacity(256 << 10));
    let limits =
        Limits { in_flight: usize::from(ROUND), packet_bytes: usize::MAX, out_bytes: usize::MAX };
    let start = Instant::now();
    for _ in 0..ROUND {
        outbox.push(TOPIC, &payload, false, None);
    }
    outbox.send(&mut out, limits, &mut Letters::default());
    for _ in 0..ROUND {
        assert!(outbox.acknowledged((*next % 65_535) as u16 + 1));
        *next += 1;
    }
    *rounds = rounds.min(start.elapsed().as_nanos() as f64 / f64::from(ROUND));
    black_box(out);
}

fn send_there(rounds: &mut f64, state: &mut MqttState) {
    let (payload, mut out) = (payload(), BytesMut::with_capacity(256 << 10));
    let mut ids = Vec::with_capacity(usize::from(ROUND));
    let start = Instant::now();
    for _ in 0..ROUND {
        let publish = Publish::new(TOPIC, rumqttc::QoS::AtLeastOnce, payload.clone());
        let packet = state.handle_outgoing_packet(Request::Publish(publish)).unwrap();
        if let Some(packet) = packet {
            if let Packet::Publish(publish) = &packet {
                ids.push(publish.pkid);
            }
            packet.write(&mut out, 1 << 20).unwrap();
        }
    }
    for id in ids {
        state.handle_incoming_packet(Packet::PubAck(PubAck::new(id))).unwrap();
    }
    state.events.clear();
    *rounds = rounds.min(start.elapsed().as_nanos() as f64 / f64::from(ROUND));
    black_box(out);
}

#[test]
#[ignore = "a measurement, not a promise"]
fn speed_beside_rumqttc() {
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        let stream = stream(qos);
        let (mut here, mut there) = (f64::MAX, f64::MAX);
        let (mut inbox, mut batch) = (Inbox::new(), 1);
        inbox.connected(false);
        let mut state = MqttState::new(ROUND, false);
        for _ in 0..ROUNDS {
            receive_here(&stream, &mut here, &mut inbox, &mut batch);
            receive_there(&stream, &mut there, &mut state);
        }
        println!("receive, {qos:?}: here {here:.1} ns, rumqttc {there:.1} ns per message");
    }
    let (mut here, mut there) = (f64::MAX, f64::MAX);
    let mut outbox = Outbox::new(V4, Qos::AtLeastOnce, 16 << 20);
    outbox.connected(false);
    let (mut next, mut state) = (0, MqttState::new(ROUND, false));
    for _ in 0..ROUNDS {
        send_here(&mut here, &mut outbox, &mut next);
        send_there(&mut there, &mut state);
    }
    println!("send, QoS 1: here {here:.1} ns, rumqttc {there:.1} ns per message");
}
