//! From globs to files.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ringmain_config::Spanned;

use super::identity::{PRINT_BYTES, Print, Stat};
use crate::ConnectorError;

/// Files that one look may find; more is a mistake in the glob.
const FOUND_MAX: usize = 1 << 20;

/// Regular files that match, in the order of their names, each once.
pub(crate) fn find(globs: &[Spanned<String>]) -> Result<Vec<PathBuf>, ConnectorError> {
    let mut found = Vec::new();
    for glob in globs {
        found.extend(matches(glob)?);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// As [`find`]; every glob must match something.
pub(crate) fn find_each(globs: &[Spanned<String>]) -> Result<Vec<PathBuf>, ConnectorError> {
    for glob in globs {
        if matches(glob)?.is_empty() {
            return Err(nothing(glob));
        }
    }
    find(globs)
}

fn matches(glob: &str) -> Result<Vec<PathBuf>, ConnectorError> {
    let paths = glob::glob(glob)
        .map_err(|error| ConnectorError::setup("path", format!("'{glob}' is no glob: {error}")))?;
    let mut found = Vec::new();
    for path in paths {
        // A folder that may not be read hides files: that is no empty match.
        let path = path.map_err(|error| {
            ConnectorError::io("path", &error.path().display().to_string(), error.error())
        })?;
        if !path.is_dir() {
            found.push(path);
        }
        if found.len() > FOUND_MAX {
            let message = format!("'{glob}' matches more than {FOUND_MAX} files; narrow it");
            return Err(ConnectorError::setup("path", message));
        }
    }
    Ok(found)
}

fn nothing(glob: &str) -> ConnectorError {
    let folder = if Path::new(glob).is_absolute() {
        String::new()
    } else {
        let folder = std::env::current_dir().unwrap_or_default();
        format!(" in {}", folder.display())
    };
    let message = format!(
        "no file matches '{glob}'{folder}; correct the path, or use mode = \"tail\" to wait for files"
    );
    ConnectorError::setup("path", message)
}

/// An open file and what it is.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) fd: OwnedFd,
    pub(crate) stat: Stat,
    pub(crate) print: Print,
}

/// Opens a regular file for reading.
pub(crate) fn open(path: &Path) -> io::Result<Opened> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        let message = "is not a regular file; for pipes use type = \"stdin\"";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let file = File::open(path)?;
    let stat = Stat::of(file.as_fd())?;
    let print = Print::take(file.as_fd(), PRINT_BYTES)?;
    Ok(Opened { fd: file.into(), stat, print })
}

impl Opened {
    /// The beginning of the file, for a header.
    pub(crate) fn head(&self) -> Vec<u8> {
        const HEAD_BYTES: usize = 64 << 10;
        let mut head = vec![0; HEAD_BYTES];
        let read = rustix::io::pread(&self.fd, &mut head, 0).unwrap_or(0);
        head.truncate(read);
        head
    }
}
