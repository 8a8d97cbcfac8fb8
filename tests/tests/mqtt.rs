//! MQTT against mosquitto: every quality of both versions, restarts of the
//! broker and of the daemon, connections that break.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ringmain_tests::cutter::Cutter;
use ringmain_tests::mosquitto::Mosquitto;
use ringmain_tests::{Driver, Job, until, with_each_driver};
use rustix::process::Signal;

/// Messages of each way, where their number is the point.
const MANY: usize = 100_000;
const TOPICS: usize = 8;
/// A line of the output, at most.
const LINE_BYTES: usize = 48;
/// Only a daemon that stands still meets it.
const DEADLINE: Duration = Duration::from_secs(240);

/// Messages from a generator to the broker, and from there to a file.
#[derive(Clone, Copy)]
struct Loop {
    version: &'static str,
    qos: u8,
    count: usize,
    rate: usize,
    /// Where the sink and the source find the broker.
    ports: (u16, u16),
}

/// Numbers by topic, as they came.
type Arrived = BTreeMap<String, Vec<u64>>;

impl Loop {
    fn common(&self) -> String {
        let Self { version, qos, .. } = self;
        format!(
            "version = \"{version}\"\nqos = {qos}\nretry = {{ min = \"20ms\", max = \"200ms\" }}"
        )
    }

    fn there(&self, driver: Driver) -> Job {
        let Self { count, rate, ports, .. } = self;
        let common = self.common();
        let flow = format!(
            r#"
            name = "there"
            [sources.made]
            type = "generator"
            count = {count}
            rate = {rate}
            [sources.made.fields]
            n = {{ type = "sequence" }}
            d = {{ type = "name", prefix = "d", count = {TOPICS}, digits = 1 }}
            [sinks.broker]
            type = "mqtt"
            inputs = ["made"]
            url = "mqtt://127.0.0.1:{}"
            topic = "there/{{d}}"
            {common}
            "#,
            ports.0
        );
        Job::flow(driver, &flow)
    }

    fn back(&self, driver: Driver) -> Job {
        let common = self.common();
        let flow = format!(
            r#"
            name = "back"
            [sources.broker]
            type = "mqtt"
            url = "mqtt://127.0.0.1:{}"
            topics = ["there/+"]
            topic_field = "topic"
            {common}
            [sinks.out]
            type = "file"
            inputs = ["broker"]
            path = "out.ndjson"
            "#,
            self.ports.1
        );
        Job::flow(driver, &flow)
    }

    /// Everything there and back, with something going on meanwhile.
    fn run(
        &self,
        driver: Driver,
        broker: &mut Mosquitto,
        mut act: impl FnMut(&mut Mosquitto, usize),
    ) -> Arrived {
        let back = self.back(driver);
        let receiving = back.start();
        broker.wait_for_subscription("there/+");
        let there = self.there(driver);
        let mut sending = there.start();
        let start = Instant::now();
        while sending.is_running() {
            assert!(start.elapsed() < DEADLINE, "the sink stands still: {}", sending.said());
            std::thread::sleep(Duration::from_millis(5));
            let bytes = back.path("out.ndjson").metadata().map_or(0, |file| file.len());
            act(broker, bytes as usize / LINE_BYTES);
        }
        let sent = sending.wait();
        assert_eq!(sent.ok().rows("broker"), [self.count as u64, self.count as u64, 0, 0]);
        until("everything came back", || lines(&back) >= self.count);
        assert_eq!(receiving.drain().ok().totals("broker").dead, 0);
        arrived(&back)
    }
}

