//! Signals, each case in a process of its own: a mask is for ever.

use std::process::Command;
use std::time::Duration;

use ringmain_runtime::signals::{self, Signal};

#[test]
fn the_first_signal_drains_the_second_quits_and_hangup_reloads() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{text} {}", String::from_utf8_lossy(&child.stderr));
    assert!(text.contains("all seen"), "{text}");
}

#[test]
#[ignore = "run by the other test in a process of its own"]
fn the_child() {
    let mut signals = signals::watch().unwrap();
    assert_eq!(signals.pending(), None);
    for (number, signal) in [
        (libc::SIGHUP, Signal::Reload),
        (libc::SIGTERM, Signal::Drain),
        (libc::SIGHUP, Signal::Reload),
        (libc::SIGINT, Signal::Quit),
        (libc::SIGTERM, Signal::Quit),
    ] {
        // SAFETY: raises a signal that this thread has blocked.
        assert_eq!(unsafe { libc::raise(number) }, 0);
        assert_eq!(signals.wait(Duration::from_secs(10)), Some(signal));
    }
    println!("all seen");
}
