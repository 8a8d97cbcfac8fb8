//! Keys of the event sink and of event types.

use super::Kind::{Bool, Int, OneOf, Other, Texts, Time};
use super::operator_keyed::LONG_US;
use super::sink::{INPUTS, TYPE};
use super::{Family, SINK_FILE, SINK_HTTP, SINK_MQTT, Schema, def, opt, req};

const VALUE: super::Kind =
    Other("a Lua expression in a string, a number, true, false, or { value = \"a text\" }");

pub(crate) static SINK_EVENT: Schema = Schema {
    title: "an event sink",
    header: "type = \"event\"",
    about: "Makes an event of each message and sends it with the sink in `to`. An event has the \
            fields `entityId`, `timestamp`, `typeId`, `description`, `source`, `code`, `severity`, \
            `acknowledged` and those in `fields`, and nothing else of the message. Each is an \
            expression over the message or a constant. A message that makes no event is a dead \
            letter that names the field. In figures and pictures the making of events is an \
            operator of its own, `NAME_event`.",
    parents: &[&INPUTS],
    keys: &[
        TYPE,
        req("to", Other("a table { type = \"file\", ... }"), "A sink of type file, http or mqtt."),
        def("entity", VALUE, "entityId", "What it is about: a text or a whole number."),
        opt(
            "timestamp",
            VALUE,
            "the message's `timestamp`, else when it came in",
            "When it was: a number or a text such as `2018-06-07T11:06:00Z`.",
        ),
        opt("event_type", VALUE, "none", "Name of its type, which [event_types] may describe."),
        opt("description", VALUE, "none", "A text for people."),
        opt("source", VALUE, "none", "A text: who says so."),
        opt("code", VALUE, "none", "A text or a whole number for programs."),
        opt("severity", VALUE, "none", "A whole number: 20 error, 30 warning, 40 information."),
        def("acknowledged", VALUE, "false", "Whether somebody has taken note of it."),
        opt("fields", Other("a table of field = value"), "none", "Fields of its own."),
        def(
            "new_types",
            OneOf(&["create", "refuse"]),
            "create",
            "What happens to an event of a type that [event_types] does not have: the type is \
             made with the fields of this event and their types, which later ones must have for \
             as long as the flow runs, or the event is a dead letter.",
        ),
        opt("dedupe", Other("a table"), "every event is sent", "Drop repeats, and count them."),
    ],
};

pub(crate) static DEDUPE: Schema = Schema {
    title: "dedupe",
    header: "dedupe = { ... }",
    about: "One event per key goes out in an interval, by the daemon's clock; others are dropped \
            and counted.",
    parents: &[],
    keys: &[
        req("every", Time(1, LONG_US), "The interval."),
        opt(
            "key",
            Texts,
            "`entityId`, and `typeId` and `code` where the sink sets them",
            "Fields of the event that make it the same.",
        ),
        def("max_keys", Int(1, 100_000_000), "100000", "Keys that are remembered, on each shard."),
    ],
};

pub(crate) static EVENT_TYPE: Schema = Schema {
    title: "an event type",
    header: "[event_types.NAME]",
    about: "What events of a type must have. In a file of its own it is `[NAME]`.",
    parents: &[],
    keys: &[
        opt("severities", Other("a list of whole numbers"), "any", "Severities that it may have."),
        opt(
            "fields",
            Other("a table of field = \"type\" or field = { type = ..., required = ... }"),
            "none",
            "Its own fields; an event may have no others. Types are `string`, `integer`, \
             `number`, `boolean`, `timestamp` and `any`.",
        ),
    ],
};

pub(crate) static EVENT_FIELD: Schema = Schema {
    title: "a field of an event type",
    header: "FIELD = { ... }",
    about: "",
    parents: &[],
    keys: &[
        req(
            "type",
            OneOf(&["string", "integer", "number", "boolean", "timestamp", "any"]),
            "What it holds.",
        ),
        def("required", Bool, "true", "Whether every event has it."),
    ],
};

/// `to` of an event sink.
pub(crate) static EVENT_TO: Family = Family {
    noun: "sink",
    types: &[("file", &SINK_FILE), ("http", &SINK_HTTP), ("mqtt", &SINK_MQTT)],
};
