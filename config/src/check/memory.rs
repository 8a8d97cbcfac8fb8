//! What a single component asks for against the budget of the whole daemon.
//! The exact sum is computed where the pools are made; what cannot fit at all
//! is told here, with its place.

use ringmain_base::units::format_bytes;

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::parse::ParsedFlow;
use crate::span::Span;

pub(super) fn check(out: &mut Diagnostics, flow: &ParsedFlow, memory_bytes: u64) {
    let mut refuse = |span: Span, what: String, bytes: u64| {
        if bytes > memory_bytes {
            let message = format!(
                "{what} of {} is more than the {} that all of the daemon has",
                format_bytes(bytes),
                format_bytes(memory_bytes)
            );
            out.push(
                Diagnostic::error(span, message)
                    .help("lower it, or raise 'memory' in [shards] of the daemon's file"),
            );
        }
    };
    for sink in flow.plan.sinks.iter().chain(&flow.plan.dead_letters) {
        refuse(sink.name.span, format!("the buffer of sink '{}'", sink.name), sink.buffer_bytes);
    }
    for node in &flow.nodes {
        for (input, bound) in node.inputs.iter().filter_map(|i| Some((i, i.bound.as_ref()?))) {
            let span = input.component.span;
            refuse(span, format!("the bound of an input of operator '{}'", node.name), bound.bytes);
        }
    }
}
