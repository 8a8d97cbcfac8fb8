//! Flows that were put in over the API: their texts, every version of them,
//! and which are deployed. Kept below `data_dir/flows`, one folder per flow:
//! `1.toml`, `2.toml`, ..., `state.json`.
//!
//! A file is written beside its place and renamed, so that a version is there
//! as a whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::whole_file::replace;

/// Versions that are kept; the oldest go first.
const VERSIONS_MAX: usize = 100;

/// What is known of a flow beside its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub deployed: bool,
    /// The one that is in use.
    pub version: u64,
    pub versions: Vec<Version>,
}

/// A version of a flow's text.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Version {
    pub version: u64,
    /// When it was put in (RFC 3339).
    pub created: String,
    /// Who put it in.
    pub creator: String,
    /// `create`, `update`, `clone of NAME` or `rollback to VERSION`.
    pub action: String,
}

/// The folder of all of them.
#[derive(Clone, Debug)]
pub(crate) struct Definitions {
    dir: PathBuf,
}

impl Definitions {
    pub(crate) fn at(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("flows") }
    }

    /// Names of all flows that are kept here.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok);
        let names = entries.filter(|entry| entry.path().join("state.json").is_file());
        let mut names: Vec<_> =
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The texts of those that are deployed, with the paths that stand for
    /// them.
    pub(crate) fn deployed(&self) -> Vec<(PathBuf, String)> {
        let deployed = |name: String| {
            let state = self.state(&name).ok().filter(|state| state.deployed)?;
            let text = self.text(&name, state.version).ok()?;
            Some((self.path(&name), text))
        };
        self.names().into_iter().filter_map(deployed).collect()
    }

    /// The path that a flow's messages name, whatever its version.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name).join(format!("{name}.toml"))
    }

    /// Whether that is such a path.
    pub(crate) fn owns(&self, path: &Path) -> bool {
        path.starts_with(&self.dir)
    }

    pub(crate) fn state(&self, name: &str) -> io::Result<State> {
        let text = fs::read(self.dir.join(name).join("state.json"))?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    pub(crate) fn text(&self, name: &str, version: u64) -> io::Result<String> {
        fs::read_to_string(self.dir.join(name).join(format!("{version}.toml")))
    }

    /// Stores a new version; its number.
    pub(crate) fn put(
        &self,
        name: &str,
        text: &str,
        creator: &str,
        action: &str,
        created: String,
    ) -> io::Result<u64> {
        let folder = self.dir.join(name);
        fs::create_dir_all(&folder)?;
        let before = self.state(name).ok();
        let mut state =
            before.unwrap_or(State { deployed: false, version: 0, versions: Vec::new() });
        let newest = state.versions.iter().map(|version| version.version).max().unwrap_or(0);
        let version = newest + 1;
        write(&folder.join(format!("{version}.toml")), text.as_bytes())?;
        let (creator, action) = (creator.to_owned(), action.to_owned());
        state.versions.push(Version { version, created, creator, action });
        state.version = version;
        while state.versions.len() > VERSIONS_MAX {
            let oldest = state.versions.remove(0);
            // One that is gone already is as good.
            let _ = fs::remove_file(folder.join(format!("{}.toml", oldest.version)));
        }
        self.save(name, &state)?;
        Ok(version)
    }

    pub(crate) fn set_deployed(&self, name: &str, deployed: bool) -> io::Result<()> {
        let mut state = self.state(name)?;
        state.deployed = deployed;
        self.save(name, &state)
    }

    pub(crate) fn delete(&self, name: &str) -> io::Result<()> {
        fs::remove_dir_all(self.dir.join(name))
    }

    fn save(&self, name: &str, state: &State) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(state).map_err(io::Error::other)?;
        write(&self.dir.join(name).join("state.json"), &text)
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, &path.with_extension("new"), &[bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_and_the_oldest_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let definitions = Definitions::at(dir.path());
        for at in 1..=VERSIONS_MAX as u64 + 5 {
            let text = format!("# {at}");
            let put = definitions.put("f", &text, "me", "update", String::new());
            assert_eq!(put.unwrap(), at);
        }
        let state = definitions.state("f").unwrap();
        assert_eq!((state.versions.len(), state.versions[0].version), (VERSIONS_MAX, 6));
        assert!(definitions.text("f", 5).is_err());
        assert_eq!(definitions.text("f", 6).unwrap(), "# 6");
        assert!(definitions.deployed().is_empty());
        definitions.set_deployed("f", true).unwrap();
        assert_eq!(definitions.deployed()[0].1, format!("# {}", VERSIONS_MAX + 5));
        assert_eq!(definitions.names(), ["f"]);
        definitions.delete("f").unwrap();
        assert!(definitions.names().is_empty());
    }
}
