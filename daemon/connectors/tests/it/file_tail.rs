//! A file source in mode `tail` gives every line once, through growth,
//! rotation, truncation and restarts.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use ringmain_base::Reason;
use ringmain_config::plan::{FileSource, FileStart, ReadMode, SourceKind, SourcePlan};
use ringmain_connectors::{Health, Pull};

use crate::rig::{Rig, number_lines, numbers_of, source_plan, spanned};

fn plan(folder: &Path, glob: &str, start: FileStart) -> SourcePlan {
    let path = folder.join(glob).to_str().unwrap().to_owned();
    source_plan(SourceKind::File(FileSource {
        paths: vec![spanned(path)],
        mode: ReadMode::Tail,
        start,
        poll_us: 1_000_000,
    }))
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// What comes after the next look.
fn next(rig: &mut Rig, source: usize) -> Vec<u64> {
    rig.skip(1_100_000);
    let mut rows = Vec::new();
    for _ in 0..10 {
        rows.extend(rig.pull(source).1);
        rig.turn();
    }
    numbers_of(&rows)
}

fn range(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn what_is_appended_comes_and_a_half_line_waits_for_its_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, number_lines(0..3)).unwrap();
    let mut rig = Rig::new();
    let source = rig.source(&plan(folder.path(), "a", FileStart::Beginning));
    assert_eq!(next(&mut rig, source), range(0..3));
    append(&path, "{\"n\":3}\n{\"n\"");
    assert_eq!(next(&mut rig, source), [3]);
    append(&path, ":4}\n");
    assert_eq!(next(&mut rig, source), [4]);
    assert_eq!(next(&mut rig, source), [] as [u64; 0]);
    assert!(rig.letters.0.is_empty());
}

#[test]
fn start_end_leaves_out_what_is_there_and_not_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "{\"n\":0}\n{\"n\":1").unwrap();
    let mut rig = Rig::new();
    let source = rig.source(&plan(folder.path(), "*", FileStart::End));
    assert_eq!(next(&mut rig, source), [] as [u64; 0]);
    append(&folder.path().join("a"), "7}\n");
    fs::write(folder.path().join("b"), number_lines(100..103)).unwrap();
    let mut rows = next(&mut rig, source);
    rows.sort_unstable();
    assert_eq!(rows, [17, 100, 101, 102]);
}

#[test]
fn a_missing_file_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new();
    let source = rig.source(&plan(folder.path(), "x*", FileStart::Beginning));
    let Health::Retrying(text) = rig.health(source) else { panic!("healthy") };
    assert!(text.contains("no file matches"), "{text}");
    fs::write(folder.path().join("x1"), number_lines(0..2)).unwrap();
    assert_eq!(next(&mut rig, source), [0, 1]);
    assert_eq!(rig.health(source), Health::Good);
}

#[test]
fn after_a_rename_the_old_file_is_read_to_its_end_and_the_new_one_from_its_beginning() {
    for glob in ["log", "log*"] {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        fs::write(&path, number_lines(0..10)).unwrap();
        let mut rig = Rig::new();
        let source = rig.source(&plan(folder.path(), glob, FileStart::Beginning));
        assert_eq!(next(&mut rig, source), range(0..10));
        append(&path, &number_lines(10..20));
        fs::rename(&path, &old).unwrap();
        // The writer still has the old file open.
        append(&old, &number_lines(20..25));
        fs::write(&path, number_lines(25..30)).unwrap();
        append(&old, "{\"n\":99}");
        let mut rows = next(&mut rig, source);
        rows.sort_unstable();
        assert_eq!(rows, range(10..30), "{glob}");
        append(&path, &number_lines(30..31));
        assert_eq!(next(&mut rig, source), [30]);
        if glob == "log" {
            // Long after the name has gone, the half line is given out.
            rig.skip(10_000_000);
            assert_eq!(next(&mut rig, source), [99]);
        }
        assert!(rig.letters.0.is_empty());
    }
}

#[test]
fn a_truncated_file_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, number_lines(0..100) + "{\"n").unwrap();
    let mut rig = Rig::new();
    let source = rig.source(&plan(folder.path(), "a", FileStart::Beginning));
    assert_eq!(next(&mut rig, source), range(0..100));
    // copytruncate: the same file, shorter.
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    append(&path, &number_lines(200..210));
    assert_eq!(next(&mut rig, source), range(200..210));
    assert_eq!(rig.letters.0.len(), 1);
    assert_eq!((rig.letters.0[0].reason, rig.letters.0[0].offset), (Reason::Truncated, 890));
}

#[test]
fn a_file_that_was_truncated_and_grew_beyond_its_old_size_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, number_lines(0..10)).unwrap();
    let mut rig = Rig::new();
    let source = rig.source(&plan(folder.path(), "a", FileStart::Beginning));
    assert_eq!(next(&mut rig, source), range(0..10));
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    append(&path, &number_lines(500..600));
    assert_eq!(next(&mut rig, source), range(500..600));
}

