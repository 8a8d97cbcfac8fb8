//! A flow that changes while it runs keeps what has not changed: connections,
//! state, and every message on its way.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ringmain_tests::http::Client;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::{Daemon, Driver, Job, machine, until, with_each_driver};
use serde_json::Value;

/// Versions of a flow under load, one after the other; `RELOADS=1000` for more.
const RELOADS: usize = 40;

/// How long a reload may take: far less than a flow may take to drain.
const DEADLINE_MS: u64 = 5_000;

/// Keys of the messages, and how many of one key have the same value.
const KEYS: u64 = 7;
const SAME: u64 = 500;

fn reloads() -> usize {
    std::env::var("RELOADS").ok().and_then(|n| n.parse().ok()).unwrap_or(RELOADS)
}

/// A daemon on so many cores, with an API and a data folder.
fn site(driver: Driver, shards: usize) -> (Job, Daemon, Client) {
    let port = free_port();
    let cores: Vec<_> = machine::cores().iter().take(shards).map(usize::to_string).collect();
    let job = Job::new(driver).daemon_file(&format!(
        "[shards]\ncores = \"{}\"\n[api]\nlisten = \"127.0.0.1:{port}\"\nrate = 100000\n\
         [daemon]\ndata_dir = \"data\"\nflows = [\"flows/*.toml\"]\n",
        cores.join(",")
    ));
    job.write("flows/.keep", "");
    let daemon = job.start();
    drop(connect(port));
    let api = Client::new(port).with("Content-Type", "application/toml");
    until("the daemon is up", || api.get("/api/v1/health").status == 200);
    (job, daemon, api)
}

/// Sends numbered messages over one connection for as long as it is let.
struct Feed {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<TcpStream>,
}

impl Feed {
    fn start(port: u16) -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ends) = (sent.clone(), stop.clone());
        let mut stream = connect(port);
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Acquire) {
                let from = count.load(Ordering::Acquire);
                let line = |n: u64| {
                    format!("{{\"n\":{n},\"k\":{},\"v\":{}}}\n", n % KEYS, n / KEYS / SAME)
                };
                let text: String = (from..from + 100).map(line).collect();
                stream.write_all(text.as_bytes()).expect("the connection stands");
                count.store(from + 100, Ordering::Release);
                std::thread::sleep(Duration::from_millis(2));
            }
            stream
        });
        Self { sent, stop, thread }
    }

    /// How many were sent. The other side has said and closed nothing.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        let mut stream = self.thread.join().expect("the connection stands");
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0]);
        assert!(matches!(&read, Err(e) if e.kind() == ErrorKind::WouldBlock), "{read:?}");
        self.sent.load(Ordering::Acquire)
    }
}

/// Takes messages, from whoever connects: of each key each once, and in order.
struct Taker {
    accepted: Arc<AtomicUsize>,
    came: Arc<AtomicU64>,
}

