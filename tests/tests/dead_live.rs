//! Dead letters over the API, while the daemon runs: what is put back in and
//! accepted leaves the store, nothing else does, and the flow goes on
//! meanwhile. Scripts over the API.

use std::io::Write;
use std::net::TcpStream;

use ringmain_tests::http::Client;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::{Daemon, Driver, Job, until, with_each_driver};
use serde_json::Value;

const COUNT: u64 = 5_000;
const REFUSED: u64 = COUNT / 100;

const FLOW: &str = r#"
name = "meters"
[sources.in]
type = "tcp"
listen = "127.0.0.1:PORT"
decode = "json"
PARTITION
[operators.all]
type = "filter"
inputs = ["in"]
where = "n >= 0"
[operators.scale]
type = "lua"
inputs = ["all"]
script = "scale.lua"
[sinks.out]
type = "file"
path = "out.ndjson"
inputs = ["scale"]
[sinks.seen]
type = "file"
path = "seen.ndjson"
inputs = ["all"]
[dead_letters]
type = "file"
path = "dead.ndjson"
"#;

const BROKEN: &str =
    "return function(msg) msg.x = msg.n / (msg.n % 100 == 7 and msg.unit or 1) return msg end";
const MENDED: &str = "return function(msg) msg.x = msg.n return msg end";

struct Site {
    job: Job,
    daemon: Daemon,
    api: Client,
    feed: TcpStream,
    port: u16,
}

fn site(driver: Driver, partition: &str, cores: Option<&str>) -> Site {
    let (tcp, port) = (free_port(), free_port());
    let api =
        format!("[api]\nlisten = \"127.0.0.1:{port}\"\nrate = 10000\naudit = \"audit.ndjson\"\n");
    let job = Job::new(driver).file("scale.lua", BROKEN);
    let job = match cores {
        Some(cores) => job.daemon_file(&format!("[shards]\ncores = \"{cores}\"\n{api}")),
        None => job.shards(&api),
    };
    let flow = FLOW.replace("PORT", &tcp.to_string()).replace("PARTITION", partition);
    let job = job.and_flow(&flow);
    let daemon = job.start();
    let feed = connect(tcp);
    drop(connect(port));
    Site { job, daemon, api: Client::new(port), feed, port }
}

impl Site {
    fn send(&mut self, numbers: std::ops::Range<u64>) {
        let line = |n| format!("{{\"n\":{n},\"unit\":\"V{n}\"}}\n");
        let text: String = numbers.map(line).collect();
        self.feed.write_all(text.as_bytes()).unwrap();
    }

    fn wait_for(&self, file: &str, lines: u64) {
        until(&format!("{lines} lines in {file}"), || {
            let text = std::fs::read_to_string(self.job.path(file)).unwrap_or_default();
            text.matches('\n').count() as u64 == lines
        });
    }

    fn letters(&self, query: &str) -> Value {
        self.api.get(&format!("/api/v1/flows/meters/dead_letters?{query}")).ok()
    }

    /// Waits until so many are in the store.
    fn wait_for_letters(&self, count: u64) -> Value {
        let mut page = Value::Null;
        until(&format!("{count} dead letters"), || {
            page = self.letters("limit=1000");
            page["total"] == count
        });
        page
    }

    fn replay(&self, query: &str) -> (u64, u64) {
        let done = self.api.post(&format!("/api/v1/flows/meters/dead_letters/replay?{query}"), "");
        let done = done.ok();
        (done["replayed"].as_u64().unwrap(), done["refused"].as_u64().unwrap())
    }

    /// Puts the mended script in.
    fn mend(&self) {
        let scripts = || self.api.get("/api/v1/flows/meters/scripts").ok()[0].clone();
        let before = scripts();
        assert_eq!((&before["operator"], &before["swaps"]), (&"scale".into(), &0.into()));
        self.job.write("scale.lua", "return function(msg");
        until("the bad version is refused", || {
            let answer = self.api.post("/api/v1/flows/meters/scripts/reload", "");
            // By the API, or by the notice of the file, whichever is first.
            answer.status == 422 || !scripts()["last_error"].is_null()
        });
        assert_eq!(scripts()["hash"], before["hash"]);
        self.job.write("scale.lua", MENDED);
        let _ = self.api.post("/api/v1/flows/meters/scripts/reload", "").ok();
        until("the new version runs", || {
            let now = scripts();
            now["hash"] != before["hash"] && now["swaps"] == 1 && now["last_error"].is_null()
        });
    }

