//! Puts dead letters back in while their flow runs, and takes out of the
//! store what has been accepted.
//!
//! The file that the daemon writes to is closed first and another one begun;
//! closed files change only here, each as a whole, after everything that was
//! taken from it has been accepted. Whatever ends this before leaves the
//! letters where they are; what had been delivered by then is delivered again.
//!
//! It waits for shards, so it wants a thread of its own.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ringmain_shard::ReplayGroup;
use serde::Serialize;
use utoipa::ToSchema;

use super::letters::{DeadError, Letter, letters};
use super::plan::{self, Group};
use super::store::{self, Meant};
use crate::view::FlowView;
use crate::whole_file::replace;

/// How long the sink of the dead letters may take to close its file.
const ASIDE_WITHIN: Duration = Duration::from_secs(10);

/// How long everything may take to be accepted.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(300);

/// How often the shards are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Longer files are not read as a whole into the daemon's memory.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What became of the letters.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct LiveReplay {
    /// Letters that were put back in, and have left the store.
    pub replayed: u64,
    /// Messages that decoders and operators have refused again, which are in
    /// the store with their new reason. What a sink refuses is there, too, and
    /// is not counted here.
    pub refused: u64,
}

/// Replays those that are meant, at the component that refused them or at
/// another one.
pub(crate) fn replay(
    flow: &FlowView,
    meant: &Meant,
    at: Option<&str>,
) -> Result<LiveReplay, DeadError> {
    let path = store::path(&flow.plan).map_err(DeadError::Refused)?;
    set_aside(flow)?;
    let mut done = LiveReplay::default();
    let closed = store::closed(&path);
    let closed = closed.map_err(|error| DeadError::Io { path: path.clone(), error })?;
    for file in &closed {
        one(flow, file, meant, at, &mut done)?;
    }
    Ok(done)
}

fn set_aside(flow: &FlowView) -> Result<(), DeadError> {
    let asked = flow.control.set_letters_aside();
    let until = Instant::now() + ASIDE_WITHIN;
    while !flow.control.is_set_aside(asked) {
        if has_ended(flow) {
            return Err(DeadError::CutOff);
        }
        if Instant::now() > until {
            let seconds = ASIDE_WITHIN.as_secs();
            return Err(DeadError::Refused(format!(
                "the file of the dead letters was not closed within {seconds} s; its sink's \
                 health says why"
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn has_ended(flow: &FlowView) -> bool {
    flow.at_work() == 0
}

/// Replays what is meant of one file.
fn one(
    flow: &FlowView,
    file: &Path,
    meant: &Meant,
    at: Option<&str>,
    done: &mut LiveReplay,
) -> Result<(), DeadError> {
    let fails = |error| DeadError::Io { path: file.to_owned(), error };
    if fs::metadata(file).map_err(fails)?.len() > FILE_BYTES_MAX {
        let (file, mib) = (file.display(), FILE_BYTES_MAX >> 20);
        return Err(DeadError::Refused(format!(
            "{file} is larger than {mib} MiB: replay it with `ringmain dead replay`"
        )));
    }
    let all = letters(file)?;
    let (chosen, others): (Vec<&Letter>, Vec<&Letter>) =
        all.iter().partition(|letter| meant.has(letter));
    if chosen.is_empty() {
        return Ok(());
    }
    let groups = plan::groups(&flow.plan, &chosen, at)?;
    let groups = groups.into_iter().map(|group| group_of(flow, group)).collect();
    done.refused += put_in(flow, groups)?;
    done.replayed += chosen.len() as u64;
    if others.is_empty() {
        return fs::remove_file(file).map_err(fails);
    }
    let kept: String = others.iter().map(|letter| format!("{}\n", letter.line)).collect();
    let mut beside = file.as_os_str().to_owned();
    beside.push(".fresh");
    replace(file, Path::new(&beside), &[kept.as_bytes()]).map_err(fails)
}

fn group_of(flow: &FlowView, group: Group) -> ReplayGroup {
    let names = &flow.control.components;
    let component = names.iter().position(|name| *name == group.at);
    ReplayGroup {
        component: component.expect("groups are of components of the flow"),
        decode: plan::decode_of(&flow.plan, &group),
        bytes: group.bytes,
    }
}

/// How many were refused again.
fn put_in(flow: &FlowView, groups: Vec<ReplayGroup>) -> Result<u64, DeadError> {
    let replay = flow.control.replay(groups, flow.parts);
    let until = Instant::now() + ACCEPTED_WITHIN;
    while !replay.is_done() {
        if replay.is_cut() || has_ended(flow) {
            return Err(DeadError::CutOff);
        }
        if Instant::now() > until {
            let seconds = ACCEPTED_WITHIN.as_secs();
            return Err(DeadError::Refused(format!(
                "the letters were not accepted within {seconds} s: a sink is not well, or full; \
                 they stay in the store, and what is under way is delivered when it can be"
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(replay.refused())
}
