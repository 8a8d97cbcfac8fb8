//! What every scenario of the whole daemon says of a run.

use crate::daemon::Ended;
use crate::report::Figure;

/// `fast` and `mark`, behind `in`: a filter and a map.
pub(super) const FAST_AND_MARKED: &str = "[operators.fast]
type = \"filter\"
inputs = [\"in\"]
where = \"rpm > 100\"
[operators.mark]
type = \"map\"
inputs = [\"fast\"]
set = { severity = \"'high'\" }
";

/// Rate, CPU time and memory; `name` stands before each, or nothing does.
pub(super) fn figures(
    name: &str,
    count: u64,
    seconds: f64,
    ended: &Ended,
    hash: u64,
) -> Vec<Figure> {
    let of = |what: &str| {
        if name.is_empty() { what.to_owned() } else { format!("{name}: {what}") }
    };
    vec![
        Figure::rate(of("messages"), count as f64 / seconds / 1e6).proof(count, hash),
        per_cpu_s(of("per second of CPU time"), count, ended),
        Figure::new(of("most memory"), ended.rss_mib, "MiB"),
    ]
}

/// What one undisturbed core would do.
pub(super) fn per_cpu_s(name: String, count: u64, ended: &Ended) -> Figure {
    Figure::rate(name, count as f64 / ended.cpu_s / 1e6).other_clock()
}
