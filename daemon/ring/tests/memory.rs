//! What an edge allocates: what it says, at construction, and nothing later.
//! Alone in its file, because the allocator counts for the whole process.
#![cfg(not(any(loom, miri)))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use ringmain_ring::{Doorbell, Item, Marker, Span, edge, edge_bytes};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `System.alloc` with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_edge_allocates_what_it_says_and_nothing_after_construction() {
    let mut smallest = (usize::MAX, 0);
    // The test harness has threads of its own that may allocate meanwhile;
    // whatever the edge itself allocates shows in every round.
    for _ in 0..20 {
        let slabs: Vec<[u64; 2]> = vec![[0; 2]; 16];
        let stash_bytes = 16 * size_of::<[u64; 2]>();
        let before = BYTES.load(Ordering::Relaxed);
        let (mut up, mut down) = edge(slabs, 8, Doorbell::silent(), Doorbell::silent());
        let bytes = BYTES.load(Ordering::Relaxed) - before + stash_bytes;

        let calls = CALLS.load(Ordering::Relaxed);
        for number in 1..=20_000u64 {
            let inlet = (number % 48) as u16;
            let slab = up.take_empty(number).unwrap();
            up.send(slab, inlet, Span::new(number, number));
            up.send_marker(Marker::Barrier(number)).unwrap();
            let Some(Item::Slab { slab, .. }) = down.recv() else { panic!("a slab was sent") };
            down.give_back(slab);
            assert!(matches!(down.recv(), Some(Item::Marker(_))));
            // No ack for a long time: the tracker fills and merges.
            if number % 6_000 == 0 {
                down.ack(number);
                assert_eq!(up.position(inlet, number), number);
            }
        }
        smallest = smallest.min((CALLS.load(Ordering::Relaxed) - calls, bytes));
    }
    let (calls, bytes) = smallest;
    assert_eq!(calls, 0);
    let said = edge_bytes::<[u64; 2]>(16, 8);
    assert!(bytes <= said && said <= bytes + 2048, "allocated {bytes}, said {said}");
}
