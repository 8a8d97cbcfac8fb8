//! The API: what it shows adds up, who may ask what, and what errors look like.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use ringmain_tests::http::{Answer, Client};
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::plant;
use ringmain_tests::{Daemon, Driver, Job, until};
use serde_json::{Value, json};

struct Plant {
    job: Job,
    daemon: Daemon,
    api: Client,
    feed: TcpStream,
}

/// A daemon with a flow that waits for lines, and an API.
fn plant(api: &str, more: &str) -> Plant {
    let (tcp, port) = (free_port(), free_port());
    let job = Job::new(Driver::Auto)
        .file("tokens.toml", TOKENS)
        .shards(&format!("[api]\nlisten = \"127.0.0.1:{port}\"\n{api}\n{more}"))
        .and_flow(&plant::flow(tcp));
    let daemon = job.start();
    let feed = connect(tcp);
    drop(connect(port));
    let api = Client::new(port);
    until("the flow is there", || api.get("/api/v1/flows/plant").status == 200);
    Plant { job, daemon, api, feed }
}

const TOKENS: &str = r#"
[[tokens]]
name = "operator"
token = "operator-operator-0"
scopes = "manage"
[[tokens]]
name = "auditor"
# echo -n auditor-auditor-000 | sha256sum
sha256 = "AUDITOR"
scopes = ["read-management"]
[[tokens]]
name = "grafana"
token = "grafana-grafana-000"
scopes = ["read-runtime"]
"#;

impl Plant {
    /// Sends lines of which half pass the filter, and one that is no JSON.
    fn feed(&mut self, lines: u64) {
        let text: String = (0..lines).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        self.feed.write_all(text.as_bytes()).unwrap();
        self.feed.write_all(b"nonsense\n").unwrap();
    }

    fn wait_for_in(&self, messages: u64) -> Value {
        let mut flow = Value::Null;
        until("the API shows what was sent", || {
            flow = self.api.get("/api/v1/flows/plant").ok();
            flow["messages_in"] == messages && flow["components"][2]["messages_out"] == messages / 2
        });
        flow
    }
}

#[test]
fn what_the_api_shows_is_what_the_summary_says() {
    let mut plant = plant("", "");
    plant.feed(1_000);
    let flow = plant.wait_for_in(1_001);
    assert_eq!(flow["status"], "deployed");
    assert_eq!(flow["phase"], "running");
    assert_eq!((&flow["runners"], &flow["rejected"]), (&1.into(), &1.into()));
    assert_eq!(flow["creator"], "configuration");
    assert_eq!(flow["file"], "flow-0.toml");
    let list = plant.api.get("/api/v1/flows").ok();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    assert_eq!(list[0]["name"], "plant");
    let edges: Vec<_> =
        flow["edges"].as_array().unwrap().iter().map(|e| (&e["from"], &e["to"])).collect();
    let text = |text: &str| Value::from(text);
    assert_eq!(edges, [(&text("lines"), &text("hot")), (&text("hot"), &text("out"))]);
    let definition = plant.api.get("/api/v1/flows/plant/definition");
    assert!(definition.body.contains("where = \"n % 2 == 0\""), "{definition:?}");
    let node = plant.api.get("/api/v1/node").ok();
    assert_eq!(node["name"], "ringmain");
    assert_eq!(node["shards"][0]["name"], "shard-0");
    assert!(node["shards"][0]["turns"].as_u64() > Some(0));
    assert!(node["memory"]["reserved_bytes"].as_u64() > Some(0));
    assert!(node["memory"]["reserved_bytes"].as_u64() <= node["memory"]["budget_bytes"].as_u64());
    assert_eq!(node["queues"].as_array().map(Vec::len), Some(2));
    assert_eq!(plant.api.get("/api/v1/health").ok()["status"], "up");
    let figures = plant.api.get("/api/v1/metrics").ok();
    let prometheus = plant.api.get("/metrics");
    let done = plant.daemon.drain();
    let summary = done.ok();
    for at in flow["components"].as_array().unwrap() {
        let (name, is) = (at["name"].as_str().unwrap(), |key: &str| at[key].as_u64().unwrap());
        let shown = [is("messages_in"), is("messages_out"), is("dropped"), is("dead")];
        assert_eq!(shown, summary.rows(name), "{name}");
        let named = |figure: &&Value| {
            figure["name"] == "ringmain_component_messages_in_total"
                && figure["tags"]["component"] == name
        };
        let figure = figures.as_array().unwrap().iter().find(named).unwrap();
        assert_eq!(figure["value"], summary.totals(name).rows_in, "{name}");
        let line = format!(
            "ringmain_component_messages_in_total{{flow=\"plant\",component=\"{name}\"}} {}",
            summary.totals(name).rows_in
        );
        assert!(prometheus.body.lines().any(|l| l == line), "{line}\n{}", prometheus.body);
    }
    assert_eq!(flow["components"][0]["dead_by_reason"]["decode"], 1);
    assert_eq!(plant.job.lines("out.ndjson").len(), 500);
}

