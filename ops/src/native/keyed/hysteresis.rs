//! Messages that meet a condition, once until another condition releases it.

use ringmain_slab::Slab;
use rkyv::{Archive, Deserialize, Serialize};

use super::condition::{Answer, Condition};
use super::saved::{self, Known, Saved, Store};
use crate::{Context, Operator, Tally};

/// What is kept of a key.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// A message has passed, and nothing has released the next one.
    suppressed: bool,
}

pub(crate) struct Hysteresis {
    store: Store<State>,
    emit_when: Condition,
    /// Without it every match passes.
    release_when: Option<Condition>,
    emits: Vec<Answer>,
    releases: Vec<Answer>,
}

impl Hysteresis {
    pub(crate) fn new(
        store: Store<State>,
        emit_when: Condition,
        release_when: Option<Condition>,
    ) -> Self {
        Self { store, emit_when, release_when, emits: Vec::new(), releases: Vec::new() }
    }
}

/// Takes out the rows that were refused, so that nothing refuses them again.
fn take_out(slab: &mut Slab, answers: &mut Vec<Answer>) -> bool {
    let any = answers.contains(&Answer::Refused);
    if any {
        let mut each = answers.iter();
        slab.retain(|_| each.next() != Some(&Answer::Refused));
        answers.retain(|answer| *answer != Answer::Refused);
    }
    any
}

impl Operator for Hysteresis {
    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        self.store.begin(cx.now, slab);
        self.emit_when.ask(slab, cx, &mut self.emits);
        take_out(slab, &mut self.emits);
        let Some(release_when) = &mut self.release_when else {
            let mut emits = self.emits.iter();
            slab.retain(|_| emits.next() == Some(&Answer::Yes));
            return;
        };
        release_when.ask(slab, cx, &mut self.releases);
        if self.releases.contains(&Answer::Refused) {
            let mut releases = self.releases.iter();
            self.emits.retain(|_| releases.next() != Some(&Answer::Refused));
            take_out(slab, &mut self.releases);
        }
        let mut answers = self.emits.iter().zip(&self.releases);
        let (store, refuse) = (&mut self.store, &mut *cx.refuse);
        slab.retain(|row| {
            let Some((emit, release)) = answers.next() else { return false };
            let (emit, release) = (*emit == Answer::Yes, *release == Answer::Yes);
            let Some(Known { state, .. }) = store.of(row, refuse) else { return false };
            if release {
                state.suppressed = false;
            }
            let passes = emit && !state.suppressed;
            state.suppressed |= passes;
            passes
        });
    }

    fn state_format(&self) -> Option<&'static str> {
        self.release_when.is_some().then_some("hysteresis/1")
    }

    fn save(&mut self, partition: u16, into: &mut Vec<u8>) -> Result<(), String> {
        let saved = self.store.take(partition, |state| *state);
        saved.map_or(Ok(()), |saved| saved::write(&saved, into))
    }

    fn restore(&mut self, partition: u16, bytes: &[u8]) -> Result<(), String> {
        let saved: Saved<State> = saved::read(bytes)?;
        self.store.give(partition, saved, Some)
    }

    fn tally(&self) -> Option<Tally> {
        Some(self.store.tables.tally())
    }
}
