//! The source that listens for TCP connections. Bounds: those of
//! [`crate::served`] and [`crate::streams`].

use std::os::fd::OwnedFd;

use ringmain_config::plan::{Listen, ServerTls, SourcePlan};
use ringmain_slab::SharedSchema;
use socket2::Type;

use crate::decode::Decoding;
use crate::served::{BACKLOG, Bind, FIRST_TAG, Served};
use crate::streams::Streams;
use crate::tls::Server;
use crate::{ConnectorError, Placement, Source, sockets};

struct Listening {
    listen: Listen,
    place: Placement,
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

pub(crate) fn source(
    plan: &SourcePlan,
    listen: &Listen,
    connections_max: u32,
    tls: Option<&ServerTls>,
    acks: bool,
    schema: &SharedSchema,
    place: &Placement,
) -> Result<Box<dyn Source>, ConnectorError> {
    let tls = tls.map(|tls| Server::new(tls, &[])).transpose()?;
    let streams = Streams::new(Decoding::new(plan, schema), FIRST_TAG).with_tls(tls);
    let listening = Listening { listen: listen.clone(), place: place.clone() };
    Ok(Box::new(Served::new(listening, streams.with_acks(acks), connections_max)))
}
