//! The bench that tests of flows run on.

use ringmain_config::{FlowPlan, Input, Span, Spanned, load_str};
use ringmain_shard::{BenchError, Datum, Message, TestBench};

const DAY_US: u64 = 86_400_000_000;

fn flow(operators: &str, read: &str) -> FlowPlan {
    let text = format!(
        "[sources.in]\ntype = \"stdin\"\n{operators}\n\
         [sinks.out]\ntype = \"stdout\"\ninputs = [\"{read}\"]\n"
    );
    load_str("f.toml", &text).unwrap_or_else(|e| panic!("{e}")).flows.remove(0)
}

fn place(name: &str) -> Input {
    Input { component: Spanned::new(name.to_owned(), Span::default()), port: None, bound: None }
}

fn bench(flow: &FlowPlan) -> TestBench {
    TestBench::new(flow, 0, &[place("in"), place("out")]).unwrap()
}

fn lua(source: &str) -> FlowPlan {
    let operator =
        format!("[operators.op]\ntype = \"lua\"\ninputs = [\"in\"]\nsource = '''\n{source}\n'''\n");
    flow(&operator, "op")
}

#[test]
fn a_message_arrives_as_it_was_inserted_however_wide_deep_or_large() {
    let mut bench = bench(&flow("", "in"));
    let wide: Vec<_> = (0..150).map(|n| (format!("field{n}"), Datum::Int(n))).collect();
    let mut deep = Datum::Str("inmost".to_owned());
    for _ in 0..30 {
        deep = Datum::Map(Message(vec![("in".to_owned(), Datum::List(vec![deep]))]));
    }
    let large = Datum::Str("x".repeat(300_000));
    let messages = [
        Message(wide),
        Message(vec![("deep".to_owned(), deep)]),
        Message(vec![("large".to_owned(), large)]),
        Message(vec![
            ("null".to_owned(), Datum::Null),
            ("bytes".to_owned(), Datum::Bytes(vec![255, 0])),
            ("number".to_owned(), Datum::Number("123456789012345678901234567890".to_owned())),
            ("float".to_owned(), Datum::Float(0.5)),
            ("no".to_owned(), Datum::Bool(false)),
        ]),
        Message::default(),
    ];
    bench.insert("in", &messages).unwrap();
    for name in ["in", "out"] {
        assert_eq!(bench.seen(&place(name)), messages, "{name}");
    }
    assert!(bench.dead_letters().is_empty());
}

#[test]
fn frames_of_many_slabs_are_one_batch() {
    let mut bench = bench(&lua("return function(msg) msg.seen = true return msg end"));
    let line = format!("{{\"n\":1,\"pad\":\"{}\"}}", "x".repeat(900));
    let frames = vec![line.as_bytes(); 500];
    bench.insert_frames("in", &frames).unwrap();
    let out = bench.seen(&place("out"));
    assert_eq!(out.len(), 500);
    assert!(out.iter().all(|m| m.get("seen") == Some(&Datum::Bool(true))));
}

#[test]
fn a_day_of_timers_passes_at_their_times() {
    let mut bench = bench(&lua("local M = { timer = '1m' }\n\
         function M.process() end\n\
         function M.on_timer(_, ctx) ctx.emit{ at = ctx.now() } end\n\
         return M"));
    for _ in 0..24 {
        bench.advance(DAY_US / 24).unwrap();
    }
    let out = bench.seen(&place("out"));
    assert_eq!(out.len(), 1440);
    for (at, message) in out.iter().enumerate() {
        assert_eq!(message.get("at"), Some(&Datum::Int((at as i64 + 1) * 60_000_000)));
    }
}

#[test]
fn cycles_and_timers_without_end_are_errors() {
    let cycle = flow(
        "[operators.twice]\ntype = \"lua\"\nsource = '''\n\
         return function(msg, state, ctx) ctx.emit(msg) return msg end\n'''\n\
         inputs = [\"in\", { from = \"twice\", bound = \"1MiB\", when_full = \"block\" }]\n",
        "twice",
    );
    let message = Message(vec![("n".to_owned(), Datum::Int(1))]);
    let error = bench(&cycle).insert("in", &[message]).unwrap_err();
    assert!(matches!(error, BenchError::Cycle | BenchError::Memory), "{error}");
}

#[test]
fn every_count_of_the_bench_balances() {
    let mut bench = bench(&lua("return function(msg)\n\
         if msg.n == 1 then error('one') end\n\
         if msg.n == 2 then return nil end\n\
         return msg\nend"));
    let frames: [&[u8]; 4] = [b"{\"n\":1}", b"{\"n\":2}", b"{\"n\":3}", b"{\"n\":"];
    bench.insert_frames("in", &frames).unwrap();
    let counts: Vec<_> = bench.counts().iter().map(|c| (c.rows_in, c.rows_out, c.dead)).collect();
    assert_eq!(counts, [(4, 3, 1), (3, 1, 1), (1, 1, 0)]);
    assert_eq!(bench.dead_letters().len(), 2);
}
