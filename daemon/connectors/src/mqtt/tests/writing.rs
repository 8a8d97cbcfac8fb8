//! What a sink sends, and what it does with the answers.

use ringmain_base::Reason;

use super::rig::{CONNACK4, RESUMED4, Sent, Writing, publish};
use crate::Health;

const OLD: &str = "version = \"3.1.1\"\ntopic = \"out/{d}\"\nencode = \"text\"\n";

fn ack(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

fn trouble(writing: &Writing) -> String {
    match writing.sink.health() {
        Health::Retrying(text) => text,
        other => panic!("{other:?}"),
    }
}

fn connected(keys: &str) -> Writing {
    let mut writing = Writing::new(1, keys);
    writing.settle();
    let greeting = if keys.contains("3.1.1") { &CONNACK4[..] } else { &[0x20, 3, 0, 0, 0] };
    writing.world.feed(0, greeting);
    writing.settle();
    writing.world.sent(0);
    writing
}

fn push(writing: &mut Writing, count: std::ops::Range<u16>) {
    for number in count {
        assert!(writing.push(&[("d", "a"), ("message", &number.to_string())]));
    }
    writing.settle();
}

/// The connection is cut and made again; what is sent on the new one.
fn reconnect(writing: &mut Writing, greeting: &[u8]) -> (usize, Vec<Sent>) {
    let at = writing.world.answer();
    writing.world.io.vanish(writing.world.ends[at - 1]);
    writing.settle();
    writing.pass(200_000);
    writing.world.feed(at, greeting);
    writing.settle();
    let mut sent = writing.world.sent(at);
    assert!(matches!(sent.remove(0), Sent::Connect { .. }));
    (at, sent)
}

#[test]
fn a_slab_is_finished_when_the_broker_has_acknowledged_it() {
    let mut writing = connected(OLD);
    push(&mut writing, 0..2);
    let expected = [publish(1, "out/a", "0", false), publish(2, "out/a", "1", false)];
    assert_eq!(writing.world.sent(0), expected);
    assert_eq!((writing.sink.finished(), writing.sink.is_idle()), (0, false));
    writing.world.feed(0, &ack(1));
    writing.settle();
    assert_eq!(writing.sink.finished(), 1);
    writing.world.feed(0, &ack(2));
    writing.settle();
    assert_eq!((writing.sink.finished(), writing.sink.is_idle()), (2, true));
    writing.finish();
    assert_eq!(writing.world.sent(0), [Sent::Disconnect]);
    assert!(writing.sink.is_idle() && writing.world.io.is_closed(writing.world.ends[0]));
}

#[test]
fn what_is_pushed_before_there_is_a_connection_goes_out_when_there_is_one() {
    let mut writing = Writing::new(1, OLD);
    push(&mut writing, 0..3);
    assert!(matches!(writing.world.sent(0)[..], [Sent::Connect { .. }]));
    writing.world.feed(0, &CONNACK4);
    writing.settle();
    assert_eq!(writing.world.sent(0).len(), 3);
}

/// The moment at which rumqttc loses a publication: acknowledgements out of
/// order, the row of ids wraps around to one that is still open, and the
/// connection breaks.
#[test]
fn an_open_id_is_not_taken_by_another_message_however_many_follow() {
    let mut writing = connected(&format!("{OLD}max_inflight = 5\n"));
    push(&mut writing, 0..5);
    writing.world.sent(0);
    for id in [2, 3, 4, 5] {
        writing.world.feed(0, &ack(id));
    }
    writing.settle();
    push(&mut writing, 5..30);
    let mut ids = Vec::new();
    loop {
        let sent = writing.world.sent(0);
        if sent.is_empty() {
            break;
        }
        for sent in sent {
            let Sent::Publish { id, .. } = sent else { panic!("{sent:?}") };
            ids.push(id);
            writing.world.feed(0, &ack(id));
        }
        writing.settle();
    }
    assert_eq!(ids, (6..=30).collect::<Vec<_>>());
    let (at, sent) = reconnect(&mut writing, &RESUMED4);
    assert_eq!(sent, [publish(1, "out/a", "0", true)]);
    writing.world.feed(at, &ack(1));
    writing.settle();
    assert!(writing.sink.is_idle());
    assert_eq!(writing.sink.finished(), 30);
}

#[test]
fn a_broker_that_forgot_the_session_gets_everything_anew_and_in_order() {
    let mut writing = connected(OLD);
    push(&mut writing, 0..6);
    writing.world.feed(0, &ack(2));
    writing.settle();
    let (at, sent) = reconnect(&mut writing, &CONNACK4);
    let payloads = [(1, "0"), (3, "2"), (4, "3"), (5, "4"), (6, "5")];
    let expected: Vec<_> = payloads.map(|(id, n)| publish(id, "out/a", n, false)).into();
    assert_eq!(sent, expected);
    for (id, _) in payloads {
        writing.world.feed(at, &ack(id));
    }
    writing.settle();
    assert!(writing.sink.is_idle());
}

#[test]
fn qos_2_is_handed_over_in_two_steps_and_resumed_in_the_middle() {
    let mut writing = connected(&format!("{OLD}qos = 2\n"));
    push(&mut writing, 0..2);
    writing.world.sent(0);
    writing.world.feed(0, &[0x50, 2, 0, 1]);
    writing.settle();
    assert_eq!(writing.world.sent(0), [Sent::Ack("pubrel", 1)]);
    let (at, sent) = reconnect(&mut writing, &RESUMED4);
    let Sent::Publish { id: 2, dup: true, qos: 2, .. } = sent[1] else { panic!("{sent:?}") };
    assert_eq!(sent[0], Sent::Ack("pubrel", 1));
    writing.world.feed(at, &[0x70, 2, 0, 1, 0x50, 2, 0, 2]);
    writing.settle();
    assert_eq!(
        (writing.sink.finished(), writing.world.sent(at)),
        (1, vec![Sent::Ack("pubrel", 2)])
    );
    writing.world.feed(at, &[0x70, 2, 0, 2]);
    writing.settle();
    assert!(writing.sink.is_idle());
}

#[test]
fn no_more_are_under_way_than_the_broker_takes() {
    // Receive maximum 3.
    let mut writing = Writing::new(1, "topic = \"t\"\nencode = \"text\"\n");
    writing.settle();
    writing.world.feed(0, &[0x20, 6, 0, 0, 3, 0x21, 0, 3]);
    writing.settle();
    writing.world.sent(0);
    push(&mut writing, 0..10);
    assert_eq!(writing.world.sent(0).len(), 3);
    writing.world.feed(0, &ack(1));
    writing.world.feed(0, &ack(2));
    writing.settle();
    assert_eq!(writing.world.sent(0).len(), 2);
}

#[test]
fn a_stalled_broker_bounds_the_memory_and_stops_the_flow() {
    let mut writing = connected(&format!("{OLD}buffer = \"4KiB\"\n"));
    let taken = (0..1_000).take_while(|_| writing.push(&[("d", "a"), ("message", "x")])).count();
    assert!((20..200).contains(&taken), "{taken}");
    writing.settle();
    for id in 1..=taken as u16 {
        writing.world.feed(0, &ack(id));
    }
    writing.settle();
    assert!(writing.push(&[("d", "a"), ("message", "x")]));
}

#[test]
fn a_topic_that_data_spoils_is_a_dead_letter_and_the_next_message_goes_out() {
    let mut writing = connected(&OLD.replace("out/{d}", "{d}"));
    let long = "x/".repeat(40_000);
    for topic in ["a/+", "#", "", &long] {
        assert!(writing.push(&[("d", topic), ("message", "x")]));
    }
    assert!(writing.push(&[("message", "no topic")]));
    assert!(writing.push(&[("d", "plant/1"), ("message", "good")]));
    writing.settle();
    assert_eq!(writing.world.sent(0), [publish(1, "plant/1", "good", false)]);
    let reasons: Vec<_> = writing.world.letters.0.iter().map(|letter| letter.reason).collect();
    let encode = Reason::Encode;
    assert_eq!(reasons, [encode, encode, encode, encode, Reason::Field]);
    writing.world.feed(0, &ack(1));
    writing.settle();
    assert_eq!((writing.sink.finished(), writing.sink.is_idle()), (6, true));
}

#[test]
fn what_the_broker_refuses_for_its_length_or_otherwise_is_a_dead_letter() {
    let mut writing = Writing::new(1, "topic = \"t\"\nencode = \"text\"\n");
    writing.settle();
    // Packets of 30 bytes at most.
    writing.world.feed(0, &[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 30]);
    writing.settle();
    writing.world.sent(0);
    assert!(writing.push(&[("message", &"x".repeat(50))]));
    assert!(writing.push(&[("message", "short")]));
    writing.settle();
    assert_eq!(writing.world.sent(0), [publish(2, "t", "short", false)]);
    writing.world.feed(0, &[0x40, 4, 0, 2, 0x87, 0]);
    writing.settle();
    let letters = &writing.world.letters.0;
    assert_eq!((letters[0].reason, letters[0].bytes.len()), (Reason::TooLong, 50));
    assert_eq!((letters[1].reason, &letters[1].bytes[..]), (Reason::Rejected, &b"short"[..]));
    assert!(letters[1].detail.contains("not authorized") && letters[1].origin == "t");
    assert_eq!((writing.sink.finished(), writing.sink.is_idle()), (2, true));
    assert!(trouble(&writing).contains("not authorized"));
}

#[test]
fn a_broker_without_the_wanted_quality_is_named() {
    let mut writing = Writing::new(1, "topic = \"t\"\nqos = 2\n");
    writing.settle();
    writing.world.feed(0, &[0x20, 5, 0, 0, 2, 0x24, 1]);
    writing.settle();
    assert!(trouble(&writing).contains("the broker takes QoS 1 at most"), "{}", trouble(&writing));
}

#[test]
fn after_the_limit_of_attempts_messages_are_dead_letters() {
    let retry = "retry = { min = \"100ms\", max = \"100ms\", limit = 3 }\n";
    let mut writing = connected(&format!("{OLD}{retry}"));
    push(&mut writing, 0..3);
    writing.world.io.vanish(writing.world.ends[0]);
    writing.settle();
    assert!(writing.world.letters.0.is_empty(), "one attempt is not three");
    writing.pass(200_000);
    writing.pass(200_000);
    let letters = std::mem::take(&mut writing.world.letters.0);
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|l| l.reason == Reason::Undelivered && l.origin == "out/a"));
    assert_eq!((writing.sink.finished(), writing.sink.is_idle()), (3, true));
    // The broker may hold ids of what was given up: the session begins anew.
    let at = writing.world.answer();
    writing.pass(200_000);
    let Sent::Connect { clean, .. } = &writing.world.sent(at)[0] else { panic!("no greeting") };
    assert!(clean);
}

