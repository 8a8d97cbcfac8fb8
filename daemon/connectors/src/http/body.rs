//! Which bytes behind a head are the message's body.
//!
//! Invariant: how the bytes are cut into pieces changes nothing. Chunk
//! extensions and trailers are read over, with a bound.

use std::ops::Range;

/// Longest line of a chunk's size or of a trailer, and all trailers together.
const LINE_BYTES_MAX: u32 = 4 << 10;

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// So many bytes.
    Known(u64),
    /// Chunks, each with its size before it.
    Chunked,
    /// Until the connection ends.
    ToTheEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of data come.
    Data(u64),
    /// In the hexadecimal size of a chunk.
    Size {
        value: u64,
        digits: u32,
    },
    /// Behind the size, up to the line's end.
    Extension {
        size: u64,
    },
    /// The line end behind a chunk's data.
    DataEnd,
    /// In a line behind the last chunk; so many bytes of it have come.
    Trailer {
        line: u32,
    },
    Done,
}

/// The body of one message.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    length: Length,
    state: State,
    /// Bytes of lines that are read over.
    over: u32,
}

/// What one step found in its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Bytes that need not be given again.
    pub(crate) consumed: usize,
    /// Those of them that belong to the body.
    pub(crate) data: Range<usize>,
}

impl Body {
    pub(crate) fn new(length: Length) -> Self {
        let state = match length {
            Length::Known(0) => State::Done,
            Length::Known(bytes) => State::Data(bytes),
            Length::Chunked => State::Size { value: 0, digits: 0 },
            Length::ToTheEnd => State::Data(u64::MAX),
        };
        Self { length, state, over: 0 }
    }

    /// The next piece of the body in `input`: one run of data, which may be
    /// empty. To be called again with what is not consumed, as long as
    /// something is consumed.
    ///
    /// # Errors
    /// What is wrong with the chunks; nothing behind it can be understood.
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<Found, &'static str> {
        let mut at = 0;
        while at < input.len() {
            if let State::Data(left) = self.state {
                let take = left.min((input.len() - at) as u64);
                // At most what is left of a slice.
                let end = at + take as usize;
                self.state = self.after(left - take);
                return Ok(Found { consumed: end, data: at..end });
            }
            if self.state == State::Done {
                break;
            }
            self.step(input[at])?;
            at += 1;
        }
        Ok(Found { consumed: at, data: at..at })
    }

    fn after(&self, left: u64) -> State {
        match self.length {
            Length::Known(_) if left == 0 => State::Done,
            Length::Chunked if left == 0 => State::DataEnd,
            _ => State::Data(left),
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), &'static str> {
        self.state = match self.state {
            State::Size { value, digits } => match (byte as char).to_digit(16) {
                Some(_) if digits >= 15 => return Err("the size of a chunk is too long"),
                Some(digit) => {
                    State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
                }
                None if digits == 0 => return Err("a chunk begins without a size"),
                None => {
                    self.over = 0;
                    self.size_end(byte, value)?
                }
            },
            State::Extension { size } => self.size_end(byte, size)?,
            State::Data(_) | State::Done => self.state,
            State::DataEnd => match byte {
                b'\r' => State::DataEnd,
                b'\n' => State::Size { value: 0, digits: 0 },
                _ => return Err("a chunk is longer than its size"),
            },
            State::Trailer { line } => match byte {
                b'\n' if line == 0 => State::Done,
                b'\n' => State::Trailer { line: 0 },
                b'\r' => State::Trailer { line },
                _ => {
                    self.over += 1;
                    if self.over > LINE_BYTES_MAX {
                        return Err("the lines behind the last chunk are too long");
                    }
                    State::Trailer { line: line + 1 }
                }
            },
        };
        Ok(())
    }

    /// A byte between a chunk's size and the end of that line.
    fn size_end(&mut self, byte: u8, size: u64) -> Result<State, &'static str> {
        match byte {
            b'\n' if size == 0 => Ok(State::Trailer { line: 0 }),
            b'\n' => Ok(State::Data(size)),
            b'\r' | b' ' | b'\t' if self.over == 0 => Ok(State::Extension { size }),
            b';' if self.over == 0 => {
                self.over = 1;
                Ok(State::Extension { size })
            }
            _ if self.over == 0 => Err("the size of a chunk is not hexadecimal"),
            _ => {
                self.over += 1;
                if self.over > LINE_BYTES_MAX {
                    return Err("what follows the size of a chunk is too long");
                }
                Ok(State::Extension { size })
            }
        }
    }

    /// An end of the connection is the body's.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.length == Length::ToTheEnd
    }

    /// Everything of it has come.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a body in pieces; the data and the bytes that were consumed.
    fn read(length: Length, input: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), String> {
        let mut body = Body::new(length);
        let (mut data, mut at) = (Vec::new(), 0);
        for chunk in input.chunks(piece) {
            let mut from = 0;
            while from < chunk.len() && !body.is_done() {
                let found = body.next(&chunk[from..])?;
                data.extend_from_slice(&chunk[from..][found.data]);
                from += found.consumed;
            }
            at += from;
        }
        Ok((data, at, body.is_done()))
    }

    #[test]
    fn bodies_are_cut_where_they_end_however_the_bytes_come() {
        let chunked = b"5\r\nhello\r\n1;a=b\r\n \r\n00006 \r\nworld!\r\n0\r\nX: y\r\n\r\nGET /";
        for piece in 1..chunked.len() {
            let (data, at, done) = read(Length::Chunked, chunked, piece).unwrap();
            assert_eq!((data.as_slice(), done), (&b"hello world!"[..], true), "{piece}");
            assert_eq!(&chunked[at..], b"GET /");
            let (data, at, done) = read(Length::Known(3), b"abcdef", piece).unwrap();
            assert_eq!((data.as_slice(), at, done), (&b"abc"[..], 3, true));
        }
        assert!(Body::new(Length::Known(0)).is_done());
    }

    #[test]
    fn what_is_wrong_with_chunks_is_said() {
        for (input, problem) in [
            (&b"\r\n"[..], "without a size"),
            (b"g\r\n", "without a size"),
            (b"5x\r\n", "not hexadecimal"),
            (b"-5\r\n", "without a size"),
            (b"1\r\nab\r\n", "longer than its size"),
            (b"1111111111111111\r\n", "too long"),
        ] {
            let error = read(Length::Chunked, input, 1).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        let endless = [&b"1;"[..], &[b'x'; 9_000]].concat();
        assert!(read(Length::Chunked, &endless, 100).unwrap_err().contains("too long"));
        let endless = [&b"0\r\n"[..], &b"a: b\r\n".repeat(2_000)].concat();
        assert!(read(Length::Chunked, &endless, 100).unwrap_err().contains("too long"));
    }

    proptest! {
        #[test]
        fn chunks_of_any_size_give_the_same_body_in_any_pieces(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10),
            piece in 1_usize..60,
        ) {
            let mut input = Vec::new();
            for part in &parts {
                input.extend(format!("{:x}\r\n", part.len()).bytes());
                input.extend(part);
                input.extend(b"\r\n");
            }
            input.extend(b"0\r\n\r\nrest");
            let (data, at, done) = read(Length::Chunked, &input, piece).unwrap();
            prop_assert_eq!(data, parts.concat());
            prop_assert_eq!((&input[at..], done), (&b"rest"[..], true));
        }

        #[test]
        fn any_bytes_end_or_are_refused(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let one = read(Length::Chunked, &input, 1);
            prop_assert_eq!(one, read(Length::Chunked, &input, 7));
        }
    }
}
