//! What stands before every handler: rate, host, token, scope.

use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use ringmain_config::Scope;

use super::Shared;
use super::problem::Problem;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub SocketAddr);

/// Rate and host; for every route.
pub(super) async fn admit(
    State(api): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Err(seconds) = api.limiter.admit(peer.0.ip(), Instant::now()) {
        let detail = "more requests than `rate` of [api] allows";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
        return Err(problem.with_header(header::RETRY_AFTER, seconds.max(1).to_string()));
    }
    // Without tokens, a page of another site could have this machine's browser
    // ask in its name, under a host name of its own that leads here.
    if !api.tokens.are_asked_for() && !is_local(&request) {
        let detail = "without `auth` of [api] only requests to localhost or to an IP address are \
                      answered, and none that a page of another site makes";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(next.run(request).await)
}

/// The token, and whether it is good for one of the scopes.
pub(super) async fn scope(
    State((api, scopes)): State<(Shared, &'static [Scope])>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(caller) = api.tokens.caller(request.headers()) else {
        let detail = "a token of the auth file is needed: Authorization: Bearer TOKEN";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, detail);
        let how = "Bearer realm=\"ringmain\"".to_owned();
        return Err(problem.with_header(header::WWW_AUTHENTICATE, how));
    };
    if !caller.may(scopes) {
        let names: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
        let detail = format!("the token '{}' lacks the scope {}", caller.name, names.join(" or "));
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn is_local(request: &Request) -> bool {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).or(request.uri().host());
    let origin = text(header::ORIGIN);
    let own = |origin: &str| {
        let origin = origin.split_once("://").map_or(origin, |(_, host)| host);
        is_local_name(origin)
    };
    host.is_none_or(is_local_name) && origin.is_none_or(own)
}

fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_names_are_localhost_and_addresses() {
        for good in ["localhost", "localhost:8642", "127.0.0.1:8642", "[::1]:8642", "10.0.0.1"] {
            assert!(is_local_name(good), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example:8642", "", "null"] {
            assert!(!is_local_name(bad), "{bad}");
        }
    }
}
