//! From plans to the operators that remember something by key.

use ringmain_config::{
    ClockPlan, ComputePlan, FlowKey, KeyedPlan, LatePlan, LimitPlan, OperatorKind, OverPlan,
    QualityPlan, Spanned, ThrottlePlan, TimeUnit as PlanUnit,
};
use ringmain_ops::Operator;
use ringmain_ops::native::keyed::{
    self, Beyond, ByKey, Clock, Compute, Condition, Late, Limit, Over, Quality, SeriesOptions,
    SplitOptions, TimeUnit, WindowOptions,
};
use ringmain_slab::SharedSchema;

use crate::operators::OperatorError;

/// Builds the operator of a plan that has a key.
///
/// # Errors
/// When an expression does not compile, or a field has no slot.
pub(crate) fn compile(
    name: &Spanned<String>,
    kind: &OperatorKind,
    flow: &FlowKey,
    schema: &SharedSchema,
) -> Result<Box<dyn Operator>, OperatorError> {
    let parts = Parts { name, flow, schema };
    let made = match kind {
        OperatorKind::ChangeDetector(plan) => {
            let fields: Vec<String> = plan.fields.iter().map(|f| f.value.clone()).collect();
            let change = |by: &ByKey<'_>| {
                keyed::change_detector(by, &fields, plan.first_passes, plan.deadband)
            };
            parts.by(&plan.by, change)
        }
        OperatorKind::Sample(plan) => {
            parts.by(&plan.by, |by| keyed::sample(by, plan.every_us, &clock(&plan.clock)))
        }
        OperatorKind::Hysteresis(plan) => {
            let emit_when = parts.condition(&plan.emit_when)?;
            let release_when = plan.release_when.as_ref().map(|when| parts.condition(when));
            let release_when = release_when.transpose()?;
            parts.by(&plan.by, |by| keyed::hysteresis(by, emit_when, release_when))
        }
        OperatorKind::Throttle(plan) => {
            let own = plan.limits.iter().map(|(key, own)| (key.clone(), limit(own))).collect();
            let over = over(plan);
            parts.by(&plan.by, |by| keyed::throttle(by, limit(&plan.limit), own, over))
        }
        OperatorKind::Aggregate(plan) => {
            let functions: Vec<_> = plan
                .compute
                .iter()
                .map(|f| (f.into.value.clone(), compute(f.compute), f.of.clone()))
                .collect();
            let options = WindowOptions {
                window_us: plan.window_us,
                slide_us: plan.slide_us,
                clock: &clock(&plan.clock),
                lateness_us: plan.lateness_us,
                late: match plan.late {
                    LatePlan::Drop => Late::Drop,
                    LatePlan::DeadLetter => Late::DeadLetter,
                    LatePlan::Port => Late::Port,
                },
                functions: &functions,
                unit: time_unit(plan.unit),
            };
            parts.by(&plan.by, |by| keyed::aggregate(by, &options))
        }
        OperatorKind::Split(plan) => {
            let keep: Option<Vec<String>> =
                plan.keep.as_ref().map(|keep| keep.iter().map(|f| f.value.clone()).collect());
            let options = SplitOptions {
                field: &plan.field,
                into: plan.into.as_ref().map(|name| name.as_str()),
                index: plan.index.as_ref().map(|name| name.as_str()),
                keep: keep.as_deref(),
            };
            keyed::split(&options, schema)
        }
        OperatorKind::TimeSeries(plan) => {
            let options = SeriesOptions {
                field: &plan.field,
                time_field: &plan.time_field,
                timestamp: plan.timestamp.as_ref().map(|name| name.as_str()),
                unit: time_unit(plan.unit),
                suffix: &plan.suffix,
                quality: match plan.quality {
                    QualityPlan::Keep => Quality::Keep,
                    QualityPlan::Remove => Quality::Remove,
                    QualityPlan::Good => Quality::Good,
                },
            };
            keyed::time_series(&options, schema)
        }
        _ => unreachable!("the other operators are compiled elsewhere"),
    };
    made.map_err(|message| parts.error(message))
}

struct Parts<'a> {
    name: &'a Spanned<String>,
    flow: &'a FlowKey,
    schema: &'a SharedSchema,
}

