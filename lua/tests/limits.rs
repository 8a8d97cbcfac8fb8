//! What runs away is stopped, costs its message, and leaves the operator able
//! to go on.

mod common;

use std::time::Duration;

use common::{Outcome, code, run, slab_of};
use ringmain_base::Reason;
use ringmain_lua::{Limits, Script, ScriptOptions, script, self_test};
use ringmain_ops::Operator;
use ringmain_slab::Scalar::Int;
use ringmain_slab::SharedSchema;

const LIMITS: Limits = Limits { time: Duration::from_millis(20), memory_bytes: 16 << 20, kills: 3 };

fn compile(source: &str, schema: &SharedSchema) -> Box<Script> {
    let options = ScriptOptions { limits: LIMITS, ..ScriptOptions::default() };
    script(source, "bad.lua", &options, schema).unwrap()
}

/// Runs three messages; `bad()` is called for the second.
fn second_runs_away(bad: &str) -> (Outcome, Box<Script>) {
    let schema = SharedSchema::new();
    schema.intern("n").unwrap();
    let source = format!(
        "local keep, seen = {{}}, 0
         {bad}
         return function(msg)
           seen = seen + 1
           msg.changed = seen
           if msg.n == 2 then bad(msg) end
           return msg
         end"
    );
    let mut operator = compile(&source, &schema);
    let mut slab = slab_of(&schema, &[&[("n", Int(1))], &[("n", Int(2))], &[("n", Int(3))]]);
    let out = run(&mut *operator, &mut slab, &schema);
    // The state is intact: what was counted before still is.
    let again = run(&mut *operator, &mut slab_of(&schema, &[&[("n", Int(9))]]), &schema);
    assert_eq!(again.rows, ["n=9 changed=4"], "{bad}");
    (out, operator)
}

#[test]
fn hooks_fire_in_compiled_code_in_this_build() {
    assert!(self_test(), "LuaJIT was built without .cargo/config.toml");
}

#[test]
fn code_that_does_not_come_back_is_stopped() {
    for bad in common::RUNAWAYS {
        let (out, operator) = second_runs_away(bad);
        assert_eq!(out.rows, ["n=1 changed=1", "n=3 changed=3"], "{bad}");
        let (row, reason, detail) = &out.dead[0];
        assert_eq!((row.as_str(), *reason), ("n=2", Reason::Limit), "{bad}");
        assert!(detail.contains("ran out of its time"), "{bad}: {detail}");
        assert_eq!((operator.counters().kills, operator.counters().memory), (1, 0), "{bad}");
    }
}

#[test]
fn code_that_takes_all_memory_is_stopped() {
    for bad in common::BOMBS {
        let (out, operator) = second_runs_away(bad);
        assert_eq!(out.rows, ["n=1 changed=1", "n=3 changed=3"], "{bad}");
        let (row, reason, _) = &out.dead[0];
        assert_eq!((row.as_str(), *reason), ("n=2", Reason::Limit), "{bad}");
        assert_eq!(operator.counters().memory + operator.counters().kills, 1, "{bad}");
    }
}

#[test]
fn endless_recursion_is_an_error_of_its_message() {
    let (out, _) = second_runs_away("local function bad(n) local x = bad(n) return x end");
    assert_eq!(out.rows, ["n=1 changed=1", "n=3 changed=3"]);
    assert_eq!(out.dead.len(), 1);
}

#[test]
fn a_result_of_string_rep_is_bounded() {
    let (out, _) = second_runs_away("local function bad() return ('ab'):rep(2e9) end");
    assert!(out.dead[0].2.contains("string.rep: the result is too large"), "{:?}", out.dead);
}

#[test]
fn a_script_that_does_not_finish_loading_is_refused() {
    let options = ScriptOptions { limits: LIMITS, ..ScriptOptions::default() };
    for source in [
        "while true do end",
        "return { init = function() while true do end end, process = function() end }",
        "local t = {} while true do t[#t + 1] = {} end",
    ] {
        let error = script(source, "x.lua", &options, &SharedSchema::new()).err().unwrap();
        assert!(error.message.contains("ran out of"), "{source}: {error}");
    }
}

#[test]
fn another_operator_of_the_thread_is_not_disturbed() {
    let schema = SharedSchema::new();
    let mut good = compile("return function(msg) msg.n = msg.n + 1 return msg end", &schema);
    let mut bad = compile("return function(msg) while true do end end", &schema);
    for n in 0..5 {
        let out = run(&mut *bad, &mut slab_of(&schema, &[&[("n", Int(n))]]), &schema);
        assert_eq!((out.rows.len(), out.dead.len()), (0, 1));
        let out = run(&mut *good, &mut slab_of(&schema, &[&[("n", Int(n))]]), &schema);
        assert_eq!((out.rows, out.dead.len()), (vec![format!("n={}", n + 1)], 0));
    }
    // The rest was refused without a try: it is in quarantine.
    assert_eq!((good.counters().kills, bad.counters().kills), (0, LIMITS.kills.into()));
    assert!(good.trouble().is_none());
    assert!(bad.trouble().unwrap().contains("in quarantine after 3 stops"));
    bad.reload(&code("return function(msg) return msg end", "x.lua")).unwrap();
    let out = run(&mut *bad, &mut slab_of(&schema, &[&[("n", Int(9))]]), &schema);
    assert_eq!((out.rows, bad.trouble()), (vec!["n=9".to_owned()], None));
}

