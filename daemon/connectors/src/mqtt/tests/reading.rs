//! What a source makes of what a broker sends.

use ringmain_base::Reason;

use super::rig::{CONNACK4, Letter, RESUMED4, Reading, Sent};
use crate::Health;

const OLD: &str = "version = \"3.1.1\"\ntopics = \"a/#\"\n";
const SUBACK: [u8; 5] = [0x90, 3, 0, 1, 2];

/// A publication with the payload `{"n":NUMBER}`.
fn publication(qos: u8, id: u16, number: u32, topic: &str) -> Vec<u8> {
    raw(qos, id, format!("{{\"n\":{number}}}").as_bytes(), topic)
}

fn raw(qos: u8, id: u16, payload: &[u8], topic: &str) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    let mut packet = vec![0x30 | qos << 1];
    super::super::wire::put_varint(&mut packet, body.len());
    packet.extend_from_slice(&body);
    packet
}

fn acks(sent: Vec<Sent>) -> Vec<(&'static str, u16)> {
    let ack = |sent| match sent {
        Sent::Ack(kind, id) => Some((kind, id)),
        _ => None,
    };
    sent.into_iter().filter_map(ack).collect()
}

fn trouble(reading: &Reading) -> String {
    match reading.source.health() {
        Health::Retrying(text) => text,
        other => panic!("{other:?}"),
    }
}

/// Connected, and subscribed to `a/#`.
fn connected(keys: &str) -> Reading {
    let mut reading = Reading::new(1, keys);
    reading.settle();
    reading.world.feed(0, &CONNACK4);
    reading.world.feed(0, &SUBACK);
    reading.settle();
    reading.world.sent(0);
    reading
}

/// The connection is cut and made again.
fn reconnect(reading: &mut Reading, greeting: &[u8]) -> usize {
    let at = reading.world.answer();
    reading.world.io.vanish(reading.world.ends[at - 1]);
    reading.settle();
    reading.pass(200_000);
    reading.world.feed(at, greeting);
    reading.settle();
    at
}

#[test]
fn it_connects_and_subscribes_with_the_id_of_the_flow() {
    let mut reading = Reading::new(1, &format!("{OLD}qos = 2\n"));
    reading.settle();
    let connect = Sent::Connect { id: "ringmain-f-in".to_owned(), clean: false };
    assert_eq!(reading.world.sent(0), [connect]);
    reading.world.feed(0, &CONNACK4);
    reading.settle();
    let subscribe = Sent::Subscribe { id: 1, filters: vec![("a/#".to_owned(), 2)] };
    assert_eq!(reading.world.sent(0), [subscribe]);
    assert_eq!(reading.source.health(), Health::Good);
}

#[test]
fn rows_and_answers_are_the_same_wherever_the_stream_is_cut() {
    let mut stream = Vec::new();
    stream.extend_from_slice(&SUBACK);
    for number in 0..60 {
        let (qos, id) = ((number % 3) as u8, number as u16 + 1);
        stream.extend_from_slice(&publication(qos, id, number, "a/b"));
        if qos == 2 {
            let [high, low] = id.to_be_bytes();
            stream.extend_from_slice(&[0x62, 2, high, low]);
        }
    }
    let rows: Vec<String> = (0..60).map(|n| format!("{n} a/b")).collect();
    for seed in 0..40 {
        let mut reading = Reading::new(seed, &format!("{OLD}topic_field = \"topic\"\n"));
        reading.world.io.chop(seed > 0);
        reading.settle();
        reading.world.feed(0, &CONNACK4);
        reading.world.feed(0, &stream);
        for _ in 0..10 {
            reading.settle();
        }
        assert_eq!(reading.rows, rows, "seed {seed}");
        let sent = acks(reading.world.sent(0));
        for number in (0..60_u16).filter(|n| n % 3 > 0) {
            let expected = match number % 3 {
                1 => &["puback"][..],
                _ => &["pubcomp"][..],
            };
            for kind in expected {
                assert!(sent.contains(&(kind, number + 1)), "{kind} of {number}, seed {seed}");
            }
        }
        assert!(reading.world.letters.0.is_empty());
    }
}

