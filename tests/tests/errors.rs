//! What goes wrong is told with the component and the key, what to do, and an
//! exit code; what can be kept is kept.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;

use ringmain_tests::disk::{WithDisk, start_with_disk};
use ringmain_tests::{Done, Driver, Job, machine, until, with_each_driver};
use rustix::process::Signal;

/// Lines of a flow's source; the rest is the sink.
const SOURCE: &str = r#"
    name = "trouble"
    [sources.in]
    type = "file"
    path = "in.ndjson"
"#;

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(100))).collect()
}

fn with_sink(driver: Driver, sink: &str) -> Job {
    let flow = format!("{SOURCE}\n[sinks.out]\ninputs = [\"in\"]\n{sink}");
    Job::flow(driver, &flow).file("in.ndjson", lines(1000))
}

/// One error, which names the flow, the component and the key, and has these
/// words.
fn assert_error(done: &Done, start: &str, words: &[&str]) {
    let said = done.failed(1);
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(errors[0].starts_with(&format!("error: {start}: ")), "{said}");
    for word in words {
        assert!(errors[0].contains(word), "'{word}' is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

with_each_driver! {
    fn a_missing_input_is_an_error_of_the_key_path(driver: Driver) {
        let job = with_sink(driver, "type = \"blackhole\"");
        fs::remove_file(job.path("in.ndjson")).unwrap();
        assert_error(&job.run(), "trouble.in: path", &["no file matches 'in.ndjson'", "mode = \"tail\""]);
    }

    fn an_output_that_cannot_be_made_is_an_error_of_the_key_path(driver: Driver) {
        // A path below a file fails for every user, also for root.
        let job = with_sink(driver, "type = \"file\"\npath = \"in.ndjson/out/x\"");
        assert_error(&job.run(), "trouble.out: path", &["in.ndjson/out/x", "Not a directory"]);
    }

    fn an_output_that_is_a_folder_is_an_error_of_the_key_path(driver: Driver) {
        let job = with_sink(driver, "type = \"file\"\npath = \"folder\"").file("folder/x", "");
        assert_error(&job.run(), "trouble.out: path", &["folder", "directory"]);
    }

    fn an_unknown_host_is_an_error_of_the_key_address(driver: Driver) {
        let sink = "type = \"tcp\"\naddress = \"no-such-host.invalid:1\"";
        let words = ["cannot resolve 'no-such-host.invalid:1'", "DNS"];
        assert_error(&with_sink(driver, sink).run(), "trouble.out: address", &words);
    }

    fn a_port_in_use_is_an_error_of_the_key_listen(driver: Driver) {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let job = Job::flow(driver, &format!(r#"
            name = "trouble"
            [sources.in]
            type = "tcp"
            listen = "{address}"
            [sinks.out]
            type = "blackhole"
            inputs = ["in"]
        "#));
        let words = [&*address.to_string(), "in use", "another port"];
        assert_error(&job.run(), "trouble.in: listen", &words);
    }

    fn a_unix_socket_that_is_a_file_is_an_error_and_the_file_stays(driver: Driver) {
        let job = Job::flow(driver, r#"
            name = "trouble"
            [sources.in]
            type = "unix"
            path = "precious"
            [sinks.out]
            type = "blackhole"
            inputs = ["in"]
        "#).file("precious", "data");
        assert_error(&job.run(), "trouble.in: path", &["precious"]);
        assert_eq!(fs::read(job.path("precious")).unwrap(), b"data");
    }

    fn every_connector_that_cannot_be_opened_is_told_at_once(driver: Driver) {
        let sinks = "type = \"tcp\"\naddress = \"no-such-host.invalid:1\"\n\
                     [sinks.other]\ninputs = [\"in\"]\ntype = \"file\"\npath = \"in.ndjson/x\"";
        let flow = format!("{SOURCE}\n[sinks.out]\ninputs = [\"in\"]\n{sinks}");
        let more = SOURCE.replace("trouble", "more").replace("in.ndjson", "missing.ndjson");
        let more = more + "[sinks.out]\ntype = \"blackhole\"\ninputs = [\"in\"]";
        let job = Job::flow(driver, &flow).and_flow(&more);
        let job = job.file("in.ndjson", "");
        let done = job.run();
        let said = done.failed(1);
        assert!(said.contains("error: more.in: path: "), "{said}");
        assert!(said.contains("error: trouble.out: address: "), "{said}");
    }

    fn nothing_is_written_when_one_connector_cannot_be_opened(driver: Driver) {
        let sinks = "type = \"file\"\npath = \"out.ndjson\"\nmode = \"truncate\"\n\
                     [sinks.other]\ninputs = [\"in\"]\ntype = \"file\"\npath = \"in.ndjson/x\"";
        let job = with_sink(driver, sinks);
        assert_error(&job.run(), "trouble.other: path", &[]);
        let written = fs::read(job.path("out.ndjson")).unwrap_or_default();
        assert_eq!(written, b"", "messages moved though a sink was missing");
    }

    fn a_full_disk_is_told_and_tried_again_and_counts_as_nothing_written(driver: Driver) {
        let job = with_sink(driver, "type = \"file\"\npath = \"/dev/full\"");
        let job = Job::flow(driver, &format!(
            "drain = \"100ms\"\n{}",
            fs::read_to_string(job.path("flow-0.toml")).unwrap()
        )).file("in.ndjson", lines(1000));
        let mut daemon = job.start();
        daemon.wait_for("trouble.out: /dev/full: No space left on device");
        daemon.wait_for("trying again in");
        let done = daemon.drain();
        assert!(done.failed(1).contains("the deadline has passed"), "{}", done.stderr);
        let out = done.flow("trouble").totals("out");
        assert_eq!((out.rows_out, out.bytes_out), (0, 0), "nothing was accepted");
    }

    fn a_disk_that_fills_and_has_room_again_costs_no_message_and_no_restart(driver: Driver) {
        const COUNT: u64 = 20_000;
        let flow = format!(
            "{SOURCE}\nmode = \"tail\"\n[sinks.out]\ninputs = [\"in\"]\ntype = \"file\"\n\
             path = \"data/out.ndjson\""
        );
        let job = Job::flow(driver, &flow).file("in.ndjson", lines(COUNT as usize));
        let job = job.file("data/here", "");
        let Some(WithDisk { mut daemon, root }) = start_with_disk(&job, 4096, 3072) else {
            return;
        };
        daemon.wait_for("trouble.out: data/out.ndjson: No space left on device");
        let written = || fs::read_to_string(root.join("out.ndjson")).unwrap();
        assert!(written().lines().count() < COUNT as usize / 2);
        fs::remove_file(root.join("ballast")).unwrap();
        until("everything is written", || written().lines().count() == COUNT as usize);
        assert_eq!(written(), lines(COUNT as usize));
        let done = daemon.drain();
        assert_eq!(done.ok().rows("out"), [COUNT, COUNT, 0, 0]);
        assert!(done.stderr.contains("trouble.out: is well again"), "{}", done.stderr);
    }

    fn what_a_full_disk_refused_is_written_by_the_next_run(driver: Driver) {
        let sink = "type = \"file\"\npath = \"out.ndjson\"";
        let flow = format!("drain = \"100ms\"\n{SOURCE}\n[sinks.out]\ninputs = [\"in\"]\n{sink}");
        let job = Job::flow(driver, &flow).shards("[daemon]\ndata_dir = \"data\"\n");
        let job = job.file("in.ndjson", lines(20_000));
        symlink("/dev/full", job.path("out.ndjson")).unwrap();
        let mut daemon = job.start();
        daemon.wait_for("No space left on device");
        daemon.signal(Signal::TERM);
        daemon.wait().failed(1);

        fs::remove_file(job.path("out.ndjson")).unwrap();
        let done = job.run();
        assert_eq!(done.ok().rows("out"), [20_000, 20_000, 0, 0]);
        let numbers: Vec<_> =
            job.json("out.ndjson").iter().map(|message| message["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..20_000).collect::<Vec<_>>());
    }
}

#[test]
fn a_core_that_is_not_there_is_refused_with_the_ones_that_are() {
    let job = with_sink(Driver::Auto, "type = \"blackhole\"");
    let job = job.daemon_file("[shards]\ncores = \"900\"\n");
    let done = job.run();
    let said = done.failed(78);
    assert!(said.starts_with("ringmain.toml:2:9: error: core 900 "), "{said}");
    let first = machine::cores()[0].to_string();
    assert!(said.contains(&format!("cores: {first}")), "{said}");
}

#[test]
fn a_budget_that_is_too_small_is_refused_with_what_is_needed() {
    let sinks: String = (0..40)
        .map(|n| format!("[sinks.s{n}]\ntype = \"blackhole\"\ninputs = [\"in\"]\n"))
        .collect();
    let job = Job::flow(Driver::Auto, &format!("{SOURCE}{sinks}")).file("in.ndjson", "");
    let job = job.shards("memory = \"16MiB\"\n");
    let done = job.run();
    let said = done.failed(78);
    assert!(
        said.contains("the flows need ") && said.contains("[shards] memory is 16 MiB"),
        "{said}"
    );
}

#[test]
fn a_data_folder_that_cannot_be_used_is_an_error_with_its_path() {
    let job = with_sink(Driver::Auto, "type = \"blackhole\"");
    let job = job.shards("[daemon]\ndata_dir = \"in.ndjson\"\n");
    let done = job.run();
    assert!(done.failed(1).contains("error: data_dir: cannot use in.ndjson/"), "{}", done.stderr);
}

#[test]
fn a_damaged_checkpoint_is_refused_and_not_read_wrongly() {
    let job = with_sink(Driver::Auto, "type = \"file\"\npath = \"out.ndjson\"");
    let job = job.shards("[daemon]\ndata_dir = \"data\"\n");
    assert_eq!(job.run().ok().rows("out"), [1000, 1000, 0, 0]);
    let position = job.path("data/checkpoints/trouble.checkpoint");
    let mut bytes = fs::read(&position).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&position, bytes).unwrap();
    let done = job.run();
    let said = done.failed(1);
    assert!(said.contains("trouble.checkpoint is damaged; move it away"), "{said}");
    fs::remove_file(&position).unwrap();
    assert_eq!(job.run().ok().rows("out"), [1000, 1000, 0, 0]);
}

#[test]
fn a_summary_that_cannot_be_written_is_an_error() {
    let job = with_sink(Driver::Auto, "type = \"file\"\npath = \"out.ndjson\"");
    let out = job.call(&["run", "flow-0.toml", "--summary-json", "in.ndjson/s.json"]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("--summary-json in.ndjson/s.json"), "{said}");
    assert_eq!(job.lines("out.ndjson").len(), 1000);
}

#[test]
fn an_output_that_reads_itself_is_refused_or_ends() {
    let job = with_sink(Driver::Auto, "type = \"file\"\npath = \"in.ndjson\"");
    let done = job.run();
    assert!(done.failed(78).contains("in.ndjson"), "{}", done.stderr);
    until("the input is as it was", || job.lines("in.ndjson").len() == 1000);
}
