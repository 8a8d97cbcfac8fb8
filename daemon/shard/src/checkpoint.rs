//! Checkpoints of a flow with state, on one shard: positions of sources and
//! state of operators that belong together.
//!
//! The controller asks for a checkpoint by a number, its *epoch*. Every source
//! then stops between two batches, notes its position, and sends a barrier
//! down its lanes. When a shard has the barriers of all its inlets, its
//! operators have seen exactly the batches before them: it saves their state
//! and goes on. Once everything before the barriers is accepted, the shard
//! hands its part over; when all parts are there, the controller stores them
//! as one file. (Chandy and Lamport 1985; aligned, as in Carbone et al. 2015.)
//!
//! Invariants:
//! - A part holds the state after exactly the batches up to its positions, of
//!   all shards: between its barrier and the save no inlet runs a batch behind
//!   the barrier.
//! - A part is handed over only when all that its sources gave out before the
//!   barrier, and all that timers emitted before the save, is accepted.
//! - The last part of a shard, when the flow has come to its end there, has
//!   the epoch [`FINAL`] and stands for every checkpoint that the shard had not
//!   begun; never for one that it has a part of.
//!
//! Deliberately absent: what goes round in a cycle (acknowledgements end at
//! the way back), and a flow without state, whose sources' positions need no
//! barrier.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringmain_ops::chain::Chain;

use crate::exchange::owner;

/// The epoch of a shard that has come to its end.
pub const FINAL: u64 = u64::MAX;

/// State of one operator for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState {
    /// Name of the operator.
    pub operator: String,
    /// What the bytes are, as the operator names it.
    pub format: String,
    /// The partition.
    pub partition: u16,
    /// The state.
    pub bytes: Vec<u8>,
}

/// One shard's part of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPart {
    /// Which checkpoint.
    pub epoch: u64,
    /// Sources of this shard and where they go on.
    pub positions: Vec<(String, Vec<u8>)>,
    /// State of the partitions of this shard.
    pub states: Vec<SavedState>,
}

/// Where a shard leaves its parts for the controller.
#[derive(Clone, Debug, Default)]
pub struct CheckpointSlot(Arc<Mutex<Parts>>);

/// The last part takes no other's place: a checkpoint that the shard has taken
/// part in is made of its part for it, also when the shard has ended since.
#[derive(Debug, Default)]
struct Parts {
    part: Option<Result<CheckpointPart, String>>,
    last: Option<Result<CheckpointPart, String>>,
}

impl Parts {
    fn find(&self, epoch: u64) -> Option<&Result<CheckpointPart, String>> {
        let of = |part: &&Result<CheckpointPart, String>| {
            part.as_ref().map_or(true, |part| part.epoch == epoch)
        };
        self.part.as_ref().filter(of).or(self.last.as_ref())
    }
}

impl CheckpointSlot {
    /// Whether the part for `epoch`, or the reason why there is none, is there.
    #[must_use]
    pub fn is_ready(&self, epoch: u64) -> bool {
        self.lock().find(epoch).is_some()
    }

    /// The part for `epoch`, if it is there: that of a shard which ended before
    /// it was asked is its last.
    ///
    /// # Errors
    /// Why the operators' state could not be saved.
    #[must_use]
    pub fn get(&self, epoch: u64) -> Option<Result<CheckpointPart, String>> {
        self.lock().find(epoch).cloned()
    }

    /// Forgets a failure that has been told.
    pub fn clear_error(&self) {
        self.lock().part.take_if(|part| part.is_err());
    }

    fn put(&self, part: Result<CheckpointPart, String>) {
        self.lock().part = Some(part);
    }

