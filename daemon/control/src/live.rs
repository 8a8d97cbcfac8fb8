//! What is going on, while it goes on: a table on a terminal, a line every ten
//! seconds elsewhere. Both on standard error: standard output is a sink.

use std::io::{self, IsTerminal, Stderr, Write, stderr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringmain_base::units::grouped;
use ringmain_connectors::Health;
use ringmain_metrics::{Role, Snapshot};

use crate::said::Said;
use crate::start::Flow;

const TABLE_EVERY: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Writes to standard error past the table.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Standard error for whoever logs. A live table is printed anew below what is
/// written here, instead of over it.
#[derive(Debug)]
pub struct LogStream(Stderr);

impl LogStream {
    /// To standard error.
    #[must_use]
    pub fn new() -> Self {
        Self(stderr())
    }
}

impl Default for LogStream {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for LogStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITES.fetch_add(1, Ordering::Relaxed);
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Prints figures at intervals.
pub(crate) struct Live {
    terminal: bool,
    next: Instant,
    last: Vec<Snapshot>,
    /// Of the table that stands there, if nothing was written below it.
    lines: usize,
    writes: u64,
    /// Of the flow of that name, by component.
    said: Vec<(String, Vec<Said>)>,
}

impl Live {
    pub(crate) fn new() -> Self {
        let terminal = stderr().is_terminal();
        let first = if terminal { TABLE_EVERY } else { LINE_EVERY };
        let next = Instant::now() + first;
        Self { terminal, next, last: Vec::new(), lines: 0, writes: 0, said: Vec::new() }
    }

    /// Reports what has become of the components' health; to be called once
    /// more when all has ended.
    pub(crate) fn end(&mut self, flows: &[Flow]) {
        self.report_health(flows, true);
    }

    /// Prints if it is time to; reports what has become of connectors' health.
    pub(crate) fn tick(&mut self, flows: &[Flow], now_us: u64) {
        self.report_health(flows, false);
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + if self.terminal { TABLE_EVERY } else { LINE_EVERY };
        let snapshots: Vec<_> = flows.iter().map(|flow| flow.metrics.snapshot(now_us)).collect();
        if self.terminal {
            self.table(&snapshots);
        } else {
            for (at, snapshot) in snapshots.iter().enumerate() {
                tracing::info!("{}", line(snapshot, self.last.get(at)));
            }
        }
        self.last = snapshots;
    }

    fn report_health(&mut self, flows: &[Flow], is_end: bool) {
        let now = Instant::now();
        self.said.resize_with(flows.len(), Default::default);
        for (flow, (of, said)) in flows.iter().zip(&mut self.said) {
            if *of != flow.name {
                // Another flow stands here since one was removed.
                (*of, *said) = (flow.name.clone(), Vec::new());
            }
            let health = flow.control.health();
            said.resize_with(health.len(), Said::default);
            let names = &flow.control.components;
            for ((state, said), name) in health.iter().zip(said).zip(names) {
                if !said.says(state, now, is_end) {
                    continue;
                }
                let name = format!("{}.{name}", flow.name);
                match state {
                    Health::Good => tracing::info!("{name}: is well again"),
                    Health::Retrying(why) => tracing::warn!("{name}: {why}"),
                    Health::Failed(why) => tracing::error!("{name}: {why}"),
                }
            }
        }
    }

    fn table(&mut self, snapshots: &[Snapshot]) {
        let mut table = String::new();
        for (at, snapshot) in snapshots.iter().enumerate() {
            self::table(&mut table, snapshot, self.last.get(at));
        }
        let writes = WRITES.load(Ordering::Relaxed);
        let over = if writes == self.writes { self.lines } else { 0 };
        let (columns, rows) = size();
        let (text, lines) = screen(&table, over, columns, rows);
        (self.lines, self.writes) = (lines, writes);
        // A terminal that is gone is no reason to stop.
        let _ = stderr().lock().write_all(text.as_bytes());
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(stderr());
    let size = size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// What to send so that the table stands over `over` lines of the last one;
/// and how many lines it has. No line may wrap and none scroll out of sight:
/// the way back up is counted in lines.
fn screen(table: &str, over: usize, columns: usize, rows: usize) -> (String, usize) {
    let mut text = String::new();
    if over > 0 {
        text.push_str(&format!("\x1b[{over}A\x1b[J"));
    }
    let all = table.lines().count();
    let shown = if all < rows { all } else { rows.saturating_sub(2) };
    for line in table.lines().take(shown) {
        text.extend(line.chars().take(columns));
        text.push('\n');
    }
    if shown < all {
        text.push_str(&format!("  and {} more lines\n", all - shown));
    }
    (text, shown + usize::from(shown < all))
}

fn table(text: &mut String, now: &Snapshot, last: Option<&Snapshot>) {
    let head = ["in/s", "out/s", "dropped", "dead"];
    let [a, b, c, d] = head;
    text.push_str(&format!("{:<24} {a:>12} {b:>12} {c:>12} {d:>10}\n", now.flow));
    let seconds = seconds_between(now, last);
    for (at, component) in now.components.iter().enumerate() {
        let before = last.map(|last| &last.components[at]);
        let (was_in, was_out) = before.map_or((0, 0), |b| (b.rows_in, b.rows_out));
        let rate = |is: u64, was: u64| grouped(((is - was) as f64 / seconds) as u64);
        text.push_str(&format!(
            "  {:<22} {:>12} {:>12} {:>12} {:>10}\n",
            component.name,
            rate(component.rows_in, was_in),
            rate(component.rows_out, was_out),
            grouped(component.dropped),
            grouped(component.dead),
        ));
    }
    for (at, edge) in now.edges.iter().enumerate() {
        let was = last.map_or(0, |last| last.edges[at].blocked_us);
        let percent = (edge.blocked_us.saturating_sub(was) as f64 / seconds / 10_000.0).min(100.0);
        text.push_str(&format!("  {} -> {}: backpressure {percent:.0} %\n", edge.from, edge.to));
    }
}

fn line(now: &Snapshot, last: Option<&Snapshot>) -> String {
    let seconds = seconds_between(now, last);
    let sum = |s: &Snapshot, role: Role, out: bool| -> u64 {
        let of_role = s.components.iter().filter(|c| c.role == role);
        of_role.map(|c| if out { c.rows_out } else { c.rows_in }).sum()
    };
    let rate = |role, out| {
        let was = last.map_or(0, |last| sum(last, role, out));
        grouped(((sum(now, role, out) - was) as f64 / seconds) as u64)
    };
    let worst = now.edges.iter().enumerate().map(|(at, edge)| {
        let was = last.map_or(0, |last| last.edges[at].blocked_us);
        let percent = edge.blocked_us.saturating_sub(was) as f64 / seconds / 10_000.0;
        (percent.min(100.0), format!("{} -> {}", edge.from, edge.to))
    });
    let worst = worst.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(percent, _)| *percent >= 1.0);
    let worst = worst.map_or(String::new(), |(p, edge)| format!(", backpressure {p:.0} % {edge}"));
    let dead: u64 = now.components.iter().map(|c| c.dead).sum();
    let dropped: u64 = now.components.iter().map(|c| c.dropped).sum();
    format!(
        "{}: in {}/s, out {}/s, dropped {}, dead {}{worst}",
        now.flow,
        rate(Role::Source, true),
        rate(Role::Sink, true),
        grouped(dropped),
        grouped(dead)
    )
}

fn seconds_between(now: &Snapshot, last: Option<&Snapshot>) -> f64 {
    let since = last.map_or(0, |last| last.now_us);
    (now.now_us.saturating_sub(since) as f64 / 1e6).max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_goes_over_the_last_and_never_wraps_or_scrolls() {
        let table = "a long line\nb\nc\n";
        assert_eq!(screen(table, 0, 80, 24), (table.to_owned(), 3));
        assert_eq!(screen(table, 3, 6, 24), ("\x1b[3A\x1b[Ja long\nb\nc\n".to_owned(), 3));
        let (text, lines) = screen(table, 0, 80, 3);
        assert_eq!((text.as_str(), lines), ("a long line\n  and 2 more lines\n", 2));
    }
}
