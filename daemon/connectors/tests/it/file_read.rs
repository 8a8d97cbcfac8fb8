//! A file source in mode `read` gives every line once, whatever the buffers
//! and restarts.

use std::fs;
use std::path::Path;

use ringmain_base::Reason;
use ringmain_config::plan::{
    CsvDecode, DecodePlan, FileSource, FileStart, FramePlan, ReadMode, SourceKind, SourcePlan,
};
use ringmain_connectors::{Fault, Pull};

use crate::rig::{Rig, number_lines, numbers_of, source_plan, spanned};

fn plan(folder: &Path, glob: &str) -> SourcePlan {
    let path = folder.join(glob).to_str().unwrap().to_owned();
    source_plan(SourceKind::File(FileSource {
        paths: vec![spanned(path)],
        mode: ReadMode::Read,
        start: FileStart::Beginning,
        poll_us: 1_000_000,
    }))
}

#[test]
fn every_line_of_every_file_comes_once_in_the_order_of_names() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.ndjson"), number_lines(50_000..60_000)).unwrap();
    fs::write(folder.path().join("a.ndjson"), number_lines(0..50_000)).unwrap();
    fs::write(folder.path().join("c.ndjson"), "").unwrap();
    fs::write(folder.path().join("other.txt"), "{\"n\":1}\n").unwrap();
    let mut rig = Rig::new();
    let source = rig.source(&plan(folder.path(), "*.ndjson"));
    let rows = rig.drain(source);
    assert_eq!(numbers_of(&rows), (0..60_000).collect::<Vec<_>>());
    assert_eq!(rig.bytes, number_lines(0..60_000).len() as u64);
    assert!(rig.letters.0.is_empty());
}

#[test]
fn a_last_line_without_line_feed_counts_and_a_cut_record_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "{\"n\":1}\n\n{\"n\":2}").unwrap();
    let mut rig = Rig::new();
    let source = rig.source(&plan(folder.path(), "a"));
    assert_eq!(rig.drain(source), ["{\"n\":1}", "{\"n\":2}"]);

    fs::write(folder.path().join("b"), b"\0\0\0\x07{\"n\":1}\0\0\0\x09{\"n").unwrap();
    let mut prefixed = plan(folder.path(), "b");
    prefixed.frame = FramePlan::U32;
    let source = rig.source(&prefixed);
    assert_eq!(rig.drain(source), ["{\"n\":1}"]);
    let letter = &rig.letters.0[0];
    assert_eq!((letter.reason, letter.offset), (Reason::Truncated, 11));
    assert!(letter.origin.ends_with("/b"));
}

#[test]
fn what_does_not_decode_is_refused_with_file_and_offset_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(5_000);
    fs::write(folder.path().join("a"), format!("{{\"n\":1}}\noops\n{long}\n{{\"n\":2}}\n"))
        .unwrap();
    let mut plan = plan(folder.path(), "a");
    plan.frame_bytes = 1_000;
    let mut rig = Rig::new();
    let source = rig.source(&plan);
    assert_eq!(rig.drain(source), ["{\"n\":1}", "{\"n\":2}"]);
    let letters: Vec<_> = rig.letters.0.iter().map(|l| (l.reason, l.offset)).collect();
    assert_eq!(letters, [(Reason::Decode, 8), (Reason::TooLong, 13)]);
}

#[test]
fn shards_divide_the_files_among_them() {
    let folder = tempfile::tempdir().unwrap();
    for file in 0..7_u64 {
        let lines = number_lines(file * 10..file * 10 + 10);
        fs::write(folder.path().join(format!("{file}.ndjson")), lines).unwrap();
    }
    let plan = plan(folder.path(), "*");
    let mut all = Vec::new();
    for shard in 0..3 {
        let mut rig = Rig::new();
        let source = rig.build_source(&plan, shard, 3);
        let source = rig.add_source(source).unwrap();
        let rows = rig.drain(source);
        assert!(rows.len() >= 20, "shard {shard}");
        all.extend(numbers_of(&rows));
    }
    all.sort_unstable();
    assert_eq!(all, (0..70).collect::<Vec<_>>());
}

