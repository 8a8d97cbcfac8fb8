//! The source that answers HTTP requests with messages. Bounds: those of
//! [`crate::served`], and of [`requests`].

mod answer;
mod array;
mod connection;
mod request;
mod requests;
mod work;

#[cfg(test)]
mod tests;

use ringmain_config::plan::{DecodePlan, HttpSource, SourcePlan};
use ringmain_slab::SharedSchema;

pub(crate) use requests::{BUFFER_BYTES, BUFFERS, carry_limit_bytes};

use crate::decode::Decoding;
use crate::listening::Listening;
use crate::served::Served;
use crate::tls::Server;
use crate::{ConnectorError, Placement, Source};
use request::Rules;
use requests::Requests;

pub(crate) fn source(
    plan: &SourcePlan,
    http: &HttpSource,
    schema: &SharedSchema,
    place: &Placement,
) -> Result<Box<dyn Source>, ConnectorError> {
    let json = plan.decode == DecodePlan::Json;
    let records = matches!(plan.decode, DecodePlan::Csv(_));
    let tls = http.tls.as_ref().map(|tls| Server::new(tls, &["http/1.1"])).transpose()?;
    let rules = Rules::new(http, json, records);
    let requests = Requests::new(http, rules, Decoding::new(plan, schema), tls);
    let listening = Listening::new(&http.listen, place);
    Ok(Box::new(Served::new(listening, requests, http.connections_max)))
}
