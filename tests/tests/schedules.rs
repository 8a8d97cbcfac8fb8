//! Flows that run at times, in windows, and when files appear.

use ringmain_tests::broker::Broker;
use ringmain_tests::http::Client;
use ringmain_tests::mosquitto::Mosquitto;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::wait::until_some;
use ringmain_tests::{Daemon, Driver, Job, until, with_each_driver};
use serde_json::Value;

/// A generator of 100 messages, or of messages without end, to a blackhole.
fn flow(name: &str, schedule: &str, count: &str) -> String {
    format!(
        "name = \"{name}\"\nallow_loss = true\n[schedule]\n{schedule}\n\
         [sources.made]\ntype = \"generator\"\n{count}\n\
         [sources.made.fields.n]\ntype = \"sequence\"\n\
         [operators.even]\ntype = \"filter\"\ninputs = [\"made\"]\nwhere = \"n % 2 == 0\"\n\
         [sinks.out]\ntype = \"blackhole\"\ninputs = [\"even\"]\n"
    )
}

struct Site {
    job: Job,
    daemon: Daemon,
    api: Client,
}

fn start(job: Job, port: u16) -> Site {
    let daemon = job.start();
    drop(connect(port));
    let api = Client::new(port);
    until("the daemon is up", || api.get("/api/v1/health").status == 200);
    Site { job, daemon, api }
}

fn site(driver: Driver, flows: &[String]) -> (Site, u16) {
    let port = free_port();
    let job = Job::new(driver).shards(&format!(
        "[api]\nlisten = \"127.0.0.1:{port}\"\nrate = 10000\n[daemon]\ndata_dir = \"data\"\n"
    ));
    let job = flows.iter().fold(job, |job, flow| job.and_flow(flow));
    (start(job, port), port)
}

impl Site {
    fn schedule(&self, name: &str) -> Value {
        self.api.get(&format!("/api/v1/flows/{name}/schedule")).ok()
    }

    /// The runs of a flow that have ended, once there are so many.
    fn ended(&self, name: &str, count: usize) -> Vec<Value> {
        until_some(&format!("{count} runs of {name} have ended"), || {
            let runs = self.schedule(name)["runs"].as_array().unwrap().clone();
            let ended: Vec<_> = runs.into_iter().filter(|run| run["ended"].is_string()).collect();
            (ended.len() >= count).then_some(ended)
        })
    }

    fn flow(&self, name: &str) -> Value {
        self.api.get(&format!("/api/v1/flows/{name}")).ok()
    }
}

fn counts(run: &Value) -> [u64; 4] {
    ["messages_in", "messages_out", "dropped", "dead"].map(|key| run[key].as_u64().unwrap())
}

with_each_driver! {
    fn runs_at_times_and_in_windows_are_remembered_with_their_counts(driver: Driver) {
        let (site, port) = site(driver, &[
            flow("nightly", "cron = \"* * * * * *\"", "count = 100"),
            flow("window", "cron = \"0 * * * * *\"\nduration = \"1h\"", "rate = 1000"),
            flow("never", "cron = \"0 0 0 29 2 *\"", "count = 100"),
        ]);
        for run in site.ended("nightly", 2) {
            assert_eq!((&run["result"], &run["cause"]), (&"completed".into(), &"time".into()));
            assert_eq!(counts(&run), [100, 50, 50, 0], "{run}");
        }
        let nightly = site.flow("nightly");
        assert_eq!(nightly["schedule"], "* * * * * * UTC");
        assert!(nightly["next_run"].is_string() && nightly["last_run"].is_string(), "{nightly}");
        // In a window from its first moment, whenever that was.
        until("the window is on", || site.flow("window")["status"] == "deployed");
        let never = site.flow("never");
        assert_eq!((&never["status"], &never["runners"]), (&"undeployed".into(), &0.into()));
        assert_eq!(site.schedule("never")["runs_started"], 0);
        assert!(never["next_run"].as_str().unwrap().contains("-02-29T00:00:00"), "{never}");
        // Suspended, it begins nothing; a run by hand is remembered, too.
        let suspend = site.api.post("/api/v1/flows/nightly/schedule/suspend", "").ok();
        assert_eq!(suspend["action"], "suspended");
        until("no run is on", || site.schedule("nightly")["running"] == false);
        let before = site.schedule("nightly")["runs_started"].as_u64().unwrap();
        until("it can be started", || site.api.post("/api/v1/flows/nightly/start", "").status == 200);
        until("the run by hand has ended", || {
            let runs = site.schedule("nightly")["runs"].as_array().unwrap().clone();
            let last = runs.last().unwrap().clone();
            last["number"] == before + 1 && last["result"] == "completed"
        });
        assert_eq!(site.schedule("nightly")["runs"].as_array().unwrap().last().unwrap()["cause"], "manual");
        // They outlive the daemon.
        let job = site.job;
        assert_eq!(site.daemon.drain().status.code(), Some(0));
        let site = start(job, port);
        let nightly = site.schedule("nightly");
        assert_eq!((&nightly["suspended"], &nightly["runs_started"]), (&true.into(), &(before + 1).into()));
        let window = site.schedule("window")["runs"].clone();
        assert_eq!(window[0]["result"], "daemon_ended", "{window}");
        assert!(window[0]["messages_in"].as_u64() > Some(0), "{window}");
        until("the window goes on", || site.schedule("window")["runs"][1]["result"] == "running");
    }
}

