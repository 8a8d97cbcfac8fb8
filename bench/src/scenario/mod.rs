//! The scenarios, by name.

mod acks;
mod backpressure;
mod chain;
mod codec;
mod file;
mod http;
mod idle;
mod json;
mod json_lua;
mod keyed;
mod latency;
mod lua;
mod lua_tables;
mod mqtt;
mod operators;
mod reload;
mod ring;
mod runaway;
mod shards;
mod spill;
mod tcp;
mod udp;
mod unix;
mod whole;

use serde::Serialize;

pub(crate) use self::file::write as write_sensors;
use crate::measure::{Env, Wrong};
use crate::report::Figure;

/// Measures every variant once.
pub(crate) type Round = Box<dyn FnMut(&Env) -> Result<Vec<Figure>, Wrong>>;

/// What rates are divided by, unless a figure says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Clock {
    /// The CPU time of the thread that does the work.
    Cpu,
    Wall,
}

/// Something to measure.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What is measured, in a sentence.
    pub(crate) what: &'static str,
    /// Cores used, and how they are pinned.
    pub(crate) cores: &'static str,
    /// Bytes of a message, about; 0 where it says nothing.
    pub(crate) bytes: usize,
    pub(crate) clock: Clock,
    prepare: fn(&Env) -> Result<Round, Wrong>,
}

impl Scenario {
    /// Makes the input; nothing is measured yet.
    pub(crate) fn prepare(&self, env: &Env) -> Result<Round, Wrong> {
        (self.prepare)(env)
    }

    /// Whether its rates are of the whole daemon.
    pub(crate) fn is_daemon(&self) -> bool {
        self.clock == Clock::Wall && !self.name.starts_with("ring")
    }
}

const fn scenario(
    name: &'static str,
    what: &'static str,
    cores: &'static str,
    bytes: usize,
    clock: Clock,
    prepare: fn(&Env) -> Result<Round, Wrong>,
) -> Scenario {
    Scenario { name, what, cores, bytes, clock, prepare }
}

/// One thread, nothing else.
const THREAD: &str = "one thread on the first core";
/// Two threads of this process.
const THREADS: &str = "two threads, each on a core of its own";
/// A daemon that needs nobody.
const DAEMON: &str =
    "daemon with one shard on the first core; kernel threads write where they like";
/// A daemon and a generator.
const SENT: &str = "daemon with one shard on the first core, load generator on the last";