/// Every route of the OpenAPI document, with what its parameters may be.
fn routes(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let routes = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        let methods = methods.filter(|m| ["get", "post", "put", "delete"].contains(&m.as_str()));
        methods.map(move |method| {
            (method.to_uppercase(), path.replace("{name}", "plant").replace("{version}", "1"))
        })
    });
    routes.collect()
}

#[test]
fn every_route_asks_for_a_token_that_is_good_for_it() {
    // Of the token "auditor-auditor-000".
    let digest = "79bf22d9c84e613f12e95174783f9046939d50ceb55118ff4c090f6e654bf92f";
    let auth = "auth = \"tokens.toml\"";
    let (tcp, port) = (free_port(), free_port());
    let job = Job::new(Driver::Auto)
        .file("tokens.toml", TOKENS.replace("AUDITOR", digest))
        .shards(&format!("[api]\nlisten = \"127.0.0.1:{port}\"\nrate = 10000\n{auth}\n"))
        .and_flow(&plant::flow(tcp));
    let daemon = job.start();
    drop(connect(port));
    let api = Client::new(port);
    let document = api.get("/openapi.json").ok();
    let routes = routes(&document);
    assert!(routes.len() >= 6, "{routes:?}");
    let token = |token: &str| api.clone().token(token);
    for (method, path) in routes.iter().filter(|(_, path)| path != "/api/v1/health") {
        let asked = |api: &Client| api.ask(method, path, "");
        let answer = asked(&api);
        assert!(answer.problem(401).contains("Authorization: Bearer"), "{method} {path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"ringmain\""));
        let _ = asked(&token("operator-operator-1")).problem(401);
        let _ = asked(&token("")).problem(401);
        let _ = asked(&api.clone().with("Authorization", "Bearer")).problem(401);
        if method != "GET" {
            for narrower in ["grafana-grafana-000", "auditor-auditor-000"] {
                let detail = asked(&token(narrower)).problem(403);
                assert!(detail.contains("lacks the scope manage"), "{method} {path}: {detail}");
            }
        }
    }
    let grafana = token("grafana-grafana-000");
    assert_eq!(grafana.get("/metrics").status, 200);
    assert_eq!(grafana.get("/api/v1/node").status, 200);
    let detail = grafana.get("/api/v1/flows/plant/definition").problem(403);
    assert!(detail.contains("'grafana' lacks the scope read-management"), "{detail}");
    let auditor = token("auditor-auditor-000");
    assert_eq!(auditor.get("/api/v1/flows/plant/definition").status, 200);
    assert!(auditor.get("/metrics").problem(403).contains("lacks the scope read-runtime"));
    let basic = api.clone().with("Authorization", "Basic YW55Om9wZXJhdG9yLW9wZXJhdG9yLTA=");
    assert_eq!(basic.get("/api/v1/flows/plant/definition").status, 200);
    // A file that changes is read again; a bad one changes nothing.
    job.write(
        "tokens.toml",
        "[[tokens]]\nname = \"new\"\ntoken = \"new-new-new-new-0\"\nscopes = \"manage\"\n",
    );
    until("the new token is known", || {
        token("new-new-new-new-0").get("/api/v1/node").status == 200
    });
    let _ = grafana.get("/api/v1/node").problem(401);
    job.write("tokens.toml", "[[tokens]]\nname = \"new\"\n");
    until("the bad file is told", || daemon.said().contains("the old tokens stay"));
    assert_eq!(token("new-new-new-new-0").get("/api/v1/node").status, 200);
    drop(daemon);
}

#[test]
fn errors_are_problem_documents() {
    let plant = plant("rate = 1000", "");
    let api = &plant.api;
    assert!(api.get("/nowhere").problem(404).contains("/openapi.json"));
    assert!(api.get("/api/v1/flows/other").problem(404).contains("flow 'other'"));
    let answer = api.ask("PATCH", "/api/v1/flows", "");
    let _ = answer.problem(405);
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("GET")), "{answer:?}");
    let _ = api.get("/api/v1/flows/%ff").problem(400);
    // Pages of other sites, and names that lead here.
    let _ = api.clone().with("Host", "evil.example:8642").get("/api/v1/flows").problem(403);
    let _ = api.clone().with("Origin", "https://evil.example").get("/api/v1/flows").problem(403);
    assert_eq!(api.clone().with("Origin", "http://localhost:1").get("/api/v1/flows").status, 200);
    drop(plant);
}

