//! Instructions of the hot paths, each over one batch of 500 lines (104 B) or as
//! many rows, after everything is warm: the decoder knows the order of keys, and
//! LuaJIT has compiled.
//!
//! `check.sh` compares the counts with those that are kept in `baseline/`.
//! Counts do not depend on what else the machine does; they are no times.
//!
//! Deliberately absent: the shard's turn and I/O, whose instructions depend on
//! what the kernel has ready. `exchange` is what the exchange does with slabs:
//! hash, divide, copy.
// The attributes make modules that nobody can document.
#![allow(missing_docs)]

use std::fmt::Write as _;
use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use ringmain_base::{Now, Reason, limits::partition_of};
use ringmain_codec::{DecodeOptions, Decoder, EncodeOptions, Encoder, Framer, Framing, Limits};
use ringmain_metrics::{FlowMetrics, Role};
use ringmain_ops::chain::{Chain, Node, Outside, Target};
use ringmain_ops::{Operator, native};
use ringmain_ring::{Doorbell, Downstream, Item, Span, Upstream, edge};
use ringmain_slab::{Budget, RowRef, SharedSchema, Slab, ValueRef};

const LINES: u64 = 500;
const SLAB_BYTES: usize = 256 << 10;
/// More than it takes LuaJIT to compile.
const WARM_UP: usize = 300;
const HOPS: u64 = 1_000;
const WHERE: &str = "rpm > 100";

fn text() -> Vec<u8> {
    let mut text = String::new();
    for n in 0..LINES {
        let (device, rpm, temp) = (n * 7 % 1000, 40.0 + (n * 13 % 1200) as f64 / 10.0, 20 + n % 90);
        writeln!(
            text,
            "{{\"ts\":{},\"device\":\"motor-{device:04}\",\"plant\":\"plant-{}\",\"rpm\":{rpm:.1},\
             \"temp\":{temp}.25,\"status\":\"ok\"}}",
            1_732_270_000_000 + n,
            n % 10,
        )
        .expect("a text takes everything");
    }
    text.into_bytes()
}

fn slab() -> Slab {
    Slab::new(SLAB_BYTES, &Budget::new(64 << 20))
}

struct Decode {
    text: Vec<u8>,
    schema: SharedSchema,
    decoder: Decoder,
    framer: Framer,
    slab: Slab,
}

impl Decode {
    fn run(&mut self) {
        let Self { text, decoder, framer, slab, .. } = self;
        slab.clear();
        let refuse = &mut |line: ringmain_codec::Refused<'_>| panic!("refused: {line:?}");
        decoder.feed(framer, text, slab, 0, refuse);
        assert_eq!(slab.len() as u64, LINES);
    }
}

fn decoded() -> Decode {
    decoded_for(SharedSchema::new())
}

/// With the fields that an operator has named already, as in a flow.
fn decoded_for(schema: SharedSchema) -> Decode {
    let decoder = Decoder::new(DecodeOptions::Json, schema.clone());
    let framer = Framer::new(Framing::Newline, Limits::default());
    let mut decode = Decode { text: text(), schema, decoder, framer, slab: slab() };
    decode.run();
    decode
}

#[library_benchmark]
#[bench::lines(decoded())]
fn json_decode(mut decode: Decode) -> Decode {
    black_box(&mut decode).run();
    decode
}

struct Encode {
    rows: Slab,
    encoder: Encoder,
    out: Vec<u8>,
}

impl Encode {
    fn run(&mut self) {
        self.out.clear();
        let refuse = &mut |_, error: ringmain_codec::EncodeError| panic!("refused: {error}");
        let framing = Framing::Newline;
        self.encoder.encode_slab(&self.rows, 0, &mut self.out, usize::MAX, framing, refuse);
    }
}

fn encoded() -> Encode {
    let Decode { schema, slab, .. } = decoded();
    let encoder = Encoder::new(EncodeOptions::Json, schema);
    let mut encode = Encode { rows: slab, encoder, out: Vec::new() };
    encode.run();
    encode
}

#[library_benchmark]
#[bench::rows(encoded())]
fn json_encode(mut encode: Encode) -> Encode {
    black_box(&mut encode).run();
    encode
}

/// An operator and a slab that is full for it.
struct Run {
    chain: Chain,
    rows: Slab,
    exit: Exit,
}

#[derive(Default)]
struct Exit(u64);

impl Outside for Exit {
    fn deliver(&mut self, _: usize, slab: &mut Slab) {
        self.0 += slab.len() as u64;
        slab.clear();
    }

    fn component_behind(&self, _: usize) -> usize {
        0
    }

    fn refuse(&mut self, _: usize, _: RowRef<'_>, _: Reason, detail: &str) {
        panic!("refused: {detail}");
    }
}

