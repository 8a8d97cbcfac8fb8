//! Events: messages become them, bad ones are dead letters, repeats stay away
//! over a restart, and they arrive by MQTT, by HTTP and in a file.

use std::io::Write;

use ringmain_tests::broker::Broker;
use ringmain_tests::mosquitto::Mosquitto;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::{Driver, Job, until};

/// An event sink and its way back.
fn flow(broker: u16, listen: u16, http: u16) -> String {
    let event = |to: &str| {
        format!(
            r#"
            type = "event"
            inputs = ["lines"]
            entity = "device"
            event_type = "kind"
            description = "'rpm is ' .. rpm"
            source = {{ value = "motor's watch" }}
            severity = "rpm > 100 and 20 or 30"
            code = 17
            new_types = "refuse"
            dedupe = {{ every = "1d" }}
            fields = {{ rpm = "rpm", unit = {{ value = "1/min" }} }}
            to = {to}
            "#
        )
    };
    let (mqtt, post, file) = (
        event(&format!(
            "{{ type = \"mqtt\", url = \"mqtt://127.0.0.1:{broker}\", \
             topic = \"events/{{entityId}}/{{typeId}}\" }}"
        )),
        event(&format!("{{ type = \"http\", url = \"http://127.0.0.1:{http}/\" }}")),
        event("{ type = \"file\", path = \"file.ndjson\" }"),
    );
    format!(
        r#"
        name = "motors"
        event_types = "types.toml"
        allow_loss = true
        [sources.lines]
        type = "tcp"
        listen = "127.0.0.1:{listen}"
        [sinks.mqtt]
        {mqtt}
        [sinks.post]
        {post}
        [sinks.file]
        {file}
        [sources.subscribed]
        type = "mqtt"
        url = "mqtt://127.0.0.1:{broker}"
        topics = "events/#"
        topic_field = "topic"
        [sinks.from_mqtt]
        type = "file"
        inputs = ["subscribed"]
        path = "mqtt.ndjson"
        [sources.posted]
        type = "http"
        listen = "127.0.0.1:{http}"
        [sinks.from_http]
        type = "file"
        inputs = ["posted"]
        path = "http.ndjson"
        [dead_letters]
        type = "file"
        path = "dead.ndjson"
        "#
    )
}

const TYPES: &str = r#"
[overspeed]
severities = [20, 30]
fields = { rpm = "integer", unit = { type = "string", required = false } }
"#;

fn lines(job: &Job, name: &str) -> usize {
    let text = std::fs::read_to_string(job.path(name)).unwrap_or_default();
    text.matches('\n').count()
}

#[test]
fn events_arrive_by_every_way_without_repeats_and_bad_messages_are_dead_letters() {
    let broker = Mosquitto::start("");
    let (listen, http) = (free_port(), free_port());
    let job = Job::new(Driver::Auto)
        .file("types.toml", TYPES)
        .and_flow(&flow(broker.port(), listen, http))
        .shards("\n[daemon]\ndata_dir = \"data\"\n");
    let daemon = job.start();
    broker.wait_for_subscription("events/#");
    let mut input = connect(listen);
    let send = |input: &mut dyn Write, device: &str, kind: &str, rpm: &str| {
        let ts = "2026-01-02T03:04:05Z";
        writeln!(
            input,
            "{{\"device\":{device},\"kind\":\"{kind}\",\"rpm\":{rpm},\"timestamp\":\"{ts}\"}}"
        )
        .unwrap();
    };
    for rpm in ["99", "101", "120"] {
        send(&mut input, "\"m1\"", "overspeed", rpm);
    }
    send(&mut input, "\"m2\"", "overspeed", "101");
    // No such type, no entity, no number, no whole number.
    send(&mut input, "\"m3\"", "overheat", "7");
    send(&mut input, "null", "overspeed", "7");
    send(&mut input, "\"m3\"", "overspeed", "true");
    send(&mut input, "\"m3\"", "overspeed", "7.5");
    let ways = ["mqtt.ndjson", "http.ndjson", "file.ndjson"];
    until("both events arrived by every way", || ways.iter().all(|way| lines(&job, way) >= 2));
    until("the letters are there", || lines(&job, "dead.ndjson") == 12);
    drop(input);
    let done = daemon.drain();
    for way in ["mqtt", "post", "file"] {
        // Of eight, two were repeats and four made no event.
        let events = format!("{way}_event");
        assert_eq!(done.ok().rows(&events), [8, 2, 2, 4], "{events}");
        assert_eq!(done.ok().rows(way), [2, 2, 0, 0], "{way}");
    }
    let expected = |device: &str, rpm: u64, severity: u64| {
        serde_json::json!({
            "entityId": device, "timestamp": "2026-01-02T03:04:05Z", "typeId": "overspeed",
            "description": format!("rpm is {rpm}"), "source": "motor's watch", "code": 17,
            "severity": severity, "acknowledged": false, "rpm": rpm, "unit": "1/min",
        })
    };
    for way in ways {
        let mut events = job.json(way);
        for event in &mut events {
            let topic = event.as_object_mut().unwrap().remove("topic");
            let entity = event["entityId"].as_str().unwrap();
            let wanted = format!("events/{entity}/overspeed");
            assert_eq!(topic.is_some_and(|topic| topic == wanted), way == "mqtt.ndjson");
        }
        assert_eq!(events, [expected("m1", 99, 30), expected("m2", 101, 20)], "{way}");
    }
    let letters = job.json("dead.ndjson");
    let of_file: Vec<_> = letters.iter().filter(|l| l["component"] == "file_event").collect();
    let told: Vec<_> = of_file.iter().map(|l| l["detail"].as_str().unwrap()).collect();
    for why in [
        "the event type 'overheat' is not one of [event_types]",
        "the event has no 'entityId'",
        "attempt to concatenate field 'rpm' (a boolean value)",
        "'rpm' of the event must be a whole number: Float(7.5)",
    ] {
        assert!(told.contains(&why), "{why}: {told:?}");
    }
    // The message is there as it came, so that it can go in again.
    let message = of_file.iter().map(|l| &l["message"]).find(|m| m["rpm"] == 7.5);
    assert_eq!(message.map(|m| &m["device"]), Some(&"m3".into()));
    // What was an event before the restart is a repeat after it.
    let daemon = job.start();
    let mut input = connect(listen);
    send(&mut input, "\"m1\"", "overspeed", "130");
    send(&mut input, "\"m9\"", "overspeed", "131");
    until("the new one arrived", || ways.iter().all(|way| lines(&job, way) >= 3));
    drop(input);
    let done = daemon.drain();
    assert_eq!(done.ok().rows("file_event"), [2, 1, 1, 0]);
}
