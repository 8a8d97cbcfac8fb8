//! What cannot run without a folder to keep things in.

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::parse::ParsedFlow;
use crate::plan::WhenFull;

/// Reports what of the flow needs a `data_dir`; there is none.
pub(crate) fn check(out: &mut Diagnostics, flow: &ParsedFlow) {
    for sink in flow.plan.sinks.iter().filter(|s| s.when_full.value == WhenFull::Spill) {
        let message = format!("sink '{}' spills, and there is no 'data_dir'", sink.name);
        out.push(Diagnostic::error(sink.when_full.span, message).help(
            "name a folder in the daemon's file: data_dir = \"...\" in [daemon], and give that \
             file with -c",
        ));
    }
}
