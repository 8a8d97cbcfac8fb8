//! `[operators.NAME]`.

use std::path::{Path, PathBuf};

use super::input::check_name;
use super::{Ports, component};
use crate::diagnostics::{Diagnostic, did_you_mean};
use crate::plan::{
    Input, LuaLimits, LuaPlan, LuaSource, MapPlan, OperatorKind, OperatorPlan, RoutePlan,
    WhenQuarantined,
};
use crate::schema::{self, OPERATORS};
use crate::section::{Context, Section};
use crate::span::Spanned;
use crate::value::{Table, Value};
use crate::words::wrong_type;

/// One operator and its ports; reports what is wrong with it.
pub(super) fn operator(
    cx: &mut Context<'_>,
    name: &Spanned<String>,
    table: &Table,
    inputs: Vec<Input>,
    base_dir: &Path,
) -> (Option<OperatorPlan>, Ports) {
    let what = format!("operator '{name}'");
    let Some(component) = component(cx, &OPERATORS, table, &what, name) else {
        return (None, Ports::Unknown);
    };
    let section = &component.section;
    let kind = match component.kind {
        "filter" => expression(cx, section, "where").map(|where_| OperatorKind::Filter { where_ }),
        "map" => map(cx, section).map(OperatorKind::Map),
        "route" => route(cx, section).map(OperatorKind::Route),
        "lua" => lua(cx, section, base_dir).map(OperatorKind::Lua),
        kind => super::operator_keyed::keyed(cx, kind, section, base_dir),
    };
    let ports = match (&kind, component.kind) {
        (Some(OperatorKind::Route(route)), _) => {
            Ports::Named(route.ports().map(str::to_owned).collect())
        }
        (Some(kind), _) if !kind.ports().is_empty() => {
            Ports::More(kind.ports().into_iter().map(str::to_owned).collect())
        }
        (None, "route" | "throttle" | "aggregate" | "lua") => Ports::Unknown,
        _ => Ports::One,
    };
    (kind.map(|kind| OperatorPlan { name: name.clone(), inputs, kind }), ports)
}

/// A Lua expression: text that is not empty. What it means is not known here.
fn expression(cx: &mut Context<'_>, section: &Section<'_>, key: &str) -> Option<Spanned<String>> {
    section.filled(cx, key)
}

/// A table of name = "expression".
fn expressions(
    cx: &mut Context<'_>,
    section: &Section<'_>,
    key: &str,
) -> Option<Vec<(Spanned<String>, Spanned<String>)>> {
    let (table, _) = section.table(cx, key)?;
    let mut pairs = Vec::with_capacity(table.entries.len());
    for (name, value) in &table.entries {
        let what = format!("'{name}' in '{key}' of {}", section.what);
        match &value.value {
            Value::String(text) if text.trim().is_empty() => {
                cx.push(
                    Diagnostic::error(value.span, format!("{what} is empty"))
                        .help("write a Lua expression; an empty text is \"''\""),
                );
            }
            Value::String(text) => {
                let text = cx.expand(&Spanned::new(text.clone(), value.span));
                pairs.extend(text.map(|text| (name.clone(), text)));
            }
            _ => cx.push(
                wrong_type(&what, "a Lua expression in a string", value)
                    .help_maybe(as_expression(name, value)),
            ),
        }
    }
    (pairs.len() == table.entries.len()).then_some(pairs)
}

/// How a plain value is written as an expression.
fn as_expression(name: &Spanned<String>, value: &Spanned<Value>) -> Option<String> {
    match &value.value {
        Value::Integer(i) => Some(format!("write {name} = \"{i}\"")),
        Value::Float(f) => Some(format!("write {name} = \"{f}\"")),
        Value::Boolean(b) => Some(format!("write {name} = \"{b}\"")),
        _ => None,
    }
}

