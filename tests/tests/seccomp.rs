//! Where io_uring is refused, one line says what to set, and flows run all the
//! same.
//!
//! The daemon is started by this very program in a process of its own, which
//! first has the kernel refuse io_uring and then becomes the daemon.

use std::os::unix::process::CommandExt;
use std::process::Command;

use ringmain_tests::{Driver, Job, sensors};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// Tells the child what the refusal looks like.
const ERRNO: &str = "RINGMAIN_TEST_REFUSE_WITH";
/// io_uring_setup, io_uring_enter and io_uring_register, on every
/// architecture.
const CALLS: std::ops::RangeInclusive<i64> = 425..=427;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

#[test]
#[ignore = "run by the other tests in a process of its own"]
fn the_child() {
    let Ok(errno) = std::env::var(ERRNO) else { return };
    let rules = CALLS.map(|call| (call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno.parse().unwrap()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
    let mut args = std::env::args().skip_while(|arg| arg != "--skip").skip(1).step_by(2);
    let binary = args.next().unwrap();
    panic!("{}", Command::new(binary).args(args).exec());
}

/// The job, where io_uring is refused.
fn refused(job: &Job, errno: u32) -> Command {
    let wanted = job.command();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "the_child", "--ignored", "--nocapture"]).env(ERRNO, errno.to_string());
    // The test runner takes no other words than its own.
    child.arg("--skip").arg(wanted.get_program());
    for arg in wanted.get_args() {
        child.arg("--skip").arg(arg);
    }
    child.current_dir(wanted.get_current_dir().unwrap());
    child.stdin(std::process::Stdio::null());
    child
}

const FLOW: &str = r#"
    [sources.in]
    type = "file"
    path = "in.ndjson"
    [operators.fast]
    type = "filter"
    inputs = ["in"]
    where = "rpm > 100"
    [operators.mark]
    type = "map"
    inputs = ["fast"]
    set = { severity = "'high'" }
    [sinks.out]
    type = "file"
    inputs = ["mark"]
    path = "out.ndjson"
"#;

fn runs_all_the_same(errno: u32, advice: &str) {
    let lines = sensors::lines(10_000, 5);
    let job = Job::flow(Driver::Auto, FLOW).file("in.ndjson", &lines);
    let done = job.start_as(refused(&job, errno)).wait();
    assert_eq!(done.ok().rows("in"), [10_000, 10_000, 0, 0]);
    assert_eq!(job.json("out.ndjson"), sensors::alerts(&lines));
    let said: Vec<_> = done.stderr.lines().filter(|line| line.contains("io_uring")).collect();
    assert_eq!(said.len(), 1, "{}", done.stderr);
    assert!(said[0].contains(advice), "{}", said[0]);
}

#[test]
fn where_io_uring_is_not_permitted_flows_run_with_poll_and_one_line_says_what_to_set() {
    runs_all_the_same(EPERM, "kernel.io_uring_disabled");
}

#[test]
fn where_io_uring_is_not_there_flows_run_with_poll_and_one_line_says_what_to_set() {
    runs_all_the_same(ENOSYS, "Linux 6.1");
}

#[test]
fn whoever_insists_on_io_uring_gets_an_error() {
    let job = Job::flow(Driver::Uring, FLOW).file("in.ndjson", "");
    let done = job.start_as(refused(&job, EPERM)).wait();
    let said = done.failed(1);
    assert!(said.contains("error: ") && said.contains("io_uring is not permitted"), "{said}");
}
