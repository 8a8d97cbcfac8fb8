//! Checkpoints on disk: where sources go on after a restart, and what
//! operators knew.
//!
//! One file per flow, replaced as a whole (written beside, synced, renamed), so
//! that a crash leaves the old one or the new one, and positions and state
//! always belong together. A file that is torn or not ours is refused with its
//! name, never read wrong. The folder is locked: two daemons that share one
//! would each undo what the other has stored.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use ringmain_config::FlowPlan;
use ringmain_shard::SavedState;
use rkyv::rancor::Failure;
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::whole_file::replace;

const MAGIC: &[u8; 8] = b"ringmain";
const VERSION: u32 = 2;
/// Magic, version, checksum of the rest.
const HEAD_BYTES: usize = 8 + 4 + 8;

/// What is in the file, behind its head.
#[derive(Archive, Serialize, Deserialize)]
struct Record {
    flow: String,
    key: Vec<String>,
    partitions: u16,
    positions: Vec<(String, u32, Vec<u8>)>,
    states: Vec<StateRecord>,
}

#[derive(Archive, Serialize, Deserialize)]
struct StateRecord {
    operator: String,
    format: String,
    partition: u16,
    bytes: Vec<u8>,
}

/// Where a flow goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Fields of the partition key that the state was kept by.
    pub key: Vec<String>,
    /// Partitions that it was kept in; 0 without a key.
    pub partitions: u16,
    /// Source, shard, position.
    pub positions: Vec<(String, usize, Vec<u8>)>,
    /// State of the operators.
    pub states: Vec<SavedState>,
}

impl Checkpoint {
    /// A flow that has not run yet.
    #[must_use]
    pub fn of(plan: &FlowPlan) -> Self {
        let partitions = plan.partition.as_ref().map_or(0, |partition| partition.count);
        Self { key: plan.key_fields(), partitions, ..Self::default() }
    }

    /// Replaces the position of a source on a shard.
    pub fn set_position(&mut self, source: &str, shard: usize, position: Vec<u8>) {
        let known = self.positions.iter_mut().find(|(s, at, _)| s == source && *at == shard);
        match known {
            Some((.., old)) => *old = position,
            None => self.positions.push((source.to_owned(), shard, position)),
        }
    }
}

/// A checkpoint cannot be kept or read. The data path is not affected; what is
/// at stake is where a restart begins.
#[derive(Debug)]
pub enum StoreError {
    /// The system refused.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not a checkpoint of this flow: torn, or someone else's.
    Foreign {
        /// The file.
        path: PathBuf,
        /// What about it.
        why: &'static str,
    },
    /// The flow divides its keys in another way than the state was kept in.
    Divided {
        /// The file.
        path: PathBuf,
        /// Fields of the key and partitions in the file.
        stored: (Vec<String>, u16),
    },
    /// Another daemon uses the folder.
    Locked {
        /// The folder.
        path: PathBuf,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => {
                write!(f, "data_dir: cannot use {}: {error}", path.display())
            }
            Self::Foreign { path, why } => write!(
                f,
                "data_dir: {} {why}; move it away to begin at the source's beginning",
                path.display()
            ),
            Self::Divided { path, stored: (key, count) } => write!(
                f,
                "partition: the state in {} was kept by key = {key:?}, count = {count}, which are \
                 fixed for the life of the state; write them again, or move the file away to \
                 begin without state",
                path.display()
            ),
            Self::Locked { path } => write!(
                f,
                "data_dir: {} is used by another ringmain; give each its own",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StoreError {}

/// The checkpoints of all flows below one folder.
pub struct Store {
    dir: PathBuf,
    /// Held for as long as the daemon runs.
    _lock: File,
}

impl Store {
    /// Opens or creates the folder.
    ///
    /// # Errors
    /// When it cannot be used, or another daemon uses it.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let dir = data_dir.join("checkpoints");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::Io { path, error }
        };
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        let path = data_dir.join("lock");
        let lock = File::create(&path).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: data_dir.into() }),
            Err(TryLockError::Error(error)) => Err(at(&path)(error)),
        }
    }

    /// Where a flow goes on; a fresh checkpoint when it has not run yet.
    ///
    /// # Errors
    /// When the file is not a checkpoint that the flow can go on from.
    pub fn load(&self, plan: &FlowPlan) -> Result<Checkpoint, StoreError> {
        let path = self.path(plan.name.as_str());
        let fresh = Checkpoint::of(plan);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh),
            Err(error) => return Err(StoreError::Io { path, error }),
        };
        let foreign = |why| StoreError::Foreign { path: path.clone(), why };
        let record = decode(&bytes).map_err(foreign)?;
        if record.flow != plan.name.as_str() {
            return Err(foreign("belongs to another flow"));
        }
        let moved = (&record.key, record.partitions) != (&fresh.key, fresh.partitions);
        if moved && !record.states.is_empty() {
            return Err(StoreError::Divided { path, stored: (record.key, record.partitions) });
        }
        Ok(Checkpoint { key: fresh.key, partitions: fresh.partitions, ..record.into() })
    }

    /// Replaces a flow's checkpoint.
    ///
    /// # Errors
    /// When it cannot be written; the old one is still there.
    pub fn save(&self, flow: &str, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let path = self.path(flow);
        let replaced = replace(&path, &path.with_extension("new"), &[&encode(flow, checkpoint)]);
        replaced.map_err(|error| StoreError::Io { path, error })
    }

    fn path(&self, flow: &str) -> PathBuf {
        self.dir.join(format!("{}.checkpoint", file_name(flow)))
    }
}

