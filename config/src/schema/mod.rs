//! Every key that a file may have: one table for the parser and for the
//! reference page, so that neither can know a key that the other does not.
//!
//! Defaults are written as a user would write them and go through the same
//! parser, so what the reference shows is what happens.

mod daemon;
mod event;
mod flow;
mod generator;
mod http;
mod mqtt;
mod operator;
mod operator_keyed;
mod schedule;
mod sink;
mod source;
mod test;
mod timer;
mod tls;

pub(crate) use daemon::*;
pub(crate) use event::*;
pub(crate) use flow::*;
pub(crate) use generator::*;
pub(crate) use http::*;
pub(crate) use mqtt::*;
pub(crate) use operator::*;
pub(crate) use operator_keyed::*;
pub(crate) use schedule::*;
pub(crate) use sink::*;
pub(crate) use source::*;
pub(crate) use test::*;
pub(crate) use timer::*;
pub(crate) use tls::*;

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A Lua expression.
    Expr,
    /// A string or a list of strings.
    Texts,
    /// true or false.
    Bool,
    /// An integer within both ends.
    Int(i64, i64),
    /// A number within both ends.
    Number(f64, f64),
    /// A size with a unit, within both ends.
    Size(u64, u64),
    /// A duration with a unit, within both ends, in microseconds.
    Time(u64, u64),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// Something else that the parser of the key knows.
    Other(&'static str),
}

impl Kind {
    /// With an article, for messages and for the reference.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Text => "a string".into(),
            Self::Expr => "a Lua expression in a string".into(),
            Self::Texts => "a string or a list of strings".into(),
            Self::Bool => "true or false".into(),
            Self::Int(..) => "an integer".into(),
            Self::Number(..) => "a number".into(),
            Self::Size(..) => "a size such as \"64MiB\"".into(),
            Self::Time(..) => "a duration such as \"250ms\"".into(),
            Self::OneOf(names) => format!("one of {}", quoted(names)),
            Self::Other(what) => what.into(),
        }
    }
}

/// What holds when a key is not written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Preset {
    /// It must be written.
    Required,
    /// What happens then, in words.
    Absent(&'static str),
    /// The value as it would be written (strings without quotes).
    Value(&'static str),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it holds.
    pub(crate) kind: Kind,
    /// What holds without it.
    pub(crate) preset: Preset,
    /// What it is for.
    pub(crate) about: &'static str,
}

impl Key {
    /// Whether it must be written.
    pub(crate) const fn is_required(&self) -> bool {
        matches!(self.preset, Preset::Required)
    }
}

/// A key that must be written.
const fn req(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, preset: Preset::Required, about }
}

/// A key that may be absent.
const fn opt(name: &'static str, kind: Kind, absent: &'static str, about: &'static str) -> Key {
    Key { name, kind, preset: Preset::Absent(absent), about }
}

/// A key with a default.
const fn def(name: &'static str, kind: Kind, value: &'static str, about: &'static str) -> Key {
    Key { name, kind, preset: Preset::Value(value), about }
}

/// The keys of one kind of table.
#[derive(Debug)]
pub(crate) struct Schema {
    /// With an article: "a tcp source".
    pub(crate) title: &'static str,
    /// How its header looks in a file.
    pub(crate) header: &'static str,
    /// What it is for, a sentence or two for the reference.
    pub(crate) about: &'static str,
    /// Schemas whose keys it has as well.
    pub(crate) parents: &'static [&'static Schema],
    /// Its own keys.
    pub(crate) keys: &'static [Key],
}

impl Schema {
    /// Every key, the parents' first.
    pub(crate) fn all(&self) -> Vec<&Key> {
        let mut keys: Vec<&Key> = self.parents.iter().flat_map(|p| p.all()).collect();
        keys.extend(self.keys);
        keys
    }

    /// The key of that name.
    pub(crate) fn key(&self, name: &str) -> Option<&Key> {
        let own = self.keys.iter().find(|k| k.name == name);
        own.or_else(|| self.parents.iter().find_map(|p| p.key(name)))
    }
}

/// A family of components that `type` chooses from.
#[derive(Debug)]
pub(crate) struct Family {
    /// "source", "operator", "sink".
    pub(crate) noun: &'static str,
    /// Type names and their keys.
    pub(crate) types: &'static [(&'static str, &'static Schema)],
}

impl Family {
    /// The schema of a type.
    pub(crate) fn get(&self, name: &str) -> Option<&'static Schema> {
        self.types.iter().find(|(n, _)| *n == name).map(|(_, s)| *s)
    }

    /// Type names.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.types.iter().map(|(n, _)| *n).collect()
    }

    /// The types that have this key of their own.
    pub(crate) fn types_with(&self, key: &str) -> Vec<&'static str> {
        self.types.iter().filter(|(_, s)| s.key(key).is_some()).map(|(n, _)| *n).collect()
    }
}

/// 'a', 'b', 'c'
pub(crate) fn quoted(names: &[&str]) -> String {
    names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ")
}
