//! Who may talk to whom: TLS with certificates of both sides, user and
//! password.

use ringmain_tests::broker::Broker;
use ringmain_tests::mosquitto::{Mosquitto, password_file};
use ringmain_tests::{Driver, Job, until};

use crate::round::lines;

const LINES: usize = 500;

/// An authority, and what it signs.
pub(crate) struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        Self(rcgen::CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key.
    pub(crate) fn sign(&self, host: &str) -> (String, String) {
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, host);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// Lines of a file to the broker and back, with more keys for both clients.
fn there_and_back(url: &str, keys: &str) -> Job {
    let text: String = (0..LINES).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let client = format!("url = \"{url}\"\nretry = {{ min = \"20ms\", max = \"200ms\" }}\n{keys}");
    let flow = format!(
        r#"
        name = "secured"
        [sources.lines]
        type = "file"
        mode = "tail"
        poll = "20ms"
        start = "beginning"
        path = "in.ndjson"
        [sinks.there]
        type = "mqtt"
        inputs = ["lines"]
        topic = "secret/t"
        {client}
        [sources.back]
        type = "mqtt"
        topics = "secret/t"
        {client}
        [sinks.out]
        type = "file"
        inputs = ["back"]
        path = "out.ndjson"
        "#
    );
    Job::flow(Driver::Auto, &flow).file("waiting.ndjson", text)
}

/// Everything comes back, once the source has subscribed.
fn assert_passes(job: &Job, broker: &Mosquitto) {
    let before = broker.subscriptions("secret/t");
    let daemon = job.start();
    broker.wait_for_subscriptions("secret/t", before + 1);
    std::fs::copy(job.path("waiting.ndjson"), job.path("in.ndjson")).unwrap();
    until("everything came back", || lines(job) == LINES);
    assert!(daemon.drain().status.success());
}

/// Nothing passes, and both clients say why.
fn assert_told(job: &Job, why: &str) {
    let mut daemon = job.start();
    for client in ["there", "back"] {
        daemon.wait_for(&format!("WARN secured.{client}: mqtt"));
    }
    daemon.wait_for(why);
    assert_eq!(lines(job), 0);
}

#[test]
fn with_tls_the_broker_must_be_who_it_says() {
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let (cert, key) = ours.sign("127.0.0.1");
    let files = [("cert.pem", &*cert), ("key.pem", &*key)];
    let broker = Mosquitto::start_with("certfile DIR/cert.pem\nkeyfile DIR/key.pem", &files);
    let url = format!("mqtts://127.0.0.1:{}", broker.port());
    let job = |ca: &Authority, more: &str| {
        let tls = format!("tls = {{ ca = \"ca.pem\"{more} }}");
        there_and_back(&url, &tls).file("ca.pem", ca.pem())
    };
    assert_passes(&job(&ours, ""), &broker);
    assert_told(&job(&foreign, ""), "certificate");
    assert_told(&job(&ours, ", server_name = \"other.example\""), "other.example");
    // Not encrypted where encryption is expected.
    let plain = there_and_back(&url.replace("mqtts", "mqtt"), "");
    assert_told(&plain, "said nothing; perhaps it speaks TLS (mqtts://)");
    // And the other way round.
    let unencrypted = Mosquitto::start("");
    let url = format!("mqtts://127.0.0.1:{}", unencrypted.port());
    let job = there_and_back(&url, "tls = { ca = \"ca.pem\" }").file("ca.pem", ours.pem());
    assert_told(&job, "said nothing; perhaps it speaks no TLS (mqtt://)");
}

#[test]
fn a_broker_that_wants_a_certificate_gets_it() {
    let authority = Authority::new("authority");
    let (cert, key) = authority.sign("127.0.0.1");
    let ca = authority.pem();
    let files = [("cert.pem", &*cert), ("key.pem", &*key), ("ca.pem", &*ca)];
    let broker = Mosquitto::start_with(
        "certfile DIR/cert.pem\nkeyfile DIR/key.pem\ncafile DIR/ca.pem\n\
         require_certificate true\nuse_identity_as_username true",
        &files,
    );
    let url = format!("mqtts://127.0.0.1:{}", broker.port());
    let job = |authority: &Authority, shown: bool| {
        let (cert, key) = authority.sign("engine-7");
        let own = if shown { ", cert = \"own.pem\", key = \"own-key.pem\"" } else { "" };
        there_and_back(&url, &format!("tls = {{ ca = \"ca.pem\"{own} }}"))
            .file("ca.pem", &ca)
            .file("own.pem", cert)
            .file("own-key.pem", key)
    };
    assert_passes(&job(&authority, true), &broker);
    assert!(broker.log().contains("u'engine-7'"), "{}", broker.log());
    assert_told(&job(&authority, false), "it asks for a certificate: set 'cert' and 'key'");
    assert_told(&job(&Authority::new("foreign"), true), "it does not trust the authority");
}

#[test]
fn user_and_password_are_asked_for_and_the_password_is_told_to_nobody() {
    const PASSWORD: &str = "hunter2-s3cret";
    let users = password_file("plant", PASSWORD);
    for version in ["3.1.1", "5"] {
        let broker = Mosquitto::start_with(
            "allow_anonymous false\npassword_file DIR/users",
            &[("users", &users)],
        );
        let url = format!("mqtt://127.0.0.1:{}", broker.port());
        let keys = format!(
            "version = \"{version}\"\nusername = \"plant\"\npassword = \"${{MQTT_PASSWORD}}\""
        );
        let job = |password: &str| there_and_back(&url, &keys).env("MQTT_PASSWORD", password);
        assert_passes(&job(PASSWORD), &broker);
        let wrong = job("wr0ng-guess");
        let mut daemon = wrong.start();
        daemon.wait_for("the broker refuses the connection: ");
        daemon.wait_for("WARN secured.back");
        assert!(daemon.said().contains("not authorized"), "{}", daemon.said());
        assert!(!daemon.said().contains("wr0ng-guess"), "{}", daemon.said());
        assert_eq!(lines(&wrong), 0);
        let checked = job(PASSWORD).call(&["check", "flow-0.toml"]);
        assert!(checked.status.success());
        let graph = job(PASSWORD).call(&["graph", "flow-0.toml"]);
        let shown = [checked.stdout, checked.stderr, graph.stdout, graph.stderr].concat();
        assert!(!String::from_utf8_lossy(&shown).contains(PASSWORD));
    }
}
