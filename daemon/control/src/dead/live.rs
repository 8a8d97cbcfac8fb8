//! Puts dead letters back in while their flow runs, and takes out of the
//! store what has been accepted.
//!
//! The file that the daemon writes to is closed first and another one begun;
//! closed files change only here, each as a whole, after what was taken from
//! it has been accepted. What fails leaves the letters that were not accepted
//! where they are; a crash leaves all of them, and what had been delivered by
//! then is delivered again.
//!
//! It waits for shards, so it wants a thread of its own.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringmain_shard::ReplayGroup;
use serde::Serialize;
use utoipa::ToSchema;

use super::letters::{DeadError, Letter, letter};
use super::plan::{self, Group};
use super::store::{self, Meant};
use crate::view::FlowView;
use crate::whole_file::put_in_place;

/// How long the sink of the dead letters may take to close its file.
const ASIDE_WITHIN: Duration = Duration::from_secs(10);

/// How long everything may take to be accepted.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(300);

/// How often the shards are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Letters that are in memory at once, and go in together.
const BATCH_BYTES: usize = 4 << 20;

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
        let mut put = |letters: &[Letter]| {
            let letters: Vec<_> = letters.iter().collect();
            let groups = plan::groups(&flow.plan, &letters, at)?;
            let groups = groups.into_iter().map(|group| group_of(flow, group)).collect();
            done.refused += put_in(flow, groups)?;
            Ok(())
        };
        done.replayed += sift(file, meant, BATCH_BYTES, &mut put)?;
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

/// Takes what is meant out of a file, in batches, and hands each to `put_in`;
/// what that has accepted leaves the file. After a failure the rest stays as it
/// is. Lines that are no letters stay.
fn sift(
    file: &Path,
    meant: &Meant,
    batch_bytes: usize,
    put_in: &mut dyn FnMut(&[Letter]) -> Result<(), DeadError>,
) -> Result<u64, DeadError> {
    let fails = |error| DeadError::Io { path: file.to_owned(), error };
    let beside = beside(file);
    let mut sieve = Sieve {
        rest: BufWriter::new(File::create(&beside).map_err(fails)?),
        batch: Vec::new(),
        bytes: 0,
        gone: 0,
        kept: 0,
        failed: None,
    };
    for line in BufReader::new(File::open(file).map_err(fails)?).lines() {
        let line = line.map_err(fails)?;
        match letter(&line) {
            Ok(letter) if sieve.failed.is_none() && meant.has(&letter) => {
                sieve.bytes += line.len();
                sieve.batch.push(letter);
                if sieve.bytes >= batch_bytes {
                    sieve.flush(put_in).map_err(fails)?;
                }
            }
            _ => sieve.keep(&line).map_err(fails)?,
        }
    }
    sieve.flush(put_in).map_err(fails)?;
    let Sieve { rest, gone, kept, failed, .. } = sieve;
    let rest = rest.into_inner().map_err(|error| fails(error.into_error()))?;
    let done = match (gone, kept) {
        (0, _) => fs::remove_file(&beside),
        (_, 0) => fs::remove_file(&beside).and_then(|()| fs::remove_file(file)),
        _ => put_in_place(&rest, file, &beside),
    };
    done.map_err(fails)?;
    failed.map_or(Ok(gone), |error| Err(partly(error, gone)))
}

fn partly(error: DeadError, gone: u64) -> DeadError {
    match gone {
        0 => error,
        _ => DeadError::Refused(format!("{gone} letters were put back in, and then: {error}")),
    }
}

fn beside(file: &Path) -> PathBuf {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".fresh");
    beside.into()
}

/// A file under way to one with fewer letters.
struct Sieve {
    rest: BufWriter<File>,
    batch: Vec<Letter>,
    bytes: usize,
    gone: u64,
    kept: u64,
    failed: Option<DeadError>,
}

impl Sieve {
    fn keep(&mut self, line: &str) -> io::Result<()> {
        self.kept += 1;
        writeln!(self.rest, "{line}")
    }

    fn flush(
        &mut self,
        put_in: &mut dyn FnMut(&[Letter]) -> Result<(), DeadError>,
    ) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        match put_in(&batch) {
            Ok(()) => self.gone += batch.len() as u64,
            Err(error) => {
                self.failed = Some(error);
                batch.iter().try_for_each(|letter| self.keep(&letter.line))?;
            }
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: usize, component: &str) -> String {
        format!(
            "{{\"time\":\"2026-01-01T00:00:00Z\",\"flow\":\"f\",\"component\":\"{component}\",\
             \"reason\":\"script\",\"detail\":\"d\",\"message\":{{\"n\":{at}}}}}"
        )
    }

    /// What is left of ten letters, of which the even ones are meant, when the
    /// batch that has the letter `bad` fails.
    fn left(bad: Option<usize>) -> (Result<u64, DeadError>, Option<Vec<String>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.ndjson.000001");
        let all: Vec<_> = (0..10).map(|n| line(n, if n % 2 == 0 { "a" } else { "b" })).collect();
        fs::write(&path, all.join("\n") + "\nno letter\n").unwrap();
        let filter = super::super::Filter { components: vec!["a".into()], reasons: Vec::new() };
        let meant = Meant { flow: "f".into(), filter, ids: Vec::new() };
        let mut put_in = |letters: &[Letter]| match bad {
            Some(bad) if letters.iter().any(|l| l.line == line(bad, "a")) => Err(DeadError::CutOff),
            _ => Ok(()),
        };
        // Two letters are a batch.
        let done = sift(&path, &meant, line(0, "a").len() + 1, &mut put_in);
        assert!(!beside(&path).exists());
        let text = fs::read_to_string(&path).ok();
        (done, text.map(|text| text.lines().map(str::to_owned).collect()))
    }

    #[test]
    fn what_is_accepted_leaves_the_file_and_nothing_else() {
        let (done, rest) = left(None);
        assert_eq!(done.unwrap(), 5);
        let mut want: Vec<_> = [1, 3, 5, 7, 9].map(|n| line(n, "b")).into();
        want.push("no letter".into());
        assert_eq!(rest.unwrap(), want);
    }

    #[test]
    fn after_a_failure_the_rest_stays() {
        // 0 and 2 are accepted, 4 and 6 are not, 8 is not tried.
        let (done, rest) = left(Some(6));
        let said = done.unwrap_err().to_string();
        assert!(said.starts_with("2 letters were put back in, and then: the run was"), "{said}");
        let mut rest = rest.unwrap();
        rest.sort();
        let mut want: Vec<_> = [4, 6, 8].map(|n| line(n, "a")).into();
        want.extend([1, 3, 5, 7, 9].map(|n| line(n, "b")));
        want.push("no letter".into());
        want.sort();
        assert_eq!(rest, want);
    }

    #[test]
    fn a_file_of_which_nothing_goes_is_not_touched() {
        let (done, rest) = left(Some(0));
        assert!(matches!(done, Err(DeadError::CutOff)));
        assert_eq!(rest.unwrap().len(), 11);
    }
}
