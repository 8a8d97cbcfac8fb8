//! Keys of operators against the key that the flow is partitioned by: state is
//! kept where the partition is, so one key must not be in several.

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::parse::ParsedFlow;
use crate::schema::quoted;

pub(super) fn check(out: &mut Diagnostics, flow: &ParsedFlow) {
    let Some(partition) = &flow.plan.partition else { return };
    for operator in &flow.plan.operators {
        let Some(by) = operator.kind.by_key().filter(|by| !by.key.is_empty()) else { continue };
        let missing = partition.key.iter().filter(|field| !by.key.contains(field));
        let missing: Vec<&str> = missing.map(|field| field.as_str()).collect();
        if let (false, Some(first)) = (missing.is_empty(), by.key.first()) {
            let message = format!(
                "'key' of operator '{}' lacks {}, by which the flow is partitioned",
                operator.name,
                quoted(&missing)
            );
            out.push(
                Diagnostic::error(first.span, message)
                    .note(partition.key[0].span, "messages go to shards by this key")
                    .help(
                        "add it, or partition by a part of the operator's key; otherwise one key \
                         would be on several shards",
                    ),
            );
        }
    }
}
