//! One table of state per partition: whose it is, how it is saved, and that
//! nothing happens to it by halves.

mod common;

use std::sync::Arc;

use common::{Fields, Outcome, code, run, slab_of};
use proptest::prelude::*;
use ringmain_base::Now;
use ringmain_base::limits::partition_of;
use ringmain_lua::{Limits, Script, ScriptOptions, script};
use ringmain_metrics::{Kind, Named};
use ringmain_ops::{Context, Operator};
use ringmain_slab::Scalar::Int;
use ringmain_slab::{SharedSchema, Slab};

const PARTITIONS: u16 = 8;

/// The least hash of a partition.
fn hash_of(partition: u16) -> u32 {
    let hash = (u64::from(partition) << 32).div_ceil(u64::from(PARTITIONS)) as u32;
    assert_eq!(partition_of(hash, PARTITIONS), partition);
    hash
}

/// A schema in which `n` comes first.
fn schema() -> SharedSchema {
    let schema = SharedSchema::new();
    schema.intern("n").unwrap();
    schema
}

fn compile(source: &str, schema: &SharedSchema) -> Box<Script> {
    let options = ScriptOptions { partitions: PARTITIONS, ..ScriptOptions::default() };
    script(source, "state.lua", &options, schema).unwrap()
}

/// Messages `n` = partition, each of that partition.
fn give(operator: &mut Script, schema: &SharedSchema, partitions: &[u16]) -> Outcome {
    let fields: Vec<[(&str, _); 1]> =
        partitions.iter().map(|p| [("n", Int(i64::from(*p)))]).collect();
    let messages: Vec<Fields<'_>> = fields.iter().map(|f| &f[..]).collect();
    let mut slab = slab_of(schema, &messages);
    let mut at = partitions.iter();
    slab.hash_keys(|_| hash_of(*at.next().unwrap()));
    run(operator, &mut slab, schema)
}

/// What the timer emits, with the partition of each, and what failed.
fn tick(
    operator: &mut Script,
    schema: &SharedSchema,
    mono_us: u64,
) -> (Vec<(u16, String)>, Vec<String>) {
    let mut dead = common::Dead::default();
    let mut out = common::slab();
    let now = Now { mono_us, wall_us: mono_us as i64 };
    operator.on_timer(&mut out, &mut Context { now, refuse: &mut dead, ports: &mut [] });
    let partition = |row: ringmain_slab::RowRef<'_>| {
        partition_of(row.header().key_hash.to_native(), PARTITIONS)
    };
    let rows = out.rows().map(|row| (partition(row), common::show(row, schema))).collect();
    (rows, dead.failures)
}

const COUNT: &str = "local M, made = { timer = '10ms' }, 0
    function M.init() made = made + 1 return { count = 0, made = made } end
    function M.process(msg, state, ctx)
      state.count = state.count + 1
      msg.count = state.count msg.made = state.made
      return msg
    end
    function M.on_timer(state, ctx) ctx.emit({ count = state.count }) end
    return M";

#[test]
fn every_partition_has_a_table_of_its_own_made_when_it_is_needed() {
    let schema = schema();
    let mut operator = compile(COUNT, &schema);
    assert_eq!(operator.state_format(), Some("lua/1"));
    let out = give(&mut operator, &schema, &[3, 3, 7, 3, 0, 7]);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(
        out.rows,
        [
            "n=3 count=1 made=1",
            "n=3 count=2 made=1",
            "n=7 count=1 made=2",
            "n=3 count=3 made=1",
            "n=0 count=1 made=3",
            "n=7 count=2 made=2"
        ]
    );
    assert_eq!(tick(&mut operator, &schema, 0).0, []);
    let (rows, failures) = tick(&mut operator, &schema, 20_000);
    let expected = [(0, 1), (3, 3), (7, 2)].map(|(p, n)| (p, format!("count={n}")));
    assert_eq!((rows, failures), (expected.to_vec(), vec![]));
}

