//! The shard's side of taps: sampling, the condition, rows to JSON.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringmain_base::{Now, Reason};
use ringmain_codec::{EncodeOptions, Encoder};
use ringmain_config::Spanned;
use ringmain_ops::{Context, Operator, Refuse};
use ringmain_slab::{Budget, RowRef, SharedSchema, Slab};

use super::{TapList, TapShared, Tapped};

/// Longer messages are skipped.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Messages that the condition of one tap is asked about per second and shard;
/// what is more is skipped. Bounds what a tap costs to a few percent of a
/// core, whatever passes.
const LOOKS_PER_SECOND: u64 = 250_000;

/// Messages that the condition is asked about at once.
const LOOKS_AT_ONCE: usize = 256;

/// All that a flow's taps on one shard need.
pub(crate) struct Taps {
    /// The version of the list that `open` is of.
    version: u64,
    open: Vec<Open>,
    place: Place,
}

/// Where the taps are.
pub(crate) struct Place {
    /// The flow's field names.
    pub schema: SharedSchema,
    /// Those of dead letters.
    pub letters: SharedSchema,
    /// The component that takes dead letters.
    pub dead_letters: Option<usize>,
    /// The first component that is a sink.
    pub first_sink: usize,
    pub components: usize,
    pub slab_bytes: usize,
    pub budget: Budget,
}

/// One tap.
struct Open {
    number: u64,
    shared: Arc<TapShared>,
    /// By component: messages to pass over before the next one that is looked
    /// at.
    pass: Vec<u64>,
    condition: Option<Condition>,
    rows: Encoder,
    letters: Encoder,
    buffer: Vec<u8>,
}

/// An expression over rows that stay where they are: what it is asked about is
/// copied.
struct Condition {
    text: Spanned<String>,
    operator: Box<dyn Operator>,
    /// Fields of the flow when it was compiled. Names that were none then have
    /// become fields when there are more.
    fields: u16,
    /// For dead letters, which have other fields.
    of_letters: Box<dyn Operator>,
    copies: Slab,
    /// The second on the monotonic clock, and how many it was asked about in it.
    second: u64,
    asked: u64,
}

impl Taps {
    pub(crate) fn new(place: Place) -> Self {
        Self { version: 0, open: Vec::new(), place }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Opens those that have come and drops those that have gone.
    #[cold]
    pub(crate) fn update(&mut self, list: &TapList) {
        let (version, wanted) = list.open();
        self.version = version;
        self.open.retain(|open| wanted.iter().any(|(number, _)| *number == open.number));
        for (number, shared) in wanted {
            if self.open.iter().all(|open| open.number != number) {
                self.open.push(Open::new(number, shared, &self.place));
            }
        }
    }

    /// Rows leave a source or an operator, or come to a sink.
    #[cold]
    pub(crate) fn see(&mut self, component: usize, slab: &Slab, now: Now) {
        for open in &mut self.open {
            open.see(component, slab, now, &self.place);
        }
    }

    /// Rows come to the queue of a sink, or to another queue.
    #[cold]
    pub(crate) fn delivered(&mut self, component: usize, slab: &Slab, now: Now) {
        if component >= self.place.first_sink {
            self.see(component, slab, now);
        }
    }

    /// Dead letters are on their way.
    #[cold]
    pub(crate) fn letters(&mut self, slab: &Slab, now: Now) {
        if let Some(component) = self.place.dead_letters {
            self.see(component, slab, now);
        }
    }
}

impl Open {
    fn new(number: u64, shared: Arc<TapShared>, place: &Place) -> Self {
        let encoder = |schema: &SharedSchema| Encoder::new(EncodeOptions::Json, schema.clone());
        let condition = shared.request.condition.as_ref();
        Self {
            number,
            pass: vec![0; place.components],
            condition: condition.and_then(|text| Condition::new(text, place)),
            rows: encoder(&place.schema),
            letters: encoder(&place.letters),
            buffer: Vec::new(),
            shared,
        }
    }

    fn see(&mut self, component: usize, slab: &Slab, now: Now, place: &Place) {
        let wanted = self.shared.request.component;
        if wanted.is_some_and(|wanted| wanted != component) || slab.is_empty() {
            return;
        }
        let rows = slab.len() as u64;
        self.shared.seen.fetch_add(rows, Ordering::AcqRel);
        let (first, every) = (self.pass[component], self.shared.request.every);
        if first >= rows {
            self.pass[component] = first - rows;
            return;
        }
        let count = (rows - 1 - first) / every + 1;
        self.pass[component] = first + count * every - rows;
        let sample = Sample { slab, next: first as usize, every: every as usize };
        let letters = place.dead_letters == Some(component);
        let shown = match &mut self.condition {
            None if self.shared.request.condition.is_some() => 0,
            None => self.show_sample(sample, count, letters, component, now),
            Some(_) => self.ask(sample, count, letters, component, now, place),
        };
        self.shared.skipped.fetch_add(count - shown, Ordering::AcqRel);
    }

    /// How many were not skipped.
    fn show_sample(
        &mut self,
        sample: Sample<'_>,
        count: u64,
        letters: bool,
        component: usize,
        now: Now,
    ) -> u64 {
        let left = usize::try_from(self.shared.left(now.mono_us).min(count)).unwrap_or(usize::MAX);
        sample.take(left).map(|row| u64::from(self.show(row, letters, component, now))).sum()
    }

