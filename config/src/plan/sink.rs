//! Where messages go.

use super::http::HttpSink;
use super::mqtt::MqttSink;
use super::operator::Input;
use super::source::{FramePlan, UnixMode};
use super::tls::ClientTls;
use crate::span::Spanned;

/// `[sinks.NAME]` and `[dead_letters]`
#[derive(Clone, Debug, PartialEq)]
pub struct SinkPlan {
    /// Name of the component.
    pub name: Spanned<String>,
    /// What it reads; empty for dead letters.
    pub inputs: Vec<Input>,
    /// How a message becomes bytes.
    pub encode: EncodePlan,
    /// How the bytes of one message end.
    pub frame: FramePlan,
    /// What happens to messages for which there is no room.
    pub when_full: Spanned<WhenFull>,
    /// How messages wait on disk, with [`WhenFull::Spill`].
    pub spill: Option<SpillPlan>,
    /// Encoded bytes that may wait for the other side.
    pub buffer_bytes: u64,
    /// The connector.
    pub kind: SinkKind,
}

/// `when_full`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Everything before it waits, at last the source.
    #[default]
    Block,
    /// What comes is dropped and counted.
    DropNewest,
    /// What waits longest is dropped and counted.
    DropOldest,
    /// What comes waits on disk, as [`SpillPlan`] says.
    Spill,
}

impl WhenFull {
    /// The name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::DropNewest => "drop_newest",
            Self::DropOldest => "drop_oldest",
            Self::Spill => "spill",
        }
    }

    /// Whether messages get lost.
    #[must_use]
    pub const fn drops(self) -> bool {
        matches!(self, Self::DropNewest | Self::DropOldest)
    }
}

/// `spill = { ... }`
#[derive(Clone, Debug, PartialEq)]
pub struct SpillPlan {
    /// No more is kept on disk.
    pub max_bytes: u64,
    /// Size of one file.
    pub segment_bytes: u64,
    /// How far apart writes through to the disk are; 0: as close as it can.
    pub sync_every_us: u64,
    /// Stored messages per second that are sent at most.
    pub resend_rate: Option<u64>,
    /// New messages go before stored ones.
    pub live_first: bool,
    /// What happens when there is no room on disk either.
    pub when_full: Spanned<WhenFull>,
}

/// `encode`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EncodePlan {
    /// One JSON object per message.
    #[default]
    Json,
    /// The field `message` as it is.
    Text,
    /// One CSV record per message.
    Csv {
        /// Fields, in order.
        columns: Vec<String>,
        /// Each file or connection begins with their names.
        header: bool,
        /// What separates fields.
        delimiter: u8,
    },
}

/// The connector of a sink and its own keys.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// Files.
    File(FileSink),
    /// Requests to a server.
    Http(Box<HttpSink>),
    /// Topics of an MQTT broker.
    Mqtt(Box<MqttSink>),
    /// Standard output.
    Stdout,
    /// A connection that this side opens.
    Tcp {
        /// `host:port`.
        address: Spanned<String>,
        /// How long connecting may take.
        connect_timeout_us: u64,
        /// Waits between attempts.
        retry: RetryPlan,
        /// The connection is encrypted.
        tls: Option<ClientTls>,
        /// The other side acknowledges lines, each within so many microseconds.
        ack_timeout_us: Option<u64>,
    },
    /// Datagrams, one per message.
    Udp {
        /// `host:port`.
        address: Spanned<String>,
    },
    /// A socket in the file system that someone else created.
    Unix {
        /// Where it is.
        path: Spanned<String>,
        /// Connection or datagrams.
        mode: UnixMode,
        /// Waits between attempts.
        retry: RetryPlan,
    },
    /// Nowhere; counts.
    Blackhole,
}

/// `type = "file"`
#[derive(Clone, Debug, PartialEq)]
pub struct FileSink {
    /// Path of the file of each message, relative to the working directory.
    pub path: Template,
    /// What happens to a file that is there.
    pub mode: FileMode,
    /// When a new file is begun.
    pub rotate: Rotation,
    /// When the kernel is told to write through.
    pub fsync: Fsync,
}

/// `mode` of a file sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMode {
    /// Its end is continued.
    Append,
    /// It is emptied when it is opened for the first time in a run.
    Truncate,
}

/// `rotate = { size = ..., every = ..., keep = ... }`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// A file that would grow beyond this is closed.
    pub size_bytes: Option<u64>,
    /// A file that is older is closed.
    pub every_us: Option<u64>,
    /// How many closed files stay; all, when absent.
    pub keep: Option<u32>,
}

/// `fsync`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// The kernel decides. Accepted means written.
    Never,
    /// When a file is closed by rotation or at the end.
    Rotate,
    /// At most this much time after a write, in microseconds.
    Interval(u64),
    /// After each write. Accepted means synced.
    Always,
}

/// `retry = { min = ..., max = ..., limit = ..., circuit_breaker = ... }`:
/// doubling waits with jitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    /// The first wait.
    pub min_us: u64,
    /// No wait is longer.
    pub max_us: u64,
    /// After so many attempts in a row that failed, the messages at hand are
    /// refused; absent: it is tried for ever.
    pub limit: Option<u32>,
    /// When attempts stop for a while; absent: never.
    pub circuit_breaker: Option<BreakerPlan>,
}

impl RetryPlan {
    /// Waits only.
    #[must_use]
    pub const fn new(min_us: u64, max_us: u64) -> Self {
        Self { min_us, max_us, limit: None, circuit_breaker: None }
    }
}

/// `circuit_breaker = { failures = ..., pause = ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerPlan {
    /// Attempts that fail in a row before it opens.
    pub failures: u32,
    /// How long it stays open before one attempt is made to see.
    pub pause_us: u64,
}

/// A path with parts that are filled in per message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// As it was written, environment expanded.
    pub text: Spanned<String>,
    /// Its parts; neighbouring literals are joined.
    pub segments: Vec<Segment>,
}

impl Template {
    /// The path, when nothing is filled in.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match self.segments.as_slice() {
            [Segment::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// One part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// As it stands.
    Literal(String),
    /// `{NAME}`: the value of a field. Whoever fills it in must keep values
    /// from leaving the folder.
    Field(String),
    /// `{date}` or `{date:%Y/%m}`: UTC.
    Date(Vec<DateField>),
    /// `{shard}`: number of the shard that writes.
    Shard,
}

/// One part of a date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DateField {
    /// `%Y`, four digits.
    Year,
    /// `%m`, two digits.
    Month,
    /// `%d`, two digits.
    Day,
    /// `%H`, two digits.
    Hour,
    /// `%M`, two digits.
    Minute,
    /// Anything between.
    Literal(String),
}

impl SinkKind {
    /// The name that `type` gives it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Mqtt(_) => "mqtt",
            Self::Stdout => "stdout",
            Self::Tcp { .. } => "tcp",
            Self::Udp { .. } => "udp",
            Self::Unix { .. } => "unix",
            Self::Blackhole => "blackhole",
        }
    }
}
