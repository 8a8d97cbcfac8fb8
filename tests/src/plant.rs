//! The flow that those watch who talk to a daemon: one of every kind of
//! component, lines in, and half of them out.

const FLOW: &str = r#"
name = "plant"
allow_loss = true
[sources.lines]
type = "tcp"
listen = "127.0.0.1:PORT"
decode = "json"
[operators.hot]
type = "filter"
inputs = ["lines"]
where = "n % 2 == 0"
[sinks.out]
type = "file"
inputs = ["hot"]
path = "out.ndjson"
"#;

/// The flow `plant`, which takes lines at a port.
#[must_use]
pub fn flow(port: u16) -> String {
    FLOW.replace("PORT", &port.to_string())
}
