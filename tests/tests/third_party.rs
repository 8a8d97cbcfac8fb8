//! Programs that nobody here wrote read what the daemon serves and sends.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use ringmain_tests::binary::workspace;
use ringmain_tests::clients::{node, python};
use ringmain_tests::http::Client;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::plant;
use ringmain_tests::{Daemon, Driver, Job, until};
use serde_json::{Value, json};

const TOKENS: &str =
    "[[tokens]]\nname = \"operator\"\ntoken = \"operator-operator-0\"\nscopes = \"manage\"\n";

struct Plant {
    /// Kept: it is the daemon's folder.
    _job: Job,
    daemon: Daemon,
    port: u16,
    api: Client,
}

/// A daemon whose flow has seen 1,000 messages and a line that is none.
fn plant(more: &str) -> Plant {
    let (tcp, port) = (free_port(), free_port());
    let job = Job::new(Driver::Auto)
        .file("tokens.toml", TOKENS)
        .shards(&format!(
            "[daemon]\ndata_dir = \"data\"\n[api]\nlisten = \"127.0.0.1:{port}\"\n\
             rate = 10000\nauth = \"tokens.toml\"\n{more}"
        ))
        .and_flow(&plant::flow(tcp));
    let daemon = job.start();
    let mut feed = connect(tcp);
    drop(connect(port));
    let api = Client::new(port).token("operator-operator-0");
    let lines: String = (0..1_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    feed.write_all(lines.as_bytes()).unwrap();
    feed.write_all(b"nonsense\n").unwrap();
    until("the API shows what was sent", || {
        let answer = api.get("/api/v1/flows/plant");
        answer.status == 200 && answer.json()["messages_out"] == 500
    });
    Plant { _job: job, daemon, port, api }
}

/// What a program prints, which must end well.
fn printed(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}\n{errors}", output.status);
    said
}

#[test]
fn the_client_of_the_jolokia_project_reads_and_executes() {
    let plant = plant("[metrics]\njolokia = true\n");
    let url = format!("http://127.0.0.1:{}/jolokia", plant.port);
    let mut command = Command::new("node");
    command.arg("jolokia.mjs").args([&url, "operator-operator-0"]).current_dir(node());
    let got: Value = serde_json::from_str(&printed(&mut command)).unwrap();
    assert!(got["version"]["protocol"].is_string(), "{got}");
    assert_eq!((&got["get"], &got["post"]), (&1_001.into(), &1_001.into()));
    assert_eq!(got["several"], json!({ "Status": "deployed", "MessagesOut": 500 }));
    assert_eq!(got["path"], 256 << 20);
    let hot = "ringmain:flow=plant,name=hot,type=Component";
    assert_eq!(got["pattern"][hot], json!({ "MessagesIn": 1_000 }));
    assert_eq!(got["search"], json!(["ringmain:name=plant,type=Flow"]));
    assert!(got["list"]["attr"]["HeapMemoryUsage"].is_object(), "{got}");
    assert_eq!(got["shallow"], json!({ "java.lang": 1, "ringmain": 1 }));
    let statuses: Vec<_> = got["bulk"].as_array().unwrap().iter().map(|a| &a["status"]).collect();
    assert_eq!(statuses, [200, 404, 200]);
    assert_eq!(got["ignored"]["Status"], "deployed");
    assert_eq!((&got["stop"]["status"], &got["stopped"]), (&200.into(), &"undeployed".into()));
    assert_eq!(got["start"]["status"], 200);
    until("it runs again", || plant.api.get("/api/v1/flows/plant").ok()["status"] == "deployed");
}

#[test]
fn telegrafs_requests_for_jolokia_are_answered() {
    // As its jolokia2_agent writes them: posted to `read` below the endpoint,
    // in bulk, with the token as the password of Basic.
    let plant = plant("[metrics]\njolokia = true\n");
    let basic = "Basic dGVsZWdyYWY6b3BlcmF0b3Itb3BlcmF0b3ItMA==";
    let telegraf = Client::new(plant.port).with("Authorization", basic);
    let body = json!([
        { "type": "read", "mbean": "java.lang:type=Runtime", "attribute": "Uptime" },
        { "type": "read", "mbean": "ringmain:type=Component,*",
          "attribute": ["MessagesIn", "MessagesOut"] },
        { "type": "read", "mbean": "java.lang:type=Memory", "attribute": "HeapMemoryUsage",
          "path": "used" },
    ]);
    let answers = telegraf.post("/jolokia/read", &body.to_string()).ok();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 3);
    for (answer, asked) in answers.iter().zip(body.as_array().unwrap()) {
        assert_eq!((&answer["status"], &answer["request"]), (&200.into(), asked), "{answer}");
    }
    assert!(answers[0]["value"].as_u64().is_some() && answers[2]["value"].as_u64() > Some(0));
    let out = "ringmain:flow=plant,name=out,type=Component";
    assert_eq!(answers[1]["value"][out], json!({ "MessagesIn": 500, "MessagesOut": 500 }));
}