impl Taker {
    fn listen(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (accepted, came) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let (connections, messages) = (accepted.clone(), came.clone());
        std::thread::spawn(move || {
            let mut next: Vec<u64> = (0..KEYS).collect();
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::AcqRel);
                for line in BufReader::new(stream.unwrap()).lines() {
                    let Ok(line) = line else { break };
                    let message: Value = serde_json::from_str(&line).unwrap();
                    let n = message["n"].as_u64().unwrap();
                    let next = &mut next[(n % KEYS) as usize];
                    if n != *next {
                        eprintln!("{n} came where {next} was expected");
                        return;
                    }
                    *next += KEYS;
                    messages.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        Self { accepted, came }
    }

    fn wait_for(&self, count: u64) {
        until(&format!("{count} messages came"), || {
            let came = self.came.load(Ordering::Acquire);
            assert!(came <= count, "{came} of {count}");
            came == count
        });
    }
}

struct Ports {
    source: u16,
    live: u16,
    dead: u16,
}

/// Version `at` of a flow with a sink that nobody answers beside one that takes
/// all, and with state.
fn version(at: usize, ports: &Ports, partition: &str) -> String {
    let Ports { source, live, dead } = ports;
    let mut text = format!(
        "name = \"plant\"\ndrain = \"20s\"\n{partition}\
         [sources.lines]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{source}\"\n\
         [operators.all]\ntype = \"filter\"\ninputs = [\"lines\"]\nwhere = \"n >= -{at}\"\n\
         [operators.news]\ntype = \"change_detector\"\ninputs = [\"all\"]\nkey = [\"k\"]\n\
         fields = [\"v\"]\n\
         [sinks.live]\ntype = \"tcp\"\naddress = \"127.0.0.1:{live}\"\ninputs = [\"LIVE\"]\n\
         [sinks.news_out]\ntype = \"file\"\npath = \"news.ndjson\"\ninputs = [\"news\"]\n\
         [sinks.dead]\ntype = \"tcp\"\naddress = \"127.0.0.1:{dead}\"\ninputs = [\"all\"]\n\
         when_full = \"spill\"\nspill = {{ max_size = \"1GiB\" }}\n"
    );
    if at % 3 == 1 {
        text.push_str("[sinks.more]\ntype = \"blackhole\"\ninputs = [\"news\"]\n");
    }
    if at % 4 == 2 {
        text.push_str(
            "[operators.marked]\ntype = \"map\"\ninputs = [\"all\"]\nset = { seen = \"true\" }\n",
        );
    }
    text.replace("LIVE", if at % 4 == 2 { "marked" } else { "all" })
}

fn names(of: &Value) -> Vec<&str> {
    of.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

fn reload_under_load(driver: Driver, shards: usize, partition: &str, reloads: usize) {
    let (job, daemon, api) = site(driver, shards);
    let ports = Ports { source: free_port(), live: free_port(), dead: free_port() };
    let live = Taker::listen(ports.live);
    let made = api.post("/api/v1/flows", &version(0, &ports, partition));
    assert_eq!(made.status, 201, "{}", made.body);
    let feed = Feed::start(ports.source);
    let mut took = Vec::new();
    for at in 1..=reloads {
        let report = api.ask("PUT", "/api/v1/flows/plant", &version(at, &ports, partition)).ok();
        assert_eq!((&report["action"], &report["drained"]), (&"replaced".into(), &true.into()));
        let components = &report["components"];
        assert_eq!(components["whole"], Value::Null, "{report}");
        let kept = names(&components["kept"]);
        let unchanged = ["lines", "news", "live", "news_out", "dead"];
        assert!(unchanged.iter().all(|name| kept.contains(name)), "{report}");
        assert_eq!(names(&components["rebuilt"]), ["all"], "{report}");
        assert_eq!(names(&components["added"]).contains(&"more"), at % 3 == 1, "{report}");
        assert_eq!(names(&components["removed"]).contains(&"more"), at % 3 == 2, "{report}");
        let took_ms = report["duration_ms"].as_u64().unwrap();
        assert!(took_ms < DEADLINE_MS, "{report}");
        took.push(took_ms);
    }
    let sent = feed.end();
    live.wait_for(sent);
    assert_eq!(live.accepted.load(Ordering::Acquire), 1, "one connection to the end");
    // Every value of every key is news once.
    let news: u64 = (0..KEYS).map(|k| (sent - k - 1) / KEYS / SAME + 1).sum();
    until("all news are there", || job.json("news.ndjson").len() as u64 >= news);
    // Whoever did not answer gets all of it when he does.
    let dead = Taker::listen(ports.dead);
    dead.wait_for(sent);
    let done = daemon.drain();
    let summary = done.flow("plant");
    assert_eq!(summary.rows("lines"), [sent, sent, 0, 0]);
    assert_eq!(summary.rows("news"), [sent, news, sent - news, 0]);
    assert_eq!(job.json("news.ndjson").len() as u64, news);
    took.sort_unstable();
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    eprintln!("{reloads} reloads, {sent} messages: median {median} ms, longest {most} ms");
}

with_each_driver! {
    fn reloads_under_load_keep_connections_state_and_messages(driver: Driver) {
        reload_under_load(driver, 1, "", reloads());
    }
}

#[test]
fn reloads_of_a_flow_on_two_shards_keep_connections_state_and_messages() {
    reload_under_load(Driver::Auto, 2, "[partition]\nkey = [\"k\"]\n", reloads());
}
