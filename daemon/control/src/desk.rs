//! Where changes are asked for: by the API, by signals, by files that change.
//!
//! The asker's side is a bounded channel and a wake of the controller; an
//! answer comes when the change is made, or has failed.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ringmain_config::FlowPlan;
use ringmain_ring::Wake;
use ringmain_runtime::Waker;
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

/// Changes that may wait.
const WAITING_MAX: usize = 64;

/// What is asked.
pub(crate) enum Command {
    /// A definition is new, or another; it runs from now on if `deploy`.
    Put {
        plan: Arc<FlowPlan>,
        text: Arc<str>,
        path: std::path::PathBuf,
        creator: String,
        deploy: bool,
    },
    /// Runs a flow that is known.
    Start { name: String },
    /// Drains a flow.
    Stop { name: String },
    /// Drains a flow and forgets it.
    Delete { name: String },
    /// Has a flow's schedule begin nothing, or go on.
    Suspend { name: String, suspend: bool },
    /// Reads the configuration's flows again.
    Reload,
    /// Reads a flow's scripts again.
    ReloadScripts { name: String },
}

/// What became of a change.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Report {
    /// The flow; for a reload those that it changed.
    pub flows: Vec<String>,
    /// `started`, `stopped`, `replaced`, `deleted`, `stored`, `scheduled`,
    /// `suspended`, `resumed`, `reloaded` or `unchanged`.
    pub action: &'static str,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether what was under way arrived before the old version ended.
    pub drained: bool,
    /// Of a flow that was replaced while it ran: what became of its components.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<Box<Components>>,
    /// Of a reload: what became of each flow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub reports: Vec<Report>,
}

/// Components of a flow by what became of them.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Components {
    /// They go on, with what they have open and what they know.
    pub kept: Vec<String>,
    /// Built anew because they changed.
    pub rebuilt: Vec<String>,
    /// New.
    pub added: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
    /// Why nothing could be kept, where that is so.
    pub whole: Option<String>,
    /// Messages that sinks which are gone had not accepted in time.
    pub discarded: u64,
    /// Messages that sinks could not get rid of, and that their successors
    /// send first.
    pub handed_over: u64,
}

impl std::fmt::Display for Components {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lists = [
            ("kept", &self.kept),
            ("rebuilt", &self.rebuilt),
            ("added", &self.added),
            ("removed", &self.removed),
        ];
        let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
        let lists: Vec<_> =
            lists.map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
        f.write_str(&lists.join("; "))?;
        if let Some(why) = &self.whole {
            write!(f, "; as a whole, since {why}")?;
        }
        if self.discarded > 0 {
            write!(f, "; {} messages discarded that no sink took in time", self.discarded)?;
        }
        if self.handed_over > 0 {
            write!(f, "; {} messages left to the next version to send", self.handed_over)?;
        }
        Ok(())
    }
}

/// Why a change was not made.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The old version goes on.
    pub rolled_back: bool,
    pub errors: Vec<String>,
}

impl Failure {
    pub(crate) fn new(error: impl Into<String>) -> Self {
        Self { rolled_back: false, errors: vec![error.into()] }
    }
}

pub(crate) type Answer = Result<Report, Failure>;

/// Changes that were asked for together; answered when the last is made.
pub(crate) struct Together {
    report: Report,
    errors: Vec<String>,
    since: Instant,
    answer: Option<oneshot::Sender<Answer>>,
}

impl Together {
    pub(crate) fn new(
        report: Report,
        since: Instant,
        answer: Option<oneshot::Sender<Answer>>,
    ) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { report, errors: Vec::new(), since, answer }))
    }

    /// Takes note of one of them.
    pub(crate) fn note(&mut self, name: &str, answer: Answer) {
        match answer {
            Ok(report) => self.report.reports.push(report),
            Err(failure) => {
                let errors = failure.errors.iter().map(|error| format!("{name}: {error}"));
                self.errors.extend(errors);
            }
        }
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        let mut report = std::mem::take(&mut self.report);
        report.duration_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        report.drained = report.reports.iter().all(|report| report.drained);
        let errors = std::mem::take(&mut self.errors);
        // Whoever asked may have gone.
        let _ = answer.send(match errors.is_empty() {
            true => Ok(report),
            false => Err(Failure { rolled_back: true, errors }),
        });
    }
}

/// A command with the way back.
pub(crate) struct Asked {
    pub command: Command,
    pub answer: oneshot::Sender<Answer>,
}

/// The asker's side.
#[derive(Clone)]
pub(crate) struct Desk {
    sender: SyncSender<Asked>,
    waker: Arc<Waker>,
}

/// The controller's side.
pub(crate) struct Inbox {
    pub asked: Receiver<Asked>,
    pub waker: Arc<Waker>,
}

impl Desk {
    /// Both sides.
    pub(crate) fn open() -> std::io::Result<(Self, Inbox)> {
        let (sender, asked) = sync_channel(WAITING_MAX);
        let waker = Waker::new()?;
        Ok((Self { sender, waker: waker.clone() }, Inbox { asked, waker }))
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(&self, command: Command) -> Answer {
        let (answer, answered) = oneshot::channel();
        match self.sender.try_send(Asked { command, answer }) {
            Ok(()) => self.waker.wake(),
            Err(TrySendError::Full(_)) => {
                return Err(Failure::new("too many changes wait; try again"));
            }
            Err(TrySendError::Disconnected(_)) => return Err(ending()),
        }
        answered.await.unwrap_or_else(|_| Err(ending()))
    }
}

pub(crate) fn ending() -> Failure {
    Failure::new("the daemon is ending")
}
