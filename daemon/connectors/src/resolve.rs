//! From `host:port` to addresses.
//!
//! Resolving blocks, so it is done when the sink opens; again only after every
//! known address has failed, on a thread of its own that ends with the answer.
//! Bounds: one such thread at a time, [`ADDRESSES_MAX`] addresses.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use crate::ConnectorError;

const ADDRESSES_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Resolver {
    text: String,
    addresses: Vec<SocketAddr>,
    next: usize,
    asked: Option<Receiver<io::Result<Vec<SocketAddr>>>>,
}

impl Resolver {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), addresses: Vec::new(), next: 0, asked: None }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Resolves now, waiting for the answer.
    pub(crate) fn open(&mut self) -> Result<(), ConnectorError> {
        self.addresses = resolve(&self.text).map_err(|error| {
            let message = format!(
                "cannot resolve '{}': {error}; correct the name, or check the machine's DNS",
                self.text
            );
            ConnectorError::setup("address", message)
        })?;
        Ok(())
    }

    /// The address to try next.
    pub(crate) fn next(&mut self) -> Option<SocketAddr> {
        self.take_answer();
        if self.next >= self.addresses.len() {
            self.next = 0;
            self.ask();
        }
        let address = self.addresses.get(self.next).copied();
        self.next += 1;
        address
    }

    /// The address last given out works; it is the first to be tried again.
    pub(crate) fn works(&mut self) {
        self.next = self.next.saturating_sub(1);
    }

    fn ask(&mut self) {
        if self.asked.is_some() || self.text.parse::<SocketAddr>().is_ok() {
            return;
        }
        let (send, receive) = channel();
        let text = self.text.clone();
        let resolving = move || {
            // The sink may have gone meanwhile.
            let _ = send.send(resolve(&text));
        };
        // Without a thread the addresses that are known must do.
        if std::thread::Builder::new().name("resolve".to_owned()).spawn(resolving).is_ok() {
            self.asked = Some(receive);
        }
    }

    fn take_answer(&mut self) {
        let Some(asked) = &self.asked else { return };
        match asked.try_recv() {
            Ok(Ok(addresses)) => {
                self.addresses = addresses;
                self.next = 0;
                self.asked = None;
            }
            Ok(Err(_)) | Err(TryRecvError::Disconnected) => self.asked = None,
            Err(TryRecvError::Empty) => {}
        }
    }
}

fn resolve(text: &str) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = text.to_socket_addrs()?.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_name_server_and_comes_again() {
        let mut resolver = Resolver::new("127.0.0.1:9");
        resolver.open().unwrap();
        let address = Some("127.0.0.1:9".parse().unwrap());
        assert_eq!((resolver.next(), resolver.next()), (address, address));
        assert!(resolver.asked.is_none());
    }

    #[test]
    fn every_address_has_its_turn_and_the_working_one_stays() {
        let mut resolver = Resolver::new("127.0.0.1:1");
        resolver.addresses = (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let ports = |resolver: &mut Resolver| resolver.next().unwrap().port();
        assert_eq!([ports(&mut resolver), ports(&mut resolver)], [1, 2]);
        resolver.works();
        assert_eq!([ports(&mut resolver), ports(&mut resolver), ports(&mut resolver)], [2, 3, 1]);
    }

    #[test]
    fn an_unknown_name_is_an_error_of_the_key_address() {
        let error = Resolver::new("no-such-host.invalid:1").open().unwrap_err();
        assert_eq!(error.key, "address");
        assert!(error.message.starts_with("cannot resolve 'no-such-host.invalid:1'"));
    }
}
