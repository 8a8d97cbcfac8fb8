//! Messages that begin runs of a flow: by every version and broker, over
//! restarts of either side, and not twice.

use ringmain_tests::broker::Broker;
use ringmain_tests::http::Client;
use ringmain_tests::mosquitto::{Mosquitto, password_file, publish_with};
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::rumqttd::Rumqttd;
use ringmain_tests::wait::until_some;
use ringmain_tests::{Daemon, Driver, Job, until};
use rustix::process::Signal;
use serde_json::Value;

use crate::security::Authority;

/// A flow whose runs carry 100 messages, of which half go through.
fn flow(listener: &str, more: &str) -> String {
    format!(
        "name = \"work\"\nallow_loss = true\n[schedule]\nmqtt = {{ topics = [\"plant/+/start\"], \
         retry = {{ min = \"20ms\", max = \"200ms\" }}, {listener} }}\n{more}\n\
         [sources.made]\ntype = \"generator\"\ncount = 100\n\
         [sources.made.fields.n]\ntype = \"sequence\"\n\
         [operators.even]\ntype = \"filter\"\ninputs = [\"made\"]\nwhere = \"n % 2 == 0\"\n\
         [sinks.out]\ntype = \"blackhole\"\ninputs = [\"even\"]\n"
    )
}

fn at(port: u16) -> String {
    format!("url = \"mqtt://127.0.0.1:{port}\"")
}

struct Site {
    job: Job,
    daemon: Daemon,
    api: Client,
}

fn job(flow: &str) -> (Job, u16) {
    let port = free_port();
    let daemon = format!(
        "[api]\nlisten = \"127.0.0.1:{port}\"\nrate = 10000\n[daemon]\ndata_dir = \"data\"\n"
    );
    (Job::new(Driver::Auto).shards(&daemon).and_flow(flow), port)
}

impl Site {
    fn new((job, port): (Job, u16)) -> Self {
        let daemon = job.start();
        drop(connect(port));
        let api = Client::new(port);
        until("the daemon is up", || api.get("/api/v1/health").status == 200);
        Self { job, daemon, api }
    }

    fn schedule(&self) -> Value {
        self.api.get("/api/v1/flows/work/schedule").ok()
    }

    fn listener(&self) -> Value {
        self.schedule()["listener"].clone()
    }

    fn wait_for_listener(&self) {
        until("it listens", || self.listener()["connected"] == true);
    }

    fn wait_for_messages(&self, count: u64) {
        until(&format!("{count} messages have come"), || {
            let came = self.listener()["messages"].as_u64().unwrap();
            assert!(came <= count, "{came} of {count}");
            came == count
        });
    }

    /// The runs, once so many have ended.
    fn ended(&self, count: usize) -> Vec<Value> {
        until_some(&format!("{count} runs have ended"), || {
            let runs = self.schedule()["runs"].as_array().unwrap().clone();
            let ended = runs.iter().filter(|run| run["ended"].is_string()).count();
            (ended >= count).then_some(runs)
        })
    }
}

fn assert_ran(run: &Value, topic: &str) {
    assert_eq!((&run["result"], &run["cause"]), (&"completed".into(), &"message".into()), "{run}");
    assert_eq!((&run["topic"], &run["messages_out"]), (&topic.into(), &50.into()), "{run}");
}

#[test]
fn a_message_begins_a_run_and_a_retained_one_from_before_does_not() {
    for (version, qos) in [("3.1.1", 0), ("3.1.1", 1), ("5", 1), ("5", 2)] {
        let broker = Mosquitto::start("");
        let retained = ["-t", "plant/0/start", "-m", "an old one", "-r"];
        publish_with(broker.port(), &retained);
        let keys = format!("{}, version = \"{version}\", qos = {qos}", at(broker.port()));
        let site = Site::new(job(&flow(&keys, "overlap = \"queue\"")));
        site.wait_for_listener();
        broker.publish("plant/1/start", qos, "go");
        assert_ran(&site.ended(1)[0], "plant/1/start");
        broker.publish("plant/2/start", qos, "");
        assert_ran(&site.ended(2)[1], "plant/2/start");
        broker.publish("plant/2/stop", qos, "nobody asked for this");
        let schedule = site.schedule();
        let passed_over = u64::from(version == "3.1.1");
        assert_eq!(schedule["listener"]["passed_over"], passed_over, "{version}: {schedule}");
        assert_eq!(schedule["listener"]["messages"], passed_over + 2, "{version}: {schedule}");
        let url = format!("http://127.0.0.1:{}", site.api.port());
        let shown = site.job.call(&["flows", "--api", &url, "schedule", "work"]).stdout;
        let shown = String::from_utf8(shown).unwrap();
        let head = format!("messages plant/+/start at mqtt://127.0.0.1:{}\n", broker.port());
        assert!(shown.starts_with(&head) && shown.contains("\nlistening; "), "{shown}");
        assert!(shown.contains("message plant/1/start"), "{shown}");
        // Nothing waits for an acknowledgement.
        assert_eq!(site.daemon.drain().status.code(), Some(0));
        let again = Site::new((site.job, site.api.port()));
        again.wait_for_listener();
        assert_eq!(again.schedule()["runs_started"], 2);
    }
}

