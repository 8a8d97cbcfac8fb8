//! JSON texts to rows.
//!
//! There are two ways through a record. The predicted one ([`shape`]) runs
//! over the block from the start of a line without knowing where the line
//! ends; it knows only bytes that a record had before, plain strings, numbers
//! and literals. Whatever it does not know sends the record, from that field
//! on, to the complete one, which sees exactly one frame and accepts exactly
//! RFC 8259: any order, white space, escapes, nested values, duplicates (the
//! last one wins), names without a slot, values that are not objects.
//!
//! A name that the flow's schema does not have yet is added only after the
//! whole frame was found to be sound, so that garbage cannot use up slots; the
//! frame is then read again.

mod keys;
mod number;
mod record;
mod rest;
mod rows;
mod shape;
mod string;
mod walk;

pub(crate) use number::{Number, number};
pub(crate) use record::VALUE;
pub(crate) use rows::JsonRows;
