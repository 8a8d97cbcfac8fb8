//! Typed reading of one table against its schema.
//!
//! Every accessor reports what is wrong by itself and returns `None`; the
//! caller reads all keys before it gives up, so that one pass finds everything.
//! Asking for a key that the schema lacks is a bug of this crate and panics in
//! the tests, which read every shipped key.

use crate::diagnostics::{Diagnostic, Diagnostics, did_you_mean, nearest};
use crate::env;
use crate::schema::{Family, Key, Kind, Preset, Schema, quoted};
use crate::span::{Span, Spanned};
use crate::value::{Table, Value};
use crate::words::{explain, format_us, unit_words, unknown_key, wrong_type};
use ringmain_base::units;

/// What reading needs besides the table.
pub(crate) struct Context<'e> {
    pub(crate) out: Diagnostics,
    pub(crate) env: &'e dyn Fn(&str) -> Option<String>,
}

impl Context<'_> {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.out.push(diagnostic);
    }

    /// The string with its environment references replaced.
    pub(crate) fn expand(&mut self, text: &Spanned<String>) -> Option<Spanned<String>> {
        if !text.contains("${") {
            return Some(text.clone());
        }
        match env::expand(text, self.env) {
            Ok(value) => Some(Spanned::new(value, text.span)),
            Err(problems) => {
                for problem in problems {
                    let span = self.narrow(text.span, &problem.written);
                    self.push(Diagnostic::error(span, problem.message).help(problem.help));
                }
                None
            }
        }
    }

    /// The part of `span` that reads `written`, when it stands there as is.
    pub(crate) fn narrow(&self, span: Span, written: &str) -> Span {
        match self.out.sources().slice(span).find(written) {
            Some(at) if !written.is_empty() => {
                let start = span.start + at;
                Span::new(span.file, start, start + written.len())
            }
            _ => span,
        }
    }
}

/// One table that is being read.
#[derive(Clone, Copy)]
pub(crate) struct Section<'t> {
    pub(crate) table: &'t Table,
    pub(crate) schema: &'static Schema,
    /// What it is called in messages: "source 'a'".
    pub(crate) what: &'t str,
    /// Its header or key, where a missing key is reported.
    pub(crate) span: Span,
}

impl<'t> Section<'t> {
    /// Starts reading; reports keys that the schema does not know.
    pub(crate) fn open(
        cx: &mut Context<'_>,
        table: &'t Table,
        schema: &'static Schema,
        what: &'t str,
        span: Span,
        family: Option<&'static Family>,
    ) -> Self {
        for (key, _) in &table.entries {
            if schema.key(key).is_none() {
                cx.push(unknown_key(key, schema, family));
            }
        }
        Self { table, schema, what, span }
    }

