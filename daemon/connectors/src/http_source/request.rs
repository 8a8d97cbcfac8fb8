//! The head of a request: what is asked, and whether it is answered at once.

use httparse::{EMPTY_HEADER, Header};
use ringmain_config::plan::{HttpBody, HttpSource};
use subtle::ConstantTimeEq;

use super::answer::Status;
use crate::http::body::Length;
use crate::http::{HEADERS_MAX, has_token, number};

/// What a body is, as far as the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Message,
    Lines,
    Array,
    /// The first character tells.
    Json,
}

/// A request whose body is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: Length,
    pub(super) shape: Shape,
    pub(super) gzip: bool,
    pub(super) keep_alive: bool,
    /// The client waits to be told to send the body.
    pub(super) expects: bool,
}

/// A request that is answered at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: Status,
    pub(super) text: String,
    /// The body to pass over, and whether the connection may go on behind it.
    pub(super) length: Option<Length>,
    pub(super) keep_alive: bool,
}

impl Refusal {
    /// Where the next request begins is not known.
    pub(super) fn last(status: Status, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), length: None, keep_alive: false }
    }
}

/// What requests of one source are judged by.
pub(super) struct Rules {
    path: String,
    token: Option<String>,
    body: HttpBody,
    body_bytes: u64,
    /// The decoder reads JSON; then an array may come.
    json: bool,
    /// The decoder reads lines by itself.
    records: bool,
}

impl Rules {
    pub(super) fn new(plan: &HttpSource, json: bool, records: bool) -> Self {
        Self {
            path: plan.path.value.clone(),
            token: plan.token.as_ref().map(|token| token.reveal().to_owned()),
            body: plan.body,
            body_bytes: plan.body_bytes,
            json,
            records,
        }
    }

    /// Judges a whole head.
    pub(super) fn judge(&self, head: &[u8]) -> Result<Head, Refusal> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => {
                return Err(Refusal::last(Status::BadRequest, "the head is not complete"));
            }
            Err(httparse::Error::TooManyHeaders) => {
                let text = format!("more than {HEADERS_MAX} header lines");
                return Err(Refusal::last(Status::HeadTooLong, text));
            }
            Err(httparse::Error::Version) => {
                return Err(Refusal::last(Status::Version, "write HTTP/1.1"));
            }
            Err(error) => {
                let text = format!("the request is not HTTP/1.1: {error}");
                return Err(Refusal::last(Status::BadRequest, text));
            }
        }
        let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
        let version = request.version.unwrap_or(1);
        let found = Found::read(request.headers, version)?;
        let keep_alive = found.keep_alive;
        let length = found.length;
        let refuse = |status: Status, text: String| Refusal {
            status,
            text,
            length: Some(length.unwrap_or(Length::Known(0))),
            keep_alive,
        };
        if path_of(target) != self.path {
            return Err(refuse(Status::NotFound, format!("messages are sent to {}", self.path)));
        }
        if !matches!(method, "POST" | "PUT") {
            return Err(refuse(Status::Method, "use POST or PUT".to_owned()));
        }
        if !self.may(found.authorization) {
            return Err(refuse(Status::Unauthorized, "the token is missing or wrong".to_owned()));
        }
        if found.expectation {
            return Err(refuse(
                Status::Expectation,
                "only 100-continue can be expected".to_owned(),
            ));
        }
        let Some(length) = length else {
            let text = "send Content-Length or Transfer-Encoding: chunked".to_owned();
            return Err(refuse(Status::LengthRequired, text));
        };
        if matches!(length, Length::Known(bytes) if bytes > self.body_bytes) {
            let text = format!("a body has at most {} bytes", self.body_bytes);
            return Err(refuse(Status::TooLarge, text));
        }
        let gzip = match found.encoding {
            None => false,
            Some(name) if name.eq_ignore_ascii_case(b"identity") => false,
            Some(name)
                if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") =>
            {
                true
            }
            Some(_) => {
                return Err(refuse(Status::MediaType, "bodies are plain or gzip".to_owned()));
            }
        };
        let shape = self.shape(found.content_type);
        Ok(Head { length, shape, gzip, keep_alive, expects: found.expects })
    }

    fn may(&self, authorization: Option<&[u8]>) -> bool {
        let Some(token) = &self.token else { return true };
        let given = authorization.and_then(|value| {
            let (scheme, rest) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
        });
        // Takes as long for a token that is nearly right.
        given.is_some_and(|given| bool::from(given.ct_eq(token.as_bytes())))
    }

    fn shape(&self, content_type: Option<&[u8]>) -> Shape {
        let essence = content_type.and_then(|value| value.split(|b| *b == b';').next());
        let essence = essence.map(|value| value.trim_ascii().to_ascii_lowercase());
        let essence = essence.as_deref().unwrap_or(b"");
        match self.body {
            HttpBody::Message => Shape::Message,
            HttpBody::Lines => Shape::Lines,
            HttpBody::Array => Shape::Array,
            HttpBody::Auto if self.records || is_lines(essence) => Shape::Lines,
            HttpBody::Auto if self.json => Shape::Json,
            HttpBody::Auto => Shape::Message,
        }
    }
}

fn is_lines(essence: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] = [
        b"application/x-ndjson",
        b"application/ndjson",
        b"application/jsonl",
        b"application/x-jsonlines",
        b"application/jsonlines",
        b"application/x-ldjson",
    ];
    essence.starts_with(b"text/") || NAMES.contains(&essence)
}

/// The path of a target, without a query, and without scheme and host where a
/// proxy wrote them.
fn path_of(target: &str) -> &str {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    let path = match rest {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    path.split(['?', '#']).next().unwrap_or(path)
}

/// The header lines that matter.
struct Found<'a> {
    length: Option<Length>,
    keep_alive: bool,
    expects: bool,
    /// Something else is expected.
    expectation: bool,
    authorization: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
}

impl<'a> Found<'a> {
    fn read(headers: &'a [Header<'a>], version: u8) -> Result<Self, Refusal> {
        let bad = |text: &str| Refusal::last(Status::BadRequest, text);
        let mut found = Self {
            length: None,
            keep_alive: version == 1,
            expects: false,
            expectation: false,
            authorization: None,
            encoding: None,
            content_type: None,
        };
        let mut hosts = 0;
        for Header { name, value } in headers {
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
            if is("content-length") {
                let bytes = number(value).ok_or_else(|| bad("Content-Length is not a number"))?;
                if found.length.is_some() {
                    return Err(bad("the length of the body is given twice"));
                }
                found.length = Some(Length::Known(bytes));
            } else if is("transfer-encoding") {
                if found.length.is_some() || version == 0 {
                    return Err(bad("the length of the body is given twice"));
                }
                if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    let text = "the only transfer encoding is chunked";
                    return Err(Refusal::last(Status::NotImplemented, text));
                }
                found.length = Some(Length::Chunked);
            } else if is("connection") {
                found.keep_alive &= !has_token(value, "close");
            } else if is("host") {
                hosts += 1;
            } else if is("expect") {
                found.expects = value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
                found.expectation = !found.expects;
            } else if is("authorization") {
                found.authorization = Some(value);
            } else if is("content-encoding") {
                found.encoding = Some(value.trim_ascii()).filter(|value| !value.is_empty());
            } else if is("content-type") {
                found.content_type = Some(value);
            }
        }
        if version == 1 && hosts != 1 {
            return Err(bad("there must be one Host line"));
        }
        Ok(found)
    }
}
