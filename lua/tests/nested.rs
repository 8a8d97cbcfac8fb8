//! Nested values are read and written in place; what is not touched stays what
//! it is. The values that people ask about at the edges: null, empty lists,
//! names beyond the slots, numbers that JSON has and Lua has not.

mod common;

use common::{Fields, Outcome, run, slab};
use ringmain_lua::{Config, ScriptOptions, script};
use ringmain_slab::Scalar::{Int, Number, Str};
use ringmain_slab::{Scratch, SharedSchema, Slab, TreeBuilder};

/// `doc` is { list = [10, big, [], {}], map = { x = 1, "a b" = null }, none = null },
/// `n` is 1, `null` is null.
fn message(schema: &SharedSchema, slots: bool) -> Slab {
    let mut slab = slab();
    for name in ["n", "doc", "nothing"] {
        schema.intern(name).unwrap();
    }
    if !slots {
        for at in 0..61 {
            schema.intern(&format!("f{at}")).unwrap();
        }
    }
    let mut scratch = Scratch::default();
    let count = if slots { 3 } else { ringmain_slab::REST_SLOT + 1 };
    let mut row = slab.build(3, count, &mut scratch);
    row.set(0, Int(1));
    row.set(2, ringmain_slab::Scalar::Null);
    let mut tree = row.tree(if slots { 1 } else { ringmain_slab::REST_SLOT });
    if !slots {
        assert!(tree.map());
        tree.key("deep");
    }
    document(&mut tree);
    if !slots {
        tree.close();
    }
    tree.finish();
    row.finish(5).unwrap();
    slab
}

fn document(tree: &mut TreeBuilder<'_, '_>) {
    assert!(tree.map());
    tree.key("list");
    assert!(tree.list());
    tree.scalar(Int(10));
    tree.scalar(Int(9_007_199_254_740_993));
    assert!(tree.list());
    tree.close();
    assert!(tree.map());
    tree.close();
    tree.close();
    tree.key("map");
    assert!(tree.map());
    tree.key("x");
    tree.scalar(Int(1));
    tree.key("a b");
    tree.scalar(ringmain_slab::Scalar::Null);
    tree.close();
    tree.key("huge");
    tree.scalar(Number("123456789012345678901234567890"));
    tree.close();
}

fn with(body: &str, slots: bool) -> Outcome {
    let schema = SharedSchema::new();
    let mut slab = message(&schema, slots);
    let source = format!("return function(msg)\n{body}\nreturn msg\nend");
    let mut operator = script(&source, "n.lua", &ScriptOptions::default(), &schema).unwrap();
    run(&mut *operator, &mut slab, &schema)
}

/// The document after the statements.
fn doc(body: &str) -> String {
    let out = with(body, true);
    assert!(out.dead.is_empty(), "{body}: {:?}", out.dead);
    let row = &out.rows[0];
    let row = row.strip_prefix("n=1 doc=").unwrap_or_else(|| panic!("{body}: {row}"));
    row.split(" nothing=null").next().unwrap().to_owned()
}

const LIST: &str = "list:[10,9007199254740993,[],{}]";
const MAP: &str = "map:{a b:null,x:1}";
const HUGE: &str = "huge:#123456789012345678901234567890";

