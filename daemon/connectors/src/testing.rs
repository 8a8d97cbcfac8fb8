//! What unit tests of connectors need: a poll(2) driver and a memory of what
//! was refused.

use ringmain_base::{Now, Reason};
use ringmain_runtime::{PollIo, Waker};
use ringmain_slab::RowRef;

use crate::{Cx, Refusals};

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Refusals for Vec<Refused> {
    fn bytes(&mut self, reason: Reason, detail: &str, _: &str, offset: u64, bytes: &[u8]) {
        self.push(Refused { reason, detail: detail.into(), offset, bytes: bytes.into() });
    }

    fn row(&mut self, reason: Reason, detail: &str, row: RowRef<'_>) {
        let bytes = format!("{row:?}").into_bytes();
        self.push(Refused { reason, detail: detail.into(), offset: 0, bytes });
    }
}

pub(crate) struct Bench {
    pub(crate) io: PollIo,
    pub(crate) refused: Vec<Refused>,
    pub(crate) bytes: u64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let waker = Waker::new().expect("an eventfd is to be had");
        Self { io: PollIo::new(waker), refused: Vec::new(), bytes: 0 }
    }

    pub(crate) fn cx(&mut self, now: Now) -> Cx<'_> {
        Cx { io: &mut self.io, now, owner: 0, refusals: &mut self.refused, bytes: &mut self.bytes }
    }
}
