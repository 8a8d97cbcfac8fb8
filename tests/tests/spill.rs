//! Messages that a sink has no room for wait on disk, through a stall, a kill
//! and a full disk.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use ringmain_tests::disk::{WithDisk, start_with_disk};
use ringmain_tests::net::small_server;
use ringmain_tests::sensors::Random;
use ringmain_tests::{Driver, Job, until, with_each_driver};
use rustix::process::Signal;
use serde_json::Value;

const DATA_DIR: &str = "[daemon]\ndata_dir = \"data\"\n";

fn flow(port: u16, spill: &str) -> String {
    format!(
        r#"
        name = "spilling"
        [sources.in]
        type = "file"
        path = "in.ndjson"
        [sinks.out]
        type = "tcp"
        address = "127.0.0.1:{port}"
        inputs = ["in"]
        buffer = "64KiB"
        retry = {{ min = "10ms", max = "50ms" }}
        when_full = "spill"
        spill = {{ {spill} }}
        [sinks.other]
        type = "file"
        path = "other.ndjson"
        inputs = ["in"]
    "#
    )
}

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(200))).collect()
}

fn number(line: &str) -> usize {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    value["n"].as_u64().unwrap() as usize
}

fn written(job: &Job) -> usize {
    let bytes = fs::read(job.path("other.ndjson")).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Whole lines of a stream, until its end or a break.
fn read_lines(stream: TcpStream) -> Vec<usize> {
    let mut reader = BufReader::new(stream);
    let mut numbers = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return numbers,
            Ok(_) if line.ends_with('\n') => numbers.push(number(&line)),
            Ok(_) => return numbers,
        }
    }
}

/// A server that accepts, and reads when it is told to.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().unwrap().0
}

/// Takes whole lines and acknowledges them, until so many bytes have come or
/// nothing comes any more.
fn take_lines(stream: &TcpStream, bytes_max: usize) -> Vec<usize> {
    if bytes_max < usize::MAX {
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    }
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    let (mut took, mut bytes, mut line) = (Vec::new(), 0, String::new());
    while bytes < bytes_max && reader.read_line(&mut line).is_ok() && line.ends_with('\n') {
        bytes += line.len();
        took.push(number(&line));
        line.clear();
        // The daemon may be gone.
        let _ = writeln!(writer, "{}", took.len());
    }
    took
}

