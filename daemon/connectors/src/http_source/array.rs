//! A JSON array as lines: where its elements end is made line ends, in place,
//! so that the one JSON decoder reads each element as a message.
//!
//! This is no parser: it knows strings and how deep brackets are nested, and
//! leaves the elements to the decoder. What it does must never make something
//! valid of what is not: a raw line end in a string, which JSON forbids,
//! becomes another character that JSON forbids.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    /// Behind the bracket.
    First,
    /// In an element that has begun.
    Element,
    /// Behind a comma.
    Next,
    After,
}

/// What is wrong with the array itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

pub(super) struct Array {
    state: State,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Array {
    pub(super) fn new() -> Self {
        Self { state: State::Before, depth: 0, in_string: false, escaped: false }
    }

    /// Turns a piece of the array into a piece of lines.
    pub(super) fn lines(&mut self, bytes: &mut [u8]) -> Result<(), Problem> {
        let mut at = 0;
        while at < bytes.len() {
            if self.is_between()
                && let Some(len) = flat_object(&bytes[at..])
            {
                self.state = State::Element;
                at += len;
                continue;
            }
            bytes[at] = self.step(bytes[at]).map_err(|what| Problem { at, what })?;
            at += 1;
        }
        Ok(())
    }

    /// Where an element may begin.
    fn is_between(&self) -> bool {
        matches!(self.state, State::First | State::Next)
    }

    fn step(&mut self, byte: u8) -> Result<u8, &'static str> {
        if self.in_string {
            return Ok(self.in_string(byte));
        }
        let top = self.depth == 0;
        match (byte, self.state) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => return Ok(b' '),
            (b'[', State::Before) => self.state = State::First,
            (_, State::Before) => return Err("a JSON array begins with '['"),
            (_, State::After) => return Err("something follows the array"),
            (b']', State::First | State::Element) if top => {
                self.state = State::After;
                return Ok(b'\n');
            }
            (b']' | b',', State::First | State::Next) if top => {
                return Err("an element of the array is missing");
            }
            (b',', State::Element) if top => {
                self.state = State::Next;
                return Ok(b'\n');
            }
            _ => {
                self.state = State::Element;
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                return Ok(byte);
            }
        }
        Ok(b' ')
    }

    fn in_string(&mut self, byte: u8) -> u8 {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
        if matches!(byte, b'\n' | b'\r') { 1 } else { byte }
    }

    /// The array is closed.
    pub(super) fn is_whole(&self) -> bool {
        self.state == State::After
    }
}

/// The length of the object that the bytes begin with, if it is all there,
/// nothing is nested in it, and no byte needs a second look: which is what
/// arrays of messages are made of, and is told sixteen bytes at a time.
fn flat_object(bytes: &[u8]) -> Option<usize> {
    let (b'{', rest) = bytes.split_first()? else { return None };
    let inside = &rest[..memchr::memchr(b'}', rest)?];
    // Without a branch, so that the compiler makes vectors of it.
    let (mut special, mut quotes) = (false, false);
    for byte in inside {
        special |= *byte < b' ' || matches!(byte, b'\\' | b'{' | b'[' | b']');
        quotes ^= *byte == b'"';
    }
    // The first closing brace ends it unless it stands in a text.
    (!special && !quotes).then_some(inside.len() + 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn lines(text: &str, piece: usize) -> Result<(Vec<String>, bool), &'static str> {
        let mut array = Array::new();
        let mut bytes = text.as_bytes().to_vec();
        for chunk in bytes.chunks_mut(piece) {
            array.lines(chunk).map_err(|problem| problem.what)?;
        }
        let text = String::from_utf8(bytes).unwrap();
        let elements = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok((elements.map(str::to_owned).collect(), array.is_whole()))
    }

    #[test]
    fn elements_become_lines() {
        for (text, elements) in [
            ("[]", vec![]),
            (" [ ] \n", vec![]),
            ("[1]", vec!["1"]),
            (
                "[{\"a\":[1,2]},\r\n {\"b\":\"],\\\"[\"}]",
                vec!["{\"a\":[1,2]}", "{\"b\":\"],\\\"[\"}"],
            ),
        ] {
            for piece in 1..=text.len() {
                let (found, whole) = lines(text, piece).unwrap();
                assert_eq!(
                    (found, whole),
                    (elements.iter().map(|e| (*e).to_owned()).collect(), true)
                );
            }
        }
    }

    #[test]
    fn what_is_no_array_is_told_from_one() {
        for (text, what) in [
            ("{}", "begins with '['"),
            ("[,1]", "is missing"),
            ("[1,]", "is missing"),
            ("[1,,2]", "is missing"),
            ("[1] x", "follows the array"),
            ("[1][2]", "follows the array"),
        ] {
            assert!(lines(text, 1).unwrap_err().contains(what), "{text}");
        }
        assert!(!lines("[{\"a\":1}", 1).unwrap().1);
        assert!(!lines("[\"]", 1).unwrap().1);
    }

    #[test]
    fn a_line_end_in_a_string_stays_wrong() {
        let (found, whole) = lines("[\"a\nb\"]", 3).unwrap();
        assert_eq!((found, whole), (vec!["\"a\u{1}b\"".to_owned()], true));
    }

    /// Byte by byte, as without the short cut.
    fn slowly(text: &str) -> (Vec<u8>, Option<Problem>) {
        let mut array = Array::new();
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte) in bytes.iter_mut().enumerate() {
            match array.step(*byte) {
                Ok(new) => *byte = new,
                Err(what) => return (bytes, Some(Problem { at, what })),
            }
        }
        (bytes, None)
    }

    #[test]
    fn only_what_is_flat_and_whole_is_taken_at_once() {
        for (text, len) in [
            ("{}", Some(2)),
            ("{\"a\":1},{}", Some(7)),
            ("{\"a\":\"}\"}", None),
            ("{\"a\":{}}", None),
            ("{\"a\":[1]}", None),
            ("{\"a\":\"\\\"\"}", None),
            ("{\"a\":\n1}", None),
            ("{\"a\":1", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(flat_object(text.as_bytes()), len, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_short_cut_changes_nothing(
            text in "\\[[{}\\[\\]\",:a \n\\\\]{0,60}",
            piece in 1_usize..70,
        ) {
            let mut array = Array::new();
            let mut bytes = text.as_bytes().to_vec();
            let (expected, problem) = slowly(&text);
            let (mut at, mut found) = (0, None);
            for chunk in bytes.chunks_mut(piece) {
                if let Err(problem) = array.lines(chunk) {
                    found = Some(Problem { at: at + problem.at, ..problem });
                    break;
                }
                at += chunk.len();
            }
            prop_assert_eq!(found, problem);
            prop_assert_eq!(bytes, expected);
        }

        #[test]
        fn arrays_of_any_values_come_out_as_they_went_in(
            texts in prop::collection::vec("[ -~\n\"\\\\{}\\[\\],]{0,20}", 0..8),
            pretty in any::<bool>(),
            piece in 1_usize..40,
        ) {
            let values: Vec<Value> =
                texts.iter().map(|text| serde_json::json!({ text.as_str(): [text, 1, {}] })).collect();
            let array = Value::Array(values.clone());
            let text = match pretty {
                true => serde_json::to_string_pretty(&array).unwrap(),
                false => array.to_string(),
            };
            let (found, whole) = lines(&text, piece).unwrap();
            let found: Vec<Value> =
                found.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!((found, whole), (values, true));
        }
    }
}
