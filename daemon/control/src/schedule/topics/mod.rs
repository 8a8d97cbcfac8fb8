//! Messages that begin runs: listeners at topics of MQTT.
//!
//! Listeners live on a thread of their own, which is started with the first.
//! Each keeps one connection ([`link`]) for a [`session::Session`], and shares
//! with the scheduler what came, what may be acknowledged, and how it stands.
//!
//! Invariants: what waits for the scheduler is bounded ([`HEARD_MAX`]), and a
//! listener with so much does not read; a broker that is away is no fault of
//! the flow, it is told and tried again. Deliberately absent: payloads.

mod link;
mod session;
mod wire;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ringmain_config::MqttTrigger;
use ringmain_ring::Wake;
use ringmain_runtime::Waker;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::sync::watch;
use utoipa::ToSchema;

/// Messages of one listener that wait for the scheduler.
const HEARD_MAX: usize = 64;

/// How long listeners have to take leave at the end.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// How a listener stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ListenerReport {
    /// The broker delivers.
    pub connected: bool,
    /// Why it does not, and when that is tried again.
    pub trouble: Option<String>,
    /// Messages that have come since the daemon was started.
    pub messages: u64,
    /// Those of them that began nothing: retained before, sent again, of
    /// another topic, or while the schedule was suspended.
    pub passed_over: u64,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub topic: String,
    /// For its acknowledgement; none where none is expected.
    pub receipt: Option<u64>,
}

/// What a listener begins with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    /// Who it is for.
    pub name: String,
    /// Filters that an earlier life of the session had and this one has not.
    pub former: Vec<String>,
    /// What the broker has kept is not wanted.
    pub fresh: bool,
    /// Begins when that one has left.
    pub after: Option<Listener>,
}

/// Who listens.
pub(crate) trait Ears {
    fn listen(&mut self, plan: &MqttTrigger, opening: Opening) -> Listener;
}

/// A listener as the scheduler has it.
#[derive(Clone, Debug)]
pub(crate) struct Listener(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// The listener's side has something to look at.
    notify: Notify,
    waker: Arc<Waker>,
    /// It has left.
    gone: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Inner {
    heard: VecDeque<Heard>,
    receipts: Vec<u64>,
    report: ListenerReport,
    /// The report is another.
    news: bool,
    leave: Option<Leave>,
}

/// How a listener is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Somebody else, or this one later, goes on with the session.
    ForNow,
    /// The broker need keep nothing more.
    ForGood,
}

impl Listener {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        let (gone, _) = watch::channel(false);
        Self(Arc::new(Shared { inner: Mutex::default(), notify: Notify::new(), waker, gone }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics halfway.
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message.
    pub(crate) fn take(&self) -> Option<Heard> {
        let mut inner = self.lock();
        let heard = inner.heard.pop_front()?;
        if inner.heard.len() + 1 == HEARD_MAX {
            self.0.notify.notify_one();
        }
        Some(heard)
    }

    /// What a message was to begin is on record.
    pub(crate) fn acknowledge(&self, receipts: &mut Vec<u64>) {
        if !receipts.is_empty() {
            self.lock().receipts.append(receipts);
            self.0.notify.notify_one();
        }
    }

    /// A message began nothing.
    pub(crate) fn pass_over(&self) {
        self.change(|report| report.passed_over += 1);
    }

    pub(crate) fn report(&self) -> ListenerReport {
        self.lock().report.clone()
    }

    /// Whether the report is another since this was asked.
    pub(crate) fn take_news(&self) -> bool {
        std::mem::take(&mut self.lock().news)
    }

    pub(crate) fn leave(&self, how: Leave) {
        self.lock().leave.get_or_insert(how);
        self.0.notify.notify_one();
    }

    fn change(&self, change: impl FnOnce(&mut ListenerReport)) {
        let mut inner = self.lock();
        change(&mut inner.report);
        inner.news = true;
        drop(inner);
        self.0.waker.wake();
    }

    /// For the listener's own side: tells a message. There must be room.
    pub(super) fn tell(&self, heard: Heard) {
        let mut inner = self.lock();
        debug_assert!(inner.heard.len() < HEARD_MAX, "whoever reads has asked for room");
        inner.heard.push_back(heard);
        inner.report.messages += 1;
        inner.news = true;
        drop(inner);
        self.0.waker.wake();
    }

    fn has_room(&self) -> bool {
        self.lock().heard.len() < HEARD_MAX
    }

    pub(super) fn receipts(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock().receipts)
    }

    pub(super) fn leaves(&self) -> Option<Leave> {
        self.lock().leave
    }

    async fn until_gone(&self) {
        let mut gone = self.0.gone.subscribe();
        // An error means that it is gone as well.
        let _ = gone.wait_for(|gone| *gone).await;
    }
}

/// The thread of all listeners.
pub(crate) struct Topics {
    waker: Arc<Waker>,
    thread: Option<Thread>,
    /// Of those that were begun; the ones that have left are taken out.
    listeners: Vec<Listener>,
}

struct Thread {
    handle: tokio::runtime::Handle,
    stop: watch::Sender<bool>,
    join: JoinHandle<()>,
}

impl Topics {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self { waker, thread: None, listeners: Vec::new() }
    }

    fn thread(&mut self) -> Result<&Thread, std::io::Error> {
        if self.thread.is_none() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let (stop, stopped) = watch::channel(false);
            let main = move || serve(runtime, stopped);
            let join = std::thread::Builder::new().name("topics".into()).spawn(main)?;
            self.thread = Some(Thread { handle, stop, join });
        }
        Ok(self.thread.as_ref().expect("it was just made"))
    }
}

fn serve(runtime: Runtime, mut stopped: watch::Receiver<bool>) {
    // A sender that is gone stops it, too.
    let _ = runtime.block_on(stopped.wait_for(|stop| *stop));
    runtime.shutdown_timeout(LEAVE_WITHIN);
}

impl Ears for Topics {
    fn listen(&mut self, plan: &MqttTrigger, opening: Opening) -> Listener {
        self.listeners.retain(|listener| !*listener.0.gone.borrow());
        let listener = Listener::new(self.waker.clone());
        let task = link::listen(listener.clone(), Arc::new(plan.clone()), opening);
        match self.thread() {
            Ok(thread) => {
                thread.handle.spawn(task);
                self.listeners.push(listener.clone());
            }
            Err(error) => {
                let why = format!("cannot start a thread: {error}");
                tracing::error!("[schedule] mqtt: {why}");
                listener.change(|report| report.trouble = Some(why));
            }
        }
        listener
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let listeners = std::mem::take(&mut self.listeners);
        listeners.iter().for_each(|listener| listener.leave(Leave::ForNow));
        let Thread { handle, stop, join } = thread;
        handle.spawn(async move {
            let all = async {
                for listener in &listeners {
                    listener.until_gone().await;
                }
            };
            // Whoever takes longer is cut off.
            let _ = tokio::time::timeout(LEAVE_WITHIN, all).await;
            // The receiver lives as long as the thread.
            let _ = stop.send(true);
        });
        if join.join().is_err() {
            tracing::error!("the thread of the listeners has panicked; please report this");
        }
    }
}