with_each_driver! {
    fn a_stalled_peer_stops_nobody_and_gets_everything_once_and_in_order(driver: Driver) {
        const COUNT: usize = 60_000;
        let (listener, port) = small_server();
        let job = Job::flow(driver, &flow(port, "segment = \"1MiB\""));
        let job = job.shards(DATA_DIR).file("in.ndjson", lines(COUNT));
        let daemon = job.start();
        let stream = accept(&listener);
        until("the sibling has everything", || written(&job) == COUNT);
        let numbers = read_lines(stream);
        assert!(numbers.iter().copied().eq(0..COUNT), "{} lines", numbers.len());
        let done = daemon.wait();
        let out = done.ok().totals("out");
        assert_eq!(out.rows(), [COUNT as u64, COUNT as u64, 0, 0]);
        assert!(out.spilled > COUNT as u64 / 2 && out.spilled == out.resent, "{out:?}");
        assert_eq!(out.disk_bytes, 0);
        assert!(done.stderr.contains("messages wait on disk"), "{}", done.stderr);
    }

    fn what_is_left_at_a_drain_is_delivered_by_the_next_run(driver: Driver) {
        const COUNT: usize = 20_000;
        let (listener, port) = small_server();
        let toml = flow(port, "").replace("path = \"in.ndjson\"", "path = \"in.ndjson\"\nmode = \"tail\"");
        let job = Job::flow(driver, &toml).shards(DATA_DIR).file("in.ndjson", lines(COUNT));
        let daemon = job.start();
        let stream = accept(&listener);
        until("the sibling has everything", || written(&job) == COUNT);
        // The peer stays away; the daemon ends in good order all the same.
        let done = daemon.drain();
        assert!(done.ok().totals("out").disk_bytes > 0);
        let first = read_lines(stream);
        let daemon = job.start();
        let stream = accept(&listener);
        let reader = thread::spawn(move || read_lines(stream));
        until("nothing is left", || segments(&job) == 0);
        assert_eq!(daemon.drain().ok().totals("out").disk_bytes, 0);
        let second = reader.join().unwrap();
        assert_eq!(second.last(), Some(&(COUNT - 1)));
        assert!(second[0] <= first.len(), "{} to {} are missing", first.len(), second[0]);
        assert!(second.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    }

    fn killed_while_it_spills_it_loses_nothing(driver: Driver) {
        const COUNT: usize = 30_000;
        let mut random = Random::new(11);
        let (listener, port) = small_server();
        let spill = "segment = \"256KiB\", fsync = \"5ms\"";
        // What the kernel had taken would be lost without acknowledgements.
        let flow = flow(port, spill).replace("type = \"tcp\"", "type = \"tcp\"\nack = \"lines\"");
        let job = Job::flow(driver, &flow);
        let job = job.shards("[daemon]\ndata_dir = \"data\"\ncheckpoint_every = \"20ms\"\n");
        let job = job.file("in.ndjson", lines(COUNT));
        let mut seen = vec![0_usize; COUNT];
        for _ in 0..8 {
            let daemon = job.start();
            let stream = accept(&listener);
            // The peer takes a little, and stalls; then the daemon dies.
            let took = take_lines(&stream, random.below(400_000) as usize);
            thread::sleep(Duration::from_millis(random.below(120)));
            daemon.signal(Signal::KILL);
            drop(daemon);
            for n in took {
                seen[n] += 1;
            }
        }
        let daemon = job.start();
        let stream = accept(&listener);
        let reader = thread::spawn(move || take_lines(&stream, usize::MAX));
        let _ = daemon.wait().ok();
        // What comes for the first time comes in order; what was not stored as
        // accepted when the daemon died comes again.
        let mut newest = None;
        for n in reader.join().unwrap() {
            assert!(Some(n) > newest || seen[n] > 0, "{n} after {newest:?}");
            newest = newest.max(Some(n));
            seen[n] += 1;
        }
        let missing: Vec<_> = (0..COUNT).filter(|n| seen[*n] == 0).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    fn a_full_disk_makes_the_flow_wait_and_it_goes_on_when_there_is_room(driver: Driver) {
        const COUNT: usize = 60_000;
        let (listener, port) = small_server();
        let job = Job::flow(driver, &flow(port, "segment = \"256KiB\", fsync = \"5ms\""));
        let job = job.shards(DATA_DIR).file("in.ndjson", lines(COUNT)).file("data/x", "");
        let Some(WithDisk { mut daemon, .. }) = start_with_disk(&job, 4 << 10, 0) else { return };
        let stream = accept(&listener);
        daemon.wait_for("No space left on device");
        // Said for as long as nobody reads, which is until here.
        daemon.wait_for("the flow waits");
        let numbers = read_lines(stream);
        assert!(numbers.iter().copied().eq(0..COUNT), "{} lines", numbers.len());
        let done = daemon.wait();
        assert_eq!(done.ok().rows("out"), [COUNT as u64, COUNT as u64, 0, 0]);
        assert_eq!(done.ok().rows("other"), [COUNT as u64, COUNT as u64, 0, 0]);
    }

    fn a_damaged_file_keeps_it_from_starting_and_is_named(driver: Driver) {
        const COUNT: usize = 20_000;
        let (listener, port) = small_server();
        let toml = flow(port, "fsync = \"1ms\"").replace("path = \"in.ndjson\"", "path = \"in.ndjson\"\nmode = \"tail\"");
        let job = Job::flow(driver, &toml).shards(DATA_DIR).file("in.ndjson", lines(COUNT));
        let daemon = job.start();
        let _stream = accept(&listener);
        until("the sibling has everything", || written(&job) == COUNT);
        let _ = daemon.drain();
        let folder = job.path("data/spill/spilling/out/shard-0");
        let segment = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
        let segment = segment.filter(|p| p.extension().is_some_and(|e| e == "spill")).min().unwrap();
        let mut bytes = fs::read(&segment).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&segment, bytes).unwrap();
        let done = job.run();
        let said = done.failed(1);
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name) && said.contains("is damaged"), "{said}");
    }
}

fn segments(job: &Job) -> usize {
    let folder = job.path("data/spill/spilling/out/shard-0");
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    names.filter(|p| p.extension().is_some_and(|e| e == "spill")).count()
}
