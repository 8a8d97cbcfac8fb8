//! A client that asks one question per connection.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// It succeeded; its body as JSON.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// It is a problem document (RFC 9457) with this status; its detail.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], status, "{self:?}");
        for key in ["type", "title", "detail"] {
            assert!(json[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {self:?}");
        }
        json["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// A daemon's API.
#[derive(Clone, Debug)]
pub struct Client {
    port: u16,
    headers: Vec<(String, String)>,
}

impl Client {
    /// Of the listener at this port.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self { port, headers: Vec::new() }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// With a header in every request.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a token in every request.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.with("Authorization", &format!("Bearer {token}"))
    }

    /// GET.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// POST of JSON.
    #[must_use]
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, body)
    }

    /// Any method, on a connection of its own.
    ///
    /// # Panics
    /// When there is no connection, or no answer.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        self.ask_on(stream, method, path, body)
    }

    /// The same on a stream that stands already.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn ask_on<S: Read + Write>(
        &self,
        mut stream: S,
        method: &str,
        path: &str,
        body: &str,
    ) -> Answer {
        let own = |name: &str| self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !own("Host") {
            head.push_str("Host: localhost\r\n");
        }
        if !own("Content-Type") && !body.is_empty() {
            head.push_str("Content-Type: application/json\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).expect("it listens");
        // It may refuse a body that is too large before it has read it.
        let _ = stream.write_all(body.as_bytes());
        let (mut text, mut some) = (Vec::new(), [0; 16 << 10]);
        // A connection that is closed over unread bytes is reset; and not every
        // server closes one when it is asked to.
        while let Ok(len @ 1..) = stream.read(&mut some) {
            text.extend_from_slice(&some[..len]);
            if is_whole(&text) {
                break;
            }
        }
        parse(&String::from_utf8_lossy(&text))
    }
}

/// Whether everything is there that an answer says there is.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let len = len.and_then(|len| len.trim().parse::<usize>().ok());
    len.is_some_and(|len| answer.len() >= end + 4 + len)
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers: Vec<_> =
        headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    let chunked = headers.iter().any(|(n, v)| n == "transfer-encoding" && v == "chunked");
    let body = if chunked { dechunk(body) } else { body.to_owned() };
    Answer { status: status.expect("a status line"), headers, body }
}

fn dechunk(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((len, rest)) = text.split_once("\r\n") {
        let len = usize::from_str_radix(len.trim(), 16).unwrap_or(0);
        if len == 0 || rest.len() < len {
            break;
        }
        body.push_str(&rest[..len]);
        text = rest[len..].trim_start_matches("\r\n");
    }
    body
}
