//! Files that are there as a whole or not at all, whenever the process dies.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Puts a file in the place of `path`: written to `beside`, which is in the
/// same file system, synced, renamed. One that was there leaves its
/// permissions to the new one.
pub(crate) fn replace(path: &Path, beside: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = File::create(beside)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    put_in_place(&file, path, beside)
}

/// The same, with a file that has been written.
pub(crate) fn put_in_place(file: &File, path: &Path, beside: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(old) => file.set_permissions(old.permissions())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.sync_all()?;
    fs::rename(beside, path)?;
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