#[test]
fn one_place_is_written_and_all_else_stays() {
    for (body, expected) in [
        ("msg.doc.map.x = 'new'", format!("{{{HUGE},{LIST},map:{{a b:null,x:\"new\"}}}}")),
        (
            "msg.doc.map.y = { 1, { z = true } }",
            format!("{{{HUGE},{LIST},map:{{a b:null,x:1,y:[1,{{z:true}}]}}}}"),
        ),
        ("msg.doc.map['a b'] = 2.5", format!("{{{HUGE},{LIST},map:{{a b:2.5,x:1}}}}")),
        ("msg.doc.map.x = nil", format!("{{{HUGE},{LIST},map:{{a b:null}}}}")),
        ("msg.doc.map.none = nil", format!("{{{HUGE},{LIST},{MAP}}}")),
        ("msg.doc.map.x = null", format!("{{{HUGE},{LIST},map:{{a b:null,x:null}}}}")),
        ("msg.doc.map = {}", format!("{{{HUGE},{LIST},map:{{}}}}")),
        ("msg.doc.map = list{}", format!("{{{HUGE},{LIST},map:[]}}")),
        ("msg.doc.list[1] = 11", format!("{{{HUGE},list:[11,9007199254740993,[],{{}}],{MAP}}}")),
        (
            "msg.doc.list[5] = 'end'",
            format!("{{{HUGE},list:[10,9007199254740993,[],{{}},\"end\"],{MAP}}}"),
        ),
        ("msg.doc.list[4] = nil", format!("{{{HUGE},list:[10,9007199254740993,[]],{MAP}}}")),
        ("msg.doc.list[1] = nil", format!("{{{HUGE},list:[null,9007199254740993,[],{{}}],{MAP}}}")),
        ("msg.doc.list[5] = nil", format!("{{{HUGE},{LIST},{MAP}}}")),
        (
            "msg.doc.list[3][1] = 'in'",
            format!("{{{HUGE},list:[10,9007199254740993,[\"in\"],{{}}],{MAP}}}"),
        ),
        (
            "msg.doc.list[4].k = 'in'",
            format!("{{{HUGE},list:[10,9007199254740993,[],{{k:\"in\"}}],{MAP}}}"),
        ),
        ("msg.doc.extra = msg.doc.map", format!("{{extra:{{a b:null,x:1}},{HUGE},{LIST},{MAP}}}")),
        ("msg.doc.x = 5LL", format!("{{{HUGE},{LIST},{MAP},x:5}}")),
        (
            "for i = 1, 50 do msg.doc.map.x = i end",
            format!("{{{HUGE},{LIST},map:{{a b:null,x:50}}}}"),
        ),
        (
            "local d, m = msg.doc, msg.doc.map d.y = 1 m.x = d.y + 1 if d.map.x ~= 2 or m.x ~= 2 then error('stale') end",
            format!("{{{HUGE},{LIST},map:{{a b:null,x:2}},y:1}}"),
        ),
    ] {
        assert_eq!(doc(body), expected, "{body}");
    }
}

#[test]
fn the_same_beyond_the_slots() {
    for (body, expected) in [
        ("msg.deep.map.x = 2", "map:{a b:null,x:2}"),
        ("msg.deep.list[3][1] = msg.n", "list:[10,9007199254740993,[1],{}]"),
        (
            "msg.deep.map = nil",
            "+deep={huge:#123456789012345678901234567890,list:[10,9007199254740993,[],{}]}",
        ),
        (
            "local d = msg.deep msg.more = 'text' d.list[1] = #msg.more",
            "list:[4,9007199254740993,[],{}]",
        ),
    ] {
        let out = with(body, false);
        assert!(out.dead.is_empty(), "{body}: {:?}", out.dead);
        assert!(out.rows[0].contains(expected), "{body}: {}", out.rows[0]);
        assert!(out.rows[0].contains("9007199254740993"), "{body}: {}", out.rows[0]);
    }
}

