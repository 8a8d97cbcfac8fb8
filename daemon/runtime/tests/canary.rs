//! Does the executor still go to sleep with a task runnable?
//!
//! It does when it was preempted before it ran anything, which is why
//! preemption is off in our use of it. This canary runs it with preemption at
//! the microsecond, in a child process, and prints whether it hung. It never
//! fails: either answer is news, not a fault of ours. When it prints "did not
//! hang" after an upgrade, the workaround may go (see src/shard/executor.rs).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};

const CHILD: &str = "RINGMAIN_TEST_CANARY";
const ROUNDS: usize = 5_000;
const TIME_LIMIT: Duration = Duration::from_secs(4);

#[test]
fn the_executor_with_preemption_hangs_or_does_not() {
    if let Err(refusal) = ringmain_runtime::probe::io_uring() {
        println!("canary: not asked ({refusal})");
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--ignored"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + TIME_LIMIT;
    let ended = loop {
        match child.try_wait().unwrap() {
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            ended => break ended,
        }
    };
    if ended.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    match ended {
        Some(status) if status.success() => println!("canary: the executor did not hang"),
        Some(status) => println!("canary: the executor ended with {status}"),
        None => println!("canary: the executor hung, as it does; preemption stays off"),
    }
}

#[test]
#[ignore = "run by the other test in a process of its own"]
fn the_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(Duration::from_micros(1))
        .io_memory(64 << 10)
        .make()
        .unwrap();
    for _ in 0..ROUNDS {
        executor.run(async {});
    }
}
