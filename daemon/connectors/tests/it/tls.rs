//! TLS under TCP: nothing is lost or believed that should not be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use ringmain_base::Reason;
use ringmain_config::plan::{
    ClientTls, RetryPlan, ServerTls, SinkKind, SinkPlan, SourceKind, SourcePlan,
};
use ringmain_connectors::Health;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::certs::Authority;
use crate::rig::{Rig, number_lines, numbers_of, sink_plan, source_plan, spanned};
use crate::tcp::{free_address, listen};

const NAME: &str = "127.0.0.1";

fn source(addr: SocketAddr, tls: ServerTls) -> SourcePlan {
    source_plan(SourceKind::Tcp {
        listen: listen(addr),
        connections_max: 16,
        tls: Some(tls),
        acks: false,
    })
}

fn sink(addr: SocketAddr, tls: ClientTls) -> SinkPlan {
    sink_plan(SinkKind::Tcp {
        address: spanned(addr.to_string()),
        connect_timeout_us: 5_000_000,
        retry: RetryPlan::new(1_000, 20_000),
        tls: Some(tls),
        ack_timeout_us: None,
    })
}

fn client(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from(NAME).unwrap();
    let connection = ClientConnection::new(config.clone(), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(addr).unwrap())
}

fn accept(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
) -> StreamOwned<ServerConnection, TcpStream> {
    let connection = ServerConnection::new(config.clone()).unwrap();
    StreamOwned::new(connection, listener.accept().unwrap().0)
}

#[test]
fn encrypted_lines_of_several_connections_arrive_once_each_in_order() {
    let (addr, authority) = (free_address(), Authority::new("a"));
    let mut rig = Rig::new();
    let source = rig.source(&source(addr, authority.server(NAME)));
    let config = authority.client_config();
    let senders: Vec<_> = (0..4_u64)
        .map(|sender| {
            let config = config.clone();
            thread::spawn(move || {
                let mut stream = client(addr, &config);
                let text = number_lines(sender * 10_000..sender * 10_000 + 10_000);
                for piece in text.trim_end().as_bytes().chunks(7_013) {
                    stream.write_all(piece).unwrap();
                }
                // The last line has no end but the connection's.
                stream.conn.send_close_notify();
                stream.flush().unwrap();
                assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "it is answered");
            })
        })
        .collect();
    let rows = numbers_of(&rig.take(source, 40_000));
    rig.until("every sender is told", |rig| {
        rig.pull(source);
        senders.iter().all(thread::JoinHandle::is_finished)
    });
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    for sender in 0..4 {
        let own: Vec<_> = rows.iter().filter(|n| **n / 10_000 == sender).copied().collect();
        assert_eq!(own, (sender * 10_000..sender * 10_000 + 10_000).collect::<Vec<_>>());
    }
    assert_eq!(rig.letters.0, []);
    rig.stop(source);
    assert_eq!(rig.drain(source), [] as [String; 0]);
    rig.quiet();
}

#[test]
fn a_connection_that_is_cut_loses_its_last_line_and_says_so() {
    let (addr, authority) = (free_address(), Authority::new("a"));
    let mut rig = Rig::new();
    let source = rig.source(&source(addr, authority.server(NAME)));
    let config = authority.client_config();
    let sender = thread::spawn(move || {
        let mut stream = client(addr, &config);
        stream.write_all(b"{\"n\":1}\n{\"n\":2}").unwrap();
        // No notice: as if somebody between had cut it.
        stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = stream.sock.read_to_end(&mut rest);
    });
    assert_eq!(numbers_of(&rig.take(source, 1)), [1]);
    rig.until("a letter, and the connection is closed", |rig| {
        rig.pull(source);
        !rig.letters.0.is_empty() && sender.is_finished()
    });
    let [letter] = &*rig.letters.0 else { panic!("{:?}", rig.letters.0) };
    assert_eq!(letter.reason, Reason::Truncated);
    assert!(letter.detail.contains("without the notice that TLS asks for"), "{}", letter.detail);
    sender.join().unwrap();
}

