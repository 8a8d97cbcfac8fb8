//! Where the dead letters of a flow are while it runs: a file and those that
//! were closed before it. They may be long; no more is read at once than
//! [`READ_BYTES_MAX`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ringmain_config::FlowPlan;
use ringmain_config::plan::{EncodePlan, FramePlan, Segment, SinkKind};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use xxhash_rust::xxh3::xxh3_64;

use super::letters::{DeadError, Filter, Letter, letter};

/// What is looked at of a store; older letters are left out, and the reader is
/// told.
const READ_BYTES_MAX: u64 = 64 << 20;

/// Digits at the end of the name of a file that was closed.
const DIGITS: usize = 6;

/// Letters of one component with one reason.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Kind {
    component: String,
    reason: String,
    count: u64,
    /// When the first was refused (RFC 3339).
    first: String,
    last: String,
    /// Why, in words, of the last one.
    detail: String,
}

/// A letter that can be named.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Named {
    /// A hash of the letter.
    pub id: String,
    /// As it stands in the file.
    #[schema(value_type = Object)]
    pub letter: Box<RawValue>,
}

/// What is in a store.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Page {
    /// All letters of the flow.
    pub total: u64,
    /// Those that are meant.
    pub matching: u64,
    /// Whether the whole store was looked at, not only its newest part.
    pub complete: bool,
    /// By component and reason.
    pub kinds: Vec<Kind>,
    /// The newest of those that are meant, the newest first.
    pub letters: Vec<Named>,
}

/// The file that a flow's dead letters are written to.
pub(crate) fn path(flow: &FlowPlan) -> Result<PathBuf, String> {
    let name = &flow.name.value;
    let Some(sink) = &flow.dead_letters else {
        return Err(format!("the flow '{name}' keeps no dead letters; add [dead_letters] to it"));
    };
    let SinkKind::File(file) = &sink.kind else {
        return Err(format!(
            "the dead letters of '{name}' do not go to a file: look at them where they go, or as \
             they pass with `ringmain tap {name}.{}`",
            sink.name
        ));
    };
    if sink.encode != EncodePlan::Json || sink.frame != FramePlan::Newline {
        return Err(format!(
            "the dead letters of '{name}' are not written as lines of JSON, which can be read again"
        ));
    }
    let literal = file.path.segments.iter().map(|segment| match segment {
        Segment::Literal(text) => Some(text.as_str()),
        _ => None,
    });
    literal.collect::<Option<String>>().map(PathBuf::from).ok_or_else(|| {
        format!("the dead letters of '{name}' go to files whose names change: use `ringmain dead`")
    })
}

/// The file and those that were closed before it, the oldest first.
pub(crate) fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = closed(path)?;
    if path.exists() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// Files that were closed, the oldest first.
pub(crate) fn closed(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = match fs::read_dir(folder.unwrap_or(Path::new("."))) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let entry = entry?.file_name();
        let entry = entry.to_string_lossy();
        let digits = entry.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.'));
        let is_number =
            |rest: &str| rest.len() >= DIGITS && rest.bytes().all(|b| b.is_ascii_digit());
        if digits.is_some_and(is_number) {
            files.push(path.with_file_name(&*entry));
        }
    }
    files.sort();
    Ok(files)
}

/// Which of a flow's letters are meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meant {
    pub flow: String,
    pub filter: Filter,
    /// By their names; all, where there is none.
    pub ids: Vec<String>,
}

impl Meant {
    pub(crate) fn has(&self, letter: &Letter) -> bool {
        letter.flow == self.flow
            && self.filter.matches(letter)
            && (self.ids.is_empty() || self.ids.contains(&id(letter)))
    }
}

/// A letter's name.
pub(crate) fn id(letter: &Letter) -> String {
    format!("{:016x}", xxh3_64(letter.line.as_bytes()))
}

