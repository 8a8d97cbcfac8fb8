//! What a test of the suite stands on: a driver, and hands on the other end
//! of whatever it is connected to.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ringmain_base::{Clock, SystemClock};
use ringmain_runtime::memory::{End, MemoryIo};
use ringmain_runtime::{
    Driver, Event, EventKind, Handle, Lease, OpId, PollIo, UringIo, Waker, probe,
};

/// Longer than anything takes; a test that gets here hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// The other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Far(pub u32);

/// A driver and the world around it.
pub trait Rig {
    fn io(&mut self) -> &mut dyn Driver;
    /// Sets the turn's clock; the twin's stands still but for waits.
    fn begin_turn(&mut self);
    /// A connected stream.
    fn stream(&mut self) -> (Handle, Far);
    /// Sends what the other side takes now; says how much.
    fn far_send(&mut self, far: Far, bytes: &[u8]) -> usize;
    /// Reads at most `max` bytes of what has arrived.
    fn far_take(&mut self, far: Far, max: usize) -> Vec<u8>;
    /// Sends no more.
    fn far_finish(&mut self, far: Far);
    /// Is gone.
    fn far_drop(&mut self, far: Far);
    /// A file with this content.
    fn file(&mut self, content: &[u8]) -> Handle;
    fn file_content(&mut self, file: Handle) -> Vec<u8>;
    fn listener(&mut self) -> Handle;
    /// Connects to the listener.
    fn dial(&mut self, listener: Handle) -> Far;
}

/// A driver over the real kernel.
pub struct Real {
    io: Box<dyn Driver>,
    clock: SystemClock,
    far: HashMap<Far, TcpStream>,
    next_far: u32,
}

impl Real {
    /// `None`, with a line that says why, where io_uring is refused.
    pub fn uring() -> Option<Self> {
        if let Err(refusal) = probe::io_uring() {
            eprintln!("skipped: {refusal}");
            return None;
        }
        Some(Self::over(Box::new(UringIo::new(Waker::new().unwrap()).unwrap())))
    }

    pub fn poll() -> Option<Self> {
        Some(Self::over(Box::new(PollIo::new(Waker::new().unwrap()))))
    }

    fn over(io: Box<dyn Driver>) -> Self {
        Self { io, clock: SystemClock::new(), far: HashMap::new(), next_far: 0 }
    }

    fn keep(&mut self, stream: TcpStream) -> Far {
        stream.set_nonblocking(true).unwrap();
        self.next_far += 1;
        self.far.insert(Far(self.next_far), stream);
        Far(self.next_far)
    }
}

impl Rig for Real {
    fn io(&mut self) -> &mut dyn Driver {
        &mut *self.io
    }

    fn begin_turn(&mut self) {
        self.io.begin_turn(self.clock.now().mono_us);
    }

    fn stream(&mut self) -> (Handle, Far) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        (self.io.adopt(near.into()).unwrap(), self.keep(far))
    }

    fn far_send(&mut self, far: Far, bytes: &[u8]) -> usize {
        match (&self.far[&far]).write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("the other end: {error}"),
        }
    }

    fn far_take(&mut self, far: Far, max: usize) -> Vec<u8> {
        let mut bytes = vec![0; max];
        match (&self.far[&far]).read(&mut bytes) {
            Ok(count) => bytes.truncate(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => bytes.clear(),
            Err(error) => panic!("the other end: {error}"),
        }
        bytes
    }

    fn far_finish(&mut self, far: Far) {
        self.far[&far].shutdown(Shutdown::Write).unwrap();
    }

    fn far_drop(&mut self, far: Far) {
        self.far.remove(&far);
    }

    fn file(&mut self, content: &[u8]) -> Handle {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        self.io.adopt(file.into()).unwrap()
    }

    fn file_content(&mut self, file: Handle) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let fd = self.io.descriptor(file).unwrap().try_clone_to_owned().unwrap();
        let file = std::fs::File::from(fd);
        let mut content = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        content
    }

    fn listener(&mut self) -> Handle {
        self.io.adopt(TcpListener::bind("127.0.0.1:0").unwrap().into()).unwrap()
    }

    fn dial(&mut self, listener: Handle) -> Far {
        let fd = self.io.descriptor(listener).unwrap().try_clone_to_owned().unwrap();
        let address = TcpListener::from(fd).local_addr().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        self.keep(stream)
    }
}