#[test]
fn another_broker_does_as_well() {
    for (version, of_client) in [("3.1.1", "311"), ("5", "5")] {
        let broker = Rumqttd::of_version(version);
        let keys = format!("{}, version = \"{version}\"", at(broker.port()));
        let site = Site::new(job(&flow(&keys, "overlap = \"queue\"")));
        site.wait_for_listener();
        for (n, qos) in (1..=3).zip(["0", "1", "1"]) {
            let topic = format!("plant/{n}/start");
            let args = ["-V", of_client, "-t", &topic, "-q", qos, "-m", "go"];
            publish_with(broker.port(), &args);
            assert_ran(&site.ended(n)[n - 1], &topic);
        }
        site.wait_for_messages(3);
        assert_eq!(site.daemon.drain().status.code(), Some(0));
    }
}

#[test]
fn a_broker_that_goes_and_comes_back_is_told_and_is_no_fault_of_the_flow() {
    let mut broker = Mosquitto::start("");
    let mut site = Site::new(job(&flow(&at(broker.port()), "overlap = \"queue\"")));
    site.wait_for_listener();
    broker.stop();
    site.daemon.wait_for("WARN work: [schedule] mqtt: mqtt://127.0.0.1:");
    until("it is told", || site.listener()["connected"] == false);
    let trouble = site.listener()["trouble"].as_str().unwrap().to_owned();
    assert!(trouble.contains("; the next attempt is in "), "{trouble}");
    assert_eq!(site.api.get("/api/v1/health").status, 200);
    assert_eq!(site.api.get("/api/v1/flows/work").ok()["status"], "undeployed");
    broker.start_again();
    site.wait_for_listener();
    broker.publish("plant/1/start", 1, "go");
    assert_ran(&site.ended(1)[0], "plant/1/start");
    site.wait_for_messages(1);
    assert!(site.listener()["trouble"].is_null());
    assert_eq!(site.daemon.drain().status.code(), Some(0));
}

#[test]
fn a_listener_stays_over_a_reload_as_long_as_its_settings_do() {
    let broker = Mosquitto::start("log_type unsubscribe");
    let at = at(broker.port());
    let mut site = Site::new(job(&flow(&at, "overlap = \"queue\"")));
    site.wait_for_listener();
    let clients = || broker.log().matches("New client connected").count();
    let reload = |site: &mut Site, flow: &str, until_said: &str| {
        site.job.write("flow-0.toml", flow);
        site.daemon.signal(Signal::HUP);
        site.daemon.wait_for(until_said);
    };
    let before = clients();
    // Another policy, and another operator: the connection is the same.
    let other = flow(&at, "overlap = \"queue\"\nhistory = 7").replace("% 2", "% 4");
    reload(&mut site, &other, "INFO reload: ");
    broker.publish("plant/1/start", 1, "go");
    let runs = site.ended(1);
    assert_eq!((&runs[0]["cause"], &runs[0]["messages_out"]), (&"message".into(), &25.into()));
    assert_eq!(clients(), before + 1, "only whoever published");
    // Another topic: the same session, which subscribes to nothing else.
    let topic = other.replace("plant/+/start", "other/start");
    reload(&mut site, &topic, "INFO reload: ");
    broker.wait_for_subscription("other/start");
    until("the old one is taken back", || broker.log().contains("schedule plant/+/start\n"));
    broker.publish("plant/1/start", 1, "go");
    broker.publish("other/start", 1, "go");
    assert_eq!(site.ended(2)[1]["topic"], "other/start");
    // No schedule at all: the broker need keep nothing.
    let none = &topic[topic.find("[sources.made]").unwrap()..];
    let none = format!("name = \"work\"\nallow_loss = true\n{none}");
    reload(&mut site, &none, "INFO reload: ");
    until("it has left", || {
        broker.log().matches("ringmain-work.schedule disconnected").count() == 2
    });
}

