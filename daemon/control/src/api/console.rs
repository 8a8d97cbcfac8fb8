//! The console: a page that is part of the program and asks nobody else.
//!
//! It holds nothing that is secret, so it needs no token; what it shows it
//! asks the API for, with the token that its reader enters. Files under
//! `console/` are served as they are, nothing is generated.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::Shared;

/// Only from here, and nothing that is written into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! files {
    ($($name:literal: $kind:expr),* $(,)?) => {
        [$(($name, $kind, include_str!(concat!("../../console/", $name)))),*]
    };
}

const FILES: [(&str, &str, &str); 15] = files! {
    "icon.svg": "image/svg+xml",
    "base.css": STYLE,
    "parts.css": STYLE,
    "api.js": SCRIPT,
    "columns.js": SCRIPT,
    "dead.js": SCRIPT,
    "definition.js": SCRIPT,
    "detail.js": SCRIPT,
    "dom.js": SCRIPT,
    "flows.js": SCRIPT,
    "graph.js": SCRIPT,
    "main.js": SCRIPT,
    "schedule.js": SCRIPT,
    "scripts.js": SCRIPT,
    "tap.js": SCRIPT,
};

const PAGE: &str = include_str!("../../console/index.html");

/// `/` and what the page is made of.
pub(super) fn routes() -> Router<Shared> {
    let page = Router::new().route("/", get(|| serve("text/html; charset=utf-8", PAGE)));
    FILES.iter().fold(page, |router, (name, kind, text)| {
        router.route(&format!("/console/{name}"), get(move || serve(kind, text)))
    })
}

async fn serve(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The next version of the program has other files.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
