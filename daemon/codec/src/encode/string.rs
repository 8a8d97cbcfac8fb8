//! Strings as JSON: copied and looked through in one pass.

use super::json::{At, Stop, byte, put};
use crate::scan::{is_special, special, string_stop};

/// Writes a string with its quotes; where it ends.
#[inline(always)]
pub(crate) fn string(out: &mut [u8], at: usize, text: &str) -> At {
    let bytes = text.as_bytes();
    let end = at + 1 + bytes.len();
    let to = out.get_mut(at..end + 1).ok_or(Stop::Room)?;
    to[0] = b'"';
    if !copy_plain(bytes, &mut to[1..1 + bytes.len()]) {
        return escaped(out, at, text);
    }
    to[1 + bytes.len()] = b'"';
    Ok(end + 1)
}

/// Copies text that needs no escapes; false if it does. Both have the same
/// length. The last word overlaps the one before it.
#[inline(always)]
fn copy_plain(from: &[u8], to: &mut [u8]) -> bool {
    if from.len() >= 16 {
        return copy_plain_long(from, to);
    }
    if let (Some(head), Some(tail)) = (from.first_chunk::<8>(), from.last_chunk::<8>()) {
        if let Some(to) = to.first_chunk_mut() {
            *to = *head;
        }
        if let Some(to) = to.last_chunk_mut() {
            *to = *tail;
        }
        return special(join(*head, *tail)) == 0;
    }
    if let (Some(head), Some(tail)) = (from.first_chunk::<4>(), from.last_chunk::<4>()) {
        if let Some(to) = to.first_chunk_mut() {
            *to = *head;
        }
        if let Some(to) = to.last_chunk_mut() {
            *to = *tail;
        }
        let both =
            u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << 32;
        return special(join(both.to_le_bytes(), both.to_le_bytes())) == 0;
    }
    for (from, to) in from.iter().zip(to) {
        if is_special(*from) {
            return false;
        }
        *to = *from;
    }
    true
}

#[inline(always)]
fn join(low: [u8; 8], high: [u8; 8]) -> [u8; 16] {
    (u128::from(u64::from_le_bytes(low)) | u128::from(u64::from_le_bytes(high)) << 64).to_le_bytes()
}

#[inline(never)]
fn copy_plain_long(from: &[u8], to: &mut [u8]) -> bool {
    let (chunks, _) = from.as_chunks::<16>();
    let (places, _) = to.as_chunks_mut::<16>();
    for (chunk, place) in chunks.iter().zip(places) {
        *place = *chunk;
        if special(*chunk) != 0 {
            return false;
        }
    }
    match (from.last_chunk::<16>(), to.last_chunk_mut::<16>()) {
        (Some(tail), Some(place)) => {
            *place = *tail;
            special(*tail) == 0
        }
        _ => true,
    }
}

/// Writes a string that needs escapes: the short ones where JSON has them.
#[cold]
#[inline(never)]
fn escaped(out: &mut [u8], at: usize, text: &str) -> At {
    let bytes = text.as_bytes();
    let mut to = byte(out, at, b'"')?;
    let mut from = 0;
    loop {
        let stop = string_stop(bytes, from);
        to = put(out, to, &bytes[from..stop])?;
        let Some(special) = bytes.get(stop) else { break };
        to = match special {
            b'"' => put(out, to, b"\\\"")?,
            b'\\' => put(out, to, b"\\\\")?,
            0x08 => put(out, to, b"\\b")?,
            0x0c => put(out, to, b"\\f")?,
            b'\n' => put(out, to, b"\\n")?,
            b'\r' => put(out, to, b"\\r")?,
            b'\t' => put(out, to, b"\\t")?,
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (usize::from(control >> 4), usize::from(control & 15));
                put(out, to, &[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]])?
            }
        };
        from = stop + 1;
    }
    byte(out, to, b'"')
}
