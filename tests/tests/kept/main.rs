//! A flow that changes while it runs keeps what has not changed: connections,
//! state, and every message on its way.

mod peers;

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

/// After so many nothing more is kept for the first time.
const SETTLED: usize = 20;

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

    /// Nobody has taken anything for a while.
    fn is_stalled(&self) -> bool {
        let before = self.sent.load(Ordering::Acquire);
        std::thread::sleep(Duration::from_millis(100));
        before > 0 && before == self.sent.load(Ordering::Acquire)
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
    /// The number of the first.
    first: Arc<AtomicU64>,
}

impl Taker {
    fn listen(port: u16) -> Self {
        Self::from(port, Some(0))
    }

    /// The first message may have any number.
    fn starting_anywhere(port: u16) -> Self {
        Self::from(port, None)
    }

    fn from(port: u16, first: Option<u64>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (accepted, came) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let (connections, messages) = (accepted.clone(), came.clone());
        let lowest = Arc::new(AtomicU64::new(u64::MAX));
        let least = lowest.clone();
        std::thread::spawn(move || {
            let mut next: Vec<Option<u64>> = (0..KEYS).map(|k| first.map(|n| n + k)).collect();
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::AcqRel);
                for line in BufReader::new(stream.unwrap()).lines() {
                    let Ok(line) = line else { break };
                    let message: Value = serde_json::from_str(&line).unwrap();
                    let n = message["n"].as_u64().unwrap();
                    let next = &mut next[(n % KEYS) as usize];
                    if next.is_some_and(|next| next != n) {
                        eprintln!("{n} came where {next:?} was expected");
                        return;
                    }
                    *next = Some(n + KEYS);
                    least.fetch_min(n, Ordering::AcqRel);
                    messages.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        Self { accepted, came, first: lowest }
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
    let (mut took, mut settled) = (Vec::new(), (usize::MAX - 4, u64::MAX - 40_000));
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
        if at == SETTLED {
            settled = (daemon.descriptors(), daemon.rss_kib());
        }
    }
    let now = (daemon.descriptors(), daemon.rss_kib());
    assert!(now.0 <= settled.0 + 4, "descriptors: {settled:?}, then {now:?}");
    assert!(now.1 <= settled.1 + 40_000, "KiB: {settled:?}, then {now:?}");
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
    eprintln!("descriptors and KiB: {settled:?}, then {now:?}");
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

/// A version of a flow from a TCP port to a TCP sink, with more behind it.
fn plain(source: u16, sink: u16, more: &str) -> String {
    format!(
        "name = \"plant\"\ndrain = \"1s\"\nallow_loss = true\n\
         [sources.lines]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{source}\"\n\
         [sinks.live]\ntype = \"tcp\"\naddress = \"127.0.0.1:{sink}\"\ninputs = [\"lines\"]\n\
         {more}"
    )
}

/// A site whose flow runs, and who sends to it.
fn running(text: &str, source: u16) -> (Job, Daemon, Client, Feed) {
    let (job, daemon, api) = site(Driver::Auto, 1);
    let made = api.post("/api/v1/flows", text);
    assert_eq!(made.status, 201, "{}", made.body);
    (job, daemon, api, Feed::start(source))
}

#[test]
fn a_version_that_cannot_be_opened_disturbs_nothing() {
    let (source, sink) = (free_port(), free_port());
    let live = Taker::listen(sink);
    let (_job, daemon, api, feed) = running(&plain(source, sink, ""), source);
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = busy.local_addr().unwrap().port();
    let file = "[sinks.file]\ntype = \"file\"\ninputs = [\"lines\"]\npath = \"/proc/no/file\"\n";
    let source_too =
        format!("[sources.more]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{taken}\"\n{file}")
            .replace("[\"lines\"]", "[\"more\"]")
            .replace("/proc/no/file", "more.ndjson");
    for more in [file, &source_too] {
        let failed = api.ask("PUT", "/api/v1/flows/plant", &plain(source, sink, more));
        assert!(failed.problem(422).contains("the old version goes on"), "{failed:?}");
    }
    drop(busy);
    let sent = feed.end();
    live.wait_for(sent);
    assert_eq!(live.accepted.load(Ordering::Acquire), 1);
    assert_eq!(daemon.drain().flow("plant").rows("lines"), [sent, sent, 0, 0]);
}

#[test]
fn a_sink_that_moves_leaves_the_one_before_with_what_was_its() {
    let (source, first, second) = (free_port(), free_port(), free_port());
    let (one, other) = (Taker::listen(first), Taker::starting_anywhere(second));
    let (_job, daemon, api, feed) = running(&plain(source, first, ""), source);
    until("messages come", || one.came.load(Ordering::Acquire) > 0);
    let report = api.ask("PUT", "/api/v1/flows/plant", &plain(source, second, "")).ok();
    let components = &report["components"];
    assert_eq!(names(&components["kept"]), ["lines"], "{report}");
    assert_eq!(names(&components["rebuilt"]), ["live"], "{report}");
    let came = one.came.load(Ordering::Acquire);
    until("messages come", || other.came.load(Ordering::Acquire) > 0);
    let sent = feed.end();
    until("all have come", || {
        one.came.load(Ordering::Acquire) + other.came.load(Ordering::Acquire) == sent
    });
    assert_eq!(one.came.load(Ordering::Acquire), came, "nothing more after the report");
    assert_eq!(other.first.load(Ordering::Acquire), came, "it begins where the other ended");
    assert_eq!(daemon.drain().flow("plant").rows("live"), [sent, sent, 0, 0]);
}

#[test]
fn a_file_that_a_sink_writes_is_taken_over_by_its_next_version() {
    let (source, sink) = (free_port(), free_port());
    let live = Taker::listen(sink);
    let file = |sync: &str| {
        format!(
            "[sinks.file]\ntype = \"file\"\ninputs = [\"lines\"]\npath = \"out.ndjson\"\n\
             fsync = \"{sync}\"\n"
        )
    };
    let (job, daemon, api, feed) = running(&plain(source, sink, &file("never")), source);
    for at in 0..6 {
        let text = plain(source, sink, &file(["10ms", "never"][at % 2]));
        let report = api.ask("PUT", "/api/v1/flows/plant", &text).ok();
        assert_eq!(names(&report["components"]["rebuilt"]), ["file"], "{report}");
        assert_eq!(names(&report["components"]["kept"]), ["lines", "live"], "{report}");
    }
    let sent = feed.end();
    live.wait_for(sent);
    assert_eq!(daemon.drain().flow("plant").rows("file"), [sent, sent, 0, 0]);
    let numbers: Vec<_> =
        job.json("out.ndjson").iter().map(|message| message["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
}

#[test]
fn a_dead_sink_that_is_gone_says_what_it_takes_along() {
    let (source, sink, dead) = (free_port(), free_port(), free_port());
    let live = Taker::listen(sink);
    let gone = format!(
        "[sinks.dead]\ntype = \"tcp\"\naddress = \"127.0.0.1:{dead}\"\n\
         inputs = [\"lines\"]\nwhen_full = \"drop_newest\"\n"
    );
    let (_job, daemon, api, feed) = running(&plain(source, sink, &gone), source);
    until("messages come", || live.came.load(Ordering::Acquire) > 0);
    let report = api.ask("PUT", "/api/v1/flows/plant", &plain(source, sink, "")).ok();
    let components = &report["components"];
    assert_eq!(names(&components["kept"]), ["lines", "live"], "{report}");
    assert_eq!(names(&components["removed"]), ["dead"], "{report}");
    assert_eq!(report["drained"], false, "{report}");
    assert!(components["discarded"].as_u64().unwrap() > 0, "{report}");
    assert!((1_000..DEADLINE_MS).contains(&report["duration_ms"].as_u64().unwrap()), "{report}");
    let sent = feed.end();
    live.wait_for(sent);
    assert_eq!(live.accepted.load(Ordering::Acquire), 1);
    assert_eq!(daemon.drain().flow("plant").rows("lines"), [sent, sent, 0, 0]);
}

/// Corrects the address of a sink that nobody answers: wrong, wrong again in
/// another way, and right.
fn correct_the_address(driver: Driver, shards: usize, partition: &str) {
    let (source, right) = (free_port(), free_port());
    let (job, daemon, api) = site(driver, shards);
    let at = |sink: u16, more: &str| {
        plain(source, sink, "").replace("drain = \"1s\"\nallow_loss = true\n", partition)
            + &format!("buffer = \"16KiB\"\n{more}")
    };
    let made = api.post("/api/v1/flows", &at(free_port(), ""));
    assert_eq!(made.status, 201, "{}", made.body);
    let feed = Feed::start(source);
    until("the sink's queue is full", || feed.is_stalled());
    let taker = Taker::listen(right);
    let more = "retry = { max = \"1s\" }\n";
    for (sink, more) in [(free_port(), ""), (free_port(), more), (right, more)] {
        let report = api.ask("PUT", "/api/v1/flows/plant", &at(sink, more)).ok();
        let components = &report["components"];
        assert_eq!(names(&components["kept"]), ["lines"], "{report}");
        assert_eq!(names(&components["rebuilt"]), ["live"], "{report}");
        assert_eq!(report["drained"], true, "{report}");
        assert_eq!(components["discarded"], 0, "{report}");
        assert!(components["handed_over"].as_u64().unwrap() > 0, "{report}");
        let took_ms = report["duration_ms"].as_u64().unwrap();
        assert!((1_000..DEADLINE_MS).contains(&took_ms), "{report}");
    }
    until("messages come", || taker.came.load(Ordering::Acquire) > 0);
    let sent = feed.end();
    taker.wait_for(sent);
    assert_eq!(taker.accepted.load(Ordering::Acquire), 1);
    assert_eq!(daemon.drain().flow("plant").rows("live"), [sent, sent, 0, 0]);
    drop(job);
}

with_each_driver! {
    fn a_dead_sink_whose_address_is_corrected_loses_nothing(driver: Driver) {
        correct_the_address(driver, 1, "");
    }
}

#[test]
fn a_dead_sink_of_two_shards_whose_address_is_corrected_loses_nothing() {
    correct_the_address(Driver::Auto, 2, "[partition]\nkey = [\"k\"]\n");
}

#[test]
fn a_sink_whose_address_is_corrected_does_not_have_its_file_read_again() {
    const LINES: u64 = 50_000;
    let (dead, right) = (free_port(), free_port());
    let (job, daemon, api) = site(Driver::Auto, 1);
    let lines: String = (0..LINES).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    job.write("in.ndjson", lines);
    let path = job.path("in.ndjson");
    let at = |sink: u16| {
        format!(
            "name = \"plant\"\n[sources.lines]\ntype = \"file\"\npath = {path:?}\n\
             mode = \"tail\"\nstart = \"beginning\"\n\
             [sinks.live]\ntype = \"tcp\"\naddress = \"127.0.0.1:{sink}\"\n\
             inputs = [\"lines\"]\nbuffer = \"16KiB\"\n"
        )
    };
    assert_eq!(api.post("/api/v1/flows", &at(dead)).status, 201);
    let taker = Taker::listen(right);
    let report = api.ask("PUT", "/api/v1/flows/plant", &at(right)).ok();
    assert_eq!(report["components"]["whole"], Value::Null, "{report}");
    assert_eq!(names(&report["components"]["kept"]), ["lines"], "{report}");
    taker.wait_for(LINES);
    assert_eq!(daemon.drain().flow("plant").rows("lines"), [LINES, LINES, 0, 0]);
}

#[test]
fn sources_come_and_go_beside_one_that_stays() {
    let (source, sink, second) = (free_port(), free_port(), free_port());
    let live = Taker::listen(sink);
    let (_job, daemon, api, feed) = running(&plain(source, sink, ""), source);
    let more = format!("[sources.more]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{second}\"\n");
    let both = plain(source, sink, &more)
        .replace("inputs = [\"lines\"]", "inputs = [\"lines\", \"some\"]")
        + "[operators.some]\ntype = \"filter\"\ninputs = [\"more\"]\nwhere = \"n < 0\"\n";
    for _ in 0..3 {
        let report = api.ask("PUT", "/api/v1/flows/plant", &both).ok();
        assert_eq!(names(&report["components"]["added"]), ["more", "some"], "{report}");
        assert_eq!(names(&report["components"]["kept"]), ["lines", "live"], "{report}");
        let mut peer = connect(second);
        peer.write_all(b"{\"n\":1}\n").unwrap();
        // It is closed when what it sent has been read.
        let report = api.ask("PUT", "/api/v1/flows/plant", &plain(source, sink, "")).ok();
        assert_eq!(names(&report["components"]["removed"]), ["more", "some"], "{report}");
        assert_eq!(report["drained"], true, "{report}");
        assert!(TcpStream::connect(("127.0.0.1", second)).is_err(), "nobody listens any more");
    }
    let sent = feed.end();
    live.wait_for(sent);
    assert_eq!(live.accepted.load(Ordering::Acquire), 1);
    assert_eq!(daemon.drain().flow("plant").rows("live"), [sent, sent, 0, 0]);
}

#[test]
fn an_operator_that_changes_goes_on_with_its_state_and_one_that_leaves_gives_it_out() {
    let (source, sink) = (free_port(), free_port());
    let live = Taker::listen(sink);
    let keyed = |keys: usize| {
        format!(
            "[operators.news]\ntype = \"change_detector\"\ninputs = [\"lines\"]\n\
             key = [\"k\"]\nfields = [\"v\"]\nmax_keys = {keys}\n\
             [sinks.news_out]\ntype = \"file\"\npath = \"news.ndjson\"\ninputs = [\"news\"]\n\
             [operators.late]\ntype = \"throttle\"\ninputs = [\"lines\"]\nkey = [\"k\"]\n\
             rate = 1\nper = \"1h\"\nover = \"delay\"\ndelay_buffer = \"64MiB\"\n\
             [sinks.late_out]\ntype = \"file\"\npath = \"late.ndjson\"\ninputs = [\"late\"]\n"
        )
    };
    let (job, daemon, api, feed) = running(&plain(source, sink, &keyed(100)), source);
    for at in 0..5 {
        let report = api.ask("PUT", "/api/v1/flows/plant", &plain(source, sink, &keyed(200 + at)));
        assert_eq!(names(&report.ok()["components"]["rebuilt"]), ["news"]);
    }
    let sent = feed.end();
    live.wait_for(sent);
    let end = keyed(100).replace("[operators.late]", "[operators.x]").replace(
        "type = \"throttle\"\ninputs = [\"lines\"]\nkey = [\"k\"]\nrate = 1\nper = \"1h\"\nover = \"delay\"\ndelay_buffer = \"64MiB\"",
        "type = \"filter\"\ninputs = [\"lines\"]\nwhere = \"n < 0\"",
    );
    let end = end.replace("[\"late\"]", "[\"x\"]");
    let report = api.ask("PUT", "/api/v1/flows/plant", &plain(source, sink, &end)).ok();
    assert_eq!(names(&report["components"]["removed"]), ["late"], "{report}");
    let news: u64 = (0..KEYS).map(|k| (sent - k - 1) / KEYS / SAME + 1).sum();
    assert_eq!(daemon.drain().flow("plant").rows("news"), [sent, news, sent - news, 0]);
    assert_eq!(job.json("late.ndjson").len() as u64, sent, "what was held back was given out");
}

#[test]
fn dead_letters_come_move_and_go_beside_connections_that_stay() {
    let (source, sink) = (free_port(), free_port());
    let live = Taker::listen(sink);
    let letters = |path: &str| format!("[dead_letters]\ntype = \"file\"\npath = \"{path}\"\n");
    let (job, daemon, api, feed) = running(&plain(source, sink, ""), source);
    let mut other = connect(source);
    let versions = [letters("one.ndjson"), letters("two.ndjson"), String::new()];
    let lists = ["added", "rebuilt", "removed"];
    for (version, list) in versions.iter().zip(lists) {
        let report = api.ask("PUT", "/api/v1/flows/plant", &plain(source, sink, version)).ok();
        assert_eq!(names(&report["components"][list]), ["dead_letters"], "{report}");
        assert_eq!(names(&report["components"]["kept"]), ["lines", "live"], "{report}");
        assert_eq!(report["drained"], true, "{report}");
        other.write_all(b"{no message\n").unwrap();
        let dead = |flow: &Value| flow["rejected"].as_u64();
        let all = |flow: &Value| {
            dead(flow) == Some(lists.iter().position(|l| l == &list).unwrap() as u64 + 1)
        };
        until("it is refused", || all(&api.get("/api/v1/flows/plant").ok()));
    }
    let sent = feed.end();
    live.wait_for(sent);
    assert_eq!(live.accepted.load(Ordering::Acquire), 1);
    assert_eq!(daemon.drain().flow("plant").rows("lines"), [sent + 3, sent, 0, 3]);
    assert_eq!((job.json("one.ndjson").len(), job.json("two.ndjson").len()), (1, 1));
}
