//! What a package installs: the systemd unit, its sandbox, the files.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringmain_tests::binary::workspace;
use ringmain_tests::{Driver, Job, sensors};
use seccompiler::{BpfMap, apply_filter, compile_from_json};
use serde_json::{Value, json};

/// More exposed than this, by systemd's count, is refused.
const EXPOSURE_MAX: f64 = 3.0;

fn unit() -> String {
    std::fs::read_to_string(workspace().join("config/systemd/ringmain.service")).unwrap()
}

/// What systemd-analyze says, on both of its outputs.
fn analyze(args: &[&str], file: Option<&Path>) -> String {
    let mut command = Command::new("systemd-analyze");
    command.args(args).args(file);
    let output = command.output();
    let output = output.expect("systemd-analyze is there (Debian package systemd)");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn systemd_takes_the_unit_and_finds_little_to_expose() {
    // The program is not where the unit has it.
    let job = Job::new(Driver::Auto);
    let here = std::env::current_exe().unwrap().display().to_string();
    job.write("ringmain.service", unit().replace("/usr/bin/ringmain", &here));
    let path = job.path("ringmain.service");
    let said = analyze(&["verify"], Some(&path));
    let ours: Vec<_> = said.lines().filter(|line| line.contains("ringmain.service")).collect();
    assert!(ours.iter().all(|line| line.contains("man ringmain")), "{said}");
    let said = analyze(&["security", "--no-pager", "--offline=true"], Some(&path));
    let last = said.lines().find_map(|line| line.split("ringmain.service: ").nth(1));
    let level = last.and_then(|last| last.split(' ').next()?.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level <= EXPOSURE_MAX), "{said}");
}

/// The calls of a set of systemd's, with the sets that it names.
fn calls_of(set: &str, sets: &str, calls: &mut BTreeSet<String>) {
    let lines = sets.lines().skip_while(|line| *line != set).skip(1);
    let members = lines.take_while(|line| line.starts_with(' ')).map(str::trim);
    for member in members.filter(|member| !member.starts_with('#')) {
        match member.starts_with('@') {
            true => calls_of(member, sets, calls),
            false => {
                calls.insert(member.to_owned());
            }
        }
    }
}

/// What the unit's `SystemCallFilter` leaves.
fn allowed_calls() -> BTreeSet<String> {
    let sets = analyze(&["syscall-filter", "--no-pager"], None);
    let mut allowed = BTreeSet::new();
    let unit = unit();
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (removes, words) = match line.strip_prefix('~') {
            Some(words) => (true, words),
            None => (false, line),
        };
        let mut named = BTreeSet::new();
        for word in words.split(' ') {
            match word.starts_with('@') {
                true => calls_of(word, &sets, &mut named),
                false => {
                    named.insert(word.to_owned());
                }
            }
        }
        match removes {
            true => allowed.retain(|call| !named.contains(call)),
            false => allowed.extend(named),
        }
    }
    // systemd allows what a service needs to begin and end.
    allowed.extend(["execve", "exit", "exit_group", "rt_sigreturn"].map(str::to_owned));
    allowed
}

