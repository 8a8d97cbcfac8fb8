//! A headless Chromium, driven by WebDriver (W3C) through chromedriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Client;
use crate::wait::until_some;

/// The name under which elements are passed (WebDriver, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Switches that keep it to itself: no services, no updates, no other user's
/// profile.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
];

/// A browser with one window, which ends with this value.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    client: Client,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts it with a window of that size.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    #[must_use]
    pub fn start(width: u32, height: u32) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed (Debian: chromium-driver); tests/run installs it");
        let said = BufReader::new(driver.stdout.take().expect("it is piped"));
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let port = line.split("successfully on port ").nth(1)?;
            port.trim_end_matches('.').parse().ok()
        });
        let client = Client::new(port.expect("chromedriver says its port"));
        let profile = tempfile::Builder::new().prefix("chromium-").tempdir();
        let profile = profile.expect("a temporary folder can be made");
        let mut arguments: Vec<_> = ARGUMENTS.map(str::to_owned).into();
        arguments.push(format!("--window-size={width},{height}"));
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let asked = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let answer = client.post("/session", &asked.to_string()).json();
        let session = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let session = format!("/session/{session}");
        Self { driver, client, session, _profile: profile }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let answer = self.client.ask(method, &format!("{}{path}", self.session), &body);
        let value = answer.json()["value"].clone();
        if answer.status == 200 { Ok(value) } else { Err(value["message"].to_string()) }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Loads the page again.
    pub fn reload(&self) {
        self.post("/refresh", &json!({}));
    }

    /// What a piece of script returns.
    ///
    /// # Panics
    /// When it throws.
    #[must_use]
    pub fn js(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression of script is true of the page.
    ///
    /// # Panics
    /// When it never is.
    pub fn until(&self, expression: &str) {
        until_some(expression, || {
            let script = format!("return Boolean({expression})");
            // While a page is loaded there may be no script to run it.
            let is = self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [] }));
            (is == Ok(Value::Bool(true))).then_some(())
        });
    }

    /// Waits until the element that matches shows a text.
    pub fn until_text(&self, css: &str, text: &str) {
        let (css, text) = (json!(css), json!(text));
        self.until(&format!("document.querySelector({css})?.innerText.includes({text})"));
    }

    /// The element that matches, once it is there.
    ///
    /// # Panics
    /// When it never is.
    #[must_use]
    pub fn find(&self, css: &str) -> String {
        until_some(css, || {
            let found = json!({ "using": "css selector", "value": css });
            let found = self.ask("POST", "/element", &found).ok()?;
            found[ELEMENT].as_str().map(str::to_owned)
        })
    }

    /// Clicks where a user would, once it can be clicked.
    pub fn click(&self, css: &str) {
        until_some(&format!("a click on {css}"), || {
            let element = self.find(css);
            self.ask("POST", &format!("/element/{element}/click"), &json!({})).ok()
        });
    }

    /// Clicks the button or link that says this.
    pub fn click_text(&self, within: &str, text: &str) {
        let (within, text) = (json!(within), json!(text));
        let found = format!(
            "[...document.querySelectorAll({within})].find(e => e.innerText.trim() === {text})"
        );
        self.until(&found);
        let _ = self.js(&format!("{found}.setAttribute('data-wanted', '')"));
        self.click("[data-wanted]");
        let gone = "document.querySelector('[data-wanted]')?.removeAttribute('data-wanted')";
        let _ = self.js(gone);
    }

    /// Types into an element, after what is in it.
    pub fn type_into(&self, css: &str, text: &str) {
        let element = self.find(css);
        self.post(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Empties an input and types into it.
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.find(css);
        self.post(&format!("/element/{element}/clear"), &json!({}));
        self.type_into(css, text);
    }

    /// Presses and releases a key (WebDriver, section 17.4.2).
    pub fn press(&self, key: char) {
        let keys =
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })];
        self.post(
            "/actions",
            &json!({ "actions": [{ "type": "key", "id": "k", "actions": keys }] }),
        );
    }

    /// Drags an element to the right.
    pub fn drag(&self, css: &str, by: i32) {
        let element = json!({ ELEMENT: self.find(css) });
        let moves = json!([
            { "type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": element },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerMove", "duration": 50, "x": by, "y": 0, "origin": "pointer" },
            { "type": "pointerUp", "button": 0 },
        ]);
        let mouse = json!({ "type": "pointer", "id": "m", "actions": moves });
        self.post("/actions", &json!({ "actions": [mouse] }));
    }

    /// What a screen reader calls each element that matches, with its role.
    #[must_use]
    pub fn labels(&self, css: &str) -> Vec<(String, String)> {
        let found = self.post("/elements", &json!({ "using": "css selector", "value": css }));
        let of = |element: &Value, what: &str| {
            let id = element[ELEMENT].as_str().unwrap_or_default();
            let said = self.ask("GET", &format!("/element/{id}/{what}"), &Value::Null);
            said.ok().and_then(|said| said.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let found = found.as_array().cloned().unwrap_or_default();
        found.iter().map(|e| (of(e, "computedrole"), of(e, "computedlabel"))).collect()
    }

    /// Errors and warnings that the page has caused since the last call, those
    /// of its security policy included.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let log = log.as_array().cloned().unwrap_or_default();
        log.iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// The window as it looks, as PNG in base64.
    #[must_use]
    pub fn screenshot(&self) -> String {
        let shot = self.ask("GET", "/screenshot", &Value::Null).expect("a window can be drawn");
        shot.as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium; it may have ended by itself.
        let _ = self.ask("DELETE", "", &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
