//! How slabs move between cores: rings, credit, doorbells. Numbers go back,
//! payload goes forward.
//!
//! Four rooms, each usable without the next:
//! - [`ring`](ring()): a bounded queue for one producer and one consumer;
//! - [`Doorbell`]: wakes the other side, and only when it sleeps;
//! - [`edge()`]: two rings and one number make a bounded, credited hand-over of
//!   slabs with markers in band;
//! - [`acks`] and [`Meter`]: what a producer knows about its edge, namely up to
//!   which message everything is finished and for how long it had no credit.
//!
//! Invariants:
//! - One producer and one consumer, by type: no end is `Clone`, and whatever
//!   changes an end takes `&mut self`.
//! - Full and closed are values. Nothing here waits, spins, sleeps, reads a
//!   clock or, after construction, allocates per message or per slab.
//! - The slabs of an edge are its memory bound: they circulate, their number
//!   never grows.
//! - All atomics come from [`mod@sync`], so that loom runs the code that ships.
//!
//! Deliberately absent: any notion of rows or of what a slab is (`S` is only
//! moved), executors, threads, multi-producer queues, blocking receive.

pub mod acks;
mod doorbell;
mod edge;
mod item;
mod meter;
mod ring;
pub mod sync;

pub use doorbell::{Doorbell, Wake};
pub use edge::{Downstream, Upstream, edge, edge_bytes};
pub use item::{Item, Marker, Span};
pub use meter::{Meter, MeterSample};
pub use ring::{Batch, Consumer, Drain, Producer, PushError, ring};
