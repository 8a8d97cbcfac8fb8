use std::io::Read;
use std::net::SocketAddr;

use flate2::read::GzDecoder;
use ringmain_base::{Now, Reason};
use ringmain_config::Spanned;
use ringmain_config::plan::{
    BreakerPlan, EncodePlan, FramePlan, HttpAuth, HttpBatch, HttpBody, HttpSink, RetryPlan, Secret,
    Segment, SinkKind, SinkPlan, Template, WhenFull,
};
use ringmain_runtime::Driver;
use ringmain_runtime::io::{Event, Io};
use ringmain_runtime::memory::{End, MemoryIo, Place};
use ringmain_slab::{Budget, Scalar, Scratch, SharedSchema, Slab};

use crate::testing::Refused;
use crate::{Cx, Health, Placement, Sink};

const ADDRESS: &str = "127.0.0.1:9999";

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Default::default())
}

fn template(segments: Vec<Segment>) -> Template {
    Template { text: spanned(String::new()), segments }
}

fn plan() -> HttpSink {
    HttpSink {
        url: spanned(format!("http://{ADDRESS}/in")),
        address: ADDRESS.to_owned(),
        host: ADDRESS.to_owned(),
        path: template(vec![Segment::Literal("/in".to_owned())]),
        method: "POST",
        body: HttpBody::Array,
        headers: Vec::new(),
        batch: HttpBatch { count: 3, bytes: 100_000, linger_us: 100_000 },
        gzip: false,
        auth: HttpAuth::Nobody,
        connections: 1,
        timeout_us: 2_000_000,
        retry: RetryPlan::new(10_000, 40_000),
        tls: None,
    }
}

/// A sink over the twin, and the server that it talks to.
struct Bench {
    io: MemoryIo,
    sink: Box<dyn Sink>,
    schema: SharedSchema,
    refused: Vec<Refused>,
    now_us: u64,
}

impl Bench {
    fn new(http: HttpSink) -> Self {
        let schema = SharedSchema::new();
        let plan = SinkPlan {
            name: spanned("out".to_owned()),
            inputs: Vec::new(),
            encode: EncodePlan::Json,
            frame: FramePlan::Newline,
            when_full: spanned(WhenFull::Block),
            spill: None,
            buffer_bytes: 1 << 20,
            kind: SinkKind::Http(Box::new(http.clone())),
        };
        let sink = super::sink(&plan, &http, &schema, &Placement::alone()).unwrap();
        let mut bench =
            Self { io: MemoryIo::new(1), sink, schema, refused: Vec::new(), now_us: 1_000_000 };
        bench.with(|sink, cx| sink.open(cx)).unwrap();
        bench
    }

