//! Addresses.

use std::net::SocketAddr;

use crate::diagnostics::Diagnostic;
use crate::plan::Listen;
use crate::section::{Context, Section};
use crate::span::Spanned;

/// An address to listen at: an IP address and a port, never a name, so that
/// what is claimed is known before the daemon starts.
pub(super) fn listen(cx: &mut Context<'_>, section: &Section<'_>, key: &str) -> Option<Listen> {
    let text = section.filled(cx, key)?;
    match text.value.parse::<SocketAddr>() {
        Ok(addr) => Some(Listen { text, addr }),
        Err(_) => {
            let message = format!(
                "'{key}' of {}: '{}' is not an IP address and port",
                section.what, text.value
            );
            let help = listen_help(&text);
            cx.push(Diagnostic::error(text.span, message).help(help));
            None
        }
    }
}

fn listen_help(text: &str) -> String {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let port = port.parse::<u16>().unwrap_or(5140);
    if let Ok(number) = text.parse::<u16>() {
        return format!(
            "write \"127.0.0.1:{number}\" for this machine only, \"[::]:{number}\" for all"
        );
    }
    if host.is_empty() || host == "*" {
        return format!("write \"0.0.0.0:{port}\" or \"[::]:{port}\" to listen everywhere");
    }
    if host == "localhost" {
        return format!("write \"127.0.0.1:{port}\"; names are not resolved here");
    }
    format!("for example \"127.0.0.1:{port}\" or \"[::]:{port}\"")
}

/// `host:port` of the other side. The host may be a name.
pub(super) fn address(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    key: &str,
) -> Option<Spanned<String>> {
    if !section.has(key) && section.schema.key(key).is_some_and(|k| !k.is_required()) {
        return None;
    }
    let text = section.filled(cx, key)?;
    if is_address(&text) {
        return Some(text);
    }
    let message = format!("'{key}' of {}: '{}' is not host:port", section.what, text.value);
    cx.push(
        Diagnostic::error(text.span, message)
            .help("for example \"10.0.0.7:5140\", \"collector.example:5140\" or \"[::1]:5140\""),
    );
    None
}

/// Whether it is `host:port`.
pub(super) fn is_address(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok_and(|a| a.port() != 0) {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let name = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    name && port.parse::<u16>().is_ok_and(|p| p > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["h:1", "10.0.0.1:65535", "[::1]:5140", "my-host.example.org:80"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "h", ":1", "h:0", "h:65536", "::1:5140", "h:1:2", "a b:1", "http://h:1"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
