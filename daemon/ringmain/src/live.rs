//! Figures of a running flow for its picture.

use ringmain_config::graph::Notes;
use serde_json::Value;

use crate::args::ApiArgs;
use crate::client::{Client, encoded};
use crate::flows::number;

/// Rates of components, backpressure of edges, now.
pub(crate) fn notes(api: &ApiArgs, flow: &str) -> Result<Notes, String> {
    let flow = Client::new(api)?.get(&format!("/api/v1/flows/{}", encoded(flow)))?;
    let list = |key: &str| flow[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let component = |c: &Value| {
        // Of a sink what has been accepted, of the others what came in.
        let rate = if c["role"] == "sink" { &c["rate_out"] } else { &c["rate_in"] };
        let health = text(&c["health"]);
        let health = if health == "good" { String::new() } else { format!(", {health}") };
        (text(&c["name"]), format!("{}/s{health}", number(rate)))
    };
    let edge = |e: &Value| {
        let ends = (text(&e["from"]), text(&e["to"]));
        (ends, format!("{} %", number(&e["backpressure_percent"])))
    };
    Ok(Notes {
        components: list("components").iter().map(component).collect(),
        edges: list("edges").iter().map(edge).collect(),
    })
}
