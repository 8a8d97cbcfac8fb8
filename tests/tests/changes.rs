//! Flows that come, change and go while others run: over the API, and by
//! files that change.

use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use ringmain_tests::http::Client;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::{Daemon, Driver, Job, until, with_each_driver};
use rustix::process::Signal;
use serde_json::Value;

/// Lines from a TCP port, those with `n` below the limit, to a file.
fn flow(name: &str, port: u16, limit: u32, out: &str) -> String {
    format!(
        "name = \"{name}\"\nallow_loss = true\ndrain = \"5s\"\n\
         [sources.lines]\ntype = \"tcp\"\nlisten = \"127.0.0.1:{port}\"\ndecode = \"json\"\n\
         [operators.low]\ntype = \"filter\"\ninputs = [\"lines\"]\nwhere = \"n < {limit}\"\n\
         [sinks.out]\ntype = \"file\"\ninputs = [\"low\"]\npath = \"{out}\"\n"
    )
}

fn send(stream: &mut TcpStream, from: u32, to: u32) {
    let text: String = (from..to).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    stream.write_all(text.as_bytes()).unwrap();
}

struct Site {
    job: Job,
    daemon: Daemon,
    api: Client,
}

/// A daemon with an API, a data folder and the flows of its folder.
fn site(driver: Driver, flows: &[(&str, String)]) -> Site {
    site_with(driver, flows, "")
}

/// The same with more keys of `[shards]`.
fn site_with(driver: Driver, flows: &[(&str, String)], shards: &str) -> Site {
    let port = free_port();
    let job = Job::new(driver).shards(&format!(
        "{shards}[api]\nlisten = \"127.0.0.1:{port}\"\nrate = 10000\naudit = \"audit.ndjson\"\n\
         [metrics]\njolokia = true\n\
         [daemon]\ndata_dir = \"data\"\nflows = [\"flows/*.toml\"]\n"
    ));
    job.write("flows/.keep", "");
    for (file, text) in flows {
        job.write(&format!("flows/{file}"), text);
    }
    let daemon = job.start();
    drop(connect(port));
    let api = Client::new(port);
    until("the daemon is up", || api.get("/api/v1/health").status == 200);
    Site { job, daemon, api }
}

impl Site {
    fn toml(&self) -> Client {
        self.api.clone().with("Content-Type", "application/toml")
    }

    fn wait_for(&self, file: &str, lines: usize) {
        until(&format!("{lines} lines in {file}"), || {
            let text = std::fs::read_to_string(self.job.path(file)).unwrap_or_default();
            text.matches('\n').count() == lines
        });
    }

    fn status(&self, name: &str) -> Value {
        let flows = self.api.get("/api/v1/flows").ok();
        let found = flows.as_array().unwrap().iter().find(|flow| flow["name"] == name).cloned();
        found.map_or(Value::Null, |flow| flow["status"].clone())
    }

    fn wait_for_status(&self, name: &str, status: &str) {
        until(&format!("{name} is {status}"), || self.status(name) == status);
    }
}

