//! Keys of tests.

use super::Kind::{Bool, Expr, Int, Other, Text, Time};
use super::{Schema, opt, req};

/// Ten years, in microseconds.
const LONGEST_US: u64 = 3_650 * 86_400_000_000;

const MESSAGE_LIST: &str = "a list of messages: '{...}' or { field = value }";

pub(crate) static TEST: Schema = Schema {
    title: "a test",
    header: "[[tests]]",
    about: "A test of the flow, run by `ringmain test`: no I/O, no threads, and a clock that moves \
            only when\nthe test moves it. `insert`, `advance` and `expect` happen in this order; \
            `steps` has them in any\norder. A message that is refused fails the test, unless the \
            test expects something at\n`dead_letters`.",
    parents: &[],
    keys: &[
        req("name", Text, "What it shows, unique in the flow."),
        opt(
            "start",
            Other("a date with time and zone"),
            "2026-01-01T00:00:00Z",
            "Where the virtual clock begins.",
        ),
        opt("insert", Other("a list of tables"), "nothing", "Messages that are put in."),
        opt(
            "advance",
            Time(1, LONGEST_US),
            "not at all",
            "Moves the clock; timers fire on the way, each at its time.",
        ),
        opt("expect", Other("a list of tables"), "nothing", "What must have come out."),
        opt(
            "steps",
            Other("a list of tables"),
            "insert, advance, expect",
            "Tables with one or more of `insert`, `advance` and `expect`, one after the other.",
        ),
    ],
};

pub(crate) static TEST_STEP: Schema = Schema {
    title: "a step of a test",
    header: "steps = [{ ... }]",
    about: "",
    parents: &[],
    keys: &[
        opt("insert", Other("a list of tables"), "nothing", "As in the test."),
        opt("advance", Time(1, LONGEST_US), "not at all", "As in the test."),
        opt("expect", Other("a list of tables"), "nothing", "As in the test."),
    ],
};

pub(crate) static TEST_INSERT: Schema = Schema {
    title: "an insert of a test",
    header: "insert = [{ at = ..., ... }]",
    about: "One batch. Has `at` and one of `json`, `text`, `lines`, `message`. At a source what is \
            inserted\ngoes through its framing and its decoder, and all of a test's inserts at a \
            source are one stream\n(a CSV header comes first); at an operator or a sink it arrives \
            as it is. `${NAME}` in it is\nleft alone.",
    parents: &[],
    keys: &[
        req("at", Text, "The component."),
        opt("json", Other("a JSON object in a string"), "", "One message."),
        opt("text", Text, "", "The bytes of one frame, whatever they are. Only at a source."),
        opt(
            "lines",
            Text,
            "",
            "One frame per line; at an operator or a sink, one JSON object per line.",
        ),
        opt(
            "message",
            Other("a table of field = value"),
            "",
            "One message. At a source it leaves it without having been decoded.",
        ),
        opt("after", Time(1, LONGEST_US), "at once", "Moves the clock before, as `advance` does."),
    ],
};

pub(crate) static TEST_EXPECT: Schema = Schema {
    title: "an expectation of a test",
    header: "expect = [{ at = ..., ... }]",
    about: "Sees what came to a sink, or left a source or an operator, since the last `expect` \
            before this one\nthat named the same place. Numbers are equal when their values are, \
            1 and 1.0 for example.",
    parents: &[],
    keys: &[
        req(
            "at",
            Text,
            "The component, `router.port` for one port, or `dead_letters`: each with `component`, \
             `reason`, `detail`, and `message` or `raw`.",
        ),
        opt("none", Bool, "", "Nothing came. Can only be `true`, and stands alone."),
        opt("count", Int(0, i64::MAX), "", "So many came."),
        opt("messages", Other(MESSAGE_LIST), "", "Exactly these came, in this order."),
        opt(
            "contains",
            Other(MESSAGE_LIST),
            "",
            "For each of these a message of its own came that has at least its fields, nested \
             ones too.",
        ),
        opt("where", Expr, "", "True for every message that came, and at least one did."),
    ],
};
