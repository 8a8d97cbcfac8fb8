//! A running daemon's API, as the commands see it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::args::ApiArgs;

/// Longer than any change takes: a flow may drain for minutes.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A client of one daemon.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

type Answered = Result<Response<ureq::Body>, ureq::Error>;

impl Client {
    pub(crate) fn new(args: &ApiArgs) -> Result<Self, String> {
        let tls = match &args.ca {
            Some(path) => TlsConfig::builder().root_certs(authority(path)?).build(),
            None => TlsConfig::default(),
        };
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            .build();
        let base = args.api.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.into(), base, token: args.token.clone() })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, String> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.answer(request.call())
    }

    /// An answer that goes on until one side ends it.
    pub(crate) fn stream(&self, path: &str) -> Result<impl std::io::Read + use<>, String> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let mut request = request.config().timeout_global(None).build();
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        match request.call() {
            Ok(response) if response.status().is_success() => {
                Ok(response.into_body().into_reader())
            }
            answered => Err(self.answer(answered).expect_err("it is no success")),
        }
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, String> {
        let mut request = self.agent.delete(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.answer(request.call())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Result<Value, String> {
        self.send(self.agent.post(format!("{}{path}", self.base)), body)
    }

    pub(crate) fn put(&self, path: &str, body: &str) -> Result<Value, String> {
        self.send(self.agent.put(format!("{}{path}", self.base)), body)
    }

    fn send(
        &self,
        mut request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        body: &str,
    ) -> Result<Value, String> {
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.answer(request.header("Content-Type", "application/toml").send(body))
    }

    fn answer(&self, answered: Answered) -> Result<Value, String> {
        let mut response = answered.map_err(|error| {
            let base = &self.base;
            format!(
                "no answer from {base}: {error}; is `listen` of [api] set, and is --api the same?"
            )
        })?;
        let status = response.status();
        let text = response.body_mut().read_to_string();
        let text = text.map_err(|error| format!("a broken answer from {}: {error}", self.base))?;
        if status.is_success() {
            return Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)));
        }
        Err(problem(status.as_u16(), &text))
    }
}

/// The certificates of a file.
fn authority(path: &Path) -> Result<RootCerts, String> {
    let bad = |why: String| format!("--ca {}: {why}", path.display());
    let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
    let items = parse_pem(&pem).collect::<Result<Vec<_>, _>>();
    let items = items.map_err(|error| bad(error.to_string()))?;
    let certificates = items.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    Ok(certificates.into_iter().into())
}

/// Text as a part of a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A problem document in words.
fn problem(status: u16, text: &str) -> String {
    let json: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(detail) = json["detail"].as_str() else { return format!("{status}: {text}") };
    let mut message = detail.to_owned();
    if status == 401 {
        message.push_str(" (--token TOKEN, or RINGMAIN_TOKEN)");
    }
    for error in json["errors"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        message.push('\n');
        message.push_str(error);
    }
    message
}