#[test]
fn a_file_that_appears_begins_a_run_that_reads_it() {
    let toml = "name = \"intake\"\n[schedule]\nfiles = \"incoming/*.ndjson\"\nsettle = \"0s\"\n\
        [sources.in]\ntype = \"file\"\npath = \"incoming/*.ndjson\"\n\
        [sinks.out]\ntype = \"file\"\ninputs = [\"in\"]\npath = \"out.ndjson\"\n";
    let (site, _) = site(Driver::Auto, &[toml.to_owned()]);
    assert_eq!(site.flow("intake")["status"], "undeployed");
    // Written beside and renamed, as one that is whole when it appears.
    let arrive = |name: &str, lines: u64| {
        let text: String = (0..lines).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        site.job.write(&format!("incoming/{name}.part"), text);
        let (part, whole) = (format!("incoming/{name}.part"), format!("incoming/{name}.ndjson"));
        std::fs::rename(site.job.path(&part), site.job.path(&whole)).unwrap();
    };
    arrive("a", 10);
    let runs = site.ended("intake", 1);
    assert_eq!(counts(&runs[0]), [10, 10, 0, 0]);
    arrive("b", 5);
    let runs = site.ended("intake", 2);
    assert_eq!((&runs[1]["cause"], &runs[1]["result"]), (&"file".into(), &"completed".into()));
    // The one before was read: with a data folder that is known.
    assert_eq!(counts(&runs[1]), [5, 5, 0, 0]);
    assert_eq!(site.job.lines("out.ndjson").len(), 15);
}

