//! The sink that connects to a TCP server. Bounds: those of [`crate::link`].

use ringmain_config::plan::{ClientTls, RetryPlan, SinkPlan};
use ringmain_runtime::io::{Io, OpId};
use ringmain_slab::SharedSchema;

use crate::encode::Encoding;
use crate::link::{Dial, Link, TLS_TAG, WRITE_TAG};
use crate::outflow::Outflow;
use crate::resolve::Resolver;
use crate::tls::{Client, Outbound, host_of};
use crate::{ConnectorError, Placement, Sink};

struct Server {
    resolver: Resolver,
}

impl Dial for Server {
    const KEY: &'static str = "address";

    fn open(&mut self) -> Result<(), ConnectorError> {
        self.resolver.open()
    }

    fn dial(&mut self, io: &mut dyn Io, op: OpId) -> bool {
        let address = self.resolver.next();
        address.is_some_and(|address| {
            io.connect(address, op);
            true
        })
    }

    fn works(&mut self) {
        self.resolver.works();
    }

    fn name(&self) -> &str {
        self.resolver.text()
    }
}

/// How the plan wants the connection.
pub(crate) struct Connection<'a> {
    pub(crate) address: &'a str,
    pub(crate) timeout_us: u64,
    pub(crate) retry: &'a RetryPlan,
    pub(crate) tls: Option<&'a ClientTls>,
    pub(crate) ack_timeout_us: Option<u64>,
}

pub(crate) fn sink(
    plan: &SinkPlan,
    to: &Connection<'_>,
    schema: &SharedSchema,
    place: &Placement,
) -> Result<Box<dyn Sink>, ConnectorError> {
    let server = Server { resolver: Resolver::new(to.address) };
    let out = Outflow::new(Encoding::new(plan, schema), plan.buffer_bytes, WRITE_TAG);
    let client = to.tls.map(|tls| Client::new(tls, host_of(to.address), &[])).transpose()?;
    let tls = client.map(|client| Outbound::new(client, TLS_TAG));
    let link = Link::new(server, out, to.timeout_us, to.retry, seed(to.address, place));
    Ok(Box::new(link.with_tls(tls).with_acks(to.ack_timeout_us)))
}

/// Sinks of different daemons and shards must not wait alike.
fn seed(address: &str, place: &Placement) -> u64 {
    let hash = address.bytes().fold(0_u64, |hash, byte| hash.rotate_left(9) ^ u64::from(byte));
    hash ^ (u64::from(std::process::id()) << 20) ^ u64::from(place.shard)
}
