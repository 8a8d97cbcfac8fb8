//! Connections: accepted within a bound, served until told to stop.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::Shared;
use super::guard::Peer;

/// Connections at once. Further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// How long the head of a request may take, and an idle connection may stay.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// How often certificate and tokens are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Serves until `stopped`.
pub(crate) async fn serve(listener: TcpListener, api: Shared, mut stopped: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("[api] listen: {error}"),
    };
    let tls = match api.tls.as_ref().map(|tls| tls.config()).transpose() {
        Ok(tls) => tls.map(TlsAcceptor::from),
        Err(error) => return tracing::error!("{error}"),
    };
    if let Ok(addr) = listener.local_addr() {
        let scheme = if tls.is_some() { "https" } else { "http" };
        tracing::info!("[api] listening at {scheme}://{addr}");
    }
    let router = super::router(&api);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut looks = interval(LOOK_EVERY);
    loop {
        let place = places.clone().acquire_owned();
        let accepted = tokio::select! {
            place = place => match place {
                Ok(place) => tokio::select! {
                    accepted = listener.accept() => accepted.map(|(stream, peer)| (stream, peer, place)),
                    _ = looks.tick() => { look(&api); continue }
                    _ = stopped.changed() => return,
                },
                Err(_) => return,
            },
            _ = looks.tick() => { look(&api); continue }
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let (router, tls, stopped) = (router.clone(), tls.clone(), stopped.clone());
                tokio::spawn(async move {
                    let _place = place;
                    match tls {
                        None => connection(stream, router, Peer(peer), stopped).await,
                        Some(tls) => {
                            let handshake = timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await;
                            if let Ok(Ok(stream)) = handshake {
                                connection(stream, router, Peer(peer), stopped).await;
                            }
                        }
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: soon there are some again.
                tracing::warn!("[api] accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn look(api: &Shared) {
    api.tokens.refresh();
    if let Some(tls) = &api.tls {
        tls.refresh();
    }
}

async fn connection<S>(stream: S, router: Router, peer: Peer, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    // How it ends concerns the peer alone.
    tokio::select! {
        _ = served.as_mut() => {}
        _ = stopped.changed() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}
