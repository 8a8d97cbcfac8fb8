//! HTTP sources and sinks.

use super::retry::retry;
use super::{net, template, tls};
use crate::diagnostics::Diagnostic;
use crate::plan::{HttpAuth, HttpBatch, HttpBody, HttpRespond, HttpSink, HttpSource, Template};
use crate::schema;
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::{Table, Value};
use crate::words::wrong_type;

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

/// `type = "http"` of a sink.
pub(super) fn sink(cx: &mut Context<'_>, section: &Section<'_>) -> Option<HttpSink> {
    let url = url(cx, section);
    let methods = [("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH")];
    let method = section.one_of(cx, "method", &methods);
    let json = section.table.get("encode").is_none_or(|v| v.value == Value::String("json".into()));
    let body = sink_body(cx, section, json);
    let headers = headers(cx, section);
    let batch = batch(cx, section);
    let gzip = section.one_of(cx, "compress", &[("none", false), ("gzip", true)]);
    let auth = auth(cx, section);
    let connections = section.int(cx, "connections").and_then(|n| u32::try_from(n).ok());
    let timeout_us = section.time(cx, "timeout");
    let retry = retry(cx, section);
    let tls = tls::client(cx, section);
    let url = url?;
    let tls = tls?;
    if tls.is_some() && !url.secure {
        let message = format!("'tls' of {} needs an https url", section.what);
        cx.push(Diagnostic::error(section.span_of("tls"), message).help("write https://"));
        return None;
    }
    let tls = tls.or_else(|| url.secure.then(Default::default));
    Some(HttpSink {
        url: url.text,
        address: url.address,
        host: url.host,
        path: url.path,
        method: method?.value,
        body: body?,
        headers: headers?,
        batch: batch?,
        gzip: gzip?.value,
        auth: auth?,
        connections: connections?,
        timeout_us: timeout_us?,
        retry: retry?,
        tls,
    })
}

struct Url {
    text: Spanned<String>,
    secure: bool,
    address: String,
    host: String,
    path: Template,
}

