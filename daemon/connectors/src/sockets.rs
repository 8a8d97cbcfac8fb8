//! Binding internet sockets, and what is said when it fails.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use ringmain_config::plan::Listen;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{ConnectorError, Placement};

/// A socket bound to the address; twins on other shards bind it too
/// (`SO_REUSEPORT`), and the kernel divides among them what comes.
pub(crate) fn bind(
    listen: &Listen,
    kind: Type,
    place: &Placement,
) -> Result<Socket, ConnectorError> {
    let name = match kind {
        Type::STREAM => "tcp",
        _ => "udp",
    };
    let shared = place.shards > 1;
    let made = if shared {
        // Other processes of this user could share the port in the same way,
        // and take part of what comes: so the first twin looks whether
        // anybody is there.
        let claim = format!("{name}://{}", listen.addr);
        place
            .claims
            .first(Path::new(&claim), || socket(listen.addr, kind, false).map(drop))
            .and_then(|()| socket(listen.addr, kind, true))
    } else {
        socket(listen.addr, kind, false)
    };
    made.map_err(|error| ConnectorError::setup("listen", explain(listen, &error)))
}

fn socket(addr: SocketAddr, kind: Type, shared: bool) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if kind == Type::STREAM {
        // A port whose last connections are in TIME_WAIT is free.
        socket.set_reuse_address(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn explain(listen: &Listen, error: &io::Error) -> String {
    let help = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; stop it or choose another port",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one"
        }
        _ => "choose another address",
    };
    format!("cannot listen at '{}': {error}; {help}", listen.text.value)
}
