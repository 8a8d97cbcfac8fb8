//! The whole daemon with a flow whose Lua operator never ends on some messages,
//! and another flow beside it, whose latency is measured: alone, with the
//! runaway on another shard, and with it on the same shard.
//!
//! The operator is stopped after its limit of time (100 ms) and, so that it runs
//! away again and again, never quarantined; by default that would end it after
//! three times. A shard does nothing else while an operator runs, so on the same
//! shard the limit is what others wait at most. Verified: every message of the
//! other flow came back; the runaway was stopped, and every message of its flow
//! is accounted for.

use super::Round;
use super::latency::{figures, flow, times};
use crate::daemon::{Daemon, Setup, free_tcp_port};
use crate::load::child;
use crate::measure::{Amount, Env, Wrong, verify};
use crate::report::Figure;

const RATE: u64 = 20_000;
/// At least one runaway falls into it.
const SECONDS_MIN: f64 = 1.0;

/// Name, cores of the daemon, whether there is a runaway.
const FORMS: [(&str, &str, bool); 3] = [
    ("alone", "0", false),
    ("runaway on another shard", "0,1", true),
    ("runaway on the same shard", "0", true),
];

pub(super) fn prepare(env: &Env) -> Result<Round, Wrong> {
    env.ringmain()?;
    Ok(Box::new(|env| {
        let mut all = Vec::new();
        for (name, cores, runaway) in FORMS {
            if cores != "0" && env.cores.len() < 2 {
                continue;
            }
            all.extend(run(env, name, cores, runaway)?);
        }
        Ok(all)
    }))
}

fn run(env: &Env, name: &str, cores: &str, runaway: bool) -> Result<Vec<Figure>, Wrong> {
    let (port, echo) = (free_tcp_port()?, free_tcp_port()?);
    let source = format!("type = \"tcp\"\nlisten = \"127.0.0.1:{port}\"");
    let mut flows = vec![flow("measured", &source, echo)];
    if runaway {
        flows.push(RUNAWAY.to_owned());
    }
    let setup = Setup { name: "runaway", flows: &flows, cores, config: "" };
    let daemon = Daemon::start_with(env, &setup)?;
    let amount = match env.amount {
        Amount::Seconds(seconds) => Amount::Seconds(seconds.max(SECONDS_MIN)),
        // As long: a runaway comes every half second, and not the first at once.
        Amount::Messages(_) => Amount::Messages(RATE),
    };
    let (to, back) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{echo}"));
    let (rate, times) = (RATE.to_string(), times(amount, RATE));
    let mut words = vec!["tcp", &to, "--echo", &back, "--rate", &rate];
    words.extend(times.iter().map(String::as_str));
    let load = child::start(env.cores.last().copied(), &words)?.end()?;
    daemon.stop()?;
    let ended = daemon.end()?;
    verify(&format!("{name}: messages that did not come back"), load.lost, 0)?;
    let passed = ended.flow("measured")?.of("out")?.rows_out;
    verify("messages of the measured flow", passed, load.messages)?;
    if runaway && ended.flow("runaway")?.of("forever")?.dead == 0 {
        return Err(Wrong::fail("the runaway operator was not stopped"));
    }
    figures(name, &load)
}

/// Every half second a message on which it never ends.
const RUNAWAY: &str = "name = \"runaway\"
[sources.in]
type = \"generator\"
rate = 200
[sources.in.fields]
i = { type = \"sequence\" }
[operators.forever]
type = \"lua\"
inputs = [\"in\"]
limits = { kills = 1000000 }
source = '''
return function(msg)
  while msg.i % 100 == 99 do end
  return msg
end
'''
[sinks.out]
type = \"blackhole\"
inputs = [\"forever\"]
";
