//! The sink that sends UDP datagrams. Bounds: those of
//! [`crate::datagram_sink`].

use std::io;
use std::os::fd::OwnedFd;

use ringmain_config::plan::{RetryPlan, SinkPlan};
use ringmain_slab::SharedSchema;
use socket2::{Domain, Protocol, Socket, Type};

use crate::datagram_sink::{Aim, DatagramSink};
use crate::encode::Encoding;
use crate::resolve::Resolver;
use crate::{ConnectorError, Placement, Sink};

/// What fits an IPv4 packet.
const BYTES_MAX: usize = 65_507;
/// A burst waits here while the network is slower.
const SEND_BUFFER_BYTES: usize = 4 << 20;
const RETRY: RetryPlan = RetryPlan::new(100_000, 5_000_000);

struct Remote {
    resolver: Resolver,
}

impl Aim for Remote {
    fn open(&mut self) -> Result<(), ConnectorError> {
        self.resolver.open()
    }

    fn socket(&mut self) -> io::Result<OwnedFd> {
        let none = || io::Error::new(io::ErrorKind::NotFound, "no address is known");
        let address = self.resolver.next().ok_or_else(none)?;
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        // As much of it as the kernel grants.
        let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
        socket.connect(&address.into())?;
        Ok(socket.into())
    }

    fn name(&self) -> &str {
        self.resolver.text()
    }
}

pub(crate) fn sink(
    plan: &SinkPlan,
    address: &str,
    schema: &SharedSchema,
    place: &Placement,
) -> Box<dyn Sink> {
    let remote = Remote { resolver: Resolver::new(address) };
    let encoding = Encoding::new(plan, schema);
    let seed = u64::from(place.shard);
    Box::new(DatagramSink::new(remote, encoding, plan.buffer_bytes, BYTES_MAX, &RETRY, seed))
}
