//! The console in a real browser: what it shows is what the daemon does, what
//! is clicked happens, and nothing is asked of anybody else.
//!
//! `UPDATE_SCREENSHOTS=1` makes the pictures under daemon/control/console.

use std::io::Write;
use std::net::TcpStream;

use base64::Engine;
use ringmain_tests::browser::Browser;
use ringmain_tests::http::Client;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::{Daemon, Driver, Job, until};
use serde_json::Value;

const TOKENS: &str =
    "[[tokens]]\nname = \"operator\"\ntoken = \"operator-operator-0\"\nscopes = \"manage\"\n";

const ENGINES: &str = r#"
name = "engines"
allow_loss = true
[sources.sensors]
type = "tcp"
listen = "127.0.0.1:PORT"
decode = "json"
[operators.level]
type = "route"
inputs = ["sensors"]
default = "normal"
[operators.level.routes]
high = "temperature > 100"
[operators.grade]
type = "lua"
inputs = ["level.high"]
script = "grade.lua"
[sinks.alerts]
type = "file"
path = "alerts.ndjson"
inputs = ["grade"]
[sinks.archive]
type = "file"
path = "archive.ndjson"
inputs = ["level.normal", "grade"]
[dead_letters]
type = "file"
path = "dead.ndjson"
"#;

const METERS: &str = "name = \"meters\"\nallow_loss = true\n[sources.ticks]\ntype = \"generator\"\nrate = 120\n\
                      [sinks.out]\ntype = \"blackhole\"\ninputs = [\"ticks\"]\n";

const BROKEN: &str = "return function(msg) msg.load = msg.rpm / 4000 return msg end";
const MENDED: &str = "return function(msg) msg.load = (msg.rpm or 0) / 4000 return msg end";

/// Keys of WebDriver.
const ARROW_RIGHT: char = '\u{E014}';
const ENTER: char = '\u{E007}';
const ESCAPE: char = '\u{E00C}';

struct Site {
    job: Job,
    daemon: Daemon,
    api: Client,
    feed: TcpStream,
    url: String,
}

fn site(api: &str) -> Site {
    let (tcp, port) = (free_port(), free_port());
    let job = Job::new(Driver::Auto).file("tokens.toml", TOKENS).file("grade.lua", BROKEN);
    let job = job
        .shards(&format!(
            "[api]\nlisten = \"127.0.0.1:{port}\"\nrate = 10000\n{api}\n\
             [daemon]\nname = \"plant-north\"\ndata_dir = \"data\"\n"
        ))
        .and_flow(&ENGINES.replace("PORT", &tcp.to_string()));
    let daemon = job.start();
    drop(connect(port));
    let api = Client::new(port).token("operator-operator-0");
    until("the daemon is up", || api.get("/api/v1/health").status == 200);
    let toml = api.clone().with("Content-Type", "application/toml");
    assert_eq!(toml.post("/api/v1/flows", METERS).status, 201);
    Site { job, daemon, api, feed: connect(tcp), url: format!("http://127.0.0.1:{port}/") }
}

impl Site {
    /// Messages of which every tenth is hot, and the first hot one has no rpm.
    fn feed(&mut self, messages: u32) {
        let line = |n: u32| {
            let rpm = if n == 0 { String::new() } else { format!(",\"rpm\":{}", 900 + n) };
            let temperature = if n.is_multiple_of(10) { 104 } else { 60 + n % 30 };
            format!("{{\"device\":\"m{}\",\"temperature\":{temperature}{rpm}}}\n", n % 3)
        };
        let text: String = (0..messages).map(line).collect();
        self.feed.write_all(text.as_bytes()).unwrap();
    }

    fn status(&self, flow: &str) -> Value {
        self.api.get(&format!("/api/v1/flows/{flow}")).json()["status"].clone()
    }
}

/// Nothing was complained of, and nothing came from elsewhere.
fn is_well_behaved(browser: &Browser, url: &str) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let script = "return performance.getEntriesByType('resource').map(e => e.name)";
    let asked = browser.js(script);
    let asked: Vec<_> = asked.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(asked.len() > 10 && asked.iter().all(|name| name.starts_with(url)), "{asked:?}");
}

