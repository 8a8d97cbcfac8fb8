//! HTTP, both ways.

use super::sink::{RetryPlan, Template};
use super::source::Listen;
use super::tls::{ClientTls, Secret, ServerTls};
use crate::span::Spanned;

/// `type = "http"` of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSource {
    /// Where to listen.
    pub listen: Listen,
    /// The path that messages are sent to.
    pub path: Spanned<String>,
    /// What a body is.
    pub body: HttpBody,
    /// Longest body, also after unpacking.
    pub body_bytes: u64,
    /// What clients must know.
    pub token: Option<Secret>,
    /// When a request is answered.
    pub respond: HttpRespond,
    /// Connections at the same time; more wait to be accepted.
    pub connections_max: u32,
    /// How long a request may wait for the flow before it is sent away.
    pub busy_us: u64,
    /// How long an answer may wait for the sinks.
    pub ack_timeout_us: u64,
    /// How long a client may take for a request.
    pub request_timeout_us: u64,
    /// How long a connection may be idle.
    pub idle_timeout_us: u64,
    /// Connections are encrypted.
    pub tls: Option<ServerTls>,
}

/// `body` of an HTTP source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpBody {
    /// As the content type says, or the first byte.
    Auto,
    /// One message.
    Message,
    /// One message per line.
    Lines,
    /// A JSON array of messages.
    Array,
}

/// `respond` of an HTTP source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpRespond {
    /// As soon as the messages are in the flow.
    Accepted,
    /// When every sink has accepted them.
    Acked,
}

/// `type = "http"` of a sink.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSink {
    /// As it was written, for people.
    pub url: Spanned<String>,
    /// `host:port` to connect to.
    pub address: String,
    /// What stands in the line `Host`.
    pub host: String,
    /// Path and query.
    pub path: Template,
    /// `POST`, `PUT` or `PATCH`.
    pub method: &'static str,
    /// What a body is; never `Auto`.
    pub body: HttpBody,
    /// Header lines beside those that every request has.
    pub headers: Vec<(String, Template)>,
    /// When a request is sent.
    pub batch: HttpBatch,
    /// Bodies are packed.
    pub gzip: bool,
    /// How this side says who it is.
    pub auth: HttpAuth,
    /// Requests at the same time.
    pub connections: u32,
    /// How long connecting may take, and each request.
    pub timeout_us: u64,
    /// Waits between attempts.
    pub retry: RetryPlan,
    /// Connections are encrypted.
    pub tls: Option<ClientTls>,
}

/// `batch = { count = ..., bytes = ..., linger = ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpBatch {
    /// Messages of one request, at most.
    pub count: u32,
    /// Bytes of one request, about.
    pub bytes: u64,
    /// How long a message may wait for others.
    pub linger_us: u64,
}

/// How a client says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAuth {
    /// It does not.
    Nobody,
    /// `Authorization: Bearer ...`
    Bearer(Secret),
    /// `Authorization: Basic ...`
    Basic {
        /// The name.
        username: String,
        /// What proves it.
        password: Secret,
    },
}
