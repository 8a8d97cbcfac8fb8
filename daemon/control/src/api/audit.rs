//! Who changed what, when, and from where.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::auth::Caller;
use super::guard::Peer;

/// One change, asked for or made.
#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    who: &'a str,
    from: String,
    action: &'a str,
    what: &'a str,
    result: &'a str,
}

/// The audit log: `target = "audit"` of the daemon's log, and a file.
pub(crate) struct Audit {
    file: Option<Mutex<File>>,
}

impl Audit {
    /// Opens the file for appending.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, String> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|e| format!("[api] audit: cannot open {}: {e}", path.display()))
        };
        let file = path.map(open).transpose()?.map(Mutex::new);
        Ok(Self { file })
    }

    /// Notes a change and what became of it. A file that cannot be written is
    /// no reason to refuse a stop; the log has the entry in any case.
    pub(crate) fn note(
        &self,
        caller: &Caller,
        peer: Peer,
        action: &str,
        what: &str,
        result: &str,
        wall_us: i64,
    ) {
        let (who, from) = (caller.name.as_str(), peer.0.to_string());
        tracing::info!(target: "audit", who, from, action, what, result, "change");
        let Some(file) = &self.file else { return };
        let time = ringmain_shard::rfc3339(wall_us);
        let entry = Entry { time, who, from, action, what, result };
        let mut line = serde_json::to_vec(&entry).expect("texts serialise");
        line.push(b'\n');
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(&line) {
            tracing::error!("[api] audit: cannot write: {error}");
        }
    }
}