#[test]
fn a_slab_costs_no_more_than_the_limit_times_the_kills() {
    let schema = SharedSchema::new();
    schema.intern("n").unwrap();
    let mut operator = compile(
        "return function(msg) if msg.n > 1 then while true do end end return msg end",
        &schema,
    );
    let messages: Vec<[(&str, ringmain_slab::Scalar<'_>); 1]> =
        (0..10).map(|n| [("n", Int(n))]).collect();
    let messages: Vec<common::Fields<'_>> = messages.iter().map(|m| &m[..]).collect();
    let out = run(&mut *operator, &mut slab_of(&schema, &messages), &schema);
    assert_eq!(out.rows, ["n=0", "n=1"]);
    assert_eq!(out.dead.iter().filter(|letter| letter.1 == Reason::Limit).count(), 8);
    assert_eq!(out.dead[7].0, "n=9");
    assert_eq!(out.dead[7].2, "the operator was stopped 3 times in one slab");
    assert_eq!(operator.counters().kills, 3);
}

#[test]
fn garbage_does_not_run_an_operator_out_of_its_memory() {
    let schema = SharedSchema::new();
    schema.intern("n").unwrap();
    // Ten of sixteen MiB are live; each slab makes one of garbage.
    let source = "local keep = {} for i = 1, 10 do keep[i] = ('x'):rep(2^20 - 100) .. i end
        return function(msg) for i = 1, 10 do local s = ('y'):rep(1e5) .. msg.n .. i end return msg end";
    let mut operator = compile(source, &schema);
    for n in 0..300 {
        let out = run(&mut *operator, &mut slab_of(&schema, &[&[("n", Int(n))]]), &schema);
        assert_eq!(out.rows.len(), 1, "{:?}", out.dead);
    }
    assert_eq!(operator.counters(), ringmain_lua::Counters::default());
}

#[test]
fn whenever_the_limit_strikes_no_message_is_lost_or_doubled() {
    let schema = SharedSchema::new();
    schema.intern("n").unwrap();
    // Busy all the time, so that the limit strikes anywhere: in the script, in
    // the loop around it, between two messages.
    let limits = Limits { time: Duration::from_millis(1), kills: 10_000, ..LIMITS };
    let ports = ["side".to_owned()];
    let options = ScriptOptions { limits, ports: &ports, ..ScriptOptions::default() };
    let source = "return function(msg, state, ctx)
        local n = msg.n
        for i = 1, 300 do msg.x = i end
        if n % 5 == 1 then ctx.emit({ n = -n }) end
        if n % 5 == 2 then ctx.emit({ n = n }, 'side') return end
        if n % 5 == 3 then return { n = n } end
        msg.x = nil
        return msg
      end";
    let mut operator = script(source, "busy.lua", &options, &schema).unwrap();
    let messages: Vec<[(&str, ringmain_slab::Scalar<'_>); 1]> =
        (1..=400).map(|n| [("n", Int(n))]).collect();
    let messages: Vec<common::Fields<'_>> = messages.iter().map(|m| &m[..]).collect();
    for _ in 0..150 {
        let mut slab = slab_of(&schema, &messages);
        let out = run(&mut *operator, &mut slab, &schema);
        let number = |row: &String| row.strip_prefix("n=").unwrap().parse::<i64>().unwrap();
        let rows: Vec<i64> = out.rows.iter().map(number).collect();
        let side: Vec<i64> = out.ports[0].iter().map(number).collect();
        let dead: Vec<i64> = out.dead.iter().map(|letter| number(&letter.0)).collect();
        let mut all: Vec<i64> = rows.iter().chain(&side).chain(&dead).copied().collect();
        all.retain(|n| *n > 0);
        all.sort_unstable();
        assert_eq!(all, (1..=400).collect::<Vec<_>>(), "dead: {dead:?}");
        // What is emitted stands right before its message, and only with it.
        let mut expected: Vec<i64> = Vec::new();
        for n in (1..=400).filter(|n| !dead.contains(n) && n % 5 != 2) {
            expected.extend((n % 5 == 1).then_some(-n));
            expected.push(n);
        }
        assert_eq!(rows, expected, "dead: {dead:?}");
        assert!(out.dead.iter().all(|letter| letter.1 == Reason::Limit), "{:?}", out.dead);
    }
    assert!(operator.counters().kills > 0);
}

#[test]
fn what_could_not_be_stopped_is_not_there() {
    for name in ["coroutine", "newproxy", "collectgarbage", "load", "loadstring", "debug"] {
        let bad = format!("local function bad() if {name} ~= nil then error('there') end end");
        let (out, _) = second_runs_away(&bad);
        assert_eq!((out.rows.len(), out.dead.len()), (3, 0), "{name}");
    }
    // A table's `__gc` is never called: garbage has no code.
    let bad = "local function bad()
        for i = 1, 1e4 do setmetatable({}, { __gc = function() while true do end end }) end end";
    let (out, operator) = second_runs_away(bad);
    assert_eq!((out.rows.len(), out.dead.len()), (3, 0));
    drop(operator);
}

#[test]
fn a_pattern_that_backtracks_ends_by_itself() {
    for bad in [
        "local s = ('a'):rep(100000) local function bad() return s:find('a*a*a*a*b') end",
        "local s = ('a'):rep(100000) local function bad() return s:match('.-.-.-.-b') end",
        "local s = ('a'):rep(100000) local function bad() return (s:gsub('a*a*a*b', '')) end",
        "local s = ('a'):rep(100000) local function bad() for _ in s:gmatch('a*a*a*b') do end end",
    ] {
        let (out, _) = second_runs_away(bad);
        assert_eq!(out.rows, ["n=1 changed=1", "n=3 changed=3"], "{bad}");
        let (row, _, detail) = &out.dead[0];
        assert_eq!(row, "n=2", "{bad}");
        let ended = detail.contains("takes too long") || detail.contains("ran out of its time");
        assert!(ended, "{bad}: {detail}");
    }
}