#[test]
fn what_a_message_emits_and_what_replaces_it_keeps_its_key() {
    let schema = schema();
    let ports = ["side".to_owned()];
    let options =
        ScriptOptions { partitions: PARTITIONS, ports: &ports, ..ScriptOptions::default() };
    let source = "return function(msg, state, ctx)
        ctx.emit({ n = 1 })
        ctx.emit({ n = 2 }, 'side')
        if msg.n == 5 then return { n = 3 }, 'side' end
        msg.deep = { 1 }
        return msg
      end";
    let mut operator = script(source, "keys.lua", &options, &schema).unwrap();
    let mut slab = slab_of(&schema, &[&[("n", Int(5))], &[("n", Int(6))]]);
    let mut hashes = [hash_of(5), hash_of(6)].into_iter();
    slab.hash_keys(|_| hashes.next().unwrap());
    let mut port = [Slab::new(1024, &common::budget())];
    let mut dead = common::Dead::default();
    let now = Now { mono_us: 0, wall_us: 0 };
    operator.process(&mut slab, &mut Context { now, refuse: &mut dead, ports: &mut port });
    let hashes = |slab: &Slab| -> Vec<u32> {
        slab.rows().map(|row| row.header().key_hash.to_native()).collect()
    };
    assert!(dead.letters.is_empty(), "{dead:?}");
    assert_eq!(hashes(&slab), [hash_of(5), hash_of(6), hash_of(6)]);
    assert_eq!(hashes(&port[0]), [hash_of(5), hash_of(5), hash_of(6)]);
}

#[test]
fn an_init_that_fails_costs_its_messages_and_no_others() {
    let schema = schema();
    let source = "local M, made = {}, 0
        function M.init() made = made + 1 if made == 2 then error('not today') end return {} end
        function M.process(msg, state) return msg end
        return M";
    let mut operator = compile(source, &schema);
    let out = give(&mut operator, &schema, &[1, 2, 1, 2]);
    assert_eq!(out.rows, ["n=1", "n=1", "n=2"]);
    assert_eq!(out.dead.len(), 1);
    assert_eq!(out.dead[0].2, "state.lua:2: not today");
    let no_table = "return { init = function() return 5 end, process = function(m, s) end }";
    let options = ScriptOptions::default();
    let error = script(no_table, "x.lua", &options, &schema).err().unwrap();
    assert!(error.message.contains("init returns a table"), "{error}");
}

#[test]
fn a_failing_timer_is_told_of_and_takes_back_what_it_emitted_for_its_partition() {
    let schema = schema();
    let source = "local M = { timer = '10ms' }
        function M.process(msg, state) state.n = msg.n return msg end
        function M.on_timer(state, ctx)
          ctx.emit({ n = state.n })
          if state.n == 4 and not state.healed then state.healed = true error('four') end
        end
        return M";
    let mut operator = compile(source, &schema);
    give(&mut operator, &schema, &[2, 4, 6]);
    tick(&mut operator, &schema, 0);
    let (rows, failures) = tick(&mut operator, &schema, 20_000);
    assert_eq!(rows, [(2, "n=2".to_owned()), (6, "n=6".to_owned())]);
    assert_eq!(failures, ["on_timer: state.lua:5: four"]);
    assert_eq!(operator.failing().as_deref(), Some("on_timer: state.lua:5: four"));
    let (rows, failures) = tick(&mut operator, &schema, 40_000);
    assert_eq!((rows.len(), failures.len()), (3, 0));
    assert_eq!((operator.failing(), operator.counters().errors), (None, 1));
}

#[test]
fn a_runaway_timer_is_stopped_and_after_some_stops_quarantined() {
    let schema = schema();
    let limits = Limits { time: std::time::Duration::from_millis(10), ..Limits::default() };
    let options = ScriptOptions { limits, ..ScriptOptions::default() };
    let source = "return { timer = '10ms', process = function(m, s) return m end,
        on_timer = function() while true do end end }";
    let mut operator = script(source, "t.lua", &options, &schema).unwrap();
    tick(&mut operator, &schema, 0);
    for n in 1..=3 {
        let (rows, failures) = tick(&mut operator, &schema, n * 20_000);
        assert_eq!(rows, []);
        assert!(failures[0].contains("ran out of its time"), "{failures:?}");
    }
    assert!(operator.trouble().unwrap().contains("in quarantine after 3 stops"));
    assert_eq!(operator.timer_at_us(), None);
}

