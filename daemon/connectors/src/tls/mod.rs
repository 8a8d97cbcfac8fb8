//! TLS over byte buffers: what came from the wire goes in, plaintext comes
//! out, and back. rustls does the work, with ring as its cryptography, which
//! needs no more than a C compiler to build.
//!
//! A [`Session`] is the state of one connection. It does no I/O and reads no
//! clock but the system's date, which certificates are judged by: whoever owns
//! the connection sends what [`Session::output`] and [`Session::send`] append,
//! in that order, and sets the deadline of the handshake
//! ([`HANDSHAKE_US`]).
//!
//! Bounds: a session keeps at most the part of one record that has come
//! ([`SESSION_BYTES`] with its own state); a call to [`Session::receive`] yields
//! at most one record (16 KiB) more plaintext than it was given bytes.
//!
//! Deliberately absent: renegotiation, TLS below 1.2, early data, and any
//! certificate authority of our own.

mod inbound;
mod material;
mod outbound;
mod words;

pub(crate) use inbound::Inbound;
pub(crate) use outbound::Outbound;

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use ringmain_config::plan::{ClientTls, ServerTls};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, ProtocolVersion, ServerConfig, ServerConnection,
};

use crate::ConnectorError;

/// How long a handshake may take.
pub(crate) const HANDSHAKE_US: u64 = 10_000_000;
/// What a session may take: a partial record and its keys.
pub(crate) const SESSION_BYTES: u64 = 24 << 10;

/// Why a connection cannot be trusted or understood: what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// What a component that connects begins its sessions with.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// Reads the files that the plan names. `host` is whom the address names,
    /// `alpn` the protocols that this side speaks (none: it does not say).
    pub(crate) fn new(plan: &ClientTls, host: &str, alpn: &[&str]) -> Result<Self, ConnectorError> {
        let name = plan.server_name.as_ref().map_or(host, |name| name.value.as_str());
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            let message = format!(
                "'{name}' is neither a host name nor an IP address; set 'server_name' to the name \
                 in the other side's certificate"
            );
            ConnectorError::setup("tls", message)
        })?;
        let mut config = material::client(plan)?;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self { config: Arc::new(config), name })
    }

    /// For whoever has streams of their own.
    pub(crate) fn into_parts(self) -> (Arc<ClientConfig>, ServerName<'static>) {
        (self.config, self.name)
    }

    /// A new connection; its first output is the hello.
    pub(crate) fn session(&self) -> Result<Session, TlsError> {
        let connection = ClientConnection::new(self.config.clone(), self.name.clone())
            .map_err(|error| words::explain(&error))?;
        Ok(Session::new(connection.into()))
    }
}

/// What a component that listens begins its sessions with.
pub(crate) struct Server {
    config: Arc<ServerConfig>,
}

impl Server {
    /// Reads the files that the plan names.
    pub(crate) fn new(plan: &ServerTls, alpn: &[&str]) -> Result<Self, ConnectorError> {
        let mut config = material::server(plan)?;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self { config: Arc::new(config) })
    }

    /// A connection that was accepted.
    pub(crate) fn session(&self) -> Result<Session, TlsError> {
        let connection =
            ServerConnection::new(self.config.clone()).map_err(|error| words::explain(&error))?;
        Ok(Session::new(connection.into()))
    }
}

/// One connection's state.
pub(crate) struct Session {
    connection: Connection,
    peer_closed: bool,
    failed: bool,
}

impl Session {
    fn new(mut connection: Connection) -> Self {
        // Nothing stays in it: every send is followed by taking it all out.
        connection.set_buffer_limit(None);
        Self { connection, peer_closed: false, failed: false }
    }

    /// Bytes from the wire; what they decrypt to is appended to `plain`.
    /// There may be output after it, also after an error: an alert, which is
    /// worth a try.
    pub(crate) fn receive(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> Result<(), TlsError> {
        while !wire.is_empty() && !self.peer_closed && !self.failed {
            let read = self.connection.read_tls(&mut wire);
            debug_assert!(read.is_ok(), "plaintext is taken out each time");
            let state = self.connection.process_new_packets().map_err(|error| {
                self.failed = true;
                words::explain(&error)
            })?;
            self.peer_closed = state.peer_has_closed();
            self.take(state.plaintext_bytes_to_read(), plain);
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize, plain: &mut Vec<u8>) {
        let start = plain.len();
        plain.resize(start + bytes, 0);
        let read = self.connection.reader().read_exact(&mut plain[start..]);
        debug_assert!(read.is_ok(), "so many bytes were announced");
    }

    /// Appends what the protocol itself has to send: parts of the handshake,
    /// answers, alerts. To be called after everything else here.
    pub(crate) fn output(&mut self, wire: &mut Vec<u8>) {
        while self.connection.wants_write() {
            // Writing to a vector cannot fail.
            if self.connection.write_tls(wire).is_err() {
                return;
            }
        }
    }

    /// Appends `plain`, encrypted. Only when [`Session::is_ready`].
    pub(crate) fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        debug_assert!(self.is_ready(), "before the handshake nothing is sent");
        wire.reserve(plain.len() + plain.len() / 64 + 64);
        let written = self.connection.writer().write_all(plain);
        debug_assert!(written.is_ok(), "there is no limit");
        self.output(wire);
    }

    /// Appends the notice that nothing more comes.
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.output(wire);
    }

    /// Both sides know whom they talk to, and data may be sent.
    pub(crate) fn is_ready(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// After its handshake the peer refuses nobody any more.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_ready() && self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_2)
    }

    /// The peer has said that nothing more comes. An end of the connection
    /// without it may be anybody's doing.
    pub(crate) fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }
}

/// What a TLS connection to `address` (`host:port`) is begun with, by somebody
/// who has a stream of their own: the settings, and whom the certificate must
/// name.
///
/// # Errors
/// A file that cannot be read, or does not hold what it should.
pub fn tls_client(
    plan: &ClientTls,
    address: &str,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), ConnectorError> {
    Client::new(plan, host_of(address), &[]).map(Client::into_parts)
}

/// What went wrong with such a connection, and what to do.
#[must_use]
pub fn tls_words(error: &rustls::Error) -> String {
    words::explain(error).to_string()
}

/// The host of `host:port`, without the brackets of an IPv6 address.
pub(crate) fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests;