fn lines(job: &Job) -> usize {
    let bytes = std::fs::read(job.path("out.ndjson")).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn arrived(job: &Job) -> Arrived {
    let mut arrived = Arrived::new();
    for message in job.json("out.ndjson") {
        let topic = message["topic"].as_str().unwrap().to_owned();
        let device = message["d"].as_str().unwrap_or("x");
        assert!(topic.ends_with(&format!("/{device}")), "{message}");
        arrived.entry(topic).or_default().push(message["n"].as_u64().unwrap());
    }
    arrived
}

/// Every number arrived, those of a topic for the first time in order; returns
/// how many came again.
fn assert_complete(arrived: &Arrived, count: usize) -> usize {
    let (mut missing, mut again) = (vec![true; count], 0);
    for (topic, numbers) in arrived {
        let mut last = None;
        for number in numbers {
            if std::mem::take(&mut missing[*number as usize]) {
                assert!(last < Some(*number), "{topic}: {number} after {last:?}");
                last = Some(*number);
            } else {
                again += 1;
            }
        }
    }
    let missing = missing.into_iter().filter(|missing| *missing).count();
    assert_eq!(missing, 0, "of {count} messages are missing");
    again
}

#[test]
fn every_quality_of_both_versions_brings_every_message_once_and_in_order() {
    for version in ["3.1.1", "5"] {
        for qos in 0..=2 {
            // A new one each time: it knows no session of the one before.
            let mut broker = Mosquitto::start("");
            let ports = (broker.port(), broker.port());
            let run = Loop { version, qos, count: 2_000, rate: 20_000, ports };
            let arrived = run.run(Driver::Auto, &mut broker, |_, _| ());
            assert_eq!(assert_complete(&arrived, run.count), 0, "{version}, QoS {qos}");
            assert_eq!(arrived.len(), TOPICS);
        }
    }
}

with_each_driver! {
    fn a_hundred_thousand_messages_of_qos_1_come_back_once_each(driver: Driver) {
        let mut broker = Mosquitto::start("");
        let ports = (broker.port(), broker.port());
        let run = Loop { version: "5", qos: 1, count: MANY, rate: 10_000_000, ports };
        let arrived = run.run(driver, &mut broker, |_, _| ());
        assert_eq!(assert_complete(&arrived, MANY), 0);
    }

    fn a_hundred_thousand_messages_of_qos_2_come_back_once_each_although_connections_break(
        driver: Driver
    ) {
        let mut broker = Mosquitto::start("");
        let cutter = Cutter::new(broker.port());
        let ports = (cutter.port(), cutter.port());
        let run = Loop { version: "3.1.1", qos: 2, count: MANY, rate: 10_000_000, ports };
        let mut cuts = 0;
        let arrived = run.run(driver, &mut broker, |_, arrived| {
            if arrived > 10_000 * (cuts + 1) {
                cuts += 1;
                assert!(cutter.cut() > 0, "there was nothing to cut");
            }
        });
        assert!(cuts >= 5, "{cuts}");
        assert_eq!(assert_complete(&arrived, MANY), 0);
    }
}

#[test]
fn a_broker_that_restarts_loses_no_message_of_qos_1() {
    let mut broker = Mosquitto::start("");
    let ports = (broker.port(), broker.port());
    let run = Loop { version: "5", qos: 1, count: 40_000, rate: 20_000, ports };
    let mut restarts = 0;
    let arrived = run.run(Driver::Auto, &mut broker, |broker, arrived| {
        if restarts < 3 && arrived > 8_000 * (restarts + 1) {
            broker.stop();
            broker.start_again();
            restarts += 1;
        }
    });
    assert_eq!(restarts, 3);
    // In which order it sends what it stored is the broker's affair: this
    // one's does not always keep it.
    let numbers: BTreeSet<u64> = arrived.values().flatten().copied().collect();
    assert_eq!(numbers.len(), run.count);
    let again = arrived.values().map(Vec::len).sum::<usize>() - run.count;
    assert!(again < run.count, "{again} came again");
}

#[test]
fn a_daemon_that_is_killed_again_and_again_loses_no_message_of_its_session() {
    const COUNT: usize = 30_000;
    let broker = Mosquitto::start("");
    let job = Job::flow(
        Driver::Auto,
        &format!(
            r#"
            name = "killed"
            [sources.broker]
            type = "mqtt"
            url = "mqtt://127.0.0.1:{}"
            topics = "plant/+"
            topic_field = "topic"
            [sinks.out]
            type = "file"
            inputs = ["broker"]
            path = "out.ndjson"
            "#,
            broker.port()
        ),
    );
    let mut daemon = job.start();
    broker.wait_for_subscription("plant/+");
    let text: String = (0..COUNT).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let mut publisher = broker.publisher("plant/x", &text);
    for _ in 0..4 {
        let before = lines(&job);
        until("more has arrived", || lines(&job) > before + 500 || lines(&job) >= COUNT);
        daemon.signal(Signal::KILL);
        drop(daemon);
        daemon = job.start();
    }
    assert!(publisher.wait().unwrap().success());
    until("everything has arrived", || {
        std::fs::read_to_string(job.path("out.ndjson"))
            .is_ok_and(|text| text.contains(&format!("\"n\":{},", COUNT - 1)))
    });
    let done = daemon.drain();
    assert_eq!(done.ok().totals("broker").dead, 0);
    let again = assert_complete(&arrived(&job), COUNT);
    // Each time at most what was under way.
    assert!(again <= 4 * 1_000, "{again} came again");
}

#[test]
fn a_poisonous_message_is_a_dead_letter_with_its_topic_and_does_not_come_back() {
    let broker = Mosquitto::start("");
    let job = Job::flow(
        Driver::Auto,
        &format!(
            r#"
            [sources.broker]
            type = "mqtt"
            url = "mqtt://127.0.0.1:{}"
            topics = ["a", {{ topic = "b", qos = 2 }}]
            [sinks.out]
            type = "file"
            inputs = ["broker"]
            path = "out.ndjson"
            [dead_letters]
            type = "file"
            path = "dead.ndjson"
            "#,
            broker.port()
        ),
    );
    let daemon = job.start();
    broker.wait_for_subscription("b");
    broker.publish("a", 1, "{broken");
    broker.publish("b", 2, "{\"n\":1}");
    broker.publish("b", 2, "nonsense");
    until("the good one has arrived", || lines(&job) == 1);
    until("both letters are there", || {
        std::fs::read_to_string(job.path("dead.ndjson")).is_ok_and(|t| t.matches('\n').count() == 2)
    });
    let done = daemon.drain();
    assert_eq!(done.ok().rows("broker"), [3, 1, 0, 2]);
    let letters = job.json("dead.ndjson");
    assert_eq!((&letters[0]["origin"], &letters[0]["raw"]), (&"a".into(), &"{broken".into()));
    assert_eq!((&letters[1]["origin"], &letters[1]["reason"]), (&"b".into(), &"decode".into()));
    // All of it was acknowledged: a new run gets nothing.
    let daemon = job.start();
    broker.publish("a", 1, "{\"n\":2}");
    until("the next one has arrived", || lines(&job) == 2);
    assert_eq!(daemon.drain().ok().rows("broker"), [1, 1, 0, 0]);
}

#[test]
fn two_clients_with_one_id_are_told() {
    let broker = Mosquitto::start("");
    let flow = format!(
        r#"
        [sources.broker]
        type = "mqtt"
        url = "mqtt://127.0.0.1:{}"
        topics = "a"
        client_id = "twin"
        [sinks.out]
        type = "blackhole"
        inputs = ["broker"]
        "#,
        broker.port()
    );
    let jobs = [(); 2].map(|()| Job::flow(Driver::Auto, &flow));
    let mut first = jobs[0].start();
    broker.wait_for_subscription("a");
    let second = jobs[1].start();
    // This mosquitto says nothing to the one that it throws out.
    first.wait_for("perhaps another client has the same client_id 'twin'");
    assert!(second.drain().status.success());
    assert!(first.drain().status.success());
}
