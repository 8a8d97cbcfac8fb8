//! Where lines end in a file that is not being read from its beginning.

use std::io;
use std::os::fd::AsFd;

use rustix::io::pread;

const BLOCK_BYTES: u64 = 64 << 10;

/// Where the last whole line of the first `size` bytes ends; none when it is
/// farther than `back_bytes` from there.
pub(crate) fn last_line_end(
    file: impl AsFd,
    size: u64,
    back_bytes: u64,
) -> io::Result<Option<u64>> {
    let mut block = vec![0; BLOCK_BYTES as usize];
    let mut end = size;
    while end > 0 {
        if size - end >= back_bytes {
            return Ok(None);
        }
        let start = end.saturating_sub(BLOCK_BYTES);
        let bytes = &mut block[..(end - start) as usize];
        read_exact(&file, bytes, start)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(Some(start + at as u64 + 1));
        }
        end = start;
    }
    Ok(Some(0))
}

fn read_exact(file: impl AsFd, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match pread(&file, &mut *bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn end_of(content: &[u8], back_bytes: u64) -> Option<u64> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        last_line_end(&file, content.len() as u64, back_bytes).unwrap()
    }

    #[test]
    fn the_last_line_feed_is_found_however_far_it_is() {
        assert_eq!(end_of(b"", 1 << 20), Some(0));
        assert_eq!(end_of(b"abc", 1 << 20), Some(0));
        assert_eq!(end_of(b"a\nbc\n", 1 << 20), Some(5));
        let mut long = b"a\n".to_vec();
        long.resize(300_000, b'x');
        assert_eq!(end_of(&long, 1 << 20), Some(2));
        assert_eq!(end_of(&long, 100_000), None);
    }
}