#[test]
fn a_peer_that_asks_too_often_is_told_when_to_come_back() {
    let plant = plant("rate = 3", "");
    let mut refused: Option<Answer> = None;
    until("it is refused", || {
        let answer = plant.api.get("/api/v1/health");
        if answer.status == 429 {
            refused = Some(answer);
        }
        refused.is_some()
    });
    let refused = refused.unwrap();
    let _ = refused.problem(429);
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[test]
fn a_listener_that_others_reach_needs_tokens() {
    let job = Job::new(Driver::Auto)
        .shards("[api]\nlisten = \"0.0.0.0:18642\"\n")
        .and_flow(&plant::flow(1));
    let done = job.run();
    let said = done.failed(78);
    assert!(said.contains("ringmain.toml:4:10: error: 'listen' of [api]"), "{said}");
    assert!(said.contains("auth ="), "{said}");
}

#[test]
fn an_address_in_use_is_told_before_anything_runs() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let job = Job::new(Driver::Auto)
        .shards(&format!("[api]\nlisten = \"127.0.0.1:{port}\"\n"))
        .and_flow(&plant::flow(free_port()));
    let done = job.run();
    assert!(done.failed(1).contains("[api] listen: cannot listen at"), "{}", done.stderr);
}

#[test]
fn statsd_graphite_and_datadog_get_totals_that_equal_the_summary() {
    let (plain, tagged) = (udp(), udp());
    let graphite = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = |addr: std::io::Result<std::net::SocketAddr>| addr.unwrap().port();
    let metrics = format!(
        "[metrics]\nevery = \"100ms\"\nprefix = \"rm\"\ntags = [\"site:north\"]\n\
         statsd = \"127.0.0.1:{}\"\ndatadog = \"127.0.0.1:{}\"\ngraphite = \"127.0.0.1:{}\"\n",
        port(plain.local_addr()),
        port(tagged.local_addr()),
        port(graphite.local_addr()),
    );
    let lines = std::thread::spawn(move || {
        let (mut stream, _) = graphite.accept().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        text
    });
    let (plain, tagged) = (gather(plain), gather(tagged));
    let mut plant = plant("", &metrics);
    plant.feed(2_000);
    plant.wait_for_in(2_001);
    let done = plant.daemon.drain();
    let summary = done.ok();
    let (plain, tagged) = (plain.stop(), tagged.stop());
    let graphite = lines.join().unwrap();
    for component in summary.components() {
        let totals = summary.totals(component);
        for (name, total) in [
            ("messages_in", totals.rows_in),
            ("messages_out", totals.rows_out),
            ("messages_dropped", totals.dropped),
            ("messages_dead", totals.dead),
            ("bytes_in", totals.bytes_in),
            ("bytes_out", totals.bytes_out),
        ] {
            let path = format!("rm.flow.plant.component.{component}.{name}");
            assert_eq!(sum(&plain, &path, "|c"), total, "{path}");
            let tags = format!("|c|#site:north,flow:plant,component:{component}");
            let tagged_name = format!("rm.component_{name}_total");
            assert_eq!(sum(&tagged, &tagged_name, &tags), total, "{tagged_name} {tags}");
            let last =
                graphite.lines().rfind(|line| line.starts_with(&format!("{path} "))).unwrap();
            assert_eq!(last.split(' ').nth(1), Some(total.to_string().as_str()), "{last}");
        }
    }
}

