//! What connectors promise, over a real driver: one module per promise.
#![forbid(unsafe_code)]

mod certs;
mod datagrams;
mod file_read;
mod file_tail;
mod file_write;
mod line_acks;
mod rig;
mod speed;
mod tcp;
mod tls;
