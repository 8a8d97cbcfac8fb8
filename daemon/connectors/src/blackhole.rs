//! The sink that accepts everything at once: for trials and the bench.
//!
//! Bound: none needed; it keeps nothing.

use ringmain_runtime::io::EventKind;
use ringmain_slab::Slab;

use crate::{ConnectorError, Cx, Sink};

/// Counts and forgets.
#[derive(Debug, Default)]
pub(crate) struct Blackhole {
    slabs: u64,
}

impl Sink for Blackhole {
    fn open(&mut self, _: &mut Cx<'_>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn on_event(&mut self, _: u32, _: EventKind, _: &mut Cx<'_>) {}

    fn push(&mut self, slab: &Slab, from: usize, _: &mut Cx<'_>) -> usize {
        slab.len().saturating_sub(from)
    }

    fn slab_end(&mut self) {
        self.slabs += 1;
    }

    fn finished(&self) -> u64 {
        self.slabs
    }

    fn poll(&mut self, _: &mut Cx<'_>) {}

    fn flush(&mut self, _: bool, _: &mut Cx<'_>) {}

    fn is_idle(&self) -> bool {
        true
    }
}
