//! How fast a shard receives, how soon it wakes, what it costs asleep.
//!
//! `cargo run --release -p ringmain-runtime --example rates`: figures for each
//! driver, on cores 0 (shard) and 1 (sender). Trust ratios within one run.

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use ringmain_base::{Now, SystemClock};
use ringmain_ring::{Doorbell, Wake};
use ringmain_runtime::{
    Event, EventKind, Io, IoKind, LaunchOptions, Next, OpId, ShardThread, Supervisor,
    SupervisorOptions, Turn, Waker, cores, launch,
};

const RUN: Duration = Duration::from_millis(1_500);

/// Counts what arrives, and stops with the stream or when told.
struct Count {
    events: Vec<Event>,
    stop: Arc<AtomicBool>,
    totals: Totals,
    first_us: Option<u64>,
    done: Sender<(Totals, u64)>,
    bell: Doorbell,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    bytes: u64,
    datagrams: u64,
    events: u64,
    /// Processor time of the shard's thread: unlike the rates, hardly touched
    /// by what else the machine does.
    cpu_ns: u64,
}

impl Turn for Count {
    fn turn(&mut self, io: &mut dyn Io, now: Now) -> Next {
        io.poll(&mut self.events, 256);
        if self.events.is_empty() {
            if self.stop.load(Ordering::Acquire) {
                return self.report(now);
            }
            return Next::Idle { wake_in_us: None };
        }
        self.first_us.get_or_insert(now.mono_us);
        let mut ended = false;
        for event in self.events.drain(..) {
            self.totals.events += 1;
            match event.kind {
                EventKind::Received { lease } => {
                    self.totals.bytes += io.bytes(&lease).len() as u64;
                    io.release(lease);
                }
                EventKind::Datagrams { lease, segment_bytes, .. } => {
                    self.totals.bytes += lease.len() as u64;
                    self.totals.datagrams += lease.len().div_ceil(segment_bytes as usize) as u64;
                    io.release(lease);
                }
                _ => ended = true,
            }
        }
        if ended { self.report(now) } else { Next::Busy }
    }

    fn prepare_park(&mut self) -> bool {
        self.bell.arm();
        self.stop.load(Ordering::Acquire)
    }

    fn unpark(&mut self) {
        self.bell.disarm();
    }
}

impl Count {
    fn report(&self, now: Now) -> Next {
        let us = self.first_us.map_or(1, |first| now.mono_us - first);
        let cpu_ns = (clock_seconds(libc::CLOCK_THREAD_CPUTIME_ID) * 1e9) as u64;
        let _ = self.done.send((Totals { cpu_ns, ..self.totals }, us.max(1)));
        Next::Stop
    }
}

struct Shard {
    thread: ShardThread,
    stop: Arc<AtomicBool>,
    bell: Doorbell,
    done: std::sync::mpsc::Receiver<(Totals, u64)>,
}

fn shard(kind: IoKind, begin: impl FnOnce(&mut dyn Io) + Send + 'static) -> Shard {
    let waker = Waker::new().expect("a descriptor is left");
    let bell = Doorbell::new(Arc::clone(&waker) as Arc<dyn Wake>);
    let mut options = LaunchOptions::new("rates", waker, SystemClock::new());
    options.core = cores::available().first().copied();
    options.io = kind;
    let (done_sender, done) = channel();
    let stop = Arc::new(AtomicBool::new(false));
    let (shards_stop, shards_bell) = (Arc::clone(&stop), bell.clone());
    let thread = launch(options, move |io, _| {
        begin(io);
        Box::new(Count {
            events: Vec::with_capacity(256),
            stop: shards_stop,
            totals: Totals::default(),
            first_us: None,
            done: done_sender,
            bell: shards_bell,
        })
    })
    .expect("the driver is to be had");
    Shard { thread, stop, bell, done }
}

impl Shard {
    fn finish(self) -> (Totals, u64) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        let result = self.done.recv().expect("the shard reports");
        self.thread.join().expect("the shard ends well");
        result
    }
}

fn pin_sender() {
    if let Some(core) = cores::available().get(1) {
        core_affinity::set_for_current(core_affinity::CoreId { id: *core });
    }
}

fn tcp(kind: IoKind) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let sender = std::thread::spawn(move || {
        pin_sender();
        let mut stream = TcpStream::connect(address).expect("loopback");
        let payload = vec![b'x'; 256 << 10];
        let end = Instant::now() + RUN;
        while Instant::now() < end {
            stream.write_all(&payload).expect("the shard reads");
        }
    });
    let near = listener.accept().expect("loopback").0;
    let shard = shard(kind, move |io| {
        let group = io.group(32, 64 << 10).expect("memory");
        let near = io.adopt(near.into()).expect("room");
        io.receive(near, group, OpId { owner: 0, tag: 0 });
    });
    sender.join().expect("the sender ends well");
    let (totals, us) = shard.finish();
    println!(
        "{kind:?} tcp receive: {:.2} GB/s, {:.2} GB per CPU second, {:.1} KiB per event",
        totals.bytes as f64 / us as f64 / 1e3,
        totals.bytes as f64 / totals.cpu_ns as f64,
        totals.bytes as f64 / totals.events as f64 / 1024.0
    );
}

