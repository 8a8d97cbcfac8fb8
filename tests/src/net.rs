//! Ports that nobody uses, and connections to a daemon that is starting.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::wait::until_some;

/// Below the range out of which the kernel gives outgoing connections their
/// ports, so that none of those takes it meanwhile.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// A port that is free for TCP and UDP, and that no other test gets.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id().wrapping_mul(61) % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let port = FIRST_PORT + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = ("127.0.0.1", port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Connects as soon as somebody listens.
///
/// # Panics
/// When nobody does for a long time.
#[must_use]
pub fn connect(port: u16) -> TcpStream {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    until_some("somebody listens", || TcpStream::connect(address).ok())
}

/// A server whose sockets hold little, so that a peer which is not read from
/// notices soon.
///
/// # Panics
/// When no port can be bound.
#[must_use]
pub fn small_server() -> (TcpListener, u16) {
    const RECEIVE_BYTES: usize = 16 << 10;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    // Connections take over what their listener has.
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, RECEIVE_BYTES)
        .expect("a small buffer is allowed");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

/// Lets a socket hold little on its way out.
///
/// # Panics
/// When that is refused.
pub fn shrink_sending(stream: &TcpStream) {
    const SEND_BYTES: usize = 16 << 10;
    rustix::net::sockopt::set_socket_send_buffer_size(stream, SEND_BYTES)
        .expect("a small buffer is allowed");
}
