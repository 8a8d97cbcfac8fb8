use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use ringmain_base::{Now, Reason};
use ringmain_codec::{EncodeOptions, Encoder};
use ringmain_config::Spanned;
use ringmain_config::plan::{
    HttpBody, HttpRespond, HttpSource, Listen, Secret, SourceKind, SourcePlan,
};
use ringmain_runtime::Driver;
use ringmain_runtime::io::{Event, Io, Peer};
use ringmain_runtime::memory::{End, MemoryIo};
use ringmain_slab::{Budget, SharedSchema, Slab};

use super::request::Rules;
use super::requests::Requests;
use crate::decode::Decoding;
use crate::served::Serve;
use crate::testing::Refused;
use crate::{Cx, Pull};

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Default::default())
}

fn plan() -> HttpSource {
    let addr = "127.0.0.1:0".parse().unwrap();
    HttpSource {
        listen: Listen { text: spanned(String::new()), addr },
        path: spanned("/in".to_owned()),
        body: HttpBody::Auto,
        body_bytes: 100_000,
        token: None,
        respond: HttpRespond::Accepted,
        connections_max: 10,
        busy_us: 1_000_000,
        ack_timeout_us: 5_000_000,
        request_timeout_us: 3_000_000,
        idle_timeout_us: 60_000_000,
        tls: None,
    }
}

/// A source over the twin, and who sends to it.
struct Bench {
    io: MemoryIo,
    requests: Requests,
    refused: Vec<Refused>,
    rows: Vec<String>,
    slab: Slab,
    encoder: Encoder,
    now_us: u64,
    /// Turns without anything until it rests.
    patience: u32,
}

impl Bench {
    fn new(plan: &HttpSource) -> Self {
        Self::with_slab(plan, 16 << 10)
    }

    fn with_slab(plan: &HttpSource, slab_bytes: usize) -> Self {
        let schema = SharedSchema::new();
        let source = SourcePlan {
            frame_bytes: 10_000,
            ..SourcePlan::new(spanned("in".to_owned()), SourceKind::Http(plan.clone()))
        };
        let rules = Rules::new(plan, true, false);
        let requests = Requests::new(plan, rules, Decoding::new(&source, &schema), None);
        let mut bench = Self {
            io: MemoryIo::new(7),
            requests,
            refused: Vec::new(),
            rows: Vec::new(),
            slab: Slab::new(slab_bytes, &Budget::new(1 << 20)),
            encoder: Encoder::new(EncodeOptions::Json, schema),
            now_us: 1_000_000,
            patience: 4,
        };
        bench.with(|requests, _, cx| requests.open("listen", cx)).unwrap();
        bench
    }

