//! `tls = { ... }`, the same wherever it stands.

use std::path::PathBuf;

use crate::diagnostics::Diagnostic;
use crate::plan::{ClientTls, Identity, Secret, ServerTls};
use crate::schema;
use crate::section::{Context, Section};
use crate::span::Spanned;

/// `tls` of a component that connects: `Some(None)` without it.
pub(super) fn client(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Option<ClientTls>> {
    let Some((table, span)) = section.table(cx, "tls") else {
        return (!section.has("tls")).then_some(None);
    };
    let what = format!("tls of {}", section.what);
    let tls = Section::open(cx, table, &schema::CLIENT_TLS, &what, span, None);
    let ca = optional(cx, &tls, "ca");
    let identity = match (tls.has("cert"), tls.has("key")) {
        (false, false) => Some(None),
        (true, true) => identity(cx, &tls).map(Some),
        (cert, _) => {
            let (has, lacks) = if cert { ("cert", "key") } else { ("key", "cert") };
            let message = format!("{what} has '{has}' and no '{lacks}'");
            cx.push(Diagnostic::error(tls.span_of(has), message).help("write both, or neither"));
            None
        }
    };
    let server_name =
        if tls.has("server_name") { tls.filled(cx, "server_name").map(Some) } else { Some(None) };
    let insecure_skip_verify = tls.flag(cx, "insecure_skip_verify");
    if insecure_skip_verify == Some(true) && tls.has("ca") {
        let message = format!("{what}: 'ca' has no effect, as nothing is verified");
        cx.push(
            Diagnostic::warning(tls.span_of("ca"), message)
                .help("remove 'insecure_skip_verify' to trust this authority only"),
        );
    }
    Some(Some(ClientTls {
        ca: ca?,
        identity: identity?,
        server_name: server_name?,
        insecure_skip_verify: insecure_skip_verify?,
    }))
}

/// `tls` of a component that listens: `Some(None)` without it.
pub(super) fn server(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Option<ServerTls>> {
    let Some((table, span)) = section.table(cx, "tls") else {
        return (!section.has("tls")).then_some(None);
    };
    let what = format!("tls of {}", section.what);
    let tls = Section::open(cx, table, &schema::SERVER_TLS, &what, span, None);
    let identity = identity(cx, &tls);
    let client_ca = optional(cx, &tls, "client_ca");
    Some(Some(ServerTls { identity: identity?, client_ca: client_ca? }))
}

/// A value that is not to be shown; `Some(None)` without the key.
pub(super) fn secret(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    key: &str,
) -> Option<Option<Secret>> {
    if !section.has(key) {
        return Some(None);
    }
    section.filled(cx, key).map(|text| Some(Secret::new(text.value)))
}

fn identity(cx: &mut Context<'_>, tls: &Section<'_>) -> Option<Identity> {
    let (cert, key) = (path(cx, tls, "cert"), path(cx, tls, "key"));
    Some(Identity { cert: cert?, key: key? })
}

fn optional(
    cx: &mut Context<'_>,
    tls: &Section<'_>,
    key: &str,
) -> Option<Option<Spanned<PathBuf>>> {
    if tls.has(key) { path(cx, tls, key).map(Some) } else { Some(None) }
}

fn path(cx: &mut Context<'_>, tls: &Section<'_>, key: &str) -> Option<Spanned<PathBuf>> {
    tls.filled(cx, key).map(|text| Spanned::new(PathBuf::from(text.value), text.span))
}