#[test]
fn nothing_is_acknowledged_before_it_is_accepted() {
    let mut reading = connected(&format!("{OLD}qos = 2\n"));
    reading.accepts = false;
    for id in 1..=4 {
        reading.world.feed(0, &publication((id % 2) as u8 + 1, id, u32::from(id), "a"));
    }
    reading.settle();
    assert_eq!(reading.rows, ["1", "2", "3", "4"]);
    assert_eq!(reading.world.sent(0), []);
    reading.accept(reading.batches);
    reading.settle();
    let expected = [("pubrec", 1), ("puback", 2), ("pubrec", 3), ("puback", 4)];
    assert_eq!(acks(reading.world.sent(0)), expected);
}

#[test]
fn a_message_that_cannot_be_decoded_is_a_dead_letter_of_its_topic_and_acknowledged_with_it() {
    let mut reading = connected(OLD);
    reading.accepts = false;
    reading.world.feed(0, &raw(1, 9, b"{broken", "a/poison"));
    reading.settle();
    let letters = std::mem::take(&mut reading.world.letters.0);
    assert_eq!(letters.len(), 1);
    let Letter { reason, origin, bytes, .. } = &letters[0];
    assert_eq!((*reason, &origin[..], &bytes[..]), (Reason::Decode, "a/poison", &b"{broken"[..]));
    assert_eq!((reading.batches, acks(reading.world.sent(0))), (1, vec![]));
    reading.accept(1);
    reading.settle();
    assert_eq!(acks(reading.world.sent(0)), [("puback", 9)]);
}

#[test]
fn a_message_that_is_too_long_is_a_dead_letter_and_the_next_one_arrives() {
    let mut reading = connected(&format!("{OLD}frame_bytes = \"1KiB\"\n"));
    reading.world.feed(0, &raw(1, 1, &[b' '; 2_000], "a/long"));
    reading.world.feed(0, &raw(1, 2, &[b' '; 500_000], "a/huge"));
    reading.world.feed(0, &publication(1, 3, 3, "a"));
    reading.settle();
    let letters = &reading.world.letters.0;
    let found: Vec<_> = letters.iter().map(|l| (l.reason, &l.origin[..])).collect();
    assert_eq!(found, [(Reason::TooLong, "a/long"), (Reason::TooLong, "a/huge")]);
    assert_eq!(reading.rows, ["3"]);
    assert_eq!(acks(reading.world.sent(0)), [("puback", 1), ("puback", 2), ("puback", 3)]);
}

#[test]
fn an_empty_message_is_acknowledged_although_it_is_nothing() {
    let mut reading = connected(OLD);
    reading.accepts = false;
    reading.world.feed(0, &raw(1, 4, b"", "a"));
    reading.settle();
    assert_eq!((reading.batches, acks(reading.world.sent(0))), (0, vec![("puback", 4)]));
}

#[test]
fn a_message_of_qos_2_is_one_row_however_often_the_connection_breaks() {
    let mut reading = connected(&format!("{OLD}qos = 2\n"));
    reading.accepts = false;
    reading.world.feed(0, &publication(2, 7, 7, "a"));
    reading.settle();
    let at = reconnect(&mut reading, &RESUMED4);
    reading.world.feed(at, &publication(2, 7, 7, "a"));
    reading.settle();
    assert_eq!((&reading.rows[..], acks(reading.world.sent(at))), (&["7".to_owned()][..], vec![]));
    reading.accept(reading.batches);
    reading.settle();
    assert_eq!(acks(reading.world.sent(at)), [("pubrec", 7)]);
    let at = reconnect(&mut reading, &RESUMED4);
    reading.world.feed(at, &publication(2, 7, 7, "a"));
    reading.world.feed(at, &[0x62, 2, 0, 7]);
    reading.settle();
    assert_eq!(acks(reading.world.sent(at)), [("pubrec", 7), ("pubcomp", 7)]);
    // The id is free: what comes now is another message.
    reading.world.feed(at, &publication(2, 7, 8, "a"));
    reading.settle();
    assert_eq!(reading.rows, ["7", "8"]);
}

#[test]
fn what_was_not_acknowledged_is_not_acknowledged_under_the_same_id_of_a_later_connection() {
    let mut reading = connected(OLD);
    reading.accepts = false;
    reading.world.feed(0, &publication(1, 1, 1, "a"));
    reading.settle();
    let at = reconnect(&mut reading, &CONNACK4);
    // A broker that forgot the session gives the id to another message.
    reading.world.feed(at, &publication(1, 1, 2, "a"));
    reading.settle();
    reading.accept(1);
    reading.settle();
    assert_eq!(acks(reading.world.sent(at)), []);
    reading.accept(2);
    reading.settle();
    assert_eq!(acks(reading.world.sent(at)), [("puback", 1)]);
}

