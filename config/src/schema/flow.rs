//! Keys at the top of a flow file.

use super::Kind::{Bool, Other, Text, Time};
use super::{Schema, def, opt};

pub(crate) static FLOW: Schema = Schema {
    title: "a flow",
    header: "FLOW.toml",
    about: "One flow: sources, operators and sinks, joined by `inputs`.",
    parents: &[],
    keys: &[
        opt("name", Text, "the file's name", "Name of the flow, unique in the daemon."),
        def(
            "allow_loss",
            Bool,
            "false",
            "Allow an edge that drops behind a source that could send again.",
        ),
        def(
            "drain",
            Time(0, 86_400_000_000),
            "10s",
            "How long a stopping flow may take to empty itself.",
        ),
        opt("sources", Other("tables [sources.NAME]"), "refused", "Where messages come from."),
        opt("operators", Other("tables [operators.NAME]"), "none", "What is done to them."),
        opt("sinks", Other("tables [sinks.NAME]"), "refused", "Where they go."),
        opt("partition", Other("a table"), "order per source", "Order and state per key."),
        opt(
            "dead_letters",
            Other("a table"),
            "refused messages are counted and dropped",
            "A sink for messages that a component refused, with the reason.",
        ),
        opt(
            "event_types",
            Other("tables [event_types.NAME], or the name of a TOML file with tables [NAME]"),
            "none",
            "What events of each type must have: for sinks of type `event`.",
        ),
        opt("schedule", Other("a table"), "it runs all the time", "When the flow runs."),
        opt("tests", Other("tables [[tests]]"), "none", "Tests that `ringmain test` runs."),
    ],
};
