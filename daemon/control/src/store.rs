//! Positions of sources on disk: where to go on after a restart.
//!
//! One file per source and shard, replaced as a whole (written beside, synced,
//! renamed), so that a crash leaves the old one or the new one. A file that is
//! torn or not ours is refused with its name, never read wrong.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rkyv::rancor::Failure;
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"ringmain";
const VERSION: u32 = 1;
/// Magic, version, checksum of the rest.
const HEAD_BYTES: usize = 8 + 4 + 8;

/// What is in a position file, behind its head.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Record {
    flow: String,
    source: String,
    shard: u32,
    position: Vec<u8>,
}

/// A position cannot be kept or read. The data path is not affected; what is
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
    /// The file is not a position of this source: torn, or someone else's.
    Foreign {
        /// The file.
        path: PathBuf,
        /// What about it.
        why: &'static str,
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
        }
    }
}

impl std::error::Error for StoreError {}

/// The positions of all flows below one folder.
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens or creates the folder.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let dir = data_dir.join("positions");
        fs::create_dir_all(&dir).map_err(|error| StoreError::Io { path: dir.clone(), error })?;
        Ok(Self { dir })
    }

    /// Every stored position of a flow: source, shard, bytes.
    pub(crate) fn load(&self, flow: &str) -> Result<Vec<(String, usize, Vec<u8>)>, StoreError> {
        let dir = self.dir.join(file_name(flow));
        let at = |error| StoreError::Io { path: dir.clone(), error };
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(at)?.path();
            if path.extension().is_some_and(|e| e == "position") {
                let record = read(&path, flow)?;
                found.push((record.source, record.shard as usize, record.position));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Replaces a position.
    pub(crate) fn save(
        &self,
        flow: &str,
        source: &str,
        shard: usize,
        position: Vec<u8>,
    ) -> Result<(), StoreError> {
        let dir = self.dir.join(file_name(flow));
        let path = dir.join(format!("{}.{shard}.position", file_name(source)));
        let (flow, source) = (flow.to_owned(), source.to_owned());
        let record = Record { flow, source, shard: shard as u32, position };
        let written = fs::create_dir_all(&dir).and_then(|()| replace(&path, &encode(&record)));
        written.map_err(|error| StoreError::Io { path, error })
    }
}

/// A name of a flow or source as a file name: what is not plain is escaped, so
/// that different names stay different and none leaves the folder.
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

fn encode(record: &Record) -> Vec<u8> {
    let body = rkyv::to_bytes::<Failure>(record).expect("plain data serialises into memory");
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
        return Err("is not a position file");
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

fn read(path: &Path, flow: &str) -> Result<Record, StoreError> {
    let bytes = fs::read(path).map_err(|error| StoreError::Io { path: path.into(), error })?;
    let foreign = |why| StoreError::Foreign { path: path.into(), why };
    let record = decode(&bytes).map_err(foreign)?;
    if record.flow == flow { Ok(record) } else { Err(foreign("belongs to another flow")) }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_and_the_last_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.load("f").unwrap(), []);
        store.save("f", "in/../x", 1, vec![1, 2]).unwrap();
        store.save("f", "in/../x", 1, vec![3]).unwrap();
        store.save("f", "in", 0, vec![]).unwrap();
        store.save("g", "in", 0, vec![9]).unwrap();
        let loaded = store.load("f").unwrap();
        assert_eq!(loaded, [("in".into(), 0, vec![]), ("in/../x".into(), 1, vec![3])]);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused_at_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save("f", "in", 0, vec![7; 40]).unwrap();
        let path = dir.path().join("positions/f/in.0.position");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&path, &bad).unwrap();
            assert!(matches!(store.load("f"), Err(StoreError::Foreign { .. })), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(store.load("f"), Err(StoreError::Foreign { .. })), "cut at {at}");
        }
        fs::write(&path, &good).unwrap();
        assert_eq!(store.load("f").unwrap().len(), 1);
        let other = dir.path().join("positions/other");
        fs::rename(dir.path().join("positions/f"), &other).unwrap();
        assert!(store.load("other").unwrap_err().to_string().contains("another flow"));
    }
}
