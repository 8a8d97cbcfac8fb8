//! The cursor `msg`, and the forms of a script.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::{Fields, Outcome, budget, code, push, run, slab, slab_of};
use ringmain_base::{Now, Reason};
use ringmain_lua::{Config, Script, ScriptOptions, script};
use ringmain_ops::{Context, Operator};
use ringmain_slab::Scalar::{Bool, Bytes, Float, Int, Null, Number, Str};
use ringmain_slab::{Budget, Scratch, SharedSchema, Slab};

fn compile(source: &str, schema: &SharedSchema) -> Box<Script> {
    script(source, "test.lua", &ScriptOptions::default(), schema).unwrap()
}

fn once(body: &str, messages: &[Fields<'_>]) -> Outcome {
    let schema = SharedSchema::new();
    let mut slab = slab_of(&schema, messages);
    let source = format!("return function(msg)\n{body}\nend");
    run(&mut *compile(&source, &schema), &mut slab, &schema)
}

/// The value of an expression of `msg`, as the script sees it.
fn see(expression: &str, fields: Fields<'_>) -> String {
    let body = format!("local v = {expression} msg.out = type(v) .. ' ' .. tostring(v) return msg");
    let out = once(&body, &[fields]);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    let row = &out.rows[0];
    let text = &row[row.find("out=\"").unwrap() + 5..];
    text.strip_suffix('"').unwrap().to_owned()
}

#[test]
fn every_kind_of_value_is_read() {
    let fields: Fields<'_> = &[
        ("int", Int(-7)),
        ("float", Float(0.25)),
        ("yes", Bool(true)),
        ("no", Bool(false)),
        ("null", Null),
        ("text", Str("größe")),
        ("empty", Str("")),
        ("bytes", Bytes(b"ab\0c")),
        ("huge", Number("123456789012345678901234567890")),
        ("odd-name", Int(1)),
    ];
    assert_eq!(see("msg.int", fields), "number -7");
    assert_eq!(see("msg.float", fields), "number 0.25");
    assert_eq!(see("msg.yes", fields), "boolean true");
    assert_eq!(see("msg.no", fields), "boolean false");
    assert_eq!(see("msg.null", fields), "nil nil");
    assert_eq!(see("msg.absent", fields), "nil nil");
    assert_eq!(see("msg.text", fields), "string größe");
    assert_eq!(see("#msg.empty", fields), "number 0");
    assert_eq!(see("#msg.bytes", fields), "number 4");
    assert_eq!(see("msg.huge", fields), "number 1.2345678901235e+29");
    assert_eq!(see("msg['odd-name']", fields), "number 1");
    assert_eq!(see("msg[5]", fields), "nil nil");
    assert_eq!(see("msg[nil]", fields), "nil nil");
}

#[test]
fn every_kind_of_value_is_written() {
    let out = once(
        "msg.a = 1 msg.b = 1.5 msg.c = -0.0 msg.d = 2^53
         msg.e = 'x' msg.f = true msg.g = null
         msg.h = '\\255\\254' msg.i = 'ü'
         msg.j = 9007199254740993LL msg.k = 0/0
         msg['odd-name'] = 2^53 - 1
         msg.n = nil
         return msg",
        &[&[("n", Int(1))]],
    );
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(
        out.rows[0],
        "a=1 b=1.5 c=-0.0 d=9007199254740992.0 e=\"x\" f=true g=null h=b[255, 254] i=\"ü\" \
         j=9007199254740993 k=NaN odd-name=9007199254740991"
    );
}

