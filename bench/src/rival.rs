//! A client on rumqttc's own event loop, as a process of its own: what the
//! daemon's MQTT is compared with.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};
use rumqttc::{
    Client, Connection, Event, MqttOptions, Outgoing, Packet, Publish, QoS, TryRecvError,
};
use serde::{Deserialize, Serialize};
use wait4::Wait4;

use crate::measure::{Wrong, monotonic_ns, verify};

const TOPIC: &str = "bench/t";
/// Requests and publications under way; mosquitto is set up for as many.
const INFLIGHT: u16 = 1000;
const BUFFER_BYTES: usize = 64 << 10;

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    Out,
    In,
}

/// Publishes or receives so many messages of 100 B with rumqttc.
#[derive(Clone, Debug, Args)]
pub(crate) struct RivalArgs {
    #[arg(value_enum)]
    way: Way,
    port: u16,
    count: u64,
    qos: u8,
    /// Where what is received goes, a line for each; nowhere without.
    file: Option<PathBuf>,
}

/// What it has to say.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    count: u64,
    ended_ns: u64,
}

/// Runs the client.
pub(crate) fn run(args: &RivalArgs) -> Result<Done, String> {
    let id = format!("ringmain-bench-rival-{}", std::process::id());
    let mut options = MqttOptions::new(id, "127.0.0.1", args.port);
    options.set_inflight(INFLIGHT).set_keep_alive(Duration::from_secs(60));
    options.set_manual_acks(args.file.is_some());
    // Coming in, requests are acknowledgements: all that a broker can wait for.
    let requests = if args.way == Way::In { usize::from(u16::MAX) } else { INFLIGHT.into() };
    let (client, connection) = Client::new(options, requests);
    let qos = if args.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let count = match args.way {
        Way::Out => publish(args.count, qos, &client, connection)?,
        Way::In => {
            client.subscribe(TOPIC, qos).map_err(|error| error.to_string())?;
            match &args.file {
                None => receive(args.count, connection)?,
                Some(path) => store(args.count, path, &client, connection)?,
            }
        }
    };
    Ok(Done { count, ended_ns: monotonic_ns() })
}

fn next(connection: &mut Connection) -> Result<Event, String> {
    let event = connection.recv().map_err(|_| "the client has ended")?;
    event.map_err(|error| error.to_string())
}

fn publish(
    count: u64,
    qos: QoS,
    client: &Client,
    mut connection: Connection,
) -> Result<u64, String> {
    let payload = vec![b'x'; 100];
    let (mut asked, mut done) = (0, 0);
    while done < count {
        // From this thread, so that it does not have to wake another.
        while asked < count && client.try_publish(TOPIC, qos, false, payload.clone()).is_ok() {
            asked += 1;
        }
        done += match next(&mut connection)? {
            Event::Incoming(Packet::PubAck(_)) => 1,
            Event::Outgoing(Outgoing::Publish(_)) => u64::from(qos == QoS::AtMostOnce),
            _ => 0,
        };
    }
    Ok(done)
}

fn receive(count: u64, mut connection: Connection) -> Result<u64, String> {
    let mut done = 0;
    while done < count {
        done += u64::from(matches!(next(&mut connection)?, Event::Incoming(Packet::Publish(_))));
    }
    Ok(done)
}

/// Writes and acknowledges when nothing more is at hand, or the buffer is full:
/// the fewest system calls that leave nothing lying.
fn store(
    count: u64,
    path: &Path,
    client: &Client,
    mut connection: Connection,
) -> Result<u64, String> {
    let mut file = File::create(path).map_err(|error| error.to_string())?;
    let (mut lines, mut held) = (Vec::with_capacity(BUFFER_BYTES), Vec::new());
    let mut done = 0;
    while done < count || !lines.is_empty() {
        let event = match connection.try_recv() {
            Ok(event) => event.map_err(|error| error.to_string())?,
            Err(TryRecvError::Disconnected) => return Err("the client has ended".to_owned()),
            Err(TryRecvError::Empty) if lines.is_empty() => next(&mut connection)?,
            Err(TryRecvError::Empty) => {
                write(&mut file, &mut lines, &mut held, client)?;
                continue;
            }
        };
        if let Event::Incoming(Packet::Publish(publish)) = event {
            lines.extend_from_slice(&publish.payload);
            lines.push(b'\n');
            held.push(publish);
            done += 1;
            if lines.len() >= BUFFER_BYTES || held.len() >= usize::from(INFLIGHT) / 2 {
                write(&mut file, &mut lines, &mut held, client)?;
            }
        }
    }
    Ok(done)
}

fn write(
    file: &mut File,
    lines: &mut Vec<u8>,
    held: &mut Vec<Publish>,
    client: &Client,
) -> Result<(), String> {
    file.write_all(lines).map_err(|error| error.to_string())?;
    lines.clear();
    for publish in held.drain(..).filter(|publish| publish.qos != QoS::AtMostOnce) {
        client.try_ack(&publish).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// What the child is started for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction<'a> {
    Out,
    /// Into a file, or nowhere.
    In(Option<&'a Path>),
}

/// The client as a child.
pub(crate) struct Rival {
    child: Child,
    began_ns: u64,
    count: u64,
}

impl Rival {
    pub(crate) fn start(
        direction: Direction<'_>,
        port: u16,
        count: u64,
        qos: u8,
    ) -> Result<Self, Wrong> {
        let me = std::env::current_exe().map_err(Wrong::fail)?;
        let (way, file) = match direction {
            Direction::Out => ("out", None),
            Direction::In(file) => ("in", file),
        };
        let mut command = Command::new(me);
        command.args(["mqtt-rival", way]);
        command.args([port.to_string(), count.to_string(), qos.to_string()]).args(file);
        let began_ns = monotonic_ns();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Ok(Self { child: child.map_err(Wrong::fail)?, began_ns, count })
    }

    /// Seconds from its start on, and CPU time.
    pub(crate) fn end(self) -> Result<(f64, f64), Wrong> {
        let began_ns = self.began_ns;
        let (ended_ns, cpu_s) = self.end_at()?;
        Ok(((ended_ns - began_ns) as f64 / 1e9, cpu_s))
    }

    /// When it had the last message, and CPU time.
    pub(crate) fn end_at(mut self) -> Result<(u64, f64), Wrong> {
        let stdout = self.child.stdout.take().expect("it is piped");
        let said = std::io::read_to_string(stdout).map_err(Wrong::fail)?;
        let waited = self.child.wait4().map_err(Wrong::fail)?;
        if !waited.status.success() {
            return Err(Wrong::Failed(format!("rumqttc's client ended with {}", waited.status)));
        }
        let done: Done = serde_json::from_str(&said).map_err(Wrong::fail)?;
        verify("messages of rumqttc's client", done.count, self.count)?;
        Ok((done.ended_ns, (waited.rusage.utime + waited.rusage.stime).as_secs_f64()))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // Harmless when it is gone.
        let _ = self.child.kill();
    }
}
