//! Peers of every other protocol do not notice that the flow changes: one
//! connection, one address, and every message once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain_tests::broker::Broker;
use ringmain_tests::mosquitto::Mosquitto;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::wait::until_some;
use ringmain_tests::{Daemon, Driver, Job, until, with_each_driver};
use serde_json::Value;

use super::{Feed, names, site};

/// Versions, one after the other.
const VERSIONS: usize = 6;

/// So many messages pass each version.
const PER_VERSION: u64 = 30;

/// Version `at` of a flow from one peer to another, and to a file.
fn version(at: usize, source: &str, sink: &str) -> String {
    format!(
        "name = \"plant\"\ndrain = \"20s\"\nallow_loss = true\n[sources.in]\n{source}\n\
         [operators.all]\ntype = \"filter\"\ninputs = [\"in\"]\nwhere = \"n >= -{at}\"\n\
         [sinks.out]\n{sink}\ninputs = [\"all\"]\n\
         [sinks.file]\ntype = \"file\"\npath = \"out.ndjson\"\ninputs = [\"all\"]\n"
    )
}

struct Run {
    job: Job,
    daemon: Daemon,
    sent: u64,
}

/// Changes the flow again and again while `send` sends one message after the
/// other, as whoever `meet` finds when the flow runs.
fn change_under<S: FnMut(u64) + Send + 'static>(
    driver: Driver,
    (source, sink): (&str, &str),
    meet: impl FnOnce(&Job) -> S,
) -> Run {
    let (job, daemon, api) = site(driver, 1);
    let path = |text: &str| text.replace("DIR", &job.path("").display().to_string());
    let (source, sink) = (path(source), path(sink));
    let made = api.post("/api/v1/flows", &version(0, &source, &sink));
    assert_eq!(made.status, 201, "{}", made.body);
    let mut send = meet(&job);
    let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, ends) = (sent.clone(), stop.clone());
    let sender = std::thread::spawn(move || {
        while !ends.load(Ordering::Acquire) {
            send(count.load(Ordering::Acquire));
            count.fetch_add(1, Ordering::AcqRel);
            std::thread::sleep(Duration::from_millis(1));
        }
        // It hangs up after the last look at what came.
        send
    });
    let more = |versions: usize| {
        let wanted = versions as u64 * PER_VERSION;
        until("more is sent", || {
            assert!(!sender.is_finished(), "the peer was left alone");
            sent.load(Ordering::Acquire) >= wanted
        });
    };
    for at in 1..=VERSIONS {
        more(at);
        let report = api.ask("PUT", "/api/v1/flows/plant", &version(at, &source, &sink)).ok();
        let components = &report["components"];
        assert_eq!(names(&components["kept"]), ["in", "out", "file"], "{report}");
        assert_eq!(names(&components["rebuilt"]), ["all"], "{report}");
        assert_eq!(report["drained"], true, "{report}");
    }
    more(VERSIONS + 1);
    stop.store(true, Ordering::Release);
    let send = sender.join().expect("the peer was answered to the end");
    let sent = sent.load(Ordering::Acquire);
    until(&format!("{sent} messages are there"), || {
        let text = std::fs::read_to_string(job.path("out.ndjson")).unwrap_or_default();
        text.matches('\n').count() as u64 >= sent
    });
    drop(send);
    Run { job, daemon, sent }
}

impl Run {
    /// Every message once and in order, here and on the other side.
    fn check(self) {
        let Self { job, daemon, sent } = self;
        let done = daemon.drain();
        let plant = done.flow("plant");
        for component in ["in", "out", "file"] {
            assert_eq!(plant.rows(component), [sent, sent, 0, 0], "{component}");
        }
        let came = job.json("out.ndjson");
        let numbers: Vec<_> = came.iter().map(|message| message["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    }
}

/// What somebody who takes messages has taken, from how many peers.
#[derive(Clone, Default)]
struct Taken {
    numbers: Arc<Mutex<Vec<u64>>>,
    peers: Arc<AtomicU64>,
}

impl Taken {
    fn note(&self, text: &str) {
        for part in text.split("\"n\":").skip(1) {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            self.numbers.lock().unwrap().push(part[..end].parse().unwrap());
        }
    }

    /// All of it has come from one.
    fn check(&self, sent: u64) {
        until("the other side has all", || self.numbers.lock().unwrap().len() as u64 >= sent);
        assert_eq!(*self.numbers.lock().unwrap(), (0..sent).collect::<Vec<_>>());
        assert_eq!(self.peers.load(Ordering::Acquire), 1, "one peer to the end");
    }
}

fn line(n: u64) -> String {
    format!("{{\"n\":{n}}}\n")
}

/// Reads requests or answers as long as there are some; their bodies.
fn bodies(stream: &TcpStream) -> impl Iterator<Item = String> + use<> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    std::iter::from_fn(move || {
        let mut length = None;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        String::from_utf8(body).ok()
    })
}

fn http_server() -> (u16, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = Taken::default();
    let of_server = taken.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            of_server.peers.fetch_add(1, Ordering::AcqRel);
            for body in bodies(&stream) {
                of_server.note(&body);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        }
    });
    (port, taken)
}

