//! A driver that is dropped with operations in flight takes back what the
//! kernel was using, and closes what it owned.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use ringmain_runtime::{Driver, OpId, PollIo, UringIo, Waker, probe};

#[test]
fn a_dropped_driver_closes_its_connections() {
    let mut drivers: Vec<Box<dyn Driver>> = vec![Box::new(PollIo::new(Waker::new().unwrap()))];
    match probe::io_uring() {
        Ok(_) => drivers.push(Box::new(UringIo::new(Waker::new().unwrap()).unwrap())),
        Err(refusal) => eprintln!("without io_uring: {refusal}"),
    }
    for mut io in drivers {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut far = TcpStream::connect(address).unwrap();
        let near = io.adopt(listener.accept().unwrap().0.into()).unwrap();
        let listener = io.adopt(listener.into()).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let pipe = io.adopt(reader.into()).unwrap();
        let group = io.group(4, 4_096).unwrap();
        let op = |tag| OpId { owner: 0, tag };
        io.accept(listener, op(1));
        io.receive(near, group, op(2));
        io.receive(pipe, group, op(3));
        for tag in 10..20 {
            io.write(near, vec![1; 16 << 20], None, op(tag));
        }
        io.timer(1_000_000, op(4));
        let mut events = Vec::new();
        for _ in 0..3 {
            io.wait(Some(1_000)).unwrap();
            io.poll(&mut events, 64);
        }
        assert_eq!(io.in_flight(), 14);
        drop(io);
        far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut sink = vec![0; 1 << 20];
        // What was under way, then the end: of one kind or the other.
        while far.read(&mut sink).is_ok_and(|count| count > 0) {}
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    }
}
