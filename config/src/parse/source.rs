//! `[sources.NAME]`.

use super::{codec, component, generator, http, mqtt, net, timer, tls};
use crate::diagnostics::Diagnostic;
use crate::plan::{FileSource, FileStart, FramePlan, ReadMode, SourceKind, SourcePlan, UnixMode};
use crate::schema::SOURCES;
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::{Table, Value};

pub(super) const UNIX_MODES: &[(&str, UnixMode)] =
    &[("stream", UnixMode::Stream), ("datagram", UnixMode::Datagram)];

/// One source; reports what is wrong with it.
pub(super) fn source(
    cx: &mut Context<'_>,
    name: &Spanned<String>,
    table: &Table,
) -> Option<SourcePlan> {
    let what = format!("source '{name}'");
    let component = component(cx, &SOURCES, table, &what, name)?;
    let section = &component.section;
    let kind = kind(cx, component.kind, section);
    let mut plan = SourcePlan::new(name.clone(), SourceKind::Stdin);
    if !matches!(component.kind, "generator" | "timer") {
        let decode = codec::decode(cx, section);
        let datagrams = is_datagrams(component.kind, section);
        // What a request holds is for its `body` to say.
        let frame = match component.kind {
            "http" => Some(FramePlan::Newline),
            _ => codec::frame(cx, section, datagrams),
        };
        let bytes = section.size(cx, "frame_bytes");
        (plan.decode, plan.frame) = (decode?, frame?);
        plan.frame_bytes = u32::try_from(bytes?).ok()?;
    }
    plan.kind = kind?;
    Some(plan)
}

/// Whether the other side cuts messages apart by itself.
pub(super) fn is_datagrams(kind: &str, section: &Section<'_>) -> bool {
    matches!(kind, "udp" | "mqtt") || is_datagram_socket(kind, section)
}

/// Looked at before `mode` is known to be right, so that `frame` is judged by
/// what was meant.
fn is_datagram_socket(kind: &str, section: &Section<'_>) -> bool {
    kind == "unix"
        && section
            .table
            .get("mode")
            .is_some_and(|v| v.value == crate::Value::String("datagram".to_owned()))
}

fn kind(cx: &mut Context<'_>, kind: &str, section: &Section<'_>) -> Option<SourceKind> {
    match kind {
        "generator" => generator::generator(cx, section),
        "timer" => timer::timer(cx, section),
        "file" => file(cx, section).map(SourceKind::File),
        "http" => http::source(cx, section).map(SourceKind::Http),
        "mqtt" => mqtt::source(cx, section).map(|mqtt| SourceKind::Mqtt(Box::new(mqtt))),
        "stdin" => Some(SourceKind::Stdin),
        "tcp" => {
            let listen = net::listen(cx, section, "listen");
            let connections_max = connections_max(cx, section);
            let tls = tls::server(cx, section);
            let acks = acks(cx, section);
            Some(SourceKind::Tcp {
                listen: listen?,
                connections_max: connections_max?,
                tls: tls?,
                acks: acks?,
            })
        }
        "udp" => {
            let listen = net::listen(cx, section, "listen");
            let receive_buffer_bytes = section.size(cx, "receive_buffer");
            let gro = section.flag(cx, "gro");
            Some(SourceKind::Udp { listen: listen?, receive_buffer_bytes, gro: gro? })
        }
        _ => {
            let path = section.filled(cx, "path");
            let mode = section.one_of(cx, "mode", UNIX_MODES);
            let connections_max = connections_max(cx, section);
            Some(SourceKind::Unix {
                path: path?,
                mode: mode?.value,
                connections_max: connections_max?,
            })
        }
    }
}

fn connections_max(cx: &mut Context<'_>, section: &Section<'_>) -> Option<u32> {
    section.int(cx, "connections_max").and_then(|n| u32::try_from(n).ok())
}

fn file(cx: &mut Context<'_>, section: &Section<'_>) -> Option<FileSource> {
    let paths = section.texts(cx, "path");
    let mode = section.one_of(cx, "mode", &[("read", ReadMode::Read), ("tail", ReadMode::Tail)]);
    let start = section.one_of(
        cx,
        "start",
        &[("beginning", FileStart::Beginning), ("end", FileStart::End)],
    );
    let poll_us = section.time(cx, "poll");
    if mode.as_ref().is_some_and(|m| m.value == ReadMode::Read) {
        only_for_tail(cx, section);
    }
    let paths = paths?;
    check_globs(cx, section, &paths)?;
    Some(FileSource { paths, mode: mode?.value, start: start?.value, poll_us: poll_us? })
}

fn only_for_tail(cx: &mut Context<'_>, section: &Section<'_>) {
    for key in ["start", "poll"] {
        if let Some((key, _)) = section.table.entry(key) {
            let message = format!("'{key}' of {} has no effect", section.what);
            cx.push(
                Diagnostic::warning(key.span, message)
                    .help("it is for mode = \"tail\"; add that, or remove the key"),
            );
        }
    }
}

fn check_globs(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    paths: &[Spanned<String>],
) -> Option<()> {
    let mut good = true;
    if paths.is_empty() {
        let message = format!("'path' of {} is an empty list", section.what);
        cx.push(Diagnostic::error(section.span_of("path"), message).help("name at least one file"));
        good = false;
    }
    for path in paths {
        let problem = if path.trim().is_empty() {
            Some("is empty".to_owned())
        } else {
            glob::Pattern::new(path).err().map(|e| format!("is not a glob: {}", e.msg))
        };
        if let Some(problem) = problem {
            let message = format!("'path' of {}: '{path}' {problem}", section.what);
            cx.push(
                Diagnostic::error(path.span, message)
                    .help("globs have '*', '?', '[abc]' and '**'; '[[]' is a literal '['"),
            );
            good = false;
        }
    }
    good.then_some(())
}

/// `ack`: whether lines are acknowledged. Refuses what is not made of lines.
pub(super) fn acks(cx: &mut Context<'_>, section: &Section<'_>) -> Option<bool> {
    let ack = section.one_of(cx, "ack", &[("none", false), ("lines", true)])?;
    if !ack.value {
        return Some(false);
    }
    let text = |key: &str| match section.table.get(key).map(|value| &value.value) {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    let frame = text("frame").is_some_and(|frame| frame != "newline");
    let csv = ["decode", "encode"].into_iter().find(|key| text(key).as_deref() == Some("csv"));
    let wrong = frame.then_some("frame").or(csv);
    if let Some(key) = wrong {
        let message = format!("'ack' of {} counts lines, and '{key}' makes others", section.what);
        let help = "use frame = \"newline\" with json or text, or ack = \"none\"";
        cx.push(Diagnostic::error(section.span_of(key), message).help(help));
        return None;
    }
    Some(true)
}
