//! The twin of a source that cannot be divided: it ends at once.

use ringmain_runtime::io::EventKind;
use ringmain_slab::Slab;

use crate::{ConnectorError, Cx, Pull, Source};

pub(crate) struct Silent;

impl Source for Silent {
    fn open(&mut self, _: &mut Cx<'_>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn on_event(&mut self, _: u32, _: EventKind, _: &mut Cx<'_>) {}

    fn poll(&mut self, _: &mut Slab, _: &mut Cx<'_>) -> Pull {
        Pull::Ended
    }

    fn stop(&mut self, _: &mut Cx<'_>) {}
}