/// The in-memory twin.
pub struct Twin {
    io: MemoryIo,
    ends: HashMap<u32, End>,
    files: HashMap<Handle, End>,
    listeners: HashMap<Handle, End>,
}

impl Twin {
    /// Chopping whatever is read and written into pieces.
    pub fn chopping(seed: u64) -> Option<Self> {
        let mut twin = Self::plain(seed)?;
        twin.io.chop(true);
        Some(twin)
    }

    pub fn plain(seed: u64) -> Option<Self> {
        let (ends, files, listeners) = (HashMap::new(), HashMap::new(), HashMap::new());
        Some(Self { io: MemoryIo::new(seed), ends, files, listeners })
    }

    fn keep(&mut self, end: End) -> Far {
        let far = Far(self.ends.len() as u32);
        self.ends.insert(far.0, end);
        far
    }
}

impl Rig for Twin {
    fn io(&mut self) -> &mut dyn Driver {
        &mut self.io
    }

    fn begin_turn(&mut self) {}

    fn stream(&mut self) -> (Handle, Far) {
        let (handle, end) = self.io.stream();
        (handle, self.keep(end))
    }

    fn far_send(&mut self, far: Far, bytes: &[u8]) -> usize {
        self.io.feed(self.ends[&far.0], bytes);
        bytes.len()
    }

    fn far_take(&mut self, far: Far, max: usize) -> Vec<u8> {
        self.io.take(self.ends[&far.0], max)
    }

    fn far_finish(&mut self, far: Far) {
        self.io.finish(self.ends[&far.0]);
    }

    fn far_drop(&mut self, far: Far) {
        self.io.vanish(self.ends[&far.0]);
    }

    fn file(&mut self, content: &[u8]) -> Handle {
        let (handle, end) = self.io.file(content);
        self.files.insert(handle, end);
        handle
    }

    fn file_content(&mut self, file: Handle) -> Vec<u8> {
        self.io.content(self.files[&file]).to_vec()
    }

    fn listener(&mut self) -> Handle {
        let (handle, end) = self.io.listener();
        self.listeners.insert(handle, end);
        handle
    }

    fn dial(&mut self, listener: Handle) -> Far {
        let end = self.io.dial(self.listeners[&listener]);
        self.keep(end)
    }
}

pub fn op(tag: u32) -> OpId {
    OpId { owner: 7, tag }
}

/// One turn: waits a moment for something to happen and polls.
pub fn turn(rig: &mut dyn Rig, events: &mut Vec<Event>) {
    rig.io().wait(Some(2_000)).unwrap();
    rig.begin_turn();
    rig.io().poll(events, 64);
}

/// Turns until `done`; panics when that does not come to pass.
pub fn until(rig: &mut dyn Rig, events: &mut Vec<Event>, done: impl Fn(&[Event]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(events) {
        assert!(Instant::now() < deadline, "nothing more happens after {events:?}");
        turn(rig, events);
    }
}

/// Turns until there are `count` events.
pub fn events(rig: &mut dyn Rig, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    until(rig, &mut events, |events| events.len() >= count);
    assert_eq!(events.len(), count, "{events:?}");
    events
}

/// A few turns in which nothing must happen.
pub fn nothing_happens(rig: &mut dyn Rig) {
    let mut events = Vec::new();
    for _ in 0..5 {
        turn(rig, &mut events);
    }
    assert!(events.is_empty(), "{events:?}");
}

/// The bytes of a lease, which is released.
pub fn take(rig: &mut dyn Rig, lease: Lease) -> Vec<u8> {
    let bytes = rig.io().bytes(&lease).to_vec();
    rig.io().release(lease);
    bytes
}

pub fn errno(kind: &EventKind) -> Option<i32> {
    match kind {
        EventKind::Failed { error } => error.raw_os_error(),
        EventKind::Written { result: Err(error), .. } => error.raw_os_error(),
        _ => None,
    }
}

/// Bytes that tell their place.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}