#[test]
fn flows_are_listed_with_live_figures_and_obey() {
    let mut site = site("");
    let browser = Browser::start(1280, 560);
    browser.open(&site.url);
    browser.until_text("tr[data-flow=engines] [data-key=status]", "deployed");
    browser.until_text("tr[data-flow=meters] [data-key=throughput_out]", "1");
    browser.until_text("#node", "plant-north");
    site.feed(40);
    browser.until_text("tr[data-flow=engines] [data-key=rejected]", "1");
    assert_eq!(browser.js("return document.title"), "Flows - Ringmain");

    // Columns are as wide as they are dragged, or moved with keys, and stay so.
    let width = |browser: &Browser| {
        let script =
            "return document.querySelector('th[data-key=name]').getBoundingClientRect().width";
        browser.js(script).as_f64().unwrap()
    };
    let before = width(&browser);
    browser.drag("th[data-key=name] .grip", 60);
    let dragged = width(&browser);
    assert!(dragged > before + 40.0, "{before} {dragged}");
    let _ = browser.js("document.querySelector('th[data-key=name] .grip').focus()");
    browser.press(ARROW_RIGHT);
    let moved = width(&browser);
    assert!(moved > dragged, "{dragged} {moved}");
    browser.reload();
    browser.until_text("tr[data-flow=engines]", "deployed");
    assert!((width(&browser) - moved).abs() < 2.0);

    // In the order of a column, and those that are looked for.
    let order = "[...document.querySelectorAll('tbody tr')].map(tr => tr.dataset.flow).join()";
    browser.until(&format!("{order} === 'engines,meters'"));
    browser.click("th[data-key=throughput_in] .sort");
    browser.until(&format!("{order} === 'meters,engines'"));
    assert_eq!(
        browser.js("return document.querySelector('[aria-sort]').getAttribute('aria-sort')"),
        "descending"
    );
    browser.press('/');
    browser.type_into("input[type=search]", "eng");
    browser.until(&format!("{order} === 'engines'"));
    browser.fill("input[type=search]", "e");

    // Every control has a role and a name.
    let labels = browser.labels(
        "main button:not(.menu *), main a:not(.menu *), main input, header button:not([hidden]), header a, .grip",
    );
    assert!(labels.len() > 20, "{labels:?}");
    let bad: Vec<_> =
        labels.iter().filter(|(role, name)| role.is_empty() || name.is_empty()).collect();
    assert!(bad.is_empty(), "{bad:?}");

    // Nothing is stopped, cloned or deleted without being asked for.
    let button = |name: &str| format!("button[aria-label='{name}']");
    browser.click(&button("Stop meters"));
    browser.until_text("dialog", "Stop meters?");
    browser.press(ESCAPE);
    browser.until("!document.querySelector('dialog')");
    assert_eq!(site.status("meters"), "deployed");
    browser.click(&button("Stop meters"));
    browser.until("document.activeElement.innerText === 'Stop flow'");
    browser.press(ENTER);
    browser.until_text("tr[data-flow=meters] [data-key=status]", "undeployed");
    assert_eq!(site.status("meters"), "undeployed");
    let of_menu = |name: &str, flow: &str| {
        browser.click(&button(&format!("More of {flow}")));
        browser.click(&button(&format!("{name} {flow}")));
    };
    of_menu("Clone", "meters");
    browser.fill("dialog input", "meters-2");
    browser.click_text("dialog button", "Clone flow");
    browser.until_text("tr[data-flow='meters-2'] [data-key=status]", "undeployed");
    browser.click(&button("Start meters-2"));
    browser.until_text("tr[data-flow='meters-2'] [data-key=status]", "deployed");
    browser.click(&button("Start meters"));
    browser.until_text("tr[data-flow=meters] [data-key=status]", "deployed");
    is_well_behaved(&browser, &site.url);
    of_menu("Delete", "meters-2");
    browser.click_text("dialog button", "Delete flow");
    browser.until("!document.querySelector(\"tr[data-flow='meters-2']\")");
    assert_eq!(site.api.get("/api/v1/flows/meters-2").status, 404);
    // What the daemon refuses is told: a flow of a file is not deleted here.
    of_menu("Delete", "engines");
    browser.click_text("dialog button", "Delete flow");
    browser.until_text("#toasts", "is written in");
    assert_eq!(site.status("engines"), "deployed");

    // Dark and light, kept.
    let ground = "return getComputedStyle(document.documentElement).backgroundColor";
    let light = browser.js(ground);
    browser.click("#theme");
    let dark = browser.js(ground);
    assert_ne!(light, dark);
    browser.reload();
    browser.until_text("tr[data-flow=engines]", "deployed");
    assert_eq!(browser.js(ground), dark);
    assert_eq!(site.daemon.drain().status.code(), Some(0));
}

