//! A process that may not use io_uring works all the same, and says why.
//!
//! Each case runs in a child process: this very program, told by its
//! environment to install a seccomp filter first.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::channel;

use ringmain_base::{Now, SystemClock};
use ringmain_runtime::{
    Event, EventKind, Group, Handle, Io, IoKind, LaunchOptions, Next, OpId, RuntimeError, Turn,
    Waker, launch, probe,
};

const CHILD: &str = "RINGMAIN_TEST_REFUSE_WITH";

#[test]
fn where_io_uring_is_not_permitted_shards_fall_back_to_poll() {
    in_child(libc::EPERM, "kernel.io_uring_disabled");
}

#[test]
fn where_io_uring_is_not_there_shards_fall_back_to_poll() {
    in_child(libc::ENOSYS, "Linux 6.1");
}

fn in_child(errno: i32, advice: &str) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--ignored", "--nocapture"])
        .env(CHILD, errno.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned()
        + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{text}");
    let reason = text.lines().find_map(|line| line.split_once("fallback: ")).map(|(_, said)| said);
    assert!(reason.expect(&text).contains(advice), "{text}");
    assert!(text.contains("echo: through poll"), "{text}");
}

#[test]
#[ignore = "run by the other tests in a process of its own"]
fn the_child() {
    let Ok(errno) = std::env::var(CHILD) else { return };
    let errno = errno.parse().unwrap();
    refuse_io_uring(errno);
    assert_eq!(probe::io_uring().unwrap_err().errno, Some(errno));

    let mut options = LaunchOptions::new("ring", Waker::new().unwrap(), SystemClock::new());
    options.io = IoKind::Uring;
    let refused = launch(options, |_, _| panic!("it never comes to this")).unwrap_err();
    assert!(matches!(refused, RuntimeError::Refused(_)), "{refused}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, reason) = channel();
    let mut options = LaunchOptions::new("echo", Waker::new().unwrap(), SystemClock::new());
    options.on_fallback = Some(Box::new(move |why| told.send(why.to_owned()).unwrap()));
    let shard = launch(options, |io, _| {
        let listener = io.adopt(listener.into()).unwrap();
        io.accept(listener, OpId { owner: 0, tag: 0 });
        let group = io.group(4, 1024).unwrap();
        Box::new(Echo { group, connection: None, events: Vec::new() })
    })
    .unwrap();
    println!("\nfallback: {}", reason.recv().unwrap());
    let mut stream = TcpStream::connect(address).unwrap();
    let mut got = [0; 5];
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    drop(stream);
    println!("echo: through {}", shard.place().io);
    shard.join().unwrap();
}

/// Sends one connection its own bytes back and stops when it ends.
struct Echo {
    group: Group,
    connection: Option<Handle>,
    events: Vec<Event>,
}

impl Turn for Echo {
    fn turn(&mut self, io: &mut dyn Io, _: Now) -> Next {
        io.poll(&mut self.events, 16);
        let mut next = Next::Idle { wake_in_us: None };
        for event in self.events.drain(..) {
            match event.kind {
                EventKind::Accepted { handle, .. } => {
                    self.connection = Some(handle);
                    io.receive(handle, self.group, OpId { owner: 0, tag: 1 });
                }
                EventKind::Received { lease } => {
                    let bytes = io.bytes(&lease).to_vec();
                    io.release(lease);
                    let to = self.connection.expect("it was accepted");
                    io.write(to, bytes, None, OpId { owner: 0, tag: 2 });
                }
                EventKind::Written { result, .. } => result.unwrap(),
                EventKind::Eof => next = Next::Stop,
                other => panic!("{other:?}"),
            }
        }
        next
    }

    fn prepare_park(&mut self) -> bool {
        false
    }

    fn unpark(&mut self) {}
}

/// Has the kernel answer `errno` to io_uring's system calls, for this process
/// and all its threads to come.
fn refuse_io_uring(errno: i32) {
    const RET: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        // The number of the system call is the first word of its description.
        step(load, 0, 0, 0),
        step(jump, 0, 2, libc::SYS_io_uring_setup as u32),
        step(jump, 1, 0, libc::SYS_io_uring_register as u32 + 1),
        step(RET, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: prctl reads the program, which lives through both calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
}
