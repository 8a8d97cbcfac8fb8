//! Whether io_uring is to be had, and what to change where it is not.
//!
//! Tries what the driver does, with a small ring: the same flags, an enter, a
//! ring of buffers, the operations. A refusal is one line for the person who
//! can change it.

use std::fmt;
use std::io;

use io_uring::{IoUring, opcode};

use crate::sys::area::map;

const OPERATIONS: [(u8, &str); 10] = [
    (opcode::AcceptMulti::CODE, "accept"),
    (opcode::Connect::CODE, "connect"),
    (opcode::RecvMulti::CODE, "recv"),
    (opcode::RecvMsgMulti::CODE, "recvmsg"),
    (opcode::Send::CODE, "send"),
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Fsync::CODE, "fsync"),
    (opcode::PollAdd::CODE, "poll"),
    (opcode::AsyncCancel::CODE, "cancel"),
];
const KERNEL_NEEDED: &str = "Linux 6.1 or later is needed";
/// Spelled out once: three system calls, by name, for whoever edits a profile.
const SECCOMP: &str = "docker run --security-opt seccomp=PROFILE.json, a profile that allows \
                       io_uring_setup, io_uring_enter and io_uring_register";

/// What the kernel's io_uring can do beyond what is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// A wait can gather completions for a while (Linux 6.12).
    pub gathers: bool,
    /// The kernel's release.
    pub kernel: String,
}

/// Why io_uring cannot be used, in one line that says what to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the kernel answered, where it was an error of a system call.
    pub errno: Option<i32>,
    reason: String,
}

impl Refusal {
    fn too_old(what: &str) -> Self {
        let kernel = kernel_release();
        let reason =
            format!("io_uring of kernel {kernel} lacks {what} ({KERNEL_NEEDED}; using poll)");
        Self { errno: None, reason }
    }

    /// Reads the answer of a system call of io_uring.
    pub(crate) fn of_setup(error: &io::Error) -> Self {
        let errno = error.raw_os_error();
        let reason = match errno {
            Some(libc::ENOSYS) => format!(
                "io_uring is not there: the kernel is too old or built without it \
                 ({KERNEL_NEEDED}), or seccomp hides it (in a container: {SECCOMP})"
            ),
            Some(libc::EPERM | libc::EACCES) => format!(
                "io_uring is not permitted: by seccomp (in a container: {SECCOMP}) or by the \
                 host (sysctl kernel.io_uring_disabled=0)"
            ),
            Some(libc::ENOMEM) => "io_uring is short of lockable memory (systemd: \
                 LimitMEMLOCK=infinity; container: docker run --ulimit memlock=-1; shell: \
                 ulimit -l unlimited)"
                .to_owned(),
            Some(libc::EINVAL) => {
                format!("io_uring of kernel {} is too old: {KERNEL_NEEDED}", kernel_release())
            }
            Some(libc::EMFILE | libc::ENFILE) => {
                "io_uring is short of descriptors (systemd: LimitNOFILE=; shell: ulimit -n)"
                    .to_owned()
            }
            _ => format!("io_uring cannot be set up: {error} ({KERNEL_NEEDED})"),
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

/// Tries io_uring out.
///
/// # Errors
/// When the driver could not run here; the text says what to change.
pub fn io_uring() -> Result<Features, Refusal> {
    let refused = |error: io::Error| Refusal::of_setup(&error);
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(4)
        .map_err(refused)?;
    let params = ring.params();
    if !params.is_feature_ext_arg() || !params.is_feature_nodrop() {
        return Err(Refusal::too_old("waiting with a time limit"));
    }
    let gathers = params.is_feature_min_timeout();
    let mut operations = io_uring::Probe::new();
    ring.submitter().register_probe(&mut operations).map_err(refused)?;
    if let Some((_, name)) = OPERATIONS.iter().find(|(code, _)| !operations.is_supported(*code)) {
        return Err(Refusal::too_old(&format!("the operation {name}")));
    }
    try_enter(&mut ring).map_err(refused)?;
    try_buffers(&ring)?;
    Ok(Features { gathers, kernel: kernel_release() })
}

fn try_enter(ring: &mut IoUring) -> io::Result<()> {
    // SAFETY: the entry points to nothing.
    let pushed = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
    debug_assert!(pushed.is_ok(), "a new ring has room");
    ring.submit_and_wait(1).map(drop)
}

fn try_buffers(ring: &IoUring) -> Result<(), Refusal> {
    let entries = map(4096).map_err(|error| Refusal::of_setup(&error))?;
    let submitter = ring.submitter();
    // SAFETY: one page is mapped, which holds the two entries.
    let registered =
        unsafe { submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, 2, 0, 0) };
    let unregistered = registered.and_then(|()| submitter.unregister_buf_ring(0));
    // SAFETY: mapped above; the kernel has been told that it is gone.
    unsafe { libc::munmap(entries.as_ptr().cast(), 4096) };
    unregistered.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => Refusal::too_old("rings of buffers"),
        _ => Refusal::of_setup(&error),
    })
}

fn kernel_release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(|_| "of unknown release".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_one_line_that_says_what_to_set() {
        for (errno, advice) in [
            (libc::ENOSYS, "seccomp"),
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::ENOMEM, "LimitMEMLOCK"),
            (libc::EINVAL, "Linux 6.1"),
            (libc::EMFILE, "LimitNOFILE"),
            (libc::EIO, "Linux 6.1"),
        ] {
            let refusal = Refusal::of_setup(&io::Error::from_raw_os_error(errno));
            assert_eq!(refusal.errno, Some(errno));
            let text = refusal.to_string();
            assert!(text.contains(advice) && !text.contains('\n'), "{text}");
            assert!(!text.contains("  "), "{text}");
        }
    }

    #[test]
    fn the_probe_answers_one_way_or_the_other() {
        match io_uring() {
            Ok(features) => assert!(features.kernel.contains('.')),
            Err(refusal) => assert!(!refusal.to_string().is_empty()),
        }
    }
}