fn url(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Url> {
    const HELP: &str = "for example \"https://example.org/alerts\" or \"http://127.0.0.1:8080/\"";
    let text = section.filled(cx, "url")?;
    let refuse = |cx: &mut Context<'_>, problem: &str, help: &'static str| {
        let message = format!("'url' of {}: '{}' {problem}", section.what, text.value);
        cx.push(Diagnostic::error(text.span, message).help(help));
    };
    let (secure, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => {
            refuse(cx, "is not an http or https address", HELP);
            return None;
        }
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if host.contains('@') {
        refuse(cx, "holds a user", "write username = \"...\" and password = \"${NAME}\"");
        return None;
    }
    if path.contains('#') || !path.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        refuse(cx, "has characters that a request cannot carry", "percent-encode them");
        return None;
    }
    let port = |host: &str| {
        host.rsplit_once(':').is_some_and(|(head, _)| !head.contains(':') || head.ends_with(']'))
    };
    let default = if secure { 443 } else { 80 };
    let address = if port(host) { host.to_owned() } else { format!("{host}:{default}") };
    if !net::is_address(&address) {
        refuse(cx, "has no host and port", HELP);
        return None;
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let path = Spanned::new(path.replace(' ', "%20"), text.span);
    let path = template::parse(cx, path, &format!("'url' of {}", section.what))?;
    Some(Url { secure, address, host: host.to_owned(), path, text })
}

fn sink_body(cx: &mut Context<'_>, section: &Section<'_>, json: bool) -> Option<HttpBody> {
    if !section.has("body") {
        return Some(if json { HttpBody::Array } else { HttpBody::Lines });
    }
    let bodies =
        [("array", HttpBody::Array), ("lines", HttpBody::Lines), ("message", HttpBody::Message)];
    let body = section.one_of(cx, "body", &bodies)?;
    if body.value == HttpBody::Array && !json {
        let message = format!("'body' of {}: an array holds JSON", section.what);
        let help = "write encode = \"json\", or body = \"lines\"";
        cx.push(Diagnostic::error(body.span, message).help(help));
        return None;
    }
    Some(body.value)
}

/// Header lines that a request has anyway.
const OWN_HEADERS: [&str; 7] = [
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "expect",
    "authorization",
];

fn headers(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Vec<(String, Template)>> {
    let Some((table, _)) = section.table(cx, "headers") else {
        return (!section.has("headers")).then(Vec::new);
    };
    let mut headers = Vec::new();
    let mut good = true;
    for (name, value) in &table.entries {
        let what = format!("header '{name}' of {}", section.what);
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(token) {
            let help = "names have letters, digits and '-'";
            let message = format!("{what}: that is not the name of a header");
            cx.push(Diagnostic::error(name.span, message).help(help));
            good = false;
            continue;
        }
        if OWN_HEADERS.contains(&lower.as_str()) {
            let help = match lower.as_str() {
                "authorization" => "use 'token', or 'username' and 'password'",
                "content-encoding" => "use compress = \"gzip\"",
                _ => "remove it; the request has it already",
            };
            cx.push(Diagnostic::error(name.span, format!("{what} cannot be set")).help(help));
            good = false;
            continue;
        }
        let Value::String(text) = &value.value else {
            cx.push(wrong_type(&what, "a string", value));
            good = false;
            continue;
        };
        let text = cx.expand(&Spanned::new(text.clone(), value.span));
        if text.as_ref().is_some_and(|text| text.chars().any(char::is_control)) {
            let help = "a header is one line, without tabs";
            let message = format!("{what} has a character that cannot be sent");
            cx.push(Diagnostic::error(value.span, message).help(help));
            good = false;
            continue;
        }
        match text.and_then(|text| template::parse(cx, text, &what)) {
            Some(template) => headers.push((name.value.clone(), template)),
            None => good = false,
        }
    }
    good.then_some(headers)
}

fn batch(cx: &mut Context<'_>, section: &Section<'_>) -> Option<HttpBatch> {
    let empty = Table::default();
    let (table, span) = match section.table(cx, "batch") {
        Some(found) => found,
        None if section.has("batch") => return None,
        None => (&empty, section.span),
    };
    let what = format!("batch of {}", section.what);
    let batch = Section::open(cx, table, &schema::HTTP_BATCH, &what, span, None);
    let count = batch.int(cx, "count").and_then(|n| u32::try_from(n).ok());
    let bytes = batch.size(cx, "bytes");
    let linger_us = batch.time(cx, "linger");
    Some(HttpBatch { count: count?, bytes: bytes?, linger_us: linger_us? })
}

fn auth(cx: &mut Context<'_>, section: &Section<'_>) -> Option<HttpAuth> {
    let token = token(cx, section);
    let password = tls::secret(cx, section, "password");
    let username = match section.has("username") {
        true => section.filled(cx, "username").map(Some),
        false => Some(None),
    };
    let problem = match (section.has("token"), section.has("username"), section.has("password")) {
        (true, true, _) | (true, _, true) => Some(("token", "a token and a password")),
        (_, true, false) => Some(("username", "a 'username' and no 'password'")),
        (_, false, true) => Some(("password", "a 'password' and no 'username'")),
        _ => None,
    };
    if let Some((key, problem)) = problem {
        let message = format!("{} has {problem}", section.what);
        let help = "write 'token', or 'username' and 'password'";
        cx.push(Diagnostic::error(section.span_of(key), message).help(help));
        return None;
    }
    match (token?, username?, password?) {
        (Some(token), ..) => Some(HttpAuth::Bearer(token)),
        (None, Some(username), Some(password)) => {
            Some(HttpAuth::Basic { username: username.value, password })
        }
        _ => Some(HttpAuth::Nobody),
    }
}
