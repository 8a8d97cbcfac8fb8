//! Bytes in, rows out, and back.
//!
//! Owns: telling frames apart ([`Framer`]), decoding them into rows of a slab
//! ([`Decoder`]), and writing rows as bytes ([`Encoder`]); formats json, text,
//! bytes and csv. What does not decode is reported with reason and place
//! ([`Refused`]) and the stream goes on.
//!
//! Invariants:
//! - How a stream is cut into chunks changes nothing: the same bytes give the
//!   same rows, refusals and offsets.
//! - A stream keeps at most one frame of at most `frame_bytes`.
//! - JSON is exactly RFC 8259, with the choices that it leaves open: nesting
//!   up to `DEPTH_MAX`, the last of equal names wins (names of nested objects
//!   are kept as they came), unpaired surrogates are refused. Whole numbers of
//!   64 bits are exact, decimals are the nearest `f64`, what neither holds
//!   keeps its text.
//! - What the JSON encoder writes is valid JSON.
//!
//! Deliberately absent: sockets, files, clocks and configuration; the caller
//! has those.
#![forbid(unsafe_code)]

mod csv;
mod decoder;
mod encode;
mod framer;
mod json;
mod message;
mod options;
mod refused;
mod scan;

pub use decoder::Decoder;
pub use encode::{EncodeError, Encoder};
pub use framer::Framer;
pub use options::{
    CsvEncodeOptions, CsvOptions, CsvTypes, DecodeOptions, EncodeOptions, Framing, Limits,
};
pub use refused::{HEAD_BYTES, Progress, Refused};
