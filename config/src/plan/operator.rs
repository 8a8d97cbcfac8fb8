//! What is done to messages. Expressions stay text: they are Lua, and the
//! floor that compiles them points back at their spans.

use std::path::PathBuf;

use super::event::EventPlan;
use super::operator_keyed::{
    AggregatePlan, ChangePlan, HysteresisPlan, KeyedPlan, LatePlan, SamplePlan, SplitPlan,
    ThrottlePlan, TimeSeriesPlan,
};
use super::sink::WhenFull;
use crate::span::Spanned;
use crate::value::Table;

/// `[operators.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorPlan {
    /// Name of the component.
    pub name: Spanned<String>,
    /// What it reads.
    pub inputs: Vec<Input>,
    /// What it does.
    pub kind: OperatorKind,
}

/// One entry of `inputs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The component that is read.
    pub component: Spanned<String>,
    /// Its port, when it has several: `router.high`.
    pub port: Option<String>,
    /// Set when this input may close a cycle.
    pub bound: Option<LoopBound>,
}

/// `{ from = "b", bound = "4MiB", when_full = "drop_newest" }`: the way back of
/// a cycle, a queue of its own. Acknowledgements end here.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopBound {
    /// What may wait on the way back.
    pub bytes: u64,
    /// What happens beyond.
    pub when_full: Spanned<WhenFull>,
}

/// The operator and its own keys.
#[derive(Clone, Debug, PartialEq)]
pub enum OperatorKind {
    /// Keeps messages for which `where` is true.
    Filter {
        /// A Lua expression over the fields.
        where_: Spanned<String>,
    },
    /// Changes fields.
    Map(MapPlan),
    /// Sends each message to the port of the first condition that is true.
    Route(RoutePlan),
    /// A Lua script.
    Lua(LuaPlan),
    /// Keeps messages in which watched fields have changed.
    ChangeDetector(ChangePlan),
    /// Keeps one message per key and interval.
    Sample(SamplePlan),
    /// Keeps a match until another condition releases the next.
    Hysteresis(HysteresisPlan),
    /// Keeps so many messages per key and time.
    Throttle(ThrottlePlan),
    /// Makes a message per key and window.
    Aggregate(AggregatePlan),
    /// Makes messages of the elements of a list.
    Split(SplitPlan),
    /// Makes messages of the records of a time series.
    TimeSeries(TimeSeriesPlan),
    /// Makes events; part of a sink of type `event`.
    Event(Box<EventPlan>),
}

/// `type = "map"`. Applied in the order set, rename, remove, keep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapPlan {
    /// Only these fields stay, by their new names; all, when empty.
    pub keep: Vec<Spanned<String>>,
    /// These fields go, by their new names.
    pub remove: Vec<Spanned<String>>,
    /// Old name, new name.
    pub rename: Vec<(Spanned<String>, Spanned<String>)>,
    /// Field and Lua expression. Every expression sees the message as it came.
    pub set: Vec<(Spanned<String>, Spanned<String>)>,
}

/// `type = "route"`
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePlan {
    /// Port and Lua expression, in the order of the file.
    pub routes: Vec<(Spanned<String>, Spanned<String>)>,
    /// Port for messages that no condition takes. Without it they are dropped
    /// and counted.
    pub default: Option<Spanned<String>>,
}

impl RoutePlan {
    /// Every port, the default last, each once.
    pub fn ports(&self) -> impl Iterator<Item = &str> {
        let default = self.default.as_ref().filter(|d| self.routes.iter().all(|(p, _)| p != *d));
        self.routes.iter().map(|(port, _)| port.as_str()).chain(default.map(|d| d.as_str()))
    }
}

/// `type = "lua"`
#[derive(Clone, Debug, PartialEq)]
pub struct LuaPlan {
    /// The code.
    pub source: LuaSource,
    /// What it may use.
    pub limits: LuaLimits,
    /// `config`: what the script reads as `ctx.config`.
    pub config: Table,
    /// `ports`: outputs besides the default one.
    pub ports: Vec<Spanned<String>>,
    /// Where `require` looks for modules, in this order.
    pub folders: Vec<PathBuf>,
}

/// Where the code of a Lua operator stands.
#[derive(Clone, Debug, PartialEq)]
pub enum LuaSource {
    /// `source = '''...'''`
    Inline(Spanned<String>),
    /// `script = "x.lua"`: the file that was found, and where it was named.
    Script(Spanned<PathBuf>),
}

/// `limits` of a Lua operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LuaLimits {
    /// Per slab and per timer.
    pub time_us: u64,
    /// Per operator and shard.
    pub memory_bytes: u64,
    /// Kills within 60 s before the operator is quarantined.
    pub kills: u32,
    /// What becomes of its input then.
    pub when_quarantined: WhenQuarantined,
}

/// What becomes of the input of an operator in quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenQuarantined {
    /// Every message is a dead letter.
    #[default]
    DeadLetters,
    /// The flow takes nothing in until a new version of the script is loaded.
    Block,
}

impl OperatorKind {
    /// The name that `type` gives it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Filter { .. } => "filter",
            Self::Map(_) => "map",
            Self::Route(_) => "route",
            Self::Lua(_) => "lua",
            Self::ChangeDetector(_) => "change_detector",
            Self::Sample(_) => "sample",
            Self::Hysteresis(_) => "hysteresis",
            Self::Throttle(_) => "throttle",
            Self::Aggregate(_) => "aggregate",
            Self::Split(_) => "split",
            Self::TimeSeries(_) => "time_series",
            Self::Event(_) => "event",
        }
    }

    /// Output ports that have names.
    #[must_use]
    pub fn ports(&self) -> Vec<&str> {
        match self {
            Self::Route(route) => route.ports().collect(),
            Self::Throttle(plan) if plan.has_port() => vec!["over"],
            Self::Aggregate(plan) if plan.late == LatePlan::Port => vec!["late"],
            Self::Lua(lua) => lua.ports.iter().map(|port| port.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// The key by which it remembers something.
    #[must_use]
    pub const fn by_key(&self) -> Option<&KeyedPlan> {
        match self {
            Self::Filter { .. } | Self::Map(_) | Self::Route(_) | Self::Lua(_) => None,
            Self::Split(_) | Self::TimeSeries(_) => None,
            Self::Throttle(plan) => Some(&plan.by),
            Self::Aggregate(plan) => Some(&plan.by),
            Self::ChangeDetector(plan) => Some(&plan.by),
            Self::Sample(plan) => Some(&plan.by),
            Self::Hysteresis(plan) => Some(&plan.by),
            Self::Event(plan) => match &plan.once {
                Some(once) => Some(&once.by),
                None => None,
            },
        }
    }
}
