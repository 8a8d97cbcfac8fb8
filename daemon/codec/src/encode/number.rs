//! Numbers as text: integers eight digits at a time, floats by the shortest
//! text that reads back the same.

/// Room that a number's text needs, with slack for writing whole words.
pub(crate) const ROOM: usize = 40;

/// Writes `value`; how many bytes.
#[inline]
pub(crate) fn int(value: i64, out: &mut [u8; ROOM]) -> usize {
    out[0] = b'-';
    unsigned(value.unsigned_abs(), out, usize::from(value < 0))
}

/// Writes `value`, which is finite; how many bytes. Always with a fraction or
/// an exponent, so that it reads back as a float.
#[inline]
pub(crate) fn float(value: f64, out: &mut [u8; ROOM]) -> usize {
    // Most measured values have three decimals at most. If `thousandths /
    // 1000` is `value` again, it has at most 15 digits, and no two decimals of
    // so few digits share a double: there is no shorter text.
    let magnitude = value.abs();
    if magnitude < 1e12 {
        let thousandths = (magnitude * 1000.0 + 0.5) as i64;
        if thousandths as f64 / 1000.0 == magnitude {
            return thousandths_text(value.is_sign_negative(), thousandths as u64, out);
        }
    }
    shortest(value, out)
}

#[inline]
fn thousandths_text(negative: bool, thousandths: u64, out: &mut [u8; ROOM]) -> usize {
    out[0] = b'-';
    let at = usize::from(negative);
    let whole = thousandths / 1000;
    let fraction = TRIPLES[(thousandths % 1000) as usize & 1023];
    // The dot, and the fraction with one digit at least.
    let tail = u64::from(b'.') | u64::from(fraction.digits) << 8;
    let tail_len = 4 - usize::from(fraction.trailing);
    let Some(triple) = TRIPLES[..1000].get(whole as usize) else {
        let at = unsigned(whole, out, at);
        put(out, at, (tail as u32).to_le_bytes());
        return at + tail_len;
    };
    let len = 3 - usize::from(triple.leading);
    let head = u64::from(triple.digits >> (8 * triple.leading));
    put(out, at, (head | tail << (8 * len)).to_le_bytes());
    at + len + tail_len
}

/// Three digits, first digit in the first byte, and how many of them can be
/// left out on either side, one remaining.
#[derive(Clone, Copy)]
struct Triple {
    digits: u32,
    leading: u8,
    trailing: u8,
}

/// The numbers below 1000; filled up so that no index needs a check.
static TRIPLES: [Triple; 1024] = {
    let mut all = [Triple { digits: 0, leading: 0, trailing: 0 }; 1024];
    let mut n = 0;
    while n < 1000 {
        let (a, b, c) = (n / 100, n / 10 % 10, n % 10);
        all[n as usize] = Triple {
            digits: (a | b << 8 | c << 16) | 0x0030_3030,
            leading: (n < 100) as u8 + (n < 10) as u8,
            trailing: (c == 0) as u8 + (c == 0 && b == 0) as u8,
        };
        n += 1;
    }
    all
};

#[cold]
#[inline(never)]
fn shortest(value: f64, out: &mut [u8; ROOM]) -> usize {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value).as_bytes();
    out[..text.len()].copy_from_slice(text);
    text.len()
}

const WORD: u64 = 100_000_000;

/// Writes the digits of `value` at `at`; where they end.
#[inline]
fn unsigned(value: u64, out: &mut [u8; ROOM], at: usize) -> usize {
    if let Some(triple) = TRIPLES[..1000].get(value as usize) {
        let digits = triple.digits >> (8 * triple.leading);
        put(out, at, digits.to_le_bytes());
        return at + 3 - usize::from(triple.leading);
    }
    if value < WORD {
        return first(value as u32, out, at);
    }
    let (high, low) = (value / WORD, (value % WORD) as u32);
    let at = if high < WORD {
        first(high as u32, out, at)
    } else {
        let at = first((high / WORD) as u32, out, at);
        put(out, at, eight((high % WORD) as u32).to_le_bytes());
        at + 8
    };
    put(out, at, eight(low).to_le_bytes());
    at + 8
}

/// Writes up to eight digits without leading zeros.
#[inline]
fn first(value: u32, out: &mut [u8; ROOM], at: usize) -> usize {
    let digits = eight(value);
    // The last digit stays even if it is zero.
    let lead = ((digits & 0x000F_0F0F_0F0F_0F0F) | 1 << 56).trailing_zeros() as usize / 8;
    put(out, at, (digits >> (8 * lead)).to_le_bytes());
    at + 8 - lead
}

/// The eight digits of a number below 10^8, first digit in the first byte.
#[inline]
fn eight(value: u32) -> u64 {
    let (high, low) = (u64::from(value / 10_000), u64::from(value % 10_000));
    let fours = high | low << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007F_0000_007F;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000F_000F_000F_000F;
    (tens | (twos - 10 * tens) << 8) | 0x3030_3030_3030_3030
}

#[inline]
fn put<const N: usize>(out: &mut [u8; ROOM], at: usize, bytes: [u8; N]) {
    // Texts have at most 24 bytes, so words always fit; an index that the
    // compiler cannot see the bound of is checked.
    out[at..at + N].copy_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use ringmain_base::{Prng, Xoshiro};

    use super::*;

    fn int_text(value: i64) -> String {
        let mut out = [0xff; ROOM];
        let len = int(value, &mut out);
        String::from_utf8(out[..len].to_vec()).unwrap()
    }

    fn float_text(value: f64) -> String {
        let mut out = [0xff; ROOM];
        let len = float(value, &mut out);
        String::from_utf8(out[..len].to_vec()).unwrap()
    }

    #[test]
    fn integers_are_written_as_std_does() {
        let mut edges = vec![0, i64::MAX, i64::MIN];
        let mut power = 1i64;
        for _ in 0..19 {
            edges.extend([power - 1, power, power + 1, -power, 1 - power]);
            power = power.wrapping_mul(10);
        }
        for value in edges {
            assert_eq!(int_text(value), value.to_string());
        }
        let mut rng = Xoshiro::new(3);
        for _ in 0..100_000 {
            let value = (rng.next_u64() >> rng.below(64)) as i64;
            assert_eq!(int_text(value), value.to_string());
        }
    }

    #[test]
    fn floats_are_the_shortest_text_that_reads_back() {
        let mut buffer = zmij::Buffer::new();
        let mut check = |value: f64| {
            let text = float_text(value);
            assert_eq!(text, buffer.format_finite(value), "{value:?}");
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
        };
        for value in [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.1,
            0.001,
            0.0005,
            0.0015,
            99.999,
            1e11,
            1e12,
            1e15,
            1e16,
            1e17,
            999_999_999_999.999,
            0.3,
            0.1 + 0.2,
            5e-324,
            f64::MAX,
            f64::MIN_POSITIVE,
            123.45,
            2.5e-7,
        ] {
            check(value);
            check(-value);
        }
        let mut rng = Xoshiro::new(4);
        for _ in 0..100_000 {
            check(rng.below(1_000_000_000) as f64 / 1000.0);
            check(rng.below(1_000_000) as f64 / 100.0 - 10.0);
            let any = f64::from_bits(rng.next_u64());
            if any.is_finite() {
                check(any);
            }
        }
    }
}
