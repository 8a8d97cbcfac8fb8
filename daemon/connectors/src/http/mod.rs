//! HTTP/1.1 over byte buffers: what source and sink share.
//!
//! httparse reads the heads; what stands here is what is left: which of a
//! message's bytes are its body ([`body`]), unpacking it ([`gunzip`]), and a
//! connection that bytes come from and go to ([`wire`]).
//!
//! Why not hyper, driven over buffers: measured with a request of 100 B on a
//! loaded machine, its server took 2.0 to 2.3 us of CPU time per request where
//! httparse and a length took 0.25, and receiving and sending cost some 5. And
//! its services are futures: they cannot borrow the slab that a turn hands in,
//! so every body would have to be queued once more, and a request could not be
//! sent away with 429 while the flow has no room.
//!
//! Strict where leniency lets requests be smuggled past a proxy: one
//! `Content-Length`, or `Transfer-Encoding: chunked` alone, never both.
//!
//! Deliberately absent: HTTP/2, upgrades, trailers (read over), ranges.

pub(crate) mod body;
pub(crate) mod gunzip;
pub(crate) mod wire;

/// Longest head of a request or an answer.
pub(crate) const HEAD_BYTES_MAX: usize = 16 << 10;
/// Lines of a head.
pub(crate) const HEADERS_MAX: usize = 64;

/// Whether a comma-separated header value names this token.
pub(crate) fn has_token(value: &[u8], token: &str) -> bool {
    let parts = value.split(|byte| *byte == b',');
    parts.into_iter().any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// A decimal number and nothing else.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_numbers_are_read_strictly() {
        assert!(has_token(b"close, Upgrade", "upgrade") && has_token(b" Close ", "close"));
        assert!(!has_token(b"not-close", "close"));
        assert_eq!(number(b" 12 "), Some(12));
        for bad in [&b""[..], b"+1", b"-1", b"1,1", b"0x1", b"99999999999999999999"] {
            assert_eq!(number(bad), None);
        }
    }
}