impl Parts<'_> {
    /// Makes an operator with its key, or else the flow's.
    fn by<T>(&self, plan: &KeyedPlan, make: impl FnOnce(&ByKey<'_>) -> T) -> T {
        let own: Vec<String> = plan.key.iter().map(|name| name.value.clone()).collect();
        let by = ByKey {
            key: if own.is_empty() { &self.flow.fields } else { &own },
            partitions: self.flow.count,
            max_keys: usize::try_from(plan.max_keys).unwrap_or(usize::MAX),
            ttl_us: plan.ttl_us,
            schema: self.schema,
        };
        make(&by)
    }

    fn condition(&self, code: &Spanned<String>) -> Result<Condition, OperatorError> {
        if let Some(condition) = Condition::native(code, self.schema) {
            return Ok(condition);
        }
        let filter = ringmain_lua::filter(self.name, code, self.schema);
        let filter = filter.map_err(|error| OperatorError::new(code, error))?;
        Ok(Condition::filter(filter))
    }

    fn error(&self, message: String) -> OperatorError {
        let code = self.name.clone();
        OperatorError { code, file: None, line: 1, column: 1, message }
    }
}

fn clock(plan: &ClockPlan) -> Clock {
    match plan {
        ClockPlan::Server => Clock::Server,
        ClockPlan::Event { field, unit } => {
            Clock::Event(field.as_ref().map(|field| field.value.clone()), time_unit(*unit))
        }
    }
}

fn time_unit(unit: PlanUnit) -> TimeUnit {
    match unit {
        PlanUnit::S => TimeUnit::Seconds,
        PlanUnit::Ms => TimeUnit::Millis,
        PlanUnit::Us => TimeUnit::Micros,
    }
}

fn compute(plan: ComputePlan) -> Compute {
    match plan {
        ComputePlan::Count => Compute::Count,
        ComputePlan::Sum => Compute::Sum,
        ComputePlan::Min => Compute::Min,
        ComputePlan::Max => Compute::Max,
        ComputePlan::Mean => Compute::Mean,
        ComputePlan::Stddev => Compute::Stddev,
        ComputePlan::Percentile(part) => Compute::Percentile(part),
        ComputePlan::First => Compute::First,
        ComputePlan::Last => Compute::Last,
        ComputePlan::Distinct => Compute::Distinct,
    }
}

fn limit(plan: &LimitPlan) -> Limit {
    Limit { rate: plan.rate, per_us: plan.per_us, burst: plan.burst }
}

fn over(plan: &ThrottlePlan) -> Over {
    let beyond = match plan.delay_full {
        OverPlan::Drop => Beyond::Drop,
        OverPlan::Port => Beyond::Port,
        OverPlan::DeadLetter | OverPlan::Delay => Beyond::DeadLetter,
    };
    match plan.over {
        OverPlan::Drop => Over::Drop,
        OverPlan::DeadLetter => Over::DeadLetter,
        OverPlan::Port => Over::Port,
        OverPlan::Delay => Over::Delay(plan.delay_buffer_bytes, beyond),
    }
}

/// Slabs that the operator has of its own.
pub(crate) fn slabs(kind: &OperatorKind) -> usize {
    usize::from(matches!(kind, OperatorKind::Split(_) | OperatorKind::TimeSeries(_)))
}

/// Bytes that the operator's state may take on one shard.
pub(crate) fn state_bytes(kind: &OperatorKind) -> u64 {
    let per_key = match kind {
        OperatorKind::ChangeDetector(plan) => {
            keyed::change_key_bytes(plan.fields.len(), plan.deadband.is_some())
        }
        OperatorKind::Sample(_) | OperatorKind::Event(_) => keyed::SAMPLE_KEY_BYTES,
        OperatorKind::Hysteresis(_) => keyed::HYSTERESIS_KEY_BYTES,
        OperatorKind::Throttle(_) => keyed::THROTTLE_KEY_BYTES,
        OperatorKind::Aggregate(plan) => {
            let functions: Vec<_> = plan.compute.iter().map(|f| compute(f.compute)).collect();
            keyed::aggregate_key_bytes(&functions, plan.window_us / plan.slide_us)
        }
        _ => 0,
    };
    // What waits, and where an edited message is gathered before it waits.
    let held = match kind {
        OperatorKind::Throttle(plan) if plan.over == OverPlan::Delay => plan.delay_buffer_bytes * 2,
        _ => 0,
    };
    kind.by_key().map_or(0, |by| by.max_keys.saturating_mul(per_key)).saturating_add(held)
}
