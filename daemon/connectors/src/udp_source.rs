//! The source of UDP datagrams.
//!
//! With `gro` the kernel joins datagrams of one sender, which is what makes
//! many small ones cheap. Bounds: those of [`crate::packets`].

use std::os::fd::OwnedFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, UdpGroSegment};
use ringmain_config::plan::{Listen, SourcePlan};
use ringmain_slab::SharedSchema;
use socket2::Type;

use crate::datagram_source::Datagrams;
use crate::decode::Decoding;
use crate::packets::Packets;
use crate::served::Bind;
use crate::{ConnectorError, Placement, Source, sockets};

struct Listening {
    listen: Listen,
    receive_buffer_bytes: Option<u64>,
    gro: bool,
    place: Placement,
}

impl Bind for Listening {
    const KEY: &'static str = "listen";

    fn bind(&mut self) -> Result<OwnedFd, ConnectorError> {
        let socket = sockets::bind(&self.listen, Type::DGRAM, &self.place)?;
        if let Some(bytes) = self.receive_buffer_bytes {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            // Beyond net.core.rmem_max only with CAP_NET_ADMIN; without it the
            // kernel silently grants less.
            if setsockopt(&socket, RcvBufForce, &bytes).is_err() {
                socket.set_recv_buffer_size(bytes).map_err(|error| {
                    ConnectorError::io("receive_buffer", &format!("{bytes} B"), &error)
                })?;
            }
            // What is reported is twice what was granted.
            let granted = socket.recv_buffer_size().unwrap_or(bytes) / 2;
            if granted < bytes {
                let message = format!(
                    "the kernel grants {granted} B only; set net.core.rmem_max to {bytes} \
                     (sysctl), or lower receive_buffer"
                );
                return Err(ConnectorError::setup("receive_buffer", message));
            }
        }
        if self.gro {
            // A kernel that cannot join delivers one by one.
            let _ = setsockopt(&socket, UdpGroSegment, &true);
        }
        Ok(socket.into())
    }
}

pub(crate) fn source(
    plan: &SourcePlan,
    listen: &Listen,
    receive_buffer_bytes: Option<u64>,
    gro: bool,
    schema: &SharedSchema,
    place: &Placement,
) -> Box<dyn Source> {
    let listening =
        Listening { listen: listen.clone(), receive_buffer_bytes, gro, place: place.clone() };
    Box::new(Datagrams::new(listening, Packets::new(Decoding::new(plan, schema))))
}
