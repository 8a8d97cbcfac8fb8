//! From plans to the operators that remember something by key.

use ringmain_config::{ClockPlan, FlowKey, KeyedPlan, OperatorKind, Spanned, TimeUnit as PlanUnit};
use ringmain_ops::Operator;
use ringmain_ops::native::keyed::{self, ByKey, Clock, Condition, TimeUnit};
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
        _ => unreachable!("operators without a key are compiled elsewhere"),
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

/// Bytes that the operator's state may take on one shard.
pub(crate) fn state_bytes(kind: &OperatorKind) -> u64 {
    let per_key = match kind {
        OperatorKind::ChangeDetector(plan) => {
            keyed::change_key_bytes(plan.fields.len(), plan.deadband.is_some())
        }
        OperatorKind::Sample(_) => keyed::SAMPLE_KEY_BYTES,
        OperatorKind::Hysteresis(_) => keyed::HYSTERESIS_KEY_BYTES,
        _ => 0,
    };
    kind.by_key().map_or(0, |by| by.max_keys.saturating_mul(per_key))
}
