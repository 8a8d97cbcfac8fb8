//! A small disk of its own for a daemon, which can be full and have room again.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Daemon, Job, binary};

/// A running daemon that sees a disk of its own at `data` in the job's folder.
pub struct WithDisk {
    /// The daemon.
    pub daemon: Daemon,
    /// The disk as it is seen from outside.
    pub root: PathBuf,
}

/// Starts the daemon of a job with a disk of so many KiB, of which a file
/// `data/ballast` takes a part. `None`, with a note, where the system does not
/// let a disk be made.
#[must_use]
pub fn start_with_disk(job: &Job, kib: usize, ballast_kib: usize) -> Option<WithDisk> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]);
        command
    };
    let mut probe = unshare("mount -t tmpfs -o size=64k none /mnt");
    if !probe.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("not tested: no disk can be made here (unshare, mount)");
        return None;
    }
    let script = format!(
        "mount -t tmpfs -o size={kib}k none data && head -c {ballast_kib}k /dev/zero \
         > data/ballast && exec \"$0\" \"$@\""
    );
    let mut command = unshare(&script);
    command.arg(binary::ringmain());
    let daemon = job.start_as(job.command_of(command));
    let data = job.path("data");
    let inside = data.strip_prefix("/").unwrap_or(&data);
    let root = PathBuf::from(format!("/proc/{}/root", daemon.pid())).join(inside);
    Some(WithDisk { daemon, root })
}
