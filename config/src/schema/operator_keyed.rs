//! Keys of the operators that remember something by key.

use super::Kind::{Expr, Int, Number, OneOf, Other, Size, Text, Texts, Time};
use super::operator::COMMON;
use super::{Key, Schema, def, opt, req};

const DAY_US: u64 = 86_400_000_000;

/// Longest interval: ten years.
pub(super) const LONG_US: u64 = 3_653 * DAY_US;

/// What every operator by key has.
const KEY: Key = opt(
    "key",
    Texts,
    "the flow's partition key, else all messages have the same",
    "Fields whose values are the key. In a flow with [partition] it has all of that key's \
     fields. A message without one of them becomes a dead letter.",
);

pub(super) static KEYED: Schema = Schema {
    title: "an operator by key",
    header: "",
    about: "",
    parents: &[&COMMON],
    keys: &[
        KEY,
        def(
            "max_keys",
            Int(1, 100_000_000),
            "100000",
            "Keys that are remembered at most, on each shard. When there are more, those that \
             were not seen for long are forgotten and counted as evicted.",
        ),
        opt(
            "ttl",
            Time(1_000_000, LONG_US),
            "as long as there is room",
            "Forget keys that were not seen for so long.",
        ),
    ],
};

static TIMED: Schema = Schema {
    title: "an operator by time",
    header: "",
    about: "",
    parents: &[],
    keys: &[
        def(
            "clock",
            OneOf(&["server", "event"]),
            "server",
            "`server` goes by when messages arrive here, `event` by their own time.",
        ),
        opt(
            "time_field",
            Text,
            "when the message came in",
            "For `event`: the field with the time, a number or a text such as \
             `2018-06-07T11:06:00.000Z` (dots between the parts of the date do as well).",
        ),
        def("time_unit", OneOf(&["s", "ms", "us"]), "ms", "Unit of times that are numbers."),
    ],
};

pub(crate) static CHANGE: Schema = Schema {
    title: "a change_detector operator",
    header: "type = \"change_detector\"",
    about: "Drops messages whose watched fields have the values that they had in the last \
            message of the same key that passed. `key = [\"entityId\", \"aspect\"]` with \
            `fields = [\"status\"]` passes each device's changes of status. A field that is \
            absent counts as a value.",
    parents: &[&KEYED],
    keys: &[
        opt("fields", Texts, "none: everything passes", "Watched fields."),
        def(
            "first",
            OneOf(&["pass", "drop"]),
            "pass",
            "What happens to the first message of a key.",
        ),
        opt(
            "deadband",
            Number(0.0, f64::MAX),
            "any change counts",
            "A number must differ by more than this from the last one that passed.",
        ),
    ],
};

pub(crate) static SAMPLE: Schema = Schema {
    title: "a sample operator",
    header: "type = \"sample\"",
    about: "Passes one message per key, and drops the others until the interval is over: \
            `every = \"15m\"`. With `clock = \"server\"` a message that arrives one minute after \
            another is dropped whatever the times in them say. A clock of the messages that goes \
            back by more than the interval begins anew.",
    parents: &[&KEYED, &TIMED],
    keys: &[req("every", Time(1, LONG_US), "The interval.")],
};

pub(crate) static HYSTERESIS: Schema = Schema {
    title: "a hysteresis operator",
    header: "type = \"hysteresis\"",
    about: "Passes a message that meets a condition, then drops all of its key until a message \
            has met another condition: with `emit_when = \"rpm > 100\"` and \
            `release_when = \"rpm < 80\"` a motor that swings between 99 and 101 is reported \
            once. Both are asked of every message; of one that meets both, the release counts \
            first.",
    parents: &[&KEYED],
    keys: &[
        req("emit_when", Expr, "Messages that may pass."),
        opt("release_when", Expr, "every match passes", "Messages that let the next one pass."),
    ],
};

const RATE: (f64, f64) = (1e-9, 1e9);

pub(crate) static THROTTLE: Schema = Schema {
    title: "a throttle operator",
    header: "type = \"throttle\"",
    about: "Lets so many messages of a key pass in a time (GCRA): `rate = 100` passes 100 a \
            second, and after a pause as many at once. `limits` has other limits for some keys: \
            `limits = { \"tenant-a\" = 5, \"tenant-b\" = { rate = 10, per = \"1m\" } }`, or the name \
            of a CSV file beside the flow with the columns `key`, `rate` and, if it likes, `per` \
            and `burst`. A key of several fields is written with commas between the values.",
    parents: &[&KEYED],
    keys: &[
        req("rate", Number(RATE.0, RATE.1), "Messages per key in the time `per`."),
        def("per", Time(1, LONG_US), "1s", "The time."),
        opt("burst", Int(1, 1 << 40), "rate, rounded up", "Messages at once, after a pause."),
        opt(
            "limits",
            Other("a table of key = rate or key = { rate = ..., ... }, or a CSV file"),
            "the same for all",
            "Limits of single keys.",
        ),
        def(
            "over",
            OneOf(&["drop", "delay", "dead_letter", "port"]),
            "drop",
            "What happens to a message above the limit. `delay` lets it wait for its time, in \
             order; `port` sends it to the port `over` (`inputs = [\"name.over\"]`).",
        ),
        def("delay_buffer", Size(1 << 10, 1 << 40), "1MiB", "For `delay`: what may wait."),
        def(
            "delay_full",
            OneOf(&["drop", "dead_letter", "port"]),
            "dead_letter",
            "For `delay`: what happens to a message for which the buffer has no room.",
        ),
    ],
};

