//! The source that listens for TCP connections. Bounds: those of
//! [`crate::served`] and [`crate::streams`].

use ringmain_config::plan::{Listen, ServerTls, SourcePlan};
use ringmain_slab::SharedSchema;

use crate::decode::Decoding;
use crate::listening::Listening;
use crate::served::{FIRST_TAG, Served};
use crate::streams::Streams;
use crate::tls::Server;
use crate::{ConnectorError, Placement, Source};

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
    let listening = Listening::new(listen, place);
    Ok(Box::new(Served::new(listening, streams.with_acks(acks), connections_max)))
}
