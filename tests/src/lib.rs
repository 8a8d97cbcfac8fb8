//! Helpers that the end-to-end tests share: a folder with flows in it, the
//! daemon that runs them, and what it said and counted.
//!
//! Invariants:
//! - Every run that writes a summary is checked to balance, whatever the test
//!   looks at.
//! - Waits have deadlines that only a daemon that stands still meets; no test
//!   is decided by how long something took.
//! - A daemon ends with the test that started it.
#![forbid(unsafe_code)]

pub mod binary;
pub mod broker;
pub mod browser;
pub mod clients;
pub mod corpus;
pub mod cutter;
pub mod daemon;
pub mod disk;
pub mod driver;
pub mod http;
pub mod job;
pub mod machine;
pub mod mosquitto;
pub mod net;
pub mod picture;
pub mod plant;
pub mod rumqttd;
pub mod sensors;
pub mod summary;
pub mod wait;

pub use daemon::{Daemon, Done};
pub use driver::Driver;
pub use job::Job;
pub use summary::{Summary, Totals};
pub use wait::until;