    fn numbers(&self, file: &str) -> Vec<u64> {
        let messages = self.job.json(file);
        let mut numbers: Vec<_> = messages.iter().map(|m| m["n"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }

    fn store(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.job.path(".")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("dead")).collect();
        names.sort();
        names
    }
}

with_each_driver! {
    fn what_is_accepted_leaves_the_store_while_the_flow_goes_on(driver: Driver) {
        let mut site = site(driver, "", None);
        site.send(0..COUNT);
        site.wait_for("seen.ndjson", COUNT);
        let page = site.wait_for_letters(REFUSED);
        assert_eq!((&page["complete"], &page["matching"]), (&true.into(), &REFUSED.into()));
        let kind = &page["kinds"][0];
        assert_eq!((&kind["component"], &kind["reason"], &kind["count"]), (&"scale".into(), &"script".into(), &REFUSED.into()));
        let newest = &page["letters"][0]["letter"];
        assert_eq!((&newest["source"], &newest["message"]["n"]), (&"in".into(), &(COUNT - 93).into()));
        // As long as the script is as it was, they are refused again: new
        // letters take the place of the old ones.
        assert_eq!(site.replay(""), (REFUSED, REFUSED));
        let again = site.wait_for_letters(REFUSED);
        assert_ne!(again["letters"][0]["id"], page["letters"][0]["id"]);
        site.mend();
        // One, by its name; then the rest, while new messages come.
        let one = again["letters"][0]["id"].as_str().unwrap();
        assert_eq!(site.replay(&format!("ids={one}")), (1, 0));
        site.wait_for_letters(REFUSED - 1);
        site.send(COUNT..2 * COUNT);
        assert_eq!(site.replay("component=scale&reason=script"), (REFUSED - 1, 0));
        site.wait_for_letters(0);
        assert_eq!(site.replay(""), (0, 0));
        site.wait_for("out.ndjson", 2 * COUNT);
        site.wait_for("seen.ndjson", 2 * COUNT);
        assert!(site.numbers("out.ndjson").into_iter().eq(0..2 * COUNT));
        assert!(site.numbers("seen.ndjson").into_iter().eq(0..2 * COUNT));
        let audit = site.job.json("audit.ndjson");
        let last = audit.iter().rfind(|entry| entry["what"] == "meters").unwrap();
        assert_eq!((&last["action"], &last["result"]), (&"replay dead letters".into(), &"0 replayed, 0 refused again".into()));
        // The balance of every component is checked by this.
        let done = site.daemon.drain();
        assert_eq!(done.ok().rows("in"), [2 * COUNT, 2 * COUNT, 0, 0]);
        assert_eq!(done.ok().rows("scale"), [2 * COUNT + 2 * REFUSED, 2 * COUNT, 0, 2 * REFUSED]);
    }

    fn letters_of_sources_and_sinks_and_other_places(driver: Driver) {
        let mut site = site(driver, "", None);
        site.feed.write_all(b"garbage\n{\"n\":1,\"unit\":\"V\"}\n").unwrap();
        site.wait_for("out.ndjson", 1);
        let page = site.wait_for_letters(1);
        assert_eq!(page["letters"][0]["letter"]["raw"], "garbage");
        // Its bytes go through the source's decoder again, and are refused.
        assert_eq!(site.replay(""), (1, 1));
        assert_eq!(site.wait_for_letters(1)["letters"][0]["letter"]["component"], "in");
        // A letter of an operator may go to a sink instead.
        site.send(7..8);
        let page = site.wait_for_letters(2);
        assert_eq!(page["letters"][0]["letter"]["reason"], "script");
        assert_eq!(site.replay("component=scale&at=out"), (1, 0));
        site.wait_for("out.ndjson", 2);
        assert_eq!(site.job.lines("out.ndjson")[1], "{\"n\":7,\"unit\":\"V7\"}");
        site.wait_for("seen.ndjson", 2);
        // The same by the command line.
        let url = format!("http://127.0.0.1:{}", site.port);
        let call = |args: &[&str]| {
            let output = site.job.call(&[&["flows", "--api", &url], args].concat());
            let text = String::from_utf8(output.stdout).unwrap();
            (output.status.code(), text + &String::from_utf8(output.stderr).unwrap())
        };
        let (code, text) = call(&["dead", "meters"]);
        assert!(code == Some(0) && text.contains("decode") && text.contains("expected a value"), "{text}");
        let (code, text) = call(&["dead", "meters", "--show", "9"]);
        assert!(code == Some(0) && text.contains("garbage") && text.lines().count() == 1, "{text}");
        let (code, text) = call(&["replay", "meters", "--reason", "decode"]);
        assert!(code == Some(1) && text.contains("1 put back in, 1 refused again"), "{text}");
        let (code, text) = call(&["scripts", "meters", "--reload"]);
        assert!(code == Some(0) && text.contains("scale") && text.contains("scale.lua"), "{text}");
        // What is not there, or not possible.
        let post = |query: &str| {
            let path = format!("/api/v1/flows/meters/dead_letters/replay?{query}");
            site.api.post(&path, "").problem(409)
        };
        let said = post("at=nobody");
        assert!(said.contains("no component 'nobody'") && said.contains("scale"), "{said}");
        assert_eq!(site.wait_for_letters(1)["kinds"][0]["component"], "in");
        let _ = site.api.get("/api/v1/flows/nobody/dead_letters").problem(404);
        assert_eq!(site.api.post("/api/v1/flows/meters/stop", "").status, 200);
        assert!(post("").contains("'meters' does not run"), "{}", post(""));
        assert_eq!(site.letters("")["total"], 1);
        let done = site.daemon.drain();
        assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    }
}

#[test]
fn letters_of_a_flow_on_several_shards_go_in_once_each() {
    let partition = "[partition]\nkey = [\"unit\"]\n";
    let cores = ringmain_tests::machine::cores();
    let cores: Vec<_> = cores.iter().take(2).map(ToString::to_string).collect();
    let mut site = site(Driver::Auto, partition, Some(&cores.join(",")));
    site.send(0..COUNT);
    site.wait_for("seen.ndjson", COUNT);
    site.wait_for_letters(REFUSED);
    assert_eq!(site.replay(""), (REFUSED, REFUSED));
    site.wait_for_letters(REFUSED);
    site.mend();
    assert_eq!(site.replay(""), (REFUSED, 0));
    site.wait_for("out.ndjson", COUNT);
    assert!(site.numbers("out.ndjson").into_iter().eq(0..COUNT));
    assert_eq!(site.store(), ["dead.ndjson"]);
    assert_eq!(site.daemon.drain().status.code(), Some(0));
}
