//! What a descriptor is, who is on its other end, and addresses.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockRef, Socket, Type};

use crate::io::Peer;

/// What may be done with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A stream socket, connected or listening.
    Stream,
    /// A datagram socket; `gso` while the kernel takes several datagrams of
    /// equal length in one go.
    Datagram { gso: bool },
    /// A regular file or a block device: always ready, has offsets.
    File,
    /// A pipe, terminal or other character device.
    Pipe,
}

impl Kind {
    pub(crate) fn is_socket(self) -> bool {
        matches!(self, Self::Stream | Self::Datagram { .. })
    }
}

pub(crate) fn kind(fd: BorrowedFd<'_>) -> io::Result<Kind> {
    // SAFETY: all zeroes is a valid stat, which is plain numbers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is borrowed, stat is writable.
    super::check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) } as libc::ssize_t)?;
    Ok(match stat.st_mode & libc::S_IFMT {
        libc::S_IFSOCK => {
            let socket = SockRef::from(&fd);
            if socket.r#type()? == Type::STREAM {
                Kind::Stream
            } else {
                Kind::Datagram { gso: socket.protocol()? == Some(Protocol::UDP) }
            }
        }
        libc::S_IFREG | libc::S_IFBLK => Kind::File,
        _ => Kind::Pipe,
    })
}

/// Who is connected.
pub(crate) fn peer(fd: BorrowedFd<'_>) -> Peer {
    let address = SockRef::from(&fd).peer_addr().ok();
    address.and_then(|a| a.as_socket()).map_or(Peer::Local, Peer::Ip)
}

/// Small writes leave at once: connectors batch, the kernel need not.
pub(crate) fn set_nodelay(fd: BorrowedFd<'_>) {
    // A unix socket refuses it, and does not need it.
    let _ = SockRef::from(&fd).set_tcp_nodelay(true);
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&fd).set_nonblocking(true)
}

/// A stream socket for this address, not yet connected.
pub(crate) fn stream_socket(address: &SockAddr) -> io::Result<OwnedFd> {
    let domain = Domain::from(i32::from(address.family()));
    let socket: OwnedFd = Socket::new(domain, Type::STREAM, None)?.into();
    set_nodelay(socket.as_fd());
    Ok(socket)
}

/// The error that a connection attempt ended with, if it did.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    SockRef::from(&fd).take_error()
}

/// An address as the kernel writes it, cut to what fits.
pub(crate) fn parse_address(bytes: &[u8]) -> Peer {
    let mut storage = SockAddrStorage::zeroed();
    let len = bytes.len().min(size_of::<SockAddrStorage>());
    // SAFETY: the storage is plain bytes to the kernel, `len` fits both sides.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut storage).cast::<u8>(), len);
    }
    if len < size_of::<libc::sockaddr_in>() {
        return Peer::Local;
    }
    // SAFETY: `len` bytes of the storage hold an address of the kernel's
    // making, or zeroes.
    let address = unsafe { SockAddr::new(storage, len as libc::socklen_t) };
    address.as_socket().map_or(Peer::Local, Peer::Ip)
}

pub(crate) fn internet_address(addr: SocketAddr) -> SockAddr {
    SockAddr::from(addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    #[test]
    fn kinds_are_told_apart() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(kind(tcp.as_fd()).unwrap(), Kind::Stream);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(kind(udp.as_fd()).unwrap(), Kind::Datagram { gso: true });
        let (unix, _other) = UnixDatagram::pair().unwrap();
        assert_eq!(kind(unix.as_fd()).unwrap(), Kind::Datagram { gso: false });
        let file = tempfile::tempfile().unwrap();
        assert_eq!(kind(file.as_fd()).unwrap(), Kind::File);
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(kind(reader.as_fd()).unwrap(), Kind::Pipe);
    }

    #[test]
    fn addresses_survive_the_way_through_the_kernels_form() {
        for text in ["127.0.0.1:80", "[::1]:443"] {
            let addr: SocketAddr = text.parse().unwrap();
            let raw = internet_address(addr);
            // SAFETY: the address is raw.len() bytes long.
            let bytes = unsafe {
                std::slice::from_raw_parts(raw.as_ptr().cast::<u8>(), raw.len() as usize)
            };
            assert_eq!(parse_address(bytes), Peer::Ip(addr));
        }
        assert_eq!(parse_address(&[]), Peer::Local);
    }

    #[test]
    fn a_unix_peer_is_local() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(peer(one.as_fd()), Peer::Local);
    }
}