#[test]
fn a_flow_is_seen_into_and_changed() {
    let mut site = site("");
    let browser = Browser::start(1280, 900);
    browser.open(&format!("{}#/flow/engines", site.url));
    // The graph, with every component and edge, and what one of them does.
    browser.until("document.querySelectorAll('.graph .component').length === 6");
    assert_eq!(browser.js("return document.querySelectorAll('.graph .edge').length"), 5);
    site.feed(40);
    browser.click("[data-component=sensors] rect");
    browser.until_text("aside.about", "Pull latency");
    browser.click("[data-component=grade] rect");
    browser.until_text("aside.about", "Refused: script");
    browser.until(
        "document.querySelector('[data-component=grade]').getAttribute('aria-pressed') === 'true'",
    );

    // A live look at the component that was picked.
    browser.click_text("aside.about button", "Tap here");
    browser.type_into("input[name=where]", "rpm >");
    browser.click("form button[type=submit]");
    browser.until_text("[role=tabpanel] [role=alert]", "where:1:6:");
    browser.fill("input[name=where]", "rpm > 919");
    browser.click("form button[type=submit]");
    browser.until_text("[role=tabpanel] [role=status]", "Waiting");
    until("the tap is open", || site.daemon.said().contains("begun"));
    site.feed(40);
    browser.until("document.querySelectorAll('.messages li').length === 2");
    browser.until_text(".messages li", "\"rpm\": 930");
    browser.until_text(".messages li", "\"load\": 0.2325");
    is_well_behaved_but(&browser, "422");

    // Dead letters go in again when the script is mended.
    browser.click("[data-tab=dead]");
    browser.until_text("[role=tabpanel]", "2 dead letters");
    browser.until("document.querySelectorAll('.letters li').length === 2");
    site.job.write("grade.lua", MENDED);
    browser.click("[data-tab=scripts]");
    browser.click_text("[role=tabpanel] button", "Reload scripts");
    until("the new version runs", || {
        site.api.get("/api/v1/flows/engines/scripts").ok()[0]["swaps"] == 1
    });
    browser.click("[data-tab=dead]");
    browser.click_text(".letters button", "Replay");
    browser.click_text("dialog button", "Replay");
    browser.until_text("#toasts", "1 put back in, 0 refused again");
    browser.until_text("[role=tabpanel]", "1 dead letters");
    browser.click_text("[role=tabpanel] button", "Replay these");
    browser.click_text("dialog button", "Replay");
    browser.until_text("[role=tabpanel]", "nothing was refused");
    until("they have arrived", || site.job.lines("alerts.ndjson").len() == 8);

    // A definition that is refused is told where; one that is good is deployed.
    browser.open(&format!("{}#/flow/meters/definition", site.url));
    let put = |from: &str, to: &str| {
        browser.until("document.querySelector('textarea')?.value.includes('generator')");
        let (from, to) = (serde_json::json!(from), serde_json::json!(to));
        let _ = browser.js(&format!(
            "const area = document.querySelector('textarea'); area.value = area.value.replace({from}, {to})"
        ));
        browser.click_text("[role=tabpanel] button", "Save and deploy");
    };
    put("rate", "rats");
    browser.until_text(".errors[role=alert]:not([hidden])", "did you mean 'rate'");
    put("rats = 120", "rate = 60");
    browser.until_text("[role=tabpanel] tbody", "update");
    assert!(site.api.get("/api/v1/flows/meters/definition").body.contains("rate = 60"));
    browser.click_text("[role=tabpanel] button", "Roll back");
    browser.click_text("dialog button", "Roll back");
    browser.until_text("[role=tabpanel] tbody", "rollback to 1");
    assert!(site.api.get("/api/v1/flows/meters/definition").body.contains("rate = 120"));
    // When it runs.
    browser.click("[data-tab=schedule]");
    browser.until_text("[role=tabpanel] h2", "No schedule");
    browser.fill("[role=tabpanel] textarea", "cron = \"0 0 6 * * *\"\nduration = \"2h\"");
    browser.click_text("[role=tabpanel] button", "Set schedule");
    browser.until_text("[role=tabpanel] [role=status]", "next run");
    browser.click_text("[role=tabpanel] button", "Suspend");
    browser.until_text("[role=tabpanel] [role=status]", "Suspended");
    assert_eq!(site.api.get("/api/v1/flows/meters/schedule").ok()["suspended"], true);
    browser.click_text("[role=tabpanel] button", "Take away");
    browser.click_text("dialog button", "Take it away");
    browser.until_text("[role=tabpanel] h2", "No schedule");
    // And a new one.
    browser.open(&format!("{}#/new", site.url));
    browser.click_text("main button", "Put it in");
    browser.until_text("#flow-title", "new-flow");
    assert_eq!(site.status("new-flow"), "deployed");
    assert_eq!(site.daemon.drain().status.code(), Some(0));
}

