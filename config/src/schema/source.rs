//! Keys of sources.

use ringmain_base::limits::FRAME_BYTES_LIMIT;

use super::Kind::{Bool, Int, OneOf, Other, Size, Text, Texts, Time};
use super::{Family, Key, Schema, TIMER, def, opt, req};

pub(super) static TYPE: Schema = Schema {
    title: "a source",
    header: "",
    about: "",
    parents: &[],
    keys: &[req("type", Text, "The kind of source.")],
};

pub(super) static DECODED: Schema = Schema {
    title: "a source of bytes",
    header: "",
    about: "",
    parents: &[&TYPE],
    keys: &[
        def(
            "decode",
            Other("'json', 'text', 'bytes', 'csv' or a table { type = \"csv\", ... }"),
            "json",
            "What the bytes of a frame are. `text` and `bytes` put the frame into the field \
             `message`.",
        ),
        def(
            "frame_bytes",
            Size(16, FRAME_BYTES_LIMIT as u64),
            "1MiB",
            "Longest message. What is longer becomes a dead letter.",
        ),
    ],
};

pub(super) static CODED: Schema = Schema {
    title: "a source of bytes",
    header: "",
    about: "",
    parents: &[&DECODED],
    keys: &[opt(
        "frame",
        OneOf(FRAMES),
        "newline; datagram for datagrams",
        "Where a message ends: `newline`, `u32` (a 4-byte big-endian length before it), `u32le` \
         (little-endian), `datagram`.",
    )],
};

/// Names of framings.
pub(crate) const FRAMES: &[&str] = &["newline", "u32", "u32le", "datagram"];

pub(crate) static GENERATOR: Schema = Schema {
    title: "a generator source",
    header: "type = \"generator\"",
    about: "Made-up messages: for trials, tests and measurements.",
    parents: &[&TYPE],
    keys: &[
        opt("count", Int(0, i64::MAX), "endless", "How many messages."),
        opt("rate", Int(1, i64::MAX), "as fast as possible", "Messages per second."),
        opt(
            "fields",
            Other("a table of fields"),
            "ts, device, plant, rpm, temp, status",
            "What each message holds, see the field types below.",
        ),
        opt(
            "size",
            Size(1, 16 << 20),
            "not padded",
            "Pad messages with a field `pad` to this size.",
        ),
        def(
            "seed",
            Int(0, i64::MAX),
            "0",
            "The same seed gives the same messages, time stamps aside.",
        ),
    ],
};

pub(crate) static FILE: Schema = Schema {
    title: "a file source",
    header: "type = \"file\"",
    about: "Files that are read once, or followed.",
    parents: &[&CODED],
    keys: &[
        req("path", Texts, "File or glob, or a list, relative to the working directory."),
        def(
            "mode",
            OneOf(&["read", "tail"]),
            "read",
            "`read` to the end once, or `tail` for ever.",
        ),
        def(
            "start",
            OneOf(&["beginning", "end"]),
            "beginning",
            "For `tail`: where to begin in files that are already there.",
        ),
        def(
            "poll",
            Time(1_000, 3_600_000_000),
            "1s",
            "For `tail`: how often new files and rotations are looked for.",
        ),
    ],
};

pub(crate) static STDIN: Schema = Schema {
    title: "a stdin source",
    header: "type = \"stdin\"",
    about: "Standard input. One flow of a daemon may read it.",
    parents: &[&CODED],
    keys: &[],
};

pub(super) const LISTEN: Key = req(
    "listen",
    Text,
    "Address and port to listen at, for example `127.0.0.1:5140` or `[::]:5140`.",
);
const CONNECTIONS_MAX: Key =
    def("connections_max", Int(1, 1 << 20), "1024", "Connections at the same time.");

const SERVER_TLS_KEY: Key = opt(
    "tls",
    Other("a table { cert, key, client_ca }"),
    "not encrypted",
    "Certificate and private key for encrypted connections, and whose certificates peers need.",
);

pub(crate) static TCP: Schema = Schema {
    title: "a tcp source",
    header: "type = \"tcp\"",
    about: "Connections that others open. With `ack = \"lines\"` whoever sends learns on the same \
            connection how many of its lines every sink has accepted: a decimal number and a \
            line feed, whenever it has grown. What is not acknowledged when a connection ends is \
            to be sent again on the next, where counting begins anew.",
    parents: &[&CODED],
    keys: &[
        LISTEN,
        CONNECTIONS_MAX,
        SERVER_TLS_KEY,
        def("ack", OneOf(&["none", "lines"]), "none", "Acknowledge lines to whoever sent them."),
    ],
};

pub(crate) static UDP: Schema = Schema {
    title: "a udp source",
    header: "type = \"udp\"",
    about: "Datagrams.",
    parents: &[&CODED],
    keys: &[
        LISTEN,
        opt(
            "receive_buffer",
            Size(2048, 1 << 30),
            "the system's default",
            "Size of the kernel's receive buffer.",
        ),
        def("gro", Bool, "true", "Let the kernel join datagrams of one sender (UDP_GRO)."),
    ],
};

pub(crate) static UNIX: Schema = Schema {
    title: "a unix source",
    header: "type = \"unix\"",
    about: "A socket in the file system.",
    parents: &[&CODED],
    keys: &[
        req("path", Text, "Where the socket is created."),
        def("mode", OneOf(&["stream", "datagram"]), "stream", "Connections or datagrams."),
        CONNECTIONS_MAX,
    ],
};

pub(crate) static SOURCES: Family = Family {
    noun: "source",
    types: &[
        ("generator", &GENERATOR),
        ("file", &FILE),
        ("http", &super::HTTP),
        ("mqtt", &super::MQTT),
        ("stdin", &STDIN),
        ("tcp", &TCP),
        ("udp", &UDP),
        ("unix", &UNIX),
        ("timer", &TIMER),
    ],
};

pub(crate) static DECODE_CSV: Schema = Schema {
    title: "decode",
    header: "decode = { type = \"csv\", ... }",
    about: "Empty values are absent.",
    parents: &[],
    keys: &[
        req("type", OneOf(&["csv", "json", "text", "bytes"]), "`csv`; the others have no keys."),
        opt(
            "header",
            Bool,
            "true without columns",
            "The first record holds names: they name the fields, or are skipped when `columns` \
             does.",
        ),
        opt("columns", Texts, "named by the header", "Names of the fields."),
        def("delimiter", Text, ",", "One ASCII character between fields."),
        def(
            "quote",
            Text,
            "\"",
            "One ASCII character around fields that hold delimiters, quotes or line ends; within \
             them it stands twice.",
        ),
        def(
            "numbers",
            Bool,
            "true",
            "Integers and decimals as JSON writes them become numbers (`7`, `-1.50`); what may be \
             a code stays text (`07`, `+1`, `1e3`). Without, all values are text.",
        ),
    ],
};
