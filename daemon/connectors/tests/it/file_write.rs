//! A file sink writes every row once and in order, through rotation, restarts
//! and full disks.

use std::fs;
use std::path::Path;

use ringmain_base::Reason;
use ringmain_config::plan::{
    EncodePlan, FileMode, FileSink, Fsync, Rotation, Segment, SinkKind, SinkPlan, Template,
};
use ringmain_connectors::{Fault, Health, Placement};

use crate::rig::{Rig, sink_plan, spanned};

fn template(segments: Vec<Segment>) -> Template {
    Template { text: spanned(String::new()), segments }
}

fn at(path: &Path) -> Template {
    template(vec![Segment::Literal(path.to_str().unwrap().to_owned())])
}

fn plan(path: Template) -> SinkPlan {
    sink_plan(SinkKind::File(FileSink {
        path,
        mode: FileMode::Append,
        rotate: Rotation::default(),
        fsync: Fsync::Never,
    }))
}

fn file(plan: &mut SinkPlan) -> &mut FileSink {
    match &mut plan.kind {
        SinkKind::File(file) => file,
        _ => panic!("no file sink"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_row_is_written_once_and_in_order() {
    for fsync in [Fsync::Never, Fsync::Rotate, Fsync::Always, Fsync::Interval(1_000)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/out.ndjson");
        let mut plan = plan(at(&path));
        file(&mut plan).fsync = fsync;
        let mut rig = Rig::new();
        let sink = rig.sink(&plan);
        let mut want = String::new();
        for slab in 0..40 {
            let slab = rig.numbers(slab * 1_000, 1_000, 50);
            want += &rig.lines(&slab);
            rig.push_all(sink, &slab);
        }
        rig.finish(sink);
        assert_eq!(rig.finished(sink), 40);
        assert!(fs::read_to_string(&path).unwrap() == want, "{fsync:?}");
        assert_eq!(rig.bytes, want.len() as u64);
    }
}

#[test]
fn a_slab_is_finished_only_when_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new();
    let sink = rig.sink(&plan(at(&folder.path().join("a"))));
    let slab = rig.numbers(0, 10, 0);
    assert_eq!(rig.push(sink, &slab, 0), 10);
    assert_eq!(rig.finished(sink), 0);
    rig.slab_end(sink);
    assert_eq!(rig.finished(sink), 0);
    rig.until("the write", |rig| {
        rig.poll_sink(sink);
        rig.finished(sink) == 1
    });
    assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), rig.lines(&slab));
    assert!(rig.is_idle(sink));
}

#[test]
fn a_full_disk_stops_the_source_and_loses_nothing() {
    for shards in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut plan = plan(at(&path));
        plan.buffer_bytes = 64 << 10;
        let mut rig = Rig::new();
        let place = Placement::new(0, shards, &rig.claims);
        let sink = ringmain_connectors::sink(&plan, &rig.schema, &place).unwrap();
        let sink = rig.add_sink(sink).unwrap();
        rig.io.fault.set(Some(rustix::io::Errno::NOSPC.raw_os_error()));
        let slab = rig.numbers(0, 5_000, 100);
        let (mut from, mut quiet) = (0, 0);
        rig.until("a sink that takes nothing", |rig| {
            rig.poll_sink(sink);
            let took = rig.push(sink, &slab, from);
            from += took;
            quiet = if took == 0 { quiet + 1 } else { 0 };
            quiet > 20
        });
        assert!(from < 1_000, "{from} rows of 120 B in 64 KiB");
        assert_eq!(rig.finished(sink), 0);
        let Health::Retrying(text) = rig.health(sink) else { panic!("healthy") };
        assert!(text.contains("No space left") && text.contains("/a:"), "{text}");
        rig.io.fault.set(None);
        rig.skip(10_000_000);
        rig.until("the rest", |rig| {
            rig.poll_sink(sink);
            from += rig.push(sink, &slab, from);
            from == slab.len()
        });
        rig.slab_end(sink);
        rig.finish(sink);
        assert_eq!(rig.finished(sink), 1);
        assert_eq!(rig.health(sink), Health::Good);
        assert!(fs::read_to_string(&path).unwrap() == rig.lines(&slab), "{shards} shards");
    }
}

