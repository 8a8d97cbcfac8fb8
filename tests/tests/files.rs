//! Files that are followed, and files that are closed.

use std::fs::{self, OpenOptions};
use std::io::Write;

use ringmain_tests::{Driver, Job, sensors, until, with_each_driver};

const TAIL: &str = r#"
    [sources.in]
    type = "file"
    path = "log/*.ndjson"
    mode = "tail"
    poll = "10ms"
    [sinks.out]
    type = "file"
    inputs = ["in"]
    path = "out.ndjson"
"#;

fn append(job: &Job, name: &str, numbers: std::ops::Range<usize>) {
    let mut file = OpenOptions::new().append(true).create(true).open(job.path(name)).unwrap();
    for n in numbers {
        writeln!(file, "{{\"n\":{n}}}").unwrap();
    }
}

fn until_copied(job: &Job, count: usize) {
    until(&format!("{count} lines are copied"), || {
        let text = fs::read_to_string(job.path("out.ndjson")).unwrap_or_default();
        text.matches('\n').count() >= count
    });
}

fn numbers(job: &Job, name: &str) -> Vec<usize> {
    job.json(name).iter().map(|message| message["n"].as_u64().unwrap() as usize).collect()
}

with_each_driver! {
    fn a_file_that_is_rotated_by_renaming_is_read_to_its_end_and_the_new_one_from_its_beginning(
        driver: Driver
    ) {
        let job = Job::flow(driver, TAIL).file("log/a.ndjson", "{\"n\":0}\n");
        let daemon = job.start();
        until_copied(&job, 1);
        append(&job, "log/a.ndjson", 1..100);
        // Renamed before it was read to its end, and written to once more.
        fs::rename(job.path("log/a.ndjson"), job.path("log/a.old")).unwrap();
        append(&job, "log/a.old", 100..150);
        append(&job, "log/a.ndjson", 150..200);
        until_copied(&job, 200);
        assert_eq!(daemon.drain().ok().rows("out"), [200, 200, 0, 0]);
        let mut numbers = numbers(&job, "out.ndjson");
        numbers.sort_unstable();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    }

    fn a_file_that_is_copied_and_emptied_is_read_again_from_its_beginning(driver: Driver) {
        let job = Job::flow(driver, TAIL).file("log/a.ndjson", "{\"n\":0}\n");
        let daemon = job.start();
        append(&job, "log/a.ndjson", 1..100);
        until_copied(&job, 100);
        fs::copy(job.path("log/a.ndjson"), job.path("log/a.1")).unwrap();
        OpenOptions::new().write(true).open(job.path("log/a.ndjson")).unwrap().set_len(0).unwrap();
        append(&job, "log/a.ndjson", 100..120);
        until_copied(&job, 120);
        assert_eq!(daemon.drain().ok().rows("out"), [120, 120, 0, 0]);
        assert_eq!(numbers(&job, "out.ndjson"), (0..120).collect::<Vec<_>>());
    }

    fn a_new_file_that_matches_is_found(driver: Driver) {
        let job = Job::flow(driver, TAIL).file("log/a.ndjson", "{\"n\":0}\n");
        let daemon = job.start();
        until_copied(&job, 1);
        append(&job, "log/b.ndjson", 1..30);
        append(&job, "log/c.txt", 1000..1030);
        until_copied(&job, 30);
        assert_eq!(daemon.drain().ok().rows("out"), [30, 30, 0, 0]);
    }

    fn a_line_that_is_written_in_two_pieces_is_one_message(driver: Driver) {
        let job = Job::flow(driver, TAIL).file("log/a.ndjson", "{\"n\":0}\n{\"n\":");
        let daemon = job.start();
        until_copied(&job, 1);
        let mut file = OpenOptions::new().append(true).open(job.path("log/a.ndjson")).unwrap();
        file.write_all(b"1}\n").unwrap();
        until_copied(&job, 2);
        assert_eq!(daemon.drain().ok().rows("in"), [2, 2, 0, 0]);
        assert_eq!(numbers(&job, "out.ndjson"), [0, 1]);
    }

    fn files_are_closed_at_their_size_and_together_hold_everything(driver: Driver) {
        let job = Job::flow(driver, r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [sinks.out]
            type = "file"
            inputs = ["in"]
            path = "out/data.ndjson"
            rotate = { size = "64KiB" }
        "#).file("in.ndjson", sensors::lines(5000, 1));
        assert_eq!(job.run().ok().rows("out"), [5000, 5000, 0, 0]);
        let mut names: Vec<_> = fs::read_dir(job.path("out")).unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        // The one that is written to comes first, then by age.
        names.sort();
        names.rotate_left(1);
        assert!(names.len() > 5, "{names:?}");
        let mut all = String::new();
        for name in &names {
            let text = fs::read_to_string(job.path("out").join(name)).unwrap();
            assert!(text.len() <= 64 << 10, "{name}: {}", text.len());
            assert!(text.ends_with('\n'), "{name} ends inside a line");
            all += &text;
        }
        assert_eq!(sensors::parse(&all), sensors::parse(&sensors::lines(5000, 1)));
    }

    fn only_the_closed_files_that_are_to_be_kept_stay(driver: Driver) {
        let job = Job::flow(driver, r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [sinks.out]
            type = "file"
            inputs = ["in"]
            path = "out/data.ndjson"
            rotate = { size = "64KiB", keep = 2 }
        "#).file("in.ndjson", sensors::lines(5000, 1));
        assert_eq!(job.run().ok().rows("out"), [5000, 5000, 0, 0]);
        assert_eq!(fs::read_dir(job.path("out")).unwrap().count(), 3);
        let all = sensors::parse(&sensors::lines(5000, 1));
        let last = job.json("out/data.ndjson");
        assert_eq!(last[..], all[all.len() - last.len()..]);
    }

    fn a_path_by_field_and_shape_of_date_gives_each_value_a_file(driver: Driver) {
        let job = Job::flow(driver, r#"
            [sources.in]
            type = "file"
            path = "in.ndjson"
            [sinks.out]
            type = "file"
            inputs = ["in"]
            path = "out/{plant}/{date:%Y}.ndjson"
        "#).file("in.ndjson", sensors::lines(5000, 1));
        assert_eq!(job.run().ok().rows("out"), [5000, 5000, 0, 0]);
        let all = sensors::parse(&sensors::lines(5000, 1));
        for plant in (0..10).map(|n| format!("plant-{n}")) {
            let files: Vec<_> = fs::read_dir(job.path("out").join(&plant)).unwrap().collect();
            assert_eq!(files.len(), 1);
            let name = files[0].as_ref().unwrap().file_name().into_string().unwrap();
            let expected: Vec<_> = all.iter().filter(|m| m["plant"] == *plant).cloned().collect();
            assert_eq!(job.json(&format!("out/{plant}/{name}")), expected);
        }
    }
}
