//! Rows on their way into requests.
//!
//! Messages whose url and header lines come out alike share a request; several
//! such batches can be open at a time, [`OPEN_MAX`] at most, then the oldest is
//! closed early. Bounds: `buffer` bytes ([`Room`]), counted as they are
//! encoded; what gzip makes of a batch is smaller, and there for as long as the
//! request is under way.

use std::collections::VecDeque;
use std::io::Write as _;
use std::ops::Range;

use flate2::Compression;
use flate2::write::GzEncoder;
use ringmain_base::Reason;
use ringmain_config::plan::{HttpBatch, HttpBody, HttpSink};
use ringmain_slab::{RowRef, SharedSchema, Slab};

use crate::Refusals;
use crate::encode::Encoding;
use crate::outbuf::Room;
use crate::template::{NoPath, Path};
use crate::unsent::{Unsent, What};

/// Batches that are being filled.
const OPEN_MAX: usize = 64;
/// However little a server takes, batches are not closed before this size.
const BATCH_BYTES_MIN: u64 = 4 << 10;
/// Beginning of a batch.
const CHUNK_BYTES: usize = 64 << 10;

/// What messages of a request have in common: the rest of its first line, and
/// lines of its head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key {
    pub(super) path: String,
    pub(super) headers: String,
}

/// The messages of one request.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(super) key: Key,
    /// As they are sent, before packing.
    pub(super) bytes: Vec<u8>,
    /// What is sent instead, when they are packed.
    pub(super) packed: Option<Vec<u8>>,
    /// Where each message ends.
    ends: Vec<usize>,
    first_slab: u64,
    opened_us: u64,
    /// Where the first message begins.
    start: usize,
}

impl Batch {
    /// Each message as it was encoded.
    pub(super) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(self.start).chain(self.ends.iter().map(|end| end + 1));
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// A batch of some of the messages, not yet closed.
    fn part(&self, messages: Range<usize>, mut bytes: Vec<u8>) -> Self {
        let begin = |at: usize| if at == 0 { self.start } else { self.ends[at - 1] + 1 };
        let from = begin(messages.start);
        bytes.extend_from_slice(&self.bytes[..self.start]);
        let ends = &self.ends[messages];
        let end = ends.last().map_or(from, |end| end + 1);
        bytes.extend_from_slice(&self.bytes[from..end]);
        let ends = ends.iter().map(|end| end - from + self.start).collect();
        Self { key: self.key.clone(), bytes, packed: None, ends, ..*self }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// What is sent.
    pub(super) fn body(&self) -> &[u8] {
        self.packed.as_deref().unwrap_or(&self.bytes)
    }
}

pub(super) struct Batches {
    encoding: Encoding,
    path: Path,
    headers: Vec<(String, Path)>,
    /// Every message has the same key.
    constant: bool,
    body: HttpBody,
    limits: HttpBatch,
    gzip: bool,
    room: Room,
    open: VecDeque<Batch>,
    sealed: VecDeque<Batch>,
    /// First slabs of batches that were taken, in any order.
    taken: Vec<u64>,
    key: Key,
    value: String,
}

impl Batches {
    pub(super) fn new(
        plan: &HttpSink,
        encoding: Encoding,
        buffer_bytes: u64,
        schema: &SharedSchema,
        shard: u16,
    ) -> Self {
        let path = Path::url(&plan.path, schema, shard);
        let header =
            |(name, template): &(String, _)| (name.clone(), Path::header(template, schema, shard));
        let headers: Vec<_> = plan.headers.iter().map(header).collect();
        let constant = path.is_constant() && headers.iter().all(|(_, path)| path.is_constant());
        let limits = match plan.body {
            HttpBody::Message => HttpBatch { count: 1, ..plan.batch.clone() },
            _ => plan.batch.clone(),
        };
        let mut batches = Self {
            encoding,
            path,
            headers,
            constant,
            body: plan.body,
            limits,
            gzip: plan.gzip,
            room: Room::new(buffer_bytes, CHUNK_BYTES),
            open: VecDeque::new(),
            sealed: VecDeque::new(),
            taken: Vec::new(),
            key: Key::default(),
            value: String::new(),
        };
        if constant {
            batches.key.path = batches.path.constant();
            for (name, value) in &batches.headers {
                push_line(&mut batches.key.headers, name, &value.constant());
            }
        }
        batches
    }

    /// Encodes rows from `from` on while there is room; returns how many.
    pub(super) fn push(
        &mut self,
        slab: &Slab,
        from: usize,
        now_us: u64,
        refusals: &mut dyn Refusals,
    ) -> usize {
        let mut at = from;
        while at < slab.len() && self.room.is_open() {
            let row = slab.row(at);
            match self.fill(row) {
                Ok(()) => self.add(row, now_us, refusals),
                Err(none) => {
                    let detail = format!("the message has no usable field '{}'", none.field);
                    refusals.row(NoPath::REASON, &detail, row);
                }
            }
            at += 1;
        }
        at - from
    }

    /// The key of a row.
    fn fill(&mut self, row: RowRef<'_>) -> Result<(), NoPath> {
        if self.constant {
            return Ok(());
        }
        self.path.fill(row, &mut self.key.path)?;
        self.key.headers.clear();
        for (name, path) in &mut self.headers {
            path.fill(row, &mut self.value)?;
            push_line(&mut self.key.headers, name, &self.value);
        }
        Ok(())
    }