#[test]
fn migration_is_for_all_partitions_or_for_none() {
    let schema = schema();
    let first = "return { version = 1, init = function() return { n = 0, list = { 1 } } end,
        process = function(msg, state) state.n = state.n + 1 msg.seen = state.n
          msg.len = #state.list return msg end }";
    let second = |bad: &str| {
        format!(
            "return {{ version = 2, process = function(msg, state)
               state.n = state.n + 1 msg.seen = state.n msg.len = #state.list return msg end,
             migrate = function(old, version)
               old.n = old.n + 100 * version
               old.list[#old.list + 1] = 2
               {bad}
               return old
             end }}"
        )
    };
    let mut operator = compile(first, &schema);
    give(&mut operator, &schema, &[0, 1, 1, 2, 2, 2]);
    for (bad, why) in [
        ("if old.n == 103 then error('no three') end", "no three"),
        ("if old.n == 103 then return 5 end", "migrate returns a table"),
        ("if old.n == 103 then while true do end end", "ran out of its time"),
    ] {
        let error = operator.reload(&code(&second(bad), "state.lua")).unwrap_err();
        assert!(error.message.contains(why), "{error}");
        assert_eq!(operator.code_version().unwrap().version.as_deref(), Some("1"));
    }
    let out = give(&mut operator, &schema, &[0, 1, 2]);
    assert_eq!(out.rows, ["n=0 seen=2 len=1", "n=1 seen=3 len=1", "n=2 seen=4 len=1"]);
    operator.reload(&code(&second(""), "state.lua")).unwrap();
    let out = give(&mut operator, &schema, &[0, 1, 2]);
    assert_eq!(out.rows, ["n=0 seen=103 len=2", "n=1 seen=104 len=2", "n=2 seen=105 len=2"]);
    // The same version again is not migrated.
    operator.reload(&code(&second(" "), "state.lua")).unwrap();
    assert_eq!(give(&mut operator, &schema, &[0]).rows, ["n=0 seen=104 len=2"]);
    assert_eq!(operator.code_version().unwrap().version.as_deref(), Some("2"));
}

/// A script that keeps what it is told to.
fn keeper(value: &str) -> String {
    format!(
        "return {{ version = 'one', init = function() return {value} end,
           process = function(msg, state) msg.seen = tostring(state.probe and state.probe()) end }}"
    )
}

/// Shows a state as text, keys in order.
const SHOW: &str = "return { version = 'one', process = function(msg, state)
    local function text(v)
      return '<' .. v:gsub('[^%w ]', function(c) return '%' .. c:byte() end) .. '>'
    end
    local function show(v)
      if v == null then return 'null' end
      if type(v) ~= 'table' then
        if v == 0 and 1 / v < 0 then return '-0' end
        return type(v) == 'string' and text(v) or (v ~= v and 'nan' or tostring(v))
      end
      local parts = {}
      for k, e in pairs(v) do parts[#parts + 1] = type(k) .. ':' .. (type(k) == 'string' and text(k) or tostring(k)) .. '=' .. show(e) end
      table.sort(parts)
      return (getmetatable(v) == false and 'list' or '') .. '{' .. table.concat(parts, ' ') .. '}'
    end
    msg.seen = show(state)
    return msg
  end }";

fn saved(value: &str) -> Result<Vec<u8>, String> {
    let schema = schema();
    let mut operator = script(&keeper(value), "k.lua", &ScriptOptions::default(), &schema).unwrap();
    let mut bytes = Vec::new();
    operator.save(0, &mut bytes).map(|()| bytes)
}

fn shown(bytes: &[u8]) -> Result<String, String> {
    let schema = schema();
    let mut operator = script(SHOW, "s.lua", &ScriptOptions::default(), &schema).unwrap();
    operator.restore(0, bytes)?;
    let out = run(&mut *operator, &mut slab_of(&schema, &[&[("n", Int(1))]]), &schema);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    let seen = out.rows[0].split_once("seen=\"").unwrap().1;
    Ok(seen.strip_suffix('"').unwrap().to_owned())
}