impl From<Record> for Checkpoint {
    fn from(record: Record) -> Self {
        let position = |(source, shard, bytes): (String, u32, _)| (source, shard as usize, bytes);
        let state = |s: StateRecord| SavedState {
            operator: s.operator,
            format: s.format,
            partition: s.partition,
            bytes: s.bytes,
        };
        Self {
            key: record.key,
            partitions: record.partitions,
            positions: record.positions.into_iter().map(position).collect(),
            states: record.states.into_iter().map(state).collect(),
        }
    }
}

/// A name of a flow as a file name: what is not plain is escaped, so that
/// different names stay different and none leaves the folder.
fn file_name(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02x}")),
        }
    }
    escaped
}

fn encode(flow: &str, checkpoint: &Checkpoint) -> Vec<u8> {
    let position = |(source, shard, bytes): &(String, usize, Vec<u8>)| {
        (source.clone(), *shard as u32, bytes.clone())
    };
    let state = |s: &SavedState| StateRecord {
        operator: s.operator.clone(),
        format: s.format.clone(),
        partition: s.partition,
        bytes: s.bytes.clone(),
    };
    let record = Record {
        flow: flow.to_owned(),
        key: checkpoint.key.clone(),
        partitions: checkpoint.partitions,
        positions: checkpoint.positions.iter().map(position).collect(),
        states: checkpoint.states.iter().map(state).collect(),
    };
    let body = rkyv::to_bytes::<Failure>(&record).expect("plain data serialises into memory");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Record, &'static str> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or("is cut short")?;
    if &head[..8] != MAGIC {
        return Err("is not a checkpoint");
    }
    if head[8..12] != VERSION.to_le_bytes() {
        return Err("was written by another version");
    }
    if head[12..] != xxh3_64(body).to_le_bytes() {
        return Err("is damaged");
    }
    // Behind a file's head nothing is aligned.
    let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(body.len());
    aligned.extend_from_slice(body);
    rkyv::from_bytes::<Record, Failure>(&aligned).map_err(|_| "is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str, partition: &str) -> FlowPlan {
        let text = format!(
            "{partition}\n[sources.in]\ntype = \"stdin\"\n\
             [sinks.out]\ntype = \"stdout\"\ninputs = [\"in\"]\n"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flow.toml");
        fs::write(&path, text).unwrap();
        let plan = ringmain_config::load(&[path], None).unwrap_or_else(|e| panic!("{e:?}"));
        let mut plan = plan.flows.into_iter().next().unwrap();
        // Also one that `check` would not let pass.
        name.clone_into(&mut plan.name.value);
        plan
    }

    fn state(partition: u16) -> SavedState {
        let (operator, format) = ("count".to_owned(), "lua/1".to_owned());
        SavedState { operator, format, partition, bytes: vec![partition as u8; 40] }
    }

    #[test]
    fn a_checkpoint_comes_back_and_the_last_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (f, g) = (plan("f/../x", ""), plan("g", ""));
        assert_eq!(store.load(&f).unwrap(), Checkpoint::of(&f));
        let mut checkpoint = Checkpoint::of(&f);
        checkpoint.set_position("in", 1, vec![1, 2]);
        store.save("f/../x", &checkpoint).unwrap();
        checkpoint.set_position("in", 1, vec![3]);
        checkpoint.set_position("in", 0, vec![]);
        checkpoint.states.push(state(7));
        store.save("f/../x", &checkpoint).unwrap();
        assert_eq!(store.load(&f).unwrap(), checkpoint);
        assert_eq!(store.load(&g).unwrap(), Checkpoint::of(&g));
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused_at_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (f, other) = (plan("f", ""), plan("other", ""));
        let mut checkpoint = Checkpoint::of(&f);
        checkpoint.set_position("in", 0, vec![7; 40]);
        checkpoint.states.push(state(0));
        store.save("f", &checkpoint).unwrap();
        let path = dir.path().join("checkpoints/f.checkpoint");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&path, &bad).unwrap();
            assert!(matches!(store.load(&f), Err(StoreError::Foreign { .. })), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(store.load(&f), Err(StoreError::Foreign { .. })), "cut at {at}");
        }
        fs::write(&path, &good).unwrap();
        assert_eq!(store.load(&f).unwrap(), checkpoint);
        fs::rename(&path, dir.path().join("checkpoints/other.checkpoint")).unwrap();
        assert!(store.load(&other).unwrap_err().to_string().contains("another flow"));
    }

    #[test]
    fn state_is_not_read_under_another_division_of_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let by = |key: &str, count: u16| {
            plan("f", &format!("[partition]\nkey = [{key:?}]\ncount = {count}"))
        };
        let mut checkpoint = Checkpoint::of(&by("device", 64));
        checkpoint.set_position("in", 0, vec![1]);
        store.save("f", &checkpoint).unwrap();
        // Positions alone do not depend on it.
        assert_eq!(store.load(&by("line", 8)).unwrap().positions.len(), 1);
        checkpoint.states.push(state(63));
        store.save("f", &checkpoint).unwrap();
        assert_eq!(store.load(&by("device", 64)).unwrap(), checkpoint);
        for other in [by("line", 64), by("device", 8), plan("f", "")] {
            let error = store.load(&other).unwrap_err().to_string();
            assert!(error.contains("key = [\"device\"], count = 64"), "{error}");
        }
    }

    #[test]
    fn two_daemons_do_not_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).unwrap();
        let error = Store::open(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("is used by another ringmain"), "{error}");
        drop(first);
        Store::open(dir.path()).unwrap();
    }
}