#[test]
fn what_no_message_holds_is_an_error_at_its_line() {
    for (statement, why) in [
        ("msg.a = print", None),
        ("msg.a = function() end", Some("cannot store this value in a message")),
        ("msg.a = msg", Some("cannot store this value in a message")),
        ("msg.a = 1i", Some("cannot store this value in a message")),
        ("msg[1] = 1", Some("a field's name is UTF-8 of at most 1024 bytes")),
        ("msg['\\255'] = 1", Some("a field's name is UTF-8 of at most 1024 bytes")),
        (
            "msg.a = { 1, x = 2 }",
            Some("a table is either a list (1 to n without gaps) or a map with text keys"),
        ),
        (
            "msg.a = { 1, nil, 3 }",
            Some("a table is either a list (1 to n without gaps) or a map with text keys"),
        ),
        ("local t = {} t.t = t msg.a = t", Some("a value is nested too deep")),
        ("msg.a = { function() end }", Some("cannot store this value in a message")),
        ("msg:put(1, 'x')", Some("a field's name is UTF-8 of at most 1024 bytes")),
    ] {
        let out = once(&format!("msg.n = 2\n{statement}\nreturn msg"), &[&[("n", Int(1))]]);
        match why {
            None => assert_eq!(out.dead.len(), 0, "{statement}"),
            Some(why) => {
                let (row, reason, detail) = &out.dead[0];
                assert_eq!((row.as_str(), *reason), ("n=1", Reason::Script), "{statement}");
                assert_eq!(*detail, format!("test.lua:3: {why}"), "{statement}");
            }
        }
    }
}

fn nested(schema: &SharedSchema) -> Slab {
    let mut slab = slab();
    for name in ["n", "doc"] {
        schema.intern(name).unwrap();
    }
    let mut scratch = Scratch::default();
    let mut row = slab.build(2, 2, &mut scratch);
    row.set(0, Int(1));
    let mut tree = row.tree(1);
    assert!(tree.map());
    tree.key("list");
    assert!(tree.list());
    for value in [Int(10), Str("zwei"), Null, Bool(true)] {
        tree.scalar(value);
    }
    tree.close();
    tree.key("in");
    assert!(tree.map());
    tree.key("x");
    tree.scalar(Float(0.5));
    tree.close();
    tree.close();
    tree.finish();
    row.finish(77).unwrap();
    slab
}

fn with_nested(body: &str) -> Outcome {
    let schema = SharedSchema::new();
    let mut slab = nested(&schema);
    let source = format!("return function(msg)\n{body}\nend");
    run(&mut *compile(&source, &schema), &mut slab, &schema)
}

