//! `decode`, `encode` and `frame`.

use crate::diagnostics::{Diagnostic, did_you_mean};
use crate::plan::{CsvDecode, DecodePlan, EncodePlan, FramePlan};
use crate::schema::{self, Schema, quoted};
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::Value;

const FRAMES: &[(&str, FramePlan)] = &[
    ("newline", FramePlan::Newline),
    ("u32", FramePlan::U32),
    ("u32le", FramePlan::U32Le),
    ("datagram", FramePlan::Datagram),
];

/// `frame`: datagrams are frames by themselves, streams need a framing.
pub(super) fn frame(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    datagrams: bool,
) -> Option<FramePlan> {
    let default = if datagrams { FramePlan::Datagram } else { FramePlan::Newline };
    if !section.has("frame") {
        return Some(default);
    }
    let frame = section.one_of(cx, "frame", FRAMES)?;
    if (frame.value == FramePlan::Datagram) != datagrams {
        let (message, help) = if datagrams {
            ("each datagram is one message", "remove 'frame' or write \"datagram\"")
        } else {
            ("a stream has no datagrams", "use \"newline\", \"u32\" or \"u32le\"")
        };
        let message = format!("'frame' of {}: {message}", section.what);
        cx.push(Diagnostic::error(frame.span, message).help(help));
        return None;
    }
    Some(frame.value)
}

/// `decode`: a name or a table.
pub(super) fn decode(cx: &mut Context<'_>, section: &Section<'_>) -> Option<DecodePlan> {
    let what = format!("decode of {}", section.what);
    match format(cx, section, "decode", &what, &schema::DECODE_CSV)? {
        (name, None) => match name.as_str() {
            "csv" => Some(DecodePlan::Csv(CsvDecode::default())),
            other => plain_decode(other),
        },
        (name, Some(options)) if name.value == "csv" => csv_decode(cx, &options),
        (name, Some(options)) => {
            refuse_options(cx, &options, &name);
            plain_decode(&name)
        }
    }
}

fn plain_decode(name: &str) -> Option<DecodePlan> {
    match name {
        "json" => Some(DecodePlan::Json),
        "text" => Some(DecodePlan::Text),
        "bytes" => Some(DecodePlan::Bytes),
        _ => None,
    }
}

fn csv_decode(cx: &mut Context<'_>, options: &Section<'_>) -> Option<DecodePlan> {
    let columns = columns(cx, options);
    let delimiter = delimiter(cx, options);
    let quote = quote(cx, options);
    let numbers = options.flag(cx, "numbers");
    let header = if options.has("header") {
        options.flag(cx, "header")
    } else {
        Some(columns.as_ref().is_none_or(Vec::is_empty))
    };
    let (columns, delimiter, header) = (columns?, delimiter?, header?);
    let (quote, numbers) = (quote?, numbers?);
    if quote == delimiter {
        let message = format!("{}: 'quote' and 'delimiter' are the same", options.what);
        cx.push(Diagnostic::error(options.span_of("quote"), message));
        return None;
    }
    if !header && columns.is_empty() {
        let message = format!("{}: without a header the columns need names", options.what);
        cx.push(
            Diagnostic::error(options.span_of("header"), message)
                .help("add columns = [\"first\", \"second\"], or header = true"),
        );
        return None;
    }
    Some(DecodePlan::Csv(CsvDecode { header, columns, delimiter, quote, numbers }))
}

/// `encode`: a name or a table.
pub(super) fn encode(cx: &mut Context<'_>, section: &Section<'_>) -> Option<EncodePlan> {
    let what = format!("encode of {}", section.what);
    match format(cx, section, "encode", &what, &schema::ENCODE_CSV)? {
        (name, None) if name.value == "csv" => {
            let message = format!("{what}: csv needs the fields to write");
            cx.push(
                Diagnostic::error(name.span, message)
                    .help("write encode = { type = \"csv\", columns = [\"device\", \"rpm\"] }"),
            );
            None
        }
        (name, Some(options)) if name.value == "csv" => csv_encode(cx, &options),
        (name, options) => {
            if let Some(options) = options {
                refuse_options(cx, &options, &name);
            }
            match name.as_str() {
                "json" => Some(EncodePlan::Json),
                _ => Some(EncodePlan::Text),
            }
        }
    }
}

