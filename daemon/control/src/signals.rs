//! What the system asks of the process.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Hooked;

/// A request from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT or SIGTERM: stop.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The requests of this process, in their order.
pub(crate) struct Signals {
    requests: Receiver<Signal>,
}

/// Begins to watch. A thread of its own, which ends with the process.
pub(crate) fn watch() -> io::Result<Signals> {
    let mut hooked = Hooked::new([SIGINT, SIGTERM, SIGHUP])?;
    let (send, requests) = sync_channel(16);
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in hooked.forever() {
            let request = if signal == SIGHUP { Signal::Reload } else { Signal::Stop };
            // A full channel has more requests than anyone will take up.
            let _ = send.try_send(request);
        }
    })?;
    Ok(Signals { requests })
}

impl Signals {
    /// Waits for a request, but not for long.
    pub(crate) fn wait(&self, at_most: Duration) -> Option<Signal> {
        match self.requests.recv_timeout(at_most) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(at_most);
                None
            }
        }
    }
}
