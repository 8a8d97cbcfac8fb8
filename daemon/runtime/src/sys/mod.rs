//! What both real drivers need of the operating system. Everything here is a
//! thin and safe face on one system call or on one structure of the kernel.

pub(crate) mod area;
pub(crate) mod datagrams;
pub(crate) mod sockets;

use std::io;

/// Turns the result of a system call into an error where it is one.
pub(crate) fn check(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The error that every cancelled operation ends with.
pub(crate) fn cancelled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}

/// The error of an operation on a handle that is closed or never was.
pub(crate) fn bad_handle() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}
