//! HTTP: what got an answer of 200 is in the flow, whoever asks.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ringmain_tests::net::{connect, free_port};
use ringmain_tests::{Driver, Job, until, with_each_driver};
use rustix::process::Signal;

/// What curl says: the status, and the body before it.
fn curl(args: &[&str], body: &[u8]) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "-w", "\n%{http_code}", "--data-binary", "@-"]);
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl is installed (tests/run does that)");
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl failed: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), body.to_owned())
}

/// One request on a connection that stays; the status. `None` when the
/// connection broke.
fn post(stream: &mut TcpStream, body: &str) -> Option<u16> {
    let len = body.len();
    let request = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length?.parse().ok()? {
                return head.get(9..12)?.parse().ok();
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
        }
    }
}

with_each_driver! {
    fn curl_sends_messages_in_every_form_and_is_told_what_became_of_them(driver: Driver) {
        let port = free_port();
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "http"
            listen = "127.0.0.1:{port}"
            path = "/in"
            token = "${{TOKEN}}"
            body_max = "64KiB"
            [sinks.out]
            type = "file"
            inputs = ["in"]
            path = "out.ndjson"
            [dead_letters]
            type = "file"
            path = "dead.ndjson"
        "#)).env("TOKEN", "s3cret");
        let daemon = job.start();
        drop(connect(port));
        let url = format!("http://127.0.0.1:{port}/in");
        let auth = ["-H", "Authorization: Bearer s3cret"];
        let send = |more: &[&str], body: &[u8]| {
            let args: Vec<&str> = [&auth, more, &[url.as_str()]].concat();
            curl(&args, body)
        };
        assert_eq!(send(&[], b"{\"n\":1}"), (200, "{\"accepted\":1}\n".to_owned()));
        let ndjson = ["-H", "Content-Type: application/x-ndjson"];
        assert_eq!(send(&ndjson, b"{\"n\":2}\n{\"n\":3}").0, 200);
        let json = ["-H", "Content-Type: application/json"];
        assert_eq!(send(&json, b"[{\"n\":4},\n{\"n\":5}]").0, 200);
        let chunked = ["-H", "Transfer-Encoding: chunked", "-H", "Content-Type: application/json"];
        assert_eq!(send(&chunked, b"[{\"n\":6}]").0, 200);
        // A body of more than a kilobyte lets curl wait to be asked for it.
        let many: Vec<String> = (7..1000).map(|n| format!("{{\"n\":{n}}}")).collect();
        assert_eq!(send(&["-H", "Expect: 100-continue"], format!("[{}]", many.join(",")).as_bytes()).0, 200);

        let (code, text) = send(&ndjson, b"{\"n\":1000}\nnonsense\n");
        assert_eq!(code, 400);
        assert!(text.contains("\"accepted\":1,\"refused\":1") && text.contains("dead letters"), "{text}");
        assert_eq!(curl(&[&url], b"{}").0, 401);
        assert_eq!(send(&["-X", "GET"], b"").0, 405);
        assert_eq!(send(&[], &vec![b' '; 70_000]).0, 413);
        let other = format!("http://127.0.0.1:{port}/other");
        assert_eq!(curl(&[&auth[..], &[other.as_str()]].concat(), b"{}").0, 404);

        let done = daemon.drain();
        assert_eq!(done.ok().rows("in"), [1001, 1000, 0, 1]);
        let numbers: Vec<u64> = job.json("out.ndjson").iter().map(|m| m["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
        let letters = job.json("dead.ndjson");
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0]["raw"], "nonsense");
        assert!(!done.stderr.contains("s3cret"), "the token is in the log:\n{}", done.stderr);
    }

    fn nothing_that_got_an_answer_is_missing_after_a_kill(driver: Driver) {
        const SENDERS: u64 = 8;
        let port = free_port();
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "http"
            listen = "127.0.0.1:{port}"
            respond = "acked"
            [sinks.out]
            type = "file"
            inputs = ["in"]
            path = "out.ndjson"
        "#));
        let mut acked = BTreeSet::new();
        let next = Arc::new(AtomicU64::new(0));
        for run in 1..=3_usize {
            let daemon = job.start();
            drop(connect(port));
            let answered = Arc::new(Mutex::new(Vec::new()));
            let senders: Vec<_> = (0..SENDERS)
                .map(|_| {
                    let (next, answered) = (next.clone(), answered.clone());
                    let mut stream = connect(port);
                    std::thread::spawn(move || loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        match post(&mut stream, &format!("{{\"n\":{n}}}")) {
                            Some(200) => answered.lock().unwrap().push(n),
                            Some(code) => panic!("status {code}"),
                            None => return,
                        }
                    })
                })
                .collect();
            until("a thousand answers", || answered.lock().unwrap().len() >= 1_000);
            daemon.signal(Signal::KILL);
            for sender in senders {
                sender.join().unwrap();
            }
            drop(daemon);
            acked.extend(answered.lock().unwrap().drain(..));
            assert!(acked.len() >= 1_000 * run);
        }
        let text = std::fs::read_to_string(job.path("out.ndjson")).unwrap();
        let number = |line: &str| line.strip_prefix("{\"n\":")?.strip_suffix('}')?.parse().ok();
        let written: BTreeSet<u64> = text.lines().filter_map(number).collect();
        let missing: Vec<_> = acked.difference(&written).collect();
        assert_eq!(missing, [] as [&u64; 0], "of {} with an answer", acked.len());
        // What came twice or without an answer is no more than was under way.
        let total = next.load(Ordering::Relaxed);
        assert!(written.len() as u64 <= total);
        assert_eq!(text.lines().filter_map(number).count(), written.len(), "nothing twice");
    }

    fn a_sink_that_stands_still_answers_429_and_what_it_had_taken_arrives(driver: Driver) {
        let port = free_port();
        let (listener, to) = ringmain_tests::net::small_server();
        let job = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "http"
            listen = "127.0.0.1:{port}"
            busy_after = "200ms"
            [sinks.out]
            type = "tcp"
            inputs = ["in"]
            address = "127.0.0.1:{to}"
            buffer = "4KiB"
        "#)).shards("memory = \"64MiB\"\nslab = \"4KiB\"");
        let daemon = job.start();
        let mut stream = connect(port);
        let (mut peer, _) = listener.accept().unwrap();
        let body: String = (0..1000).map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(80))).collect();
        let body = body.trim_end().replace('\n', ",");
        let body = format!("[{body}]");
        let mut taken = 0;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        // A request that had begun to be taken waits instead of being sent
        // away, so each goes over a connection of its own.
        let waiting = std::thread::spawn({
            let body = body.clone();
            move || {
                let mut answers = Vec::new();
                for _ in 0..400 {
                    match post(&mut stream, &body) {
                        Some(code) => answers.push(code),
                        None => stream = connect(port),
                    }
                    if answers.last() == Some(&429) {
                        break;
                    }
                }
                answers
            }
        });
        let mut codes = Vec::new();
        until("somebody is sent away", || {
            let mut stream = connect(port);
            stream.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
            codes.extend(post(&mut stream, "{\"n\":-1}"));
            codes.last() == Some(&429)
        });
        assert!(codes.iter().all(|code| [200, 429].contains(code)), "{codes:?}");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            peer.read_to_string(&mut text).unwrap();
            text
        });
        let answers = waiting.join().unwrap();
        taken += answers.iter().filter(|code| **code == 200).count();
        let done = daemon.drain();
        assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
        let text = reader.join().unwrap();
        let of_bodies = text.lines().filter(|line| !line.contains("\"n\":-1")).count();
        assert!(of_bodies >= taken * 1000, "{of_bodies} of {taken} thousands");
    }
}

