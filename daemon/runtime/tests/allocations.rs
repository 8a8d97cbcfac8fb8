//! Receiving allocates nothing per event, once the vectors have grown.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::net::{TcpListener, TcpStream};

use ringmain_runtime::{Driver, Event, EventKind, OpId, UringIo, Waker, probe};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more, and counts nothing.
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller vouches.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller vouches.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn receiving_from_a_stream_allocates_nothing_per_event() {
    if let Err(refusal) = probe::io_uring() {
        eprintln!("without io_uring: {refusal}");
        return;
    }
    const TOTAL: usize = 64 << 20;
    let mut io = UringIo::new(Waker::new().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let io: &mut dyn Driver = &mut io;
    let near = io.adopt(listener.accept().unwrap().0.into()).unwrap();
    let group = io.group(16, 64 << 10).unwrap();
    let sender = std::thread::spawn(move || {
        let payload = vec![7; 1 << 20];
        (0..TOTAL >> 20).for_each(|_| far.write_all(&payload).unwrap());
    });
    io.receive(near, group, OpId { owner: 0, tag: 0 });
    let mut events: Vec<Event> = Vec::with_capacity(64);
    let (mut got, mut count, mut before) = (0, 0_u64, None);
    while got < TOTAL {
        io.wait(Some(10_000)).unwrap();
        io.poll(&mut events, 64);
        for event in events.drain(..) {
            match event.kind {
                EventKind::Received { lease } => {
                    got += lease.len();
                    count += 1;
                    io.release(lease);
                }
                EventKind::Eof => assert_eq!(got, TOTAL),
                other => panic!("{other:?}"),
            }
        }
        if got > TOTAL / 4 && before.is_none() {
            before = Some((COUNT.get(), count));
        }
    }
    let (allocations, events_before) = before.unwrap();
    assert!(count > events_before + 100, "there were {count} events");
    // The vectors of completions and of waiting operations may still grow to
    // their bounds; that is a handful, whatever the number of events.
    assert!(COUNT.get() - allocations <= 8, "{} allocations", COUNT.get() - allocations);
    sender.join().unwrap();
}
