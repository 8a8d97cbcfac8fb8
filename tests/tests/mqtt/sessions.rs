//! What is acknowledged and when, sessions, and who is told what.

use ringmain_tests::broker::Broker;
use ringmain_tests::mosquitto::Mosquitto;
use ringmain_tests::{Driver, Job, until};
use rustix::process::Signal;

use crate::round::{arrived, assert_complete, lines, numbers};

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
    // Each time at most what was under way: here up to four times what may be,
    // see `KEEPS_LIMIT`.
    assert!(again <= 4 * 4 * 1_000, "{again} came again");
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

#[test]
fn what_an_earlier_configuration_subscribed_to_is_taken_back_or_told() {
    for version in ["3.1.1", "5"] {
        for stores in [true, false] {
            let broker = Mosquitto::start("log_type unsubscribe");
            let flow = |topics: &str| {
                format!(
                    r#"
                    name = "changed"
                    [sources.broker]
                    type = "mqtt"
                    url = "mqtt://127.0.0.1:{}"
                    version = "{version}"
                    topics = {topics}
                    [sinks.out]
                    type = "file"
                    inputs = ["broker"]
                    path = "out.ndjson"
                    "#,
                    broker.port()
                )
            };
            let job = Job::flow(Driver::Auto, &flow("[\"old/+\", \"both\"]"));
            let more = if stores { "\n[daemon]\ndata_dir = \"data\"\n" } else { "" };
            let job = job.shards(more);
            let daemon = job.start();
            broker.wait_for_subscription("both");
            broker.publish("old/x", 1, "{\"n\":0}");
            until("it came", || lines(&job) == 1);
            assert!(daemon.drain().status.success());
            // This waits in the session, and is delivered.
            broker.publish("old/x", 1, "{\"n\":1}");
            job.write("flow-0.toml", flow("[\"both\", \"new\"]"));
            let mut daemon = job.start();
            broker.wait_for_subscription("new");
            until("what had waited came", || lines(&job) == 2);
            if stores {
                until("it is taken back", || broker.log().contains("broker old/+\n"));
                broker.publish("old/x", 1, "{\"n\":2}");
            } else {
                daemon.wait_for("more than 'topics' names: a message of 'old/x' came");
            }
            broker.publish("new", 1, "{\"n\":3}");
            until("the next one came", || lines(&job) == 3);
            assert!(daemon.drain().status.success());
            assert_eq!(numbers(&job), [0, 1, 3].into());
        }
    }
}