/// Every scenario, in the order of the report.
pub(crate) const ALL: &[Scenario] = &[
    scenario(
        "chain",
        "generate -> filter -> map -> blackhole, one core",
        THREAD,
        98,
        Clock::Cpu,
        chain::prepare,
    ),
    scenario(
        "ring",
        "core to core through a credited edge, rows built and read",
        THREADS,
        100,
        Clock::Wall,
        ring::prepare,
    ),
    scenario(
        "ring-hop",
        "one hop between cores at 1 M msg/s, flushed when the ring is idle",
        THREADS,
        100,
        Clock::Wall,
        ring::prepare_hop,
    ),
    scenario("json-decode", "lines of JSON to rows", THREAD, 104, Clock::Cpu, json::prepare_decode),
    scenario("json-encode", "rows to lines of JSON", THREAD, 104, Clock::Cpu, json::prepare_encode),
    scenario(
        "json-json",
        "lines of JSON to rows to lines of JSON",
        THREAD,
        104,
        Clock::Cpu,
        json::prepare_both,
    ),
    scenario(
        "json-lua-json",
        "JSON -> rpm > 100 -> severity = 'high' -> JSON in memory",
        THREAD,
        104,
        Clock::Cpu,
        json_lua::prepare,
    ),
    scenario(
        "lua-t1",
        "a Lua script over rows: filter on a number",
        THREAD,
        100,
        Clock::Cpu,
        lua::prepare_t1,
    ),
    scenario(
        "lua-t2",
        "a Lua script over rows: two fields, one a text compared",
        THREAD,
        100,
        Clock::Cpu,
        lua::prepare_t2,
    ),
    scenario(
        "lua-t3",
        "a Lua script over rows: set a field",
        THREAD,
        100,
        Clock::Cpu,
        lua::prepare_t3,
    ),
    scenario(
        "lua-t4",
        "a Lua script over rows: last value per key",
        THREAD,
        100,
        Clock::Cpu,
        lua::prepare_t4,
    ),
    scenario(
        "lua-t5",
        "a Lua script over rows: a new text per message",
        THREAD,
        100,
        Clock::Cpu,
        lua::prepare_t5,
    ),
    scenario(
        "operators",
        "50 Lua operators on one shard: each costs what one costs",
        DAEMON,
        100,
        Clock::Wall,
        operators::prepare,
    ),
    scenario(
        "keyed",
        "sample, throttle and change_detector, 1,000 keys and 1 M",
        THREAD,
        100,
        Clock::Cpu,
        keyed::prepare,
    ),
    scenario(
        "file",
        "whole daemon: file -> JSON -> filter + set -> JSON -> file",
        DAEMON,
        104,
        Clock::Wall,
        file::prepare,
    ),
    scenario(
        "tcp",
        "whole daemon: TCP -> JSON -> filter + set -> JSON -> file",
        SENT,
        104,
        Clock::Wall,
        tcp::prepare,
    ),
    scenario(
        "unix",
        "whole daemon: Unix socket -> JSON -> filter + set -> JSON -> file; datagrams of text",
        SENT,
        104,
        Clock::Wall,
        unix::prepare,
    ),
    scenario(
        "udp",
        "whole daemon: UDP datagrams -> text -> blackhole, with and without GRO",
        SENT,
        100,
        Clock::Wall,
        udp::prepare,
    ),
    scenario(
        "http",
        "whole daemon: HTTP requests -> JSON -> blackhole",
        SENT,
        101,
        Clock::Wall,
        http::prepare,
    ),
    scenario(
        "mqtt",
        "whole daemon and broker, beside a client on rumqttc's event loop",
        "daemon with one shard on the first core; broker and clients where the kernel puts them",
        100,
        Clock::Wall,
        mqtt::prepare,
    ),
    scenario(
        "latency",
        "whole daemon, open loop at a fixed rate: from when a message was due until it came back",
        SENT,
        101,
        Clock::Wall,
        latency::prepare,
    ),
    scenario(
        "acks",
        "whole daemon: with acknowledgements to the source against without",
        SENT,
        104,
        Clock::Wall,
        acks::prepare,
    ),
    scenario(
        "spill",
        "whole daemon: to disk while the sink is dead, and from there when it is back",
        SENT,
        104,
        Clock::Wall,
        spill::prepare,
    ),
    scenario(
        "backpressure",
        "whole daemon: a sink that takes nothing, memory over time",
        SENT,
        104,
        Clock::Wall,
        backpressure::prepare,
    ),
    scenario(
        "reload",
        "whole daemon: a Lua script replaced again and again under full load",
        DAEMON,
        100,
        Clock::Wall,
        reload::prepare,
    ),
    scenario(
        "runaway",
        "whole daemon: latency of a flow beside one whose Lua never ends",
        "daemon with one or two shards from the first core on, load generator on the last",
        101,
        Clock::Wall,
        runaway::prepare,
    ),
    scenario(
        "shards",
        "whole daemon, partitioned by key: 1 to N shards",
        "daemon with one shard on each of the first N cores",
        100,
        Clock::Wall,
        shards::prepare,
    ),
    scenario(
        "idle",
        "whole daemon, listening and getting nothing",
        "daemon with a shard on every core",
        0,
        Clock::Wall,
        idle::prepare,
    ),
];

/// Names by which scenarios are known elsewhere.
const ALIASES: [(&str, &str); 4] = [
    ("core", "chain"),
    ("json-in", "json-decode"),
    ("json-out", "json-encode"),
    ("exchange", "shards"),
];

/// The scenarios whose names are given or begin so; all when none is given.
pub(crate) fn choose(wanted: &[String]) -> Result<Vec<&'static Scenario>, String> {
    if wanted.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let mut chosen = Vec::new();
    for wanted in wanted {
        let alias = ALIASES.iter().find(|(alias, _)| alias == wanted);
        let name = alias.map_or(wanted.as_str(), |(_, name)| name);
        let exact: Vec<_> = ALL.iter().filter(|s| s.name == name).collect();
        let begins = || ALL.iter().filter(|s| s.name.starts_with(name)).collect();
        let found: Vec<_> = if exact.is_empty() { begins() } else { exact };
        if found.is_empty() {
            return Err(wanted.clone());
        }
        chosen.extend(found);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> Result<Vec<&'static str>, String> {
        let wanted: Vec<_> = wanted.iter().map(|name| (*name).to_owned()).collect();
        choose(&wanted).map(|list| list.iter().map(|s| s.name).collect())
    }

    #[test]
    fn a_name_chooses_one_and_a_beginning_all_that_begin_so() {
        assert_eq!(names(&["ring"]).unwrap(), ["ring"]);
        assert_eq!(names(&["ring-"]).unwrap(), ["ring-hop"]);
        assert_eq!(names(&[]).unwrap().len(), ALL.len());
        assert_eq!(names(&["core", "exchange"]).unwrap(), ["chain", "shards"]);
        assert_eq!(names(&["lua"]).unwrap().len(), 5);
        assert_eq!(names(&["rnig"]), Err("rnig".to_owned()));
    }
}
