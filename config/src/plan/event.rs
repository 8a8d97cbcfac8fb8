//! Events that messages become.

use super::operator_keyed::SamplePlan;
use crate::span::Spanned;

/// The operator before the sink of `type = "event"`.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPlan {
    /// Fields of the event and their expressions, over the message.
    pub fields: Vec<(Spanned<String>, Spanned<String>)>,
    /// Without a timestamp of its own an event has the time at which its
    /// message came in.
    pub arrival_time: bool,
    /// `[event_types]`
    pub types: Vec<EventType>,
    /// Events of types that are not among them are refused.
    pub known_types_only: bool,
    /// Repeats that are dropped.
    pub once: Option<SamplePlan>,
}

/// `[event_types.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    /// Its name.
    pub name: Spanned<String>,
    /// Severities that its events may have; any, when empty.
    pub severities: Vec<i64>,
    /// Its own fields.
    pub fields: Vec<EventField>,
}

/// A field of an event type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventField {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: EventFieldKind,
    /// Whether every event has it.
    pub required: bool,
}

/// What a field of an event holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFieldKind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A time as a number or a text.
    Time,
    /// Anything.
    Any,
}
