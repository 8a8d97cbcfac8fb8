//! The folder of one sink's segments on one shard: what is found in it at
//! start, new segments, their end.
//!
//! What a crash leaves: the last segment may end in a torn frame, or have no
//! whole head. That is cut off and told. Anything else that is not as it was
//! written is refused with the file's name; nothing is guessed.
//!
//! Blocks: at start, and where a segment begins or is done with, as connectors
//! do when they open and rotate files.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ringmain_slab::Schema;

use super::format::{self, BadHead, Found, Head, NO_END};
use super::place::{FILE_BYTES, Mark, Place};

const SUFFIX: &str = "spill";
const MARK_FILE: &str = "accepted";
/// What is read at a time at start.
const SCAN_BYTES: usize = 256 << 10;

/// One file of frames.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub id: u64,
    /// Bytes of frames in all segments before it, since the process began.
    pub base: u64,
    /// Bytes of whole frames in it.
    pub len: u64,
    pub head_bytes: u64,
    /// Fields that its head names.
    pub names: u16,
    pub path: PathBuf,
}

impl Segment {
    pub(super) fn end(&self) -> u64 {
        self.base + self.len
    }
}

/// What was there at start.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub segments: VecDeque<Segment>,
    pub next_id: u64,
    pub mark: Mark,
    /// Where reading goes on, counted as [`Segment::base`].
    pub accepted: u64,
    /// A torn end was cut off: the file, and how many bytes.
    pub torn: Option<(PathBuf, u64)>,
}

/// The folder of a sink's segments.
#[derive(Debug)]
pub(super) struct Folder {
    pub dir: PathBuf,
    /// Flow, sink and shard, as written into every head.
    pub owner: String,
}

impl Folder {
    /// Finds what an earlier run left. The error is for people.
    pub(super) fn recover(&self) -> Result<Recovered, String> {
        let fails = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        fs::create_dir_all(&self.dir).map_err(|error| fails(&self.dir, error))?;
        let mark = self.read_mark()?;
        let mut found = Recovered { mark, ..Recovered::default() };
        let ids = self.ids().map_err(|error| fails(&self.dir, error))?;
        found.next_id = 1 + mark.accepted.segment.max(mark.durable.segment);
        let mut previous: Option<Segment> = None;
        for (at, id) in ids.iter().enumerate() {
            let last = at + 1 == ids.len();
            let Some((mut segment, head)) = self.head(*id, last, &mut found)? else { continue };
            if let Some(before) = &mut previous {
                follow(before, &segment, &head)?;
                found.segments.push_back(before.clone());
                segment.base = before.end();
            }
            found.next_id = id + 1;
            previous = Some(segment);
        }
        if let Some(mut last) = previous {
            self.cut_torn_end(&mut last, &mut found)?;
            found.segments.push_back(last);
        }
        self.forget_accepted(&mut found);
        if let Some(first) = found.segments.front().filter(|_| found.segments.len() > 1) {
            verify(first)?;
        }
        Ok(found)
    }