#[test]
fn it_subscribes_again_after_every_connection() {
    let mut reading = connected(OLD);
    for greeting in [CONNACK4, RESUMED4] {
        let at = reconnect(&mut reading, &greeting);
        let sent = reading.world.sent(at);
        let subscribes = sent.iter().any(|s| matches!(s, Sent::Subscribe { .. }));
        assert!(subscribes, "{sent:?}");
        assert_eq!(reading.source.health(), Health::Good);
    }
}

#[test]
fn what_came_before_the_connection_ended_is_given_out() {
    let mut reading = connected(OLD);
    for number in 0..50 {
        reading.world.feed(0, &publication(0, 0, number, "a"));
    }
    reading.world.io.finish(reading.world.ends[0]);
    reading.settle();
    assert_eq!(reading.rows.len(), 50);
    let text = trouble(&reading);
    assert!(text.contains("the broker closed the connection"), "{text}");
}

#[test]
fn a_broker_that_speaks_something_else_is_named_and_tried_again() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x30\x03\x00\x09ab", b"\0\0\0\0"] {
        let mut reading = connected(OLD);
        reading.world.feed(0, garbage);
        reading.settle();
        let text = trouble(&reading);
        assert!(text.starts_with("mqtt://127.0.0.1: what came is not MQTT: "), "{text}");
        let at = reading.world.answer();
        reading.pass(200_000);
        reading.world.feed(at, &CONNACK4);
        reading.world.feed(at, &publication(1, 1, 5, "a"));
        reading.settle();
        assert_eq!(reading.rows, ["5"]);
    }
}

#[test]
fn a_broker_that_says_nothing_is_left_after_the_timeout() {
    let mut reading = Reading::new(1, OLD);
    reading.settle();
    reading.pass(4_900_000);
    assert_eq!(reading.source.health(), Health::Good);
    reading.pass(200_000);
    assert!(trouble(&reading).contains("does not answer in time"));
}

#[test]
fn refused_credentials_and_topics_are_told_with_their_names() {
    let mut reading = Reading::new(1, OLD);
    reading.settle();
    reading.world.feed(0, &[0x20, 2, 0, 4]);
    reading.settle();
    assert!(trouble(&reading).contains("bad user name password"), "{}", trouble(&reading));

    let topics = "version = \"3.1.1\"\ntopics = [\"a\", \"secret\", \"c\"]\n";
    let mut reading = Reading::new(1, topics);
    reading.settle();
    reading.world.feed(0, &CONNACK4);
    reading.world.feed(0, &[0x90, 5, 0, 1, 1, 0x80, 0]);
    reading.settle();
    let text = trouble(&reading);
    assert!(text.contains("the broker refuses topic 'secret'"), "{text}");
    assert!(text.contains("grants topic 'c' QoS 0 only, 1 was asked for"), "{text}");
    // Asked for again, and granted.
    reading.world.sent(0);
    reading.pass(1_100_000);
    let filters = vec![("secret".to_owned(), 1), ("c".to_owned(), 1)];
    assert_eq!(reading.world.sent(0), [Sent::Subscribe { id: 1, filters }]);
    reading.world.feed(0, &[0x90, 4, 0, 1, 1, 1]);
    reading.settle();
    assert_eq!(reading.source.health(), Health::Good);
}

#[test]
fn a_stolen_client_id_is_named_whatever_the_version() {
    let mut reading = Reading::new(1, "topics = \"a\"\nclient_id = \"twin\"\n");
    reading.settle();
    reading.world.feed(0, &[0x20, 3, 0, 0, 0]);
    reading.world.feed(0, &[0xE0, 1, 0x8E]);
    // Brokers close right behind it.
    reading.world.io.finish(reading.world.ends[0]);
    reading.settle();
    let text = trouble(&reading);
    assert!(text.contains("another client came with the same client_id 'twin'"), "{text}");
    // The two do not throw each other out as fast as they can.
    reading.world.answer();
    reading.pass(900_000);
    assert_eq!(reading.world.sent(1), []);
    reading.pass(1_200_000);
    assert!(!reading.world.sent(1).is_empty());

    // 3.1.1 has no words for it.
    let mut reading = Reading::new(1, &format!("{OLD}client_id = \"twin\"\n"));
    for at in 0..3 {
        reading.pass(200_000);
        reading.world.feed(at, &CONNACK4);
        reading.settle();
        reading.world.answer();
        reading.world.io.finish(reading.world.ends[at]);
        reading.settle();
    }
    let text = trouble(&reading);
    assert!(text.contains("perhaps another client has the same client_id 'twin'"), "{text}");
}

