//! Keys of HTTP sources and sinks.

use super::Kind::{Int, OneOf, Other, Size, Text, Time};
use super::source::{DECODED, LISTEN};
use super::{Schema, def, opt, req};

pub(crate) static HTTP: Schema = Schema {
    title: "an http source",
    header: "type = \"http\"",
    about: "Requests with messages (POST or PUT, HTTP/1.1), plain or packed with gzip. Answers: 200 \
            when the messages are in the flow (or accepted, see `respond`); 400 when some were \
            refused, which are dead letters then, while the others are in the flow: such a \
            request is not to be sent again; 401 without the token; 413 when the body is too \
            long; 429 and 503 with `Retry-After` when there is no room, and when the sinks have \
            not accepted in time.",
    parents: &[&DECODED],
    keys: &[
        LISTEN,
        def("path", Text, "/", "The path that messages are sent to; others are not found."),
        def(
            "body",
            OneOf(&["auto", "message", "lines", "array"]),
            "auto",
            "What a body is: one message, one per line, or a JSON array. `auto`: lines for a \
             content type of text or JSON lines and for csv, an array where JSON begins with `[`, \
             one message otherwise.",
        ),
        def("body_max", Size(1, 1 << 34), "16MiB", "Longest body, also after unpacking."),
        opt(
            "token",
            Text,
            "anyone may send",
            "Clients must send `Authorization: Bearer TOKEN`. Write it as `${NAME}`, to keep it \
             out of the file.",
        ),
        def(
            "respond",
            OneOf(&["accepted", "acked"]),
            "accepted",
            "When a request is answered: as soon as its messages are in the flow, or when every \
             sink that they reach has accepted them, so that an answer of 200 means that nothing \
             of it can be lost any more.",
        ),
        def("connections_max", Int(1, 1 << 20), "1024", "Connections at the same time."),
        def(
            "busy_after",
            Time(1_000, 3_600_000_000),
            "1s",
            "A request that the flow has had no room for so long is answered with 429.",
        ),
        def(
            "ack_timeout",
            Time(1_000, 3_600_000_000),
            "30s",
            "With `respond = \"acked\"`: a request whose messages have not been accepted after so \
             long is answered with 503. They may still be; so they may come twice when they are \
             sent again.",
        ),
        def(
            "request_timeout",
            Time(1_000, 3_600_000_000),
            "30s",
            "How long a client may take to send a request, and to take its answer.",
        ),
        def(
            "idle_timeout",
            Time(1_000, 86_400_000_000),
            "75s",
            "How long a connection may be open without a request.",
        ),
        opt(
            "tls",
            Other("a table { cert, key, client_ca }"),
            "not encrypted",
            "Certificate and private key for HTTPS, and whose certificates clients need.",
        ),
    ],
};

pub(crate) static SINK_HTTP: Schema = Schema {
    title: "an http sink",
    header: "type = \"http\"",
    about: "Requests with messages (HTTP/1.1). An answer of 2xx means accepted; 408, 425, 429, 5xx, \
            no answer and a broken connection mean another attempt, after `Retry-After` where the \
            server says it; anything else is the server's last word, and the messages of the \
            request are dead letters with it.",
    parents: &[&super::sink::ENCODED],
    keys: &[
        req(
            "url",
            Text,
            "Where requests go: `http://` or `https://`, with `{FIELD}`, `{date}` and `{shard}` \
             filled in behind the host.",
        ),
        def("method", OneOf(&["POST", "PUT", "PATCH"]), "POST", "The method of requests."),
        opt(
            "body",
            OneOf(&["array", "lines", "message"]),
            "array; lines where encode is not json",
            "What a request holds: a JSON array of messages, one message per line, or one message \
             alone.",
        ),
        opt(
            "headers",
            Other("a table of header lines"),
            "none",
            "More header lines, filled in per message like `url`; messages that give different \
             lines go in different requests.",
        ),
        opt("batch", Other("a table"), "defaults", "When a request is sent."),
        def("compress", OneOf(&["none", "gzip"]), "none", "Whether bodies are packed."),
        opt(
            "token",
            Text,
            "none is sent",
            "Sent as `Authorization: Bearer TOKEN`; write `${NAME}`.",
        ),
        opt("username", Text, "none is sent", "Sent with `password` as `Authorization: Basic`."),
        opt("password", Text, "none is sent", "Belongs to `username`; write `${NAME}`."),
        def(
            "connections",
            Int(1, 64),
            "1",
            "Requests at the same time. With more than one, the order of messages is not kept.",
        ),
        def(
            "timeout",
            Time(1_000, 3_600_000_000),
            "30s",
            "How long connecting may take, and each answer.",
        ),
        opt("retry", Other("a table"), "defaults", "Attempts when the server fails."),
        opt(
            "tls",
            Other("a table { ca, cert, key, server_name }"),
            "as the system trusts",
            "For `https`: whom to trust, and who this side is.",
        ),
    ],
};

pub(crate) static HTTP_BATCH: Schema = Schema {
    title: "batch",
    header: "batch = { ... }",
    about: "A request of an http sink is sent when one of these is reached. One that the server \
            finds too large (413) goes out again in halves, and later ones are sent at that size.",
    parents: &[],
    keys: &[
        def("count", Int(1, 1_000_000), "500", "So many messages."),
        def("bytes", Size(1, 1 << 30), "512KiB", "So many bytes, before packing."),
        def("linger", Time(0, 3_600_000_000), "100ms", "The first message has waited so long."),
    ],
};
