//! What only one component of all flows can have: an address to listen at, a
//! socket, a file to write, standard input.

use std::net::SocketAddr;

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::parse::ParsedFlow;
use crate::plan::{FlowPlan, Listen, MqttClient, SinkKind, SinkPlan, SourceKind, Trigger};
use crate::span::Span;

enum Resource {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Socket(String),
    Stdin,
    Output(String),
    /// A client of a broker, by its address and id.
    MqttClient(String, String),
}

struct Claim {
    resource: Resource,
    span: Span,
    /// "source 'a'"; with its flow when there are several.
    who: String,
}

pub(super) fn check(out: &mut Diagnostics, flows: &[ParsedFlow], api: Option<&Listen>) {
    let mut claims: Vec<Claim> = Vec::new();
    if let Some(listen) = api {
        let (resource, span) = (Resource::Tcp(listen.addr), listen.text.span);
        claims.push(Claim { resource, span, who: "[api]".to_owned() });
    }
    for flow in flows {
        own_output(out, &flow.plan);
        claim(&flow.plan, flows.len() > 1, &mut claims);
    }
    for (at, claim) in claims.iter().enumerate() {
        if let Some(first) = claims[..at].iter().find(|c| clash(&c.resource, &claim.resource)) {
            let (message, help) = describe(&first.who, &claim.who, &claim.resource);
            let note = format!("{} is here", first.who);
            out.push(Diagnostic::error(claim.span, message).note(first.span, note).help(help));
        }
    }
}

fn claim(flow: &FlowPlan, several: bool, claims: &mut Vec<Claim>) {
    let of = if several { format!(" of flow '{}'", flow.name) } else { String::new() };
    for source in &flow.sources {
        let (resource, span) = match &source.kind {
            SourceKind::Tcp { listen, .. } => (Resource::Tcp(listen.addr), listen.text.span),
            SourceKind::Http(http) => (Resource::Tcp(http.listen.addr), http.listen.text.span),
            SourceKind::Udp { listen, .. } => (Resource::Udp(listen.addr), listen.text.span),
            SourceKind::Unix { path, .. } => (Resource::Socket(clean(path)), path.span),
            SourceKind::Stdin => (Resource::Stdin, source.name.span),
            SourceKind::Mqtt(mqtt) => match mqtt_client(&mqtt.client) {
                Some(found) => found,
                None => continue,
            },
            SourceKind::Generator { .. } | SourceKind::File(_) | SourceKind::Timer(_) => continue,
        };
        claims.push(Claim { resource, span, who: format!("source '{}'{of}", source.name) });
    }
    if let Some(Trigger::Mqtt(mqtt)) = flow.schedule.as_ref().map(|s| &s.trigger)
        && let Some((resource, span)) = mqtt_client(&mqtt.client)
    {
        claims.push(Claim { resource, span, who: format!("[schedule]{of}") });
    }
    for sink in flow.sinks.iter().chain(&flow.dead_letters) {
        let found = match &sink.kind {
            SinkKind::File(file) => {
                Some((Resource::Output(clean(&file.path.text)), file.path.text.span))
            }
            SinkKind::Mqtt(mqtt) => mqtt_client(&mqtt.client),
            _ => None,
        };
        if let Some((resource, span)) = found {
            let who = match sink.name.value.as_str() {
                "dead_letters" => format!("[dead_letters]{of}"),
                name => format!("sink '{name}'{of}"),
            };
            claims.push(Claim { resource, span, who });
        }
    }
}

/// An id that was given. The others are made so that no two are alike.
fn mqtt_client(client: &MqttClient) -> Option<(Resource, Span)> {
    let id = &client.client_id;
    let resource = Resource::MqttClient(client.address.clone(), id.value.clone());
    (!id.is_empty()).then_some((resource, id.span))
}

/// The same path written in two ways, as far as that can be seen without
/// looking at the disk.
fn clean(path: &str) -> String {
    let mut path = path.replace("//", "/");
    while let Some(rest) = path.strip_prefix("./") {
        path = rest.to_owned();
    }
    path
}

fn clash(a: &Resource, b: &Resource) -> bool {
    match (a, b) {
        (Resource::Tcp(a), Resource::Tcp(b)) | (Resource::Udp(a), Resource::Udp(b)) => {
            addresses_clash(a, b)
        }
        (Resource::Socket(a), Resource::Socket(b)) | (Resource::Output(a), Resource::Output(b)) => {
            a == b
        }
        (Resource::MqttClient(a, b), Resource::MqttClient(c, d)) => (a, b) == (c, d),
        (Resource::Stdin, Resource::Stdin) => true,
        _ => false,
    }
}

/// Port 0 is a different port each time. An unspecified address is every
/// address of its family; `[::]` takes IPv4 with it on Linux.
fn addresses_clash(a: &SocketAddr, b: &SocketAddr) -> bool {
    let covers = |x: &SocketAddr, y: &SocketAddr| {
        x.ip().is_unspecified() && (x.is_ipv6() || x.is_ipv4() == y.is_ipv4())
    };
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

fn describe(first: &str, second: &str, resource: &Resource) -> (String, &'static str) {
    let (what, help) = match resource {
        Resource::Tcp(addr) => {
            (format!("listen at TCP port {}", addr.port()), "change one of the ports")
        }
        Resource::Udp(addr) => {
            (format!("listen at UDP port {}", addr.port()), "change one of the ports")
        }
        Resource::Socket(path) => {
            (format!("create the socket '{path}'"), "change one of the paths")
        }
        Resource::Stdin => {
            ("read standard input".to_owned(), "keep one; others can read its source as an input")
        }
        Resource::MqttClient(_, id) => (
            format!("use the client id '{id}'"),
            "a broker lets one in and throws the other out; give each its own, or none",
        ),
        Resource::Output(path) => {
            (format!("write '{path}'"), "give each its own file; one sink can have several inputs")
        }
    };
    (format!("{first} and {second} both {what}"), help)
}

/// A flow that reads what it writes never ends.
fn own_output(out: &mut Diagnostics, flow: &FlowPlan) {
    let literal = |sink: &SinkPlan| match &sink.kind {
        SinkKind::File(file) => file.path.literal().map(clean),
        _ => None,
    };
    for sink in flow.sinks.iter().chain(&flow.dead_letters) {
        let (Some(path), SinkKind::File(file)) = (literal(sink), &sink.kind) else { continue };
        for source in &flow.sources {
            let SourceKind::File(input) = &source.kind else { continue };
            let reads = |p: &str| glob::Pattern::new(&clean(p)).is_ok_and(|g| g.matches(&path));
            if let Some(input) = input.paths.iter().find(|p| reads(p)) {
                let message =
                    format!("sink '{}' writes what source '{}' reads", sink.name, source.name);
                out.push(
                    Diagnostic::error(file.path.text.span, message)
                        .note(input.span, format!("'{input}' matches '{path}'"))
                        .help("write to another folder, or narrow the glob"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_clash_when_one_would_fail_to_bind() {
        let clash = |a: &str, b: &str| addresses_clash(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(clash("127.0.0.1:5140", "127.0.0.1:5140"));
        assert!(clash("0.0.0.0:5140", "127.0.0.1:5140"));
        assert!(clash("127.0.0.1:5140", "[::]:5140"));
        assert!(!clash("0.0.0.0:5140", "[::1]:5140"));
        assert!(!clash("127.0.0.1:5140", "127.0.0.2:5140"));
        assert!(!clash("127.0.0.1:0", "127.0.0.1:0"));
    }
}
