//! The commands that talk to a running daemon, and what a service manager is
//! told.

use ringmain_tests::http::Client;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::{Daemon, Driver, Job, until};

const FLOW: &str = r#"
name = "plant"
allow_loss = true
[sources.lines]
type = "tcp"
listen = "127.0.0.1:PORT"
[sinks.out]
type = "blackhole"
inputs = ["lines"]
"#;

fn daemon() -> (Job, Daemon, String) {
    let port = free_port();
    let job = Job::new(Driver::Auto)
        .shards(&format!("[api]\nlisten = \"127.0.0.1:{port}\"\n[daemon]\ndata_dir = \"data\"\n"));
    job.write("plant.toml", FLOW.replace("PORT", &free_port().to_string()));
    let daemon = job.start();
    drop(connect(port));
    let api = Client::new(port);
    until("the daemon is up", || api.get("/api/v1/health").status == 200);
    (job, daemon, format!("http://127.0.0.1:{port}"))
}

#[test]
fn flows_are_listed_and_changed_from_the_command_line() {
    let (job, daemon, api) = daemon();
    let call = |args: &[&str]| {
        let output = job.call(&[&["flows", "--api", &api], args].concat());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, said, error) = call(&["deploy", "plant.toml"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(said.starts_with("plant: started in "), "{said}");
    let (_, list, _) = call(&["list"]);
    assert!(list.lines().nth(1).is_some_and(|l| l.starts_with("plant  deployed")), "{list}");
    let (_, show, _) = call(&["show", "plant"]);
    assert!(show.contains("lines -> out"), "{show}");
    let (_, json, _) = call(&["list", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["name"], "plant");
    assert!(call(&["clone", "plant", "copy"]).1.starts_with("copy: stored"));
    assert!(call(&["deploy", "plant.toml"]).1.starts_with("plant: replaced"));
    assert!(call(&["stop", "plant"]).1.starts_with("plant: stopped"));
    assert!(call(&["rollback", "plant", "1"]).1.starts_with("plant: stored"));
    assert!(call(&["start", "plant"]).1.starts_with("plant: started"));
    assert_eq!(call(&["versions", "plant"]).1.lines().count(), 4);
    assert_eq!(
        call(&["definition", "plant"]).1,
        std::fs::read_to_string(job.path("plant.toml")).unwrap()
    );
    assert!(call(&["delete", "copy"]).1.starts_with("copy: deleted"));
    let (code, _, error) = call(&["show", "copy"]);
    assert_eq!((code, error.as_str()), (Some(1), "error: there is no flow 'copy'\n"));
    let top = job.call(&["top", "--api", &api, "--json"]);
    assert!(String::from_utf8_lossy(&top.stdout).contains("\"plant\""));
    let (code, _, error) = {
        let output = job.call(&["flows", "--api", "http://127.0.0.1:1", "list"]);
        (output.status.code(), (), String::from_utf8(output.stderr).unwrap())
    };
    assert!(code == Some(1) && error.contains("no answer from http://127.0.0.1:1"), "{error}");
    assert_eq!(daemon.drain().status.code(), Some(0));
}

#[test]
fn completions_and_manual_pages_are_made() {
    let job = Job::new(Driver::Auto);
    for shell in ["bash", "zsh", "fish"] {
        let output = job.call(&["completions", shell]);
        assert!(String::from_utf8_lossy(&output.stdout).contains("rollback"), "{shell}");
    }
    assert!(job.call(&["man", "man"]).status.success());
    assert!(job.path("man/ringmain.1").is_file() && job.path("man/ringmain-flows.1").is_file());
}

/// A service manager's end of the socket.
#[test]
fn a_service_manager_is_told_that_it_runs_and_lives_and_ends() {
    let job = Job::new(Driver::Auto).and_flow(&FLOW.replace("PORT", &free_port().to_string()));
    let path = job.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(ringmain_tests::wait::DEADLINE)).unwrap();
    let mut command = job.command();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "900000");
    let daemon = job.start_as(command);
    let heard = || {
        let mut bytes = [0; 4096];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    assert_eq!(heard(), "READY=1\nSTATUS=1 flows\n");
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1\n");
    }
    let done = daemon.drain();
    assert_eq!(done.status.code(), Some(0));
    until("it says that it ends", || heard().starts_with("STOPPING=1\n"));
}
