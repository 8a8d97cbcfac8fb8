//! A client on rumqttc's own event loop, as a process of its own: what the
//! daemon's MQTT is compared with.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};
use rumqttc::{Client, Event, MqttOptions, Outgoing, Packet, QoS};
use serde::{Deserialize, Serialize};
use wait4::Wait4;

use crate::measure::{Wrong, monotonic_ns, verify};

const TOPIC: &str = "bench/t";
/// Requests and publications under way; mosquitto is set up for as many.
const INFLIGHT: u16 = 1000;

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    Out,
    In,
}

/// Publishes or receives so many messages of 100 B with rumqttc.
#[derive(Clone, Debug, Args)]
pub(crate) struct RivalArgs {
    #[arg(value_enum)]
    direction: Direction,
    port: u16,
    count: u64,
    qos: u8,
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
    let (client, mut connection) = Client::new(options, INFLIGHT.into());
    let qos = if args.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    if args.direction == Direction::In {
        client.subscribe(TOPIC, qos).map_err(|error| error.to_string())?;
    }
    let payload = vec![b'x'; 100];
    let (mut asked, mut done) = (0, 0);
    while done < args.count {
        // From this thread, so that it does not have to wake another.
        while args.direction == Direction::Out
            && asked < args.count
            && client.try_publish(TOPIC, qos, false, payload.clone()).is_ok()
        {
            asked += 1;
        }
        let event = connection.recv().map_err(|_| "the client has ended")?;
        done += match event.map_err(|error| error.to_string())? {
            Event::Incoming(Packet::PubAck(_)) => 1,
            Event::Incoming(Packet::Publish(_)) if args.direction == Direction::In => 1,
            Event::Outgoing(Outgoing::Publish(_)) if args.direction == Direction::Out => {
                u64::from(qos == QoS::AtMostOnce)
            }
            _ => 0,
        };
    }
    Ok(Done { count: done, ended_ns: monotonic_ns() })
}

/// The client as a child.
pub(crate) struct Rival {
    child: Child,
    began_ns: u64,
    count: u64,
}

impl Rival {
    pub(crate) fn start(
        direction: Direction,
        port: u16,
        count: u64,
        qos: u8,
    ) -> Result<Self, Wrong> {
        let me = std::env::current_exe().map_err(Wrong::fail)?;
        let direction = if direction == Direction::Out { "out" } else { "in" };
        let mut command = Command::new(me);
        command.args(["mqtt-rival", direction]);
        command.args([port.to_string(), count.to_string(), qos.to_string()]);
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