    fn read_mark(&self) -> Result<Mark, String> {
        let path = self.dir.join(MARK_FILE);
        match fs::read(&path) {
            Ok(bytes) => Mark::decode(&bytes)
                .ok_or_else(|| format!("{} is not a file of this program", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mark::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    fn ids(&self) -> io::Result<Vec<u64>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let id = stem.and_then(|stem| stem.parse::<u64>().ok());
            if path.extension().is_some_and(|e| e == SUFFIX) {
                ids.extend(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:020}.{SUFFIX}"))
    }

    /// `None` for one that a crash kept from getting a head: it is removed.
    fn head(
        &self,
        id: u64,
        last: bool,
        found: &mut Recovered,
    ) -> Result<Option<(Segment, Head)>, String> {
        let path = self.path(id);
        let name = path.display();
        let fails = |error: io::Error| format!("{name}: {error}");
        let mut file = File::open(&path).map_err(fails)?;
        let size = file.metadata().map_err(fails)?.len();
        let mut bytes = Vec::with_capacity(8 << 10);
        Read::by_ref(&mut file).take(SCAN_BYTES as u64).read_to_end(&mut bytes).map_err(fails)?;
        let (head, head_bytes) = match Head::decode(&bytes) {
            Ok(head) => head,
            Err(BadHead::Short) if last && !known_good(&found.mark, id) => {
                fs::remove_file(&path).map_err(fails)?;
                found.torn = Some((path, size));
                return Ok(None);
            }
            Err(BadHead::Version(v)) => {
                return Err(format!("{name} was written by another version of ringmain ({v})"));
            }
            Err(BadHead::Foreign) => return Err(format!("{name} is not a file of this program")),
            Err(BadHead::Damaged | BadHead::Short) => {
                return Err(format!("{name} is damaged: its head is not as it was written"));
            }
        };
        if head.owner != self.owner {
            let (theirs, ours) = (&head.owner, &self.owner);
            return Err(format!("{name} belongs to {theirs}, not to {ours}"));
        }
        if head.id != id {
            return Err(format!("{name} was renamed: it is segment {}", head.id));
        }
        let (len, head_bytes) = (size - head_bytes as u64, head_bytes as u64);
        let names = head.names.len() as u16;
        Ok(Some((Segment { id, base: 0, len, head_bytes, names, path }, head)))
    }

    /// The last segment ends where its last good frame does.
    fn cut_torn_end(&self, last: &mut Segment, found: &mut Recovered) -> Result<(), String> {
        let fails = |error: io::Error| format!("{}: {error}", last.path.display());
        let good = good_bytes(last).map_err(fails)?;
        let known = found.mark.durable;
        if known.segment == last.id && good < known.bytes {
            return Err(damaged(last, good));
        }
        if good < last.len {
            let file = OpenOptions::new().write(true).open(&last.path).map_err(fails)?;
            file.set_len(last.head_bytes + good).map_err(fails)?;
            found.torn = Some((last.path.clone(), last.len - good));
            last.len = good;
        }
        Ok(())
    }

    /// Takes away what the sink had accepted.
    fn forget_accepted(&self, found: &mut Recovered) {
        let accepted = found.mark.accepted;
        while let Some(first) = found.segments.front() {
            let end = Place { segment: first.id, bytes: first.len };
            if accepted.segment == first.id && accepted.bytes < first.len {
                found.accepted = first.base + accepted.bytes;
                return;
            }
            found.accepted = first.base;
            if accepted < end && first.len > 0 {
                return;
            }
            found.accepted = first.end();
            let _ = fs::remove_file(&first.path);
            found.segments.pop_front();
        }
    }

    /// A new segment, with its head.
    pub(super) fn create(
        &self,
        id: u64,
        base: u64,
        previous_end: Option<u64>,
        created_us: i64,
        schema: &Schema,
    ) -> io::Result<(Segment, File)> {
        let path = self.path(id);
        let head = Head::of(id, previous_end.unwrap_or(NO_END), created_us, &self.owner, schema);
        let bytes = head.encode();
        let mut options = OpenOptions::new();
        // A file of this name is one whose head could not be written.
        let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
        if let Err(error) = file.write_all_at(&bytes, 0) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let names = head.names.len() as u16;
        let segment = Segment { id, base, len: 0, head_bytes: bytes.len() as u64, names, path };
        Ok((segment, file))
    }

    /// The file that says how far everything has been accepted.
    pub(super) fn mark_file(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(self.dir.join(MARK_FILE))?;
        let len = file.metadata()?.len();
        if len < FILE_BYTES as u64 {
            // Written, not only sized: a full disk must not stop it later.
            file.write_all_at(&vec![0; FILE_BYTES - len as usize], len)?;
        }
        Ok(file)
    }
}

/// Whether there is any segment in the folder.
pub(super) fn has_segments(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|e| e == SUFFIX))
}

/// A segment to read from, with the names of its fields.
pub(super) fn open(segment: &Segment) -> io::Result<(File, Head)> {
    let mut file = File::open(&segment.path)?;
    let mut bytes = vec![0; segment.head_bytes as usize];
    file.read_exact(&mut bytes)?;
    match Head::decode(&bytes) {
        Ok((head, _)) => Ok((file, head)),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "its head is damaged")),
    }
}

/// Frames of this segment have been on stable storage, so its head has.
fn known_good(mark: &Mark, id: u64) -> bool {
    mark.durable > Place { segment: id, bytes: 0 }
}

/// Checks that `next` follows, and sets the end that it knows of.
fn follow(before: &mut Segment, next: &Segment, head: &Head) -> Result<(), String> {
    if next.id != before.id + 1 {
        let (missing, dir) = (before.id + 1, before.path.parent().unwrap_or(Path::new(".")));
        return Err(format!("{}: segment {missing} is missing", dir.display()));
    }
    if head.previous_end > before.len {
        let (is, was) = (before.len, head.previous_end);
        let name = before.path.display();
        return Err(format!("{name} is damaged: {is} B of frames are left of {was}"));
    }
    before.len = head.previous_end;
    Ok(())
}

fn damaged(segment: &Segment, at: u64) -> String {
    let (name, at) = (segment.path.display(), segment.head_bytes + at);
    format!("{name} is damaged: what stands at byte {at} is not what was written there")
}

/// Every frame of a segment that was complete.
fn verify(segment: &Segment) -> Result<(), String> {
    let good = good_bytes(segment).map_err(|e| format!("{}: {e}", segment.path.display()))?;
    if good < segment.len { Err(damaged(segment, good)) } else { Ok(()) }
}

/// Bytes of good frames from the beginning.
fn good_bytes(segment: &Segment) -> io::Result<u64> {
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(segment.head_bytes))?;
    let mut file = file.take(segment.len);
    let (mut bytes, mut start, mut place) = (Vec::with_capacity(SCAN_BYTES), 0, 0);
    loop {
        match format::find(&bytes[start..], segment.id, place) {
            Found::Frame(frame) => {
                start += frame.len;
                place += frame.len as u64;
            }
            Found::Bad => return Ok(place),
            Found::More(_) => {
                bytes.drain(..start);
                start = 0;
                if Read::by_ref(&mut file).take(SCAN_BYTES as u64).read_to_end(&mut bytes)? == 0 {
                    return Ok(place);
                }
            }
        }
    }
}
