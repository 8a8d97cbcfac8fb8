//! Puts dead letters back in, and takes out of the file what is delivered.
//!
//! The letters go through a run of the flow in which they are all that comes
//! in. When everything of it has been accepted, the file is replaced by one
//! with the letters that were not meant and those that were refused again.
//! Before that nothing is changed: a crash leaves every letter, and what had
//! been delivered by then is delivered again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ringmain_config::Plan;
use ringmain_runtime::IoKind;
use ringmain_runtime::signals::Signals;

use super::letters::{DeadError, Filter, Letter, letters};
use super::plan;
use crate::whole_file::replace;
use crate::{Prepared, RunOptions, run};

/// What is to be replayed, and where.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Files of dead letters.
    pub paths: Vec<PathBuf>,
    /// Where they go in, if not at the component that refused them.
    pub at: Option<String>,
    /// Which of them.
    pub filter: Filter,
    /// Which I/O driver to use.
    pub io: IoKind,
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The file.
    pub path: PathBuf,
    /// Letters that were put back in.
    pub replayed: usize,
    /// Messages that were refused again.
    pub refused: usize,
    /// Letters that were not meant.
    pub others: usize,
}

/// Replays the letters of each file.
///
/// # Errors
/// What kept it from doing so; files that are not done are as they were.
pub fn replay(
    prepared: &mut Prepared,
    what: &Replay,
    signals: &mut Signals,
) -> Result<Vec<Replayed>, DeadError> {
    let mut done = Vec::new();
    for path in &what.paths {
        done.push(one(prepared, path, what, signals)?);
    }
    Ok(done)
}

fn one(
    prepared: &mut Prepared,
    path: &Path,
    what: &Replay,
    signals: &mut Signals,
) -> Result<Replayed, DeadError> {
    if let Some(user) = user_of(path) {
        return Err(DeadError::Refused(format!(
            "{} is open in process {user}, which may add to it: stop that first, or replay a \
             file that it has rotated away",
            path.display()
        )));
    }
    let all = letters(path)?;
    let [flow] = &*prepared.plan.flows else {
        return Err(DeadError::Refused("name exactly one flow with --flow".to_owned()));
    };
    let meant = |letter: &&Letter| letter.flow == flow.name.value && what.filter.matches(letter);
    let (chosen, others): (Vec<&Letter>, Vec<&Letter>) = all.iter().partition(meant);
    let counts = |refused| Replayed {
        path: path.to_owned(),
        replayed: chosen.len(),
        refused,
        others: others.len(),
    };
    if chosen.is_empty() {
        return Ok(counts(0));
    }
    let groups = plan::groups(flow, &chosen, what.at.as_deref())?;
    let fails = |error| DeadError::Io { path: path.to_owned(), error };
    let room = Room::beside(path).map_err(fails)?;
    let files = groups.iter().enumerate().map(|(at, group)| room.write(at, &group.bytes));
    let files: Vec<PathBuf> = files.collect::<io::Result<_>>().map_err(fails)?;
    let refused = room.dir.join("refused.ndjson");
    let flow = plan::flow(flow, &groups, &files, &refused);
    let plan = Plan { flows: vec![flow], ..alone(&prepared.plan) };
    let before = std::mem::replace(&mut prepared.plan, plan);
    let options = RunOptions { io: what.io, ..RunOptions::default() };
    let outcome = run(prepared, &options, signals);
    prepared.plan = before;
    if !outcome.map_err(DeadError::Run)?.drained {
        return Err(DeadError::CutOff);
    }
    let refused = match fs::read_to_string(&refused) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(fails(error)),
    };
    let kept: String = others.iter().map(|letter| format!("{}\n", letter.line)).collect();
    // Where a link leads to.
    let target = fs::canonicalize(path).map_err(fails)?;
    let parts = [kept.as_bytes(), refused.as_bytes()];
    replace(&target, &room.dir.join("fresh"), &parts).map_err(fails)?;
    Ok(counts(refused.lines().count()))
}

/// The plan without what a daemon does beside its flows.
fn alone(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.daemon.data_dir = None;
    plan.api.listen = None;
    (plan.metrics.statsd, plan.metrics.graphite, plan.metrics.datadog) = (None, None, None);
    plan
}

/// A folder beside the file, which goes when it is dropped.
struct Room {
    dir: PathBuf,
}

impl Room {
    fn beside(path: &Path) -> io::Result<Self> {
        // Paths of the plan are told from globs and fields by their shape, and
        // those of a connector begin at the working directory.
        let path = fs::canonicalize(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dir = path.with_file_name(format!(".{name}.replay-{}", std::process::id()));
        fs::create_dir(&dir)?;
        Ok(Self { dir })
    }

    fn write(&self, at: usize, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.dir.join(format!("{at}.frames"));
        fs::write(&path, bytes)?;
        Ok(path)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What is left there is a copy.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A process that has the file open, as far as this one may see.
fn user_of(path: &Path) -> Option<u32> {
    let file = fs::metadata(path).ok()?;
    let same = |m: &fs::Metadata| (m.dev(), m.ino()) == (file.dev(), file.ino());
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_name().to_str()?.parse::<u32>().ok()
    });
    processes.filter(|pid| *pid != std::process::id()).find(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        open.filter_map(|fd| fs::metadata(fd.ok()?.path()).ok()).any(|m| same(&m))
    })
}
