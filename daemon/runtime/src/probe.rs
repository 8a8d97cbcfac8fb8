//! Whether io_uring is to be had, and what to change where it is not.

use std::fmt;
use std::io;

/// Why io_uring cannot be used, in one line that says what to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the kernel answered, where it was an error of a system call.
    pub errno: Option<i32>,
    reason: String,
}

impl Refusal {
    pub(crate) fn new(errno: Option<i32>, reason: impl Into<String>) -> Self {
        Self { errno, reason: reason.into() }
    }

    /// Reads the answer of io_uring_setup.
    pub(crate) fn of_setup(error: &io::Error) -> Self {
        let errno = error.raw_os_error();
        let reason = match errno {
            Some(libc::ENOSYS) => {
                "the kernel does not know io_uring, or a seccomp filter hides it (Linux 6.1 or \
                 later is needed; in a container: docker run --security-opt seccomp=PROFILE with \
                 io_uring_setup, io_uring_enter and io_uring_register allowed)"
                    .to_owned()
            }
            Some(libc::EPERM | libc::EACCES) => {
                "io_uring is not permitted here (in a container: docker run --security-opt \
                 seccomp=PROFILE with io_uring_setup, io_uring_enter and io_uring_register \
                 allowed; on the host: sysctl kernel.io_uring_disabled=0)"
                    .to_owned()
            }
            Some(libc::ENOMEM) => {
                "not enough lockable memory for io_uring (systemd: LimitMEMLOCK=infinity; docker \
                 run --ulimit memlock=-1; shell: ulimit -l)"
                    .to_owned()
            }
            Some(libc::EINVAL) => {
                "the kernel is too old for this use of io_uring (Linux 6.1 or later is needed)"
                    .to_owned()
            }
            Some(libc::EMFILE | libc::ENFILE) => {
                "no descriptor is left for io_uring (raise LimitNOFILE= or ulimit -n)".to_owned()
            }
            _ => format!("io_uring cannot be set up: {error}"),
        };
        Self { errno, reason }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}