    fn with<R>(&mut self, call: impl FnOnce(&mut dyn Sink, &mut Cx<'_>) -> R) -> R {
        let mut bytes = 0;
        self.io.begin_turn(self.now_us);
        let mut cx = Cx {
            io: &mut self.io,
            now: Now { mono_us: self.now_us, wall_us: 1_700_000_000_000_000 },
            owner: 5,
            refusals: &mut self.refused,
            bytes: &mut bytes,
        };
        call(&mut *self.sink, &mut cx)
    }

    /// The next connection reaches this end.
    fn server(&mut self) -> End {
        let addr: SocketAddr = ADDRESS.parse().unwrap();
        self.io.answer_at(Place::Ip(addr))
    }

    fn turn(&mut self) {
        for _ in 0..8 {
            let mut events = Vec::new();
            self.io.begin_turn(self.now_us);
            self.io.poll(&mut events, 1_000);
            for Event { op, kind } in events {
                self.with(|sink, cx| sink.on_event(op.tag, kind, cx));
            }
            self.with(|sink, cx| sink.poll(cx));
        }
    }

    fn pass(&mut self, us: u64) {
        let until = self.now_us + us;
        while self.now_us < until {
            self.now_us = (self.now_us + 5_000).min(until);
            self.turn();
        }
    }

    /// Rows `{"n":N,"d":"..."}` as one slab.
    fn push(&mut self, rows: &[(i64, &str)]) {
        let n = self.schema.intern("n").unwrap();
        let d = self.schema.intern("d").unwrap();
        let bytes: usize = rows.iter().map(|(_, text)| text.len() + 100).sum();
        let mut slab = Slab::new(bytes + 4_096, &Budget::new(0));
        let mut scratch = Scratch::default();
        for (number, text) in rows {
            let mut row = slab.build(n.max(d) + 1, n.max(d) + 1, &mut scratch);
            row.set_int(n, *number);
            row.set(d, Scalar::Str(text));
            row.finish(0).unwrap();
        }
        let took = self.with(|sink, cx| sink.push(&slab, 0, cx));
        assert_eq!(took, rows.len());
        self.sink.slab_end();
        self.turn();
    }

    fn numbers(&mut self, numbers: std::ops::Range<i64>) {
        let rows: Vec<_> = numbers.map(|n| (n, "x")).collect();
        self.push(&rows);
    }

    fn requests(&mut self, end: End) -> String {
        self.turn();
        String::from_utf8_lossy(&self.io.take(end, usize::MAX)).into_owned()
    }

    /// The body of the one request that has come.
    fn request(&mut self, end: End) -> String {
        let text = self.requests(end);
        assert_eq!(text.matches(" HTTP/1.1\r\n").count(), 1, "{text}");
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn answer(&mut self, end: End, text: &str) {
        self.io.feed(end, text.as_bytes());
        self.turn();
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn body(numbers: std::ops::Range<i64>) -> String {
    let rows: Vec<_> = numbers.map(|n| format!("{{\"n\":{n},\"d\":\"x\"}}")).collect();
    format!("[{}]", rows.join(","))
}

#[test]
fn messages_go_out_in_batches_one_after_the_other_and_count_when_they_are_answered() {
    let mut bench = Bench::new(plan());
    let server = bench.server();
    bench.numbers(0..7);
    let text = bench.requests(server);
    let head = "POST /in HTTP/1.1\r\nHost: 127.0.0.1:9999\r\nUser-Agent: ringmain/";
    assert!(text.starts_with(head), "{text}");
    assert!(
        text.contains("\r\nContent-Type: application/json\r\nContent-Length: 49\r\n\r\n"),
        "{text}"
    );
    assert!(text.ends_with(&body(0..3)), "{text}");
    assert_eq!(bench.requests(server), "", "the second waits for the answer to the first");
    // However the answer comes.
    bench.answer(server, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20");
    bench.answer(server, "1 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n");
    assert_eq!(bench.requests(server), "");
    bench.answer(server, "\r\n");
    assert_eq!(bench.request(server), body(3..6));
    assert_eq!(bench.sink.finished(), 0);
    bench.answer(server, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(bench.requests(server), "", "the last one lingers");
    bench.pass(100_000);
    assert_eq!(bench.request(server), body(6..7));
    assert_eq!(bench.sink.finished(), 0);
    bench.answer(server, OK);
    assert_eq!(bench.sink.finished(), 1);
    assert_eq!(bench.sink.health(), Health::Good);
    bench.with(|sink, cx| sink.flush(true, cx));
    bench.turn();
    assert!(bench.sink.is_idle() && bench.io.is_closed(server));
    assert_eq!(bench.io.in_flight(), 0);
}

#[test]
fn what_may_pass_is_tried_again_and_what_is_refused_for_good_is_a_dead_letter() {
    let mut bench = Bench::new(plan());
    let server = bench.server();
    bench.numbers(0..9);
    bench.request(server);
    bench.answer(server, "HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nbusy");
    assert!(matches!(bench.sink.health(), Health::Retrying(why) if why.contains("503: busy")));
    bench.pass(2_900_000);
    assert_eq!(bench.requests(server), "", "it asked for three seconds");
    bench.pass(200_000);
    assert_eq!(bench.request(server), body(0..3));
    bench.answer(server, "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n");
    bench.pass(50_000);
    assert_eq!(bench.request(server), body(0..3));
    bench.answer(server, "HTTP/1.1 422 No\r\nContent-Length: 9\r\n\r\nbad\nfield");
    assert_eq!(bench.request(server), body(3..6), "the next has its turn");
    let letters: Vec<_> = bench.refused.iter().map(|r| (r.reason, r.bytes.clone())).collect();
    let raw = |n: i64| format!("{{\"n\":{n},\"d\":\"x\"}}").into_bytes();
    assert_eq!(letters, (0..3).map(|n| (Reason::Rejected, raw(n))).collect::<Vec<_>>());
    let detail = &bench.refused[0].detail;
    assert_eq!(detail, "http://127.0.0.1:9999/in: the server answered 422: bad field");
    bench.answer(server, OK);
    bench.answer(server, OK);
    assert_eq!(bench.sink.finished(), 1);
    assert_eq!(bench.refused.len(), 3);
}

#[test]
fn a_request_that_was_not_answered_goes_out_again_on_another_connection() {
    let mut bench = Bench::new(plan());
    let (first, second, third) = (bench.server(), bench.server(), bench.server());
    bench.numbers(0..3);
    assert_eq!(bench.request(first), body(0..3));
    bench.answer(first, "HTTP/1.1 200 OK\r\nContent-Le");
    bench.io.vanish(first);
    bench.pass(50_000);
    assert_eq!(bench.request(second), body(0..3));
    // Nobody answers in time.
    bench.pass(2_100_000);
    assert!(bench.io.is_closed(second));
    assert_eq!(bench.request(third), body(0..3));
    bench.answer(third, OK);
    assert_eq!((bench.sink.finished(), bench.refused.len()), (1, 0));
}

#[test]
fn a_server_that_closed_an_idle_connection_is_asked_again_at_once() {
    let mut bench = Bench::new(plan());
    let (first, second) = (bench.server(), bench.server());
    bench.numbers(0..3);
    bench.request(first);
    bench.answer(first, OK);
    bench.numbers(3..6);
    bench.request(first);
    bench.io.vanish(first);
    bench.turn();
    assert_eq!(bench.request(second), body(3..6), "without a wait");
    bench.answer(second, "HTTP/1.0 200 OK\r\n\r\nuntil the end");
    assert_eq!(bench.sink.finished(), 1);
    bench.io.finish(second);
    bench.turn();
    assert_eq!(bench.sink.finished(), 2);
    assert!(bench.io.is_closed(second));
}

#[test]
fn attempts_have_a_limit_where_one_is_set_and_the_breaker_lets_one_through() {
    let breaker = BreakerPlan { failures: 2, pause_us: 1_000_000 };
    let retry = RetryPlan {
        limit: Some(3),
        circuit_breaker: Some(breaker),
        ..RetryPlan::new(10_000, 10_000)
    };
    let mut bench = Bench::new(HttpSink { retry, ..plan() });
    let server = bench.server();
    bench.numbers(0..3);
    for _ in 0..2 {
        bench.request(server);
        bench.answer(server, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
        bench.pass(20_000);
    }
    assert_eq!(bench.requests(server), "", "the breaker is open");
    bench.pass(1_000_000);
    assert_eq!(bench.request(server), body(0..3));
    bench.answer(server, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    let reasons: Vec<_> = bench.refused.iter().map(|r| r.reason).collect();
    assert_eq!(reasons, [Reason::Undelivered; 3]);
    assert_eq!(bench.sink.finished(), 1);
}

#[test]
fn messages_with_other_urls_and_headers_go_in_other_requests() {
    let field = || Segment::Field("d".to_owned());
    let http = HttpSink {
        path: template(vec![Segment::Literal("/in/".to_owned()), field()]),
        headers: vec![("X-Device".to_owned(), template(vec![field()]))],
        auth: HttpAuth::Basic { username: "u".to_owned(), password: Secret::new("pw") },
        body: HttpBody::Lines,
        ..plan()
    };
    let mut bench = Bench::new(http);
    let server = bench.server();
    bench.push(&[(1, "a"), (2, "b/?\r\nX: y"), (3, "a"), (4, "..")]);
    bench.pass(100_000);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let text = bench.requests(server);
        assert!(text.contains("\r\nAuthorization: Basic dTpwdw==\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Type: application/x-ndjson\r\n"), "{text}");
        let path = text.split(' ').nth(1).unwrap().to_owned();
        let device = text.lines().find_map(|l| l.strip_prefix("X-Device: ")).unwrap().to_owned();
        let count = text.split_once("\r\n\r\n").unwrap().1.lines().count();
        seen.push((path, device, count));
        bench.answer(server, OK);
    }
    let owned = |p: &str, d: &str, n| (p.to_owned(), d.to_owned(), n);
    assert_eq!(
        seen,
        [
            owned("/in/a", "a", 2),
            owned("/in/b%2F%3F%0D%0AX%3A%20y", "b/?__X: y", 1),
            owned("/in/_", "..", 1)
        ]
    );
    assert_eq!(bench.sink.finished(), 1);
}

#[test]
fn packed_bodies_are_what_they_were_and_letters_are_not_packed() {
    let mut bench = Bench::new(HttpSink { gzip: true, ..plan() });
    let server = bench.server();
    bench.numbers(0..3);
    bench.turn();
    let bytes = bench.io.take(server, usize::MAX);
    let at = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    assert!(head.contains("\r\nContent-Encoding: gzip\r\n"), "{head}");
    let mut text = String::new();
    GzDecoder::new(&bytes[at..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, body(0..3));
    bench.answer(server, "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(bench.refused[2].bytes, b"{\"n\":2,\"d\":\"x\"}");
}

#[test]
fn a_server_that_speaks_garbage_is_not_believed() {
    for garbage in ["hello\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "\0\0\0\0"] {
        let mut bench = Bench::new(plan());
        let (first, second) = (bench.server(), bench.server());
        bench.numbers(0..3);
        bench.request(first);
        bench.answer(first, garbage);
        assert!(bench.io.is_closed(first), "{garbage:?}");
        bench.pass(50_000);
        assert_eq!(bench.request(second), body(0..3));
        bench.answer(second, OK);
        assert_eq!((bench.sink.finished(), bench.refused.len()), (1, 0));
    }
}

#[test]
fn several_connections_carry_several_requests_at_a_time() {
    let mut bench = Bench::new(HttpSink { connections: 2, ..plan() });
    let (first, second) = (bench.server(), bench.server());
    bench.numbers(0..9);
    assert_eq!(bench.request(first), body(0..3));
    assert_eq!(bench.request(second), body(3..6));
    bench.answer(second, OK);
    assert_eq!(bench.request(second), body(6..9));
    bench.answer(second, OK);
    assert_eq!(bench.sink.finished(), 0, "the first is not answered");
    bench.answer(first, OK);
    assert_eq!(bench.sink.finished(), 1);
}

#[test]
fn credentials_are_written_as_the_standard_says() {
    for (plain, coded) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
    {
        assert_eq!(super::base64(plain.as_bytes()), coded);
    }
}

#[test]
fn a_batch_that_is_too_large_for_the_server_goes_out_in_halves_and_later_ones_are_smaller() {
    let mut bench = Bench::new(HttpSink {
        batch: HttpBatch { count: 100, bytes: 60_000, linger_us: 100_000 },
        ..plan()
    });
    let server = bench.server();
    let large = "y".repeat(4_070);
    let rows: Vec<_> = (0..5).map(|n| (n, large.as_str())).collect();
    bench.push(&rows);
    bench.pass(100_000);
    let expected = |numbers: std::ops::Range<i64>| {
        let rows: Vec<_> = numbers.map(|n| format!("{{\"n\":{n},\"d\":\"{large}\"}}")).collect();
        format!("[{}]", rows.join(","))
    };
    let too_large = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    // Two messages fit, and one of those that come alone does not.
    for (numbers, answer) in [
        (0..5, too_large),
        (0..2, OK),
        (2..5, too_large),
        (2..3, OK),
        (3..5, too_large),
        (3..4, OK),
        (4..5, too_large),
    ] {
        assert_eq!(bench.request(server), expected(numbers.clone()), "{numbers:?}");
        bench.answer(server, answer);
    }
    assert_eq!(bench.sink.finished(), 1);
    let refused: Vec<_> = bench.refused.iter().map(|r| (r.reason, r.detail.as_str())).collect();
    let why = "http://127.0.0.1:9999/in: the server answered 413";
    assert_eq!(refused, [(Reason::Rejected, why)]);
    // What was refused last as two had 8 KB: 4 KiB are enough from now on.
    bench.push(&[(0, &large), (1, "x"), (2, "x")]);
    let first = bench.request(server);
    assert!(
        first.starts_with("[{\"n\":0,") && first.ends_with(",{\"n\":1,\"d\":\"x\"}]"),
        "{first}"
    );
}