    fn put_last(&self, part: Result<CheckpointPart, String>) {
        self.lock().last = Some(part);
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the current checkpoint has come.
enum Stage {
    /// There is none.
    Idle,
    /// The sources' barriers are out; those of other shards are awaited.
    Aligning { part: CheckpointPart, marks: Vec<u64> },
    /// The state is saved; what came before is not all accepted.
    Waiting { part: CheckpointPart, marks: Vec<u64>, emitted: u64 },
}

/// Checkpoints of one flow on one shard.
pub(crate) struct Checkpoints {
    slot: CheckpointSlot,
    /// Partitions that are pinned to this shard.
    partitions: Vec<u16>,
    /// Operators by their place in the chain.
    operators: Vec<String>,
    stage: Stage,
    /// The last epoch that was begun.
    begun: u64,
    /// What the last handed part covers: epoch, and the last batch per source.
    handed: Option<(u64, Vec<u64>)>,
}

impl Checkpoints {
    /// `count` is 0 for a flow without a partition key: its only partition is
    /// on its only shard.
    pub(crate) fn new(
        slot: CheckpointSlot,
        count: u16,
        me: u16,
        shards: usize,
        operators: Vec<String>,
    ) -> Self {
        let partitions = Self::partitions_of(count, me, shards);
        Self { slot, partitions, operators, stage: Stage::Idle, begun: 0, handed: None }
    }

    /// The flow is another version from now on: a checkpoint under way is void,
    /// as are all up to `floor`. `sources` are the old numbers of its sources
    /// on this shard, if they have any.
    pub(crate) fn go_on(&mut self, operators: Vec<String>, sources: &[Option<usize>], floor: u64) {
        self.operators = operators;
        self.stage = Stage::Idle;
        self.begun = self.begun.max(floor);
        if let Some((_, marks)) = &mut self.handed {
            let mark = |old: &Option<usize>| old.map_or(0, |old| marks[old]);
            *marks = sources.iter().map(mark).collect();
        }
    }

    /// Partitions that are pinned to this shard.
    pub(crate) fn partitions_of(count: u16, me: u16, shards: usize) -> Vec<u16> {
        (0..count.max(1)).filter(|p| owner(*p, shards) == me).collect()
    }

    /// The controller wants a checkpoint that has not been begun here.
    pub(crate) fn is_wanted(&self, asked: u64) -> bool {
        asked > self.begun && !self.is_ended()
    }

    /// Nothing behind a barrier may run.
    pub(crate) fn is_aligning(&self) -> bool {
        matches!(self.stage, Stage::Aligning { .. })
    }

    /// The last part has been handed over: the state must not change any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.handed.as_ref().is_some_and(|(epoch, _)| *epoch == FINAL)
    }

    /// Every source of the shard stands at its barrier. `marks` are the last
    /// batches before it.
    pub(crate) fn begin(&mut self, epoch: u64, positions: Vec<(String, Vec<u8>)>, marks: Vec<u64>) {
        assert!(!self.is_aligning(), "one checkpoint at a time");
        self.begun = epoch;
        let part = CheckpointPart { epoch, positions, states: Vec::new() };
        self.stage = Stage::Aligning { part, marks };
    }

    /// All barriers are here; `emitted` is the last batch that a timer made.
    #[cold]
    pub(crate) fn aligned(&mut self, chain: &mut Chain, emitted: u64) {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let Stage::Aligning { mut part, marks } = stage else { return };
        match self.save(chain) {
            Ok(states) => {
                part.states = states;
                self.stage = Stage::Waiting { part, marks, emitted };
            }
            Err(why) => self.slot.put(Err(why)),
        }
    }

    /// What the shard waits for: the last batch per source, and of timers.
    pub(crate) fn awaited(&self) -> Option<(&[u64], u64)> {
        match &self.stage {
            Stage::Waiting { marks, emitted, .. } => Some((marks, *emitted)),
            _ => None,
        }
    }

    /// Everything before the barriers is accepted.
    pub(crate) fn hand_over(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let Stage::Waiting { part, marks, .. } = stage else { return };
        self.handed = Some((part.epoch, marks));
        self.slot.put(Ok(part));
    }

    /// The flow has come to its end here, and everything is accepted.
    pub(crate) fn end(
        &mut self,
        chain: &mut Chain,
        positions: Vec<(String, Vec<u8>)>,
        marks: Vec<u64>,
    ) {
        // Everything is accepted, what came before a barrier, too.
        self.hand_over();
        self.handed = Some((FINAL, marks));
        let states = self.save(chain);
        self.slot.put_last(states.map(|states| CheckpointPart { epoch: FINAL, positions, states }));
    }

    /// The last batch per source that is safe on disk, if the part that was
    /// handed over last is.
    pub(crate) fn safe(&self, stored: u64) -> Option<&[u64]> {
        let (epoch, marks) = self.handed.as_ref()?;
        (*epoch <= stored).then_some(marks)
    }

    fn save(&self, chain: &mut Chain) -> Result<Vec<SavedState>, String> {
        let mut states = Vec::new();
        for (at, name) in self.operators.iter().enumerate() {
            let operator = chain.operator(at);
            let Some(format) = operator.state_format() else { continue };
            for partition in &self.partitions {
                let mut bytes = Vec::new();
                let saved = operator.save(*partition, &mut bytes);
                saved.map_err(|why| format!("{name}: the state cannot be saved: {why}"))?;
                if !bytes.is_empty() {
                    let (operator, format) = (name.clone(), format.to_owned());
                    states.push(SavedState { operator, format, partition: *partition, bytes });
                }
            }
        }
        Ok(states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(epoch: u64) -> CheckpointPart {
        CheckpointPart { epoch, positions: Vec::new(), states: Vec::new() }
    }

    #[test]
    fn a_shard_that_has_ended_still_has_its_part_of_an_earlier_checkpoint() {
        let slot = CheckpointSlot::default();
        assert!(!slot.is_ready(1));
        slot.put(Ok(part(1)));
        slot.put_last(Ok(part(FINAL)));
        assert_eq!(slot.get(1).unwrap().unwrap().epoch, 1);
        assert_eq!(slot.get(2).unwrap().unwrap().epoch, FINAL);
        assert_eq!(slot.get(FINAL).unwrap().unwrap().epoch, FINAL);
    }
}