#[test]
fn nested_values_are_read_where_they_lie() {
    let out = with_nested(
        "local t = {}
         for i, v in ipairs(msg.doc.list) do t[#t + 1] = i .. '=' .. tostring(v) end
         for k, v in pairs(msg.doc) do t[#t + 1] = k .. ':' .. #v end
         msg.doc2 = msg.doc['in'].x .. ' ' .. msg.doc.list[2] .. ' ' .. tostring(msg.doc.list[9])
           .. ' ' .. #msg.doc.list .. ' ' .. table.concat(t, ',') .. tostring(msg.doc.none)
         msg.doc = nil
         return msg",
    );
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(out.rows[0], "n=1 doc2=\"0.5 zwei nil 4 1=10,2=zwei,list:4,in:1nil\"");
}

#[test]
fn nested_values_are_assigned_whole() {
    let out = with_nested(
        "msg.copy = msg.doc
         msg.a = { b = { 1, 2, { c = 'x' } }, d = {}, e = null, f = msg.doc['in'] }
         msg.l = { msg.doc.list[1], msg.doc.list[2] }
         return msg",
    );
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    let doc = "{in:{x:0.5},list:[10,\"zwei\",null,true]}";
    assert_eq!(
        out.rows[0],
        format!(
            "n=1 doc={doc} copy={doc} a={{b:[1,2,{{c:\"x\"}}],d:{{}},e:null,f:{{x:0.5}}}} l=[10,\"zwei\"]"
        )
    );
}

#[test]
fn a_proxy_ends_with_its_message() {
    let schema = SharedSchema::new();
    let mut slab = nested(&schema);
    let again = nested(&schema);
    slab.push_all(&again).unwrap();
    let source = "local kept, all
        return function(msg)
          if kept then msg.n = kept.list[1] else kept = msg.doc; all = msg end
          return msg
        end";
    let mut operator = compile(source, &schema);
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!((out.rows.len(), out.dead.len()), (1, 1));
    assert!(out.dead[0].2.contains("valid only during the call"), "{:?}", out.dead);
    let out = run(&mut *operator, &mut nested(&schema), &schema);
    assert_eq!(out.dead.len(), 1);
}

#[test]
fn copy_and_fields_give_what_is_there() {
    let out = with_nested(
        "local c = msg:copy()
         local names = {}
         for k, v in msg:fields() do names[#names + 1] = k .. '=' .. type(v) end
         c.doc.list[2] = 'changed'
         msg.out = table.concat(names, ',') .. c.doc.list[2] .. tostring(c.doc.list[3] == null)
         msg.again = c.doc
         msg.doc = nil
         return msg",
    );
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(
        out.rows[0],
        "n=1 out=\"n=number,doc=tablechangedtrue\" again={in:{x:0.5},list:[10,\"changed\",null,true]}"
    );
}

#[test]
fn the_envelope_gives_way_to_fields_and_methods_do_not() {
    let schema = SharedSchema::new();
    let mut slab = slab();
    push(&mut slab, &schema, 1_700_000_000_000_123, &[("dev", Str("a")), ("line", Int(4))]);
    push(&mut slab, &schema, 5, &[("ts", Int(9)), ("key", Str("k")), ("copy", Int(3))]);
    let key = ["dev".to_owned(), "line".to_owned()];
    let options = ScriptOptions { key: &key, ..ScriptOptions::default() };
    let source = "return function(msg)
        msg.seen = string.format('%.0f %s %s %s', msg.ts, msg.key, type(msg.copy), tostring(msg:get('copy')))
        msg.exact = msg:ts_int64()
        return msg
      end";
    let mut operator = script(source, "t.lua", &options, &schema).unwrap();
    let out = run(&mut *operator, &mut slab, &schema);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(
        out.rows,
        [
            "dev=\"a\" line=4 seen=\"1700000000000123 a:4 function nil\" exact=1700000000000123",
            "ts=9 key=\"k\" copy=3 seen=\"9 k function 3\" exact=5",
        ]
    );
}

#[test]
fn put_joins_into_a_field() {
    let out = once(
        "msg:put('label', msg.a, ':', 1.5, '|', -3) msg:put('bad', '\\255') return msg",
        &[&[("a", Str("x"))]],
    );
    assert_eq!(out.rows[0], "a=\"x\" label=\"x:1.5|-3\" bad=b[255]");
}

#[test]
fn a_returned_table_becomes_the_message() {
    let out = once(
        "if msg.n == 1 then return { a = 1, list = { 1, 2 }, text = 'x' } end
         if msg.n == 2 then return true end
         if msg.n == 3 then return { 1 } end
         if msg.n == 4 then return false end
         return msg",
        &[&[("n", Int(1))], &[("n", Int(2))], &[("n", Int(3))], &[("n", Int(4))], &[("n", Int(5))]],
    );
    assert_eq!(out.rows.len(), 2);
    assert!(out.rows[0].contains("a=1") && out.rows[0].contains("list=[1,2]"), "{out:?}");
    assert!(!out.rows[0].contains("n="));
    assert_eq!(out.rows[1], "n=5");
    assert_eq!(out.dead.len(), 2);
    assert_eq!(out.dead[0].2, "an operator returns msg, a table, or nil, and not a boolean");
    assert_eq!(out.dead[1].0, "n=3");
}

#[test]
fn a_failing_message_is_refused_as_it_came_in() {
    let long = "y".repeat(3000);
    let out = once(
        "msg.a = 'changed' msg.b = nil msg.new = { 1, 2 } msg:put('c', 'more')
         if msg.n == 2 then error('no') end return msg",
        &[
            &[("n", Int(1)), ("a", Str("a1")), ("b", Str(&long))],
            &[("n", Int(2)), ("a", Str("a2")), ("b", Str("b2"))],
            &[("n", Int(3)), ("a", Str("a3"))],
        ],
    );
    let rest = "new=[1,2] c=\"more\"";
    assert_eq!(
        out.rows,
        [format!("n=1 a=\"changed\" {rest}"), format!("n=3 a=\"changed\" {rest}")]
    );
    let dead = ("n=2 a=\"a2\" b=\"b2\"".to_owned(), Reason::Script, "test.lua:3: no".to_owned());
    assert_eq!(out.dead, [dead]);
}

#[test]
fn a_slab_grows_while_its_rows_are_processed() {
    let schema = SharedSchema::new();
    schema.intern("n").unwrap();
    let mut slab = Slab::new(1024, &budget());
    let mut count = 0;
    loop {
        let mut scratch = Scratch::default();
        let mut row = slab.build(1, 1, &mut scratch);
        row.set_int(0, count);
        if row.finish(count).is_err() {
            break;
        }
        count += 1;
    }
    let source = "local rep = string.rep return function(msg)
        local text = msg.n .. rep('x', 500)
        msg.text = text
        if msg.text ~= text or msg.n % 2 == 1 then return end
        msg.list = { msg.n, text }
        if msg.list[2] ~= text then error('moved') end
        return msg
      end";
    let out = run(&mut *compile(source, &schema), &mut slab, &schema);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(out.rows.len() as i64, (count + 1) / 2);
    for (at, row) in out.rows.iter().enumerate() {
        assert!(row.starts_with(&format!("n={} text=\"{}xxx", at * 2, at * 2)), "{row}");
    }
}

#[test]
fn a_message_that_outgrows_the_memory_is_refused_and_the_rest_goes_on() {
    let schema = SharedSchema::new();
    let mut slab = Slab::new(1024, &Budget::new(0));
    push(&mut slab, &schema, 1, &[("n", Int(1))]);
    push(&mut slab, &schema, 2, &[("n", Int(2))]);
    let source =
        "return function(msg) if msg.n == 1 then msg.s = ('x'):rep(5000) end return msg end";
    let out = run(&mut *compile(source, &schema), &mut slab, &schema);
    assert_eq!(out.rows, ["n=2"]);
    let (row, reason, detail) = &out.dead[0];
    assert_eq!((row.as_str(), *reason), ("n=1", Reason::Memory));
    assert_eq!(detail, "test.lua:1: the message needs more than [shards] memory allows");
}

#[test]
fn rows_older_than_a_field_get_it_when_it_is_written() {
    let schema = SharedSchema::new();
    let mut slab = slab();
    push(&mut slab, &schema, 1, &[("a", Int(1))]);
    push(&mut slab, &schema, 2, &[("a", Int(2)), ("b", Str("bb")), ("c", Int(3))]);
    push(&mut slab, &schema, 3, &[("a", Int(3)), ("b", Str("b3"))]);
    let source = "return function(msg)
        if msg.a == 1 and msg.b ~= nil then error('b?') end
        msg.z = msg.a; msg.y = 'y' .. tostring(msg.b); msg.b = nil; return msg end";
    let mut operator = compile(source, &schema);
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.rows, ["a=1 z=1 y=\"ynil\"", "a=2 c=3 z=2 y=\"ybb\"", "a=3 z=3 y=\"yb3\""]);
    // A field that appears after a script asked for it in vain is found.
    let mut later = slab_of(&schema, &[&[("a", Int(1)), ("fresh", Int(5))]]);
    let mut second = slab_of(&schema, &[&[("a", Int(2)), ("fresher", Int(6))]]);
    let source =
        "return function(msg) msg.a = (msg.fresh or 0) + (msg.fresher or 0) return msg end";
    let fresh = SharedSchema::new();
    fresh.intern("a").unwrap();
    let mut operator = compile(source, &fresh);
    assert_eq!(
        run(&mut *operator, &mut slab_of(&fresh, &[&[("a", Int(1))]]), &fresh).rows,
        ["a=0"]
    );
    let mut operator = compile(source, &schema);
    assert_eq!(run(&mut *operator, &mut later, &schema).rows, ["a=5 fresh=5"]);
    assert_eq!(run(&mut *operator, &mut second, &schema).rows, ["a=6 fresher=6"]);
}

#[test]
fn fields_beyond_the_slots_are_read_and_written_all_the_same() {
    let schema = SharedSchema::new();
    for at in 0..64 {
        schema.intern(&format!("f{at}")).unwrap();
    }
    let mut slab = slab();
    push(&mut slab, &schema, 1, &[("f0", Int(1)), ("f63", Str("last"))]);
    push(&mut slab, &schema, 2, &[("f0", Int(2))]);
    let source = "return function(msg)
        if msg.extra ~= nil then error('not yet') end
        msg.extra = 'e' .. msg.f0
        msg.more = { msg.extra }
        msg:put('third', msg.extra, '!')
        msg.f1 = msg.extra .. msg.more[1]
        local n = 0
        for k, v in msg:fields() do n = n + 1 end
        msg.f2 = n
        if msg.f0 == 2 then msg.extra = nil end
        msg.f3 = msg:copy().third
        if msg.f0 == 1 then msg.f0 = nil end
        return msg end";
    let out = run(&mut *compile(source, &schema), &mut slab, &schema);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(
        out.rows,
        [
            "f1=\"e1e1\" f2=6 f3=\"e1!\" f63=\"last\" +extra=\"e1\" +more=[\"e1\"] +third=\"e1!\"",
            "f0=2 f1=\"e2e2\" f2=5 f3=\"e2!\" +more=[\"e2\"] +third=\"e2!\"",
        ]
    );
}

#[test]
fn the_full_form_has_state_config_clock_and_log() {
    let schema = SharedSchema::new();
    let lines = Rc::new(RefCell::new(Vec::new()));
    let sink = lines.clone();
    let config = Config::Map(vec![
        ("step".into(), Config::Int(10)),
        ("tags".into(), Config::List(vec![Config::Str("a".into()), Config::Bool(true)])),
    ]);
    let options = ScriptOptions {
        config: Some(&config),
        log: Some(Rc::new(move |line: &str| sink.borrow_mut().push(line.to_owned()))),
        ..ScriptOptions::default()
    };
    let source = "local M = { version = 2 }
      function M.init(ctx) return { n = ctx.config.step } end
      function M.process(msg, state, ctx)
        state.n = state.n + 1
        msg.n = state.n
        msg.at = ctx.now()
        ctx.log('seen', state.n, ctx.config.tags[1], ctx.config.tags[2])
        return msg
      end
      return M";
    let mut operator = script(source, "full.lua", &options, &schema).unwrap();
    let mut slab = slab_of(&schema, &[&[("n", Int(0))], &[("n", Int(0))]]);
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.rows, ["n=11 at=1000000", "n=12 at=1000000"]);
    assert_eq!(*lines.borrow(), ["seen 11 a true", "seen 12 a true"]);
}

#[test]
fn emitted_messages_stand_where_they_were_emitted() {
    let schema = SharedSchema::new();
    let ports = ["side".to_owned()];
    let options = ScriptOptions { ports: &ports, ..ScriptOptions::default() };
    let source = "return function(msg, state, ctx)
        ctx.emit({ n = msg.n * 10, list = { 1 } })
        ctx.emit({ n = msg.n * 100 }, 'side')
        if msg.n == 2 then error('after emit') end
        if msg.n == 3 then return end
        if msg.n == 4 then ctx.emit(msg) msg.n = { deep = true } end
        msg.new = 1
        return msg
      end";
    let mut operator = script(source, "t.lua", &options, &schema).unwrap();
    let messages: Vec<[(&str, ringmain_slab::Scalar<'_>); 1]> =
        (1..=5).map(|n| [("n", Int(n))]).collect();
    let messages: Vec<Fields<'_>> = messages.iter().map(|m| &m[..]).collect();
    let mut slab = slab_of(&schema, &messages);
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(
        out.rows,
        [
            "n=10 list=[1]",
            "n=1 new=1",
            "n=30 list=[1]",
            "n=40 list=[1]",
            "n=4",
            "n={deep:true} new=1",
            "n=50 list=[1]",
            "n=5 new=1"
        ]
    );
    assert_eq!(out.ports[0], ["n=100", "n=300", "n=400", "n=500"]);
    assert_eq!(out.dead.len(), 1);
    let out = run(
        &mut *compile("return function(m, s, c) c.emit({}, 'none') end", &schema),
        &mut slab_of(&schema, &[&[("n", Int(1))]]),
        &schema,
    );
    assert_eq!(out.dead[0].2, "test.lua:1: no such port: none");
}

#[test]
fn a_timer_comes_when_it_is_due_and_may_emit() {
    let schema = SharedSchema::new();
    let source = "local M = { timer = '10ms' }
      function M.init() return { n = 0 } end
      function M.process(msg, state) state.n = state.n + 1 end
      function M.on_timer(state, ctx) ctx.emit({ total = state.n, at = ctx.now() }) end
      return M";
    let mut operator = compile(source, &schema);
    let tick = |operator: &mut Script, mono_us: u64| {
        let mut dead = common::Dead::default();
        let mut out = Slab::new(1024, &budget());
        let now = Now { mono_us, wall_us: mono_us as i64 };
        let mut cx = Context { now, refuse: &mut dead, ports: &mut [] };
        operator.on_timer(&mut out, &mut cx);
        let rows: Vec<String> = out.rows().map(|row| common::show(row, &schema)).collect();
        rows
    };
    assert_eq!(operator.timer_at_us(), Some(0));
    assert!(tick(&mut operator, 1_000).is_empty());
    assert_eq!(operator.timer_at_us(), Some(11_000));
    assert_eq!(tick(&mut operator, 11_000), ["at=11000 total=0"]);
    assert_eq!(operator.timer_at_us(), Some(21_000));
    let mut slab = slab_of(&SharedSchema::new(), &[&[("n", Int(1))], &[("n", Int(2))]]);
    run(&mut *operator, &mut slab, &SharedSchema::new());
    assert_eq!(tick(&mut operator, 50_000), ["at=50000 total=2"]);
    assert_eq!(operator.timer_at_us(), Some(60_000));
}

#[test]
fn a_new_version_takes_the_state_over_and_a_bad_one_changes_nothing() {
    let schema = SharedSchema::new();
    let v1 = "local M = { version = 1 }
      function M.init() return { n = 0 } end
      function M.process(msg, state) state.n = state.n + 1 msg.n = state.n return msg end
      return M";
    let v2 = "local M = { version = 2 }
      function M.init() error('not called') end
      function M.migrate(old, version) return { count = old.n * 100, from = version } end
      function M.process(msg, state) state.count = state.count + 1 msg.n = state.count msg.from = state.from return msg end
      return M";
    let mut operator = compile(v1, &schema);
    let next = |operator: &mut Script| {
        run(operator, &mut slab_of(&schema, &[&[("n", Int(0))]]), &schema).rows.remove(0)
    };
    assert_eq!((next(&mut operator), next(&mut operator)), ("n=1".into(), "n=2".into()));
    let error = operator.reload(&code("local M = {}\nfunction M.process(", "v.lua")).unwrap_err();
    assert_eq!((error.line, error.message.contains("near '<eof>'")), (2, true), "{error:?}");
    let bad =
        "local M = {}\nfunction M.migrate() error('nope') end\nfunction M.process() end return M";
    let error = operator.reload(&code(bad, "v.lua")).unwrap_err();
    assert_eq!((error.line, error.message.as_str()), (2, "nope"));
    assert_eq!(next(&mut operator), "n=3");
    operator.reload(&code(v2, "v.lua")).unwrap();
    assert_eq!(next(&mut operator), "n=301 from=1");
    operator.reload(&code(v1, "v.lua")).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_script_that_does_not_load_says_where() {
    let schema = SharedSchema::new();
    let error =
        |source: &str| script(source, "x.lua", &ScriptOptions::default(), &schema).err().unwrap();
    assert_eq!(
        error("\nreturn function(msg) if end").to_string(),
        "2:1: unexpected symbol near 'end'"
    );
    assert_eq!(error("\n\nerror('boom')").to_string(), "3:1: boom");
    assert_eq!(
        error("return 5").message,
        "a script returns a function, or a table with a function `process`"
    );
    let timer = "return { timer = 'often', process = function() end, on_timer = function() end }";
    assert!(error(timer).message.starts_with("timer: "), "{:?}", error(timer));
    assert!(
        error("\u{1b}LJ\u{2}").message.contains("bytecode")
            || !error("\u{1b}LJ").message.is_empty()
    );
}

#[test]
fn names_of_a_table_come_in_order() {
    let text = |count: usize| {
        let parts: Vec<String> = (0..count).rev().map(|n| format!("k{n:02} = {n}")).collect();
        format!("{{ {} }}", parts.join(", "))
    };
    let out = once(&format!("return {{ z = 1, a = {}, m = 2 }}", text(32)), &[&[("n", Int(1))]]);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert!(out.rows[0].starts_with("a={k00:0,k01:1,"), "{out:?}");
    assert!(out.rows[0].ends_with("} m=2 z=1"), "{out:?}");
    let out = once(&format!("msg.n = {} return msg", text(100)), &[&[("n", Int(1))]]);
    assert!(out.rows[0].contains("k99:99"), "{out:?}");
    // As deep as a value may be.
    let deep = "local t = { 1 } for i = 1, 127 do t = { a = t } end msg.n = t return msg";
    assert_eq!(once(deep, &[&[("n", Int(1))]]).rows.len(), 1);
    let deeper = "local t = { 1 } for i = 1, 128 do t = { a = t } end msg.n = t return msg";
    assert_eq!(
        once(deeper, &[&[("n", Int(1))]]).dead[0].2,
        "test.lua:2: a value is nested too deep"
    );
}

#[test]
fn a_thousand_versions_count_every_message_once_in_flat_memory() {
    let schema = SharedSchema::new();
    schema.intern("device").unwrap();
    let version = |n: usize| {
        format!(
            "local M = {{ version = {n} }}
             function M.init() return {{ n = {{}} }} end
             function M.process(msg, state)
               local d = msg.device
               state.n[d] = (state.n[d] or 0) + 1
               msg.count, msg.version = state.n[d], {n}
               return msg
             end
             return M"
        )
    };
    let mut operator = compile(&version(0), &schema);
    let messages: Vec<Fields<'_>> = vec![&[("device", Str("a"))], &[("device", Str("b"))]];
    let mut flat = 0;
    for n in 1..=1000 {
        let out = run(&mut *operator, &mut slab_of(&schema, &messages), &schema);
        for (row, device) in out.rows.iter().zip(["a", "b"]) {
            assert!(row.starts_with(&format!("device=\"{device}\"")), "{row}");
            assert!(row.contains(&format!("count={n}")), "{row}");
            assert!(row.contains(&format!("version={}", n - 1)), "{row}");
        }
        operator.reload(&code(&version(n), "v.lua")).unwrap();
        if n == 200 {
            flat = operator.memory_bytes();
        }
    }
    let now = operator.memory_bytes();
    assert!(now < flat * 3, "{flat} B after 200 versions, {now} B after 1000");
}
