//! `[sinks.NAME]` and `[dead_letters]`.

use super::retry::retry;
use super::source::{UNIX_MODES, acks, is_datagrams};
use super::{codec, component, http, mqtt, net, spill, template, tls};
use crate::diagnostics::Diagnostic;
use crate::plan::{
    EncodePlan, FileMode, FileSink, FramePlan, Fsync, Input, Rotation, SinkKind, SinkPlan,
};
use crate::schema::{self, Family};
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::Table;

/// One sink; reports what is wrong with it.
pub(super) fn sink(
    cx: &mut Context<'_>,
    family: &'static Family,
    name: &Spanned<String>,
    what: &str,
    table: &Table,
    inputs: Vec<Input>,
) -> Option<SinkPlan> {
    let component = component(cx, family, table, what, name)?;
    let section = &component.section;
    let kind = kind(cx, component.kind, section);
    let when_full = spill::when_full(cx, section, inputs.is_empty() && what == "[dead_letters]");
    let spill = spill::spill(cx, section, when_full.as_ref());
    let buffer_bytes = section.size(cx, "buffer");
    let (mut encode, mut frame) = (Some(EncodePlan::Json), Some(FramePlan::Newline));
    if component.kind != "blackhole" {
        encode = codec::encode(cx, section);
        let datagrams = is_datagrams(component.kind, section);
        // How messages are put together is for `body` of a request to say.
        if component.kind != "http" {
            frame = codec::frame(cx, section, datagrams);
        }
    }
    Some(SinkPlan {
        name: name.clone(),
        inputs,
        encode: encode?,
        frame: frame?,
        when_full: when_full?,
        spill: spill?,
        buffer_bytes: buffer_bytes?,
        kind: kind?,
    })
}

fn kind(cx: &mut Context<'_>, kind: &str, section: &Section<'_>) -> Option<SinkKind> {
    match kind {
        "file" => file(cx, section).map(SinkKind::File),
        "http" => http::sink(cx, section).map(|http| SinkKind::Http(Box::new(http))),
        "mqtt" => mqtt::sink(cx, section).map(|mqtt| SinkKind::Mqtt(Box::new(mqtt))),
        "stdout" => Some(SinkKind::Stdout),
        "tcp" => {
            let address = net::address(cx, section, "address");
            let connect_timeout_us = section.time(cx, "connect_timeout");
            let retry = retry(cx, section);
            let tls = tls::client(cx, section);
            let acks = acks(cx, section);
            let ack_timeout_us = section.time(cx, "ack_timeout");
            Some(SinkKind::Tcp {
                address: address?,
                connect_timeout_us: connect_timeout_us?,
                retry: retry?,
                tls: tls?,
                ack_timeout_us: acks?.then_some(ack_timeout_us?),
            })
        }
        "udp" => Some(SinkKind::Udp { address: net::address(cx, section, "address")? }),
        "unix" => {
            let path = section.filled(cx, "path");
            let mode = section.one_of(cx, "mode", UNIX_MODES);
            let retry = retry(cx, section);
            Some(SinkKind::Unix { path: path?, mode: mode?.value, retry: retry? })
        }
        _ => Some(SinkKind::Blackhole),
    }
}

fn file(cx: &mut Context<'_>, section: &Section<'_>) -> Option<FileSink> {
    let path = template::template(cx, section, "path");
    let modes = [("append", FileMode::Append), ("truncate", FileMode::Truncate)];
    let mode = section.one_of(cx, "mode", &modes);
    let rotate = match section.table(cx, "rotate") {
        Some((table, span)) => rotation(cx, section.what, table, span),
        None => (!section.has("rotate")).then(Rotation::default),
    };
    let fsync = fsync(cx, section);
    Some(FileSink { path: path?, mode: mode?.value, rotate: rotate?, fsync: fsync? })
}

fn rotation(
    cx: &mut Context<'_>,
    owner: &str,
    table: &Table,
    span: crate::Span,
) -> Option<Rotation> {
    let what = format!("rotate of {owner}");
    let section = Section::open(cx, table, &schema::ROTATE, &what, span, None);
    let size_bytes = section.size(cx, "size");
    let every_us = section.time(cx, "every");
    let keep = section.int(cx, "keep").and_then(|n| u32::try_from(n).ok());
    if !section.has("size") && !section.has("every") {
        cx.push(
            Diagnostic::error(span, format!("{what} never begins a new file"))
                .help("add size = \"100MiB\" or every = \"1h\""),
        );
        return None;
    }
    let unread = (section.has("size") && size_bytes.is_none())
        || (section.has("every") && every_us.is_none())
        || (section.has("keep") && keep.is_none());
    (!unread).then_some(Rotation { size_bytes, every_us, keep })
}

const FSYNC_INTERVAL_US: std::ops::RangeInclusive<u64> = 1_000..=3_600_000_000;

fn fsync(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Fsync> {
    let text = section.text(cx, "fsync")?;
    match text.as_str() {
        "never" => return Some(Fsync::Never),
        "rotate" => return Some(Fsync::Rotate),
        "always" => return Some(Fsync::Always),
        _ => {}
    }
    let time = ringmain_base::units::parse_duration(&text).ok();
    let us = time.and_then(|t| u64::try_from(t.as_micros()).ok());
    if let Some(us) = us.filter(|us| FSYNC_INTERVAL_US.contains(us)) {
        return Some(Fsync::Interval(us));
    }
    let message = format!("'fsync' of {} cannot be '{}'", section.what, text.value);
    cx.push(
        Diagnostic::error(text.span, message)
            .help("use never, rotate, always or a duration from 1ms to 1h such as \"1s\""),
    );
    None
}
