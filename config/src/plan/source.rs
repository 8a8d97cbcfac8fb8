//! Where messages come from.

use std::net::SocketAddr;

use ringmain_base::limits::FRAME_BYTES_DEFAULT;

use super::http::HttpSource;
use super::mqtt::{MqttSource, Qos};
use super::timer::{TimerSchedule, TimerSource};
use super::tls::ServerTls;
use crate::span::Spanned;

/// `[sources.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct SourcePlan {
    /// Name of the component.
    pub name: Spanned<String>,
    /// What the bytes of a frame are.
    pub decode: DecodePlan,
    /// Where a frame ends.
    pub frame: FramePlan,
    /// Longest frame that is accepted.
    pub frame_bytes: u32,
    /// The connector.
    pub kind: SourceKind,
}

/// `decode`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DecodePlan {
    /// One JSON object per frame.
    #[default]
    Json,
    /// The frame as a UTF-8 string in the field `message`.
    Text,
    /// The frame as bytes in the field `message`.
    Bytes,
    /// One CSV record per frame.
    Csv(CsvDecode),
}

/// `decode = { type = "csv", ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvDecode {
    /// The first record of every file or connection holds names. With
    /// `columns` it is skipped, otherwise it names the fields.
    pub header: bool,
    /// Names of the fields; empty when the header names them.
    pub columns: Vec<String>,
    /// What separates fields.
    pub delimiter: u8,
    /// What stands around fields that hold delimiters, quotes or line ends.
    pub quote: u8,
    /// What is written as a number becomes one.
    pub numbers: bool,
}

impl Default for CsvDecode {
    fn default() -> Self {
        Self { header: true, columns: Vec::new(), delimiter: b',', quote: b'"', numbers: true }
    }
}

/// `frame`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FramePlan {
    /// A frame ends with a line feed; a carriage return before it belongs to
    /// the line end.
    #[default]
    Newline,
    /// A big-endian 32-bit length stands before each frame.
    U32,
    /// A little-endian 32-bit length stands before each frame.
    U32Le,
    /// Each datagram is a frame.
    Datagram,
}

/// The connector of a source and its own keys.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    /// Made-up messages: for trials, tests and the bench.
    Generator {
        /// How many; endless without.
        count: Option<u64>,
        /// Messages per second; as fast as possible without.
        rate: Option<u64>,
        /// The fields of each message, in order.
        fields: Vec<(Spanned<String>, GenField)>,
        /// Each message is padded with a field `pad` to about this size.
        size_bytes: Option<u64>,
        /// The same seed gives the same messages.
        seed: u64,
    },
    /// Files.
    File(FileSource),
    /// Requests of others.
    Http(HttpSource),
    /// Topics of an MQTT broker.
    Mqtt(Box<MqttSource>),
    /// The clock.
    Timer(TimerSource),
    /// Standard input.
    Stdin,
    /// Connections that others open.
    Tcp {
        /// Where to listen.
        listen: Listen,
        /// Connections at the same time; more wait to be accepted.
        connections_max: u32,
        /// Connections are encrypted.
        tls: Option<ServerTls>,
        /// Lines are acknowledged to whoever sent them.
        acks: bool,
    },
    /// Datagrams.
    Udp {
        /// Where to listen.
        listen: Listen,
        /// Size of the kernel's receive buffer; the system's default without.
        receive_buffer_bytes: Option<u64>,
        /// Let the kernel join datagrams of one sender (UDP_GRO).
        gro: bool,
    },
    /// A socket in the file system.
    Unix {
        /// Where it is created.
        path: Spanned<String>,
        /// Connections or datagrams.
        mode: UnixMode,
        /// Connections at the same time, for `stream`.
        connections_max: u32,
    },
}

/// `type = "file"`
#[derive(Clone, Debug, PartialEq)]
pub struct FileSource {
    /// Globs, relative to the working directory.
    pub paths: Vec<Spanned<String>>,
    /// To the end once, or for ever.
    pub mode: ReadMode,
    /// Where a file begins that was there before the daemon, for `tail`.
    pub start: FileStart,
    /// How often the globs are looked up and idle files are looked at.
    pub poll_us: u64,
}

/// `mode` of a file source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// To the end, then the source is finished.
    Read,
    /// Follow what is appended, through rotation and truncation.
    Tail,
}

/// `start` of a file source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStart {
    /// Everything that is there.
    Beginning,
    /// Only what comes.
    End,
}

/// `mode` of a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnixMode {
    /// Connections.
    Stream,
    /// Datagrams.
    Datagram,
}

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// As it was written.
    pub text: Spanned<String>,
    /// What it means. Port 0 lets the kernel choose.
    pub addr: SocketAddr,
}

/// How the generator fills one field.
#[derive(Clone, Debug, PartialEq)]
pub enum GenField {
    /// The same value in every message.
    Const(Scalar),
    /// A random integer, both ends included.
    Int {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A random float.
    Float {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
        /// Digits after the point.
        decimals: u8,
    },
    /// True with this probability.
    Bool {
        /// 0.0 to 1.0.
        probability: f64,
    },
    /// One of these, evenly; write a value twice to double its share.
    Choice {
        /// At least one.
        values: Vec<Scalar>,
    },
    /// A prefix and a random number below `count`: `motor-0042`.
    Name {
        /// What stands before the number.
        prefix: String,
        /// How many different names there are.
        count: u64,
        /// Digits of the number, with leading zeros.
        digits: u8,
    },
    /// Counts up.
    Sequence {
        /// The first value.
        start: i64,
        /// What is added each time.
        step: i64,
    },
    /// Random lower-case letters.
    String {
        /// How many.
        length: u32,
    },
    /// The time at which the message is made.
    Timestamp {
        /// Unit of the integer.
        unit: TimeUnit,
    },
}

/// Unit of a time stamp since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
}

/// A value without structure.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A string.
    String(String),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// true or false.
    Boolean(bool),
}

impl SourceKind {
    /// The name that `type` gives it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Generator { .. } => "generator",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Mqtt(_) => "mqtt",
            Self::Timer(_) => "timer",
            Self::Stdin => "stdin",
            Self::Tcp { .. } => "tcp",
            Self::Udp { .. } => "udp",
            Self::Unix { .. } => "unix",
        }
    }

    /// Whether it ends by itself.
    #[must_use]
    pub const fn is_finite(&self) -> bool {
        match self {
            Self::Generator { count, .. } => count.is_some(),
            Self::File(file) => matches!(file.mode, ReadMode::Read),
            Self::Stdin => true,
            Self::Http(_)
            | Self::Mqtt(_)
            | Self::Tcp { .. }
            | Self::Udp { .. }
            | Self::Unix { .. } => false,
            Self::Timer(timer) => {
                timer.count.is_some() || matches!(timer.schedule, TimerSchedule::Date(_))
            }
        }
    }

    /// Whether it can send again what was not acknowledged, so that a dropping
    /// edge behind it would break a promise.
    #[must_use]
    pub fn can_replay(&self) -> bool {
        match self {
            Self::File(_) | Self::Tcp { acks: true, .. } => true,
            // The broker does, until it has the acknowledgement.
            Self::Mqtt(mqtt) => mqtt.topics.iter().any(|topic| topic.qos > Qos::AtMostOnce),
            _ => false,
        }
    }
}

impl SourcePlan {
    /// A source with the defaults of every common key.
    #[must_use]
    pub fn new(name: Spanned<String>, kind: SourceKind) -> Self {
        Self {
            name,
            decode: DecodePlan::Json,
            frame: FramePlan::Newline,
            frame_bytes: FRAME_BYTES_DEFAULT,
            kind,
        }
    }
}