impl Run {
    fn new(make: impl FnOnce(&SharedSchema) -> Box<dyn Operator>) -> Self {
        let schema = SharedSchema::new();
        let operator = make(&schema);
        let Decode { slab: source, .. } = decoded_for(schema);
        let roles = vec![("operator".to_owned(), Role::Operator)];
        let metrics = FlowMetrics::new("counts", roles, 1);
        let outputs = vec![vec![Target::Exit(0)]];
        let node = Node { operator, component: 0, outputs };
        let budget = Budget::new(64 << 20);
        let chain = Chain::new(vec![node], metrics.shards[0].clone(), SLAB_BYTES, &budget);
        let mut run = Self { chain, rows: slab(), exit: Exit::default() };
        for _ in 0..WARM_UP {
            run.rows.push_all(&source).expect("they fit");
            run.run();
        }
        run.rows.push_all(&source).expect("they fit");
        run
    }

    fn run(&mut self) {
        let Self { chain, rows, exit } = self;
        chain.run(&[Target::Operator(0)], rows, Now::default(), exit);
    }
}

fn native_filter() -> Run {
    Run::new(|schema| native::filter("fast", WHERE, schema).expect("it has a native form"))
}

fn native_map() -> Run {
    let set = [("severity".to_owned(), "'high'".to_owned())];
    Run::new(|schema| {
        native::map("mark", &set, &[], &[], &[], schema).expect("it has a native form")
    })
}

fn lua_where() -> Run {
    Run::new(|schema| ringmain_lua::filter("fast", WHERE, schema).expect("it compiles"))
}

#[library_benchmark]
#[bench::rows(native_filter())]
fn filter(mut run: Run) -> Run {
    black_box(&mut run).run();
    run
}

#[library_benchmark]
#[bench::rows(native_map())]
fn map(mut run: Run) -> Run {
    black_box(&mut run).run();
    run
}

#[library_benchmark]
#[bench::rows(lua_where())]
fn lua_filter(mut run: Run) -> Run {
    black_box(&mut run).run();
    run
}

struct Hop {
    up: Upstream<Slab>,
    down: Downstream<Slab>,
    next: u64,
}

impl Hop {
    fn run(&mut self) {
        for _ in 0..HOPS {
            let slab = self.up.take_empty(0).expect("it came back");
            self.next += 1;
            self.up.send(slab, 0, Span::new(self.next, self.next));
            let Some(Item::Slab { slab, .. }) = self.down.recv() else { panic!("it was sent") };
            self.down.give_back(slab);
            self.down.ack(self.down.received());
        }
    }
}

fn hops() -> Hop {
    let budget = Budget::new(0);
    let slabs = (0..16).map(|_| Slab::new(4096, &budget)).collect();
    let (up, down) = edge(slabs, 4, Doorbell::silent(), Doorbell::silent());
    let mut hop = Hop { up, down, next: 0 };
    hop.run();
    hop
}

#[library_benchmark]
#[bench::slabs(hops())]
fn ring_hop(mut hop: Hop) -> Hop {
    black_box(&mut hop).run();
    hop
}

struct Scatter {
    rows: Slab,
    places: Vec<Vec<u32>>,
    lanes: Vec<Slab>,
    key: u16,
}

impl Scatter {
    fn run(&mut self) {
        let Self { rows, places, lanes, key } = self;
        rows.hash_keys(|row| match row.get(*key) {
            ValueRef::Str(text) => {
                text.bytes().fold(0, |h: u32, b| h.rotate_left(5) ^ u32::from(b))
            }
            _ => 0,
        });
        rows.divide(places, |row| {
            usize::from(partition_of(row.header().key_hash.to_native(), 64)) % 2
        });
        for (lane, places) in lanes.iter_mut().zip(&*places) {
            lane.clear();
            for place in places {
                lane.push_copy(rows.row(*place as usize)).expect("it fits");
            }
        }
    }
}

fn scattered() -> Scatter {
    let Decode { schema, slab: rows, .. } = decoded();
    let key = schema.snapshot().slot("device").expect("a field of every line");
    let mut scatter =
        Scatter { rows, places: vec![Vec::new(); 2], lanes: vec![slab(), slab()], key };
    scatter.run();
    scatter
}

#[library_benchmark]
#[bench::rows(scattered())]
fn exchange(mut scatter: Scatter) -> Scatter {
    black_box(&mut scatter).run();
    scatter
}

library_benchmark_group!(
    name = hot,
    benchmarks = [json_decode, json_encode, filter, map, lua_filter, ring_hop, exchange]
);

main!(library_benchmark_groups = hot);