fn map(cx: &mut Context<'_>, section: &Section<'_>) -> Option<MapPlan> {
    let set = if section.has("set") { expressions(cx, section, "set") } else { Some(Vec::new()) };
    let remove = section.texts(cx, "remove");
    let keep = section.texts(cx, "keep");
    let rename = if section.has("rename") { renames(cx, section) } else { Some(Vec::new()) };
    if ["set", "remove", "rename", "keep"].iter().all(|key| !section.has(key)) {
        cx.push(
            Diagnostic::warning(section.span, format!("{} changes nothing", section.what))
                .help("give it 'set', 'remove', 'rename' or 'keep'"),
        );
    }
    Some(MapPlan { keep: keep?, remove: remove?, rename: rename?, set: set? })
}

fn renames(
    cx: &mut Context<'_>,
    section: &Section<'_>,
) -> Option<Vec<(Spanned<String>, Spanned<String>)>> {
    let (table, _) = section.table(cx, "rename")?;
    let mut pairs: Vec<(Spanned<String>, Spanned<String>)> = Vec::new();
    let mut good = true;
    for (old, new) in &table.entries {
        let what = format!("'{old}' in 'rename' of {}", section.what);
        let Value::String(text) = &new.value else {
            cx.push(wrong_type(&what, "the new name in a string", new));
            good = false;
            continue;
        };
        let Some(text) = cx.expand(&Spanned::new(text.clone(), new.span)) else {
            good = false;
            continue;
        };
        if let Some((first, _)) = pairs.iter().find(|(_, to)| *to == text) {
            let message = format!("{}: '{first}' and '{old}' both become '{text}'", section.what);
            cx.push(Diagnostic::error(text.span, message).help("give them different names"));
            good = false;
        }
        pairs.push((old.clone(), text));
    }
    good.then_some(pairs)
}

fn route(cx: &mut Context<'_>, section: &Section<'_>) -> Option<RoutePlan> {
    if let Some(Spanned { value: Value::Table(table), .. }) = section.table.get("routes") {
        table.entries.iter().for_each(|(port, _)| check_name(cx, "a port", port));
    }
    let routes = expressions(cx, section, "routes");
    let default = section.text(cx, "default");
    if routes.as_ref().is_some_and(Vec::is_empty) {
        let message = format!("'routes' of {} is empty", section.what);
        cx.push(
            Diagnostic::error(section.span_of("routes"), message)
                .help("name at least one port: high = \"rpm > 100\""),
        );
        return None;
    }
    if let Some(default) = &default {
        check_name(cx, "a port", default);
    }
    if section.has("default") && default.is_none() {
        return None;
    }
    Some(RoutePlan { routes: routes?, default })
}

const WHEN_QUARANTINED: &[(&str, WhenQuarantined)] =
    &[("dead_letters", WhenQuarantined::DeadLetters), ("block", WhenQuarantined::Block)];

fn lua(cx: &mut Context<'_>, section: &Section<'_>, base_dir: &Path) -> Option<LuaPlan> {
    let source = lua_source(cx, section, base_dir);
    let limits = lua_limits(cx, section);
    let config = match section.table(cx, "config") {
        Some((table, _)) => Some(expand_table(cx, table)),
        None => (!section.has("config")).then(Table::default),
    };
    let ports = lua_ports(cx, section);
    let folders = folders(base_dir, source.as_ref());
    Some(LuaPlan { source: source?, limits: limits?, config: config?, ports: ports?, folders })
}

