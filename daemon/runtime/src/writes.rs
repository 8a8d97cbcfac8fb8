//! The order of what is written to one handle.
//!
//! Rules: a stream, pipe or append-only file has one write in flight; writes
//! at offsets overlap each other; a sync starts when every write before it is
//! done, and writes after it need not wait for it. Writes are reported in the
//! order of their submission, whatever order the kernel finishes them in.

use std::collections::VecDeque;

use crate::slots::Key;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// At the end of a stream or of an append-only file.
    Append,
    /// At an offset of a file.
    At,
    /// fdatasync.
    Sync,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Started,
    Done,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    sort: Sort,
    state: State,
}

/// Constant work to start, linear in what is under way to finish.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    entries: VecDeque<Entry>,
    /// Entries before this one have been started or are done.
    first_waiting: usize,
    /// Writes of either sort that are started and not done.
    writes_open: usize,
    appends_open: usize,
}

impl WriteQueue {
    pub(crate) fn push(&mut self, key: Key, sort: Sort) {
        self.entries.push_back(Entry { key, sort, state: State::Waiting });
    }

    /// The next operation that may start; it counts as started from now on.
    /// What follows one that has to wait could not start either.
    pub(crate) fn start_next(&mut self) -> Option<Key> {
        // Cancelled before it was started: nothing to start.
        while self.entries.get(self.first_waiting).is_some_and(|e| e.state == State::Done) {
            self.first_waiting += 1;
        }
        let entry = self.entries.get_mut(self.first_waiting)?;
        let may_start = match entry.sort {
            Sort::Append | Sort::Sync => self.writes_open == 0,
            Sort::At => self.appends_open == 0,
        };
        if !may_start {
            return None;
        }
        entry.state = State::Started;
        self.first_waiting += 1;
        self.writes_open += usize::from(entry.sort != Sort::Sync);
        self.appends_open += usize::from(entry.sort == Sort::Append);
        Some(entry.key)
    }

    /// Whether it was started and is not done.
    pub(crate) fn is_started(&self, key: Key) -> bool {
        self.entries.iter().any(|e| e.key == key && e.state == State::Started)
    }

    pub(crate) fn finish(&mut self, key: Key) {
        let Some(entry) = self.entries.iter_mut().find(|e| e.key == key) else { return };
        if std::mem::replace(&mut entry.state, State::Done) == State::Started {
            self.writes_open -= usize::from(entry.sort != Sort::Sync);
            self.appends_open -= usize::from(entry.sort == Sort::Append);
        }
    }

    /// The next operation whose end may be reported.
    pub(crate) fn pop_reportable(&mut self) -> Option<Key> {
        let mut at = 0;
        while let Some(entry) = self.entries.get(at) {
            match (entry.state, entry.sort) {
                (State::Done, _) => {
                    self.first_waiting -= usize::from(at < self.first_waiting);
                    return self.entries.remove(at).map(|e| e.key);
                }
                // A sync under way holds back nothing that follows it.
                (_, Sort::Sync) => at += 1,
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    fn queue(sorts: &[Sort]) -> WriteQueue {
        let mut queue = WriteQueue::default();
        for (at, sort) in sorts.iter().enumerate() {
            queue.push(key(at as u32), *sort);
        }
        queue
    }

    fn startable(queue: &mut WriteQueue) -> Vec<u32> {
        std::iter::from_fn(|| queue.start_next()).map(|k| k.index).collect()
    }

    fn reportable(queue: &mut WriteQueue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop_reportable()).map(|k| k.index).collect()
    }

    #[test]
    fn appends_go_one_at_a_time() {
        let mut queue = queue(&[Sort::Append, Sort::Append]);
        assert_eq!(startable(&mut queue), [0]);
        queue.finish(key(0));
        assert_eq!(startable(&mut queue), [1]);
        assert_eq!(reportable(&mut queue), [0]);
    }

    #[test]
    fn offset_writes_overlap_but_report_in_order() {
        let mut queue = queue(&[Sort::At, Sort::At, Sort::At]);
        assert_eq!(startable(&mut queue), [0, 1, 2]);
        queue.finish(key(2));
        queue.finish(key(1));
        assert_eq!(reportable(&mut queue), [] as [u32; 0]);
        queue.finish(key(0));
        assert_eq!(reportable(&mut queue), [0, 1, 2]);
    }

    #[test]
    fn a_sync_waits_for_the_writes_before_it_and_stops_none_after_it() {
        let mut queue = queue(&[Sort::At, Sort::Sync, Sort::At]);
        assert_eq!(startable(&mut queue), [0]);
        queue.finish(key(0));
        assert_eq!(startable(&mut queue), [1, 2]);
        queue.finish(key(2));
        assert_eq!(reportable(&mut queue), [0, 2]);
        queue.finish(key(1));
        assert_eq!(reportable(&mut queue), [1]);
    }

    #[test]
    fn what_is_cancelled_before_it_starts_is_passed_over_and_reported_in_its_place() {
        let mut queue = queue(&[Sort::Append, Sort::Append, Sort::Append]);
        assert_eq!(startable(&mut queue), [0]);
        queue.finish(key(1));
        assert_eq!(reportable(&mut queue), [] as [u32; 0]);
        queue.finish(key(0));
        assert_eq!(reportable(&mut queue), [0, 1]);
        assert_eq!(startable(&mut queue), [2]);
        queue.finish(key(2));
        assert_eq!(reportable(&mut queue), [2]);
    }

    #[test]
    fn an_append_never_overtakes_offset_writes() {
        let mut queue = queue(&[Sort::At, Sort::Append, Sort::At]);
        assert_eq!(startable(&mut queue), [0]);
        queue.finish(key(0));
        assert_eq!(startable(&mut queue), [1]);
        queue.finish(key(1));
        assert_eq!(startable(&mut queue), [2]);
    }
}