#[test]
fn the_full_device_keeps_everything_and_says_why() {
    let mut rig = Rig::new();
    let sink = rig.sink(&plan(at(Path::new("/dev/full"))));
    let slab = rig.numbers(0, 10, 0);
    assert_eq!(rig.push(sink, &slab, 0), 10);
    rig.until("the error", |rig| {
        rig.poll_sink(sink);
        matches!(rig.health(sink), Health::Retrying(_))
    });
    assert_eq!(rig.finished(sink), 0);
    assert!(!rig.is_idle(sink));
}

#[test]
fn a_torn_tail_is_repaired_before_anything_is_appended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, "{\"n\":-2}\n{\"n\":-").unwrap();
    let mut rig = Rig::new();
    let sink = rig.sink(&plan(at(&path)));
    assert_eq!(rig.letters.0[0].reason, Reason::Truncated);
    assert_eq!(rig.letters.0[0].bytes, b"{\"n\":-");
    let slab = rig.numbers(0, 2, 0);
    rig.push_all(sink, &slab);
    rig.finish(sink);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"n\":-2}\n{\"n\":0}\n{\"n\":1}\n");
}

#[test]
fn truncate_empties_a_file_once_per_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, "old\n").unwrap();
    let mut plan = plan(at(&path));
    file(&mut plan).mode = FileMode::Truncate;
    let mut rig = Rig::new();
    for run in 0..2 {
        let sink = rig.sink(&plan);
        let slab = rig.numbers(run, 1, 0);
        rig.push_all(sink, &slab);
        rig.finish(sink);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"n\":0}\n{\"n\":1}\n");
}

#[test]
fn rotation_by_size_keeps_every_row_whole_and_every_file_below_the_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut plan = plan(at(&path));
    file(&mut plan).rotate = Rotation { size_bytes: Some(10_000), every_us: None, keep: None };
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    let mut want = String::new();
    for slab in 0..10 {
        let slab = rig.numbers(slab * 100, 100, 80);
        want += &rig.lines(&slab);
        rig.push_all(sink, &slab);
    }
    rig.finish(sink);
    let mut names = names(folder.path());
    names.rotate_left(1);
    let files: Vec<_> =
        names.iter().map(|name| fs::read_to_string(folder.path().join(name)).unwrap()).collect();
    assert!(files.len() > 9, "{names:?}");
    assert!(files.iter().all(|file| file.len() <= 10_000 && file.ends_with('\n')));
    assert!(files.concat() == want);
    assert_eq!(rig.finished(sink), 10);
}

#[test]
fn only_so_many_closed_files_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(at(&folder.path().join("a")));
    file(&mut plan).rotate = Rotation { size_bytes: Some(5_000), every_us: None, keep: Some(2) };
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    let slab = rig.numbers(0, 400, 80);
    rig.push_all(sink, &slab);
    rig.finish(sink);
    let names = names(folder.path());
    assert_eq!(names.len(), 3, "{names:?}");
    let last = fs::read_to_string(folder.path().join("a")).unwrap();
    assert!(rig.lines(&slab).ends_with(&last));
}

#[test]
fn rotation_by_time_closes_a_file_of_that_age() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(at(&folder.path().join("a")));
    file(&mut plan).rotate = Rotation { size_bytes: None, every_us: Some(60_000_000), keep: None };
    let mut rig = Rig::new();
    let sink = rig.sink(&plan);
    for number in 0..3 {
        let slab = rig.numbers(number, 1, 0);
        rig.push_all(sink, &slab);
        rig.skip(61_000_000);
        rig.poll_sink(sink);
        // An empty file is not rotated.
        rig.skip(61_000_000);
        rig.poll_sink(sink);
    }
    rig.finish(sink);
    assert_eq!(names(folder.path()), ["a", "a.000001", "a.000002", "a.000003"]);
    let third = fs::read_to_string(folder.path().join("a.000003")).unwrap();
    assert_eq!(third, "{\"n\":2}\n");
}