#[test]
fn a_schedule_is_set_and_taken_away_over_the_api_and_from_the_command_line() {
    let (site, port) = site(Driver::Auto, &[]);
    let toml = flow("plant", "", "count = 100").replace("[schedule]\n", "");
    let made = site.api.clone().with("Content-Type", "application/toml");
    assert_eq!(made.post("/api/v1/flows?deploy=false", &toml).status, 201);
    let url = format!("http://127.0.0.1:{port}");
    let call = |args: &[&str]| {
        let output = site.job.call(&[&["flows", "--api", &url], args].concat());
        let said = if output.status.success() { output.stdout } else { output.stderr };
        String::from_utf8(said).unwrap()
    };
    let _ = site.api.get("/api/v1/flows/plant/schedule").problem(404);
    let set = call(&["schedule", "plant", "--cron", "0 0 4 * * *", "--timezone", "Asia/Tokyo"]);
    assert!(set.starts_with("plant: scheduled"), "{set}");
    assert!(
        call(&["definition", "plant"])
            .ends_with("\n[schedule]\ncron = \"0 0 4 * * *\"\ntimezone = \"Asia/Tokyo\"\n")
    );
    let shown = call(&["schedule", "plant"]);
    assert!(shown.starts_with("0 0 4 * * * Asia/Tokyo\nnext run: "), "{shown}");
    assert!(call(&["list"]).contains("0 0 4 * * * Asia/Tokyo"));
    // Refused as `check` refuses it.
    let bad = call(&["schedule", "plant", "--cron", "0 0 99 * * *"]);
    assert!(bad.contains("plant.toml:") && bad.contains("'cron' of [schedule]"), "{bad}");
    // A run by hand, and a new version that is not to run.
    assert!(call(&["start", "plant"]).starts_with("plant: started"));
    assert_eq!(counts(&site.ended("plant", 1)[0]), [100, 50, 50, 0]);
    site.job.write("plant.toml", flow("plant", "cron = \"* * * * * *\"", "rate = 10"));
    assert!(call(&["deploy", "--stopped", "plant.toml"]).starts_with("plant: "));
    assert_eq!(site.schedule("plant")["suspended"], true);
    assert!(call(&["schedule", "plant", "--resume"]).starts_with("plant: resumed"));
    until("it runs", || site.flow("plant")["status"] == "deployed");
    assert!(call(&["schedule", "plant", "--remove"]).starts_with("plant: stored"));
    let _ = site.api.get("/api/v1/flows/plant/schedule").problem(404);
    assert_eq!(site.flow("plant")["status"], "deployed", "what is on goes on");
    // A running flow is stopped by a version that is not to run.
    assert!(call(&["deploy", "--stopped", "plant.toml"]).starts_with("plant: "));
    assert_eq!(site.flow("plant")["status"], "undeployed");
}

#[test]
fn scripts_of_flows_that_run_are_reloaded_beside_flows_that_wait() {
    let lua = |name: &str, schedule: &str| {
        format!(
            "name = \"{name}\"\nallow_loss = true\n{schedule}\n\
             [sources.made]\ntype = \"generator\"\nrate = 500\n\
             [operators.mark]\ntype = \"lua\"\ninputs = [\"made\"]\nscript = \"{name}.lua\"\n\
             [sinks.out]\ntype = \"file\"\ninputs = [\"mark\"]\npath = \"{name}.ndjson\"\n"
        )
    };
    let script = |mark: &str| format!("return function(msg) msg.mark = '{mark}' return msg end\n");
    let job = Job::new(Driver::Auto)
        .file("waits.lua", script("one"))
        .file("runs.lua", script("one"))
        .and_flow(&lua("waits", "[schedule]\ncron = \"0 0 0 29 2 *\"\nduration = \"1h\""))
        .and_flow(&lua("runs", ""));
    let daemon = job.start();
    let seen = |mark: &str| {
        let text = std::fs::read_to_string(job.path("runs.ndjson")).unwrap_or_default();
        text.contains(&format!("\"mark\":\"{mark}\""))
    };
    until("it runs", || seen("one"));
    job.write("waits.lua", script("two"));
    job.write("runs.lua", script("two"));
    until("the new script runs", || seen("two"));
    assert!(!job.path("waits.ndjson").exists());
    assert_eq!(daemon.drain().status.code(), Some(0));
}

#[test]
fn a_message_on_a_topic_begins_a_run() {
    let broker = Mosquitto::start("");
    let port = free_port();
    let bell = format!(
        "name = \"bell\"\n\
         [sources.topic]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{}\"\ntopics = [\"begin/+\"]\n\
         [sinks.start]\ntype = \"http\"\ninputs = [\"topic\"]\nbody = \"message\"\n\
         url = \"http://127.0.0.1:{port}/api/v1/flows/{{flow}}/start\"\n",
        broker.port()
    );
    let job = Job::new(Driver::Auto)
        .shards(&format!("[api]\nlisten = \"127.0.0.1:{port}\"\nrate = 10000\n"))
        .and_flow(&bell)
        .and_flow(&flow("work", "cron = \"0 0 0 29 2 *\"", "count = 100"));
    let site = start(job, port);
    broker.wait_for_subscription("begin/+");
    broker.publish("begin/now", 1, "{\"flow\":\"work\"}");
    let runs = site.ended("work", 1);
    assert_eq!((&runs[0]["cause"], &runs[0]["result"]), (&"manual".into(), &"completed".into()));
    assert_eq!(counts(&runs[0]), [100, 50, 50, 0]);
}
