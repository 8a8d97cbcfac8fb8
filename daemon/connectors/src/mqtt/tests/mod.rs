//! Source and sink against a broker that does its worst.

mod reading;
mod rig;
mod speed;
mod writing;
