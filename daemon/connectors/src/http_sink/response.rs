//! The answer to a request, as far as it has come.

use std::time::{Duration, SystemTime};

use httparse::{EMPTY_HEADER, Status};
use ringmain_runtime::io::Io;

use crate::http::body::{Body, Length};
use crate::http::wire::Wire;
use crate::http::{HEAD_BYTES_MAX, HEADERS_MAX, has_token, number};

/// As much of an answer is told to people.
const TEXT_BYTES: usize = 512;
/// A body of an answer that is longer is not waited for.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// How long the server asks to wait.
    pub(super) retry_after_us: Option<u64>,
    /// The connection can be used again.
    pub(super) keep_alive: bool,
    /// The beginning of its text.
    pub(super) text: String,
}

#[derive(Default)]
pub(super) struct Response {
    head: Vec<u8>,
    found: Option<(Answer, Body)>,
    text: Vec<u8>,
    bytes: u64,
}

impl Response {
    /// Nothing of it has come.
    pub(super) fn is_untouched(&self) -> bool {
        self.head.is_empty() && self.found.is_none()
    }

    /// Takes what has come; the answer, when that is all of it.
    ///
    /// # Errors
    /// Why it is not an answer.
    pub(super) fn read(
        &mut self,
        wire: &mut Wire,
        wall_us: i64,
        io: &mut dyn Io,
    ) -> Result<Option<Answer>, String> {
        loop {
            wire.fill(io).map_err(|error| error.to_string())?;
            let Some((_, body)) = &mut self.found else {
                if self.read_head(wire, wall_us, io)? {
                    continue;
                }
                return Ok(None);
            };
            if body.is_done() {
                return Ok(self.finish());
            }
            let bytes = wire.bytes(io);
            if bytes.is_empty() {
                if wire.is_ended() && body.ends_with_connection() {
                    return Ok(self.finish());
                }
                return Ok(None);
            }
            let found = body.next(bytes)?;
            let data = &bytes[found.data];
            let room = TEXT_BYTES - self.text.len();
            self.text.extend_from_slice(&data[..data.len().min(room)]);
            self.bytes += data.len() as u64;
            wire.consume(found.consumed, io);
            if self.bytes > BODY_BYTES_MAX {
                // What matters is known; the connection is not used again.
                return Ok(self.finish().map(|answer| Answer { keep_alive: false, ..answer }));
            }
        }
    }

    fn finish(&mut self) -> Option<Answer> {
        let (answer, _) = self.found.take()?;
        let text = String::from_utf8_lossy(&self.text);
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        *self = Self::default();
        Some(Answer { text: text.trim().to_owned(), ..answer })
    }

    /// True when a head was read, of which there may be several (100).
    fn read_head(
        &mut self,
        wire: &mut Wire,
        wall_us: i64,
        io: &mut dyn Io,
    ) -> Result<bool, String> {
        let bytes = wire.bytes(io);
        if bytes.is_empty() {
            return Ok(false);
        }
        let old = self.head.len();
        let take = bytes.len().min(HEAD_BYTES_MAX - old);
        self.head.extend_from_slice(&bytes[..take]);
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&self.head) {
            Ok(Status::Complete(len)) => {
                let interim = matches!(response.code, Some(100..=199));
                self.found = match interim {
                    true => None,
                    false => Some(judge(&response, wall_us)?),
                };
                self.head.clear();
                wire.consume(len - old, io);
                Ok(true)
            }
            Ok(Status::Partial) if self.head.len() < HEAD_BYTES_MAX => {
                wire.consume(take, io);
                Ok(false)
            }
            Ok(Status::Partial) => Err("the head of the answer is too long".to_owned()),
            Err(error) => Err(format!("the answer is not HTTP/1.1: {error}")),
        }
    }
}

fn judge(response: &httparse::Response<'_, '_>, wall_us: i64) -> Result<(Answer, Body), String> {
    let code = response.code.unwrap_or(0);
    let mut keep_alive = response.version == Some(1);
    let mut length = None;
    let mut retry_after_us = None;
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let bytes = number(header.value).ok_or("the length of the answer is not a number")?;
            if length.is_some_and(|length| length != Length::Known(bytes)) {
                return Err("the length of the answer is given twice".to_owned());
            }
            length = Some(Length::Known(bytes));
        } else if is("transfer-encoding") {
            if !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err("the answer has an unknown transfer encoding".to_owned());
            }
            length = Some(Length::Chunked);
        } else if is("connection") {
            keep_alive &= !has_token(header.value, "close");
        } else if is("retry-after") {
            retry_after_us = wait_us(header.value, wall_us);
        }
    }
    let length = match code {
        204 | 304 => Length::Known(0),
        _ => length.unwrap_or(Length::ToTheEnd),
    };
    keep_alive &= length != Length::ToTheEnd;
    let answer = Answer { code, retry_after_us, keep_alive, text: String::new() };
    Ok((answer, Body::new(length)))
}

/// Seconds, or a date.
fn wait_us(value: &[u8], wall_us: i64) -> Option<u64> {
    if let Some(seconds) = number(value) {
        return Some(seconds.saturating_mul(1_000_000));
    }
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?.trim()).ok()?;
    let now = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(wall_us).ok()?);
    let wait = date.duration_since(now).unwrap_or(Duration::ZERO);
    u64::try_from(wait.as_micros()).ok()
}
