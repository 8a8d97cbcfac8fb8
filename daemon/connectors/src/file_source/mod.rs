//! The source that reads files: once to their end ([`once`]), or for as long
//! as they grow ([`tail`]).
//!
//! Owns: finding files ([`found`]), knowing them again ([`identity`]), where
//! reading goes on after a restart ([`position`]).

pub(crate) mod found;
mod identity;
pub(crate) mod once;
mod position;
mod tail;

use std::io;
use std::path::Path;

use ringmain_config::plan::{FileSource, ReadMode, SourcePlan};
use ringmain_slab::SharedSchema;

use self::found::Opened;
use self::position::Mark;
use crate::{ConnectorError, Placement, Source};

/// Receive buffers in `mode = "read"`: how many, of how many bytes.
pub(crate) const ONCE_BUFFERS: (u16, u32) = (once::BUFFERS, once::BUFFER_BYTES);
/// The same in `mode = "tail"`.
pub(crate) const TAIL_BUFFERS: (u16, u32) = (tail::BUFFERS, tail::BUFFER_BYTES);

/// The source of a plan.
pub(crate) fn source(
    plan: &SourcePlan,
    file: &FileSource,
    schema: &SharedSchema,
    place: &Placement,
) -> Box<dyn Source> {
    match file.mode {
        ReadMode::Read => Box::new(once::Once::new(plan, file, schema, place)),
        ReadMode::Tail => Box::new(tail::Tail::new(plan, file, schema, place)),
    }
}

/// Where reading a file begins: behind what a mark says was given out, if the
/// mark is of this file or of a copy that took its name.
fn resume_at(marks: &[Mark], path: &Path, file: &Opened) -> u64 {
    let begins_so = |mark: &Mark| mark.print.matches(std::os::fd::AsFd::as_fd(&file.fd));
    let same = |mark: &&Mark| mark.id == file.stat.id && begins_so(mark).unwrap_or(false);
    let copy =
        |mark: &&Mark| mark.path == path && mark.print.len > 0 && begins_so(mark).unwrap_or(false);
    let mark = marks.iter().find(same).or_else(|| marks.iter().find(copy));
    mark.map(|mark| mark.offset).filter(|offset| *offset <= file.stat.size).unwrap_or(0)
}

fn io_error(path: &Path, error: &io::Error) -> ConnectorError {
    ConnectorError::io("path", &path.display().to_string(), error)
}

fn no_memory(error: &io::Error) -> ConnectorError {
    ConnectorError::io("path", "memory for reading", error)
}
