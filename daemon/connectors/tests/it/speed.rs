//! Measurements, run by hand:
//! `cargo test --release -p ringmain-connectors --test it speed -- --ignored --nocapture --test-threads 1`

use std::fmt::Write;
use std::fs;
use std::time::Instant;

use ringmain_config::plan::{
    DecodePlan, FileMode, FileSink, FileSource, FileStart, FramePlan, Fsync, ReadMode, Rotation,
    Segment, SinkKind, SourceKind, Template,
};
use ringmain_connectors::Pull;
use ringmain_runtime::Driver;

use crate::rig::{Rig, sink_plan, source_plan, spanned};

fn sensors(lines: u64) -> String {
    let mut text = String::new();
    for n in 0..lines {
        let (rpm, temp) = (n * 7 % 3_000, n % 900);
        writeln!(
            text,
            "{{\"ts\":{},\"device\":\"motor-{:04}\",\"plant\":\"graz\",\"rpm\":{rpm}.{},\"temp\":{}.5,\"status\":\"ok\"}}",
            1_700_000_000_000 + n,
            n % 1_000,
            n % 10,
            temp
        )
        .unwrap();
    }
    text
}

fn read(decode: DecodePlan, frame: FramePlan, bytes: &[u8]) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, bytes).unwrap();
    let mut plan = source_plan(SourceKind::File(FileSource {
        paths: vec![spanned(path.to_str().unwrap().to_owned())],
        mode: ReadMode::Read,
        start: FileStart::Beginning,
        poll_us: 1_000_000,
    }));
    (plan.decode, plan.frame) = (decode, frame);
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let mut rig = Rig::with_slab(256 << 10);
        let source = rig.source(&plan);
        let start = Instant::now();
        while rig.pull_count(source).0 != Pull::Ended {
            rig.turn();
        }
        best = best.max(bytes.len() as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

#[test]
#[ignore = "a measurement, not a promise"]
fn speed_of_reading() {
    let lines = sensors(2_000_000);
    println!("io: {}", Rig::new().io.name());
    println!(
        "json lines: {:.2} GB/s",
        read(DecodePlan::Json, FramePlan::Newline, lines.as_bytes())
    );
    let mut records = Vec::new();
    for record in lines.as_bytes().chunks(16 << 10) {
        records.extend_from_slice(&(record.len() as u32).to_be_bytes());
        records.extend_from_slice(record);
    }
    println!("16 KiB records: {:.2} GB/s", read(DecodePlan::Bytes, FramePlan::U32, &records));
}

#[test]
#[ignore = "a measurement, not a promise"]
fn speed_of_writing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let segments = vec![Segment::Literal(path.to_str().unwrap().to_owned())];
    let mut plan = sink_plan(SinkKind::File(FileSink {
        path: Template { text: spanned(String::new()), segments },
        mode: FileMode::Truncate,
        rotate: Rotation::default(),
        fsync: Fsync::Never,
    }));
    plan.buffer_bytes = 2 << 20;
    for pad in [80, 8_000] {
        let mut best = 0.0_f64;
        for _ in 0..5 {
            let mut rig = Rig::new();
            let sink = rig.sink(&plan);
            let slab = rig.numbers(0, (256 << 10) / (pad + 100), pad);
            let bytes = rig.lines(&slab).len() * 1_000;
            let start = Instant::now();
            for _ in 0..1_000 {
                rig.push_all(sink, &slab);
            }
            rig.finish(sink);
            best = best.max(bytes as f64 / start.elapsed().as_secs_f64() / 1e9);
        }
        println!("rows of {} B: {best:.2} GB/s", pad + 20);
    }
}
