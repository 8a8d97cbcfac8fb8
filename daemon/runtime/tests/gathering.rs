//! When the io_uring driver sleeps a little longer to take up more at once, and
//! that nothing is lost or turned round by it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use ringmain_runtime::{Driver, Event, EventKind, Group, Handle, Io, OpId, UringIo, Waker, probe};

const READ: OpId = OpId { owner: 0, tag: 0 };
const WRITE: OpId = OpId { owner: 0, tag: 1 };

struct Rig {
    io: UringIo,
    near: Handle,
    group: Group,
    far: TcpStream,
    now_us: u64,
}

impl Rig {
    /// None where the kernel cannot gather.
    fn new() -> Option<Self> {
        if let Err(refusal) = probe::io_uring() {
            eprintln!("without io_uring: {refusal}");
            return None;
        }
        let mut io = UringIo::new(Waker::new().unwrap()).unwrap();
        if !io.may_gather() {
            eprintln!("this kernel cannot wait for more (6.12 can)");
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        far.set_nodelay(true).unwrap();
        let near = io.adopt(listener.accept().unwrap().0.into()).unwrap();
        let group = io.group(16, 64 << 10).unwrap();
        io.receive(near, group, READ);
        Some(Self { io, near, group, far, now_us: 0 })
    }

    /// What has come, in order.
    fn turn(&mut self, into: &mut Vec<u8>) {
        let mut events: Vec<Event> = Vec::new();
        self.now_us += 1;
        self.io.begin_turn(self.now_us);
        self.io.poll(&mut events, 64);
        for event in events {
            match event.kind {
                EventKind::Received { lease } => {
                    into.extend_from_slice(self.io.bytes(&lease));
                    self.io.release(lease);
                }
                EventKind::Written { result, .. } => result.unwrap(),
                EventKind::Eof | EventKind::Synced => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn wait(&mut self) {
        self.io.wait(Some(100)).unwrap();
    }
}

#[test]
fn after_an_answer_it_does_not_gather_for_a_while() {
    let Some(mut rig) = Rig::new() else { return };
    rig.io.write(rig.near, b"answer".to_vec(), None, WRITE);
    assert!(!rig.io.may_gather());
    let mut waits = 0;
    while !rig.io.may_gather() {
        rig.wait();
        rig.turn(&mut Vec::new());
        waits += 1;
    }
    assert!(waits > 16, "{waits}");
}

#[test]
fn what_is_written_to_the_patient_is_no_reason_to_hurry() {
    let Some(mut rig) = Rig::new() else { return };
    rig.io.patient(rig.near);
    rig.io.write(rig.near, b"acknowledgement".to_vec(), None, WRITE);
    assert!(rig.io.may_gather());
    let file = rig.io.adopt(tempfile::tempfile().unwrap().into()).unwrap();
    rig.io.write(file, b"line".to_vec(), Some(0), WRITE);
    assert!(rig.io.may_gather());
}

#[test]
fn who_reads_a_file_or_brings_it_to_the_disk_waits_for_that() {
    let Some(mut rig) = Rig::new() else { return };
    let file = rig.io.adopt(tempfile::tempfile().unwrap().into()).unwrap();
    let read: fn(&mut Rig, Handle) = |rig, file| rig.io.read(file, rig.group, 0, WRITE);
    let sync: fn(&mut Rig, Handle) = |rig, file| rig.io.sync(file, WRITE);
    for ask in [read, sync] {
        ask(&mut rig, file);
        assert!(!rig.io.may_gather());
        while !rig.io.may_gather() {
            rig.wait();
            rig.turn(&mut Vec::new());
        }
    }
}

#[test]
fn where_much_comes_nothing_is_gathered() {
    let Some(mut rig) = Rig::new() else { return };
    rig.far.write_all(&[7; 32 << 10]).unwrap();
    let (mut got, mut most) = (Vec::new(), 0);
    while got.len() < 32 << 10 {
        let before = got.len();
        rig.turn(&mut got);
        most = most.max(got.len() - before);
        assert_eq!(rig.io.may_gather(), got.len() - before < 16 << 10);
    }
    assert!(most >= 16 << 10, "it was all there at once");
    rig.wait();
    rig.turn(&mut got);
    assert!(rig.io.may_gather());
}

#[test]
fn what_comes_piece_by_piece_while_it_gathers_is_there_in_order() {
    let Some(mut rig) = Rig::new() else { return };
    const PIECES: u32 = 2_000;
    let mut far = rig.far.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for piece in 0..PIECES {
            far.write_all(&piece.to_le_bytes()).unwrap();
            if piece % 7 == 0 {
                std::thread::sleep(Duration::from_micros(30));
            }
        }
    });
    let mut got = Vec::new();
    while got.len() < PIECES as usize * 4 {
        match rig.io.may_gather() {
            true => rig.io.wait_for_more(Some(10_000)).unwrap(),
            false => rig.wait(),
        }
        // The kernel says that there is more; that is for the next wait.
        rig.turn(&mut got);
        rig.turn(&mut got);
    }
    sender.join().unwrap();
    let pieces: Vec<u32> =
        got.chunks_exact(4).map(|piece| u32::from_le_bytes(piece.try_into().unwrap())).collect();
    assert_eq!(pieces, (0..PIECES).collect::<Vec<_>>());
    rig.io.drop_group(rig.group);
}

#[test]
fn an_answer_never_comes_before_the_end_of_the_write_that_it_is_to() {
    let Some(mut rig) = Rig::new() else { return };
    rig.io.write(rig.near, b"question".to_vec(), None, WRITE);
    rig.wait();
    let mut question = [0; 8];
    rig.far.read_exact(&mut question).unwrap();
    rig.far.write_all(b"answer").unwrap();
    let mut events = Vec::new();
    while events.len() < 2 {
        rig.io.poll(&mut events, 64);
    }
    assert!(matches!(events[0].kind, EventKind::Written { .. }), "{events:?}");
    assert!(matches!(events[1].kind, EventKind::Received { .. }), "{events:?}");
}

#[test]
fn datagrams_are_not_kept_waiting_where_they_would_be_lost() {
    let Some(mut rig) = Rig::new() else { return };
    let (near, far) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let near = rig.io.adopt(near.into()).unwrap();
    rig.io.receive_datagrams(near, rig.group, OpId { owner: 0, tag: 2 });
    far.send(b"one of ten").unwrap();
    let mut events = Vec::new();
    while events.is_empty() {
        rig.io.poll(&mut events, 1);
    }
    assert!(matches!(events[0].kind, EventKind::Datagrams { .. }), "{events:?}");
    assert!(!rig.io.may_gather());
}
