//! What a flow's shard answers for: acks to other shards, positions and acks of
//! its own sources, and the steps of a checkpoint.

use ringmain_base::Now;
use ringmain_runtime::io::Io;

use crate::checkpoint::Checkpoints;
use crate::exchange::Exchange;
use crate::flow::FlowShard;

impl FlowShard {
    /// Acks to other shards, positions of sources.
    pub(crate) fn account(&mut self, io: &mut dyn Io, now: Now) {
        for inlet in &mut self.remotes {
            let received = inlet.downstream.received();
            if received != inlet.downstream.acked() {
                inlet.downstream.ack(self.exits.position(inlet.id, received));
            }
        }
        for at in 0..self.sources.len() {
            if self.sources[at].positions.is_some() {
                let accepted = self.accepted(at);
                self.sources[at].account(accepted, now);
            }
        }
        self.settle_checkpoint();
        self.tell_sources(io, now);
    }

    /// The last batch of a source up to which everything is accepted.
    fn accepted(&mut self, at: usize) -> u64 {
        let inlet = &mut self.sources[at];
        let (id, upto) = (inlet.id, inlet.upto());
        let accepted = self.exits.position(id, upto);
        match &mut inlet.exchange {
            Some(exchange) => accepted.min(exchange.position(id, upto)),
            None => accepted,
        }
    }

    /// Tells sources that answer for their messages how far these are safe:
    /// accepted, and in a flow with state behind a checkpoint on disk, since
    /// what the other side forgets must not be missing in the state.
    fn tell_sources(&mut self, io: &mut dyn Io, now: Now) {
        for at in 0..self.sources.len() {
            let Some(told) = self.sources[at].told else { continue };
            let safe = match &self.checkpoints {
                Some(checkpoints) => checkpoints.safe(self.control.stored()).map(|m| m[at]),
                None => Some(self.accepted(at)),
            };
            let Some(safe) = safe.filter(|safe| *safe > told) else { continue };
            let inlet = &mut self.sources[at];
            inlet.told = Some(safe);
            let (cells, dead) = (&self.cells[inlet.component], &mut self.exits.dead);
            inlet.with(io, dead, cells, now, |s, _, cx| s.accepted(safe, cx));
        }
    }

    /// Everything that came from other shards has been acknowledged to them.
    pub(crate) fn is_acknowledged(&self) -> bool {
        let mut remotes = self.remotes.iter();
        remotes.all(|remote| remote.downstream.acked() == remote.downstream.received())
    }

    /// Sends out the barriers of a checkpoint that the controller asks for.
    /// Rows that wait for room belong before them.
    pub(crate) fn begin_checkpoint(&mut self, now: Now) -> usize {
        let asked = self.control.asked();
        let Some(checkpoints) = &mut self.checkpoints else { return 0 };
        if checkpoints.is_aligning() || !checkpoints.is_wanted(asked) {
            return 0;
        }
        // Barriers of earlier versions may still wait where nothing moves.
        let mut exchanges = self.sources.iter_mut().filter_map(|s| s.exchange.as_mut());
        if !exchanges.all(Exchange::takes_barrier) {
            return 0;
        }
        self.checkpoint_wanted = self.sources.iter().any(|source| source.stuck);
        if self.checkpoint_wanted {
            return 0;
        }
        for inlet in &mut self.sources {
            if let Some(exchange) = &mut inlet.exchange {
                exchange.barrier(inlet.id, asked, now);
            }
        }
        let (positions, marks) = (self.positions(), self.marks());
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.begin(asked, positions, marks);
        }
        1
    }

    /// Saves the state once every inlet stands at its barrier.
    pub(crate) fn align_checkpoint(&mut self) -> usize {
        let Some(checkpoints) = &mut self.checkpoints else { return 0 };
        if !checkpoints.is_aligning() || !self.remotes.iter().all(|r| r.barred || r.ended) {
            return 0;
        }
        for remote in &mut self.remotes {
            remote.barred = false;
        }
        checkpoints.aligned(&mut self.chain, self.emitted);
        1
    }

    /// Hands the checkpoint over when what came before it is accepted.
    fn settle_checkpoint(&mut self) {
        let awaited = self.checkpoints.as_ref().and_then(Checkpoints::awaited);
        let Some((marks, emitted)) = awaited else { return };
        let marks = marks.to_vec();
        if self.are_accepted(&marks, emitted)
            && let Some(checkpoints) = &mut self.checkpoints
        {
            checkpoints.hand_over();
        }
    }

    /// Hands the last checkpoint over: the flow has come to its end here.
    pub(crate) fn end_checkpoints(&mut self) -> usize {
        let marks = self.marks();
        if self.checkpoints.as_ref().is_none_or(Checkpoints::is_ended)
            || !self.are_accepted(&marks, self.emitted)
        {
            return 0;
        }
        let positions = self.positions();
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.end(&mut self.chain, positions, marks);
        }
        1
    }

    fn are_accepted(&mut self, marks: &[u64], emitted: u64) -> bool {
        self.exits.position(self.timers, self.emitted) >= emitted
            && marks.iter().enumerate().all(|(at, mark)| self.accepted(at) >= *mark)
    }

    fn marks(&self) -> Vec<u64> {
        self.sources.iter().map(|source| source.number).collect()
    }

    fn positions(&self) -> Vec<(String, Vec<u8>)> {
        let name = |component: usize| self.control.components[component].clone();
        let position =
            |s: &crate::inlet::SourceInlet| Some((name(s.component), s.source.position()?));
        self.sources.iter().filter_map(position).collect()
    }
}
