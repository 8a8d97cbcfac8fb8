//! The scenarios, by name.

mod chain;
mod codec;
mod json;
mod json_lua;
mod ring;

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
