//! Messages of a fixed size whose number can be read back from what the
//! receiver makes of them.

use super::LoadArgs;

/// Numbers have 13 digits from the first on, so that all messages are of one
/// size and JSON takes them.
const FIRST: u64 = 1_000_000_000_000;
const HEAD: &[u8] = b"{\"n\":";
const DIGITS: usize = 13;
const MIDDLE: &[u8] = b",\"device\":\"motor-0663\",\"rpm\":111.9,\"pad\":\"";
const TAIL: &[u8] = b"\"}";

/// A template, with room for the number.
#[derive(Debug)]
pub(super) struct Messages {
    text: Vec<u8>,
}

impl Messages {
    /// Of so many bytes each.
    pub(super) fn new(bytes: u64) -> Self {
        let fixed = HEAD.len() + DIGITS + MIDDLE.len() + TAIL.len();
        let pad = (bytes as usize).saturating_sub(fixed);
        let mut text = [HEAD, FIRST.to_string().as_bytes(), MIDDLE].concat();
        text.resize(text.len() + pad, b'x');
        text.extend_from_slice(TAIL);
        Self { text }
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The message of a number.
    pub(super) fn get(&mut self, number: u64) -> &[u8] {
        let digits = &mut self.text[HEAD.len()..HEAD.len() + DIGITS];
        let mut rest = FIRST + number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        &self.text
    }

    /// A block of lines, and how often to send it: all with the number 0.
    pub(super) fn block(&self, args: &LoadArgs) -> (Vec<u8>, u64) {
        const LINES: u64 = 4096;
        let lines = args.count.map_or(LINES, |count| count.clamp(1, LINES));
        let line = [&self.text[..], b"\n"].concat();
        let times = args.count.map_or(u64::MAX, |count| count.div_ceil(lines));
        (line.repeat(lines as usize), times)
    }
}

/// The number of a line that came back, wherever it stands in it.
pub(super) fn number(line: &[u8]) -> Option<u64> {
    let at = if line.starts_with(HEAD) {
        HEAD.len()
    } else {
        line.windows(HEAD.len() - 1).position(|part| part == &HEAD[1..])? + HEAD.len() - 1
    };
    let digits = line.get(at..at + DIGITS)?;
    let mut number = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    number.checked_sub(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_back_from_wherever_it_stands() {
        let mut messages = Messages::new(100);
        for n in [0, 1, 9, 1_234_567, 999_999_999] {
            let message = messages.get(n).to_vec();
            assert_eq!(message.len(), 100);
            assert_eq!(number(&message), Some(n));
            serde_json::from_slice::<serde_json::Value>(&message).unwrap();
        }
        assert_eq!(number(b"{\"a\":1,\"n\":1000000000042}"), Some(42));
        for other in [&b"{\"a\":1}"[..], b"{\"n\":12}", b"{\"n\":x000000000042}", b""] {
            assert_eq!(number(other), None);
        }
    }
}