/// The only complaints are of answers with this status, which were meant.
fn is_well_behaved_but(browser: &Browser, status: &str) {
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|text| text.contains(status)), "{complaints:?}");
}

#[test]
fn a_token_is_asked_for_where_there_are_tokens() {
    let site = site("auth = \"tokens.toml\"");
    let browser = Browser::start(1000, 600);
    browser.open(&site.url);
    browser.until_text("dialog", "answers only to those who show a token");
    browser.type_into("dialog input", "operator-operator-1");
    browser.press(ENTER);
    browser.until_text("dialog", "The token was refused");
    browser.type_into("dialog input", "operator-operator-0");
    browser.press(ENTER);
    browser.until_text("tr[data-flow=engines] [data-key=status]", "deployed");
    // The page itself is no secret, and says what it may do.
    let page =
        Client::new(site.url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap())
            .get("/");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
    assert!(!page.body.contains("<script>") && !page.body.contains("style="), "nothing is inline");
    is_well_behaved_but(&browser, "401");
    assert_eq!(site.daemon.drain().status.code(), Some(0));
}

/// What a plant looks like on a bad day: its alarm server is away.
const PLANT: &str = r#"
name = "engines"
allow_loss = true
[sources.sensors]
type = "generator"
rate = 2000
[sources.sensors.fields]
device = { type = "choice", values = ["m1", "m2", "m3"] }
temperature = { type = "int", min = 20, max = 120 }
rpm = { type = "float", min = 600, max = 4000 }
[operators.level]
type = "route"
inputs = ["sensors"]
default = "normal"
[operators.level.routes]
high = "temperature > 115"
warm = "temperature > 80"
[operators.grade]
type = "lua"
inputs = ["level.high", "level.warm"]
script = "grade.lua"
[sinks.alerts]
type = "tcp"
address = "127.0.0.1:1"
inputs = ["grade"]
when_full = "drop_newest"
buffer = "64KiB"
[sinks.archive]
type = "blackhole"
inputs = ["level.normal", "grade"]
[dead_letters]
type = "file"
path = "dead.ndjson"
"#;

const GRADE: &str = "return { version = \"2.1\", process = function(msg)\n\
                     if msg.rpm > 3980 then error(\"rpm out of range: \" .. msg.rpm) end\n\
                     msg.severity = msg.temperature > 118 and \"critical\" or \"high\"\n\
                     return msg end }\n";

/// Makes the pictures that the pages show, when asked to.
#[test]
fn pictures() {
    if std::env::var_os("UPDATE_SCREENSHOTS").is_none() {
        return;
    }
    let site = site("");
    site.job.write("data/flows/lua/grade.lua", GRADE);
    let toml = site.api.clone().with("Content-Type", "application/toml");
    let _ = site.api.post("/api/v1/flows/engines/stop", "");
    for (name, text) in [
        ("plant-engines", PLANT.replace("\"engines\"", "\"plant-engines\"")),
        ("telemetry", METERS.replace("meters", "telemetry").replace("120", "48000")),
        ("tank-levels", METERS.replace("meters", "tank-levels").replace("120", "850")),
    ] {
        let made = toml.post("/api/v1/flows", &text);
        assert_eq!(made.status, 201, "{name}: {made:?}");
    }
    let folder = ringmain_tests::binary::workspace().join("daemon/control/console/screenshots");
    let picture = |browser: &Browser, name: &str| {
        let png = base64::engine::general_purpose::STANDARD.decode(browser.screenshot()).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), png).unwrap();
    };
    let browser = Browser::start(1280, 640);
    browser.open(&site.url);
    browser.until("document.querySelector('.spark polyline')?.points.length > 50");
    picture(&browser, "flows.png");
    drop(browser);
    let browser = Browser::start(1280, 900);
    browser.open(&format!("{}#/flow/plant-engines", site.url));
    browser.click("#theme");
    browser.click("[data-component=grade] rect");
    browser.until("document.querySelector('.spark polyline')?.points.length > 20");
    picture(&browser, "flow.png");
}
