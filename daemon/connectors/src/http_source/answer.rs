//! Answers: a status, and a text that says what to do.

use std::io::Write;
use std::time::{Duration, SystemTime};

/// The statuses that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    Unauthorized,
    NotFound,
    Method,
    Timeout,
    LengthRequired,
    TooLarge,
    MediaType,
    Expectation,
    Busy,
    HeadTooLong,
    NotImplemented,
    Unavailable,
    Version,
}

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Unauthorized => "401 Unauthorized",
            Self::NotFound => "404 Not Found",
            Self::Method => "405 Method Not Allowed",
            Self::Timeout => "408 Request Timeout",
            Self::LengthRequired => "411 Length Required",
            Self::TooLarge => "413 Content Too Large",
            Self::MediaType => "415 Unsupported Media Type",
            Self::Expectation => "417 Expectation Failed",
            Self::Busy => "429 Too Many Requests",
            Self::HeadTooLong => "431 Request Header Fields Too Large",
            Self::NotImplemented => "501 Not Implemented",
            Self::Unavailable => "503 Service Unavailable",
            Self::Version => "505 HTTP Version Not Supported",
        }
    }

    const fn extra(self) -> &'static str {
        match self {
            Self::Unauthorized => "WWW-Authenticate: Bearer\r\n",
            Self::Method => "Allow: POST, PUT\r\n",
            Self::Busy | Self::Unavailable => "Retry-After: 1\r\n",
            _ => "",
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Status,
    /// Messages that are in the flow.
    pub(super) accepted: u64,
    /// Messages that are dead letters.
    pub(super) refused: u64,
    /// What is wrong, and what to do; empty for what is well.
    pub(super) text: String,
}

impl Answer {
    pub(super) fn problem(status: Status, text: impl Into<String>) -> Self {
        Self { status, accepted: 0, refused: 0, text: text.into() }
    }
}

/// Writes answers; keeps the date, which changes once a second.
#[derive(Default)]
pub(super) struct Writer {
    second: i64,
    date: String,
    body: Vec<u8>,
}

impl Writer {
    pub(super) fn write(
        &mut self,
        answer: &Answer,
        keep_alive: bool,
        wall_us: i64,
        out: &mut Vec<u8>,
    ) {
        self.set_date(wall_us);
        self.body.clear();
        let Answer { status, accepted, refused, text } = answer;
        // Writing to a vector cannot fail.
        let _ = match status {
            Status::Ok => writeln!(self.body, "{{\"accepted\":{accepted}}}"),
            _ => writeln!(
                self.body,
                "{{\"accepted\":{accepted},\"refused\":{refused},\"error\":\"{}\"}}",
                Escaped(text)
            ),
        };
        let connection = if keep_alive { "" } else { "Connection: close\r\n" };
        let _ = write!(
            out,
            "HTTP/1.1 {}\r\nDate: {}\r\n{}{connection}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            status.line(),
            self.date,
            status.extra(),
            self.body.len()
        );
        out.extend_from_slice(&self.body);
    }

    fn set_date(&mut self, wall_us: i64) {
        let second = wall_us.div_euclid(1_000_000);
        if self.second != second || self.date.is_empty() {
            self.second = second;
            let since = Duration::from_secs(u64::try_from(second).unwrap_or(0));
            self.date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
        }
    }
}

/// A text within a JSON string.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
