//! The broker rumqttd as a process of its own, so that it can be killed: it has
//! no way to be stopped.
//!
//! `ringmain-test-rumqttd PORT VERSION`, VERSION 3.1.1 or 5. Says on standard
//! error what it does; everything it knows is gone with it.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Publications without an acknowledgement, for each client.
const INFLIGHT_MAX: usize = 1_000;
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
const SEGMENT_BYTES: usize = 100 << 20;

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(port), Some(version)) = (args.next(), args.next()) else {
        eprintln!("ringmain-test-rumqttd PORT VERSION");
        std::process::exit(2);
    };
    let port = port.parse().expect("the first argument is a port");
    tracing_subscriber::fmt().with_env_filter("rumqttd=info").with_writer(std::io::stderr).init();
    let connections = ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: PAYLOAD_BYTES_MAX,
        max_inflight_count: INFLIGHT_MAX,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "test".to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        tls: None,
        next_connection_delay_ms: 0,
        connections,
    };
    let servers = Some(HashMap::from([("test".to_owned(), server)]));
    let router = RouterConfig {
        max_connections: 100,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: 10,
        ..RouterConfig::default()
    };
    let (v4, v5) = if version == "5" { (None, servers) } else { (servers, None) };
    let mut broker = Broker::new(Config { router, v4, v5, ..Config::default() });
    broker.start().expect("the port is free");
}