#[test]
fn each_value_has_its_file_and_more_values_than_open_files_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("by-").to_str().unwrap().to_owned();
    let path = template(vec![Segment::Literal(prefix), Segment::Field("n".into())]);
    let mut rig = Rig::new();
    let sink = rig.sink(&plan(path));
    for _ in 0..3 {
        let slab = rig.numbers(0, 200, 0);
        rig.push_all(sink, &slab);
    }
    rig.finish(sink);
    assert_eq!(names(folder.path()).len(), 200);
    for n in 0..200 {
        let text = fs::read_to_string(folder.path().join(format!("by-{n}"))).unwrap();
        assert_eq!(text, format!("{{\"n\":{n}}}\n").repeat(3));
    }
    assert_eq!(rig.finished(sink), 3);
}

#[test]
fn a_row_without_the_field_of_the_path_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("by-").to_str().unwrap().to_owned();
    let path = template(vec![Segment::Literal(prefix), Segment::Field("plant".into())]);
    let mut rig = Rig::new();
    let sink = rig.sink(&plan(path));
    let slab = rig.numbers(0, 2, 0);
    rig.push_all(sink, &slab);
    rig.finish(sink);
    assert_eq!(rig.letters.0.len(), 2);
    assert_eq!(rig.letters.0[0].reason, Reason::Field);
    assert_eq!(rig.finished(sink), 1);
}

#[test]
fn each_csv_file_begins_with_the_names_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let mut plan = plan(at(&path));
    plan.encode = EncodePlan::Csv { columns: vec!["n".into()], header: true, delimiter: b',' };
    let mut rig = Rig::new();
    for run in 0..2 {
        let sink = rig.sink(&plan);
        let slab = rig.numbers(run, 1, 0);
        rig.push_all(sink, &slab);
        rig.finish(sink);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "n\n0\n1\n");
}

#[test]
fn a_folder_that_cannot_be_is_an_error_of_the_key_path() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let mut rig = Rig::new();
    let inside = folder.path().join("file/out.ndjson");
    let error = rig.try_sink(&plan(at(&inside))).unwrap_err();
    assert_eq!((error.fault, error.key), (Fault::Setup, "path"));
    assert!(error.message.starts_with("cannot write to '"), "{}", error.message);
    let error = rig.try_sink(&plan(at(folder.path()))).unwrap_err();
    assert!(error.message.contains("directory"), "{}", error.message);
}

#[test]
fn two_shards_append_whole_rows_to_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let plan = plan(at(&path));
    let mut rig = Rig::new();
    let sinks: Vec<_> = (0..2)
        .map(|shard| {
            let place = Placement::new(shard, 2, &rig.claims);
            let sink = ringmain_connectors::sink(&plan, &rig.schema, &place).unwrap();
            rig.add_sink(sink).unwrap()
        })
        .collect();
    for round in 0..20 {
        for (at, sink) in sinks.iter().enumerate() {
            let slab = rig.numbers(round * 2_000 + at as i64 * 1_000, 1_000, 0);
            rig.push_all(*sink, &slab);
        }
    }
    sinks.iter().for_each(|sink| rig.finish(*sink));
    let text = fs::read_to_string(&path).unwrap();
    let mut numbers: Vec<u64> =
        text.lines().map(|line| line["{\"n\":".len()..line.len() - 1].parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..40_000).collect::<Vec<_>>());

    let mut rotating = plan.clone();
    file(&mut rotating).rotate.size_bytes = Some(1 << 20);
    let place = Placement::new(0, 2, &rig.claims);
    let error = ringmain_connectors::sink(&rotating, &rig.schema, &place).err().unwrap();
    assert_eq!(error.key, "rotate");
}
