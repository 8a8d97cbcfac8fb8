//! HTTP sources and sinks.

use super::{net, tls};
use crate::diagnostics::Diagnostic;
use crate::plan::{HttpBody, HttpRespond, HttpSource};
use crate::section::{Context, Section};
use crate::span::Spanned;

/// `type = "http"` of a source.
pub(super) fn source(cx: &mut Context<'_>, section: &Section<'_>) -> Option<HttpSource> {
    let listen = net::listen(cx, section, "listen");
    let path = path(cx, section);
    let bodies = [
        ("auto", HttpBody::Auto),
        ("message", HttpBody::Message),
        ("lines", HttpBody::Lines),
        ("array", HttpBody::Array),
    ];
    let body = section.one_of(cx, "body", &bodies);
    let body_bytes = section.size(cx, "body_max");
    let token = token(cx, section);
    let responds = [("accepted", HttpRespond::Accepted), ("acked", HttpRespond::Acked)];
    let respond = section.one_of(cx, "respond", &responds);
    let connections_max = section.int(cx, "connections_max").and_then(|n| u32::try_from(n).ok());
    let busy_us = section.time(cx, "busy_after");
    let ack_timeout_us = section.time(cx, "ack_timeout");
    let request_timeout_us = section.time(cx, "request_timeout");
    let idle_timeout_us = section.time(cx, "idle_timeout");
    let tls = tls::server(cx, section);
    if section.has("ack_timeout")
        && respond.as_ref().is_some_and(|r| r.value == HttpRespond::Accepted)
    {
        let message = format!("'ack_timeout' of {} has no effect", section.what);
        cx.push(
            Diagnostic::warning(section.span_of("ack_timeout"), message)
                .help("it is for respond = \"acked\"; add that, or remove the key"),
        );
    }
    Some(HttpSource {
        listen: listen?,
        path: path?,
        body: body?.value,
        body_bytes: body_bytes?,
        token: token?,
        respond: respond?.value,
        connections_max: connections_max?,
        busy_us: busy_us?,
        ack_timeout_us: ack_timeout_us?,
        request_timeout_us: request_timeout_us?,
        idle_timeout_us: idle_timeout_us?,
        tls: tls?,
    })
}

fn path(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Spanned<String>> {
    let path = section.filled(cx, "path")?;
    let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#');
    if path.starts_with('/') && path.bytes().all(good) {
        return Some(path);
    }
    let message = format!("'path' of {}: '{}' is not a path", section.what, path.value);
    let help = "it begins with '/' and has neither blanks nor '?', for example \"/in\"";
    cx.push(Diagnostic::error(path.span, message).help(help));
    None
}

/// A token must fit a header line.
fn token(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Option<crate::plan::Secret>> {
    let token = tls::secret(cx, section, "token")?;
    if token.as_ref().is_none_or(|t| t.reveal().bytes().all(|b| b.is_ascii_graphic())) {
        return Some(token);
    }
    let message = format!("'token' of {} cannot stand in a header", section.what);
    let help = "it must not have blanks, line ends or letters beyond ASCII";
    cx.push(Diagnostic::error(section.span_of("token"), message).help(help));
    None
}