#[test]
fn a_state_comes_back_as_it_was_saved() {
    for (value, expected) in [
        ("{}", "{}"),
        (
            "{ a = true, b = false, [true] = 1 }",
            "{boolean:true=1 string:<a>=true string:<b>=false}",
        ),
        (
            "{ 1, 2.5, -3, 1/0, -1/0, 0/0, -0.0 }",
            "{number:1=1 number:2=2.5 number:3=-3 number:4=inf number:5=-inf number:6=nan number:7=-0}",
        ),
        (
            "{ 2^53 - 1, 2^53, 1e300, 5e-324 }",
            "{number:1=9.007199254741e+15 number:2=9.007199254741e+15 number:3=1e+300 number:4=4.9406564584125e-324}",
        ),
        ("{ x = 9007199254740993LL, y = -1LL }", "{string:<x>=9007199254740993LL string:<y>=-1LL}"),
        (
            "{ a = null, l = list{}, m = {}, n = list{ 1 } }",
            "{string:<a>=null string:<l>=list{} string:<m>={} string:<n>=list{number:1=1}}",
        ),
        (
            "{ nil, 2, nil, 4, [2.5] = 1, [-1] = 2, [0] = 3 }",
            "{number:-1=2 number:0=3 number:2.5=1 number:2=2 number:4=4}",
        ),
        (
            "{ ['odd key'] = { deep = { deeper = { 'x' } } } }",
            "{string:<odd key>={string:<deep>={string:<deeper>={number:1=<x>}}}}",
        ),
    ] {
        let bytes = saved(value).unwrap_or_else(|why| panic!("{value}: {why}"));
        assert_eq!(shown(&bytes).as_deref(), Ok(expected), "{value}");
    }
    // Bytes of any kind, in keys and in values.
    let every = "(function() local t = {} for i = 0, 255 do t[string.char(i)] = string.char(i):rep(i) end return t end)()";
    let bytes = saved(every).unwrap();
    assert_eq!(shown(&bytes), shown(&saved(every).unwrap()));
    assert!(bytes.len() < 256 * 128 + 256 * 6 + 64, "{}", bytes.len());
}

#[test]
fn what_cannot_be_saved_is_refused_with_the_way_to_it() {
    let cycle = "(function() local t = { a = { b = {} } } t.a.b.c = t.a return t end)()";
    let deep = "(function() local t = {} for i = 1, 200 do t = { t } end return t end)()";
    for (value, why) in [
        ("{ a = { [3] = print or error } }", "state.a[3] cannot be saved: it is a function"),
        (cycle, "state.a.b.c cannot be saved: it contains itself"),
        (
            "{ ['a-b'] = { setmetatable({}, {}) } }",
            "state[\"a-b\"][1] cannot be saved: it has a metatable",
        ),
        ("{ x = { [{}] = 1 } }", "state.x cannot be saved: a key is text, a number or a boolean"),
        ("{ x = 1ULL }", "state.x cannot be saved: no state holds such a value"),
    ] {
        assert_eq!(saved(value).unwrap_err(), why, "{value}");
    }
    assert!(saved(deep).unwrap_err().ends_with("cannot be saved: it is nested too deep"));
    // What failed leaves nothing behind.
    let schema = schema();
    let mut operator = script(&keeper(cycle), "k.lua", &ScriptOptions::default(), &schema).unwrap();
    let mut bytes = vec![1, 2, 3];
    operator.save(0, &mut bytes).unwrap_err();
    assert_eq!(bytes, [1, 2, 3]);
}

#[test]
fn a_saved_state_goes_on_in_a_newer_version_in_its_partition() {
    let schema = schema();
    let mut operator = compile(COUNT, &schema);
    give(&mut operator, &schema, &[3, 3, 7]);
    let mut bytes: Vec<Vec<u8>> = Vec::new();
    for partition in 0..PARTITIONS {
        let mut into = Vec::new();
        operator.save(partition, &mut into).unwrap();
        bytes.push(into);
    }
    let there: Vec<usize> = (0..8).filter(|p| !bytes[*p].is_empty()).collect();
    assert_eq!(there, [3, 7], "partitions without a state save nothing");
    let newer = COUNT.replace("{ timer", "{ version = 2, timer").replace(
        "return M",
        "function M.migrate(old, version)
           return { count = old.count * 10, made = tostring(version) } end return M",
    );
    let mut operator = compile(&newer, &schema);
    for partition in there {
        operator.restore(partition as u16, &bytes[partition]).unwrap();
    }
    let out = give(&mut operator, &schema, &[7, 3, 1]);
    assert_eq!(
        out.rows,
        ["n=7 count=11 made=\"nil\"", "n=3 count=21 made=\"nil\"", "n=1 count=1 made=1"]
    );
    let failing =
        newer.replace("return { count = old.count * 10", "error('no way') return { count = 1");
    let why = compile(&failing, &schema).restore(3, &bytes[3]).unwrap_err();
    assert!(why.contains("no way"), "{why}");
}

