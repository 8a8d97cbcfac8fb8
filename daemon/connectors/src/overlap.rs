//! Whether two versions of a connector can be open at once, or need the same
//! port, file or session.

use std::net::SocketAddr;

use ringmain_config::plan::{HttpSink, SinkKind, SinkPlan, SourceKind, SourcePlan, UnixMode};

/// Whether `new` can be opened while `old` still is. In doubt it cannot.
#[must_use]
pub fn sources_overlap(old: &SourcePlan, new: &SourcePlan) -> bool {
    match (&old.kind, &new.kind) {
        (SourceKind::Generator { .. } | SourceKind::Timer(_), _)
        | (_, SourceKind::Generator { .. } | SourceKind::Timer(_)) => true,
        (SourceKind::Unix { path: old, .. }, SourceKind::Unix { path: new, .. }) => old != new,
        (old, new) => match (stream(old), stream(new), datagrams(old), datagrams(new)) {
            (Some(old), Some(new), ..) | (.., Some(old), Some(new)) => old != new,
            _ => std::mem::discriminant(old) != std::mem::discriminant(new),
        },
    }
}

/// The same for sinks.
#[must_use]
pub fn sinks_overlap(old: &SinkPlan, new: &SinkPlan) -> bool {
    if old.spill.is_some() && new.spill.is_some() && old.name == new.name {
        return false;
    }
    match (&old.kind, &new.kind) {
        (SinkKind::File(old), SinkKind::File(new)) => {
            let paths = (old.path.literal(), new.path.literal());
            matches!(paths, (Some(old), Some(new)) if old != new)
        }
        (SinkKind::Mqtt(_), SinkKind::Mqtt(_)) | (SinkKind::Stdout, SinkKind::Stdout) => false,
        _ => true,
    }
}

/// Whether `new` can send what `old` had made of its messages and not sent: both
/// write them into one stream, or into requests, in the same form.
#[must_use]
pub fn sinks_hand_over(old: &SinkPlan, new: &SinkPlan) -> bool {
    let same = old.encode == new.encode && old.frame == new.frame;
    if !same || old.spill.is_some() || new.spill.is_some() {
        return false;
    }
    if let (SinkKind::Http(old), SinkKind::Http(new)) = (&old.kind, &new.kind) {
        let parts = |plan: &HttpSink| (plan.path.clone(), plan.headers.clone());
        return parts(old) == parts(new) && (old.body, old.gzip) == (new.body, new.gzip);
    }
    let streams = |plan: &SinkPlan| {
        let unix = matches!(plan.kind, SinkKind::Unix { mode: UnixMode::Stream, .. });
        unix || matches!(plan.kind, SinkKind::Tcp { .. })
    };
    streams(old) && streams(new)
}

fn stream(kind: &SourceKind) -> Option<SocketAddr> {
    match kind {
        SourceKind::Tcp { listen, .. } => Some(listen.addr),
        SourceKind::Http(http) => Some(http.listen.addr),
        _ => None,
    }
}

fn datagrams(kind: &SourceKind) -> Option<SocketAddr> {
    match kind {
        SourceKind::Udp { listen, .. } => Some(listen.addr),
        _ => None,
    }
}
