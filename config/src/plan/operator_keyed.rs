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

/// So many messages in a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitPlan {
    /// Messages.
    pub rate: f64,
    /// In so many microseconds.
    pub per_us: u64,
    /// At once, after a pause.
    pub burst: u64,
}

/// `over` of a throttle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverPlan {
    /// The message is dropped.
    Drop,
    /// It waits.
    Delay,
    /// It becomes a dead letter.
    DeadLetter,
    /// It leaves through the port `over`.
    Port,
}

/// `type = "throttle"`
#[derive(Clone, Debug, PartialEq)]
pub struct ThrottlePlan {
    /// The key.
    pub by: KeyedPlan,
    /// For keys that are not in the table.
    pub limit: LimitPlan,
    /// The table: values of the key, joined with commas, and their limits.
    pub limits: Vec<(String, LimitPlan)>,
    /// What happens to a message above its limit.
    pub over: OverPlan,
    /// What may wait, in bytes.
    pub delay_buffer_bytes: u64,
    /// What happens to a message that cannot wait.
    pub delay_full: OverPlan,
}

impl ThrottlePlan {
    /// Whether it has the port `over`.
    #[must_use]
    pub fn has_port(&self) -> bool {
        self.over == OverPlan::Port
            || (self.over == OverPlan::Delay && self.delay_full == OverPlan::Port)
    }
}

/// `type = "split"`
#[derive(Clone, Debug, PartialEq)]
pub struct SplitPlan {
    /// The field with the list.
    pub field: Spanned<String>,
    /// The field that gets each element.
    pub into: Option<Spanned<String>>,
    /// The field that gets the element's number.
    pub index: Option<Spanned<String>>,
    /// Fields of the message that stay; all others without.
    pub keep: Option<Vec<Spanned<String>>>,
}

/// `quality` of a time series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QualityPlan {
    /// Quality fields stay.
    Keep,
    /// They go.
    Remove,
    /// They go, and values that are not good with them.
    Good,
}

/// `type = "time_series"`
#[derive(Clone, Debug, PartialEq)]
pub struct TimeSeriesPlan {
    /// The field with the records.
    pub field: Spanned<String>,
    /// The field of a record with its time.
    pub time_field: Spanned<String>,
    /// The field that gets the time as a number.
    pub timestamp: Option<Spanned<String>>,
    /// Unit of times that are numbers.
    pub unit: TimeUnit,
    /// How the name of a quality field ends.
    pub suffix: String,
    /// What becomes of quality fields.
    pub quality: QualityPlan,
}

/// What becomes of a message that is late for its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatePlan {
    /// It is dropped and counted.
    Drop,
    /// It becomes a dead letter.
    DeadLetter,
    /// It leaves through the port `late`.
    Port,
}

/// A function over the messages of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ComputePlan {
    /// Messages, or those that have a field.
    Count,
    /// Sum.
    Sum,
    /// Least number.
    Min,
    /// Greatest number.
    Max,
    /// Mean.
    Mean,
    /// Standard deviation of a sample.
    Stddev,
    /// Percentile, as a part of 1.
    Percentile(f64),
    /// Value of the earliest message.
    First,
    /// Value of the latest message.
    Last,
    /// Different values.
    Distinct,
}

/// One entry of `compute`.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionPlan {
    /// The field of the result.
    pub into: Spanned<String>,
    /// What it is.
    pub compute: ComputePlan,
    /// Over which field; none for counting messages.
    pub of: Option<String>,
}

/// `type = "aggregate"`
#[derive(Clone, Debug, PartialEq)]
pub struct AggregatePlan {
    /// The key.
    pub by: KeyedPlan,
    /// Length of a window, a multiple of `slide_us`.
    pub window_us: u64,
    /// How often one begins.
    pub slide_us: u64,
    /// Whose time.
    pub clock: ClockPlan,
    /// Unit of the fields `window_start` and `window_end`.
    pub unit: TimeUnit,
    /// How much later than the latest a message may come.
    pub lateness_us: u64,
    /// What becomes of later ones.
    pub late: LatePlan,
    /// What is computed.
    pub compute: Vec<FunctionPlan>,
}
