//! The control runtime: one thread with a reactor of its own, beside the data
//! path. It reads the counters once a second, pushes figures at their
//! interval, and serves the API.
//!
//! Invariants: it writes nothing that a shard reads; a peer that is slow, or
//! floods, costs this thread only.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::api::Api;
use crate::check::Prepared;
use crate::desk::Desk;
use crate::export::Exporters;
use crate::run::RunError;
use crate::view::View;

/// How often counters are read.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// How long requests under way have at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The control runtime's thread.
pub(crate) struct Side {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Side {
    /// Starts it, if there is anything to serve or to send. What it listens at
    /// is bound when this returns.
    pub(crate) fn start(
        prepared: &Prepared,
        view: &Arc<View>,
        desk: Desk,
    ) -> Result<Option<Self>, RunError> {
        let plan = &prepared.plan;
        let exporters = Exporters::new(&plan.metrics);
        if plan.api.listen.is_none() && exporters.is_empty() {
            return Ok(None);
        }
        let listener = plan.api.listen.as_ref().map(|at| bind(at.addr)).transpose()?;
        let api = Api::new(prepared, view, desk).map_err(RunError::System)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .map_err(|e| RunError::System(format!("cannot start the control runtime: {e}")))?;
        let (stop, stopped) = watch::channel(false);
        let view = view.clone();
        let every = Duration::from_micros(plan.metrics.every_us);
        let main = move || {
            runtime.block_on(async {
                if let Some(listener) = listener {
                    tokio::spawn(crate::api::serve(listener, api, stopped.clone()));
                }
                work(&view, exporters, every, stopped).await;
            });
            runtime.shutdown_timeout(CLOSE_WITHIN);
        };
        let thread = std::thread::Builder::new().name("control".into()).spawn(main);
        let thread =
            thread.map_err(|error| RunError::System(format!("cannot start a thread: {error}")))?;
        Ok(Some(Self { stop, thread }))
    }

    /// Sends the last figures and ends. The counters stand still by now.
    pub(crate) fn finish(self) {
        // A receiver that is gone has nothing more to send.
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the control runtime has panicked; please report this");
        }
    }
}

fn bind(addr: std::net::SocketAddr) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(addr).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        RunError::System(format!("[api] listen: cannot listen at {addr}: {error}"))
    })
}

async fn work(
    view: &View,
    mut exporters: Exporters,
    every: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let mut samples = interval(SAMPLE_EVERY);
    samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sends = interval_at(Instant::now() + every, every);
    sends.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = samples.tick() => { view.take_sample(); }
            _ = sends.tick() => exporters.send(view, &view.sample()).await,
            _ = stopped.changed() => break,
        }
    }
    // The totals of the end, which are those of the summary.
    let last = view.take_sample();
    exporters.send(view, &last).await;
}
