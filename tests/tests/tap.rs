//! Taps: what is shown is what passes, by whom it is asked for, over reloads,
//! and at nobody's cost.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use ringmain_tests::http::Client;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::{Daemon, Driver, Job, binary, until};
use serde_json::{Value, json};

const FLOW: &str = r#"
name = "plant.north"
allow_loss = true
[sources.lines]
type = "tcp"
listen = "127.0.0.1:PORT"
decode = "json"
[operators.even]
type = "filter"
inputs = ["lines"]
where = "n % 2 == 0"
[sinks.out]
type = "file"
inputs = ["even"]
path = "out.ndjson"
[dead_letters]
type = "file"
path = "dead.ndjson"
"#;

struct Plant {
    job: Job,
    daemon: Daemon,
    api: Client,
    tcp: u16,
    url: String,
}

fn plant(api: &str) -> Plant {
    let (tcp, port) = (free_port(), free_port());
    let daemon_file = format!(
        "[api]\nlisten = \"127.0.0.1:{port}\"\nrate = 10000\n{api}\n\
         [daemon]\ndata_dir = \"data\"\n"
    );
    let tokens = "[[tokens]]\nname = \"boss\"\ntoken = \"boss-boss-boss-boss\"\nscopes = \"manage\"\n\
                  [[tokens]]\nname = \"auditor\"\ntoken = \"auditor-auditor-0\"\nscopes = \"read-management\"\n\
                  [[tokens]]\nname = \"watcher\"\ntoken = \"watcher-watcher-0\"\nscopes = \"read-runtime\"\n";
    let job = Job::new(Driver::Auto).file("tokens.toml", tokens).shards(&daemon_file);
    job.write("flow.toml", FLOW.replace("PORT", &tcp.to_string()));
    let mut command = Command::new(binary::ringmain());
    command.args(["run", "--config", "ringmain.toml", "--summary-json", "summary.json"]);
    command.current_dir(job.path("."));
    let daemon = job.start_as(command);
    drop(connect(port));
    let api = Client::new(port).token("boss-boss-boss-boss");
    let definition = FLOW.replace("PORT", &tcp.to_string());
    let toml = api.clone().with("Content-Type", "application/toml");
    assert_eq!(toml.post("/api/v1/flows", &definition).status, 201);
    Plant { job, daemon, api, tcp, url: format!("http://127.0.0.1:{port}") }
}

/// A `ringmain tap` under way.
struct Tapping(std::process::Child);

impl Plant {
    fn feed(&self) -> TcpStream {
        connect(self.tcp)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary::ringmain());
        command.arg("tap").args(args).args(["--api", &self.url]);
        command.env("RINGMAIN_TOKEN", "watcher-watcher-0");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
        command
    }

    /// Begins to look; what comes into the flow from now on is seen.
    fn tap(&self, args: &[&str]) -> Tapping {
        let begun = || self.daemon.said().matches("begun").count();
        let before = begun();
        let child = self.command(args).spawn().unwrap();
        until("the tap is open", || begun() > before);
        Tapping(child)
    }

    fn refused(&self, args: &[&str]) -> String {
        let Output { status, stderr, stdout } = self.command(args).output().unwrap();
        assert_eq!((status.code(), stdout.len()), (Some(1), 0));
        String::from_utf8(stderr).unwrap()
    }
}

impl Tapping {
    fn lines(self) -> (Vec<String>, String) {
        let Output { status, stdout, stderr } = self.0.wait_with_output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(0), "{said}");
        (String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect(), said)
    }
}

fn send(stream: &mut TcpStream, numbers: impl IntoIterator<Item = u32>) {
    let text: String =
        numbers.into_iter().map(|n| format!("{{\"n\":{n},\"a\":\"x\"}}\n")).collect();
    stream.write_all(text.as_bytes()).unwrap();
}

