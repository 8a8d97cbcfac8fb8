//! Listening for TCP connections; twins on other shards share the port.

use std::os::fd::OwnedFd;

use ringmain_config::plan::Listen;
use socket2::Type;

use crate::served::{BACKLOG, Bind};
use crate::{ConnectorError, Placement, sockets};

pub(crate) struct Listening {
    listen: Listen,
    place: Placement,
}

impl Listening {
    pub(crate) fn new(listen: &Listen, place: &Placement) -> Self {
        Self { listen: listen.clone(), place: place.clone() }
    }
}

impl Bind for Listening {
    const KEY: &'static str = "listen";

    fn bind(&mut self) -> Result<OwnedFd, ConnectorError> {
        let socket = sockets::bind(&self.listen, Type::STREAM, &self.place)?;
        let at = &self.listen.text.value;
        let failed = |error| {
            let message = format!(
                "cannot listen at '{at}': {error}; another program may listen there, stop it or \
                 choose another port"
            );
            ConnectorError::setup(Self::KEY, message)
        };
        socket.listen(BACKLOG).map_err(failed)?;
        Ok(socket.into())
    }
}
