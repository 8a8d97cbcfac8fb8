//! Keys of sinks.

use super::Kind::{Int, OneOf, Other, Size, Text, Texts, Time};
use super::{Family, Key, Schema, def, opt, req};
use super::{SINK_EVENT, SINK_HTTP, SINK_MQTT};

pub(super) const TYPE: Key = req("type", Text, "The kind of sink.");

pub(super) static INPUTS: Schema = Schema {
    title: "a sink",
    header: "",
    about: "",
    parents: &[],
    keys: &[req(
        "inputs",
        Other("a list of component names"),
        "What it reads: names of sources and operators, `router.port` for one port.",
    )],
};

static FULL: Schema = Schema {
    title: "a sink",
    header: "",
    about: "",
    parents: &[],
    keys: &[
        TYPE,
        def(
            "when_full",
            OneOf(&["block", "drop_newest", "drop_oldest", "spill"]),
            "block",
            "What happens to messages for which there is no room: everything before them waits, \
             the newest or the oldest are dropped and counted, or they wait on disk (`spill`, \
             which needs `data_dir` in [daemon] and is not for [dead_letters]).",
        ),
        opt(
            "spill",
            Other("a table"),
            "defaults",
            "How they wait on disk, with `when_full = \"spill\"`.",
        ),
        def("buffer", Size(4 << 10, 1 << 34), "1MiB", "Bytes that may wait for the other side."),
    ],
};

pub(super) static ENCODED: Schema = Schema {
    title: "a sink",
    header: "",
    about: "",
    parents: &[&FULL],
    keys: &[def(
        "encode",
        Other("'json', 'text' or a table { type = \"csv\", columns = [...] }"),
        "json",
        "How a message becomes bytes. `text` writes the field `message`.",
    )],
};

pub(super) static CODED: Schema = Schema {
    title: "a sink",
    header: "",
    about: "",
    parents: &[&ENCODED],
    keys: &[opt(
        "frame",
        OneOf(super::FRAMES),
        "newline; datagram for datagrams",
        "How a message ends: `newline`, `u32` (a 4-byte big-endian length before it), `u32le` \
         (little-endian), `datagram`.",
    )],
};

pub(crate) static SINK_FILE: Schema = Schema {
    title: "a file sink",
    header: "type = \"file\"",
    about: "Files. Accepted means written, and synced when `fsync = \"always\"`.",
    parents: &[&CODED],
    keys: &[
        req(
            "path",
            Text,
            "Path, relative to the working directory, with `{FIELD}`, `{date}`, `{date:%Y/%m/%d-%H%M}` \
             (UTC) and `{shard}` filled in per message. `{{` is a brace, `{field:date}` the field \
             of that name.",
        ),
        def(
            "mode",
            OneOf(&["append", "truncate"]),
            "append",
            "Continue a file that is there, or empty it first.",
        ),
        opt("rotate", Other("a table"), "never", "When a new file is begun."),
        def(
            "fsync",
            Other("'never', 'rotate', 'always' or a duration"),
            "never",
            "When the kernel is told to write through: when a file is closed, this long after a \
             write, or after each write.",
        ),
    ],
};

pub(crate) static ROTATE: Schema = Schema {
    title: "rotate",
    header: "rotate = { ... }",
    about: "`size` and `keep` together bound what a file takes on disk, dead letters too: no more \
            than `keep` closed files of `size` and the one at hand stay, the oldest goes. Without \
            `keep` nothing is ever removed.",
    parents: &[],
    keys: &[
        opt(
            "size",
            Size(4 << 10, 1 << 50),
            "any size",
            "Close a file before it grows beyond this.",
        ),
        opt("every", Time(1_000_000, 366 * 86_400_000_000), "any age", "Close a file of this age."),
        opt("keep", Int(1, 1_000_000), "all", "How many closed files stay."),
    ],
};

pub(crate) static STDOUT: Schema = Schema {
    title: "a stdout sink",
    header: "type = \"stdout\"",
    about: "Standard output. Accepted means written.",
    parents: &[&CODED],
    keys: &[],
};

const ADDRESS: Key = req("address", Text, "`host:port` of the other side.");
const RETRY_KEY: Key =
    opt("retry", Other("a table"), "defaults", "Attempts when the other side fails.");

pub(super) const CLIENT_TLS_KEY: Key = opt(
    "tls",
    Other("a table { ca, cert, key, server_name }"),
    "not encrypted",
    "Whom to trust, and who this side is. `{}` is enough for a server that the system trusts.",
);

pub(crate) static SINK_TCP: Schema = Schema {
    title: "a tcp sink",
    header: "type = \"tcp\"",
    about: "A connection that the daemon opens, and opens again. A message is accepted when the \
            kernel has taken it, or, with `ack = \"lines\"`, when the other side has answered \
            with the number of lines of this connection that it has accepted, in decimal and \
            with a line feed.",
    parents: &[&CODED],
    keys: &[
        ADDRESS,
        def("connect_timeout", Time(1_000, 3_600_000_000), "5s", "How long connecting may take."),
        RETRY_KEY,
        CLIENT_TLS_KEY,
        def("ack", OneOf(&["none", "lines"]), "none", "What the other side acknowledges."),
        def(
            "ack_timeout",
            Time(10_000, 3_600_000_000),
            "30s",
            "With `ack`: a connection on which no acknowledgement comes for so long is made anew.",
        ),
    ],
};

