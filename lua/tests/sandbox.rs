//! No way from a script to ffi, io, the debug library or another operator.

mod common;

use common::{Fields, push, slab};
use ringmain_base::{Now, Reason};
use ringmain_lua::{ScriptOptions, filter, script};
use ringmain_ops::{Context, Operator};
use ringmain_slab::Scalar::{Float, Int, Str};
use ringmain_slab::{Scratch, SharedSchema, Slab};

const ATTEMPTS: &str = include_str!("attempts.lua");

fn attempts() -> Vec<(&'static str, &'static str)> {
    ATTEMPTS.split("--@ ").skip(1).filter_map(|attempt| attempt.split_once('\n')).collect()
}

/// One message with a text, numbers, a list and a map.
fn message(schema: &SharedSchema) -> Slab {
    let mut slab = slab();
    for name in ["rpm", "status", "list", "doc", "seen"] {
        schema.intern(name).unwrap();
    }
    let mut scratch = Scratch::default();
    let mut row = slab.build(5, 5, &mut scratch);
    row.set(0, Float(150.5));
    row.set(1, Str("ok"));
    for (slot, map) in [(2, false), (3, true)] {
        let mut tree = row.tree(slot);
        assert!(if map { tree.map() } else { tree.list() });
        if map {
            tree.key("inner");
        }
        tree.scalar(Int(1));
        tree.close();
        tree.finish();
    }
    row.finish(7).unwrap();
    slab
}

/// What came of an attempt: the text of its results, or of its error.
fn result(attempt: &str) -> String {
    let schema = SharedSchema::new();
    let mut slab = message(&schema);
    // What comes out is told by type, deeply enough to find a library in it.
    let source = format!(
        "local function attempt(m, s, c) {attempt}
         end
         local function tell(v, depth)
           if type(v) ~= 'table' or depth > 3 then return type(v) .. ':' .. tostring(v) end
           local parts = {{}}
           for k, e in pairs(v) do parts[#parts + 1] = tostring(k) .. '=' .. tell(e, depth + 1) end
           return 'table{{' .. table.concat(parts, ' ') .. '}}'
         end
         return function(m, s, c)
           local r = {{ pcall(attempt, m, s, c) }}
           m.seen = tell(r[1], 0) .. ' ' .. tell(r[2], 0) .. ' ' .. tell(r[3], 0)
           return m
         end"
    );
    let options = ScriptOptions::default();
    let mut operator = match script(&source, "attempt.lua", &options, &schema) {
        Ok(operator) => operator,
        Err(error) => return format!("does not compile: {error}"),
    };
    let out = common::run(&mut *operator, &mut slab, &schema);
    // What it emitted, and the message or its error.
    out.rows.join("\n") + &out.dead.first().map(|letter| letter.2.clone()).unwrap_or_default()
}

#[test]
fn no_attempt_reaches_what_is_forbidden() {
    assert!(attempts().len() > 100, "{}", attempts().len());
    for (name, attempt) in attempts() {
        let seen = result(attempt);
        for forbidden in [
            "ESCAPED",
            "cdef",
            "ctype<",
            "loadstring=function",
            "getinfo",
            "popen",
            "LJ\u{2}",
            "execute=function",
            "rm_row",
            "rm_desc",
        ] {
            assert!(!seen.contains(forbidden), "{name}: {seen}");
        }
    }
}

#[test]
fn the_globals_are_the_whitelist() {
    let seen = result(
        "local t = {} for k in pairs(_G) do t[#t + 1] = k end table.sort(t) return table.concat(t, ' ')",
    );
    assert!(
        seen.contains(
            "_G _VERSION assert bit error getmetatable ipairs list math next null os pairs pcall \
             require select setmetatable string table tonumber tostring type unpack utf8 xpcall "
        ),
        "{seen}"
    );
}

#[test]
fn what_one_script_does_to_its_libraries_no_other_sees() {
    let schema = SharedSchema::new();
    let poison = "string.format = function() return 'poisoned' end
        math.floor = nil string.rep = error pairs = nil
        return function(msg) return msg end";
    script(poison, "poison.lua", &ScriptOptions::default(), &schema).unwrap();
    assert!(result("return ('%d'):format(3) .. math.floor(2.5)").contains("string:32"));
    // Nor does the state itself: its methods of strings and its expressions.
    let seen = result("string.format = function() return 'poisoned' end return ('%d'):format(3)");
    assert!(seen.contains("string:3 "), "{seen}");
}

#[test]
fn the_cursor_is_of_no_use_after_the_call() {
    let schema = SharedSchema::new();
    let source = "local M, kept = { timer = '1ms' }
        function M.process(msg) kept = msg return msg end
        function M.on_timer(state, ctx)
          local before = kept.rpm
          local ok, why = pcall(function() kept.rpm = 1 end)
          ctx.emit({ before = tostring(before), ok = ok, why = why, n = #kept:copy() })
        end
        return M";
    let mut operator = script(source, "t.lua", &ScriptOptions::default(), &schema).unwrap();
    common::run(&mut *operator, &mut message(&schema), &schema);
    let mut out = Slab::new(1024, &common::budget());
    let mut dead = common::Dead::default();
    for mono_us in [0, 10_000] {
        let now = Now { mono_us, wall_us: 0 };
        operator.on_timer(&mut out, &mut Context { now, refuse: &mut dead, ports: &mut [] });
    }
    let row = common::show(out.row(0), &schema);
    assert!(row.contains("before=\"nil\"") && row.contains("ok=false"), "{row}");
    assert!(row.contains("there is no message outside of the call"), "{row}");
}

#[test]
fn bytecode_is_refused_everywhere() {
    let schema = SharedSchema::new();
    let bytecode = "\u{1b}LJ\u{2}\u{2}abc";
    let options = ScriptOptions::default();
    assert!(script(bytecode, "b", &options, &schema).is_err());
    assert!(filter("b", bytecode, &schema).is_err());
}

#[test]
fn an_expression_has_no_way_out_either() {
    let schema = SharedSchema::new();
    let fields: Fields<'_> = &[("rpm", Int(1))];
    let mut slab = slab();
    for _ in 0..3 {
        push(&mut slab, &schema, 0, fields);
    }
    for expression in
        ["ffi", "require", "loadstring", "getfenv", "debug", "io", "package", "jit", "_G", "load"]
    {
        let mut operator = filter("f", &format!("{expression} ~= nil"), &schema).unwrap();
        let mut copy = common::slab();
        copy.push_all(&slab).unwrap();
        let out = common::run(&mut *operator, &mut copy, &schema);
        assert_eq!((out.rows.len(), out.dead.len()), (0, 0), "{expression}");
    }
    let mut operator = filter("f", "require('ffi')", &schema).unwrap();
    let out = common::run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.dead.len(), 3);
    assert!(out.dead.iter().all(|(_, reason, _)| *reason == Reason::Script));
}