    fn key(&self, name: &str) -> &'static Key {
        self.schema.key(name).expect("the parser asks only for keys of the schema")
    }

    /// Key and value as written; reports a required key that is absent.
    pub(crate) fn raw(&self, cx: &mut Context<'_>, name: &str) -> Option<&'t Spanned<Value>> {
        let value = self.table.get(name);
        let key = self.key(name);
        if value.is_none() && key.is_required() && !self.is_misspelt(name) {
            cx.push(
                Diagnostic::error(self.span, format!("{} needs the key '{name}'", self.what))
                    .help(explain(key)),
            );
        }
        value
    }

    /// Whether an unknown key was reported that probably means this one.
    fn is_misspelt(&self, name: &str) -> bool {
        let all = self.schema.all();
        let unknown = self.table.keys().filter(|k| self.schema.key(k).is_none());
        unknown.into_iter().any(|k| nearest(k, all.iter().map(|k| k.name)) == Some(name))
    }

    /// Where the key's value stands, or the section's header.
    pub(crate) fn span_of(&self, name: &str) -> Span {
        self.table.get(name).map_or(self.span, |v| v.span)
    }

    /// Whether the key is written.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.get(name).is_some()
    }

    /// Reports a value of the wrong type.
    pub(crate) fn wrong(&self, cx: &mut Context<'_>, name: &str, value: &Spanned<Value>) {
        let expected = self.key(name).kind.expected();
        cx.push(wrong_type(&format!("'{name}' of {}", self.what), &expected, value));
    }

    /// The value as text: written, or the default.
    fn text_or_default(&self, cx: &mut Context<'_>, name: &str) -> Option<Spanned<String>> {
        match self.raw(cx, name) {
            Some(Spanned { value: Value::String(text), span }) => {
                cx.expand(&Spanned::new(text.clone(), *span))
            }
            Some(value) => {
                self.wrong(cx, name, value);
                None
            }
            None => match self.key(name).preset {
                Preset::Value(text) => Some(Spanned::new(text.to_owned(), self.span)),
                _ => None,
            },
        }
    }

    /// A string.
    pub(crate) fn text(&self, cx: &mut Context<'_>, name: &str) -> Option<Spanned<String>> {
        self.text_or_default(cx, name)
    }

    /// A string that has at least one character.
    pub(crate) fn filled(&self, cx: &mut Context<'_>, name: &str) -> Option<Spanned<String>> {
        let text = self.text(cx, name)?;
        if text.trim().is_empty() {
            let message = format!("'{name}' of {} is empty", self.what);
            cx.push(Diagnostic::error(text.span, message).help(explain(self.key(name))));
            return None;
        }
        Some(text)
    }

    /// A string or a list of strings; empty when absent.
    pub(crate) fn texts(&self, cx: &mut Context<'_>, name: &str) -> Option<Vec<Spanned<String>>> {
        let Some(value) = self.raw(cx, name) else {
            return (!self.key(name).is_required()).then(Vec::new);
        };
        let items = match &value.value {
            Value::Array(items) => items.as_slice(),
            Value::String(_) => std::slice::from_ref(value),
            _ => {
                self.wrong(cx, name, value);
                return None;
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        let mut good = true;
        for item in items {
            match &item.value {
                Value::String(text) => match cx.expand(&Spanned::new(text.clone(), item.span)) {
                    Some(text) => texts.push(text),
                    None => good = false,
                },
                _ => {
                    let what = format!("an entry of '{name}' of {}", self.what);
                    cx.push(wrong_type(&what, "a string", item));
                    good = false;
                }
            }
        }
        good.then_some(texts)
    }

    /// true or false.
    pub(crate) fn flag(&self, cx: &mut Context<'_>, name: &str) -> Option<bool> {
        match self.raw(cx, name) {
            Some(Spanned { value: Value::Boolean(b), .. }) => Some(*b),
            Some(value) => {
                self.wrong(cx, name, value);
                None
            }
            None => match self.key(name).preset {
                Preset::Value(text) => Some(text == "true"),
                _ => None,
            },
        }
    }

    /// An integer within the bounds of the schema.
    pub(crate) fn int(&self, cx: &mut Context<'_>, name: &str) -> Option<i64> {
        let Kind::Int(min, max) = self.key(name).kind else { return None };
        match self.raw(cx, name) {
            Some(Spanned { value: Value::Integer(i), span }) => {
                let bounds = (min.to_string(), max.to_string());
                self.within(cx, name, *span, *i, (min, max), bounds)
            }
            Some(value) => {
                self.wrong(cx, name, value);
                None
            }
            None => match self.key(name).preset {
                Preset::Value(text) => text.parse().ok(),
                _ => None,
            },
        }
    }

    /// A number within the bounds of the schema.
    pub(crate) fn number(&self, cx: &mut Context<'_>, name: &str) -> Option<f64> {
        let Kind::Number(min, max) = self.key(name).kind else { return None };
        let Some(value) = self.raw(cx, name) else {
            return match self.key(name).preset {
                Preset::Value(text) => text.parse().ok(),
                _ => None,
            };
        };
        let number = match value.value {
            Value::Integer(i) => i as f64,
            Value::Float(f) => f,
            _ => {
                self.wrong(cx, name, value);
                return None;
            }
        };
        self.within(cx, name, value.span, number, (min, max), (min.to_string(), max.to_string()))
    }

    /// A size in bytes.
    pub(crate) fn size(&self, cx: &mut Context<'_>, name: &str) -> Option<u64> {
        let Kind::Size(min, max) = self.key(name).kind else { return None };
        let text = self.text_or_default(cx, name)?;
        let bounds = (units::format_bytes(min), units::format_bytes(max));
        match units::parse_bytes(&text) {
            Ok(bytes) => self.within(cx, name, text.span, bytes, (min, max), bounds),
            Err(error) => self.bad_unit(cx, name, &text, &error),
        }
    }

    /// A duration in microseconds.
    pub(crate) fn time(&self, cx: &mut Context<'_>, name: &str) -> Option<u64> {
        let Kind::Time(min, max) = self.key(name).kind else { return None };
        let text = self.text_or_default(cx, name)?;
        let bounds = (format_us(min), format_us(max));
        match units::parse_duration(&text) {
            Ok(time) => {
                let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                self.within(cx, name, text.span, us, (min, max), bounds)
            }
            Err(error) => self.bad_unit(cx, name, &text, &error),
        }
    }

    fn bad_unit(
        &self,
        cx: &mut Context<'_>,
        name: &str,
        text: &Spanned<String>,
        error: &units::UnitError,
    ) -> Option<u64> {
        let message = format!("'{name}' of {}: '{}' {}", self.what, text.value, unit_words(error));
        let help = format!("write {}", self.key(name).kind.expected());
        cx.push(Diagnostic::error(text.span, message).help(help));
        None
    }

    fn within<T: PartialOrd>(
        &self,
        cx: &mut Context<'_>,
        name: &str,
        span: Span,
        value: T,
        (min, max): (T, T),
        (min_shown, max_shown): (String, String),
    ) -> Option<T> {
        let (word, limit) = if value < min {
            ("at least", min_shown)
        } else if value > max {
            ("at most", max_shown)
        } else if value.partial_cmp(&value).is_none() {
            ("a number,", "not nan".to_owned())
        } else {
            return Some(value);
        };
        let message = format!("'{name}' of {} must be {word} {limit}", self.what);
        cx.push(Diagnostic::error(span, message));
        None
    }

    /// One of the schema's names, mapped by `pairs`, which lists the same ones.
    pub(crate) fn one_of<T: Copy>(
        &self,
        cx: &mut Context<'_>,
        name: &str,
        pairs: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        if let Kind::OneOf(names) = self.key(name).kind {
            debug_assert!(names.iter().copied().eq(pairs.iter().map(|(n, _)| *n)), "{name}");
        }
        let text = self.text_or_default(cx, name)?;
        if let Some((_, value)) = pairs.iter().find(|(n, _)| *n == text.value) {
            return Some(Spanned::new(*value, text.span));
        }
        let names: Vec<&str> = pairs.iter().map(|(n, _)| *n).collect();
        let message = format!("'{name}' of {} cannot be '{}'", self.what, text.value);
        let help = did_you_mean(&text, names.iter().copied())
            .unwrap_or_else(|| format!("use one of {}", quoted(&names)));
        cx.push(Diagnostic::error(text.span, message).help(help));
        None
    }

    /// A nested table.
    pub(crate) fn table(&self, cx: &mut Context<'_>, name: &str) -> Option<(&'t Table, Span)> {
        match self.raw(cx, name)? {
            Spanned { value: Value::Table(table), span } => {
                // The span of a table from a header may be its whole body;
                // the key is where the eye looks.
                let span = self.table.entry(name).map_or(*span, |(key, _)| key.span);
                Some((table, span))
            }
            value => {
                self.wrong(cx, name, value);
                None
            }
        }
    }
}