    /// The same, of those for which the condition holds; the others are not
    /// skipped, either.
    fn ask(
        &mut self,
        mut sample: Sample<'_>,
        count: u64,
        letters: bool,
        component: usize,
        now: Now,
        place: &Place,
    ) -> u64 {
        let Some(mut condition) = self.condition.take() else { return 0 };
        let mut done = 0;
        let may_ask = condition.may_ask(now).min(count);
        if !condition.refresh(place) {
            return 0;
        }
        while done < may_ask && self.shared.left(now.mono_us) > 0 {
            let some = (may_ask - done).min(LOOKS_AT_ONCE as u64);
            let (asked, missed, failed) = condition.ask(&mut sample, some, letters, now);
            done += asked + missed;
            self.shared.skipped.fetch_add(missed, Ordering::AcqRel);
            if let Some(Failed { count, too_slow }) = failed {
                self.shared.failed.fetch_add(count, Ordering::AcqRel);
                if too_slow {
                    self.shared.stopped.store(true, Ordering::Release);
                    return done;
                }
            }
            for row in condition.copies.rows() {
                if !self.show(row, letters, component, now) {
                    self.shared.skipped.fetch_add(1, Ordering::AcqRel);
                }
            }
            condition.copies.clear();
        }
        self.condition = Some(condition);
        done
    }

    /// Sends one row to the reader; false when it was skipped.
    fn show(&mut self, row: RowRef<'_>, letters: bool, component: usize, now: Now) -> bool {
        if row.image_bound() > MESSAGE_BYTES_MAX || !self.shared.take(now.mono_us) {
            return false;
        }
        self.buffer.clear();
        let encoder = if letters { &mut self.letters } else { &mut self.rows };
        let encoded = encoder.encode(row, &mut self.buffer);
        match (encoded, std::str::from_utf8(&self.buffer)) {
            (Ok(()), Ok(json)) => self.shared.send(Tapped { component, json: json.to_owned() }),
            _ => {
                self.shared.failed.fetch_add(1, Ordering::AcqRel);
                true
            }
        }
    }
}

/// Rows of a slab that are looked at.
struct Sample<'a> {
    slab: &'a Slab,
    next: usize,
    every: usize,
}

impl<'a> Iterator for Sample<'a> {
    type Item = RowRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.next;
        self.next = at.saturating_add(self.every);
        (at < self.slab.len()).then(|| self.slab.row(at))
    }
}

struct Failed {
    count: u64,
    too_slow: bool,
}

impl Condition {
    /// None when it cannot be compiled, which the reader's side has checked.
    fn new(text: &str, place: &Place) -> Option<Self> {
        let text = Spanned::new(text.to_owned(), Default::default());
        let (operator, fields) = compile(&text, &place.schema)?;
        let (of_letters, _) = compile(&text, &place.letters)?;
        let copies = Slab::new(place.slab_bytes, &place.budget);
        Some(Self { text, operator, fields, of_letters, copies, second: 0, asked: 0 })
    }

    /// Compiles it again when the flow has got more fields.
    fn refresh(&mut self, place: &Place) -> bool {
        if place.schema.snapshot().version() != self.fields {
            let Some((operator, fields)) = compile(&self.text, &place.schema) else { return false };
            (self.operator, self.fields) = (operator, fields);
        }
        true
    }

    /// About how many messages it may still be asked in this second.
    fn may_ask(&mut self, now: Now) -> u64 {
        let second = now.mono_us / 1_000_000;
        if second != self.second {
            (self.second, self.asked) = (second, 0);
        }
        LOOKS_PER_SECOND.saturating_sub(self.asked)
    }

    /// Leaves copies of those of the next `count` rows for which it holds; how
    /// many it was asked about, how many had no room.
    fn ask(
        &mut self,
        sample: &mut Sample<'_>,
        count: u64,
        letters: bool,
        now: Now,
    ) -> (u64, u64, Option<Failed>) {
        let (mut asked, mut missed) = (0, 0);
        for row in sample.take(count as usize) {
            let fits = row.image_bound() <= MESSAGE_BYTES_MAX
                && (self.copies.push_copy(row).is_ok() || self.grown(row));
            asked += u64::from(fits);
            missed += u64::from(!fits);
        }
        self.asked += count;
        let mut failures = Failures::default();
        let operator = if letters { &mut self.of_letters } else { &mut self.operator };
        operator
            .process(&mut self.copies, &mut Context { now, refuse: &mut failures, ports: &mut [] });
        let Failures { count, too_slow } = failures;
        (asked, missed, (count > 0).then_some(Failed { count, too_slow }))
    }

    fn grown(&mut self, row: RowRef<'_>) -> bool {
        self.copies.reserve(row.image_bound()).is_ok() && self.copies.push_copy(row).is_ok()
    }
}

/// With names of its own behind those of the flow, whose schema stays as it is;
/// and how many fields the flow has.
fn compile(text: &Spanned<String>, flow: &SharedSchema) -> Option<(Box<dyn Operator>, u16)> {
    let now = flow.snapshot();
    let own = SharedSchema::new();
    // In the order of their slots, so each gets the same.
    now.names().iter().try_for_each(|name| own.intern(name).map(drop)).ok()?;
    let operator = crate::operators::condition(text, &own).ok()?;
    Some((operator, now.version()))
}

#[derive(Default)]
struct Failures {
    count: u64,
    too_slow: bool,
}

impl Refuse for Failures {
    fn refuse(&mut self, _: RowRef<'_>, reason: Reason, _: &str) {
        self.count += 1;
        self.too_slow |= reason == Reason::Limit;
    }
}