/// A client of a broker that is handed lines to publish.
struct Publisher {
    child: Child,
    input: Option<ChildStdin>,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

with_each_driver! {
    fn a_dead_http_sink_whose_url_is_corrected_loses_nothing(driver: Driver) {
        let (job, daemon, api) = site(driver, 1);
        let (source, (right, taken)) = (free_port(), http_server());
        let at = |port: u16, more: &str| {
            format!(
                "name = \"plant\"\n[sources.in]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{source}\"\n\
                 [sinks.out]\ntype = \"http\"\nurl = \"http://127.0.0.1:{port}/in\"\n\
                 inputs = [\"in\"]\nbuffer = \"64KiB\"\nbatch = {{ count = 200 }}\n{more}"
            )
        };
        let made = api.post("/api/v1/flows", &at(free_port(), ""));
        assert_eq!(made.status, 201, "{}", made.body);
        let feed = Feed::start(source);
        until("the sink's queue is full", || feed.is_stalled());
        // Wrong again, then right, with another token and another deadline.
        let more = "token = \"t\"\ntimeout = \"3s\"\n";
        for (port, more) in [(free_port(), ""), (right, more)] {
            let report = api.ask("PUT", "/api/v1/flows/plant", &at(port, more)).ok();
            let components = &report["components"];
            assert_eq!(names(&components["rebuilt"]), ["out"], "{report}");
            assert_eq!((&components["discarded"], &components["whole"]), (&0.into(), &Value::Null));
            assert!(components["handed_over"].as_u64().unwrap() > 200, "{report}");
        }
        until("messages come", || !taken.numbers.lock().unwrap().is_empty());
        let sent = feed.end();
        taken.check(sent);
        assert_eq!(daemon.drain().flow("plant").rows("out"), [sent, sent, 0, 0]);
        drop(job);
    }

    fn a_connection_of_http_stays(driver: Driver) {
        let (port, (to, taken)) = (free_port(), http_server());
        let source = format!("type = \"http\"\nlisten = \"127.0.0.1:{port}\"\nrespond = \"acked\"");
        let sink = format!(
            "type = \"http\"\nurl = \"http://127.0.0.1:{to}/\"\nbatch = {{ linger = \"2ms\" }}"
        );
        let run = change_under(driver, (&source, &sink), |_| {
            let mut stream = connect(port);
            let mut answers = bodies(&stream);
            move |n| {
                let body = line(n);
                let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n", body.len());
                stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
                assert_eq!(answers.next().as_deref(), Some("{\"accepted\":1}\n"));
            }
        });
        taken.check(run.sent);
        run.check();
    }

    fn a_connection_of_a_unix_socket_stays(driver: Driver) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let taken = Taken::default();
        let of_server = taken.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                of_server.peers.fetch_add(1, Ordering::AcqRel);
                for line in BufReader::new(stream.unwrap()).lines() {
                    of_server.note(&line.unwrap());
                }
            }
        });
        let sink = format!("type = \"unix\"\npath = {path:?}");
        let source = "type = \"unix\"\npath = \"DIRin.sock\"";
        let run = change_under(driver, (source, &sink), |job| {
            let path = job.path("in.sock");
            let mut stream = until_some("somebody listens", || UnixStream::connect(&path).ok());
            move |n| stream.write_all(line(n).as_bytes()).unwrap()
        });
        taken.check(run.sent);
        run.check();
    }

    fn a_socket_of_udp_stays(driver: Driver) {
        let port = free_port();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let taken = Taken::default();
        let of_receiver = taken.clone();
        std::thread::spawn(move || {
            let (mut buffer, mut known) = ([0; 2048], Vec::<SocketAddr>::new());
            loop {
                let (bytes, from) = receiver.recv_from(&mut buffer).unwrap();
                if !known.contains(&from) {
                    known.push(from);
                    of_receiver.peers.fetch_add(1, Ordering::AcqRel);
                }
                of_receiver.note(std::str::from_utf8(&buffer[..bytes]).unwrap());
            }
        });
        let source = format!("type = \"udp\"\nlisten = \"127.0.0.1:{port}\"");
        let sink = format!("type = \"udp\"\naddress = \"{to}\"");
        let run = change_under(driver, (&source, &sink), |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            // A connected socket hears when nobody is there.
            socket.connect(("127.0.0.1", port)).unwrap();
            move |n| assert!(socket.send(line(n).as_bytes()).is_ok(), "nobody is there")
        });
        taken.check(run.sent);
        run.check();
    }

    fn a_session_of_mqtt_stays_whether_the_broker_keeps_it_or_not(driver: Driver) {
        for (version, clean) in [("5", false), ("5", true), ("3.1.1", false), ("3.1.1", true)] {
            let broker = Mosquitto::start("");
            let client = format!(
                "type = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\nversion = \"{version}\"\n\
                 clean_start = {clean}\n",
                broker.port()
            );
            let (source, sink) = (format!("{client}topics = \"in\""), format!("{client}topic = \"out\""));
            let port = broker.port().to_string();
            let run = change_under(driver, (&source, &sink), |_| {
                broker.wait_for_subscription("in");
                let mut command = Command::new("mosquitto_pub");
                command.args(["-p", &port, "-t", "in", "-q", "1", "-l"]).stdin(Stdio::piped());
                let mut child = command.spawn().expect("mosquitto_pub is installed");
                let input = child.stdin.take();
                let mut publisher = Publisher { child, input };
                move |n| publisher.input.as_mut().unwrap().write_all(line(n).as_bytes()).unwrap()
            });
            let log = broker.log();
            for client in ["as ringmain-plant-in (", "as ringmain-plant-out ("] {
                assert_eq!(log.matches(client).count(), 1, "{version}, {clean}: {log}");
            }
            assert_eq!(broker.subscriptions("in"), 1);
            run.check();
        }
    }
}