/// Looks at the newest part of a store.
pub(crate) fn look(path: &Path, meant: &Meant, limit: usize) -> Result<Page, DeadError> {
    let fails = |path: &Path, error| DeadError::Io { path: path.to_owned(), error };
    let mut page = Page { complete: true, ..Page::default() };
    let mut kinds: BTreeMap<(String, String), Kind> = BTreeMap::new();
    let mut left = READ_BYTES_MAX;
    for file in files(path).map_err(|error| fails(path, error))?.iter().rev() {
        if left == 0 {
            page.complete = false;
            break;
        }
        let (text, whole) = tail(file, left).map_err(|error| fails(file, error))?;
        page.complete &= whole;
        left = left.saturating_sub(text.len() as u64);
        // From the newest on. What the daemon is writing now has no end yet.
        let ended = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in ended.rsplit('\n').filter(|line| !line.trim().is_empty()) {
            let Ok(letter) = letter(line) else { continue };
            if letter.flow != meant.flow {
                continue;
            }
            page.total += 1;
            count(&mut kinds, &letter);
            if meant.has(&letter) {
                page.matching += 1;
                if page.letters.len() < limit
                    && let Ok(raw) = RawValue::from_string(letter.line.clone())
                {
                    page.letters.push(Named { id: id(&letter), letter: raw });
                }
            }
        }
    }
    page.kinds = kinds.into_values().collect();
    page.kinds.sort_by_key(|kind| std::cmp::Reverse(kind.count));
    Ok(page)
}

/// The newest comes first.
fn count(kinds: &mut BTreeMap<(String, String), Kind>, letter: &Letter) {
    match kinds.entry((letter.component.clone(), letter.reason.clone())) {
        Entry::Occupied(mut kind) => {
            let kind = kind.get_mut();
            kind.count += 1;
            kind.first.clone_from(&letter.time);
        }
        Entry::Vacant(place) => {
            place.insert(Kind {
                component: letter.component.clone(),
                reason: letter.reason.clone(),
                count: 1,
                first: letter.time.clone(),
                last: letter.time.clone(),
                detail: letter.detail.clone(),
            });
        }
    }
}

/// The last lines of a file, so many bytes at most, and whether that is all.
fn tail(path: &Path, bytes: u64) -> io::Result<(String, bool)> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        // It was closed and renamed since it was found.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((String::new(), true)),
        Err(error) => return Err(error),
    };
    let from = file.metadata()?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    if from == 0 {
        return Ok((text, true));
    }
    let first = text.find('\n').map_or(text.len(), |end| end + 1);
    Ok((text[first..].to_owned(), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: usize, flow: &str, reason: &str) -> String {
        format!(
            "{{\"time\":\"2026-01-01T00:00:{at:02}Z\",\"flow\":\"{flow}\",\"component\":\"c\",\
             \"reason\":\"{reason}\",\"detail\":\"d{at}\",\"message\":{{\"n\":{at}}}}}\n"
        )
    }

    #[test]
    fn closed_files_and_the_open_one_are_one_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.ndjson");
        let old = line(1, "f", "script") + &line(2, "other", "script");
        fs::write(dir.path().join("dead.ndjson.000001"), old).unwrap();
        fs::write(dir.path().join("dead.ndjson.note"), "no letters").unwrap();
        let torn = line(3, "f", "script") + &line(4, "f", "decode") + "{\"time\":";
        fs::write(&path, torn).unwrap();
        let mut meant = Meant { flow: "f".into(), ..Meant::default() };
        let page = look(&path, &meant, 2).unwrap();
        assert_eq!((page.total, page.matching, page.complete), (3, 3, true));
        let shown: Vec<_> = page.letters.iter().map(|l| l.letter.get().to_owned() + "\n").collect();
        assert_eq!(shown, [line(4, "f", "decode"), line(3, "f", "script")]);
        let kind = &page.kinds[0];
        assert_eq!((kind.count, kind.reason.as_str(), kind.detail.as_str()), (2, "script", "d3"));
        assert!(kind.first < kind.last);
        meant.ids = vec![page.letters[1].id.clone()];
        assert_eq!(look(&path, &meant, 9).unwrap().matching, 1);
        assert!(look(&dir.path().join("nowhere/dead"), &meant, 9).unwrap().letters.is_empty());
    }
}