pub(crate) static RETRY: Schema = Schema {
    title: "retry",
    header: "retry = { ... }",
    about: "Each wait is twice the one before, with jitter.",
    parents: &[],
    keys: &[
        def("min", Time(1_000, 3_600_000_000), "100ms", "The first wait."),
        def("max", Time(1_000, 86_400_000_000), "30s", "No wait is longer."),
        opt(
            "limit",
            Int(1, 1_000_000),
            "tries for ever",
            "After so many attempts in a row that failed, the messages at hand go to the dead \
             letters (`undelivered`), and the next ones have their turn.",
        ),
        opt(
            "circuit_breaker",
            Other("a table"),
            "none",
            "Stop trying for a while when attempts keep failing.",
        ),
    ],
};

pub(crate) static CIRCUIT_BREAKER: Schema = Schema {
    title: "circuit_breaker",
    header: "circuit_breaker = { ... }",
    about: "Opens after `failures` attempts in a row that failed: nothing is tried for `pause`, \
            then one attempt decides whether it closes or stays open for as long again. \
            Meanwhile messages wait, as `when_full` says.",
    parents: &[],
    keys: &[
        req("failures", Int(1, 1_000_000), "Attempts that fail in a row before it opens."),
        def("pause", Time(1_000, 86_400_000_000), "30s", "How long nothing is tried."),
    ],
};

pub(crate) static SINK_UDP: Schema = Schema {
    title: "a udp sink",
    header: "type = \"udp\"",
    about: "One datagram per message. Accepted means that the kernel took it; datagrams may be \
            lost on their way.",
    parents: &[&CODED],
    keys: &[ADDRESS],
};

pub(crate) static SINK_UNIX: Schema = Schema {
    title: "a unix sink",
    header: "type = \"unix\"",
    about: "A socket in the file system that someone else created. Accepted means that the kernel \
            took it.",
    parents: &[&CODED],
    keys: &[
        req("path", Text, "Where the socket is."),
        def("mode", OneOf(&["stream", "datagram"]), "stream", "A connection or datagrams."),
        RETRY_KEY,
    ],
};

pub(crate) static BLACKHOLE: Schema = Schema {
    title: "a blackhole sink",
    header: "type = \"blackhole\"",
    about: "Takes everything, counts it, keeps nothing. Accepted at once.",
    parents: &[&FULL],
    keys: &[],
};

macro_rules! with_inputs {
    ($($name:ident = $base:ident),* $(,)?) => {
        $(static $name: Schema = Schema {
            title: $base.title,
            header: $base.header,
            about: $base.about,
            parents: &[&INPUTS, &$base],
            keys: &[],
        };)*
    };
}

with_inputs! {
    FILE_IN = SINK_FILE,
    HTTP_IN = SINK_HTTP,
    MQTT_IN = SINK_MQTT,
    STDOUT_IN = STDOUT,
    TCP_IN = SINK_TCP,
    UDP_IN = SINK_UDP,
    UNIX_IN = SINK_UNIX,
    BLACKHOLE_IN = BLACKHOLE,
}

pub(crate) static SINKS: Family = Family {
    noun: "sink",
    types: &[
        ("file", &FILE_IN),
        ("http", &HTTP_IN),
        ("mqtt", &MQTT_IN),
        ("stdout", &STDOUT_IN),
        ("tcp", &TCP_IN),
        ("udp", &UDP_IN),
        ("unix", &UNIX_IN),
        ("blackhole", &BLACKHOLE_IN),
        ("event", &SINK_EVENT),
    ],
};

/// `[dead_letters]`: the same sinks without inputs.
pub(crate) static DEAD_LETTERS: Family = Family {
    noun: "sink",
    types: &[
        ("file", &SINK_FILE),
        ("http", &SINK_HTTP),
        ("mqtt", &SINK_MQTT),
        ("stdout", &STDOUT),
        ("tcp", &SINK_TCP),
        ("udp", &SINK_UDP),
        ("unix", &SINK_UNIX),
        ("blackhole", &BLACKHOLE),
    ],
};

pub(crate) static SPILL: Schema = Schema {
    title: "spill",
    header: "spill = { ... }",
    about: "What a sink has no room for waits in files below `data_dir`, in order, and goes out \
            before what comes later. A stored message is delivered as far as its source is \
            concerned: it is on stable storage before the source hears of it, survives \
            `kill -9` and a loss of power, and its file goes when the sink has accepted all of \
            it. What a sink has taken and does not accept for a quarter of a second is stored, \
            too. After a crash, at most what the sink accepted in the last 200 ms comes again.",
    parents: &[],
    keys: &[
        def(
            "max_size",
            Size(1 << 20, 1 << 50),
            "1GiB",
            "What the files may take together, on each shard.",
        ),
        def(
            "segment",
            Size(64 << 10, 1 << 30),
            "16MiB",
            "Size of one file. `max_size` is two of them at least.",
        ),
        def(
            "fsync",
            Other("'always' or a duration"),
            "200ms",
            "How far apart the kernel is told to write through. Sources wait for it; `always`: \
             again as soon as the last time is over.",
        ),
        opt(
            "resend_rate",
            Int(1, 1_000_000_000),
            "as fast as the sink",
            "Stored messages per second that go out at most.",
        ),
        def(
            "live_first",
            super::Kind::Bool,
            "false",
            "New messages go before stored ones, which follow when there is room. Order per key \
             does not hold then.",
        ),
        def(
            "when_full",
            OneOf(&["block", "drop_newest"]),
            "block",
            "What happens when there is no room on disk either.",
        ),
    ],
};

pub(crate) static ENCODE_CSV: Schema = Schema {
    title: "encode",
    header: "encode = { type = \"csv\", ... }",
    about: "",
    parents: &[],
    keys: &[
        req("type", OneOf(&["csv", "json", "text"]), "`csv`; the others have no keys."),
        opt("columns", Texts, "refused for csv", "Fields, in order."),
        def("header", super::Kind::Bool, "true", "Begin each file or connection with the names."),
        def("delimiter", Text, ",", "One ASCII character between fields."),
    ],
};
