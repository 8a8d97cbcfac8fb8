//! Keys of the daemon's own file.

use super::Kind::{Bool, Int, OneOf, Other, Size, Text, Texts, Time};
use super::{Schema, def, opt, req};

pub(crate) static ROOT: Schema = Schema {
    title: "the daemon's file",
    header: "ringmain.toml",
    about: "The daemon's own file. Every table may be absent.",
    parents: &[],
    keys: &[
        opt("daemon", Other("a table"), "defaults", "Name, data folder and flow files."),
        opt("shards", Other("a table"), "defaults", "Cores and memory."),
        opt("api", Other("a table"), "no listener", "The listener for REST, metrics and console."),
        opt("metrics", Other("a table"), "defaults", "Where figures are sent or served."),
        opt("log", Other("a table"), "defaults", "What is logged and how."),
    ],
};

pub(crate) static DAEMON: Schema = Schema {
    title: "[daemon]",
    header: "[daemon]",
    about: "",
    parents: &[],
    keys: &[
        def("name", Text, "ringmain", "Name in logs and metrics."),
        opt(
            "data_dir",
            Text,
            "no checkpoints",
            "Folder for checkpoints and state, relative to the working directory.",
        ),
        def(
            "checkpoint_every",
            Time(10_000, 3_600_000_000),
            "1s",
            "How often positions of sources and state of operators are stored in `data_dir`.",
        ),
        opt(
            "flows",
            Texts,
            "none",
            "Globs of flow files, or folders of them, relative to this file. Not used when flow \
             files are named on the command line.",
        ),
    ],
};

pub(crate) static SHARDS: Schema = Schema {
    title: "[shards]",
    header: "[shards]",
    about: "",
    parents: &[],
    keys: &[
        def("cores", Text, "auto", "Cores that carry a shard: `auto`, or a list such as `0-3,6`."),
        def(
            "memory",
            Size(16 << 20, 1 << 44),
            "256MiB",
            "Budget of the whole process for messages in flight.",
        ),
        def("slab", Size(4 << 10, 16 << 20), "64KiB", "Size of a slab, the unit that moves."),
        def(
            "linger",
            Time(0, 10_000_000),
            "1ms",
            "How long a partly filled slab may wait for more messages.",
        ),
    ],
};

pub(crate) static API: Schema = Schema {
    title: "[api]",
    header: "[api]",
    about: "",
    parents: &[],
    keys: &[
        opt("listen", Text, "no listener", "Address and port, for example `127.0.0.1:8642`."),
        opt("tls", Other("a table { cert, key }"), "plain HTTP", "Certificate and private key."),
        opt(
            "auth",
            Text,
            "no tokens",
            "File with tokens and their scopes. Required for an address that other machines \
             reach.",
        ),
        opt("audit", Text, "the log only", "File that every change is appended to, as JSON lines."),
        def("body", Size(1 << 10, 64 << 20), "1MiB", "Largest body of a request."),
        def("rate", Int(1, 1_000_000), "200", "Requests per second of one peer."),
    ],
};

pub(crate) static AUTH: Schema = Schema {
    title: "the auth file",
    header: "auth = \"FILE\"",
    about: "The file that `auth` of [api] names. It is read again when it changes.",
    parents: &[],
    keys: &[req("tokens", Other("an array of tables: [[tokens]]"), "Who may do what.")],
};

pub(crate) static TOKEN: Schema = Schema {
    title: "[[tokens]]",
    header: "[[tokens]]",
    about: "One of `token` and `sha256`. `manage` includes both other scopes.",
    parents: &[],
    keys: &[
        req("name", Text, "Who it is, in the audit log."),
        opt("token", Text, "`sha256`", "The token, at least 16 characters."),
        opt("sha256", Text, "`token`", "The token's SHA-256 in hexadecimal digits."),
        req(
            "scopes",
            Texts,
            "`manage` (change flows), `read-management` (their definitions), `read-runtime` \
             (their figures).",
        ),
    ],
};

pub(crate) static TLS: Schema = Schema {
    title: "tls",
    header: "tls = { ... }",
    about: "",
    parents: &[],
    keys: &[
        req("cert", Text, "PEM file with the certificate chain."),
        req("key", Text, "PEM file with the private key."),
    ],
};

pub(crate) static METRICS: Schema = Schema {
    title: "[metrics]",
    header: "[metrics]",
    about: "",
    parents: &[],
    keys: &[
        opt("statsd", Text, "not sent", "`host:port` of a StatsD server."),
        opt("graphite", Text, "not sent", "`host:port` of a Graphite server."),
        opt("datadog", Text, "not sent", "`host:port` of a DogStatsD agent."),
        def("prefix", Text, "ringmain", "First part of every name that is sent or served."),
        def("every", Time(100_000, 600_000_000), "10s", "How often figures are sent."),
        opt("tags", Texts, "none", "`key:value` pairs that DogStatsD and Prometheus get."),
        def("prometheus", Bool, "true", "Serve `/metrics` on the API listener."),
        def("jolokia", Bool, "false", "Serve `/jolokia` on the API listener."),
    ],
};

pub(crate) static LOG: Schema = Schema {
    title: "[log]",
    header: "[log]",
    about: "",
    parents: &[],
    keys: &[
        def(
            "level",
            OneOf(&["error", "warn", "info", "debug", "trace"]),
            "info",
            "Least severe line that is written.",
        ),
        def("format", OneOf(&["text", "json"]), "text", "How lines look."),
    ],
};

pub(crate) static PARTITION: Schema = Schema {
    title: "[partition]",
    header: "[partition]",
    about: "Order and state per key. Without it order is kept per source.",
    parents: &[],
    keys: &[
        req("key", Texts, "Field, or list of fields, whose values are the key."),
        def(
            "count",
            Int(1, 4096),
            "64",
            "Slices of the key space, pinned to shards. Fixed for the life of the state.",
        ),
    ],
};