#[test]
fn what_passes_a_component_is_shown() {
    let plant = plant("");
    let mut feed = plant.feed();
    let even = plant.tap(&["plant.north.even", "--count", "5"]);
    let odd = plant.tap(&["plant.north.lines", "--where", "n % 2 == 1 and n > 3", "--count", "3"]);
    let lua = plant.tap(&["plant.north.out", "--where", "math.floor(n / 10) == 1", "--count", "2"]);
    let tenth = plant.tap(&["plant.north.lines", "--sample", "10", "--count", "4", "--json"]);
    send(&mut feed, 0..40);
    let message = |n: u32| format!("{{\"n\":{n},\"a\":\"x\"}}");
    assert_eq!(even.lines().0, [0, 2, 4, 6, 8].map(message));
    assert_eq!(odd.lines().0, [5, 7, 9].map(message));
    assert_eq!(lua.lines().0, [10, 12].map(message));
    let shown: Vec<Value> =
        tenth.lines().0.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let want = [0, 10, 20, 30];
    assert_eq!(
        shown,
        want.map(|n| json!({ "component": "lines", "message": { "n": n, "a": "x" } }))
    );
    // The whole flow: with the names of the components, and dead letters.
    let all = plant.tap(&["plant.north", "--count", "4"]);
    send(&mut feed, [2]);
    feed.write_all(b"nonsense\n").unwrap();
    let (mut all, _) = all.lines();
    assert_eq!(&all[..3], ["lines", "even", "out"].map(|name| format!("{name}  {}", message(2))));
    let letter = all.remove(3);
    assert!(
        letter.starts_with("dead_letters  {\"time\":") && letter.contains("nonsense"),
        "{letter}"
    );
    // A field that nobody has seen yet: the flow learns it while it is looked at.
    let new = plant.tap(&["plant.north.lines", "--where", "late == 7", "--count", "1"]);
    send(&mut feed, [1]);
    feed.write_all(b"{\"n\":3,\"late\":7}\n").unwrap();
    assert_eq!(new.lines().0, ["{\"n\":3,\"late\":7}"]);
    // An expression that fails on a message shows the others.
    let some = plant.tap(&["plant.north.lines", "--where", "late < 9", "--count", "1"]);
    send(&mut feed, [1]);
    feed.write_all(b"{\"n\":5,\"late\":8}\n").unwrap();
    assert_eq!(some.lines().0, ["{\"n\":5,\"late\":8}"]);
    // The picture of the flow, with figures of now.
    let graph = plant.job.call(&["graph", "flow.toml", "--live", "--api", &plant.url]);
    let text = String::from_utf8(graph.stdout).unwrap();
    assert!(text.contains("c_even[\"even<br/>filter<br/>") && text.contains("/s\"]"), "{text}");
    assert!(text.contains("c_lines -->|\"0 %\"| c_even"), "{text}");
    assert_eq!(plant.daemon.drain().ok().rows("lines"), [46, 45, 0, 1]);
}