fn lua_ports(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Vec<Spanned<String>>> {
    let ports = section.texts(cx, "ports")?;
    for (at, port) in ports.iter().enumerate() {
        check_name(cx, "a port", port);
        if let Some(first) = ports[..at].iter().find(|known| known.value == port.value) {
            let message = format!("{} has the port '{port}' twice", section.what);
            let twice = Diagnostic::error(port.span, message);
            cx.push(twice.note(first.span, "it is here first").help("remove one of them"));
        }
    }
    Some(ports)
}

/// Where modules are looked for: beside the script, then where scripts are.
fn folders(base_dir: &Path, source: Option<&LuaSource>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let own = match source {
        Some(LuaSource::Script(path)) => path.value.parent(),
        _ => Some(base_dir),
    };
    let up = base_dir.parent().map(|parent| parent.join("lua"));
    let places = [own.map(Path::to_owned), Some(base_dir.join("lua")), up];
    for place in places.into_iter().flatten() {
        if !folders.contains(&place) {
            folders.push(place);
        }
    }
    folders
}

fn lua_source(cx: &mut Context<'_>, section: &Section<'_>, base_dir: &Path) -> Option<LuaSource> {
    match (section.table.get("source"), section.has("script")) {
        (Some(value), false) => match &value.value {
            Value::String(code) => Some(LuaSource::Inline(Spanned::new(code.clone(), value.span))),
            _ => {
                section.wrong(cx, "source", value);
                None
            }
        },
        (None, true) => script(cx, section, base_dir),
        (Some(value), true) => {
            let message = format!("{} has both 'source' and 'script'", section.what);
            cx.push(
                Diagnostic::error(value.span, message)
                    .note(section.span_of("script"), "'script' is here")
                    .help("remove one of them"),
            );
            None
        }
        (None, false) => {
            let message = format!("{} needs 'source' or 'script'", section.what);
            let near = did_you_mean("script", section.table.keys().filter(|k| *k != "type"));
            cx.push(Diagnostic::error(section.span, message).help(near.map_or_else(
                || "write script = \"file.lua\", or the code as source = '''...'''".to_owned(),
                |_| "check the spelling of 'script'".to_owned(),
            )));
            None
        }
    }
}

fn script(cx: &mut Context<'_>, section: &Section<'_>, base_dir: &Path) -> Option<LuaSource> {
    let name = section.filled(cx, "script")?;
    let mut places = vec![base_dir.join(&name.value), base_dir.join("lua").join(&name.value)];
    if let Some(parent) = base_dir.parent() {
        places.push(parent.join("lua").join(&name.value));
    }
    if let Some(found) = places.iter().find(|p| p.is_file()) {
        return Some(LuaSource::Script(Spanned::new(found.clone(), name.span)));
    }
    let message = format!("'script' of {}: there is no file '{}'", section.what, name.value);
    let looked = places.iter().map(|p| show(p)).collect::<Vec<_>>().join(", ");
    cx.push(Diagnostic::error(name.span, message).help(format!("looked for {looked}")));
    None
}

fn show(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

fn lua_limits(cx: &mut Context<'_>, section: &Section<'_>) -> Option<LuaLimits> {
    let empty = Table::default();
    let (table, span) = match section.table(cx, "limits") {
        Some(found) => found,
        None if section.has("limits") => return None,
        None => (&empty, section.span),
    };
    let what = format!("limits of {}", section.what);
    let limits = Section::open(cx, table, &schema::LIMITS, &what, span, None);
    let (time_us, memory_bytes) = (limits.time(cx, "time"), limits.size(cx, "memory"));
    let kills = limits.int(cx, "kills").and_then(|n| u32::try_from(n).ok());
    let when_quarantined = limits.one_of(cx, "when_quarantined", WHEN_QUARANTINED);
    Some(LuaLimits {
        time_us: time_us?,
        memory_bytes: memory_bytes?,
        kills: kills?,
        when_quarantined: when_quarantined?.value,
    })
}

/// The table with every environment reference replaced; what cannot be is
/// reported and left as it is.
fn expand_table(cx: &mut Context<'_>, table: &Table) -> Table {
    let entries = table.entries.iter();
    Table { entries: entries.map(|(k, v)| (k.clone(), expand_value(cx, v))).collect() }
}

fn expand_value(cx: &mut Context<'_>, value: &Spanned<Value>) -> Spanned<Value> {
    let expanded = match &value.value {
        Value::String(text) => {
            let text = Spanned::new(text.clone(), value.span);
            Value::String(cx.expand(&text).unwrap_or(text).value)
        }
        Value::Array(items) => Value::Array(items.iter().map(|v| expand_value(cx, v)).collect()),
        Value::Table(table) => Value::Table(expand_table(cx, table)),
        other => other.clone(),
    };
    Spanned::new(expanded, value.span)
}
