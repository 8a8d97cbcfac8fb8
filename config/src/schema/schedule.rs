//! Keys of a flow's schedule.

use super::Kind::{Int, OneOf, Other, Text, Texts, Time};
use super::operator_keyed::LONG_US;
use super::{Schema, def, opt};

pub(crate) static SCHEDULE: Schema = Schema {
    title: "[schedule]",
    header: "[schedule]",
    about: "When the flow runs; without it, it runs all the time. A run begins at the times of \
            `cron`, when a file appears (`files`), or when a message comes on a topic (`mqtt`), \
            and ends when all sources have come to their end, or after `duration`: `cron = \"0 0 22 * * *\"` with `duration = \"6h\"` is \
            a window, in which the flow runs also when the daemon is started inside it. A run is \
            a start of the flow like any other: what it reads again is told by its sources, and \
            with a data folder they go on where the run before ended. Runs are remembered, with a \
            data folder also over a restart (`ringmain flows schedule NAME`). To begin one on a \
            message of any other source, give its flow a suspended schedule and let another flow \
            post to `/api/v1/flows/NAME/start` with an http sink.",
    parents: &[],
    keys: &[
        opt(
            "cron",
            Text,
            "refused without another of the three",
            "Times: seconds, minutes, hours, day of the month, month, day of the week, as of the \
             timer source.",
        ),
        def("timezone", Text, "UTC", "Zone of `cron`, as `Europe/Berlin`."),
        opt(
            "files",
            Texts,
            "refused without another of the three",
            "Glob, or list of globs: a run begins when a file is there that was not, or that has \
             been replaced by another one. Looked at every second.",
        ),
        opt(
            "mqtt",
            Other("a table { url = \"mqtt://...\", topics = \"...\" }"),
            "refused without another of the three",
            "A run begins when a message comes.",
        ),
        def(
            "settle",
            Time(0, 86_400_000_000),
            "1s",
            "For `files`: a file counts when it has not changed for so long.",
        ),
        opt(
            "duration",
            Time(1_000_000, LONG_US),
            "until the sources end",
            "How long a run may last; then it is drained.",
        ),
        def(
            "overlap",
            OneOf(&["skip", "queue", "restart"]),
            "skip",
            "What happens at a time, a file or a message that comes while the flow runs: nothing, \
             one more run after this one (however many come), or the run is drained and another \
             begins.",
        ),
        def(
            "misfire",
            OneOf(&["skip", "once"]),
            "once",
            "What happens at the start to times, and files, that came while the daemon was \
             stopped: nothing, or one run for all of them. Without a data folder nothing is \
             known of times; files that are there count as having come. Messages that the broker \
             has kept come one after another, and `overlap` says what they do.",
        ),
        def("history", Int(1, 1_000), "100", "Runs that are remembered."),
    ],
};