#[test]
fn jolokia_answers_in_the_shapes_of_its_protocol() {
    let mut plant = plant("rate = 1000", "[metrics]\njolokia = true\n");
    plant.feed(100);
    plant.wait_for_in(101);
    let get = |path: &str| plant.api.get(&format!("/jolokia{path}")).ok();
    let post = |body: Value| plant.api.post("/jolokia/", &body.to_string()).ok();
    // version, three ways
    for version in [get(""), get("/version"), post(json!({ "type": "version" }))] {
        assert_eq!(
            (&version["status"], &version["request"]),
            (&200.into(), &json!({ "type": "version" }))
        );
        assert!(version["value"]["protocol"].is_string() && version["value"]["agent"].is_string());
        assert!(version["timestamp"].as_u64() > Some(1_700_000_000));
    }
    // read: one attribute, an inner path, all, several, a pattern
    let name = "ringmain:type=Flow,name=plant";
    let read = get(&format!("/read/{name}/MessagesIn"));
    assert_eq!(read["value"], 101);
    assert_eq!(
        read["request"],
        json!({ "type": "read", "mbean": name, "attribute": "MessagesIn" })
    );
    assert_eq!(post(read["request"].clone())["value"], 101);
    assert!(get("/read/java.lang:type=Memory/HeapMemoryUsage/used")["value"].as_u64() > Some(0));
    assert_eq!(get("?p=/read/java.lang:type=Runtime/VmName")["value"], "ringmain");
    let all = get(&format!("/read/{name}"));
    assert_eq!(
        (&all["value"]["Status"], &all["value"]["Rejected"]),
        (&"deployed".into(), &1.into())
    );
    let some =
        post(json!({ "type": "read", "mbean": name, "attribute": ["Status", "MessagesOut"] }));
    assert_eq!(some["value"], json!({ "Status": "deployed", "MessagesOut": 50 }));
    let pattern = get("/read/ringmain:type=Component,*/MessagesIn");
    let component = |name: &str| format!("ringmain:flow=plant,name={name},type=Component");
    assert_eq!(pattern["value"].as_object().map(serde_json::Map::len), Some(3));
    assert_eq!(pattern["value"][component("hot")]["MessagesIn"], 100);
    let skipped = post(json!({
        "type": "read", "mbean": "java.lang:*", "attribute": "HeapMemoryUsage", "path": "*/*/max",
    }));
    let memory = &skipped["value"]["java.lang:type=Memory"];
    assert_eq!(memory, &json!({ "HeapMemoryUsage": 256 << 20 }));
    // search and list
    let found = get("/search/*:type=Flow,*");
    assert_eq!(found["value"], json!(["ringmain:name=plant,type=Flow"]));
    let list = get("/list/java.lang/type=Memory");
    assert_eq!(list["value"]["attr"]["HeapMemoryUsage"]["rw"], false);
    assert_eq!(get("/list?maxDepth=1")["value"], json!({ "java.lang": 1, "ringmain": 1 }));
    // errors
    let error = |answer: &Value, status: u16, class: &str| {
        assert_eq!((&answer["status"], &answer["error_type"]), (&status.into(), &class.into()));
        assert!(answer["error"].as_str().is_some_and(|e| e.starts_with(class)), "{answer}");
    };
    error(&get("/read/a:b=c/d"), 404, "javax.management.InstanceNotFoundException");
    error(&get(&format!("/read/{name}/Nope")), 404, "javax.management.AttributeNotFoundException");
    error(&get("/read/nonsense/x"), 400, "javax.management.MalformedObjectNameException");
    error(&get("/frobnicate"), 400, "java.lang.UnsupportedOperationException");
    error(&post(json!(7)), 400, "java.lang.IllegalArgumentException");
    // in bulk, in order, each with its own status
    let bulk = post(json!([{ "type": "read", "mbean": "a:b=c" }, { "type": "version" }]));
    let statuses: Vec<_> = bulk.as_array().unwrap().iter().map(|a| &a["status"]).collect();
    assert_eq!(statuses, [404, 200]);
    // escaped names
    let escaped = get("/read/a:b=x!%2Fy!!/d");
    assert_eq!(escaped["request"]["mbean"], "a:b=x/y!");
}

fn udp() -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

struct Gathered {
    stop: std::sync::mpsc::SyncSender<()>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

/// Receives datagrams until told to stop and nothing more comes.
fn gather(socket: std::net::UdpSocket) -> Gathered {
    let (stop, stopped) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::spawn(move || {
        let (mut lines, mut ending, mut packet) = (Vec::new(), false, [0; 65_536]);
        loop {
            ending |= stopped.try_recv().is_ok();
            match socket.recv(&mut packet) {
                Ok(len) => {
                    assert!(len <= 1432, "a datagram of {len} bytes is cut to pieces on its way");
                    let text = std::str::from_utf8(&packet[..len]).unwrap();
                    lines.extend(text.lines().map(str::to_owned));
                }
                Err(_) if ending => return lines,
                Err(_) => {}
            }
        }
    });
    Gathered { stop, thread }
}

impl Gathered {
    fn stop(self) -> Vec<String> {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

/// What the lines with this name and end add up to.
fn sum(lines: &[String], name: &str, end: &str) -> u64 {
    let values = lines.iter().filter_map(|line| {
        let (found, rest) = line.split_once(':')?;
        (found == name).then(|| rest.strip_suffix(end)?.parse::<u64>().ok()).flatten()
    });
    values.sum()
}
