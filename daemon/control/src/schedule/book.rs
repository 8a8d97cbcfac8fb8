//! What is remembered of a schedule: its runs, the last time that was due, the
//! files that are known. Kept below `data_dir/schedule`, one file per flow,
//! replaced as a whole; without a data folder, as long as the process lives.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ringmain_shard::rfc3339;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::arrivals::Known;
use crate::whole_file::replace;

/// Why a run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// Its time had come.
    Time,
    /// A file had appeared.
    File,
    /// A message had come.
    Message,
    /// Somebody started the flow, or put another version in.
    Manual,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It goes on.
    Running,
    /// Its sources came to their end.
    Completed,
    /// Its duration was over, and it was drained.
    Expired,
    /// Somebody stopped it.
    Stopped,
    /// The next run took its place.
    Restarted,
    /// Another version of the flow took its place.
    Replaced,
    /// It could not be started, or a component gave up.
    Failed,
    /// The daemon was stopped.
    DaemonEnded,
    /// The daemon died while it was on: its counts are not known.
    Interrupted,
}

/// What a run came to, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Counts {
    /// From the sources.
    pub messages_in: u64,
    /// Through the sinks.
    pub messages_out: u64,
    /// Dropped on purpose or by a full edge.
    pub dropped: u64,
    /// Refused.
    pub dead: u64,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Run {
    /// Counts up from 1.
    pub number: u64,
    pub cause: Cause,
    /// The topic of the message that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    pub result: Outcome,
    /// When it was due (RFC 3339).
    pub due: String,
    /// When it began.
    pub started: String,
    /// When it ended.
    pub ended: Option<String>,
    #[serde(flatten)]
    pub counts: Counts,
    /// What went wrong.
    pub errors: Vec<String>,
}

/// Everything that is remembered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Book {
    pub suspended: bool,
    /// The last time that was due.
    pub last_due_us: Option<i64>,
    /// Files that are known; none before the first look.
    pub known: Option<Known>,
    /// Filters that the broker may have subscriptions of.
    #[serde(default)]
    pub filters: Vec<String>,
    /// Runs that ever began.
    pub started: u64,
    /// Those that failed.
    pub failed: u64,
    /// Times, files and messages that came while the flow ran, and began
    /// nothing.
    pub skipped: u64,
    /// The oldest first.
    pub runs: VecDeque<Run>,
}

impl Book {
    pub(crate) fn begin(
        &mut self,
        (cause, topic): (Cause, Option<String>),
        due_us: i64,
        now_us: i64,
        keep: usize,
    ) {
        self.started += 1;
        self.runs.push_back(Run {
            number: self.started,
            cause,
            topic,
            result: Outcome::Running,
            due: rfc3339(due_us),
            started: rfc3339(now_us),
            ended: None,
            counts: Counts::default(),
            errors: Vec::new(),
        });
        while self.runs.len() > keep {
            self.runs.pop_front();
        }
    }

    pub(crate) fn end(
        &mut self,
        result: Outcome,
        now_us: i64,
        counts: Counts,
        errors: Vec<String>,
    ) {
        self.failed += u64::from(result == Outcome::Failed);
        if let Some(run) = self.runs.back_mut() {
            (run.result, run.counts, run.errors) = (result, counts, errors);
            run.ended = Some(rfc3339(now_us));
        }
    }

    /// Whether the run of that time came to its end by itself, or by somebody's
    /// hand: there is nothing left of it to be made up for.
    pub(crate) fn is_done(&self, due_us: i64) -> bool {
        let due = rfc3339(due_us);
        self.runs.iter().rev().find(|run| run.due == due).is_some_and(|run| {
            !matches!(run.result, Outcome::DaemonEnded | Outcome::Interrupted | Outcome::Running)
        })
    }
}

/// Where books are kept.
pub(crate) struct Shelf {
    dir: Option<PathBuf>,
}

impl Shelf {
    pub(crate) fn at(data_dir: Option<&Path>) -> Self {
        Self { dir: data_dir.map(|dir| dir.join("schedule")) }
    }

    /// What is known of a flow's schedule.
    pub(crate) fn load(&self, name: &str) -> Book {
        let Some(path) = self.path(name) else { return Book::default() };
        let mut book: Book = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::error!("{}: {error}: the runs before are forgotten", path.display());
                Book::default()
            }),
            Err(_) => Book::default(),
        };
        for run in book.runs.iter_mut().filter(|run| run.result == Outcome::Running) {
            run.result = Outcome::Interrupted;
        }
        book
    }

    pub(crate) fn save(&self, name: &str, book: &Book) {
        let Some(path) = self.path(name) else { return };
        let write = || -> io::Result<()> {
            let text = serde_json::to_vec(book).map_err(io::Error::other)?;
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            replace(&path, &path.with_extension("new"), &[&text])
        };
        if let Err(error) = write() {
            tracing::error!("{}: {error}: its runs are not remembered", path.display());
        }
    }

    pub(crate) fn forget(&self, name: &str) {
        if let Some(path) = self.path(name) {
            // One that was never there is as good.
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(format!("{name}.json")))
    }
}
