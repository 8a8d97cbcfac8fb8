//! `inputs` and the names of components and ports.

use crate::diagnostics::{Diagnostic, nearest};
use crate::plan::{Input, LoopBound, WhenFull};
use crate::schema;
use crate::section::{Context, Section};
use crate::span::{Span, Spanned};
use crate::value::{Table, Value};
use crate::words::wrong_type;

/// Names of the full policies of a way back.
const WHEN_FULL: &[(&str, WhenFull)] = &[
    ("block", WhenFull::Block),
    ("drop_newest", WhenFull::DropNewest),
    ("drop_oldest", WhenFull::DropOldest),
];

/// Whether a component or port may be called so: it appears in `a.b`, in
/// metrics and in file names.
pub(super) fn is_name(name: &str) -> bool {
    let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    head && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Reports a name that cannot be one.
pub(super) fn check_name(cx: &mut Context<'_>, what: &str, name: &Spanned<String>) {
    if !is_name(name) {
        cx.push(
            Diagnostic::error(name.span, format!("'{name}' cannot be the name of {what}"))
                .help("use up to 64 letters, digits, '_' and '-', beginning with a letter"),
        );
    }
}

/// Reads `inputs`. `bounds` says whether this component may close a cycle.
pub(super) fn inputs(
    cx: &mut Context<'_>,
    table: &Table,
    what: &str,
    name_span: Span,
    bounds: bool,
) -> Vec<Input> {
    let Some(value) = table.get("inputs") else {
        if table.keys().any(|key| nearest(key, ["inputs"]).is_some()) {
            return Vec::new(); // Reported as an unknown key.
        }
        cx.push(
            Diagnostic::error(name_span, format!("{what} needs the key 'inputs'"))
                .help("name the sources and operators that it reads: inputs = [\"name\"]"),
        );
        return Vec::new();
    };
    let items = match &value.value {
        Value::Array(items) => items.as_slice(),
        Value::String(_) | Value::Table(_) => std::slice::from_ref(value),
        _ => {
            let expected = "a list of component names";
            cx.push(wrong_type(&format!("'inputs' of {what}"), expected, value));
            return Vec::new();
        }
    };
    if items.is_empty() {
        cx.push(
            Diagnostic::error(value.span, format!("{what} reads nothing: 'inputs' is empty"))
                .help("name the sources and operators that it reads"),
        );
    }
    let mut inputs: Vec<Input> = Vec::with_capacity(items.len());
    for item in items {
        let Some(input) = input(cx, item, what, bounds) else { continue };
        let same = |i: &&Input| i.component == input.component && i.port == input.port;
        if let Some(first) = inputs.iter().find(same) {
            let message = format!("{what} reads '{}' twice", written(&input));
            cx.push(
                Diagnostic::error(input.component.span, message)
                    .note(first.component.span, "first here"),
            );
            continue;
        }
        inputs.push(input);
    }
    inputs
}

/// An input as it stands in the file.
pub(crate) fn written(input: &Input) -> String {
    match &input.port {
        Some(port) => format!("{}.{port}", input.component),
        None => input.component.value.clone(),
    }
}

fn input(cx: &mut Context<'_>, item: &Spanned<Value>, what: &str, bounds: bool) -> Option<Input> {
    match &item.value {
        Value::String(text) => {
            let text = cx.expand(&Spanned::new(text.clone(), item.span))?;
            Some(split(text, None))
        }
        Value::Table(_) if !bounds => {
            cx.push(
                Diagnostic::error(item.span, format!("an input of {what} must be a name"))
                    .help("a sink has 'when_full' and 'buffer' as keys of its own"),
            );
            None
        }
        Value::Table(table) => {
            let what = format!("an input of {what}");
            let section = Section::open(cx, table, &schema::INPUT, &what, item.span, None);
            let from = section.filled(cx, "from");
            let bytes = section.size(cx, "bound");
            let when_full = way_back(cx, &section);
            // Half a bound is reported above; as a bound it keeps the cycle from
            // being reported, too.
            let when_full = when_full.unwrap_or_default();
            let bound = LoopBound { bytes: bytes.unwrap_or(0), when_full };
            from.map(|from| split(from, Some(bound)))
        }
        _ => {
            let what = format!("an input of {what}");
            cx.push(wrong_type(&what, "the name of a component", item));
            None
        }
    }
}

fn way_back(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Spanned<WhenFull>> {
    if let Some(Spanned { value: Value::String(text), span }) = section.table.get("when_full")
        && text == "spill"
    {
        let message = format!("'when_full' of {} cannot be 'spill'", section.what);
        let help = "what goes round stays in memory; a sink can spill";
        cx.push(Diagnostic::error(*span, message).help(help));
        return None;
    }
    section.one_of(cx, "when_full", WHEN_FULL)
}

pub(super) fn split(text: Spanned<String>, bound: Option<LoopBound>) -> Input {
    let (component, port) = match text.value.split_once('.') {
        Some((component, port)) => (component.to_owned(), Some(port.to_owned())),
        None => (text.value, None),
    };
    Input { component: Spanned::new(component, text.span), port, bound }
}
