//! From the plan of an event sink to its operator.

use ringmain_config::plan::{EventFieldKind, EventPlan, MapPlan};
use ringmain_config::{FlowKey, OperatorKind, Spanned};
use ringmain_ops::Operator;
use ringmain_ops::native::event::{EventOptions, Holds, Type, TypeField, event, made};
use ringmain_slab::SharedSchema;

use crate::operators::{OperatorError, compile_map};

/// Builds the operator.
///
/// # Errors
/// When an expression does not compile, or a field has no slot.
pub(crate) fn compile(
    name: &Spanned<String>,
    plan: &EventPlan,
    flow: &FlowKey,
    schema: &SharedSchema,
) -> Result<Box<dyn Operator>, OperatorError> {
    let set = plan.fields.iter();
    let set = set.map(|(field, code)| (field.clone().map(|field| made(&field)), code.clone()));
    let map = MapPlan { set: set.collect(), ..MapPlan::default() };
    let map = compile_map(name, &map, schema)?;
    let once = plan
        .once
        .as_ref()
        .map(|once| crate::keyed::compile(name, &OperatorKind::Sample(once.clone()), flow, schema));
    let key = plan.once.iter().flat_map(|once| &once.by.key);
    let key: Vec<String> = key.map(|field| field.value.clone()).collect();
    let fields: Vec<String> = plan.fields.iter().map(|(field, _)| field.value.clone()).collect();
    let types = plan.types.iter().map(|kind| {
        let fields = kind.fields.iter().map(|field| TypeField {
            name: field.name.clone(),
            holds: holds(field.kind),
            required: field.required,
        });
        let severities = kind.severities.clone();
        (kind.name.value.clone(), Type { severities, fields: fields.collect() })
    });
    let options = EventOptions {
        fields: &fields,
        arrival_time: plan.arrival_time,
        types: types.collect(),
        known_types_only: plan.known_types_only,
        key: &key,
    };
    let error = |message: String| {
        let code = name.clone();
        OperatorError { code, file: None, line: 1, column: 1, message }
    };
    event(map, options, once.transpose()?, schema).map_err(error)
}

const fn holds(kind: EventFieldKind) -> Holds {
    match kind {
        EventFieldKind::Text => Holds::Text,
        EventFieldKind::Integer => Holds::Integer,
        EventFieldKind::Number => Holds::Number,
        EventFieldKind::Boolean => Holds::Boolean,
        EventFieldKind::Time => Holds::Time,
        EventFieldKind::Any => Holds::Any,
    }
}
