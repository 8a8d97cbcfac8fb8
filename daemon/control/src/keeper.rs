//! Keeps what a flow needs to go on after a restart: asks its shards for
//! checkpoints, puts the parts together, stores them.
//!
//! A flow without state has none to align: its sources' positions are stored
//! as they come. The first checkpoint of a flow with state waits for the last
//! one, so a sink that stands still holds up checkpoints as it holds up
//! positions.

use ringmain_shard::{CheckpointPart, CheckpointSlot, FINAL, FlowControl, PositionKey};

use crate::store::{Checkpoint, Store};

/// What is kept of one flow.
pub struct Keeper {
    flow: String,
    current: Checkpoint,
    positions: Vec<PositionKey>,
    /// By shard.
    slots: Vec<(usize, CheckpointSlot)>,
    /// The epoch that the shards were asked for.
    asked: Option<u64>,
    /// The last checkpoint of all has been stored.
    ended: bool,
}

impl Keeper {
    /// Goes on from `current`; what is new comes from these slots.
    #[must_use]
    pub fn new(
        flow: &str,
        current: Checkpoint,
        positions: Vec<PositionKey>,
        slots: Vec<(usize, CheckpointSlot)>,
    ) -> Self {
        Self { flow: flow.to_owned(), current, positions, slots, asked: None, ended: false }
    }

    /// Goes on for another version of the flow: with its positions and slots,
    /// and the state of these operators. A checkpoint under way is void.
    pub fn go_on(&mut self, next: Self, operators: &[String], store: Option<&Store>) {
        let before = self.current.clone();
        (self.positions, self.slots, self.asked) = (next.positions, next.slots, None);
        let named = |name: &String| self.positions.iter().any(|key| key.source == *name);
        self.current.positions.retain(|(source, ..)| named(source));
        self.current.states.retain(|state| operators.contains(&state.operator));
        if store.is_some() && self.current != before {
            // A restart reads it with the new version.
            store.map(|store| self.save(store));
        }
    }

    /// Where its sources go on.
    #[must_use]
    pub fn current(&self) -> &Checkpoint {
        &self.current
    }

    /// Shards are about to hand over a checkpoint.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// Stores what is there to be stored; `due` when it is time for more. True
    /// when the shards are to be woken.
    pub fn tick(&mut self, control: &FlowControl, store: &Store, due: bool) -> bool {
        if !control.is_stateful() {
            if due {
                self.store_positions(store);
            }
            return false;
        }
        let epoch = self.asked.unwrap_or(FINAL);
        if !self.ended && self.slots.iter().all(|(_, slot)| slot.is_ready(epoch)) {
            self.asked = None;
            return self.store_parts(control, store, epoch);
        }
        if due && self.asked.is_none() && !self.ended {
            self.asked = Some(control.ask_checkpoint());
            return true;
        }
        false
    }

    /// The flow has ended: stores all that its shards have left, a checkpoint
    /// that was asked for and the last one.
    pub fn finish(&mut self, control: &FlowControl, store: &Store) {
        self.tick(control, store, true);
        self.tick(control, store, true);
    }

    fn store_positions(&mut self, store: &Store) {
        let mut new = false;
        for key in &self.positions {
            if let Some(position) = key.slot.take() {
                self.current.set_position(&key.source, key.shard, position);
                new = true;
            }
        }
        if new {
            self.current.states.clear();
            self.save(store);
        }
    }

    fn store_parts(&mut self, control: &FlowControl, store: &Store, epoch: u64) -> bool {
        let mut parts: Vec<(usize, CheckpointPart)> = Vec::new();
        for (shard, slot) in &self.slots {
            match slot.get(epoch) {
                Some(Ok(part)) => parts.push((*shard, part)),
                Some(Err(why)) => {
                    tracing::error!("{}.{why}", self.flow);
                    slot.clear_error();
                }
                None => {}
            }
        }
        if parts.len() < self.slots.len() {
            return false;
        }
        let epoch = parts.iter().map(|(_, part)| part.epoch).min().unwrap_or(epoch);
        let before = self.current.clone();
        self.current.states.clear();
        for (shard, part) in parts {
            for (source, position) in part.positions {
                self.current.set_position(&source, shard, position);
            }
            self.current.states.extend(part.states);
        }
        // A flow at rest writes nothing.
        let stored = self.current == before || self.save(store);
        if stored {
            self.ended = epoch == FINAL;
            control.note_stored(epoch);
        }
        stored
    }

    fn save(&self, store: &Store) -> bool {
        let saved = store.save(&self.flow, &self.current);
        if let Err(error) = &saved {
            tracing::error!("{}: {error}", self.flow);
        }
        saved.is_ok()
    }
}
