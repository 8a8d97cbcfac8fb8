//! POST requests over a few connections, one request at a time on each.
//!
//! A request is due when its first message is. When no connection is free, it
//! waits, and its latency says so.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

use hdrhistogram::Histogram;
use nix::poll::{PollFd, PollFlags};

use super::message::Messages;
use super::pace::{State, Wire, wait_for};
use super::result::histogram;
use super::stream::{Socket, socket};
use super::{LoadArgs, would_block};

/// Requests that may wait for a connection.
const WAITING_MAX: usize = 4096;
const READ_BYTES: usize = 8 << 10;
const HEADERS_MAX: usize = 32;

/// A connection and the request that is under way on it.
struct Connection {
    socket: Box<dyn Socket>,
    out: Vec<u8>,
    at: usize,
    answer: Vec<u8>,
    due_ns: Option<u64>,
}

/// Requests that are due, and connections.
pub(super) struct Http {
    connections: Vec<Connection>,
    head: Vec<u8>,
    batch: u64,
    body: Vec<u8>,
    in_body: u64,
    body_due_ns: u64,
    waiting: VecDeque<(u64, Vec<u8>)>,
    free: Vec<Vec<u8>>,
    latencies: Histogram<u64>,
    warm_up_ns: u64,
}

impl Http {
    pub(super) fn connect(args: &LoadArgs) -> io::Result<Self> {
        let connections = (0..args.connections.max(1)).map(|_| {
            let socket = socket(args)?;
            Ok(Connection { socket, out: Vec::new(), at: 0, answer: Vec::new(), due_ns: None })
        });
        let length = args.batch as usize * (Messages::new(args.bytes).bytes() + 1);
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {length}\r\n\r\n",
            args.path, args.to
        );
        Ok(Self {
            connections: connections.collect::<io::Result<_>>()?,
            head: head.into_bytes(),
            batch: args.batch,
            body: Vec::new(),
            in_body: 0,
            body_due_ns: 0,
            waiting: VecDeque::new(),
            free: Vec::new(),
            latencies: histogram(),
            warm_up_ns: (args.warm_up * 1e9) as u64,
        })
    }
}

impl Wire for Http {
    fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    fn push(&mut self, message: &[u8], due_ns: u64) {
        if self.in_body == 0 {
            self.body_due_ns = due_ns;
            self.body.extend_from_slice(&self.head);
        }
        self.body.extend_from_slice(message);
        self.body.push(b'\n');
        self.in_body += 1;
        if self.in_body == self.batch {
            let next = self.free.pop().unwrap_or_default();
            self.waiting.push_back((self.body_due_ns, std::mem::replace(&mut self.body, next)));
            self.in_body = 0;
        }
    }

    fn flush(&mut self, now_ns: u64) -> io::Result<State> {
        for connection in &mut self.connections {
            loop {
                if let Some(due_ns) = connection.due_ns {
                    if !connection.go_on()? {
                        break;
                    }
                    connection.due_ns = None;
                    if due_ns >= self.warm_up_ns {
                        self.latencies.saturating_record(now_ns.saturating_sub(due_ns).max(1));
                    }
                }
                let Some((due_ns, request)) = self.waiting.pop_front() else { break };
                let mut old = std::mem::replace(&mut connection.out, request);
                old.clear();
                self.free.push(old);
                (connection.at, connection.due_ns) = (0, Some(due_ns));
            }
        }
        Ok(if self.waiting.is_empty() { State::Flushed } else { State::Full })
    }

    fn rest(&self) {
        let mut sockets = Vec::with_capacity(self.connections.len());
        for connection in &self.connections {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, connection.at < connection.out.len());
            sockets.push(PollFd::new(connection.socket.as_fd(), flags));
        }
        wait_for(&mut sockets);
    }

    fn end(&mut self) {
        // A last request that is not full is not sent: its length is fixed.
        self.body.clear();
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.connections.iter().all(|c| c.due_ns.is_none())
    }

    fn answers(&self) -> Option<&Histogram<u64>> {
        Some(&self.latencies)
    }
}

impl Connection {
    /// Whether the request is answered. Any answer but 2xx is an error.
    fn go_on(&mut self) -> io::Result<bool> {
        while self.at < self.out.len() {
            match self.socket.write(&self.out[self.at..]) {
                Ok(wrote) => self.at += wrote,
                Err(error) if would_block(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let filled = self.answer.len();
        self.answer.resize(filled + READ_BYTES, 0);
        let got = match self.socket.read(&mut self.answer[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => got,
            Err(error) if would_block(&error) => 0,
            Err(error) => return Err(error),
        };
        self.answer.truncate(filled + got);
        match whole(&self.answer)? {
            Some(length) => {
                self.answer.drain(..length);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// The length of an answer, when all of it is there.
fn whole(text: &[u8]) -> io::Result<Option<usize>> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let head = match answer.parse(text).map_err(|error| wrong(error.to_string()))? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return Ok(None),
    };
    let code = answer.code.unwrap_or(0);
    if !(200..300).contains(&code) {
        let said = String::from_utf8_lossy(&text[head..]).into_owned();
        return Err(wrong(format!("the receiver answers {code}: {said}")));
    }
    let length = answer.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|h| std::str::from_utf8(h.value).ok()?.parse::<usize>().ok());
    let all = head + length.unwrap_or(0);
    Ok((text.len() >= all).then_some(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP";
        assert_eq!(whole(&text[..text.len() - 5]).unwrap(), None);
        assert_eq!(whole(text).unwrap(), Some(text.len() - 4));
        assert_eq!(whole(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), Some(27));
        assert_eq!(whole(b"HTTP/1.1 2").unwrap(), None);
        assert!(whole(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").is_err());
    }
}