#[test]
fn a_glob_without_a_match_is_an_error_of_the_key_path() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new();
    let source = rig.build_source(&plan(folder.path(), "x*.ndjson"), 0, 1);
    let error = rig.add_source(source).unwrap_err();
    assert_eq!((error.fault, error.key), (Fault::Setup, "path"));
    assert!(error.message.starts_with("no file matches '"), "{}", error.message);
    assert!(error.message.contains("mode = \"tail\""), "{}", error.message);
}

#[test]
fn a_restart_goes_on_after_the_last_line_given_out_and_reads_what_was_appended() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    fs::write(&a, number_lines(0..30_000)).unwrap();
    fs::write(&b, number_lines(30_000..40_000)).unwrap();
    let plan = plan(folder.path(), "*");
    let mut seen = Vec::new();
    let mut position = None::<Vec<u8>>;
    for pulls in (1..).step_by(7) {
        let mut rig = Rig::with_slab(8 << 10);
        let mut source = rig.build_source(&plan, 0, 1);
        if let Some(position) = &position {
            source.restore(position).unwrap();
        }
        let source = rig.add_source(source).unwrap();
        let (mut filled, mut ended) = (0, false);
        rig.until("some slabs", |rig| {
            let (pull, rows) = rig.pull(source);
            filled += usize::from(!rows.is_empty());
            seen.extend(numbers_of(&rows));
            ended = pull == Pull::Ended;
            filled == pulls || ended
        });
        position = Some(rig.position(source));
        if ended {
            break;
        }
    }
    assert_eq!(seen, (0..40_000).collect::<Vec<_>>());

    // Everything was read: only what is new comes.
    let more = number_lines(40_000..40_005);
    fs::write(&b, number_lines(30_000..40_000) + &more).unwrap();
    let mut rig = Rig::new();
    let mut source = rig.build_source(&plan, 0, 1);
    source.restore(&position.unwrap()).unwrap();
    let source = rig.add_source(source).unwrap();
    assert_eq!(numbers_of(&rig.drain(source)), (40_000..40_005).collect::<Vec<_>>());
}

#[test]
fn another_file_of_the_same_name_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, number_lines(0..10)).unwrap();
    let plan = plan(folder.path(), "a");
    let mut rig = Rig::new();
    let source = rig.source(&plan);
    rig.drain(source);
    let position = rig.position(source);
    fs::remove_file(&path).unwrap();
    fs::write(&path, number_lines(100..120)).unwrap();
    let mut source = rig.build_source(&plan, 0, 1);
    source.restore(&position).unwrap();
    let source = rig.add_source(source).unwrap();
    assert_eq!(numbers_of(&rig.drain(source)), (100..120).collect::<Vec<_>>());
}

#[test]
fn a_csv_header_is_known_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..2_000).map(|n| format!("{n},x\n")).collect();
    fs::write(folder.path().join("a.csv"), format!("n,pad\n{rows}")).unwrap();
    let mut plan = plan(folder.path(), "a.csv");
    let csv = CsvDecode::default();
    plan.decode = DecodePlan::Csv(csv);
    let mut rig = Rig::with_slab(4 << 10);
    let source = rig.source(&plan);
    let first = rig.take(source, 1);
    let position = rig.position(source);
    let mut source = rig.build_source(&plan, 0, 1);
    source.restore(&position).unwrap();
    let source = rig.add_source(source).unwrap();
    let rest = rig.drain(source);
    assert_eq!(first.len() + rest.len(), 2_000);
    assert_eq!(rest.last().unwrap(), "{\"n\":1999,\"pad\":\"x\"}");
}

#[test]
fn a_stopped_source_gives_out_what_it_has_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), number_lines(0..200_000)).unwrap();
    let mut rig = Rig::new();
    let source = rig.source(&plan(folder.path(), "a"));
    let mut rows = rig.take(source, 1);
    rig.stop(source);
    rows.extend(rig.drain(source));
    assert!(rows.len() < 200_000);
    assert_eq!(numbers_of(&rows), (0..rows.len() as u64).collect::<Vec<_>>());
}
