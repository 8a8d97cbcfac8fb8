//! What the files mean: plain data, checked once, read by every floor above.
//!
//! Invariants of a plan that `load` returned without errors: every input names
//! a source or an operator of the same flow (and one of its ports, if it has
//! several), every cycle passes a bounded input, names are unique within a
//! flow and flows within a plan, and no two sources claim one address. Times
//! are microseconds, sizes bytes. Deliberately absent: compiled expressions
//! (they are Lua, which this floor does not know) and anything that is open.

mod daemon;
mod event;
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

pub use daemon::{
    ApiPlan, CoresSpec, DaemonPlan, LogFormat, LogLevel, LogPlan, MetricsPlan, Scope, ShardsPlan,
    TlsPlan, TokenPlan, TokenSecret,
};
pub use event::{EventField, EventFieldKind, EventPlan, EventType};
pub use http::{HttpAuth, HttpBatch, HttpBody, HttpRespond, HttpSink, HttpSource};
pub use mqtt::{
    MqttClient, MqttSink, MqttSource, MqttTopic, MqttTrigger, MqttVersion, MqttWill, Qos,
};
pub use operator::{
    Input, LoopBound, LuaLimits, LuaPlan, LuaSource, MapPlan, OperatorKind, OperatorPlan,
    RoutePlan, WhenQuarantined,
};
pub use operator_keyed::{
    AggregatePlan, ChangePlan, ClockPlan, ComputePlan, FunctionPlan, HysteresisPlan, KeyedPlan,
    LatePlan, LimitPlan, OverPlan, QualityPlan, SamplePlan, SplitPlan, ThrottlePlan,
    TimeSeriesPlan,
};
pub use schedule::{Overlap, SchedulePlan, Trigger};
pub use sink::{
    BreakerPlan, DateField, EncodePlan, FileMode, FileSink, Fsync, RetryPlan, Rotation, Segment,
    SinkKind, SinkPlan, SpillPlan, Template, WhenFull,
};
pub use source::{
    CsvDecode, DecodePlan, FileSource, FileStart, FramePlan, GenField, Listen, ReadMode, Scalar,
    SourceKind, SourcePlan, TimeUnit, UnixMode,
};
pub use test::{TestCheck, TestExpect, TestInsert, TestMessage, TestPayload, TestPlan, TestStep};
pub use timer::{Misfire, TimeFormat, TimerSchedule, TimerSource};
pub use tls::{ClientTls, Identity, Secret, ServerTls};

use std::path::PathBuf;

use crate::diagnostics::Diagnostics;
use crate::span::{FileId, Sources, Spanned};

/// Everything the daemon is asked to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `[daemon]`
    pub daemon: DaemonPlan,
    /// `[shards]`
    pub shards: ShardsPlan,
    /// `[api]`
    pub api: ApiPlan,
    /// `[metrics]`
    pub metrics: MetricsPlan,
    /// `[log]`
    pub log: LogPlan,
    /// The flows, in the order of the files.
    pub flows: Vec<FlowPlan>,
    /// The loaded files, for rendering.
    pub sources: Sources,
    /// Warnings. Floors above add what they find and render the whole.
    pub warnings: Diagnostics,
}

/// One flow.
#[derive(Clone, Debug)]
pub struct FlowPlan {
    /// `name`, or the file's stem.
    pub name: Spanned<String>,
    /// The file it stands in.
    pub file: FileId,
    /// The folder of that file; the working directory for text.
    pub base_dir: PathBuf,
    /// `[sources.NAME]`
    pub sources: Vec<SourcePlan>,
    /// `[operators.NAME]`
    pub operators: Vec<OperatorPlan>,
    /// `[sinks.NAME]`
    pub sinks: Vec<SinkPlan>,
    /// `[partition]`
    pub partition: Option<PartitionPlan>,
    /// `[dead_letters]`: a sink without inputs, named `dead_letters`.
    pub dead_letters: Option<SinkPlan>,
    /// `allow_loss`: the flow may drop what a source could send again.
    pub allow_loss: bool,
    /// `drain`: how long a stopping flow may take to empty itself.
    pub drain_us: u64,
    /// `[schedule]`: when it runs; all the time without.
    pub schedule: Option<SchedulePlan>,
    /// `[[tests]]`
    pub tests: Vec<TestPlan>,
}

/// `[partition]`: order and state per key.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionPlan {
    /// Fields whose values are the key.
    pub key: Vec<Spanned<String>>,
    /// Slices of the key space.
    pub count: u16,
}

/// What operators know of `[partition]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// Fields of the key; none without partitions.
    pub fields: Vec<String>,
    /// Partitions; 1 without any.
    pub count: u16,
}

impl Default for FlowKey {
    fn default() -> Self {
        Self { fields: Vec::new(), count: 1 }
    }
}

impl FlowPlan {
    /// The names of all components in the order sources, operators, sinks.
    pub fn component_names(&self) -> impl Iterator<Item = &Spanned<String>> {
        let sources = self.sources.iter().map(|c| &c.name);
        let operators = self.operators.iter().map(|c| &c.name);
        sources.chain(operators).chain(self.sinks.iter().map(|c| &c.name))
    }

    /// The partition key and the number of partitions.
    #[must_use]
    pub fn flow_key(&self) -> FlowKey {
        let count = self.partition.as_ref().map_or(1, |partition| partition.count);
        FlowKey { fields: self.key_fields(), count }
    }

    /// Fields of the partition key; none without `[partition]`.
    #[must_use]
    pub fn key_fields(&self) -> Vec<String> {
        let keys = self.partition.iter().flat_map(|partition| &partition.key);
        keys.map(|name| name.value.clone()).collect()
    }

    /// The operator of that name.
    #[must_use]
    pub fn operator(&self, name: &str) -> Option<&OperatorPlan> {
        self.operators.iter().find(|o| o.name.value == name)
    }

    /// Whether every source ends by itself, so that the flow does.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.sources.iter().all(|s| s.kind.is_finite())
    }
}
