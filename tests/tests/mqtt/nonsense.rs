//! Brokers that speak something else, and messages that no broker wants: each
//! is named, and the flow goes on.

use std::io::Write;

use ringmain_tests::broker::Broker;
use ringmain_tests::cutter::Cutter;
use ringmain_tests::mosquitto::Mosquitto;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::rumqttd::Rumqttd;
use ringmain_tests::{Driver, Job, until};

use crate::round::lines;

const SOON: &str = "min = \"5ms\", max = \"20ms\"";

/// Lines go out under the topic in their field `t`, and come back.
fn by_topic((there, back): (u16, u16), version: &str, listen: u16, retry: &str) -> Job {
    let client = format!("version = \"{version}\"\nqos = 1\nretry = {{ {retry} }}");
    let flow = format!(
        r#"
        name = "nonsense"
        [sources.lines]
        type = "tcp"
        listen = "127.0.0.1:{listen}"
        frame_bytes = "4MiB"
        [sinks.there]
        type = "mqtt"
        inputs = ["lines"]
        url = "mqtt://127.0.0.1:{there}"
        topic = "{{t}}"
        encode = {{ type = "csv", columns = ["n"] }}
        {client}
        [sources.back]
        type = "mqtt"
        url = "mqtt://127.0.0.1:{back}"
        topics = "deep/#"
        topic_field = "topic"
        decode = "text"
        {client}
        [sinks.out]
        type = "file"
        inputs = ["back"]
        path = "out.ndjson"
        [dead_letters]
        type = "file"
        path = "dead.ndjson"
        "#
    );
    Job::flow(Driver::Auto, &flow)
}

fn send(to: &mut impl Write, topic: &str, number: usize) {
    writeln!(to, "{{\"t\":\"{topic}\",\"n\":{number}}}").unwrap();
}

fn letters(job: &Job) -> usize {
    std::fs::read_to_string(job.path("dead.ndjson")).map_or(0, |text| text.matches('\n').count())
}

/// What came back, in order.
fn came(job: &Job) -> Vec<String> {
    let messages = job.json("out.ndjson");
    messages.iter().map(|m| m["message"].as_str().unwrap().trim().to_owned()).collect()
}

#[test]
fn who_answers_with_something_else_than_mqtt_is_named_and_left_until_a_broker_answers() {
    const STRANGERS: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x20\x02\x01\x00\x00\x00\x00\xff\xff\xff",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x20\xff\xff\xff\xff\xff",
        b"",
    ];
    let broker = Mosquitto::start("");
    let listen = free_port();
    // Health is looked at five times a second.
    let retry = "min = \"400ms\", max = \"400ms\"";
    let strange = Cutter::behind(broker.port(), &STRANGERS);
    let job = by_topic((strange.port(), broker.port()), "5", listen, retry);
    let mut daemon = job.start();
    broker.wait_for_subscription("deep/#");
    let mut input = connect(listen);
    send(&mut input, "deep/a", 0);
    until("it came", || lines(&job) == 1);
    daemon.wait_for("what came is not MQTT");
    assert_eq!(daemon.drain().ok().totals("there").dead, 0);
}

#[test]
fn a_topic_that_is_too_long_or_too_deep_for_the_broker_is_a_dead_letter_and_the_next_goes_out() {
    for version in ["3.1.1", "5"] {
        let broker = Mosquitto::start("");
        let listen = free_port();
        let job = by_topic((broker.port(), broker.port()), version, listen, SOON);
        let daemon = job.start();
        broker.wait_for_subscription("deep/#");
        let mut input = connect(listen);
        let million = format!("deep{}", "/a".repeat(1_000_000));
        // This broker ends the connection over more than 200 levels.
        let many = format!("deep{}", "/a".repeat(300));
        for (number, topic) in
            ["deep/a", &million, "deep/b", &many, "deep/c", "deep/+", "deep/d", "", "deep/e"]
                .into_iter()
                .enumerate()
        {
            send(&mut input, topic, number);
        }
        until("the last one came", || came_last(&job, "8"));
        until("the others are dead letters", || letters(&job) == 4);
        let done = daemon.drain();
        assert_eq!(done.ok().rows("there"), [9, 5, 0, 4]);
        let mut numbers = came(&job);
        // What it was not told to have been accepted came again.
        numbers.dedup();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers, ["0", "2", "4", "6", "8"]);
        let dead = job.json("dead.ndjson");
        let said: Vec<_> = dead.iter().map(|l| l["detail"].as_str().unwrap()).collect();
        for part in ["longer than 65535 bytes", "over this message alone", "has a wildcard"] {
            assert!(said.iter().any(|detail| detail.contains(part)), "{part}: {said:?}");
        }
    }
}

fn came_last(job: &Job, number: &str) -> bool {
    std::fs::read_to_string(job.path("out.ndjson"))
        .is_ok_and(|text| text.lines().any(|line| line.contains(&format!("\"{number}\""))))
}

#[test]
fn a_topic_of_thirty_thousand_levels_arrives_whole() {
    // mosquitto takes none of more than 200.
    let broker = Rumqttd::of_version("3.1.1");
    let listen = free_port();
    let job = by_topic((broker.port(), broker.port()), "3.1.1", listen, SOON);
    let daemon = job.start();
    broker.wait_for_subscription("deep/#");
    let mut input = connect(listen);
    let deep = format!("deep{}", "/a".repeat(30_000));
    send(&mut input, &deep, 0);
    send(&mut input, "deep/b", 1);
    until("both came", || lines(&job) == 2);
    assert_eq!(daemon.drain().ok().totals("back").dead, 0);
    let topics: Vec<_> = job.json("out.ndjson");
    let topics: Vec<_> = topics.iter().map(|m| m["topic"].as_str().unwrap()).collect();
    assert_eq!(topics, [&*deep, "deep/b"]);
}