    fn with<R>(&mut self, call: impl FnOnce(&mut Requests, &mut Slab, &mut Cx<'_>) -> R) -> R {
        let wall_us = 1_700_000_000_000_000 + self.now_us as i64;
        let mut bytes = 0;
        self.io.begin_turn(self.now_us);
        let mut cx = Cx {
            io: &mut self.io,
            now: Now { mono_us: self.now_us, wall_us },
            owner: 3,
            refusals: &mut self.refused,
            bytes: &mut bytes,
        };
        call(&mut self.requests, &mut self.slab, &mut cx)
    }

    fn connect(&mut self) -> End {
        let (handle, end) = self.io.stream();
        self.with(|requests, _, cx| requests.add(handle, Peer::Local, cx));
        end
    }

    fn events(&mut self) -> usize {
        let mut events = Vec::new();
        self.io.begin_turn(self.now_us);
        self.io.poll(&mut events, 1_000);
        let count = events.len();
        for Event { op, kind } in events {
            self.with(|requests, _, cx| requests.on_event(op.tag, kind, cx));
        }
        count
    }

    fn poll(&mut self) -> Pull {
        let refused = self.refused.len();
        let pull = self.with(|requests, slab, cx| requests.poll(slab, cx));
        let is_batch = !self.slab.is_empty() || self.refused.len() > refused;
        self.with(|requests, _, cx| requests.polled(is_batch, cx));
        for row in self.slab.rows() {
            let mut out = Vec::new();
            self.encoder.encode(row, &mut out).unwrap();
            self.rows.push(String::from_utf8(out).unwrap());
        }
        self.slab.clear();
        pull
    }

    /// Turns until nothing happens.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..10_000 {
            let events = self.events();
            let rests = self.poll() == Pull::Idle && events == 0;
            quiet = if rests { quiet + 1 } else { 0 };
            if quiet == self.patience {
                return;
            }
        }
        panic!("it never rests");
    }

    /// Lets time pass; the flow has room when `poll` is set.
    fn pass(&mut self, us: u64, poll: bool) {
        let until = self.now_us + us;
        while self.now_us < until {
            self.now_us = (self.now_us + 100_000).min(until);
            self.events();
            if poll {
                self.poll();
            }
        }
        self.events();
    }

    fn answers(&mut self, end: End) -> String {
        String::from_utf8(self.io.take(end, usize::MAX)).unwrap()
    }

    /// Sends one request on a new connection; its answer.
    fn ask(&mut self, request: &[u8]) -> String {
        let end = self.connect();
        self.io.feed(end, request);
        self.settle();
        self.answers(end)
    }
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST /in HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn chunked(headers: &str, body: &[u8], size: usize) -> Vec<u8> {
    let head =
        format!("POST /in HTTP/1.1\r\nHost: h\r\n{headers}Transfer-Encoding: chunked\r\n\r\n");
    let mut request = head.into_bytes();
    for chunk in body.chunks(size) {
        write!(request, "{:x}\r\n", chunk.len()).unwrap();
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn code(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("")
}

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

#[test]
fn every_kind_of_body_gives_its_messages_wherever_the_bytes_are_cut() {
    let three = ["{\"n\":1}", "{\"n\":2,\"t\":\"a,]\\\"\"}", "{\"n\":3}"];
    let lines = three.join("\n");
    let array = format!(" [\n{} ]\n", three.join(" ,\n"));
    let pretty = "{\n \"n\": 1\n}";
    let packed = gzip(array.as_bytes());
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (post(NDJSON, lines.as_bytes()), &three),
        (post("Content-Type: application/json\r\n", array.as_bytes()), &three),
        (post("", pretty.as_bytes()), &three[..1]),
        (chunked(NDJSON, lines.as_bytes(), 5), &three),
        (chunked("", array.as_bytes(), 7), &three),
        (chunked("", pretty.as_bytes(), 2), &three[..1]),
        (post("Content-Encoding: gzip\r\n", &packed), &three),
        (chunked("Content-Encoding: gzip\r\n", &packed, 9), &three),
    ];
    for (request, expected) in cases {
        for cut in 0..=request.len() {
            let mut bench = Bench::new(&plan());
            let end = bench.connect();
            bench.io.feed(end, &request[..cut]);
            bench.settle();
            bench.io.feed(end, &request[cut..]);
            bench.settle();
            assert_eq!(bench.rows, expected, "cut at {cut}");
            let answer = bench.answers(end);
            let body = format!("\r\n\r\n{{\"accepted\":{}}}\n", expected.len());
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&body),
                "{answer}"
            );
            assert_eq!(bench.refused, []);
            assert!(!bench.io.is_closed(end));
        }
    }
}

