//! Where changes are asked for: by the API, by signals, by files that change.
//!
//! The asker's side is a bounded channel and a wake of the controller; an
//! answer comes when the change is made, or has failed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

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
#[derive(Clone, Debug, Serialize, ToSchema)]
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
