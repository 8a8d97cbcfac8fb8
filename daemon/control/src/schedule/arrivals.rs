//! Files that appear.
//!
//! A file is known by its path, its number in the file system and the time it
//! was made: one that takes the place of another counts as new, one that grows
//! does not. A look replaces what is known, so a file that was gone and is
//! back has appeared again.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ringmain_config::Spanned;
use xxhash_rust::xxh3::Xxh3;

/// Files that one look takes up. With more, those last by name do not count.
const FILES_MAX: usize = 10_000;

/// Which files were there at the last look.
pub(crate) type Known = BTreeSet<u64>;

/// Files that are there now: what was known and still is there, and what is
/// new and has not changed for so long.
pub(crate) struct Look {
    pub known: Known,
    pub new: usize,
}

/// Looks for files.
pub(crate) fn look(
    globs: &[Spanned<String>],
    settle_us: u64,
    wall_us: i64,
    before: &Known,
) -> Look {
    let paths = globs.iter().filter_map(|glob| glob::glob(glob).ok()).flatten();
    let mut found = Look { known: Known::new(), new: 0 };
    for path in paths.filter_map(Result::ok).take(FILES_MAX) {
        let Ok(meta) = path.metadata() else { continue };
        if !meta.is_file() {
            continue;
        }
        let id = identity(&path, &meta);
        if before.contains(&id) {
            found.known.insert(id);
        } else if is_settled(&meta, settle_us, wall_us) {
            found.new += usize::from(found.known.insert(id));
        }
    }
    found
}

fn identity(path: &Path, meta: &Metadata) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(path.as_os_str().as_encoded_bytes());
    hash.update(&meta.dev().to_le_bytes());
    hash.update(&meta.ino().to_le_bytes());
    hash.update(&us_of(meta.created().ok()).to_le_bytes());
    hash.digest()
}

fn is_settled(meta: &Metadata, settle_us: u64, wall_us: i64) -> bool {
    let quiet_us = wall_us.saturating_sub(us_of(meta.modified().ok()));
    settle_us == 0 || quiet_us >= i64::try_from(settle_us).unwrap_or(i64::MAX)
}

fn us_of(time: Option<SystemTime>) -> i64 {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmain_config::{FileId, Span};

    #[test]
    fn a_file_counts_once_it_is_quiet_and_again_when_another_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let glob = dir.path().join("*.csv").display().to_string();
        let globs = [Spanned::new(glob, Span::new(FileId(0), 0, 0))];
        let path = dir.path().join("a.csv");
        std::fs::write(&path, "1").unwrap();
        std::fs::write(dir.path().join("a.txt"), "1").unwrap();
        let now = us_of(Some(SystemTime::now()));
        let second = 1_000_000;
        let young = look(&globs, 60 * second as u64, now, &Known::new());
        assert_eq!((young.new, young.known.len()), (0, 0));
        let quiet = look(&globs, 60 * second as u64, now + 61 * second, &Known::new());
        assert_eq!((quiet.new, quiet.known.len()), (1, 1));
        // It grows: the same file.
        std::fs::write(&path, "12").unwrap();
        assert_eq!(look(&globs, 0, now, &quiet.known).new, 0);
        // Another one in its place.
        std::fs::write(dir.path().join("b"), "3").unwrap();
        std::fs::rename(dir.path().join("b"), &path).unwrap();
        assert_eq!(look(&globs, 0, now, &quiet.known).new, 1);
        // Gone, and back.
        std::fs::remove_file(&path).unwrap();
        let gone = look(&globs, 0, now, &quiet.known);
        assert_eq!((gone.new, gone.known.len()), (0, 0));
    }
}
