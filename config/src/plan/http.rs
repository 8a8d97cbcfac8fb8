//! HTTP, both ways.

use super::source::Listen;
use super::tls::{Secret, ServerTls};
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