fn csv_encode(cx: &mut Context<'_>, options: &Section<'_>) -> Option<EncodePlan> {
    let columns = columns(cx, options);
    let header = options.flag(cx, "header");
    let delimiter = delimiter(cx, options);
    let columns = columns?;
    if columns.is_empty() {
        let message = format!("{} needs the key 'columns'", options.what);
        cx.push(
            Diagnostic::error(options.span_of("columns"), message)
                .help("list the fields to write: columns = [\"device\", \"rpm\"]"),
        );
        return None;
    }
    Some(EncodePlan::Csv { columns, header: header?, delimiter: delimiter? })
}

/// The name of a format, and its options when it was written as a table.
fn format<'a>(
    cx: &mut Context<'_>,
    section: &Section<'a>,
    key: &str,
    what: &'a str,
    options: &'static Schema,
) -> Option<(Spanned<String>, Option<Section<'a>>)> {
    let Some(schema::Kind::OneOf(names)) = options.key("type").map(|k| k.kind) else { return None };
    if let Some((table, span)) = section.table.get(key).and_then(|v| match &v.value {
        Value::Table(table) => Some((table, v.span)),
        _ => None,
    }) {
        let opened = Section::open(cx, table, options, what, span, None);
        let name = opened.text(cx, "type")?;
        return known_format(cx, what, name, names).map(|name| (name, Some(opened)));
    }
    if section.has(key) && !matches!(section.table.get(key)?.value, Value::String(_)) {
        section.wrong(cx, key, section.table.get(key)?);
        return None;
    }
    let name = section.text(cx, key)?;
    known_format(cx, what, name, names).map(|name| (name, None))
}

fn known_format(
    cx: &mut Context<'_>,
    what: &str,
    name: Spanned<String>,
    names: &[&str],
) -> Option<Spanned<String>> {
    if names.contains(&name.as_str()) {
        return Some(name);
    }
    let help = did_you_mean(&name, names.iter().copied())
        .unwrap_or_else(|| format!("use one of {}", quoted(names)));
    let message = format!("{what}: unknown format '{}'", name.value);
    cx.push(Diagnostic::error(name.span, message).help(help));
    None
}

fn refuse_options(cx: &mut Context<'_>, options: &Section<'_>, name: &Spanned<String>) {
    for (key, _) in options.table.entries.iter().filter(|(k, _)| k.value != "type") {
        if options.schema.key(key).is_some() {
            let message = format!("{}: '{}' has no option '{key}'", options.what, name.value);
            cx.push(Diagnostic::error(key.span, message).help("only csv has options"));
        }
    }
}

fn columns(cx: &mut Context<'_>, options: &Section<'_>) -> Option<Vec<String>> {
    let columns = options.texts(cx, "columns")?;
    let mut good = true;
    for (at, column) in columns.iter().enumerate() {
        if let Some(first) = columns[..at].iter().find(|c| *c == column) {
            let message = format!("{}: the column '{column}' is named twice", options.what);
            cx.push(Diagnostic::error(column.span, message).note(first.span, "first here"));
            good = false;
        }
    }
    good.then(|| columns.into_iter().map(|c| c.value).collect())
}

fn quote(cx: &mut Context<'_>, options: &Section<'_>) -> Option<u8> {
    let text = options.text(cx, "quote")?;
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Some(*byte),
        _ => {
            let message = format!("{}: the quote must be one ASCII character", options.what);
            cx.push(Diagnostic::error(text.span, message).help("for example '\"' or \"'\""));
            None
        }
    }
}

fn delimiter(cx: &mut Context<'_>, options: &Section<'_>) -> Option<u8> {
    let text = options.text(cx, "delimiter")?;
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Some(*byte),
        _ => {
            let message = format!("{}: the delimiter must be one ASCII character", options.what);
            cx.push(
                Diagnostic::error(text.span, message).help(
                    "for example \",\", \";\" or \"\\t\"; quotes and line ends cannot be one",
                ),
            );
            None
        }
    }
}
