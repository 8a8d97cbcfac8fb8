//! Acknowledged lines: how a stream of lines that TCP alone would lose ends
//! unacknowledged at its sender instead.
//!
//! The receiver answers on the same connection with the number of lines of it
//! that it has accepted so far, in decimal, and a line feed, whenever that
//! number has grown. The sender keeps every line until then, and sends what is
//! not acknowledged again on the next connection. Numbers begin at 0 with each
//! connection. A line is what ends with a line feed; an empty one counts.

/// The longest answer: the digits of `u64::MAX`.
const DIGITS_MAX: u32 = 20;

/// Reads the other side's answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answers {
    number: u64,
    digits: u32,
}

impl Answers {
    /// The last whole number in `bytes`, with what came before; `None` when
    /// there is no whole one yet.
    ///
    /// # Errors
    /// When it is no answer.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Option<u64>, &'static str> {
        const WRONG: &str = "the other side answered something else than a number of lines";
        let mut last = None;
        for byte in bytes {
            match byte {
                b'0'..=b'9' if self.digits < DIGITS_MAX => {
                    let digit = u64::from(byte - b'0');
                    let number = self.number.checked_mul(10).and_then(|n| n.checked_add(digit));
                    self.number = number.ok_or(WRONG)?;
                    self.digits += 1;
                }
                b'\r' if self.digits > 0 => {}
                b'\n' if self.digits > 0 => {
                    last = Some(self.number);
                    *self = Self::default();
                }
                _ => return Err(WRONG),
            }
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::Answers;
    use proptest::prelude::*;

    #[test]
    fn the_last_whole_number_counts() {
        let mut answers = Answers::default();
        assert_eq!(answers.read(b"1\n20\n30"), Ok(Some(20)));
        assert_eq!(answers.read(b""), Ok(None));
        assert_eq!(answers.read(b"0\r\n"), Ok(Some(300)));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bytes in ["x", "\n", "-1\n", "1 2\n", "99999999999999999999\n", "000000000000000000000"]
        {
            assert!(Answers::default().read(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_through_however_they_are_cut(numbers: Vec<u64>, cut in 1_usize..9) {
            let text: String = numbers.iter().map(|n| format!("{n}\n")).collect();
            let mut answers = Answers::default();
            let mut last = None;
            for piece in text.as_bytes().chunks(cut) {
                last = answers.read(piece).unwrap().or(last);
            }
            prop_assert_eq!(last, numbers.last().copied());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Answers::default().read(&bytes);
        }
    }
}
