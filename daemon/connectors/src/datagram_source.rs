//! A source of datagrams, whatever the family of address. Bounds: those of
//! [`crate::packets`].

use std::os::fd::OwnedFd;

use ringmain_runtime::io::EventKind;
use ringmain_slab::Slab;

use crate::packets::Packets;
use crate::served::Bind;
use crate::{ConnectorError, Cx, Health, Pull, Source};

pub(crate) struct Datagrams<B> {
    bind: B,
    packets: Packets,
}

impl<B: Bind> Datagrams<B> {
    pub(crate) fn new(bind: B, packets: Packets) -> Self {
        Self { bind, packets }
    }
}

impl<B: Bind> Source for Datagrams<B> {
    fn open(&mut self, cx: &mut Cx<'_>) -> Result<(), ConnectorError> {
        let socket: OwnedFd = self.bind.bind()?;
        self.packets.start(socket, B::KEY, cx)
    }

    fn on_event(&mut self, _: u32, event: EventKind, cx: &mut Cx<'_>) {
        self.packets.on_event(event, cx);
    }

    fn poll(&mut self, slab: &mut Slab, cx: &mut Cx<'_>) -> Pull {
        self.packets.poll(slab, cx)
    }

    fn wake_at_us(&self) -> Option<u64> {
        self.packets.wake_at_us()
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        self.packets.stop(cx);
        self.bind.unbind();
    }

    fn health(&self) -> Health {
        self.packets.trouble().map_or(Health::Good, Health::Retrying)
    }
}