#[test]
fn what_has_no_place_is_an_error_that_says_so_and_changes_nothing() {
    for (body, why) in [
        ("msg.none.x = 1", "attempt to index field 'none' (a nil value)"),
        ("msg.doc.none.x = 1", "attempt to index field 'none' (a nil value)"),
        ("msg.n.x = 1", "attempt to index field 'n' (a number value)"),
        ("msg.doc.list[6] = 1", "a list has the places 1 to n + 1, a map has text keys"),
        ("msg.doc.list[0] = 1", "a list has the places 1 to n + 1, a map has text keys"),
        ("msg.doc.list[1.5] = 1", "a list has the places 1 to n + 1, a map has text keys"),
        ("msg.doc.list.x = 1", "a list has the places 1 to n + 1, a map has text keys"),
        ("msg.doc.map[1] = 1", "a list has the places 1 to n + 1, a map has text keys"),
        ("msg.doc.map['\\255'] = 1", "a list has the places 1 to n + 1, a map has text keys"),
        ("msg.doc.map.f = function() end", "cannot store this value in a message"),
        ("msg.doc.map.m = msg", "cannot store this value in a message"),
        ("msg.doc.map.i = 9007199254740993LL", "cannot store this value in a message"),
        (
            "local d = msg.doc msg.doc = nil d.x = 1",
            "the nested value is no longer part of the message",
        ),
        (
            "local m = msg.doc.map msg.doc = { map = 5 } m.x = 1",
            "the nested value is no longer part of the message",
        ),
    ] {
        let out = with(body, true);
        assert_eq!((out.rows.len(), out.dead.len()), (0, 1), "{body}");
        assert_eq!(out.dead[0].2, format!("n.lua:2: {why}"), "{body}");
        let expected = format!("n=1 doc={{{HUGE},{LIST},{MAP}}} nothing=null");
        assert_eq!(out.dead[0].0, expected, "{body}");
    }
}

#[test]
fn a_value_that_is_nested_as_deep_as_may_be_is_written_and_no_deeper() {
    let deep = "local t = { 1 } for i = 1, 125 do t = { a = t } end msg.doc.map.x = t";
    assert!(with(deep, true).dead.is_empty());
    let deeper = "local t = { 1 } for i = 1, 126 do t = { a = t } end msg.doc.map.x = t";
    assert_eq!(with(deeper, true).dead[0].2, "n.lua:2: a value is nested too deep");
}

#[test]
fn a_proxy_reads_on_what_was_there_when_its_place_is_gone() {
    let out = with(
        "local map, list = msg.doc.map, msg.doc.list
         msg.doc = nil
         msg.out = map.x .. '/' .. #list .. '/' .. tostring(rawequal)
         ",
        true,
    );
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(out.rows[0], "n=1 nothing=null out=\"1/4/nil\"");
}

#[test]
fn null_is_there_and_absent_is_not() {
    let out = with(
        "msg.out = tostring(msg:has('nothing')) .. tostring(msg:has('never')) .. tostring(msg:has('n'))
           .. tostring(msg.nothing) .. tostring(msg:has('doc')) .. tostring(msg:has(5))
         msg.nothing = nil
         msg.out = msg.out .. tostring(msg:has('nothing'))
         msg.nothing = null
         msg.out = msg.out .. tostring(msg:has('nothing'))
         msg.doc = nil",
        true,
    );
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(
        out.rows[0],
        "n=1 nothing=null out=\"truefalsetruenilfalse\""
            .replace("nilfalse\"", "niltruefalsefalsetrue\"")
    );
    let out = with(
        "msg.n = nil msg.out = tostring(msg:has('deep')) .. tostring(msg:has('deeper'))",
        false,
    );
    assert!(out.rows[0].contains("+out=\"truefalse\""), "{:?}", out.rows);
}

