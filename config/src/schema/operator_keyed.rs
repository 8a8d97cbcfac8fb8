//! Keys of the operators that remember something by key.

use super::Kind::{Expr, Int, Number, OneOf, Text, Texts, Time};
use super::operator::COMMON;
use super::{Schema, def, opt, req};

const DAY_US: u64 = 86_400_000_000;

/// Longest interval: ten years.
pub(super) const LONG_US: u64 = 3_653 * DAY_US;

pub(super) static KEYED: Schema = Schema {
    title: "an operator by key",
    header: "",
    about: "",
    parents: &[&COMMON],
    keys: &[
        opt(
            "key",
            Texts,
            "the flow's partition key, else all messages have the same",
            "Fields whose values are the key. In a flow with [partition] it has all of that key's \
             fields. A message without one of them becomes a dead letter.",
        ),
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
    title: "an operator by key and time",
    header: "",
    about: "",
    parents: &[&KEYED],
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
        def("time_unit", OneOf(&["s", "ms", "us"]), "ms", "For `event`: unit of numbers."),
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
    parents: &[&TIMED],
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