#[test]
fn a_deleted_file_is_read_to_its_end_and_its_descriptor_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, number_lines(0..10)).unwrap();
    let mut rig = Rig::new();
    let source = rig.source(&plan(folder.path(), "a", FileStart::Beginning));
    append(&path, &number_lines(10..12));
    fs::remove_file(&path).unwrap();
    assert_eq!(next(&mut rig, source), range(0..12));
    rig.skip(10_000_000);
    assert_eq!(next(&mut rig, source), [] as [u64; 0]);
    fs::write(&path, number_lines(50..52)).unwrap();
    assert_eq!(next(&mut rig, source), [50, 51]);
}

#[test]
fn shards_divide_files_and_keep_them_through_a_rename() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new();
    let plan = plan(folder.path(), "*", FileStart::Beginning);
    let owners: Vec<_> = (0..2)
        .map(|shard| {
            let twin = rig.build_source(&plan, shard, 2);
            rig.add_source(twin).unwrap()
        })
        .collect();
    for file in 0..8_u64 {
        let path = folder.path().join(file.to_string());
        fs::write(path, number_lines(file * 10..file * 10 + 10)).unwrap();
    }
    let mut first: Vec<_> = owners.iter().map(|owner| next(&mut rig, *owner)).collect();
    for file in 0..8_u64 {
        let old = folder.path().join(file.to_string());
        fs::rename(&old, folder.path().join(format!("{file}.old"))).unwrap();
    }
    assert!(owners.iter().all(|owner| next(&mut rig, *owner).is_empty()));
    let mut all = first.concat();
    all.sort_unstable();
    assert_eq!(all, range(0..80));
    assert!(first.iter_mut().all(|rows| !rows.is_empty()));
}

#[test]
fn a_stopped_source_ends() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), number_lines(0..10)).unwrap();
    let mut rig = Rig::new();
    let source = rig.source(&plan(folder.path(), "a", FileStart::Beginning));
    assert_eq!(next(&mut rig, source), range(0..10));
    rig.stop(source);
    rig.until("the end", |rig| rig.pull(source).0 == Pull::Ended);
    rig.quiet();
}

#[derive(Clone, Debug)]
enum Step {
    /// Appends so many bytes of the text, wherever they end.
    Append(usize),
    Rotate,
    Pull(usize),
    /// Kill and start again from the position of that moment.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..3_000_usize).prop_map(Step::Append),
        1 => Just(Step::Rotate),
        4 => (1..4_usize).prop_map(Step::Pull),
        2 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 30, ..ProptestConfig::default() })]

    #[test]
    fn every_line_comes_once_whatever_the_writes_rotations_and_restarts(
        steps in prop::collection::vec(step(), 1..30)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let plan = plan(folder.path(), "log*", FileStart::Beginning);
        let text = number_lines(0..20_000);
        let (mut written, mut rotations) = (0, 0);
        let mut seen = Vec::new();
        let mut rig = Rig::with_slab(4 << 10);
        let mut source = rig.source(&plan);
        for step in steps {
            match step {
                Step::Append(bytes) => {
                    let end = (written + bytes).min(text.len());
                    append(&path, &text[written..end]);
                    written = end;
                }
                Step::Rotate => {
                    // Whoever rotates ends a line first.
                    let line = text[written..].find('\n').map_or(0, |at| at + 1);
                    if written > 0 {
                        append(&path, &text[written..written + line]);
                        written += line;
                        rotations += 1;
                        fs::rename(&path, folder.path().join(format!("log.{rotations}"))).unwrap();
                    }
                }
                Step::Pull(pulls) => {
                    rig.skip(1_100_000);
                    for _ in 0..pulls {
                        seen.extend(numbers_of(&rig.pull(source).1));
                        rig.turn();
                    }
                }
                Step::Restart => {
                    let position = rig.position(source);
                    rig = Rig::with_slab(4 << 10);
                    let mut next = rig.build_source(&plan, 0, 1);
                    next.restore(&position).unwrap();
                    source = rig.add_source(next).unwrap();
                }
            }
        }
        let line = text[written..].find('\n').map_or(0, |at| at + 1);
        append(&path, &text[written..written + line]);
        written += line;
        let want: Vec<u64> = (0..text[..written].lines().count() as u64).collect();
        rig.until("every line", |rig| {
            rig.skip(1_100_000);
            seen.extend(numbers_of(&rig.pull(source).1));
            seen.len() >= want.len()
        });
        seen.sort_unstable();
        prop_assert_eq!(seen, want);
        prop_assert!(rig.letters.0.is_empty());
    }
}