#[test]
fn a_state_that_does_not_fit_the_memory_is_refused() {
    let bytes = saved(
        "(function() local t = {} for i = 1, 30 do t[i] = ('x'):rep(1e5) .. i end return t end)()",
    )
    .unwrap();
    let schema = schema();
    let limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
    let options = ScriptOptions { limits, ..ScriptOptions::default() };
    let mut operator = script(SHOW, "s.lua", &options, &schema).unwrap();
    let why = operator.restore(0, &bytes).unwrap_err();
    assert!(why.contains("memory"), "{why}");
    let out = run(&mut *operator, &mut slab_of(&schema, &[&[("n", Int(1))]]), &schema);
    assert_eq!(out.rows, ["n=1 seen=\"{}\""]);
}

/// Lua source of a value.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("true".to_owned()),
        Just("null".to_owned()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("({n:?})")),
        any::<i32>().prop_map(|n| format!("({n})")),
        any::<i64>().prop_filter("a literal", |n| *n > i64::MIN).prop_map(|n| format!("({n}LL)")),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| text(&bytes)),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8)
                .prop_map(|list| format!("{{ {} }}", list.join(", "))),
            proptest::collection::vec((key(), inner), 0..8).prop_map(|pairs| {
                let pairs = pairs.iter().map(|(k, v)| format!("[{k}] = {v}")).collect::<Vec<_>>();
                format!("{{ {} }}", pairs.join(", "))
            }),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..6).prop_map(|bytes| text(&bytes)),
        (-5i32..20).prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("no nan", |n| n.is_finite()).prop_map(|n| format!("({n:?})")),
        any::<bool>().prop_map(|b| b.to_string()),
    ]
}

fn text(bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:03}")).collect();
    format!("'{escaped}'")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn saving_and_restoring_changes_nothing(value in value()) {
        let source = format!("{{ {value} }}");
        let schema = schema();
        let options = ScriptOptions::default();
        let mut operator = script(&keeper(&source), "k.lua", &options, &schema).unwrap();
        let mut bytes = Vec::new();
        operator.save(0, &mut bytes).unwrap();
        let direct = {
            let init = format!("{{ version = 'one', init = function() return {source} end, process =");
            let shows = SHOW.replace("{ version = 'one', process =", &init);
            let mut shows = script(&shows, "s.lua", &options, &schema).unwrap();
            let mut again = Vec::new();
            shows.save(0, &mut again).unwrap();
            prop_assert_eq!(shown(&again).unwrap(), shown(&bytes).unwrap());
            let out = run(&mut *shows, &mut slab_of(&schema, &[&[("n", Int(1))]]), &schema);
            out.rows[0].split_once("seen=").unwrap().1.to_owned()
        };
        let mut restored = script(SHOW, "s.lua", &options, &schema).unwrap();
        restored.restore(0, &bytes).unwrap();
        let out = run(&mut *restored, &mut slab_of(&schema, &[&[("n", Int(1))]]), &schema);
        prop_assert_eq!(out.rows[0].split_once("seen=").unwrap().1, direct);
    }

    #[test]
    fn bytes_from_anywhere_do_no_harm(
        bytes in proptest::collection::vec(prop_oneof![0u8..10, any::<u8>()], 0..64)
    ) {
        let schema = schema();
        let mut operator = script(SHOW, "s.lua", &ScriptOptions::default(), &schema).unwrap();
        let done = operator.restore(0, &bytes);
        if done.is_ok() {
            let mut again = Vec::new();
            operator.save(0, &mut again).unwrap();
        }
    }
}

