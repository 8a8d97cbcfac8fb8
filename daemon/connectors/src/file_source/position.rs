//! Where reading goes on after a restart: one mark per file.
//!
//! ```text
//! "RMFP" | version u8 | count u32 | mark ...
//! mark: device u64 | inode u64 | print len u16 | print hash u64 | offset u64 | path len u32 | path
//! ```
//! Little-endian. Marks of several shards may be merged: of two marks of one
//! file, the further one holds, which is right because a file that was
//! rewritten has another print. Bound: [`MARKS_MAX`] marks.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::identity::{FileId, Print};
use crate::ConnectorError;

const MAGIC: &[u8; 4] = b"RMFP";
const VERSION: u8 = 1;
const MARKS_MAX: usize = 1 << 20;

/// How far a file has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) id: FileId,
    pub(crate) print: Print,
    /// After the last frame that was given out.
    pub(crate) offset: u64,
    pub(crate) path: PathBuf,
}

pub(crate) fn encode<'a>(marks: impl Iterator<Item = &'a Mark>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&[0; 4]);
    let mut count = 0_u32;
    for mark in marks.take(MARKS_MAX) {
        out.extend_from_slice(&mark.id.device.to_le_bytes());
        out.extend_from_slice(&mark.id.inode.to_le_bytes());
        out.extend_from_slice(&mark.print.len.to_le_bytes());
        out.extend_from_slice(&mark.print.hash.to_le_bytes());
        out.extend_from_slice(&mark.offset.to_le_bytes());
        let path = mark.path.as_os_str().as_bytes();
        out.extend_from_slice(&(path.len() as u32).to_le_bytes());
        out.extend_from_slice(path);
        count += 1;
    }
    out[5..9].copy_from_slice(&count.to_le_bytes());
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Mark>, ConnectorError> {
    let wrong = |what: &str| {
        let message = format!(
            "the stored position is {what}; remove the flow's checkpoint from data_dir to read \
             the files from their beginning"
        );
        ConnectorError::setup("path", message)
    };
    let mut left = bytes;
    if take(&mut left).as_ref() != Some(MAGIC) {
        return Err(wrong("not one of a file source"));
    }
    match take::<1>(&mut left) {
        Some([VERSION]) => {}
        _ => return Err(wrong("of another version")),
    }
    let mut marks = Vec::new();
    let count = take(&mut left).map(u32::from_le_bytes).ok_or_else(|| wrong("cut off"))?;
    for _ in 0..count {
        marks.push(mark(&mut left).ok_or_else(|| wrong("cut off"))?);
    }
    if left.is_empty() { Ok(marks) } else { Err(wrong("followed by something else")) }
}

fn mark(left: &mut &[u8]) -> Option<Mark> {
    let device = u64::from_le_bytes(take(left)?);
    let inode = u64::from_le_bytes(take(left)?);
    let len = u16::from_le_bytes(take(left)?);
    let hash = u64::from_le_bytes(take(left)?);
    let offset = u64::from_le_bytes(take(left)?);
    let path_len = usize::try_from(u32::from_le_bytes(take(left)?)).ok()?;
    let (path, rest) = left.split_at_checked(path_len)?;
    *left = rest;
    let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
    Some(Mark { id: FileId { device, inode }, print: Print { len, hash }, offset, path })
}

fn take<const N: usize>(left: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = left.split_first_chunk()?;
    *left = rest;
    Some(*head)
}

/// Adds marks to those that are there; the further of two about one file
/// holds.
pub(crate) fn merge(into: &mut Vec<Mark>, marks: Vec<Mark>) {
    for mark in marks {
        let same = |known: &&mut Mark| known.id == mark.id && known.print == mark.print;
        match into.iter_mut().find(same) {
            Some(known) if known.offset >= mark.offset => {}
            Some(known) => *known = mark,
            None => into.push(mark),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(inode: u64, offset: u64) -> Mark {
        Mark {
            id: FileId { device: 1, inode },
            print: Print { len: 3, hash: 9 },
            offset,
            path: PathBuf::from(format!("logs/{inode} ü")),
        }
    }

    #[test]
    fn marks_survive_the_way_through_bytes() {
        let marks = vec![mark(1, 5), mark(2, u64::MAX)];
        assert_eq!(decode(&encode(marks.iter())).unwrap(), marks);
        assert_eq!(decode(&encode([].iter())).unwrap(), []);
    }

    #[test]
    fn every_cut_and_any_other_bytes_are_refused() {
        let bytes = encode([mark(1, 5), mark(2, 6)].iter());
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode(&longer).is_err());
        let mut other = bytes;
        other[4] = 2;
        assert!(decode(&other).unwrap_err().message.contains("version"));
    }

    #[test]
    fn of_two_marks_the_further_one_holds() {
        let mut marks = vec![mark(1, 5)];
        merge(&mut marks, vec![mark(1, 3), mark(2, 1), mark(1, 8)]);
        assert_eq!(marks, [mark(1, 8), mark(2, 1)]);
    }
}
