//! Keys of operators.

use super::Kind::{Expr, Int, OneOf, Other, Size, Text, Texts, Time};
use super::{
    AGGREGATE, CHANGE, Family, HYSTERESIS, SAMPLE, SPLIT, Schema, THROTTLE, TIME_SERIES, def, opt,
    req,
};

pub(super) static COMMON: Schema = Schema {
    title: "an operator",
    header: "",
    about: "",
    parents: &[],
    keys: &[
        req("type", Text, "The kind of operator."),
        req(
            "inputs",
            Other("a list of component names"),
            "What it reads: names of sources and operators, `router.port` for one port.",
        ),
    ],
};

pub(crate) static FILTER: Schema = Schema {
    title: "a filter operator",
    header: "type = \"filter\"",
    about: "Keeps the messages for which an expression is true.",
    parents: &[&COMMON],
    keys: &[req("where", Expr, "For example `rpm > 100 and status ~= 'off'`.")],
};

pub(crate) static MAP: Schema = Schema {
    title: "a map operator",
    header: "type = \"map\"",
    about: "Changes fields, in the order `set`, `rename`, `remove`, `keep`.",
    parents: &[&COMMON],
    keys: &[
        opt(
            "set",
            Other("a table of field = \"expression\""),
            "nothing",
            "Fields and their expressions. Each sees the message as it came.",
        ),
        opt("remove", Texts, "nothing", "Fields that go, by their new names."),
        opt("rename", Other("a table of old = \"new\""), "nothing", "Fields that change names."),
        opt("keep", Texts, "all fields", "The only fields that stay, by their new names."),
    ],
};

pub(crate) static ROUTE: Schema = Schema {
    title: "a route operator",
    header: "type = \"route\"",
    about: "Sends each message to the port of the first condition that is true.",
    parents: &[&COMMON],
    keys: &[
        req(
            "routes",
            Other("a table of port = \"expression\""),
            "Ports and their conditions, tried in the order of the file.",
        ),
        opt("default", Text, "dropped and counted", "Port for what no condition takes."),
    ],
};

pub(crate) static LUA: Schema = Schema {
    title: "a lua operator",
    header: "type = \"lua\"",
    about: "A Lua script that returns a function, or a table with a function `process`. Give \
            either `source` or `script`. `require \"name\"` loads `name.lua` from the script's \
            folder, `lua/` beside the flow, or `../lua/`.",
    parents: &[&COMMON],
    keys: &[
        opt("source", Text, "script", "The code itself. `${NAME}` in it is left alone."),
        opt(
            "script",
            Text,
            "source",
            "A file: looked for beside the flow, in `lua/` beside it, in `../lua/`.",
        ),
        opt(
            "ports",
            Texts,
            "none",
            "Outputs besides the default one, read as `name.port`: for `ctx.emit(table, \"port\")` \
             and `return msg, \"port\"`.",
        ),
        opt("limits", Other("a table"), "defaults", "Time and memory that it may use."),
        opt(
            "config",
            Other("a table"),
            "empty",
            "What the script reads as `ctx.config`. A duration or a size stays the text that it is.",
        ),
    ],
};

pub(crate) static LIMITS: Schema = Schema {
    title: "limits",
    header: "limits = { ... }",
    about: "",
    parents: &[],
    keys: &[
        def("time", Time(1_000, 60_000_000), "100ms", "Per slab of messages and per timer."),
        def("memory", Size(1 << 20, 1 << 40), "64MiB", "Per operator and shard."),
        def("kills", Int(1, 1_000_000), "3", "Kills within 60 s before it is quarantined."),
        def(
            "when_quarantined",
            OneOf(&["dead_letters", "block"]),
            "dead_letters",
            "What becomes of its input then: every message is a dead letter, or the flow takes \
             nothing in. A new version of the script ends it.",
        ),
    ],
};

pub(crate) static OPERATORS: Family = Family {
    noun: "operator",
    types: &[
        ("filter", &FILTER),
        ("map", &MAP),
        ("route", &ROUTE),
        ("lua", &LUA),
        ("change_detector", &CHANGE),
        ("sample", &SAMPLE),
        ("hysteresis", &HYSTERESIS),
        ("throttle", &THROTTLE),
        ("aggregate", &AGGREGATE),
        ("split", &SPLIT),
        ("time_series", &TIME_SERIES),
    ],
};

pub(crate) static INPUT: Schema = Schema {
    title: "an input",
    header: "inputs = [{ from = ..., bound = ..., when_full = ... }]",
    about: "An input that may close a cycle: the way back is a queue of its own.",
    parents: &[],
    keys: &[
        req("from", Text, "The component that is read, or `router.port`."),
        req("bound", Size(4 << 10, 1 << 40), "What may wait on the way back."),
        req(
            "when_full",
            OneOf(&["block", "drop_newest", "drop_oldest"]),
            "What happens beyond. With `block` a cycle that makes more messages than it takes \
             stands still.",
        ),
    ],
};
