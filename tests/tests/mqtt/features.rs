//! Shared subscriptions, the last will, and messages that a broker keeps.

use std::collections::BTreeSet;

use ringmain_tests::broker::Broker;
use ringmain_tests::mosquitto::Mosquitto;
use ringmain_tests::{Driver, Job, until};
use rustix::process::Signal;

use crate::round::{lines, numbers};

fn subscriber(broker: u16, id: &str, topics: &str, more: &str) -> Job {
    let flow = format!(
        r#"
        [sources.broker]
        type = "mqtt"
        url = "mqtt://127.0.0.1:{broker}"
        client_id = "{id}"
        topics = {topics}
        topic_field = "topic"
        {more}
        [sinks.out]
        type = "file"
        inputs = ["broker"]
        path = "out.ndjson"
        "#
    );
    Job::flow(Driver::Auto, &flow)
}

#[test]
fn two_daemons_divide_a_shared_subscription_and_one_takes_over_when_the_other_goes() {
    const EACH: usize = 2_000;
    for (version, qos) in [("3.1.1", 1), ("5", 2)] {
        let broker = Mosquitto::start("");
        let filter = "$share/readers/plant/+";
        let more = format!("version = \"{version}\"\nqos = {qos}");
        let topics = format!("\"{filter}\"");
        let jobs = ["one", "two"].map(|id| subscriber(broker.port(), id, &topics, &more));
        let [first, second] = jobs.each_ref().map(Job::start);
        broker.wait_for_subscriptions(filter, 2);
        let text = |from: usize| -> String {
            (from..from + EACH).map(|n| format!("{{\"n\":{n}}}\n")).collect()
        };
        let mut publisher = broker.publisher("plant/x", &text(0));
        until("everything has arrived", || lines(&jobs[0]) + lines(&jobs[1]) == EACH);
        assert!(publisher.wait().unwrap().success());
        let [one, two] = jobs.each_ref().map(numbers);
        assert!(!one.is_empty() && !two.is_empty(), "{} and {}", one.len(), two.len());
        assert!(one.is_disjoint(&two), "a message came to both");
        assert_eq!(one.union(&two).copied().collect::<BTreeSet<_>>(), (0..EACH as u64).collect());
        // What comes now is the other's alone.
        let before = lines(&jobs[1]);
        assert!(first.drain().status.success());
        // Its session goes on, so its share waits for it, unless it has ended.
        let mut publisher = broker.publisher("plant/x", &text(EACH));
        let first = jobs[0].start();
        until("the rest has arrived, too", || lines(&jobs[0]) + lines(&jobs[1]) == 2 * EACH);
        assert!(lines(&jobs[1]) > before);
        assert!(publisher.wait().unwrap().success());
        assert!(first.drain().status.success() && second.drain().status.success());
    }
}

#[test]
fn the_last_will_is_published_when_the_daemon_dies_and_not_when_it_leaves() {
    for version in ["3.1.1", "5"] {
        let broker = Mosquitto::start("");
        let heir = subscriber(broker.port(), "heir", "\"wills/+\"", "decode = \"text\"");
        let heir_runs = heir.start();
        broker.wait_for_subscription("wills/+");
        let will = format!(
            "version = \"{version}\"\n\
             last_will = {{ topic = \"wills/plant\", payload = \"gone\", qos = 1 }}"
        );
        let job = subscriber(broker.port(), "mortal", "\"plant/{version}\"", &will);
        let daemon = job.start();
        broker.wait_for_subscription("plant/{version}");
        assert!(daemon.drain().status.success());
        broker.publish("wills/marker", 1, "left");
        until("the marker has come", || lines(&heir) == 1);
        let daemon = job.start();
        broker.wait_for_subscriptions("plant/{version}", 2);
        daemon.signal(Signal::KILL);
        until("the will has come", || lines(&heir) == 2);
        drop(daemon);
        assert!(heir_runs.drain().status.success());
        let came = heir.json("out.ndjson");
        let came: Vec<_> = came.iter().map(|m| m["message"].as_str().unwrap()).collect();
        assert_eq!(came, ["left", "gone"]);
    }
}

#[test]
fn the_last_message_of_each_topic_is_kept_for_who_comes_later() {
    for version in ["3.1.1", "5"] {
        let broker = Mosquitto::start("");
        let there = Job::flow(
            Driver::Auto,
            &format!(
                r#"
                [sources.made]
                type = "generator"
                count = 100
                [sources.made.fields]
                n = {{ type = "sequence" }}
                [operators.named]
                type = "map"
                inputs = ["made"]
                set = {{ d = "'d' .. n % 4" }}
                [sinks.broker]
                type = "mqtt"
                inputs = ["named"]
                url = "mqtt://127.0.0.1:{}"
                version = "{version}"
                topic = "state/{{d}}"
                retain = true
                "#,
                broker.port()
            ),
        );
        assert_eq!(there.run().ok().rows("broker"), [100, 100, 0, 0]);
        let more = format!("version = \"{version}\"");
        let back = subscriber(broker.port(), "late", "\"state/+\"", &more);
        let daemon = back.start();
        until("one of each has come", || lines(&back) == 4);
        // Once is enough: a reconnect brings none of them again.
        broker.publish("state/d0", 1, "{\"n\":100}");
        until("a new one has come", || lines(&back) == 5);
        assert!(daemon.drain().status.success());
        let kept: BTreeSet<u64> = (96..=100).collect();
        assert_eq!(numbers(&back), kept);
    }
}
