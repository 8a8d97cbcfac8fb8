//! A schedule as it is shown.

use ringmain_config::SchedulePlan;
use ringmain_shard::rfc3339;
use serde::Serialize;
use utoipa::ToSchema;

use super::book::{Book, Outcome, Run};
use super::topics::ListenerReport;

/// When a flow runs, and how it went.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleReport {
    /// In a few words.
    pub schedule: String,
    /// `cron`, `files` or `mqtt`.
    pub trigger: &'static str,
    /// It begins nothing until it is resumed.
    pub suspended: bool,
    /// A run is on.
    pub running: bool,
    /// Another run follows the one that is on.
    pub queued: bool,
    /// The next time (RFC 3339); none for files and messages.
    pub next_run: Option<String>,
    /// Runs that ever began.
    pub runs_started: u64,
    /// Those that failed.
    pub runs_failed: u64,
    /// Times, files and messages that came while the flow ran, and began nothing.
    pub skipped: u64,
    /// Who listens for messages, and how that goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenerReport>,
    /// The last runs, the oldest first. The counts of one that is on are
    /// those of the flow.
    pub runs: Vec<Run>,
}

impl ScheduleReport {
    pub(super) fn new(
        plan: &SchedulePlan,
        book: &Book,
        next_us: Option<i64>,
        listener: Option<ListenerReport>,
        (running, queued): (bool, bool),
    ) -> Self {
        Self {
            schedule: plan.to_string(),
            trigger: plan.trigger.key(),
            suspended: book.suspended,
            running,
            queued,
            next_run: next_us.map(rfc3339),
            runs_started: book.started,
            runs_failed: book.failed,
            skipped: book.skipped,
            listener,
            runs: book.runs.iter().cloned().collect(),
        }
    }

    /// When the last run began, and what became of it.
    pub(crate) fn last(&self) -> Option<(&str, Outcome)> {
        self.runs.last().map(|run| (run.started.as_str(), run.result))
    }
}