with_each_driver! {
    fn a_flow_lives_through_the_api(driver: Driver) {
        let site = site(driver, &[]);
        let port = free_port();
        let asked = Instant::now();
        let made = site.toml().post("/api/v1/flows", &flow("plant", port, 10, "out.ndjson"));
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(made.json()["action"], "started");
        let mut feed = TcpStream::connect(("127.0.0.1", port)).unwrap();
        send(&mut feed, 0, 20);
        site.wait_for("out.ndjson", 10);
        eprintln!("from POST to the first messages in the file: {:?}", asked.elapsed());
        assert_eq!(site.status("plant"), "deployed");
        // The same again is refused, and so is what `check` refuses.
        let again = site.toml().post("/api/v1/flows", &flow("plant", port, 10, "x"));
        assert!(again.problem(409).contains("a flow 'plant' already"));
        let bad = flow("other", port, 10, "x").replace("where", "wher");
        let refused = site.toml().post("/api/v1/flows", &bad);
        let _ = refused.problem(422);
        let errors = refused.json()["errors"].to_string();
        assert!(errors.contains("other.toml") && errors.contains("did you mean 'where'"), "{errors}");
        let taken = site.toml().post("/api/v1/flows", &flow("other", port, 10, "x"));
        assert_eq!(taken.status, 422, "another flow listens there: {taken:?}");
        // A new version takes its place.
        let changed = site.toml().ask("PUT", "/api/v1/flows/plant", &flow("plant", port, 15, "out.ndjson"));
        assert_eq!(changed.ok()["action"], "replaced");
        let mut feed = TcpStream::connect(("127.0.0.1", port)).unwrap();
        send(&mut feed, 0, 20);
        site.wait_for("out.ndjson", 25);
        // One that cannot start leaves the old one running.
        let nowhere = flow("plant", port, 1, "/proc/nowhere/out");
        let failed = site.toml().ask("PUT", "/api/v1/flows/plant", &nowhere);
        assert!(failed.problem(422).contains("the old version goes on"), "{failed:?}");
        let mut feed = TcpStream::connect(("127.0.0.1", port)).unwrap();
        send(&mut feed, 0, 20);
        site.wait_for("out.ndjson", 40);
        // Versions, and back.
        let versions = site.api.get("/api/v1/flows/plant/versions").ok();
        let actions: Vec<_> = versions.as_array().unwrap().iter().map(|v| &v["action"]).collect();
        assert_eq!(actions, ["create", "update", "update"]);
        let back = site.api.post("/api/v1/flows/plant/rollback/1", "");
        assert_eq!(back.ok()["action"], "replaced");
        let text = site.api.get("/api/v1/flows/plant/definition").body;
        assert!(text.contains("n < 10"), "{text}");
        let _ = site.api.get("/api/v1/flows/plant/versions/99").problem(404);
        // Stop, start, clone, delete.
        assert_eq!(site.api.post("/api/v1/flows/plant/stop", "").ok()["action"], "stopped");
        assert_eq!(site.status("plant"), "undeployed");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens any more");
        let _ = site.api.post("/api/v1/flows/plant/stop", "").problem(409);
        let copied = site.api.post("/api/v1/flows/plant/clone?to=copy", "");
        assert_eq!((copied.status, copied.json()["action"].clone()), (201, "stored".into()));
        assert_eq!(site.status("copy"), "undeployed");
        assert_eq!(site.api.post("/api/v1/flows/plant/deploy", "").ok()["action"], "started");
        let conflict = site.api.post("/api/v1/flows/copy/start", "");
        assert_eq!(conflict.status, 422, "both would listen at one address: {conflict:?}");
        assert_eq!(site.api.ask("DELETE", "/api/v1/flows/copy", "").ok()["action"], "deleted");
        assert_eq!(site.status("copy"), Value::Null);
        // Who did what.
        let audit = site.job.json("audit.ndjson");
        let noted: Vec<_> = audit.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        assert_eq!(
            noted,
            ["create", "update", "update", "rollback to 1", "stop", "clone of plant", "start", "delete"]
        );
        assert!(audit[0]["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")));
        assert!(audit[2]["result"].as_str().is_some_and(|result| result.starts_with("failed: ")));
        // It is back after a restart.
        let done = site.daemon.drain();
        assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
        let daemon = site.job.start();
        let mut feed = connect(port);
        send(&mut feed, 0, 20);
        let site = Site { daemon, ..site };
        site.wait_for("out.ndjson", 50);
        assert_eq!(site.daemon.drain().status.code(), Some(0));
    }

    fn files_that_change_are_reloaded_and_the_others_go_on(driver: Driver) {
        let (a, b) = (free_port(), free_port());
        let site = site(driver, &[("a.toml", flow("a", a, 1_000, "a.ndjson"))]);
        let mut to_a = TcpStream::connect(("127.0.0.1", a)).unwrap();
        send(&mut to_a, 0, 100);
        site.wait_for("a.ndjson", 100);
        // Added.
        site.job.write("flows/b.toml", flow("b", b, 5, "b.ndjson"));
        let mut to_b = connect(b);
        send(&mut to_b, 0, 10);
        site.wait_for("b.ndjson", 5);
        // Changed; by value: a comment is no change.
        site.job.write("flows/b.toml", format!("# b\n{}", flow("b", b, 5, "b.ndjson")));
        site.job.write("flows/b.toml", flow("b", b, 7, "b.ndjson"));
        until("the new version runs", || {
            site.api.get("/api/v1/flows/b/definition").body.contains("n < 7")
                && site.status("b") == "deployed"
                && site.daemon.said().contains("b: replaced")
        });
        let mut to_b = connect(b);
        send(&mut to_b, 0, 10);
        site.wait_for("b.ndjson", 12);
        // Bad: nothing changes.
        site.job.write("flows/b.toml", "name = ");
        until("it is told", || site.daemon.said().contains("all goes on as it is"));
        send(&mut to_b, 0, 10);
        site.wait_for("b.ndjson", 19);
        // Removed, by SIGHUP and by notice.
        std::fs::remove_file(site.job.path("flows/b.toml")).unwrap();
        site.daemon.signal(Signal::HUP);
        until("it is gone", || site.status("b") == Value::Null);
        // A flow of a file is changed in its file, but may be stopped.
        let edit = site.toml().ask("PUT", "/api/v1/flows/a", &flow("a", a, 5, "a.ndjson"));
        assert!(edit.problem(409).contains("flows/a.toml"), "{edit:?}");
        // The connection of the flow that nobody touched stands since the beginning.
        send(&mut to_a, 100, 200);
        site.wait_for("a.ndjson", 200);
        let summary = site.daemon.drain();
        assert_eq!(summary.flow("a").rows("lines"), [200, 200, 0, 0]);
        // What is gone is in the summary, too.
        assert_eq!(summary.flow("b").rows("lines"), [30, 30, 0, 0]);
    }
}

