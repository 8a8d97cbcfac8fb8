//! Which file it is, whatever it is called now.
//!
//! A file is known by device and inode, and by a hash of its first bytes,
//! since inodes are used again. What cannot be known: whether a file was
//! truncated and written again with the same first bytes and to at least the
//! same length between two looks.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::fstat;
use rustix::io::pread;

/// Bytes of the beginning that are hashed.
pub(crate) const PRINT_BYTES: usize = 1024;

/// Device and inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileId {
    /// Spreads files over shards; stays when a file is renamed.
    pub(crate) fn spread(self) -> u64 {
        let mut hash = Fnv::new();
        hash.write(&self.device.to_le_bytes());
        hash.write(&self.inode.to_le_bytes());
        hash.0 >> 16
    }
}

/// Hash of the first `len` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Print {
    pub(crate) len: u16,
    pub(crate) hash: u64,
}

impl Print {
    /// Of at most `len_max` first bytes.
    pub(crate) fn take(fd: BorrowedFd<'_>, len_max: usize) -> io::Result<Self> {
        let mut bytes = [0; PRINT_BYTES];
        let bytes = &mut bytes[..len_max.min(PRINT_BYTES)];
        let mut filled = 0;
        while filled < bytes.len() {
            match pread(fd, &mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut hash = Fnv::new();
        hash.write(&bytes[..filled]);
        Ok(Self { len: filled as u16, hash: hash.0 })
    }

    /// Whether the file still begins like this.
    pub(crate) fn matches(self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(Self::take(fd, usize::from(self.len))? == self)
    }

    /// No more bytes will make it more certain.
    pub(crate) fn is_full(self) -> bool {
        usize::from(self.len) == PRINT_BYTES
    }
}

/// What the system says about an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) id: FileId,
    pub(crate) size: u64,
    pub(crate) modified_ns: i128,
    pub(crate) links: u64,
}

impl Stat {
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = fstat(fd)?;
        Ok(Self {
            id: FileId { device: stat.st_dev, inode: stat.st_ino },
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_ns: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
            links: stat.st_nlink as u64,
        })
    }
}

/// FNV-1a: short, and the same in every version, which positions need.
struct Fnv(u64);

impl Fnv {
    const START: u64 = 0xCBF2_9CE4_8422_2325;

    fn new() -> Self {
        Self(Self::START)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_file_that_grows_keeps_its_print_and_a_rewritten_one_does_not() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\n").unwrap();
        let print = Print::take(file.as_fd(), PRINT_BYTES).unwrap();
        assert_eq!(print.len, 4);
        file.write_all(b"two\n").unwrap();
        assert!(print.matches(file.as_fd()).unwrap());
        file.set_len(0).unwrap();
        assert!(!print.matches(file.as_fd()).unwrap());
        let empty = Print::take(file.as_fd(), 0).unwrap();
        file.write_all(b"three\n").unwrap();
        assert!(empty.matches(file.as_fd()).unwrap());
    }

    #[test]
    fn the_hash_is_the_published_one() {
        let mut hash = Fnv::new();
        hash.write(b"foobar");
        assert_eq!(hash.0, 0x8594_4171_F739_67E8);
    }
}
