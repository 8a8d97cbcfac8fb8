//! Raw tables to plan parts. Each file here owns one part of the format.

mod aggregate;
mod auth;
mod codec;
mod daemon;
mod event;
mod flow;
mod generator;
mod http;
mod input;
mod mqtt;
mod net;
mod operator;
mod operator_keyed;
mod retry;
mod schedule;
mod sink;
mod source;
mod spill;
mod template;
mod test;
mod throttle;
mod timer;
mod tls;

pub(crate) use auth::auth;
pub(crate) use daemon::{DaemonFile, daemon};
pub(crate) use flow::{Node, ParsedFlow, Ports, Role, flow};
pub(crate) use input::written;
pub(crate) use mqtt::name_clients;

use crate::diagnostics::{Diagnostic, did_you_mean};
use crate::schema::{Family, quoted};
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::{Table, Value};
use crate::words::wrong_type;

/// A component whose `type` is known.
struct Component<'t> {
    kind: &'static str,
    section: Section<'t>,
}

/// Opens the table of a component: finds its type, reports unknown keys.
fn component<'t>(
    cx: &mut Context<'_>,
    family: &'static Family,
    table: &'t Table,
    what: &'t str,
    name: &Spanned<String>,
) -> Option<Component<'t>> {
    let kind = component_type(cx, family, table, what, name)?;
    let schema = family.get(kind)?;
    let section = Section::open(cx, table, schema, what, name.span, Some(family));
    Some(Component { kind, section })
}

fn component_type(
    cx: &mut Context<'_>,
    family: &'static Family,
    table: &Table,
    what: &str,
    name: &Spanned<String>,
) -> Option<&'static str> {
    let names = family.names();
    let Some(value) = table.get("type") else {
        let help = match table.keys().find(|k| nearest_type_key(k)) {
            Some(key) => format!("did you mean 'type' instead of '{key}'?"),
            None => format!("write type = one of {}", quoted(&names)),
        };
        cx.push(Diagnostic::error(name.span, format!("{what} needs the key 'type'")).help(help));
        return None;
    };
    let Value::String(text) = &value.value else {
        cx.push(
            wrong_type(&format!("'type' of {what}"), "a string", value)
                .help(format!("use one of {}", quoted(&names))),
        );
        return None;
    };
    let found = names.iter().copied().find(|n| n == text);
    if found.is_none() {
        let help = did_you_mean(text, names.iter().copied())
            .unwrap_or_else(|| format!("types in this version: {}", names.join(", ")));
        let message = format!("unknown {} type '{text}' for {what}", family.noun);
        cx.push(Diagnostic::error(value.span, message).help(help));
    }
    found
}

/// Keys that other programs use where `type` stands here.
fn nearest_type_key(key: &str) -> bool {
    matches!(key, "kind" | "typ" | "tpye" | "typo" | "tyep" | "Type" | "plugin" | "connector")
}