    fn add(&mut self, row: RowRef<'_>, now_us: u64, refusals: &mut dyn Refusals) {
        let at = self.open.iter().position(|batch| batch.key == self.key);
        let at = at.unwrap_or_else(|| self.begin(now_us));
        let batch = &mut self.open[at];
        let before = batch.bytes.len();
        if !self.encoding.row(row, &mut batch.bytes, refusals) {
            if batch.ends.is_empty()
                && let Some(batch) = self.open.remove(at)
            {
                self.room.give_back(batch.bytes);
            }
            return;
        }
        // The line end is replaced by what separates messages here.
        let end = batch.bytes.len() - 1;
        if self.body == HttpBody::Array {
            batch.bytes[end] = b',';
        }
        batch.ends.push(end);
        self.room.add(batch.bytes.len() - before);
        let full = batch.ends.len() >= self.limits.count as usize
            || batch.bytes.len() as u64 >= self.limits.bytes;
        if full {
            self.seal(at);
        }
    }

    fn begin(&mut self, now_us: u64) -> usize {
        if self.open.len() >= OPEN_MAX {
            self.seal(0);
        }
        let mut bytes = self.room.take_small().bytes;
        match self.body {
            HttpBody::Array => bytes.push(b'['),
            _ => bytes.extend_from_slice(&self.encoding.header()),
        }
        self.room.add(bytes.len());
        self.open.push_back(Batch {
            key: self.key.clone(),
            start: bytes.len(),
            bytes,
            packed: None,
            ends: Vec::new(),
            first_slab: self.room.slab(),
            opened_us: now_us,
        });
        self.open.len() - 1
    }

    fn seal(&mut self, at: usize) {
        let Some(batch) = self.open.remove(at) else { return };
        let batch = self.close(batch);
        self.sealed.push_back(batch);
    }

    /// Makes it what is sent.
    fn close(&mut self, mut batch: Batch) -> Batch {
        match self.body {
            HttpBody::Array => {
                if let Some(last) = batch.bytes.last_mut() {
                    *last = b']';
                }
            }
            HttpBody::Message => {
                batch.bytes.pop();
                self.room.sub(1);
            }
            _ => {}
        }
        if self.gzip {
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            // Writing to a vector cannot fail.
            let written = packer.write_all(&batch.bytes);
            batch.packed = written.and_then(|()| packer.finish()).ok();
        }
        batch
    }

    /// A batch of more than one message that was taken goes out again as two,
    /// before all others; later ones are closed as early.
    pub(super) fn halve(&mut self, batch: Batch) {
        let count = batch.count();
        debug_assert!(count > 1, "a message is not divided");
        let half = (batch.bytes.len() as u64 / 2).max(BATCH_BYTES_MIN);
        self.limits.bytes = self.limits.bytes.min(half);
        for messages in [count / 2..count, 0..count / 2] {
            let part = batch.part(messages, self.room.take_small().bytes);
            self.room.add(part.bytes.len());
            let part = self.close(part);
            self.sealed.push_front(part);
        }
        self.done(batch);
    }

    /// Closes batches that have waited long enough, or all.
    pub(super) fn ripen(&mut self, all: bool, now_us: u64) {
        while self.open.front().is_some_and(|batch| {
            all || now_us.saturating_sub(batch.opened_us) >= self.limits.linger_us
        }) {
            self.seal(0);
        }
    }

    /// When the next batch has waited long enough.
    pub(super) fn ripe_at_us(&self) -> Option<u64> {
        self.open.front().map(|batch| batch.opened_us.saturating_add(self.limits.linger_us))
    }

    /// The next request.
    pub(super) fn take(&mut self) -> Option<Batch> {
        let batch = self.sealed.pop_front()?;
        self.taken.push(batch.first_slab);
        Some(batch)
    }

    /// A batch that was taken is done with.
    pub(super) fn done(&mut self, batch: Batch) {
        if let Some(at) = self.taken.iter().position(|slab| *slab == batch.first_slab) {
            self.taken.swap_remove(at);
        }
        self.room.give_back(batch.bytes);
    }

    /// A batch that was taken goes to the dead letters.
    pub(super) fn refuse(
        &mut self,
        batch: Batch,
        reason: Reason,
        why: &str,
        refusals: &mut dyn Refusals,
    ) {
        for message in batch.messages() {
            refusals.bytes(reason, why, "", 0, message);
        }
        self.done(batch);
    }

    /// Gives up everything that is not accepted; `taken` is what was taken.
    pub(super) fn take_unsent(&mut self, mut taken: Vec<Batch>) -> Unsent {
        let finished = self.finished();
        self.ripen(true, 0);
        taken.sort_by_key(|batch| batch.first_slab);
        let batches = taken.into_iter().chain(self.sealed.drain(..));
        let from_there = |batch: Batch| Batch { first_slab: batch.first_slab - finished, ..batch };
        let what = What::Requests(batches.map(from_there).collect());
        self.taken.clear();
        Unsent { what, slabs: self.room.slab() - finished }
    }

    /// Goes on with what another gave up; nothing has been pushed yet.
    pub(super) fn inherit(&mut self, unsent: Unsent) {
        let Unsent { what: What::Requests(batches), slabs } = unsent else {
            debug_assert!(false, "only where sinks_hand_over says so");
            return;
        };
        self.room.go_on(slabs);
        for batch in batches {
            self.room.add(batch.bytes.len());
            self.sealed.push_back(batch);
        }
    }

    pub(super) fn slab_end(&mut self) {
        self.room.slab_end();
    }

    pub(super) fn finished(&self) -> u64 {
        let waiting = self.open.iter().chain(&self.sealed).map(|batch| batch.first_slab);
        self.room.finished(waiting.chain(self.taken.iter().copied()).min())
    }

    /// A request is ready to be sent.
    pub(super) fn has_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.sealed.is_empty() && self.taken.is_empty()
    }
}

fn push_line(lines: &mut String, name: &str, value: &str) {
    lines.push_str(name);
    lines.push_str(": ");
    lines.push_str(value.trim());
    lines.push_str("\r\n");
}