#[test]
fn a_silent_broker_is_asked_and_left_when_it_stays_silent() {
    let mut reading = connected(&format!("{OLD}keep_alive = \"10s\"\n"));
    reading.pass(5_000_000);
    assert_eq!(reading.world.sent(0), [Sent::Ping]);
    reading.world.feed(0, &[0xD0, 0]);
    reading.settle();
    reading.pass(5_000_000);
    assert_eq!(reading.world.sent(0), [Sent::Ping]);
    reading.pass(5_000_000);
    reading.pass(5_000_000);
    let text = trouble(&reading);
    assert!(text.contains("did not answer a ping within 10 s"), "{text}");
}

#[test]
fn a_flow_without_credit_keeps_its_connection_and_bounds_what_comes() {
    let mut reading = connected(&format!("{OLD}keep_alive = \"10s\"\nqos = 0\n"));
    let many: Vec<u8> = (0..300_000).flat_map(|n| publication(0, 0, n, "a/b/c")).collect();
    let bytes = many.len();
    reading.world.feed(0, &many);
    for _ in 0..20 {
        reading.blocked_turns();
        reading.world.io.advance(5_000_000);
    }
    reading.blocked_turns();
    assert_eq!(reading.source.health(), Health::Good);
    let pings = reading.world.sent(0);
    assert!(pings.len() >= 10 && pings.iter().all(|p| *p == Sent::Ping), "{pings:?}");
    assert!(bytes > 4 << 20, "{bytes}");
    for _ in 0..200 {
        reading.settle();
    }
    assert_eq!(reading.rows.len(), 300_000);
    assert_eq!(reading.source.health(), Health::Good);
}

#[test]
fn no_more_wait_for_the_sinks_than_the_limit_and_all_arrive_in_the_end() {
    let mut reading = connected(&format!("{OLD}max_inflight = 10\n"));
    reading.accepts = false;
    for id in 1..=35 {
        reading.world.feed(0, &publication(1, id, u32::from(id), "a"));
    }
    reading.settle();
    assert_eq!(reading.rows.len(), 10);
    reading.accepts = true;
    reading.accept(reading.batches);
    assert_eq!(reading.source.wake_at_us(), Some(0), "there is work that no event announces");
    reading.settle();
    assert_eq!(reading.rows.len(), 35);
    assert_eq!(acks(reading.world.sent(0)).len(), 35);
}

#[test]
fn a_release_behind_a_full_window_is_reached() {
    let mut reading = connected(&format!("{OLD}max_inflight = 2\nqos = 2\n"));
    for id in 1..=20_u16 {
        reading.world.feed(0, &publication(2, id, u32::from(id), "a"));
    }
    reading.settle();
    for id in 1..=20 {
        reading.world.feed(0, &[0x62, 2, 0, id]);
    }
    reading.settle();
    let sent = acks(reading.world.sent(0));
    assert_eq!(sent.iter().filter(|(kind, _)| *kind == "pubcomp").count(), 20);
}

#[test]
fn a_stop_gives_out_what_came_acknowledges_it_and_takes_leave() {
    let mut reading = connected(OLD);
    reading.accepts = false;
    reading.world.feed(0, &publication(1, 1, 1, "a"));
    reading.settle();
    reading.stop();
    reading.settle();
    assert!(reading.ended && !reading.source.is_idle());
    assert_eq!(reading.world.sent(0), []);
    reading.accept(1);
    reading.settle();
    assert_eq!(reading.world.sent(0), [Sent::Ack("puback", 1), Sent::Disconnect]);
    assert!(reading.source.is_idle() && reading.world.io.is_closed(reading.world.ends[0]));
}

#[test]
fn a_stop_ends_in_every_state() {
    // Nobody there; connected and not greeted; greeted and silent; broken.
    for state in 0..4 {
        let mut reading = Reading::new(1, OLD);
        if state == 0 {
            reading.world.io.vanish(reading.world.ends[0]);
        }
        reading.settle();
        if state >= 2 {
            reading.world.feed(0, &CONNACK4);
            reading.settle();
        }
        if state == 3 {
            reading.world.io.vanish(reading.world.ends[0]);
            reading.settle();
        }
        reading.stop();
        reading.settle();
        assert!(reading.ended && reading.source.is_idle(), "state {state}");
    }
}
