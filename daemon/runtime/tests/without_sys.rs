//! A shard keeps to its core also where no `/sys` is mounted, as in a bare
//! container or chroot.
//!
//! Runs in a child process of its own mounts: this very program.

use std::process::Command;

use ringmain_base::{Now, SystemClock};
use ringmain_runtime::{Io, LaunchOptions, Next, Turn, Waker, cores, launch};

const CHILD: &str = "RINGMAIN_TEST_WITHOUT_SYS";

struct Once;

impl Turn for Once {
    fn turn(&mut self, _: &mut dyn Io, _: Now) -> Next {
        Next::Stop
    }

    fn prepare_park(&mut self) -> bool {
        false
    }

    fn unpark(&mut self) {}
}

#[test]
fn where_sys_is_not_mounted_a_shard_keeps_to_its_core() {
    let me = std::env::current_exe().unwrap();
    let hide = "mount -t tmpfs none /sys && exec \"$0\" --exact the_child --ignored --nocapture";
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", hide])
        .arg(me)
        .env(CHILD, "1")
        .output();
    let Ok(child) = child else { return eprintln!("without unshare (util-linux)") };
    let text = String::from_utf8_lossy(&child.stdout).into_owned()
        + &String::from_utf8_lossy(&child.stderr);
    if !text.contains("running 1 test") {
        return eprintln!("namespaces of one's own are not permitted here: {text}");
    }
    assert!(child.status.success(), "{text}");
    assert!(text.contains("on its core"), "{text}");
}

#[test]
#[ignore = "run by the other test in a process of its own"]
fn the_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let core = cores::available()[0];
    let mut options = LaunchOptions::new("pinned", Waker::new().unwrap(), SystemClock::new());
    options.core = Some(core);
    let shard = launch(options, |_, _| Box::new(Once)).unwrap();
    assert_eq!(shard.place().core, Some(core));
    shard.join().unwrap();
    println!("\non its core");
}
