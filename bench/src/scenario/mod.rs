//! The scenarios, by name.

mod chain;
mod codec;
mod file;
mod idle;
mod json;
mod json_lua;
mod keyed;
mod lua;
mod ring;
mod shards;
mod tcp;
mod udp;

use crate::measure::{Env, Wrong};
use crate::report::Figure;

/// Measures every variant once.
pub(crate) type Round = Box<dyn FnMut(&Env) -> Result<Vec<Figure>, Wrong>>;

/// Something to measure.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What is measured, in a sentence.
    pub(crate) what: &'static str,
    prepare: fn(&Env) -> Result<Round, Wrong>,
}

impl Scenario {
    /// Makes the input; nothing is measured yet.
    pub(crate) fn prepare(&self, env: &Env) -> Result<Round, Wrong> {
        (self.prepare)(env)
    }
}

/// Every scenario, in the order of the report.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "chain",
        what: "generate -> filter -> map -> blackhole, 100 B rows, one core",
        prepare: chain::prepare,
    },
    Scenario {
        name: "ring",
        what: "core to core through a credited edge, 100 B rows built and read",
        prepare: ring::prepare,
    },
    Scenario {
        name: "ring-hop",
        what: "one hop between cores at 1 M msg/s, flushed when the ring is idle",
        prepare: ring::prepare_hop,
    },
    Scenario {
        name: "json-decode",
        what: "lines of JSON, 104 B, to rows, one core",
        prepare: json::prepare_decode,
    },
    Scenario {
        name: "json-encode",
        what: "rows to lines of JSON, 104 B, one core",
        prepare: json::prepare_encode,
    },
    Scenario {
        name: "json-json",
        what: "lines of JSON to rows to lines of JSON, one core",
        prepare: json::prepare_both,
    },
    Scenario {
        name: "json-lua-json",
        what: "JSON -> rpm > 100 -> severity = 'high' -> JSON in memory, one core",
        prepare: json_lua::prepare,
    },
    Scenario {
        name: "lua-t1",
        what: "a Lua script over rows: filter on a number, one core",
        prepare: lua::prepare_t1,
    },
    Scenario {
        name: "lua-t2",
        what: "a Lua script over rows: two fields, one a text compared, one core",
        prepare: lua::prepare_t2,
    },
    Scenario {
        name: "lua-t3",
        what: "a Lua script over rows: set a field, one core",
        prepare: lua::prepare_t3,
    },
    Scenario {
        name: "lua-t4",
        what: "a Lua script over rows: last value per key, one core",
        prepare: lua::prepare_t4,
    },
    Scenario {
        name: "lua-t5",
        what: "a Lua script over rows: a new text per message, one core",
        prepare: lua::prepare_t5,
    },
    Scenario {
        name: "keyed",
        what: "sample, throttle and change_detector, 1,000 keys and 1 M, one core",
        prepare: keyed::prepare,
    },
    Scenario {
        name: "file",
        what: "whole daemon, one core: file -> JSON -> filter + set -> JSON -> file",
        prepare: file::prepare,
    },
    Scenario {
        name: "tcp",
        what: "whole daemon, one core: TCP -> JSON -> filter + set -> JSON -> file",
        prepare: tcp::prepare,
    },
    Scenario {
        name: "udp",
        what: "whole daemon, one core: UDP datagrams of 100 B -> text -> blackhole",
        prepare: udp::prepare,
    },
    Scenario {
        name: "shards",
        what: "whole daemon, two shards against one, partitioned by key",
        prepare: shards::prepare,
    },
    Scenario {
        name: "idle",
        what: "whole daemon, listening and getting nothing",
        prepare: idle::prepare,
    },
];

/// The scenarios whose names are given or begin so; all when none is given.
pub(crate) fn choose(wanted: &[String]) -> Result<Vec<&'static Scenario>, String> {
    if wanted.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let mut chosen = Vec::new();
    for name in wanted {
        let exact: Vec<_> = ALL.iter().filter(|s| s.name == *name).collect();
        let begins = || ALL.iter().filter(|s| s.name.starts_with(name)).collect();
        let found: Vec<_> = if exact.is_empty() { begins() } else { exact };
        if found.is_empty() {
            return Err(name.clone());
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
        assert_eq!(names(&["rnig"]), Err("rnig".to_owned()));
    }
}
