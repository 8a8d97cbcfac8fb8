//! One message per key and interval.

use ringmain_slab::Slab;
use rkyv::{Archive, Deserialize, Serialize};

use super::saved::{self, Known, Saved, Store};
use super::time::EventTime;
use crate::{Context, Operator, Tally};

/// What is kept of a key.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// Time of the last message that passed.
    passed_us: i64,
}

/// Which clock counts.
pub(crate) enum Clock {
    Server,
    Event(EventTime),
}

pub(crate) struct Sample {
    store: Store<State>,
    every_us: i64,
    clock: Clock,
}

impl Sample {
    pub(crate) fn new(store: Store<State>, every_us: i64, clock: Clock) -> Self {
        Self { store, every_us, clock }
    }
}

impl Operator for Sample {
    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        let now_us = self.store.begin(cx.now, slab);
        let (every_us, clock) = (self.every_us, &self.clock);
        let (store, refuse) = (&mut self.store, &mut *cx.refuse);
        slab.retain(|row| {
            let time_us = match clock {
                Clock::Server => now_us,
                Clock::Event(time) => match time.of(row) {
                    Ok(us) => us,
                    Err(why) => {
                        refuse.refuse(row, ringmain_base::Reason::Field, &why);
                        return false;
                    }
                },
            };
            let Some(Known { state, fresh, .. }) = store.of(row, refuse) else { return false };
            // A clock that was set back by more than the interval begins anew.
            let passes = fresh || time_us.abs_diff(state.passed_us) >= every_us.unsigned_abs();
            if passes {
                state.passed_us = time_us;
            }
            passes
        });
    }

    fn state_format(&self) -> Option<&'static str> {
        Some("sample/1")
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
