//! What every crate shares and no crate owns: units, limits, time, chance.
//!
//! Imports nothing but std, so that the crates above stay testable with a
//! virtual clock and a seeded generator. Deliberately absent: I/O, threads,
//! anything that knows what a message is.
#![forbid(unsafe_code)]

pub mod clock;
pub mod limits;
pub mod prng;
pub mod reason;
pub mod units;

pub use clock::{Clock, ManualClock, Now, SystemClock};
pub use prng::{Prng, Xoshiro};
pub use reason::Reason;