#[test]
fn who_is_not_believed_is_refused_by_name_and_the_source_goes_on() {
    let (addr, authority) = (free_address(), Authority::new("a"));
    let tls = ServerTls { client_ca: Some(authority.ca()), ..authority.server(NAME) };
    let mut rig = Rig::new();
    let source = rig.source(&source(addr, tls));
    let config = authority.client_config();
    let sender = thread::spawn(move || {
        let mut stream = client(addr, &config);
        let _ = stream.write_all(b"{\"n\":1}\n");
        let refused = stream.read(&mut [0; 16]).unwrap_err().to_string();
        assert!(refused.contains("CertificateRequired"), "{refused}");
        // Somebody who does not even speak TLS.
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"{\"n\":2}\n").unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    rig.until("two letters", |rig| {
        assert_eq!(rig.pull(source).1, [] as [String; 0]);
        rig.letters.0.len() == 2
    });
    rig.until("the sender is told", |rig| {
        rig.pull(source);
        sender.is_finished()
    });
    sender.join().unwrap();
    let [first, second] = &*rig.letters.0 else { panic!("{:?}", rig.letters.0) };
    assert!(first.detail.contains("showed no certificate"), "{}", first.detail);
    assert!(second.detail.contains("does not speak TLS"), "{}", second.detail);
    assert!(first.origin.starts_with("127.0.0.1:"), "{}", first.origin);
    assert_eq!(first.reason, Reason::Rejected);
    rig.stop(source);
    rig.drain(source);
    rig.quiet();
}

#[test]
fn who_does_not_finish_the_handshake_is_cut_off() {
    let (addr, authority) = (free_address(), Authority::new("a"));
    let mut rig = Rig::new();
    let source = rig.source(&source(addr, authority.server(NAME)));
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nonblocking(true).unwrap();
    // The beginning of a hello.
    stream.write_all(&[22, 3, 1]).unwrap();
    for _ in 0..50 {
        rig.turn();
        rig.pull(source);
    }
    assert_eq!(
        stream.read(&mut [0; 16]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "it has time"
    );
    rig.skip(11_000_000);
    rig.until("the end", |rig| {
        rig.pull(source);
        !matches!(stream.read(&mut [0; 16]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    });
    rig.stop(source);
    rig.drain(source);
    rig.quiet();
}

#[test]
fn a_sink_sends_everything_encrypted_and_says_that_it_is_done() {
    let authority = Authority::new("a");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let config = authority.server_config(NAME, true);
    let server = thread::spawn(move || {
        let mut text = String::new();
        // An end without a notice would be an error here.
        accept(&listener, &config).read_to_string(&mut text).unwrap();
        text
    });
    let tls = ClientTls { identity: Some(authority.identity("daemon")), ..authority.client() };
    let mut rig = Rig::new();
    let sink = rig.sink(&sink(addr, tls));
    let slab = rig.numbers(0, 20_000, 0);
    rig.push_all(sink, &slab);
    rig.finish(sink);
    assert_eq!(server.join().unwrap(), number_lines(0..20_000));
    rig.quiet();
}

#[test]
fn a_sink_that_is_not_believed_counts_nothing_as_accepted() {
    let authority = Authority::new("a");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let config = authority.server_config(NAME, true);
    // It has no certificate, which the server says after the handshake only.
    let mut rig = Rig::new();
    let sink = rig.sink(&sink(addr, authority.client()));
    let server = thread::spawn(move || {
        for _ in 0..3 {
            let mut stream = accept(&listener, &config);
            assert!(stream.read(&mut [0; 16]).is_err());
        }
        let open = authority.server_config(NAME, false);
        let mut text = String::new();
        accept(&listener, &open).read_to_string(&mut text).unwrap();
        text
    });
    let slab = rig.numbers(0, 1_000, 0);
    rig.push_all(sink, &slab);
    rig.until("the refusal is told", |rig| {
        rig.poll_sink(sink);
        matches!(rig.health(sink), Health::Retrying(why) if why.contains("CertificateRequired"))
    });
    assert_eq!(rig.finished(sink), 0);
    rig.finish(sink);
    assert_eq!(server.join().unwrap(), number_lines(0..1_000));
}

#[test]
fn a_sink_believes_only_whom_it_is_told_to_believe() {
    let (authority, other) = (Authority::new("a"), Authority::new("b"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (false_one, config) =
        (other.server_config(NAME, false), authority.server_config(NAME, false));
    let mut rig = Rig::new();
    let sink = rig.sink(&sink(addr, authority.client()));
    let server = thread::spawn(move || {
        assert!(accept(&listener, &false_one).read(&mut [0; 16]).is_err());
        // What hangs up in the middle of the handshake.
        drop(listener.accept().unwrap());
        let mut text = String::new();
        accept(&listener, &config).read_to_string(&mut text).unwrap();
        text
    });
    let slab = rig.numbers(0, 1_000, 0);
    rig.push_all(sink, &slab);
    rig.until("the reason", |rig| {
        rig.poll_sink(sink);
        matches!(rig.health(sink), Health::Retrying(why) if why.contains("not trusted"))
    });
    rig.finish(sink);
    assert_eq!(server.join().unwrap(), number_lines(0..1_000));
}
