//! MQTT 3.1.1 and 5: a source that subscribes and a sink that publishes, over
//! the shard's own [`Io`](ringmain_runtime::io::Io).
//!
//! Owns: the connection ([`client`]), cutting what comes into packets
//! ([`input`]), the packets themselves ([`wire`], [`control`]), and who has
//! which message: [`inbox`] for what came, [`outbox`] for what goes.
//!
//! rumqttc's codec reads and writes the packets of a connection's life;
//! publications and acknowledgements are read in the receive buffer and
//! written into the send buffer without an allocation. Its event loop is not
//! used, and neither is its `MqttState`: a publication that meets a taken
//! packet id there is put aside and lost with the connection, a session that
//! the broker forgot leaves it waiting for ever, and a batch of acknowledgements
//! that waits for the sinks has no place in it. Measured beside it in one
//! process (`tests/speed.rs`, 100 B, ns per message): received with QoS 0 35
//! against 194, with QoS 1 and its acknowledgement 42 against 231, sent with
//! QoS 1 and acknowledged 29 against 301.
//!
//! Invariants:
//! - A message of QoS 1 or 2 is acknowledged to the broker when everything
//!   that it became is accepted, never before.
//! - What goes out stays here until the broker has it for good.
//! - Messages of one topic keep their order, through reconnects as well.
//!
//! Deliberately absent: websockets, topic aliases, extended authentication.

mod client;
mod control;
mod filter;
mod inbox;
mod input;
mod outbox;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod topic;
mod wire;

pub(crate) use sink::Publisher;
pub(crate) use source::{GROUP, Subscriber, bytes};