#[test]
fn many_reloads_leave_nothing_behind() {
    const RELOADS: usize = 60;
    let (a, b) = (free_port(), free_port());
    let site = site(Driver::Auto, &[("a.toml", flow("a", a, 1_000_000, "a.ndjson"))]);
    let mut to_a = TcpStream::connect(("127.0.0.1", a)).unwrap();
    let text = |at: usize| flow("b", b, at as u32 + 1, "b.ndjson");
    let made = site.toml().post("/api/v1/flows", &text(0));
    assert_eq!(made.status, 201, "{made:?}");
    let mut settled = (0, 0);
    for at in 1..=RELOADS {
        send(&mut to_a, 0, 10);
        let report = site.toml().ask("PUT", "/api/v1/flows/b", &text(at)).ok();
        assert_eq!((&report["action"], &report["drained"]), (&"replaced".into(), &true.into()));
        if at == 10 {
            settled = (site.daemon.descriptors(), site.daemon.rss_kib());
        }
    }
    site.wait_for("a.ndjson", RELOADS * 10);
    let now = (site.daemon.descriptors(), site.daemon.rss_kib());
    assert!(now.0 <= settled.0 + 2, "descriptors: {settled:?}, then {now:?}");
    assert!(now.1 <= settled.1 + 20_000, "KiB: {settled:?}, then {now:?}");
    let done = site.daemon.drain();
    assert_eq!(done.flow("a").rows("lines"), [RELOADS as u64 * 10, RELOADS as u64 * 10, 0, 0]);
}

#[test]
fn a_flow_is_stopped_and_started_by_jolokia() {
    let port = free_port();
    let site = site(Driver::Auto, &[("a.toml", flow("a", port, 10, "a.ndjson"))]);
    let bean = "ringmain:type=Flow,name=a";
    let exec = |operation: &str| site.api.get(&format!("/jolokia/exec/{bean}/{operation}")).ok();
    let stopped = exec("stop");
    assert_eq!((&stopped["status"], &stopped["value"]), (&200.into(), &Value::Null), "{stopped}");
    assert_eq!(stopped["request"]["operation"], "stop");
    site.wait_for_status("a", "undeployed");
    assert_eq!(exec("start()")["status"], 200);
    site.wait_for_status("a", "deployed");
    assert_eq!(exec("start")["error_type"], "javax.management.MBeanException");
    assert_eq!(exec("explode")["error_type"], "java.lang.IllegalArgumentException");
}

/// More than a shard's inlet has room for.
#[test]
fn hundreds_of_flows_start_together_and_come_together() {
    const FLOWS: usize = 150;
    let flow = |name: &str| {
        format!(
            "name = \"{name}\"\n[sources.a]\ntype = \"generator\"\nrate = 1\n\
             [sinks.b]\ntype = \"blackhole\"\ninputs = [\"a\"]\n"
        )
    };
    let (first, second): (Vec<_>, Vec<_>) = (0..FLOWS)
        .map(|at| {
            let file = |name: String| (format!("{name}.toml"), flow(&name));
            (file(format!("first-{at}")), file(format!("second-{at}")))
        })
        .unzip();
    let flows: Vec<_> = first.iter().map(|(file, text)| (file.as_str(), text.clone())).collect();
    let site = site_with(Driver::Auto, &flows, "slab = \"4KiB\"\nmemory = \"4GiB\"\n");
    let deployed = || {
        let flows = site.api.get("/api/v1/flows").ok();
        let flows = flows.as_array().unwrap().iter();
        flows.filter(|flow| flow["status"] == "deployed").count()
    };
    until("all of them run", || deployed() == FLOWS);
    for (file, text) in &second {
        site.job.write(&format!("flows/{file}"), text);
    }
    site.daemon.signal(Signal::HUP);
    until("twice as many run", || deployed() == 2 * FLOWS);
    assert!(!site.daemon.said().contains("takes no flows now"), "{}", site.daemon.said());
}
