//! The sink that connects to a socket in the file system. Bounds: those of
//! [`crate::link`] or [`crate::datagram_sink`].

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use ringmain_config::plan::{RetryPlan, SinkPlan, UnixMode};
use ringmain_runtime::io::{Io, OpId};
use ringmain_slab::SharedSchema;
use socket2::SockAddr;

use crate::datagram_sink::{Aim, DatagramSink};
use crate::encode::Encoding;
use crate::link::{Dial, Link, WRITE_TAG};
use crate::outflow::Outflow;
use crate::{ConnectorError, Placement, Sink};

/// Longer ones do not fit the usual send buffer of a socket (208 KiB).
const DATAGRAM_BYTES_MAX: usize = 128 << 10;
/// Connecting to a socket of this machine waits for its queue only.
const TIMEOUT_US: u64 = 5_000_000;

struct Local {
    path: String,
}

impl Local {
    /// The path can be one of a socket; whether there is one is seen later.
    fn check(&self) -> Result<(), ConnectorError> {
        SockAddr::unix(&self.path).map(drop).map_err(|error| {
            let message = format!("'{}' cannot be a socket: {error}", self.path);
            ConnectorError::setup("path", message)
        })
    }
}

impl Dial for Local {
    const KEY: &'static str = "path";

    fn open(&mut self) -> Result<(), ConnectorError> {
        self.check()
    }

    fn dial(&mut self, io: &mut dyn Io, op: OpId) -> bool {
        io.connect_unix(self.path.as_ref(), op);
        true
    }

    fn name(&self) -> &str {
        &self.path
    }
}

impl Aim for Local {
    fn open(&mut self) -> Result<(), ConnectorError> {
        self.check()
    }

    fn socket(&mut self) -> io::Result<OwnedFd> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        Ok(socket.into())
    }

    fn name(&self) -> &str {
        &self.path
    }
}

pub(crate) fn sink(
    plan: &SinkPlan,
    path: &str,
    mode: UnixMode,
    retry: &RetryPlan,
    schema: &SharedSchema,
    place: &Placement,
) -> Box<dyn Sink> {
    let local = Local { path: path.to_owned() };
    let encoding = Encoding::new(plan, schema);
    let (seed, bytes) = (u64::from(place.shard), plan.buffer_bytes);
    match mode {
        UnixMode::Stream => {
            let out = Outflow::new(encoding, bytes, WRITE_TAG);
            Box::new(Link::new(local, out, TIMEOUT_US, retry, seed))
        }
        UnixMode::Datagram => {
            Box::new(DatagramSink::new(local, encoding, bytes, DATAGRAM_BYTES_MAX, retry, seed))
        }
    }
}
