//! Every message arrives, each as often as its quality allows, in the order of
//! its topic: both versions, both brokers, through restarts and cuts.

use std::collections::BTreeSet;
use std::io::Write;

use ringmain_tests::broker::Broker;
use ringmain_tests::cutter::Cutter;
use ringmain_tests::mosquitto::Mosquitto;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::rumqttd::Rumqttd;
use ringmain_tests::{Driver, Job, until, with_each_driver};

use crate::round::{Loop, TOPICS, assert_complete, many, numbers};

/// Makes each function two tests, `NAME::mosquitto` and `NAME::rumqttd`.
macro_rules! with_each_broker {
    ($(fn $name:ident<$broker:ident>() $body:block)*) => {$(
        mod $name {
            use super::*;

            fn run<$broker: Broker>() $body

            #[test]
            fn mosquitto() {
                run::<Mosquitto>();
            }

            #[test]
            fn rumqttd() {
                run::<Rumqttd>();
            }
        }
    )*};
}

with_each_broker! {
    fn every_quality_of_both_versions_brings_every_message_once_and_in_order<B>() {
        for version in ["3.1.1", "5"] {
            for qos in 0..=2 {
                // A new one each time: it knows no session of the one before.
                let mut broker = B::of_version(version);
                let ports = (broker.port(), broker.port());
                let run = Loop { version, qos, count: 2_000, rate: 20_000, ports };
                let arrived = run.run(Driver::Auto, &mut broker, |_, _| ());
                assert_eq!(assert_complete(&arrived, run.count), 0, "{version}, QoS {qos}");
                assert_eq!(arrived.len(), TOPICS);
            }
        }
    }

    fn no_message_of_qos_1_is_lost_when_connections_break<B>() {
        let mut broker = B::of_version("5");
        let cutter = Cutter::new(broker.port());
        let ports = (cutter.port(), cutter.port());
        let run = Loop { version: "5", qos: 1, count: many(), rate: many(), ports };
        let (again, cuts) = cut_on_the_way(&run, Driver::Auto, &mut broker, &cutter);
        // Each time at most what was under way in both directions.
        let most = if B::KEEPS_LIMIT { cuts * 2 * 1_000 } else { cuts * run.count };
        assert!(again <= most, "{again} came again after {cuts} cuts");
    }

    fn a_broker_that_forgets_everything_is_subscribed_to_again<B>() {
        // What such a broker had accepted and not passed on is gone with it, so
        // nothing is under way when it ends.
        let mut broker = B::of_version("3.1.1");
        let (port, to) = (broker.port(), free_port());
        let job = Job::flow(Driver::Auto, &lines_through_a_broker(port, to));
        let daemon = job.start();
        broker.wait_for_subscription("through/x");
        let mut input = connect(to);
        for life in 1..=3 {
            for n in 0..500 {
                writeln!(input, "{{\"n\":{}}}", (life - 1) * 500 + n).unwrap();
            }
            until("all of it came back", || numbers(&job).len() >= life * 500);
            if life < 3 {
                broker.stop();
                broker.start_again();
                broker.wait_for_subscriptions("through/x", life + 1);
            }
        }
        drop(input);
        assert_eq!(daemon.drain().ok().totals("back").dead, 0);
        // One that does not forget sends again what it had no answer to, and not
        // always in order.
        let numbers = numbers(&job);
        assert!(numbers.into_iter().eq(0..1_500));
    }
}

fn lines_through_a_broker(broker: u16, listen: u16) -> String {
    format!(
        r#"
        name = "through"
        [sources.lines]
        type = "tcp"
        listen = "127.0.0.1:{listen}"
        [sinks.there]
        type = "mqtt"
        inputs = ["lines"]
        url = "mqtt://127.0.0.1:{broker}"
        version = "3.1.1"
        qos = 1
        topic = "through/x"
        retry = {{ min = "20ms", max = "200ms" }}
        [sources.back]
        type = "mqtt"
        url = "mqtt://127.0.0.1:{broker}"
        version = "3.1.1"
        qos = 1
        topics = "through/x"
        retry = {{ min = "20ms", max = "200ms" }}
        [sinks.out]
        type = "file"
        inputs = ["back"]
        path = "out.ndjson"
        "#
    )
}

/// Breaks all connections each time another tenth has arrived; how many
/// messages came again, and how many cuts there were.
fn cut_on_the_way<B: Broker>(
    run: &Loop,
    driver: Driver,
    broker: &mut B,
    cutter: &Cutter,
) -> (usize, usize) {
    let (mut cuts, mut at) = (0, run.count / 10);
    let arrived = run.run(driver, broker, |_, arrived| {
        // Both may be between two connections just now.
        if arrived > at && cutter.cut() > 0 {
            cuts += 1;
            at = arrived + run.count / 10;
        }
    });
    assert!(cuts >= 3, "{cuts}");
    (assert_complete(&arrived, run.count), cuts)
}

with_each_driver! {
    fn many_messages_of_qos_1_come_back_once_each(driver: Driver) {
        let mut broker = Mosquitto::start("");
        let ports = (broker.port(), broker.port());
        let run = Loop { version: "5", qos: 1, count: many(), rate: 10_000_000, ports };
        let arrived = run.run(driver, &mut broker, |_, _| ());
        assert_eq!(assert_complete(&arrived, run.count), 0);
    }

    fn many_messages_of_qos_2_come_back_once_each_although_connections_break(driver: Driver) {
        // Not with rumqttd: what it has not been told to release is gone with
        // the connection, although its session goes on.
        let mut broker = Mosquitto::start("");
        let cutter = Cutter::new(broker.port());
        let ports = (cutter.port(), cutter.port());
        let run = Loop { version: "3.1.1", qos: 2, count: many(), rate: many(), ports };
        assert_eq!(cut_on_the_way(&run, driver, &mut broker, &cutter).0, 0);
    }
}

#[test]
fn a_broker_that_restarts_loses_no_message_of_qos_1() {
    // Not with rumqttd: it stores nothing.
    let mut broker = Mosquitto::start("");
    let ports = (broker.port(), broker.port());
    let run = Loop { version: "5", qos: 1, count: many(), rate: many() / 2, ports };
    let mut restarts = 0;
    let arrived = run.run(Driver::Auto, &mut broker, |broker, arrived| {
        if restarts < 3 && arrived > run.count / 5 * (restarts + 1) {
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