#[test]
fn messages_that_come_while_the_daemon_is_stopped_begin_a_run_if_that_is_wanted() {
    for version in ["3.1.1", "5"] {
        for (misfire, runs) in [("once", 1), ("skip", 0)] {
            let broker = Mosquitto::start("");
            let keys = format!("{}, version = \"{version}\"", at(broker.port()));
            let (job, port) = job(&flow(&keys, &format!("misfire = \"{misfire}\"")));
            let site = Site::new((job, port));
            site.wait_for_listener();
            assert_eq!(site.daemon.drain().status.code(), Some(0));
            broker.publish("plant/1/start", 1, "go");
            let site = Site::new((site.job, port));
            site.wait_for_listener();
            if runs == 1 {
                assert_ran(&site.ended(1)[0], "plant/1/start");
            }
            // What comes from now on does in any case.
            broker.publish("plant/2/start", 1, "go");
            assert_ran(&site.ended(runs + 1)[runs], "plant/2/start");
            assert_eq!(site.schedule()["runs_started"], runs + 1, "{version} {misfire}");
        }
    }
}

#[test]
fn a_daemon_that_is_killed_answers_for_what_it_has_not_on_record() {
    let broker = Mosquitto::start("");
    let keys = at(broker.port());
    let (job, port) = job(&flow(&keys, "overlap = \"queue\"").replace("count = 100", "rate = 10"));
    let site = Site::new((job, port));
    site.wait_for_listener();
    broker.publish("plant/1/start", 1, "go");
    until("the first run is on", || site.schedule()["running"] == true);
    // It waits for the one that never ends, and is not acknowledged.
    broker.publish("plant/2/start", 1, "go");
    until("the second waits", || site.schedule()["queued"] == true);
    site.daemon.signal(Signal::KILL);
    drop(site.daemon);
    let site = Site::new((site.job, port));
    until("the second run is on", || site.schedule()["runs_started"] == 2);
    let runs = site.schedule()["runs"].clone();
    assert_eq!(
        (&runs[0]["result"], &runs[0]["topic"]),
        (&"interrupted".into(), &"plant/1/start".into())
    );
    assert_eq!(
        (&runs[1]["result"], &runs[1]["topic"]),
        (&"running".into(), &"plant/2/start".into())
    );
}

#[test]
fn a_listener_shows_who_it_is_and_believes_nobody_else() {
    const PASSWORD: &str = "hunter2-s3cret";
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let (cert, key) = ours.sign("broker.example");
    let users = password_file("plant", PASSWORD);
    let files = [("cert.pem", &*cert), ("key.pem", &*key), ("users", &*users)];
    let broker = Mosquitto::start_with(
        "certfile DIR/cert.pem\nkeyfile DIR/key.pem\nallow_anonymous false\n\
         password_file DIR/users",
        &files,
    );
    let site = |scheme: &str, tls: &str, password: &str, authority: &Authority| {
        let keys = format!(
            "url = \"{scheme}://127.0.0.1:{}\", {tls}username = \"plant\", \
             password = \"${{MQTT_PASSWORD}}\"",
            broker.port()
        );
        let (job, port) = job(&flow(&keys, ""));
        let job = job.file("ca.pem", authority.pem()).env("MQTT_PASSWORD", password);
        Site::new((job, port))
    };
    let tls = "tls = { ca = \"ca.pem\", server_name = \"broker.example\" }, ";
    let good = site("mqtts", tls, PASSWORD, &ours);
    good.wait_for_listener();
    let ca = good.job.path("ca.pem").display().to_string();
    let who = ["--cafile", &ca, "--insecure", "-u", "plant", "-P", PASSWORD];
    publish_with(broker.port(), &[&who[..], &["-t", "plant/1/start", "-m", "go"]].concat());
    assert_ran(&good.ended(1)[0], "plant/1/start");
    let other_name = tls.replace("broker.example", "other.example");
    for (scheme, tls, password, authority, why) in [
        ("mqtts", tls, PASSWORD, &foreign, "is of an authority that is not trusted"),
        ("mqtts", other_name.as_str(), PASSWORD, &ours, "is for another name"),
        ("mqtts", tls, "wrong", &ours, "not authorized"),
        ("mqtt", "", PASSWORD, &ours, "said nothing; perhaps it speaks TLS (mqtts://)"),
    ] {
        let mut bad = site(scheme, tls, password, authority);
        bad.daemon.wait_for(why);
        assert!(!bad.schedule().to_string().contains(PASSWORD));
        let done = bad.daemon.drain();
        assert!(!done.stderr.contains(PASSWORD), "{}", done.stderr);
    }
}