pub(crate) static LIMIT: Schema = Schema {
    title: "a limit",
    header: "limits = { KEY = { ... } }",
    about: "",
    parents: &[],
    keys: &[
        req("rate", Number(RATE.0, RATE.1), "Messages in the time `per`."),
        opt("per", Time(1, LONG_US), "the operator's", "The time."),
        opt("burst", Int(1, 1 << 40), "rate, rounded up", "Messages at once, after a pause."),
    ],
};

pub(crate) static SPLIT: Schema = Schema {
    title: "a split operator",
    header: "type = \"split\"",
    about: "Makes a message of each element of a list: `field = \"readings\"` makes of \
            `{\"id\":1,\"readings\":[{\"x\":2},{\"x\":3}]}` the messages `{\"id\":1,\"x\":2}` and \
            `{\"id\":1,\"x\":3}`. An element that is no object stays under the list's name. A \
            message without the list becomes a dead letter, one with an empty list none.",
    parents: &[&COMMON],
    keys: &[
        def("field", Text, "value", "The list. A JSON text that is a list comes in as `value`."),
        opt(
            "into",
            Text,
            "its fields become fields of the message",
            "The field that gets each element.",
        ),
        opt("index", Text, "no number", "The field that gets the element's number, from 0."),
        opt("keep", Texts, "all", "Fields of the message that stay beside the element's."),
    ],
};

pub(crate) static TIME_SERIES: Schema = Schema {
    title: "a time_series operator",
    header: "type = \"time_series\"",
    about: "Makes a message of each record of a time series, as `[{\"_time\":\"...\",\"rpm\":90,\
            \"rpm_qc\":0}, ...]`, alone or in a field beside others (`entityId`), which all of \
            its messages have then. A record without its time becomes a dead letter, alone.",
    parents: &[&COMMON],
    keys: &[
        def("field", Text, "value", "The list. A JSON text that is a list comes in as `value`."),
        def("time_field", Text, "_time", "Where a record has its time."),
        opt("timestamp", Text, "none", "A field that gets the time as a number."),
        def("time_unit", OneOf(&["s", "ms", "us"]), "ms", "Unit of times that are numbers."),
        def("quality_suffix", Text, "_qc", "How the name of a value's quality ends."),
        def(
            "quality",
            OneOf(&["keep", "remove", "good"]),
            "keep",
            "`remove` removes quality fields, `good` also the values whose quality is not 0 or \
             \"good\".",
        ),
    ],
};

pub(crate) static AGGREGATE: Schema = Schema {
    title: "an aggregate operator",
    header: "type = \"aggregate\"",
    about: "Makes a message per key and window of time, with the key's fields, `window_start`, \
            `window_end` (in `time_unit`) and what `compute` says: `window = \"1m\"` with `compute = \
            { n = \"count()\", mean_rpm = \"mean(rpm)\", p99 = \"percentile(rpm, 99)\" }`. Functions: \
            `count()`, `count(field)`, `sum`, `min`, `max`, `mean`, `stddev` (of a sample), \
            `percentile(field, 0 to 100)` (within 1 %), `first`, `last`, and `distinct` (exact up to \
            1,024 values, then within some 3 %). A field that is absent is passed over; one that is \
            no number where one is needed makes a dead letter. By `clock = \"server\"` a window \
            leaves at its end; by `event`, when a message of the same partition is later than its \
            end by `allowed_lateness`. What is open when a flow ends leaves then.",
    parents: &[&COMMON, &TIMED],
    keys: &[
        KEY,
        def(
            "max_keys",
            Int(1, 100_000_000),
            "10000",
            "Keys with open windows at most, on each shard. Messages of others become dead letters.",
        ),
        req("window", Time(1_000, LONG_US), "How long a window is."),
        opt(
            "slide",
            Time(1_000, LONG_US),
            "the window's length",
            "How often a window begins; the window's length is a multiple of it.",
        ),
        req("compute", Other("a table of field = \"function(field)\""), "What the result has."),
        def(
            "allowed_lateness",
            Time(0, LONG_US),
            "0s",
            "For `event`: how much earlier than the latest seen a message may be.",
        ),
        def(
            "late",
            OneOf(&["drop", "dead_letter", "port"]),
            "drop",
            "What happens to a message whose windows have left: it is counted and dropped, becomes \
             a dead letter, or leaves through the port `late` (`inputs = [\"name.late\"]`).",
        ),
    ],
};
