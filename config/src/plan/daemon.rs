//! The daemon's own file.

use std::fmt;
use std::path::PathBuf;

use crate::span::Spanned;

/// `[daemon]`
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonPlan {
    /// Name in logs and metrics.
    pub name: String,
    /// Where checkpoints and state are kept; without it there are none.
    pub data_dir: Option<PathBuf>,
    /// How often positions and state are stored there.
    pub checkpoint_every_us: u64,
    /// Globs of flow files, relative to the daemon's file.
    pub flows: Vec<Spanned<String>>,
}

/// `[shards]`
#[derive(Clone, Debug, PartialEq)]
pub struct ShardsPlan {
    /// Which cores carry a shard.
    pub cores: Spanned<CoresSpec>,
    /// Budget of the whole process for messages in flight.
    pub memory_bytes: u64,
    /// Size of a slab.
    pub slab_bytes: u32,
    /// How long a partly filled slab may wait for more rows.
    pub linger_us: u64,
}

/// `cores`: syntax is checked here, the machine by the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoresSpec {
    /// `"auto"`: every core the process may use.
    Auto,
    /// `"0-3,6"`: these, ascending, each once.
    List(Vec<u16>),
}

/// As it is written in the file.
impl fmt::Display for CoresSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::List(cores) => {
                let cores: Vec<String> = cores.iter().map(u16::to_string).collect();
                f.write_str(&cores.join(","))
            }
        }
    }
}

/// `[api]`
#[derive(Clone, Debug, PartialEq)]
pub struct ApiPlan {
    /// Address to listen at; absent: no listener.
    pub listen: Option<super::Listen>,
    /// Certificate and key.
    pub tls: Option<TlsPlan>,
    /// File with tokens and their scopes.
    pub auth: Option<Spanned<String>>,
    /// What that file says.
    pub tokens: Vec<TokenPlan>,
    /// File that changes are appended to.
    pub audit: Option<PathBuf>,
    /// Largest body of a request.
    pub body_bytes: u64,
    /// Requests per second of one peer.
    pub rate: u32,
}

/// `[[tokens]]` of the auth file.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenPlan {
    /// Who it is.
    pub name: String,
    /// What must be shown.
    pub secret: TokenSecret,
    /// What it is good for.
    pub scopes: Vec<Scope>,
}

/// A token, or what it is recognised by.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSecret {
    /// The token itself.
    Plain(String),
    /// Its SHA-256.
    Sha256([u8; 32]),
}

/// Secrets are never printed.
impl fmt::Debug for TokenPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPlan").field("name", &self.name).field("scopes", &self.scopes).finish()
    }
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Change flows; includes the others.
    Manage,
    /// Read definitions of flows.
    ReadManagement,
    /// Read figures of flows and of the node.
    ReadRuntime,
}

impl Scope {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manage => "manage",
            Self::ReadManagement => "read-management",
            Self::ReadRuntime => "read-runtime",
        }
    }
}

/// `tls = { cert = ..., key = ... }`
#[derive(Clone, Debug, PartialEq)]
pub struct TlsPlan {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// `[metrics]`: where figures are sent or served.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsPlan {
    /// `host:port` of a StatsD server.
    pub statsd: Option<Spanned<String>>,
    /// `host:port` of a Graphite server.
    pub graphite: Option<Spanned<String>>,
    /// `host:port` of a DogStatsD agent.
    pub datadog: Option<Spanned<String>>,
    /// First part of every name.
    pub prefix: String,
    /// How often figures are sent.
    pub every_us: u64,
    /// Key and value that every figure is given where the protocol has tags.
    pub tags: Vec<(String, String)>,
    /// Serve `/metrics`.
    pub prometheus: bool,
    /// Serve `/jolokia`.
    pub jolokia: bool,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// Least severe line that is written.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
}

/// `level`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what may be wrong.
    Warn,
    /// Also what happened.
    Info,
    /// Also how.
    Debug,
    /// Everything.
    Trace,
}

/// `format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text per event.
    Text,
    /// One JSON object per line.
    Json,
}