#[test]
fn garbage_is_named_and_nothing_is_lost() {
    let mut writing = connected(OLD);
    push(&mut writing, 0..3);
    writing.world.sent(0);
    let at = writing.world.answer();
    writing.world.feed(0, b"SSH-2.0-OpenSSH_9.2\r\n");
    writing.settle();
    assert!(trouble(&writing).contains("what came is not MQTT"), "{}", trouble(&writing));
    writing.pass(200_000);
    writing.world.feed(at, &CONNACK4);
    writing.settle();
    assert_eq!(writing.world.sent(at).len(), 1 + 3);
}

#[test]
fn qos_0_is_finished_when_it_is_written_and_goes_out_again_when_it_was_not() {
    let mut writing = connected(&format!("{OLD}qos = 0\n"));
    push(&mut writing, 0..3);
    assert_eq!((writing.sink.finished(), writing.sink.is_idle()), (3, true));
    writing.world.io.set_window(writing.world.ends[0], 0);
    push(&mut writing, 3..5);
    assert_eq!(writing.sink.finished(), 3);
    let (_, sent) = reconnect(&mut writing, &CONNACK4);
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!(writing.sink.finished(), 5);
}

#[test]
fn a_message_over_which_the_broker_ends_every_connection_is_refused_and_the_others_go_out() {
    let mut writing = connected(&format!("{OLD}retry = {{ min = \"1ms\", max = \"1ms\" }}\n"));
    push(&mut writing, 0..3);
    let mut at = 0;
    for life in 0..6 {
        let next = writing.world.answer();
        writing.world.io.finish(writing.world.ends[at]);
        writing.settle();
        at = next;
        assert!(writing.world.letters.0.is_empty(), "after {life} ends");
        writing.pass(60_000_000);
        writing.world.feed(at, &CONNACK4);
        writing.settle();
        let sent = writing.world.sent(at).len() - 1;
        assert_eq!(sent, if (2..5).contains(&life) { 1 } else { 3 - life / 5 }, "{life}");
    }
    let letters = std::mem::take(&mut writing.world.letters.0);
    assert_eq!((letters.len(), letters[0].reason), (1, Reason::Rejected));
    assert_eq!((&letters[0].bytes[..], &*letters[0].origin), (&b"0"[..], "out/a"));
    let detail = "the broker closed the connection, 3 times over this message alone";
    assert_eq!(letters[0].detail, detail);
    writing.world.feed(at, &[ack(2), ack(3)].concat());
    writing.settle();
    assert_eq!((writing.sink.finished(), writing.sink.is_idle()), (3, true));
}

#[test]
fn a_broker_that_answers_something_or_leaves_for_its_own_reasons_is_not_suspicious() {
    let keys = "version = \"5\"\ntopic = \"t\"\nencode = \"text\"\n";
    let mut writing = connected(&format!("{keys}retry = {{ min = \"1ms\", max = \"1ms\" }}\n"));
    push(&mut writing, 0..30);
    let mut at = 0;
    for life in 0..20 {
        let next = writing.world.answer();
        if life % 2 == 0 {
            // Server shutting down.
            writing.world.feed(at, &[0xE0, 1, 0x8B]);
        } else {
            writing.world.feed(at, &ack(1 + life / 2));
        }
        writing.world.io.finish(writing.world.ends[at]);
        writing.settle();
        at = next;
        writing.pass(60_000_000);
        writing.world.feed(at, &[0x20, 3, 1, 0, 0]);
        writing.settle();
        assert_eq!(writing.world.sent(at).len(), 1 + 30 - usize::from(life.div_ceil(2)), "{life}");
    }
    assert!(writing.world.letters.0.is_empty());
}
