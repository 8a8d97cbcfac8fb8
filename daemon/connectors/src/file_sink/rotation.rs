//! Names of files that were closed: `NAME.000001` and so on, rising, so that
//! they sort by age and are never renamed again.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const DIGITS: usize = 6;

/// The closed files of one path.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    numbers: VecDeque<u64>,
}

impl Closed {
    /// Those that are there.
    pub(crate) fn find(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut numbers = Vec::new();
        for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let entry = entry?.file_name();
            let entry = entry.to_string_lossy();
            let rest = entry.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.'));
            let digits = rest.filter(|rest| {
                rest.len() >= DIGITS && rest.bytes().all(|byte| byte.is_ascii_digit())
            });
            numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(Self { numbers: numbers.into() })
    }

    /// Gives the file at `path` its final name, and removes the oldest beyond
    /// `keep`.
    pub(crate) fn retire(&mut self, path: &Path, keep: Option<u32>) -> io::Result<PathBuf> {
        let number = self.numbers.back().map_or(1, |last| last + 1);
        let to = numbered(path, number);
        fs::rename(path, &to)?;
        self.numbers.push_back(number);
        let keep = keep.map_or(usize::MAX, |keep| keep as usize);
        while self.numbers.len() > keep
            && let Some(oldest) = self.numbers.pop_front()
        {
            match fs::remove_file(numbered(path, oldest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(to)
    }
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(format!(".{number:0DIGITS$}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn numbers_rise_across_restarts_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        fs::write(folder.path().join("x.log.old"), "").unwrap();
        for _ in 0..2 {
            let mut closed = Closed::find(&path).unwrap();
            for _ in 0..2 {
                fs::write(&path, "").unwrap();
                closed.retire(&path, Some(3)).unwrap();
            }
        }
        let want = ["x.log.000002", "x.log.000003", "x.log.000004", "x.log.old"];
        assert_eq!(names(folder.path()), want);
    }
}
