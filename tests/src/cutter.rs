//! A way between a client and a server that breaks when a test wants it to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Passes connections on to a port of this machine.
#[derive(Debug)]
pub struct Cutter {
    port: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cutter {
    /// To `port`.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self::behind(port, &[])
    }

    /// The same, but the first connections are answered with these bytes, and
    /// closed, by whoever stands there.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn behind(port: u16, strangers: &'static [&'static [u8]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let at = listener.local_addr().expect("it is bound").port();
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let open = streams.clone();
        // Ends with the process: nothing tells a listener to go.
        thread::spawn(move || {
            let mut strangers = strangers.iter();
            for mut client in listener.incoming().flatten() {
                if let Some(bytes) = strangers.next() {
                    // The client may have gone already.
                    let _ = client.read(&mut [0; 1024]);
                    let _ = client.write_all(bytes);
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                pass(&client, &server);
                pass(&server, &client);
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                open.extend([client, server]);
            }
        });
        Self { port: at, streams }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks every connection; returns how many there were.
    #[must_use]
    pub fn cut(&self) -> usize {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = streams.drain(..).filter(|stream| stream.shutdown(Shutdown::Both).is_ok());
        cut.count() / 2
    }
}

/// One direction, in a thread that ends with it.
fn pass(from: &TcpStream, to: &TcpStream) {
    let copies = (from.try_clone(), to.try_clone());
    let (Ok(mut from), Ok(mut to)) = copies else { return };
    thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // Both directions end together.
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
