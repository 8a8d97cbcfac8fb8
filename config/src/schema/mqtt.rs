//! Keys of the MQTT source and sink.

use super::Kind::{Bool, Int, OneOf, Other, Text, Time};
use super::{Schema, def, opt, req};

const DAY_US: u64 = 86_400_000_000;

/// What both have.
pub(super) static CLIENT: Schema = Schema {
    title: "an mqtt client",
    header: "",
    about: "",
    parents: &[],
    keys: &[
        req(
            "url",
            Text,
            "The broker: `mqtt://HOST:PORT`, or `mqtts://` for TLS. Without a port 1883 or 8883.",
        ),
        def(
            "version",
            OneOf(&["3.1.1", "5"]),
            "5",
            "The protocol. Only MQTT 5 says why a broker refuses something, and lets both sides \
             name a limit of messages under way.",
        ),
        opt(
            "client_id",
            Text,
            "`DAEMON-FLOW-COMPONENT`; `DAEMON-FLOW.schedule` for a schedule",
            "How the broker knows the session. No other client of the broker may use it.",
        ),
        def(
            "clean_start",
            Bool,
            "false",
            "Begin without what the broker keeps of an earlier session. With MQTT 5 this is for \
             the start of the daemon; with 3.1.1 for each connection, and what is sent while there \
             is none is lost.",
        ),
        def(
            "session_expiry",
            Time(0, 49_710 * DAY_US),
            "24h",
            "MQTT 5: how long the broker keeps the session, and the messages for it, without a \
             connection. In 3.1.1 the broker decides.",
        ),
        def(
            "keep_alive",
            Time(0, 65_535_000_000),
            "30s",
            "When nothing was sent for this long, a ping is; a broker that does not answer is \
             left. 0s: never.",
        ),
        opt("username", Text, "none", "For the broker."),
        opt(
            "password",
            Text,
            "none",
            "For the broker; write `${NAME}` to keep it out of the file.",
        ),
        opt(
            "last_will",
            Other("a table"),
            "none",
            "What the broker publishes when the connection breaks.",
        ),
        def(
            "max_inflight",
            Int(1, 65_535),
            "1000",
            "Messages of QoS 1 and 2 that may be under way without an acknowledgement. A broker \
             may have a lower limit, which is kept.",
        ),
        def(
            "connect_timeout",
            Time(1_000, 3_600_000_000),
            "5s",
            "How long connecting may take, the broker's answer included.",
        ),
        super::sink::CLIENT_TLS_KEY,
        opt("retry", Other("a table"), "defaults", "Attempts when the other side fails."),
    ],
};

pub(crate) static MQTT: Schema = Schema {
    title: "an mqtt source",
    header: "type = \"mqtt\"",
    about: "Topics of an MQTT broker. A message of QoS 1 or 2 is acknowledged when every sink that \
            it reaches has accepted it, a refused one when its dead letter is stored. Subscribes \
            again after each reconnect. With shared subscriptions only (`$share/GROUP/...`) each \
            shard of a partitioned flow is a client of its own, `CLIENT_ID-SHARD`.",
    parents: &[&super::source::CODED, &CLIENT],
    keys: &[
        req(
            "topics",
            Other("a topic filter or a list; an entry may be { topic = \"...\", qos = 1 }"),
            "What to subscribe to, with `+` and `#`.",
        ),
        def("qos", Int(0, 2), "1", "Best quality of service of topics that name none."),
        opt("topic_field", Text, "not kept", "Put the topic of a message into this field."),
    ],
};

pub(crate) static MQTT_TRIGGER: Schema = Schema {
    title: "mqtt of a schedule",
    header: "mqtt = { ... }",
    about: "Messages that begin runs. The daemon listens for them as a client of its own, also \
            while the flow runs, and connects again by itself when the broker goes away; \
            `ringmain flows schedule NAME` says how it stands. A message of QoS 1 or 2 is \
            acknowledged when the run that it began is in the history, or when it was decided \
            that it begins none; one that comes again after a broken connection begins nothing \
            more. What the broker keeps for the session while the daemon is stopped comes at the \
            next start, unless `misfire` is `skip`. Retained messages from before the \
            subscription begin nothing, and neither does a message while the schedule is \
            suspended. The topic of a message is kept in the history, its payload is not.",
    parents: &[&CLIENT],
    keys: &[
        req(
            "topics",
            Other("a topic filter or a list; an entry may be { topic = \"...\", qos = 1 }"),
            "What to subscribe to, with `+` and `#`.",
        ),
        def("qos", Int(0, 2), "1", "Best quality of service of topics that name none."),
    ],
};

pub(crate) static MQTT_TOPIC: Schema = Schema {
    title: "a topic",
    header: "{ topic = ..., ... }",
    about: "An entry of `topics` of an mqtt source, or of a schedule.",
    parents: &[],
    keys: &[
        req("topic", Text, "The topic filter."),
        opt("qos", Int(0, 2), "that beside `topics`", "Best quality of service."),
    ],
};

pub(crate) static LAST_WILL: Schema = Schema {
    title: "last_will",
    header: "last_will = { ... }",
    about: "",
    parents: &[],
    keys: &[
        req("topic", Text, "Where it is published."),
        def("payload", Text, "", "What is published."),
        def("qos", Int(0, 2), "0", "Quality of service."),
        def("retain", Bool, "false", "The broker keeps it for those who subscribe later."),
    ],
};

pub(crate) static SINK_MQTT: Schema = Schema {
    title: "an mqtt sink",
    header: "type = \"mqtt\"",
    about: "Topics of an MQTT broker. Accepted means acknowledged by the broker (PUBACK, PUBCOMP); \
            with QoS 0 it means written. What was not acknowledged is sent again after a reconnect, \
            in the same order; with QoS 2 nothing comes twice as long as the broker keeps the \
            session. A message that the broker refuses is a dead letter (`rejected`); so is one \
            over which it ends the connection again and again without an answer, three times \
            when it is sent alone.",
    parents: &[&super::sink::CODED, &CLIENT],
    keys: &[
        req(
            "topic",
            Text,
            "Topic of each message, with `{FIELD}`, `{date}` and `{shard}` filled in. A message \
             whose topic would be empty, have a wildcard or be longer than 65535 bytes is a dead \
             letter.",
        ),
        def("qos", Int(0, 2), "1", "Quality of service."),
        def("retain", Bool, "false", "The broker keeps the last message of each topic."),
        opt("content_type", Text, "not sent", "MQTT 5: what the payload is."),
        opt(
            "message_expiry",
            Time(1_000_000, 49_710 * DAY_US),
            "never",
            "MQTT 5: after this time the broker forgets a message that nobody took.",
        ),
        opt(
            "user_properties",
            Other("a table of strings"),
            "none",
            "MQTT 5: names and values beside the payload; values are filled in like `topic`.",
        ),
    ],
};