#[test]
fn lists_and_maps_stay_what_they_are_when_they_are_copied() {
    let out = with(
        "local list = msg.doc.list
         msg.a = list
         msg.b = { list[3], list[4], list{} == nil }
         local c = msg:copy()
         c.doc.list[2] = nil
         msg.c = c.doc.list[3]
         msg.d = { c.doc.list[3], c.doc.list[4] }
         table.insert(c.doc.list[3], 'x')
         msg.e = c.doc.list[3]
         msg.doc = nil",
        true,
    );
    assert_eq!(out.dead[0].2, "n.lua:4: attempt to call local 'list' (a table value)");
    let out = with(
        "local values = msg.doc.list
         msg.a = values[3]
         msg.b = { values[3], values[4], list{}, {} }
         local c = msg:copy()
         msg.c = c.doc.list[3]
         table.insert(c.doc.list[3], 'x')
         msg.d = c.doc.list[3]
         table.remove(c.doc.list[3])
         msg.e = c.doc.list[3]
         msg.f = list{ 1, 2 }
         msg.doc = nil",
        true,
    );
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(out.rows[0], "n=1 nothing=null a=[] b=[[],{},[],{}] c=[] d=[\"x\"] e=[] f=[1,2]");
    for (body, why) in [
        ("msg.x = list{ a = 1 }", "a table is either a list"),
        ("msg.x = list(5)", "list takes a table"),
        ("msg.x = list(msg)", "list takes a table"),
        ("msg.x = list(msg.doc)", "list takes a table"),
        ("setmetatable(list{}, {})", "cannot change a protected metatable"),
    ] {
        let out = with(body, true);
        assert!(out.dead[0].2.contains(why), "{body}: {:?}", out.dead);
    }
}

#[test]
fn lists_of_the_configuration_are_lists() {
    let schema = SharedSchema::new();
    let config = Config::Map(vec![
        ("empty".into(), Config::List(Vec::new())),
        ("nothing".into(), Config::Map(Vec::new())),
        ("window".into(), Config::Str("10s".into())),
    ]);
    let options = ScriptOptions { config: Some(&config), ..ScriptOptions::default() };
    let source = "return function(msg, state, ctx)
        msg.doc = { ctx.config.empty, ctx.config.nothing, ctx.config.window } return msg end";
    let mut slab = message(&schema, true);
    let mut operator = script(source, "c.lua", &options, &schema).unwrap();
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.rows, ["n=1 doc=[[],{},\"10s\"] nothing=null"]);
}

#[test]
fn a_script_that_adds_fields_for_ever_goes_on_beyond_the_slots() {
    let schema = SharedSchema::new();
    let source = "local seen = 0
        return function(msg)
          seen = seen + 1
          for i = 1, 20 do msg['field' .. seen .. '_' .. i] = i end
          msg['größe \\1'] = 'x'
          local n = 0
          for k in msg:fields() do n = n + 1 end
          msg.n = n
          return msg
        end";
    let mut operator = script(source, "many.lua", &ScriptOptions::default(), &schema).unwrap();
    for round in 1..=20 {
        let fields: Fields<'_> = &[("n", Int(0)), ("name", Str("x"))];
        let mut slab = common::slab_of(&schema, &[fields]);
        let out = run(&mut *operator, &mut slab, &schema);
        assert!(out.dead.is_empty(), "round {round}: {:?}", out.dead);
        assert!(out.rows[0].starts_with("n=23 name=\"x\""), "round {round}: {}", out.rows[0]);
        for field in 1..=20 {
            let text = format!("field{round}_{field}={field}");
            assert!(out.rows[0].contains(&text), "round {round}: {}", out.rows[0]);
        }
    }
    assert_eq!(schema.snapshot().version(), 64);
}

#[test]
fn names_and_numbers_at_the_edges_are_defined() {
    let long = "x".repeat(1024);
    for (body, expected) in [
        (format!("msg['{long}'] = 1"), format!("{long}=1")),
        ("msg[''] = 1".to_owned(), "=1".to_owned()),
        ("msg['a\\0b'] = 1".to_owned(), "a\0b=1".to_owned()),
        ("msg.x = 0/0".to_owned(), "x=NaN".to_owned()),
        ("msg.x = 1/0".to_owned(), "x=inf".to_owned()),
        ("msg.x = 1e308 * 10".to_owned(), "x=inf".to_owned()),
        ("msg.x = 2^53 + 2".to_owned(), "x=9007199254740994.0".to_owned()),
        ("msg.x = -(2^53 - 1)".to_owned(), "x=-9007199254740991".to_owned()),
        ("msg.x = 2^63".to_owned(), "x=9.223372036854776e18".to_owned()),
        ("msg.x = -9223372036854775807LL - 1LL".to_owned(), format!("x={}", i64::MIN)),
        ("msg.x = { 0/0, '\\255' }".to_owned(), "x=[NaN,b[255]]".to_owned()),
        ("msg.x = '\\237\\160\\128'".to_owned(), "x=b[237, 160, 128]".to_owned()),
    ] {
        let out = with(&body, true);
        assert!(out.dead.is_empty(), "{body}: {:?}", out.dead);
        assert!(out.rows[0].contains(&expected), "{body}: {}", out.rows[0]);
    }
    let longer = "x".repeat(1025);
    let out = with(&format!("msg['{longer}'] = 1"), true);
    assert!(out.dead[0].2.contains("a field's name is UTF-8 of at most 1024 bytes"));
    let out = with("msg.x = 1ULL", true);
    assert!(out.dead[0].2.contains("cannot store this value in a message"));
}