/// Compiles a filter of these calls; those that another architecture has, or a
/// newer kernel, are left out.
fn filter(mut calls: BTreeSet<String>) -> BpfMap {
    // AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: RestrictAddressFamilies.
    let family = |family: u32| {
        let is = json!({ "index": 0, "type": "dword", "op": "eq", "val": family });
        json!({ "syscall": "socket", "args": [is] })
    };
    calls.remove("socket");
    loop {
        let mut rules: Vec<_> = calls.iter().map(|call| json!({ "syscall": call })).collect();
        rules.extend([1, 2, 10, 16].map(family));
        let json = json!({ "unit": { "mismatch_action": { "errno": 1 },
            "match_action": "allow", "filter": rules } });
        let arch = std::env::consts::ARCH.try_into().unwrap();
        match compile_from_json(json.to_string().as_bytes(), arch) {
            Ok(filters) => return filters,
            Err(error) => {
                let error = format!("{error} {error:?}");
                let unknown = calls.iter().find(|call| error.contains(&format!("\"{call}\"")));
                let unknown = unknown.unwrap_or_else(|| panic!("{error}")).clone();
                calls.remove(&unknown);
            }
        }
    }
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn the_child() {
    let Ok(path) = std::env::var("RINGMAIN_TEST_FILTER") else { return };
    let calls: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let calls = calls.as_array().unwrap().iter().map(|call| call.as_str().unwrap().to_owned());
    let filters = filter(calls.collect());
    apply_filter(&filters["unit"]).unwrap();
    // One of @resources: the filter is in force.
    assert!(rustix::process::setpriority_process(None, 0).is_err());
    let mut args = std::env::args().skip_while(|arg| arg != "--skip").skip(1).step_by(2);
    let binary = args.next().unwrap();
    panic!("{}", Command::new(binary).args(args).exec());
}

#[test]
fn a_lua_flow_runs_in_the_units_sandbox() {
    let flow = r#"
        [sources.in]
        type = "file"
        path = "in.ndjson"
        [operators.mark]
        type = "lua"
        inputs = ["in"]
        source = '''
        return function(msg)
          if msg.rpm > 100 then msg.severity = "high" return msg end
        end
        '''
        [sinks.out]
        type = "file"
        inputs = ["mark"]
        path = "out.ndjson"
    "#;
    let lines = sensors::lines(20_000, 5);
    let job = Job::flow(Driver::Auto, flow).file("in.ndjson", &lines);
    let calls: Vec<_> = allowed_calls().into_iter().collect();
    assert!(calls.len() > 200 && !calls.iter().any(|call| call == "mount"), "{calls:?}");
    assert!(calls.iter().any(|call| call == "io_uring_setup"), "{calls:?}");
    job.write("calls.json", serde_json::to_string(&calls).unwrap());
    let wanted = job.command();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "the_child", "--ignored", "--nocapture"]);
    child.env("RINGMAIN_TEST_FILTER", job.path("calls.json"));
    // The test runner takes no other words than its own.
    child.arg("--skip").arg(wanted.get_program());
    for arg in wanted.get_args() {
        child.arg("--skip").arg(arg);
    }
    child.current_dir(wanted.get_current_dir().unwrap());
    child.stdin(std::process::Stdio::null());
    let inside = job.start_as(child).wait();
    let outside = job.run();
    assert_eq!(inside.ok().rows("in"), [20_000, 20_000, 0, 0]);
    assert_eq!(inside.ok().rows("mark"), outside.ok().rows("mark"));
    // Compiled, not interpreted; io_uring, where the machine has it; pinned.
    let warnings = |said: &str| {
        let lines = said.lines().filter(|line| line.contains("WARN"));
        lines.filter_map(|line| Some(line.split_once("WARN")?.1.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&inside.stderr), warnings(&outside.stderr));
    assert!(!inside.stderr.contains("interpreted"), "{}", inside.stderr);
}

/// The metadata that cargo-deb reads.
fn package() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().find(|package| package["name"] == "ringmain").unwrap()["metadata"]["deb"]
        .clone()
}

#[test]
fn every_file_of_the_package_is_there_and_its_configuration_is_good() {
    let deb = package();
    let base = workspace().join("daemon/ringmain");
    let there = |path: &str| -> Vec<PathBuf> {
        let pattern = base.join(path);
        let (folder, name) = (pattern.parent().unwrap(), pattern.file_name().unwrap());
        let (start, end) = match name.to_str().unwrap().split_once('*') {
            Some((start, end)) => (start.to_owned(), end.to_owned()),
            None => return pattern.exists().then_some(pattern.clone()).into_iter().collect(),
        };
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let fits = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(&start) && name.ends_with(&end)
        };
        files.filter(fits).collect()
    };
    for asset in deb["assets"].as_array().unwrap() {
        let from = asset[0].as_str().unwrap();
        // What is made by config/debian/build.sh.
        if !from.starts_with("target/release/") {
            assert!(!there(from).is_empty(), "{from} is missing");
        }
    }
    for from in [&deb["license-file"][0], &deb["changelog"]] {
        assert!(!there(from.as_str().unwrap()).is_empty(), "{from} is missing");
    }
    let scripts = base.join(deb["maintainer-scripts"].as_str().unwrap());
    for script in ["postinst", "prerm", "postrm"] {
        let path = scripts.join(script);
        let text = std::fs::read_to_string(&path).unwrap();
        // Where cargo-deb puts what starts and stops the unit.
        assert!(text.contains("#DEBHELPER#"), "{script}");
        let checked = Command::new("sh").arg("-n").arg(&path).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
    let units = base.join(deb["systemd-units"]["unit-scripts"].as_str().unwrap());
    assert!(units.join("ringmain.service").is_file());
    let job = Job::new(Driver::Auto);
    let toml = workspace().join("config/debian/ringmain.toml");
    job.write("ringmain.toml", std::fs::read_to_string(toml).unwrap());
    job.write("flows/README.md", "");
    let check = job.call(&["check", "--config", "ringmain.toml"]);
    assert_eq!(check.status.code(), Some(0), "{check:?}");
}