fn udp(kind: IoKind) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20);
    let address = socket.local_addr().expect("bound");
    let shard = shard(kind, move |io| {
        let group = io.group(64, 64 << 10).expect("memory");
        let near = io.adopt(socket.into()).expect("room");
        io.receive_datagrams(near, group, OpId { owner: 0, tag: 0 });
    });
    let sent = std::thread::spawn(move || {
        pin_sender();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket.connect(address).expect("loopback");
        set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 100);
        let payload = vec![b'x'; 6_400];
        let (end, mut sent) = (Instant::now() + RUN, 0_u64);
        while Instant::now() < end {
            sent += u64::from(socket.send(&payload).is_ok()) * 64;
        }
        sent
    })
    .join()
    .expect("the sender ends well");
    let (totals, us) = shard.finish();
    println!(
        "{kind:?} udp receive (GRO, 100 B): {:.2} M datagrams/s, {:.1} ns of CPU each, {:.0} per \
         event, {:.1} % lost",
        totals.datagrams as f64 / us as f64,
        totals.cpu_ns as f64 / totals.datagrams as f64,
        totals.datagrams as f64 / totals.events as f64,
        100.0 * (1.0 - totals.datagrams as f64 / sent as f64)
    );
}

fn set_option(socket: &UdpSocket, level: i32, name: i32, value: i32) {
    // SAFETY: the option is one int; the socket is open.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), 4);
    }
}

/// Answers each wake by counting it.
struct Pong {
    asked: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    bell: Doorbell,
    events: Vec<Event>,
}

impl Turn for Pong {
    fn turn(&mut self, io: &mut dyn Io, _: Now) -> Next {
        io.poll(&mut self.events, 16);
        let asked = self.asked.load(Ordering::Acquire);
        if asked == u64::MAX {
            return Next::Stop;
        }
        if asked == self.answered.load(Ordering::Relaxed) {
            return Next::Idle { wake_in_us: None };
        }
        self.answered.store(asked, Ordering::Release);
        Next::Busy
    }

    fn prepare_park(&mut self) -> bool {
        self.bell.arm();
        self.asked.load(Ordering::Acquire) != self.answered.load(Ordering::Relaxed)
    }

    fn unpark(&mut self) {
        self.bell.disarm();
    }
}

fn wakes_and_idle(kind: IoKind) {
    let waker = Waker::new().expect("a descriptor is left");
    let bell = Doorbell::new(Arc::clone(&waker) as Arc<dyn Wake>);
    let mut options = LaunchOptions::new("pong", waker, SystemClock::new());
    options.core = cores::available().first().copied();
    options.io = kind;
    let (asked, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (a, b, c) = (Arc::clone(&asked), Arc::clone(&answered), bell.clone());
    let shard = launch(options, move |_, _| {
        Box::new(Pong { asked: a, answered: b, bell: c, events: Vec::new() })
    })
    .expect("the driver is to be had");
    pin_sender();
    let quiet = |_| println!("a stall?");
    let supervisor = Supervisor::start(vec![shard.monitor()], SupervisorOptions::default(), quiet);
    for (pause, name) in [(0, "at once"), (200, "after 0.2 ms"), (2_000, "after 2 ms (parked)")] {
        let mut waits = Vec::new();
        for _ in 0..500 {
            std::thread::sleep(Duration::from_micros(pause));
            let begin = Instant::now();
            let number = asked.fetch_add(1, Ordering::AcqRel) + 1;
            bell.ring();
            while answered.load(Ordering::Acquire) != number {
                std::hint::spin_loop();
            }
            waits.push(begin.elapsed());
        }
        waits.sort_unstable();
        println!("{kind:?} wake {name}: median {:?}, p99 {:?}", waits[250], waits[495]);
    }
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    std::thread::sleep(Duration::from_secs(4));
    let idle = 100.0 * (cpu_seconds() - cpu) / wall.elapsed().as_secs_f64();
    println!("{kind:?} asleep, with its supervisor: {idle:.3} % of a core");
    drop(supervisor);
    asked.store(u64::MAX, Ordering::Release);
    bell.ring();
    shard.join().expect("the shard ends well");
}

fn cpu_seconds() -> f64 {
    clock_seconds(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_seconds(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn main() {
    for _ in 0..3 {
        for kind in [IoKind::Uring, IoKind::Poll] {
            tcp(kind);
            udp(kind);
        }
    }
    for kind in [IoKind::Uring, IoKind::Poll] {
        std::thread::spawn(move || wakes_and_idle(kind)).join().expect("measured");
    }
}