#[test]
fn utf8_does_what_lua_53_does() {
    for (expression, expected) in [
        ("utf8.char(72, 228, 8364, 128512)", "Hä€😀"),
        ("utf8.char()", ""),
        ("utf8.len('Hä€😀')", "4"),
        ("utf8.len('')", "0"),
        ("tostring(utf8.len('a\\255b')) .. select(2, utf8.len('a\\255b'))", "nil2"),
        ("utf8.len('äöü', 3)", "2"),
        ("utf8.len('äöü', -2, -1)", "1"),
        ("utf8.len('abc', 4)", "0"),
        (
            "select(2, pcall(utf8.len, 'abc', 5))",
            "bad argument #2 to 'len' (initial position out of string)",
        ),
        ("table.concat({ utf8.codepoint('aä€', 1, -1) }, ',')", "97,228,8364"),
        ("utf8.codepoint('x')", "120"),
        ("select('#', utf8.codepoint('abc', 3, 2))", "0"),
        ("select(2, pcall(utf8.codepoint, '\\255'))", "invalid UTF-8 code"),
        (
            "select(2, pcall(utf8.codepoint, 'abc', 4))",
            "bad argument #3 to 'codepoint' (out of range)",
        ),
        ("utf8.offset('aä€😀', 4)", "7"),
        ("utf8.offset('aä€😀', -1)", "7"),
        ("utf8.offset('aä€😀', 0, 9)", "7"),
        ("utf8.offset('abc', 4)", "4"),
        ("tostring(utf8.offset('abc', 5))", "nil"),
        ("tostring(utf8.len('\\192\\128'))", "nil"),
        ("tostring(utf8.len('\\224\\159\\191'))", "nil"),
        ("tostring(utf8.len('\\244\\144\\128\\128'))", "nil"),
        ("utf8.len('\\244\\143\\191\\191')", "1"),
        ("select(2, pcall(utf8.char, 0x110000))", "bad argument #1 to 'char' (value out of range)"),
        ("(('aä€'):gsub(utf8.charpattern, '<%0>'))", "<a><ä><€>"),
        (
            "(function() local t = {} for p, c in utf8.codes('aä€') do t[#t + 1] = p .. ':' .. c end return table.concat(t, ' ') end)()",
            "1:97 2:228 4:8364",
        ),
        (
            "select(2, pcall(function() for _ in utf8.codes('a\\128') do end end))",
            "invalid UTF-8 code",
        ),
    ] {
        let out = with(&format!("msg.doc = nil msg.out = tostring({expression})"), true);
        assert!(out.dead.is_empty(), "{expression}: {:?}", out.dead);
        let seen = out.rows[0].split_once("out=").unwrap().1;
        assert!(
            seen == format!("{expected:?}") || seen.ends_with(&format!(": {expected}\"")),
            "{expression}: {seen}"
        );
    }
    // Every code there is comes back.
    let every = "for c = 0, 0x10FFFF, 101 do
           local s = utf8.char(c)
           if utf8.codepoint(s) ~= c or utf8.len(s) ~= 1 then error('code ' .. c) end
         end";
    let out = with(every, true);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
}
