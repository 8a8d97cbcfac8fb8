//! Opening a file to write to: folders, a torn tail, a header.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use ringmain_base::Reason;
use ringmain_config::plan::FileMode;

use crate::lines::last_line_end;
use crate::{Claims, Refusals};

/// A line that was torn is not longer than this; a file without a line feed
/// in so many bytes is not one of lines, and is left alone.
const TAIL_BYTES_MAX: u64 = 64 << 20;

/// How files of a sink are opened.
pub(crate) struct Opening {
    pub(crate) mode: FileMode,
    /// Several shards append to the same file.
    pub(crate) shared: bool,
    /// Frames are lines.
    pub(crate) lines: bool,
    pub(crate) header: Vec<u8>,
    pub(crate) claims: Claims,
}

/// An open file.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) size: u64,
    /// When its content began, microseconds since 1970.
    pub(crate) born_us: i64,
}

impl Opening {
    /// Opens, creates or empties the file at `path`.
    pub(crate) fn open(
        &self,
        path: &Path,
        wall_us: i64,
        refusals: &mut dyn Refusals,
    ) -> io::Result<Opened> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).create(true).truncate(false);
        let options = if self.shared { options.append(true) } else { options.write(true) };
        let file = options.open(path).or_else(|error| write_only(error, self.shared, path))?;
        if !file.metadata()?.is_file() {
            // A device or a pipe: nothing to repair, nothing to empty.
            return Ok(Opened { file, size: 0, born_us: wall_us });
        }
        self.claims.first(path, || self.prepare(&file, path, refusals))?;
        let metadata = file.metadata()?;
        let fresh = metadata.len() <= self.header.len() as u64;
        let time = metadata.created().or_else(|_| metadata.modified()).ok();
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born_us = since.and_then(|since| i64::try_from(since.as_micros()).ok());
        let born_us = born_us.filter(|_| !fresh).unwrap_or(wall_us);
        Ok(Opened { file, size: metadata.len(), born_us })
    }

    /// A new file that takes the place of one that was renamed.
    pub(crate) fn renew(&self, path: &Path, wall_us: i64) -> io::Result<Opened> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.write_all_at(&self.header, 0)?;
        Ok(Opened { file, size: self.header.len() as u64, born_us: wall_us })
    }

    /// What only the first to open the file in this run does.
    fn prepare(&self, file: &File, path: &Path, refusals: &mut dyn Refusals) -> io::Result<()> {
        let mut size = file.metadata()?.len();
        if self.mode == FileMode::Truncate && size > 0 {
            file.set_len(0)?;
            size = 0;
        }
        if self.lines && size > 0 {
            size = repair(file, size, path, refusals)?;
        }
        if size == 0 && !self.header.is_empty() {
            file.write_all_at(&self.header, 0)?;
        }
        Ok(())
    }
}

/// A file that may be written and not read.
fn write_only(error: io::Error, shared: bool, path: &Path) -> io::Result<File> {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return Err(error);
    }
    OpenOptions::new().write(!shared).append(shared).open(path).map_err(|_| error)
}

/// Cuts off what stands behind the last line feed, and reports it. Returns the
/// size that is left.
fn repair(file: &File, size: u64, path: &Path, refusals: &mut dyn Refusals) -> io::Result<u64> {
    let keep = match last_line_end(file, size, TAIL_BYTES_MAX) {
        Ok(Some(keep)) => keep,
        Ok(None) => {
            let message = "its last 64 MiB hold no line feed, so it is no file of lines; name \
                           another file or use mode = \"truncate\"";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        // Not readable: then nothing can be said about its end.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()) => size,
        Err(error) => return Err(error),
    };
    if keep < size {
        let mut torn = vec![0; usize::try_from(size - keep).unwrap_or(0).min(1 << 20)];
        file.read_exact_at(&mut torn, keep)?;
        file.set_len(keep)?;
        let detail = format!("a line without its end, {} B, was cut off the file", size - keep);
        refusals.bytes(Reason::Truncated, &detail, &path.display().to_string(), keep, &torn);
    }
    Ok(keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Refused;

    fn opening(lines: bool, header: &[u8]) -> Opening {
        Opening {
            mode: FileMode::Append,
            shared: false,
            lines,
            header: header.to_vec(),
            claims: Claims::default(),
        }
    }

    fn opened(before: &[u8], opening: &Opening) -> (Vec<u8>, u64, Vec<Refused>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.ndjson");
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(&path, before).unwrap();
        let mut refused = Vec::new();
        let size = opening.open(&path, 0, &mut refused).unwrap().size;
        (std::fs::read(&path).unwrap(), size, refused)
    }

    #[test]
    fn a_torn_line_is_cut_off_and_reported() {
        let (after, size, refused) = opened(b"one\ntwo\nthr", &opening(true, b""));
        assert_eq!((after.as_slice(), size), (b"one\ntwo\n".as_slice(), 8));
        assert_eq!((refused[0].bytes.as_slice(), refused[0].offset), (b"thr".as_slice(), 8));
        assert_eq!(refused[0].reason, Reason::Truncated);
    }

    #[test]
    fn whole_lines_and_other_framings_are_left_alone() {
        for (before, lines) in [(b"one\n".as_slice(), true), (b"", true), (b"\0\0\0\x01x", false)] {
            let (after, size, refused) = opened(before, &opening(lines, b""));
            assert_eq!((after.as_slice(), size), (before, before.len() as u64));
            assert!(refused.is_empty());
        }
    }

    #[test]
    fn a_line_longer_than_a_block_is_found() {
        let mut before = b"one\n".to_vec();
        before.resize(200_000, b'x');
        let (after, size, refused) = opened(&before, &opening(true, b""));
        assert_eq!((after.as_slice(), size), (b"one\n".as_slice(), 4));
        assert_eq!(refused[0].bytes.len(), 199_996);
    }

    #[test]
    fn an_empty_file_gets_its_header_and_a_full_one_does_not() {
        assert_eq!(opened(b"", &opening(true, b"a,b\n")).0, b"a,b\n");
        assert_eq!(opened(b"a,b\n1,2\n", &opening(true, b"a,b\n")).0, b"a,b\n1,2\n");
    }

    #[test]
    fn only_the_first_to_open_a_file_empties_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/x");
        let opening = Opening { mode: FileMode::Truncate, ..opening(true, b"") };
        opening.open(&path, 0, &mut Vec::new()).unwrap();
        std::fs::write(&path, b"one\n").unwrap();
        assert_eq!(opening.open(&path, 0, &mut Vec::new()).unwrap().size, 4);
    }
}