#[test]
fn requests_that_are_not_wanted_get_the_status_that_says_why() {
    let token = HttpSource { token: Some(Secret::new("s3cret")), ..plan() };
    let bearer = |token: &str| post(&format!("Authorization: Bearer {token}\r\n"), b"{\"n\":1}");
    let open = plan();
    let long = format!("X: {}\r\n", "x".repeat(20_000));
    let many = "X: 1\r\n".repeat(70);
    let raw = |text: &str| text.as_bytes().to_vec();
    let cases: Vec<(&HttpSource, Vec<u8>, &str)> = vec![
        (&open, raw("POST /other HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), "404"),
        (&open, raw("GET /in HTTP/1.1\r\nHost: h\r\n\r\n"), "405"),
        (&open, raw("POST /in?a=b HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), "200"),
        (&open, raw("POST http://h/in HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), "200"),
        (&open, raw("POST /in HTTP/1.1\r\nHost: h\r\n\r\n"), "411"),
        (&open, raw("POST /in HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), "400"),
        (&open, raw("POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n"), "413"),
        (&open, raw("POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n"), "400"),
        (
            &open,
            raw("POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
            "400",
        ),
        (
            &open,
            raw(
                "POST /in HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            "400",
        ),
        (&open, raw("POST /in HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n"), "501"),
        (&open, raw("POST /in HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), "400"),
        (&open, raw("POST /in HTTP/9.9\r\n\r\n"), "505"),
        (&open, raw("hello\r\n\r\n"), "400"),
        (&open, post("Content-Encoding: br\r\n", b"x"), "415"),
        (&open, post("Expect: magic\r\n", b"x"), "417"),
        (&open, post(&long, b"x"), "431"),
        (&open, post(&many, b"x"), "431"),
        (&token, post("", b"{\"n\":1}"), "401"),
        (&token, bearer("wrong"), "401"),
        (&token, bearer("s3cretx"), "401"),
        (&token, bearer("s3cret"), "200"),
    ];
    for (plan, request, expected) in cases {
        let mut bench = Bench::new(plan);
        let answer = bench.ask(&request);
        assert_eq!(code(&answer), expected, "{}\n{answer}", String::from_utf8_lossy(&request));
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert_eq!(bench.refused, []);
    }
}

#[test]
fn requests_that_follow_each_other_are_answered_in_order() {
    let mut bench = Bench::new(&plan());
    let end = bench.connect();
    for n in 0..20 {
        bench.io.feed(end, &post("", format!("{{\"n\":{n}}}").as_bytes()));
        if n % 5 == 3 {
            // One in between that is refused; its body is passed over.
            let bad = post("", b"{\"n\":99}").to_vec();
            let bad = String::from_utf8(bad).unwrap().replace("/in", "/no");
            bench.io.feed(end, bad.as_bytes());
        }
    }
    bench.settle();
    let expected: Vec<_> = (0..20).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert_eq!(bench.rows, expected);
    let answers = bench.answers(end);
    let codes: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
    assert_eq!(codes.len(), 24);
    assert_eq!(codes.iter().filter(|code| **code == "404").count(), 4);
    assert_eq!(&codes[3..6], ["200", "404", "200"]);
}

#[test]
fn bad_messages_are_refused_one_by_one_and_the_answer_says_so() {
    let mut bench = Bench::new(&plan());
    let answer = bench.ask(&post(NDJSON, b"{\"n\":1}\nnonsense\n{\"n\":2}\n{\"n\":}\n"));
    assert_eq!(code(&answer), "400");
    assert!(answer.contains("\"accepted\":2,\"refused\":2,\"error\":\"at byte 8: "), "{answer}");
    assert_eq!(bench.rows, ["{\"n\":1}", "{\"n\":2}"]);
    let raw: Vec<_> =
        bench.refused.iter().map(|r| (r.reason, r.offset, r.bytes.as_slice())).collect();
    assert_eq!(raw, [(Reason::Decode, 8, &b"nonsense"[..]), (Reason::Decode, 25, b"{\"n\":}")]);

    for (request, accepted, reason) in [
        (post("", b"[{\"n\":1},"), 1, Reason::Truncated),
        (post("", b"[{\"n\":1}] x"), 1, Reason::Decode),
        (post("", b"[,]"), 0, Reason::Decode),
        (post("", b"nonsense"), 0, Reason::Decode),
        (post("Content-Encoding: gzip\r\n", b"nonsense"), 0, Reason::Decode),
        (post("Content-Encoding: gzip\r\n", &gzip(b"{\"n\":1}")[..20]), 0, Reason::Truncated),
        (post("", &[b'x'; 20_000]), 0, Reason::TooLong),
    ] {
        let mut bench = Bench::new(&plan());
        let answer = bench.ask(&request);
        assert_eq!(code(&answer), "400", "{answer}");
        assert!(answer.contains(&format!("\"accepted\":{accepted},\"refused\":1,")), "{answer}");
        assert_eq!(bench.refused.iter().map(|r| r.reason).collect::<Vec<_>>(), [reason]);
    }
}

#[test]
fn bodies_that_grow_beyond_the_limit_are_cut_off() {
    let bomb = gzip(&vec![b'\n'; 10 << 20]);
    for request in [
        chunked(NDJSON, &b"{\"n\":1}\n".repeat(20_000), 1_000),
        post(&format!("{NDJSON}Content-Encoding: gzip\r\n"), &bomb),
    ] {
        let mut bench = Bench::new(&plan());
        let answer = bench.ask(&request);
        assert_eq!(code(&answer), "413", "{answer}");
        assert!(answer.contains("Connection: close"), "{answer}");
        assert_eq!(bench.refused.last().unwrap().reason, Reason::TooLong);
        assert!(bench.rows.len() <= 100_000 / 8);
    }
}

#[test]
fn a_flow_without_room_sends_requests_away_and_takes_nothing_of_them() {
    let mut bench = Bench::new(&plan());
    let end = bench.connect();
    bench.io.feed(end, &post("", b"{\"n\":1}"));
    bench.pass(900_000, false);
    assert_eq!(bench.answers(end), "", "it has time");
    bench.pass(500_000, false);
    let answer = bench.answers(end);
    assert_eq!(code(&answer), "429");
    assert!(answer.contains("Retry-After: 1\r\n"), "{answer}");
    // The next is told at once, and a request that is refused anyway, too.
    let late = bench.connect();
    bench.io.feed(late, &post("", b"{\"n\":2}"));
    bench.events();
    bench.events();
    assert_eq!(code(&bench.answers(late)), "429");
    assert_eq!(bench.rows, [] as [String; 0]);
    // The same connection works when there is room again.
    bench.settle();
    bench.io.feed(end, &post("", b"{\"n\":3}"));
    bench.settle();
    assert_eq!(code(&bench.answers(end)), "200");
    assert_eq!(bench.rows, ["{\"n\":3}"]);
}

#[test]
fn a_request_that_has_begun_waits_for_room_and_is_finished() {
    let mut bench = Bench::with_slab(&plan(), 1 << 10);
    let end = bench.connect();
    let lines: String = (0..500).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    bench.io.feed(end, &post(NDJSON, lines.as_bytes()));
    bench.events();
    assert_eq!(bench.poll(), Pull::More);
    let first = bench.rows.len();
    assert!(first > 0 && first < 500);
    bench.pass(20_000_000, false);
    assert_eq!(bench.answers(end), "");
    bench.settle();
    assert_eq!(bench.rows.len(), 500);
    assert_eq!(code(&bench.answers(end)), "200");
}

#[test]
fn with_acks_a_request_is_answered_when_its_last_batch_is_accepted_and_not_before() {
    let plan = HttpSource { respond: HttpRespond::Acked, ..plan() };
    let mut bench = Bench::with_slab(&plan, 1 << 10);
    assert!(bench.requests.has_acks());
    let (one, two) = (bench.connect(), bench.connect());
    bench.io.feed(one, &post("", b"{\"n\":1}"));
    bench.settle();
    let lines: String = (0..500).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    bench.io.feed(two, &post(NDJSON, format!("{lines}bad\n").as_bytes()));
    // A second request behind one that waits.
    bench.io.feed(one, &post("", b"{\"n\":2}"));
    bench.events();
    let mut batches = 1;
    while bench.rows.len() < 501 || bench.refused.is_empty() {
        let before = (bench.rows.len(), bench.refused.len());
        bench.poll();
        batches += u64::from(before != (bench.rows.len(), bench.refused.len()));
    }
    assert!(batches > 3, "{batches}");
    bench.with(|requests, _, cx| requests.accepted(batches - 1, cx));
    bench.events();
    let (first, second) = (bench.answers(one), bench.answers(two));
    assert_eq!((code(&first), second.as_str()), ("200", ""));
    bench.with(|requests, _, cx| requests.accepted(batches, cx));
    bench.settle();
    assert_eq!(code(&bench.answers(two)), "400", "one message was refused");
    assert_eq!(bench.answers(one), "", "the next one waits");
    bench.with(|requests, _, cx| requests.accepted(batches + 1, cx));
    bench.settle();
    assert_eq!(code(&bench.answers(one)), "200");
    assert_eq!(bench.rows.len(), 502);

    bench.io.feed(one, &post("", b"{\"n\":3}"));
    bench.settle();
    bench.pass(5_500_000, true);
    let answer = bench.answers(one);
    assert_eq!(code(&answer), "503");
    assert!(answer.contains("may come twice"), "{answer}");
    bench.with(|requests, _, cx| requests.accepted(batches + 2, cx));
    bench.settle();
    assert_eq!(bench.answers(one), "", "one answer for one request");
}

#[test]
fn who_sends_too_slowly_is_cut_off() {
    let mut bench = Bench::new(&plan());
    let (head, body, idle) = (bench.connect(), bench.connect(), bench.connect());
    let request = post(NDJSON, b"{\"n\":1}\n{\"n\":2}\n");
    let (almost, _) = request.split_at(request.len() - 4);
    bench.io.feed(body, almost);
    for byte in &request[..40] {
        // A byte now and then is not enough.
        bench.io.feed(head, &[*byte]);
        bench.pass(100_000, true);
    }
    assert_eq!(code(&bench.answers(head)), "408");
    assert_eq!(code(&bench.answers(body)), "408");
    assert_eq!(bench.rows, ["{\"n\":1}"]);
    assert_eq!(bench.refused.iter().map(|r| r.reason).collect::<Vec<_>>(), [Reason::Truncated]);
    bench.pass(3_000_000, true);
    assert!(bench.io.is_closed(head) && bench.io.is_closed(body));
    assert!(!bench.io.is_closed(idle));
    bench.pass(60_000_000, true);
    assert!(bench.io.is_closed(idle));
    assert_eq!(bench.requests.len(), 0);
}

#[test]
fn who_waits_to_be_asked_for_the_body_is_asked_once() {
    let mut bench = Bench::new(&plan());
    let end = bench.connect();
    let request = post("Expect: 100-continue\r\n", b"{\"n\":1}");
    bench.io.feed(end, &request[..request.len() - 7]);
    bench.settle();
    assert_eq!(bench.answers(end), "HTTP/1.1 100 Continue\r\n\r\n");
    bench.io.feed(end, b"{\"n\":1}");
    bench.settle();
    assert_eq!(code(&bench.answers(end)), "200");
    // Who is refused is not asked.
    let answer = bench
        .ask(b"POST /no HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(code(&answer), "404");
    assert!(answer.contains("Connection: close"), "{answer}");
}

#[test]
fn a_stopped_source_finishes_what_is_under_way_and_then_ends() {
    let mut bench = Bench::new(&plan());
    let (idle, busy) = (bench.connect(), bench.connect());
    let request = post(NDJSON, b"{\"n\":1}\n{\"n\":2}\n");
    bench.io.feed(busy, &request[..request.len() - 3]);
    bench.settle();
    bench.with(|requests, _, cx| requests.stop(cx));
    bench.settle();
    assert!(bench.io.is_closed(idle) && !bench.requests.is_read());
    bench.io.feed(busy, &request[request.len() - 3..]);
    bench.settle();
    let answer = bench.answers(busy);
    assert_eq!(code(&answer), "200");
    assert!(answer.contains("Connection: close"), "{answer}");
    assert!(bench.requests.is_read());
    bench.with(|requests, _, cx| requests.close(cx));
    bench.io.finish(busy);
    bench.pass(500_000, false);
    assert!(bench.requests.is_told());
    assert_eq!(bench.io.in_flight(), 0);
}

#[test]
fn what_breaks_off_within_a_request_is_refused_and_leaves_nothing_behind() {
    let mut bench = Bench::new(&plan());
    let end = bench.connect();
    let request = post(NDJSON, b"{\"n\":1}\n{\"n\":2}\n");
    bench.io.feed(end, &request[..request.len() - 3]);
    bench.settle();
    bench.io.vanish(end);
    bench.settle();
    assert_eq!(bench.rows, ["{\"n\":1}"]);
    assert_eq!(bench.refused.iter().map(|r| r.reason).collect::<Vec<_>>(), [Reason::Truncated]);
    assert_eq!(bench.requests.len(), 0);
}

#[test]
fn what_connections_keep_is_bounded_together() {
    let mut bench = Bench::new(&plan());
    let ends: Vec<_> = (0..600).map(|_| bench.connect()).collect();
    // Nearly whole heads: 600 of 15 kB are more than 8 MiB.
    let part = format!("POST /in HTTP/1.1\r\nX: {}", "x".repeat(15_000));
    for end in &ends {
        bench.io.feed(*end, part.as_bytes());
        bench.settle();
    }
    let open = ends.iter().filter(|end| !bench.io.is_closed(**end)).count();
    assert!((500..600).contains(&open), "{open}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_are_answered_or_waited_for(
        garbage in prop::collection::vec(any::<u8>(), 0..300),
        head in any::<bool>(),
    ) {
        let mut bench = Bench::new(&plan());
        bench.io.chop(true);
        bench.patience = 60;
        let end = bench.connect();
        if head {
            bench.io.feed(end, b"POST /in HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        }
        bench.io.feed(end, &garbage);
        bench.io.finish(end);
        bench.settle();
        bench.pass(10_000_000, true);
        prop_assert!(bench.io.is_closed(end));
        prop_assert_eq!(bench.requests.len(), 0);
    }

    #[test]
    fn messages_arrive_whole_and_in_order_whatever_the_framing(
        sizes in prop::collection::vec(0_usize..200, 1..20),
        kind in 0_u8..4,
        size in 1_usize..300,
        slab in 600_usize..5_000,
    ) {
        let messages: Vec<String> = sizes
            .iter()
            .enumerate()
            .map(|(n, size)| format!("{{\"n\":{n},\"p\":\"{}\"}}", "[,]{\\n".repeat(size / 6)))
            .collect();
        let lines = messages.join("\n");
        let array = format!("[{}]", messages.join(", \n"));
        let request = match kind {
            0 => post(NDJSON, lines.as_bytes()),
            1 => chunked(NDJSON, lines.as_bytes(), size),
            2 => chunked("", array.as_bytes(), size),
            _ => chunked("Content-Encoding: gzip\r\n", &gzip(array.as_bytes()), size),
        };
        let mut bench = Bench::with_slab(&plan(), slab);
        bench.io.chop(true);
        bench.patience = 60;
        let end = bench.connect();
        bench.io.feed(end, &request);
        bench.io.feed(end, &request);
        bench.settle();
        let twice: Vec<_> = messages.iter().chain(&messages).cloned().collect();
        prop_assert_eq!(&bench.rows, &twice);
        prop_assert_eq!(bench.answers(end).matches("HTTP/1.1 200 OK").count(), 2);
    }
}
