//! Looking at several bytes at once, without `unsafe`: every load is a checked
//! slice of fixed length, and what lies behind the end reads as zero.

use wide::u8x16;

/// The 8 bytes at `at`, little-endian.
#[inline(always)]
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => tail(bytes, at) as u64,
    }
}

/// The 16 bytes at `at`, little-endian.
#[inline(always)]
pub(crate) fn long_word(bytes: &[u8], at: usize) -> u128 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u128::from_le_bytes(*chunk),
        None => tail(bytes, at),
    }
}

/// The bytes from `at` to the end, which are fewer than 16.
#[inline(never)]
fn tail(bytes: &[u8], at: usize) -> u128 {
    let rest = bytes.len().saturating_sub(at);
    if rest == 0 {
        return 0;
    }
    match bytes.last_chunk() {
        Some(last) => u128::from_le_bytes(*last) >> (8 * (16 - rest.min(16))),
        None => {
            let mut out = [0; 16];
            out[..rest].copy_from_slice(&bytes[at..]);
            u128::from_le_bytes(out)
        }
    }
}

/// Where, from `at` on, the first byte stands that a JSON string cannot hold
/// as it is: a quote, a backslash or a control character; or the end.
#[inline(always)]
pub(crate) fn string_stop(bytes: &[u8], mut at: usize) -> usize {
    loop {
        // What reads as zero behind the end is a control character.
        let mask = special(long_word(bytes, at).to_le_bytes());
        if mask != 0 {
            return at + mask.trailing_zeros() as usize;
        }
        at += 16;
    }
}

/// One bit for each byte that a JSON string cannot hold as it is.
#[inline(always)]
pub(crate) fn special(chunk: [u8; 16]) -> u32 {
    let bytes = u8x16::new(chunk);
    let quote = bytes.simd_eq(u8x16::splat(b'"'));
    let backslash = bytes.simd_eq(u8x16::splat(b'\\'));
    let control = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    (quote | backslash | control).to_bitmask()
}

#[inline(always)]
pub(crate) fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// One bit for each byte that is no ASCII digit.
#[inline(always)]
pub(crate) fn non_digits(chunk: [u8; 16]) -> u32 {
    let bytes = u8x16::new(chunk);
    let below = bytes.min(u8x16::splat(b'0' - 1)).simd_eq(bytes);
    let above = bytes.max(u8x16::splat(b'9' + 1)).simd_eq(bytes);
    (below | above).to_bitmask()
}

/// The value of the first `digits` (1 to 8) bytes, which are ASCII digits.
#[inline(always)]
pub(crate) fn digits_value(word: u64, digits: usize) -> u64 {
    let mut v = word << (64 - 8 * digits);
    v = (v & 0x0F0F_0F0F_0F0F_0F0F).wrapping_mul(2561) >> 8;
    v = (v & 0x00FF_00FF_00FF_00FF).wrapping_mul(6_553_601) >> 16;
    (v & 0x0000_FFFF_0000_FFFF).wrapping_mul(42_949_672_960_001) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_stops_at_every_special_byte_and_at_no_other() {
        for special in 0..=255u8 {
            for len in 0..40 {
                let mut text = vec![b'x'; 40];
                text[len] = special;
                let stop = string_stop(&text, 0);
                assert_eq!(stop, if is_special(special) { len } else { 40 }, "{special} at {len}");
            }
        }
    }

    #[test]
    fn digits_are_told_apart_and_read() {
        for byte in 0..=255u8 {
            let mut chunk = *b"0918273645564738";
            chunk[5] = byte;
            let mask = if byte.is_ascii_digit() { 0 } else { 1 << 5 };
            assert_eq!(non_digits(chunk), mask, "{byte}");
        }
        for len in 1..=8usize {
            let mut bytes = *b"98765432";
            bytes[len..].fill(0xff);
            let want: u64 = "98765432"[..len].parse().unwrap();
            assert_eq!(digits_value(u64::from_le_bytes(bytes), len), want);
        }
    }

    #[test]
    fn behind_the_end_is_zero() {
        assert_eq!(word(b"ab", 1), u64::from(b'b'));
        assert_eq!(word(b"ab", 7), 0);
        assert_eq!(long_word(b"abc", 0), 0x0063_6261);
        let text: Vec<u8> = (1..=40).collect();
        for at in 0..50 {
            let mut expected = [0; 16];
            let rest = text.get(at..).unwrap_or_default();
            let len = rest.len().min(16);
            expected[..len].copy_from_slice(&rest[..len]);
            assert_eq!(long_word(&text, at).to_le_bytes(), expected, "{at}");
            assert_eq!(word(&text, at).to_le_bytes(), expected[..8], "{at}");
        }
    }
}