/// A certificate for this machine's loopback address, in the job's folder.
fn certify(job: &Job) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "tests");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    job.write("ca.pem", issuer.pem());
    job.write("cert.pem", certificate.pem());
    job.write("key.pem", key.serialize_pem());
}

with_each_driver! {
    fn what_one_daemon_sends_another_has_although_it_was_killed_meanwhile(driver: Driver) {
        const COUNT: u64 = 20_000;
        let port = free_port();
        let receiver = Job::flow(driver, &format!(r#"
            [sources.in]
            type = "http"
            listen = "127.0.0.1:{port}"
            respond = "acked"
            token = "s3cret"
            tls = {{ cert = "cert.pem", key = "key.pem" }}
            [sinks.out]
            type = "file"
            inputs = ["in"]
            path = "out.ndjson"
        "#));
        certify(&receiver);
        let ca = receiver.path("ca.pem");
        let sender = Job::flow(driver, &format!(r#"
            [sources.made]
            type = "generator"
            count = {COUNT}
            rate = 20000
            fields = {{ n = {{ type = "sequence" }} }}
            [sinks.out]
            type = "http"
            inputs = ["made"]
            url = "https://127.0.0.1:{port}/"
            token = "${{TOKEN}}"
            compress = "gzip"
            batch = {{ count = 50, linger = "20ms" }}
            tls = {{ ca = "{}" }}
            retry = {{ min = "20ms", max = "200ms" }}
        "#, ca.display())).env("TOKEN", "s3cret");
        let sending = sender.start();
        let lines = || {
            let text = std::fs::read_to_string(receiver.path("out.ndjson")).unwrap_or_default();
            text.matches('\n').count() as u64
        };
        for part in 1..=2 {
            let daemon = receiver.start();
            until("a part arrives", || lines() >= part * COUNT / 5);
            daemon.signal(Signal::KILL);
        }
        let daemon = receiver.start();
        let done = sending.wait();
        assert_eq!(done.ok().rows("out"), [COUNT, COUNT, 0, 0]);
        // curl speaks another TLS.
        let url = format!("https://127.0.0.1:{port}/");
        let auth = "Authorization: Bearer s3cret";
        let more = format!("{{\"n\":{COUNT}}}");
        let args = ["--cacert", ca.to_str().unwrap(), "-H", auth, url.as_str()];
        assert_eq!(curl(&args, more.as_bytes()).0, 200);
        assert_eq!(daemon.drain().status.code(), Some(0));
        let numbers: Vec<u64> =
            receiver.json("out.ndjson").iter().map(|m| m["n"].as_u64().unwrap()).collect();
        let seen: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(seen.len() as u64, COUNT + 1, "of {}", numbers.len());
        // At most one request was under way at each end.
        assert!(numbers.len() <= seen.len() + 2 * 50, "{} of {}", numbers.len(), seen.len());
    }

    fn the_example_flow_is_understood(driver: Driver) {
        let job = Job::new(driver).file("grade.lua", "return function(msg) return msg end")
            .and_flow(r#"
            name = "overheat"
            [sources.sensors]
            type = "mqtt"
            url = "mqtt://127.0.0.1:1883"
            topics = ["plant/+/engine"]
            decode = "json"
            [partition]
            key = ["device"]
            count = 64
            [operators.hot]
            type = "filter"
            inputs = ["sensors"]
            where = "temperature > 90 and status ~= 'off'"
            [operators.grade]
            type = "lua"
            inputs = ["hot"]
            script = "grade.lua"
            limits = { time = "100ms", memory = "64MiB", kills = 3 }
            [sinks.alerts]
            type = "http"
            inputs = ["grade"]
            url = "https://example.org/alerts"
            when_full = "spill"
            [dead_letters]
            type = "file"
            path = "dead/overheat.ndjson"
            [[tests]]
            name = "a cold engine is silent"
            insert = [{ at = "sensors", json = '{"device":"m1","temperature":20}' }]
            expect = [{ at = "alerts", none = true }]
        "#)
            .daemon_file("[daemon]\ndata_dir = \"data\"\n");
        for args in [&["check", "ringmain.toml", "flow-0.toml"][..], &["test", "flow-0.toml"]] {
            let output = job.call(args);
            let said = String::from_utf8_lossy(&output.stderr);
            let told = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(0), "{args:?}\n{told}\n{said}");
        }
    }
}