/// A statsd that ends with this value.
struct Statsd {
    child: Child,
    manage: u16,
    /// Kept: it watches its configuration.
    _home: tempfile::TempDir,
}

impl Statsd {
    /// It never flushes, so that counters only grow.
    fn start(port: u16) -> Self {
        let manage = free_port();
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config.js");
        let text = format!(
            "{{ port: {port}, address: '127.0.0.1', mgmt_port: {manage}, mgmt_address: \
             '127.0.0.1', flushInterval: 2000000000, backends: ['./backends/console'] }}"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("node");
        command.arg("node_modules/statsd/stats.js").arg(&config).current_dir(node());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let statsd = Self { child: command.spawn().expect("node is there"), manage, _home: home };
        // It has read its configuration when it listens.
        drop(connect(manage));
        statsd
    }

    /// `'name': value` by line, as its management port shows them.
    fn counters(&self) -> Vec<(String, u64)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.manage)).unwrap();
        stream.write_all(b"counters\n").unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        let lines = lines.take_while(|line| line != "END");
        let counter = |line: String| {
            let (name, value) = line.trim().trim_end_matches([',', ' ', '}']).rsplit_once(": ")?;
            let name = name.trim_start_matches(['{', ' ']).trim_matches('\'').to_owned();
            Some((name, value.parse().ok()?))
        };
        lines.filter_map(counter).collect()
    }
}

impl Drop for Statsd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_statsd_server_adds_up_to_the_summary() {
    let port = free_port();
    let statsd = Statsd::start(port);
    let metrics =
        format!("[metrics]\nevery = \"100ms\"\nprefix = \"rm\"\nstatsd = \"127.0.0.1:{port}\"\n");
    let done = plant(&metrics).daemon.drain();
    let summary = done.ok();
    let mut wanted = Vec::new();
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
            wanted.push((format!("rm.flow.plant.component.{component}.{name}"), total));
        }
    }
    assert_eq!(
        wanted.iter().map(|(_, total)| total).max(),
        Some(&summary.totals("lines").bytes_in)
    );
    let mut last = Vec::new();
    until("the server has all of it", || {
        last = statsd.counters();
        let value = |name: &str| last.iter().find(|(n, _)| n == name).map_or(0, |(_, v)| *v);
        wanted.iter().all(|(name, total)| value(name) == *total)
    });
    let bad = last.iter().find(|(name, _)| name == "statsd.bad_lines_seen");
    assert_eq!(bad.map_or(0, |(_, count)| *count), 0);
}

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,response_headers_conformance,ignored_auth,unsupported_method,\
    allow_header_conformance,missing_required_header";

/// Runs schemathesis with a configuration of its own.
fn schemathesis(port: u16, config: &str) {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("schemathesis.toml"), config).unwrap();
    std::fs::copy(workspace().join("tests/clients/hooks.py"), home.path().join("hooks.py"))
        .unwrap();
    let document = format!("http://127.0.0.1:{port}/openapi.json");
    let mut command = Command::new(python().join("schemathesis"));
    command.env("SCHEMATHESIS_HOOKS", "hooks").current_dir(home.path());
    command.args(["run", &document, "--header", "Authorization: Bearer operator-operator-0"]);
    command.args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"]);
    command.args(["--max-examples", "12", "--generation-deterministic", "--no-color"]);
    // A tap is a stream without end.
    command.args(["--request-timeout", "20", "--exclude-path-regex", "/tap$"]);
    let said = printed(&mut command);
    assert!(said.contains("Coverage") && said.contains("passed"), "{said}");
}

#[test]
fn schemathesis_finds_no_breach_of_the_openapi_document() {
    let plant = plant("[metrics]\njolokia = true\n");
    // Whatever a client may send.
    schemathesis(plant.port, "");
    // Flows that are there, so that requests get behind the first door.
    let toml = plant.api.clone().with("Content-Type", "application/toml");
    for name in ["kept", "gone"] {
        let flow = format!(
            "name = \"{name}\"\n[schedule]\ncron = \"0 0 0 1 1 *\"\n[sources.a]\ntype = \
             \"generator\"\ncount = 1\n[sinks.b]\ntype = \"blackhole\"\ninputs = [\"a\"]\n"
        );
        assert_eq!(toml.post("/api/v1/flows", &flow).status, 201);
    }
    let names = "[parameters]\n\"path.name\" = \"kept\"\n\"path.version\" = 1\n\
                 [[operations]]\ninclude-name = \"DELETE /api/v1/flows/{name}\"\n\
                 parameters = { \"path.name\" = \"gone\" }\n";
    schemathesis(plant.port, names);
    assert_eq!(plant.api.get("/api/v1/flows/kept").status, 200);
    assert_eq!(plant.api.get("/api/v1/flows/gone").status, 404);
    assert!(!plant.daemon.said().contains("panicked"), "{}", plant.daemon.said());
}
