//! Operators that remember something by key.

use super::source::TimeUnit;
use crate::span::Spanned;

/// What all of them have.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyedPlan {
    /// Fields of the key; empty, and it is the flow's partition key.
    pub key: Vec<Spanned<String>>,
    /// Keys that are remembered, at most, on one shard.
    pub max_keys: u64,
    /// How long a key that is not seen is remembered.
    pub ttl_us: Option<u64>,
}

/// `type = "change_detector"`
#[derive(Clone, Debug, PartialEq)]
pub struct ChangePlan {
    /// The key.
    pub by: KeyedPlan,
    /// Watched fields; all messages pass when there are none.
    pub fields: Vec<Spanned<String>>,
    /// Whether the first message of a key passes.
    pub first_passes: bool,
    /// What a number must change by more than.
    pub deadband: Option<f64>,
}

/// `clock`, `time_field` and `time_unit`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ClockPlan {
    /// The daemon's clock.
    #[default]
    Server,
    /// The messages' own time.
    Event {
        /// The field; without, when the message came in.
        field: Option<Spanned<String>>,
        /// Unit of numbers.
        unit: TimeUnit,
    },
}

/// `type = "sample"`
#[derive(Clone, Debug, PartialEq)]
pub struct SamplePlan {
    /// The key.
    pub by: KeyedPlan,
    /// One message per key in this time.
    pub every_us: u64,
    /// Whose time.
    pub clock: ClockPlan,
}

/// `type = "hysteresis"`
#[derive(Clone, Debug, PartialEq)]
pub struct HysteresisPlan {
    /// The key.
    pub by: KeyedPlan,
    /// A Lua expression.
    pub emit_when: Spanned<String>,
    /// A Lua expression; without it every match passes.
    pub release_when: Option<Spanned<String>>,
}
