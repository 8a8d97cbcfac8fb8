//! Messages that go to a broker and come back, and what is missing of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ringmain_tests::broker::Broker;
use ringmain_tests::{Driver, Job, until};

/// Messages of each way, where their number is the point. `MQTT_MESSAGES=100000`
/// is what releases are tried with.
pub(crate) fn many() -> usize {
    let asked = std::env::var("MQTT_MESSAGES").ok();
    asked.map_or(20_000, |count| count.parse().expect("MQTT_MESSAGES is a number"))
}

pub(crate) const TOPICS: usize = 8;
/// A line of the output, at most.
const LINE_BYTES: usize = 48;
/// Only a daemon that stands still meets it.
const DEADLINE: Duration = Duration::from_secs(240);

/// Messages from a generator to the broker, and from there to a file.
#[derive(Clone, Copy)]
pub(crate) struct Loop {
    pub(crate) version: &'static str,
    pub(crate) qos: u8,
    pub(crate) count: usize,
    pub(crate) rate: usize,
    /// Where the sink and the source find the broker.
    pub(crate) ports: (u16, u16),
}

/// Numbers by topic, as they came.
pub(crate) type Arrived = BTreeMap<String, Vec<u64>>;

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
    pub(crate) fn run<B: Broker>(
        &self,
        driver: Driver,
        broker: &mut B,
        mut act: impl FnMut(&mut B, usize),
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
        // Some may have come again while others are on their way.
        until("everything came back", || {
            lines(&back) >= self.count && numbers(&back).len() == self.count
        });
        assert_eq!(receiving.drain().ok().totals("broker").dead, 0);
        arrived(&back)
    }
}

pub(crate) fn lines(job: &Job) -> usize {
    let bytes = std::fs::read(job.path("out.ndjson")).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Numbers of messages that are there.
pub(crate) fn numbers(job: &Job) -> BTreeSet<u64> {
    let text = std::fs::read_to_string(job.path("out.ndjson")).unwrap_or_default();
    let whole = text.lines().filter(|line| line.ends_with('}'));
    whole
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_u64().unwrap())
        .collect()
}

pub(crate) fn arrived(job: &Job) -> Arrived {
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
pub(crate) fn assert_complete(arrived: &Arrived, count: usize) -> usize {
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
