//! On a terminal a run shows a table that is drawn over the last one; log lines
//! stand above it. `ringmain top` draws what a daemon does; with
//! `UPDATE_SCREENSHOTS=1` that becomes the picture that the pages show.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain_tests::http::Client;
use ringmain_tests::net::{connect, free_port, small_server};
use ringmain_tests::{Driver, Job, binary, picture, sensors, until};

const FLOW: &str = r#"
name = "seen"
[sources.in]
type = "generator"
count = 2500
rate = 1000
[operators.some]
type = "filter"
inputs = ["in"]
where = "rpm > 100"
[sinks.out]
type = "blackhole"
inputs = ["some"]
"#;

/// The job's output when it is run on a terminal.
fn on_a_terminal(job: &Job) -> String {
    let core = ringmain_tests::machine::cores()[0];
    job.write("d.toml", format!("[shards]\ncores = \"{core}\"\n"));
    let program = binary::ringmain().display();
    let call = format!("stty cols 60 rows 20; {program} run -c d.toml flow-0.toml");
    let mut command = Command::new("script");
    command.args(["-qec", &call, "/dev/null"]).current_dir(job.path(""));
    let output = command.output().expect("script (bsdutils) is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_terminal_shows_a_table_in_place_and_then_the_summary() {
    let text = on_a_terminal(&Job::flow(Driver::Auto, FLOW));
    // Head, three components, two edges: drawn over itself at least once.
    let tables: Vec<_> = text.split("\u{1b}[6A\u{1b}[J").collect();
    assert!(tables.len() >= 2, "{text:?}");
    for row in ["in/s", "  in  ", "  some  ", "  out  ", "in -> some: backpressure 0 %"] {
        assert!(tables[1].contains(row), "{row}: {text:?}");
    }
    assert!(tables.last().unwrap().contains("2,500"), "{text:?}");
    assert!(text.lines().all(|line| !line.contains("backpressure") || line.len() < 80));
}

const ROWS: NonZeroU16 = NonZeroU16::new(24).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(132).unwrap();

/// `ringmain top` on a terminal of its own.
struct Top {
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Top {
    fn start(job: &Job, api: u16) -> Self {
        let program = binary::ringmain().display();
        let call = format!(
            "stty cols {COLUMNS} rows {ROWS}; exec {program} top --api http://127.0.0.1:{api}"
        );
        let mut command = Command::new("script");
        command.args(["-qec", &call, "/dev/null"]).current_dir(job.path(""));
        command.env("TERM", "xterm-256color").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("script (bsdutils) is there");
        let mut output = child.stdout.take().expect("it is piped");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let drawn = screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                drawn.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self { child, screen }
    }

    fn press(&mut self, keys: &str) {
        let input = self.child.stdin.as_mut().expect("it is piped");
        input.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn line(&self, start: &str) -> String {
        let text = self.text();
        text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned()
    }

    /// Ends it as its user would.
    fn quit(mut self) {
        self.press("q");
        until("it ends", || self.child.try_wait().unwrap().is_some());
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the screen was:\n{}", self.text());
        }
        // It may have ended by itself. What runs in it goes with its terminal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A shipped flow, with its ports where nobody else is.
fn shipped(name: &str, ports: &[(&str, u16)]) -> String {
    let path = binary::workspace().join(format!("config/flows/{name}.toml"));
    let text = std::fs::read_to_string(path).unwrap();
    ports.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{name} has no {from}");
        text.replace(from, &to.to_string())
    })
}

/// Somebody who reads slowly.
fn slow_reader() -> u16 {
    let (listener, port) = small_server();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = vec![0; 16 << 10];
            while let Ok(1..) = stream.read(&mut bytes) {
                std::thread::sleep(Duration::from_millis(60));
            }
        }
    });
    port
}

#[test]
fn top_shows_what_a_daemon_does_and_does_as_it_is_told() {
    let (api, udp, tcp) = (free_port(), free_port(), free_port());
    let routed =
        shipped("route_by_level", &[("5141", udp), ("6514", slow_reader()), ("5999", free_port())]);
    // More than a kernel grants that nobody has asked.
    let routed = routed.replace("receive_buffer = \"8MiB\"\n", "");
    let daemon = format!("[api]\nlisten = \"127.0.0.1:{api}\"\nrate = 10000\n");
    let job = Job::new(Driver::Auto)
        .shards(&daemon)
        .and_flow(&routed)
        .and_flow(&shipped("tcp_by_device", &[("5140", tcp)]))
        .and_flow(&shipped("on_request", &[("1883", free_port())]));
    let daemon = job.start();
    drop(connect(api));
    until("it is up", || Client::new(api).get("/api/v1/health").status == 200);
    let stop = Arc::new(AtomicBool::new(false));
    let ends = stop.clone();
    let feed = std::thread::spawn(move || {
        let (socket, mut stream) = (UdpSocket::bind("127.0.0.1:0").unwrap(), connect(tcp));
        let mut lines = sensors::lines(20_000, 3).lines().map(str::to_owned).collect::<Vec<_>>();
        lines.iter_mut().for_each(|line| line.push('\n'));
        let levels = ["critical", "error", "info", "debug", "warning"];
        for n in (0..).take_while(|_| !ends.load(Ordering::Acquire)) {
            let severity = levels[n % levels.len()];
            let message =
                format!("{{\"severity\":\"{severity}\",\"n\":{n},\"text\":\"{:700}\"}}", "x");
            // What finds nobody, or no room, is what datagrams are for.
            let _ = socket.send_to(message.as_bytes(), ("127.0.0.1", udp));
            stream.write_all(lines[n % lines.len()].as_bytes()).unwrap();
            if n % 8 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let mut top = Top::start(&job, api);
    until("all flows are shown", || {
        ["on_request", "route_by_level", "tcp_by_device"].iter().all(|n| !top.line(n).is_empty())
    });
    // The second one, whose slow reader holds it up.
    top.press("j");
    let wanted = std::env::var_os("UPDATE_SCREENSHOTS").is_some();
    if wanted {
        // Figures of a few seconds.
        std::thread::sleep(Duration::from_secs(10));
    }
    until("the edges of the second flow are shown", || {
        let edge = top.line("level.urgent -> pager");
        let pressure = edge.split_whitespace().nth(3).and_then(|p| p.parse::<f64>().ok());
        // A moment in which something gets through makes a better picture.
        let rate = top.line("route_by_level").split_whitespace().nth(2).map(str::len);
        pressure.is_some_and(|pressure| pressure > 50.0) && (!wanted || rate > Some(3))
    });
    assert!(top.line("route_by_level").contains("deployed"), "{}", top.text());
    assert!(top.line("on_request").contains("undeployed"), "{}", top.text());
    assert!(top.line("pager").contains("good"), "{}", top.text());
    let svg = picture::svg(top.screen.lock().unwrap().screen());
    assert!(svg.contains("level.urgent -&gt; pager") && svg.contains("#ff7b72"), "{svg}");
    if wanted {
        let folder = binary::workspace().join("daemon/control/console/screenshots");
        std::fs::write(folder.join("top.svg"), svg).unwrap();
    }
    top.press("/tcp\r");
    until("others are gone", || {
        let gone = top.line("on_request").is_empty() && top.text().contains("filter: tcp");
        gone && !top.line("tcp_by_device").is_empty()
    });
    top.quit();
    stop.store(true, Ordering::Release);
    feed.join().unwrap();
    drop(daemon);
}