#[test]
fn a_damaged_state_is_refused_or_read_and_never_more() {
    let good = saved("{ a = { 1, 2, 'three' }, b = 5LL, c = { d = { true } } }").unwrap();
    let schema = schema();
    let mut operator = script(SHOW, "s.lua", &ScriptOptions::default(), &schema).unwrap();
    for at in 0..good.len() {
        assert!(operator.restore(0, &good[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let _ = operator.restore(0, &bad);
        }
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(operator.restore(0, &longer).unwrap_err().contains("more than a state"));
    operator.restore(0, &good).unwrap();
}

#[test]
fn what_a_script_counts_can_be_read_from_outside() {
    let schema = schema();
    let metrics = Arc::new(Named::default());
    let options = ScriptOptions { metrics: Some(metrics.clone()), ..ScriptOptions::default() };
    let source = "return function(msg, state, ctx)
        local m = ctx.metrics
        m.seen:inc()
        m.weight:inc(msg.n)
        m.last:set(msg.n)
        m.size:observe(msg.n)
        if msg.n == 3 then m.seen:set(1) end
        if msg.n == 4 then m['not a name']:inc() end
        if msg.n == 5 then m.seen:inc(-1) end
        if msg.n == 6 then for i = 1, 100 do m['more' .. i]:inc() end end
        if msg.n == 7 then m.fresh = 5 end
        return msg
      end";
    let mut operator = script(source, "m.lua", &options, &schema).unwrap();
    let fields: Vec<[(&str, _); 1]> = (1..=8).map(|n| [("n", Int(n))]).collect();
    let messages: Vec<Fields<'_>> = fields.iter().map(|f| &f[..]).collect();
    let out = run(&mut *operator, &mut slab_of(&schema, &messages), &schema);
    assert_eq!(out.rows, ["n=1", "n=2", "n=8"]);
    let why: Vec<&str> = out.dead.iter().map(|letter| letter.2.as_str()).collect();
    assert_eq!(
        why,
        [
            "m.lua:7: ctx.metrics.seen is a counter",
            "m.lua:8: ctx.metrics: a name has up to 64 letters, digits and '_', and no digit \
             first: 'not a name'",
            "m.lua:9: inc takes a number from 0 on",
            "m.lua:10: ctx.metrics: an operator has at most 64 metrics, and 'more61' is one more",
            "m.lua:11: metrics are not assigned: write ctx.metrics.NAME:inc()",
        ]
    );
    let all = metrics.snapshot();
    let find = |name: &str| all.iter().find(|metric| metric.name == name).unwrap();
    assert_eq!((find("seen").kind, find("seen").value), (Kind::Counter, 8.0));
    assert_eq!(find("weight").value, 36.0);
    assert_eq!((find("last").kind, find("last").value), (Kind::Gauge, 8.0));
    let size = find("size").histogram.as_ref().unwrap();
    assert_eq!((size.count, size.sum, size.min, size.max), (8, 36.0, 1.0, 8.0));
    assert_eq!(all.len(), 64);
}

#[test]
fn a_message_leaves_by_the_port_that_is_returned_with_it() {
    let schema = schema();
    let ports = ["alarm".to_owned(), "noise".to_owned()];
    let options = ScriptOptions { ports: &ports, ..ScriptOptions::default() };
    let source = "return function(msg)
        if msg.n == 1 then return msg, 'alarm' end
        if msg.n == 2 then msg.more = 'x' return msg, 'noise' end
        if msg.n == 3 then return msg, 'nowhere' end
        if msg.n == 4 then return { made = 1 }, 'alarm' end
        if msg.n == 5 then return nil, 'alarm' end
        return msg
      end";
    let mut operator = script(source, "p.lua", &options, &schema).unwrap();
    let fields: Vec<[(&str, _); 1]> = (1..=6).map(|n| [("n", Int(n))]).collect();
    let messages: Vec<Fields<'_>> = fields.iter().map(|f| &f[..]).collect();
    let out = run(&mut *operator, &mut slab_of(&schema, &messages), &schema);
    assert_eq!(out.rows, ["n=6"]);
    assert_eq!(out.ports, [vec!["n=1", "made=1"], vec!["n=2 more=\"x\""]]);
    assert_eq!(out.dead.len(), 1);
    assert_eq!((out.dead[0].0.as_str(), out.dead[0].2.as_str()), ("n=3", "no such port: nowhere"));
}

#[test]
fn a_short_form_without_a_state_keeps_none() {
    let schema = schema();
    let format = |source: &str| compile(source, &schema).state_format();
    assert_eq!(format("return function(msg) return msg end"), None);
    assert_eq!(format("return function(msg, state) return msg end"), Some("lua/1"));
    assert_eq!(format("return function(...) return ... end"), Some("lua/1"));
    assert_eq!(format("return { process = function(m) return m end }"), None);
    let mut operator = compile("return function(msg) return msg end", &schema);
    give(&mut operator, &schema, &[1]);
    // A later version may keep one.
    operator.reload(&code(COUNT, "state.lua")).unwrap();
    assert_eq!(
        give(&mut operator, &schema, &[1, 1]).rows,
        ["n=1 count=1 made=1", "n=1 count=2 made=1"]
    );
}