#[test]
fn a_tap_goes_on_over_a_reload_a_stop_and_a_start() {
    let plant = plant("");
    let tap = plant.tap(&["plant.north.even", "--count", "4"]);
    let path = "/api/v1/flows/plant.north";
    let toml = plant.api.clone().with("Content-Type", "application/toml");
    let mut child = tap.0;
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut shown = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || shown.next().unwrap().unwrap();
    send(&mut plant.feed(), [2]);
    assert_eq!(next(), "{\"n\":2,\"a\":\"x\"}");
    let changed = FLOW.replace("PORT", &plant.tcp.to_string()).replace("== 0", "== 1");
    assert_eq!(toml.ask("PUT", path, &changed).ok()["action"], "replaced");
    assert_eq!(said.next().unwrap().unwrap(), "# the flow was reloaded");
    send(&mut plant.feed(), [2, 3]);
    assert_eq!(next(), "{\"n\":3,\"a\":\"x\"}");
    assert_eq!(plant.api.post(&format!("{path}/stop"), "").status, 200);
    assert_eq!(said.next().unwrap().unwrap(), "# the flow was stopped");
    assert_eq!(plant.api.post(&format!("{path}/start"), "").status, 200);
    assert_eq!(said.next().unwrap().unwrap(), "# the flow was started");
    send(&mut plant.feed(), [5]);
    assert_eq!(next(), "{\"n\":5,\"a\":\"x\"}");
    // The component is gone: there is nothing to follow.
    let renamed = changed.replace("even", "odd");
    assert_eq!(toml.ask("PUT", path, &renamed).ok()["action"], "replaced");
    let end = said.next().unwrap().unwrap();
    assert!(
        end.contains("no component 'even'") && end.contains("it has: lines, odd, out"),
        "{end}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn who_may_not_and_what_is_not_there_and_what_is_no_expression_are_refused() {
    let plant = plant("auth = \"tokens.toml\"");
    let said = plant.refused(&["other"]);
    assert!(said.contains("there is no flow 'other'; there are: plant.north"), "{said}");
    let said = plant.refused(&["plant.north.cold"]);
    assert!(said.contains("no component 'cold'"), "{said}");
    assert!(said.contains("it has: lines, even, out, dead_letters"), "{said}");
    let said = plant.refused(&["plant.north", "--where", "n >"]);
    assert!(
        said.contains("where:1:4: ") && said.contains("at the end of the expression"),
        "{said}"
    );
    let said = plant.refused(&["plant.north", "--limit", "0"]);
    assert!(said.contains("'limit' is messages per second: 1 to 10000"), "{said}");
    let said = plant.refused(&["plant.north", "--token", "auditor-auditor-0"]);
    assert!(said.contains("the token 'auditor' lacks the scope read-runtime"), "{said}");
    let said = plant.refused(&["plant.north", "--token", "nobody-nobody-nobody"]);
    assert!(said.contains("a token of the auth file is needed"), "{said}");
}

#[test]
fn what_is_not_shown_is_counted_and_holds_nothing_up() {
    const COUNT: u32 = 20_000;
    let plant = plant("");
    let path = "/api/v1/flows/plant.north/tap?component=lines";
    let open = |query: &str| {
        let begun = || plant.daemon.said().matches("begun").count();
        let before = begun();
        let port: u16 = plant.url.rsplit(':').next().unwrap().parse().unwrap();
        let mut stream = connect(port);
        write!(stream, "GET {path}{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        until("the tap is open", || begun() > before);
        stream
    };
    // One that is never read from, one that shows little, one whose expression
    // would hold up a shard for ever.
    let deaf = open("&limit=10000");
    let few = open("&limit=5");
    let stuck = open("&where=(function()while(true)do%20end%20end)()");
    let mut feed = plant.feed();
    send(&mut feed, 0..COUNT);
    until("everything has arrived", || {
        let text = std::fs::read_to_string(plant.job.path("out.ndjson")).unwrap_or_default();
        text.matches('\n').count() == COUNT as usize / 2
    });
    let mut events = Vec::new();
    for line in BufReader::new(few).lines().map(Result::unwrap) {
        events
            .extend(line.strip_prefix("data: ").map(|d| serde_json::from_str::<Value>(d).unwrap()));
        if events.last().is_some_and(|event| event["seen"] == COUNT) {
            break;
        }
    }
    let told = events.last().unwrap();
    let shown = events.iter().filter(|event| event["message"].is_object()).count() as u64;
    assert!(shown >= 5, "{told}");
    assert_eq!(told["skipped"].as_u64().unwrap() + shown, u64::from(COUNT), "{told}");
    let mut lines = BufReader::new(stuck).lines().map(Result::unwrap);
    let end = lines.find(|line| line.contains("detail")).unwrap();
    assert!(end.contains("the expression takes too long"), "{end}");
    drop(deaf);
    assert_eq!(plant.daemon.drain().ok().rows("out")[1], u64::from(COUNT) / 2);
}

#[test]
fn a_flow_on_several_shards_is_seen_once() {
    const COUNT: u32 = 2_000;
    let cores: Vec<_> =
        ringmain_tests::machine::cores().iter().take(2).map(ToString::to_string).collect();
    let (tcp, port) = (free_port(), free_port());
    let flow = FLOW.replace("PORT", &tcp.to_string()) + "[partition]\nkey = [\"n\"]\n";
    let job = Job::new(Driver::Auto)
        .daemon_file(&format!(
            "[shards]\ncores = \"{}\"\n[api]\nlisten = \"127.0.0.1:{port}\"\n",
            cores.join(",")
        ))
        .and_flow(&flow);
    let daemon = job.start();
    drop(connect(port));
    let mut feed = connect(tcp);
    let api = format!("http://127.0.0.1:{port}");
    let tap = |component: &str| {
        let mut command = Command::new(binary::ringmain());
        let target = format!("plant.north.{component}");
        let count = (COUNT / 2).to_string();
        command.args(["tap", &target, "--api", &api, "--limit", "10000", "--count", &count]);
        let begun = || daemon.said().matches("begun").count();
        let before = begun();
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("the tap is open", || begun() > before);
        Tapping(child)
    };
    let (even, out) = (tap("even"), tap("out"));
    // No more than may wait for a reader, however slow it is.
    send(&mut feed, 0..COUNT);
    for tap in [even, out] {
        let (lines, _) = tap.lines();
        let number = |line: &String| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64();
        let mut numbers: Vec<_> = lines.iter().filter_map(number).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq((0..u64::from(COUNT)).step_by(2)));
    }
    assert_eq!(daemon.drain().status.code(), Some(0));
}
