//! The source that listens at a socket in the file system.
//!
//! A socket that nobody listens at (its daemon was killed) is removed; one
//! that answers is an error. Only the first of several twins listens, since a
//! path cannot be shared. Bounds: those of [`crate::served`] or
//! [`crate::packets`].

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use ringmain_config::plan::{SourcePlan, UnixMode};
use ringmain_slab::SharedSchema;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::datagram_source::Datagrams;
use crate::decode::Decoding;
use crate::packets::Packets;
use crate::served::{BACKLOG, Bind, FIRST_TAG, Served};
use crate::streams::Streams;
use crate::{ConnectorError, Placement, Source, silent};

struct Listening {
    path: PathBuf,
    kind: Type,
    bound: bool,
}

impl Bind for Listening {
    const KEY: &'static str = "path";

    fn bind(&mut self) -> Result<OwnedFd, ConnectorError> {
        let socket = self.try_bind().map_err(|error| {
            let help = match error.kind() {
                io::ErrorKind::AddrInUse => "; another program listens there, or it is no socket",
                io::ErrorKind::NotFound => "; its folder must exist",
                _ => "",
            };
            let path = self.path.display();
            ConnectorError::setup(Self::KEY, format!("cannot listen at '{path}': {error}{help}"))
        })?;
        self.bound = true;
        Ok(socket.into())
    }

    fn unbind(&mut self) {
        if std::mem::take(&mut self.bound) {
            // When it is gone already, so much the better.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listening {
    fn try_bind(&self) -> io::Result<Socket> {
        let address = SockAddr::unix(&self.path)?;
        let socket = Socket::new(Domain::UNIX, self.kind, None)?;
        if let Err(error) = socket.bind(&address) {
            if error.kind() != io::ErrorKind::AddrInUse || !self.is_stale(&address)? {
                return Err(error);
            }
            std::fs::remove_file(&self.path)?;
            socket.bind(&address)?;
        }
        if self.kind == Type::STREAM {
            socket.listen(BACKLOG)?;
        }
        Ok(socket)
    }

    /// A socket that nobody listens at.
    fn is_stale(&self, address: &SockAddr) -> io::Result<bool> {
        if !std::fs::symlink_metadata(&self.path)?.file_type().is_socket() {
            return Ok(false);
        }
        let probe = Socket::new(Domain::UNIX, self.kind, None)?;
        probe.set_nonblocking(true)?;
        let answer = probe.connect(address);
        Ok(answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.unbind();
    }
}

pub(crate) fn source(
    plan: &SourcePlan,
    path: &str,
    mode: UnixMode,
    connections_max: u32,
    schema: &SharedSchema,
    place: &Placement,
) -> Box<dyn Source> {
    if place.shard > 0 {
        return Box::new(silent::Silent);
    }
    let decoding = Decoding::new(plan, schema);
    let listening = |kind| Listening { path: PathBuf::from(path), kind, bound: false };
    match mode {
        UnixMode::Stream => {
            let streams = Streams::new(decoding, FIRST_TAG);
            Box::new(Served::new(listening(Type::STREAM), streams, connections_max))
        }
        UnixMode::Datagram => {
            Box::new(Datagrams::new(listening(Type::DGRAM), Packets::new(decoding)))
        }
    }
}
