//! Good files mean what they say: whole plans, key by key.

use ringmain_config::*;

fn s(text: &str) -> Spanned<String> {
    Spanned::new(text.to_owned(), Span::default())
}

fn input(text: &str) -> Input {
    let (component, port) = match text.split_once('.') {
        Some((c, p)) => (c, Some(p.to_owned())),
        None => (text, None),
    };
    Input { component: s(component), port, bound: None }
}

fn flow(text: &str) -> FlowPlan {
    let mut plan = load_str("test.toml", text).unwrap_or_else(|e| panic!("{e}"));
    assert!(plan.warnings.is_empty(), "{}", plan.warnings);
    plan.flows.remove(0)
}

fn source(keys: &str) -> SourcePlan {
    let text =
        format!("[sources.in]\n{keys}\n[sinks.out]\ntype = \"blackhole\"\ninputs = [\"in\"]");
    flow(&text).sources.remove(0)
}

fn sink(keys: &str) -> SinkPlan {
    let text = format!("[sources.in]\ntype = \"stdin\"\n[sinks.out]\ninputs = [\"in\"]\n{keys}");
    flow(&text).sinks.remove(0)
}

fn operator(keys: &str) -> OperatorKind {
    let text = format!(
        "[sources.in]\ntype = \"stdin\"\n[sinks.out]\ntype = \"stdout\"\ninputs = [\"op\"]\n\
         [operators.op]\ninputs = [\"in\"]\n{keys}"
    );
    flow(&text).operators.remove(0).kind
}

#[test]
fn a_source_with_only_its_required_keys_has_the_documented_defaults() {
    let stdin = source("type = \"stdin\"");
    assert_eq!(stdin.decode, DecodePlan::Json);
    assert_eq!(stdin.frame, FramePlan::Newline);
    assert_eq!(stdin.frame_bytes, ringmain_base::limits::FRAME_BYTES_DEFAULT);
    assert_eq!(stdin.kind, SourceKind::Stdin);
    let file = source("type = \"file\"\npath = \"a.ndjson\"");
    let expected = FileSource {
        paths: vec![s("a.ndjson")],
        mode: ReadMode::Read,
        start: FileStart::Beginning,
        poll_us: 1_000_000,
    };
    assert_eq!(file.kind, SourceKind::File(expected));
    let listen = Listen { text: s("[::1]:5140"), addr: "[::1]:5140".parse().unwrap() };
    assert_eq!(
        source("type = \"tcp\"\nlisten = \"[::1]:5140\"").kind,
        SourceKind::Tcp { listen: listen.clone(), connections_max: 1024, tls: None, acks: false }
    );
    let udp = source("type = \"udp\"\nlisten = \"[::1]:5140\"");
    assert_eq!(udp.kind, SourceKind::Udp { listen, receive_buffer_bytes: None, gro: true });
    assert_eq!(udp.frame, FramePlan::Datagram);
}

#[test]
fn every_key_of_a_source_reaches_the_plan() {
    let file = source(
        "type = \"file\"\npath = [\"a/*\", \"b\"]\nmode = \"tail\"\nstart = \"end\"\n\
         poll = \"250ms\"\nframe = \"u32le\"\nframe_bytes = \"2KiB\"\n\
         decode = { type = \"csv\", columns = [\"x\", \"y\"], delimiter = \"\\t\" }",
    );
    let expected = FileSource {
        paths: vec![s("a/*"), s("b")],
        mode: ReadMode::Tail,
        start: FileStart::End,
        poll_us: 250_000,
    };
    assert_eq!(file.kind, SourceKind::File(expected));
    assert_eq!((file.frame, file.frame_bytes), (FramePlan::U32Le, 2048));
    let columns = vec!["x".to_owned(), "y".to_owned()];
    assert_eq!(
        file.decode,
        DecodePlan::Csv(CsvDecode {
            header: false,
            columns,
            delimiter: b'\t',
            ..CsvDecode::default()
        })
    );
    let quoted =
        source("type = \"stdin\"\ndecode = { type = \"csv\", quote = \"'\", numbers = false }");
    let expected = CsvDecode { quote: b'\'', numbers: false, ..CsvDecode::default() };
    assert_eq!(quoted.decode, DecodePlan::Csv(expected));
    let unix = source("type = \"unix\"\npath = \"s\"\nmode = \"datagram\"\nconnections_max = 5");
    assert_eq!(unix.frame, FramePlan::Datagram);
    assert_eq!(
        unix.kind,
        SourceKind::Unix { path: s("s"), mode: UnixMode::Datagram, connections_max: 5 }
    );
    let SourceKind::Udp { receive_buffer_bytes, gro, .. } =
        source("type = \"udp\"\nlisten = \"127.0.0.1:0\"\nreceive_buffer = \"8MiB\"\ngro = false")
            .kind
    else {
        panic!("udp")
    };
    assert_eq!((receive_buffer_bytes, gro), (Some(8 << 20), false));
    for (name, decode) in [
        ("text", DecodePlan::Text),
        ("bytes", DecodePlan::Bytes),
        ("csv", DecodePlan::Csv(CsvDecode::default())),
    ] {
        assert_eq!(source(&format!("type = \"stdin\"\ndecode = \"{name}\"")).decode, decode);
    }
}

#[test]
fn a_generator_keeps_its_fields_in_the_order_of_the_file() {
    let SourceKind::Generator { count, rate, fields, size_bytes, seed } = source(
        r#"type = "generator"
        count = 10
        rate = 1_000
        size = "100B"
        seed = 9
        [sources.in.fields]
        z = "fixed"
        n = 5
        a = { type = "const", value = true }
        b = { type = "int", min = -1, max = 1 }
        c = { type = "float", min = 40, max = 160.5, decimals = 1 }
        d = { type = "bool" }
        e = { type = "choice", values = ["ok", 1, 2.5] }
        f = { type = "name", prefix = "motor-" }
        g = { type = "sequence", start = 7 }
        h = { type = "string", length = 3 }
        i = { type = "timestamp" }"#,
    )
    .kind
    else {
        panic!("a generator")
    };
    assert_eq!((count, rate, size_bytes, seed), (Some(10), Some(1000), Some(100), 9));
    let text = |t: &str| Scalar::String(t.to_owned());
    let expected = [
        ("z", GenField::Const(text("fixed"))),
        ("n", GenField::Const(Scalar::Integer(5))),
        ("a", GenField::Const(Scalar::Boolean(true))),
        ("b", GenField::Int { min: -1, max: 1 }),
        ("c", GenField::Float { min: 40.0, max: 160.5, decimals: 1 }),
        ("d", GenField::Bool { probability: 0.5 }),
        (
            "e",
            GenField::Choice { values: vec![text("ok"), Scalar::Integer(1), Scalar::Float(2.5)] },
        ),
        ("f", GenField::Name { prefix: "motor-".into(), count: 1000, digits: 4 }),
        ("g", GenField::Sequence { start: 7, step: 1 }),
        ("h", GenField::String { length: 3 }),
        ("i", GenField::Timestamp { unit: TimeUnit::Ms }),
    ];
    let expected: Vec<_> = expected.into_iter().map(|(name, field)| (s(name), field)).collect();
    assert_eq!(fields, expected);
}

#[test]
fn a_generator_without_fields_looks_like_a_sensor() {
    let plan = source("type = \"generator\"");
    let SourceKind::Generator { count: None, fields, .. } = &plan.kind else { panic!("endless") };
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ts", "device", "plant", "rpm", "temp", "status"]);
    assert!(!plan.kind.is_finite());
}

#[test]
fn operators_keep_their_expressions_as_text_with_their_places() {
    let text = "[sources.in]\ntype = \"stdin\"\n[operators.f]\ntype = \"filter\"\ninputs = [\"in\"]\n\
                where = \"rpm > 100\"\n[sinks.out]\ntype = \"stdout\"\ninputs = [\"f\"]\n";
    let plan = load_str("a.toml", text).unwrap();
    let OperatorKind::Filter { where_ } = &plan.flows[0].operators[0].kind else {
        panic!("filter")
    };
    assert_eq!(where_.value, "rpm > 100");
    assert_eq!(plan.sources.slice(where_.span), "\"rpm > 100\"");
    assert_eq!(plan.sources.describe(where_.span), "a.toml:6:9");
}

#[test]
fn map_route_and_lua_are_read_whole() {
    let map = operator(
        "type = \"map\"\nset = { b = \"a + 1\", a = \"'x'\" }\nremove = \"c\"\n\
         rename = { d = \"e\" }\nkeep = [\"a\", \"b\", \"e\"]",
    );
    let expected = MapPlan {
        set: vec![(s("b"), s("a + 1")), (s("a"), s("'x'"))],
        remove: vec![s("c")],
        rename: vec![(s("d"), s("e"))],
        keep: vec![s("a"), s("b"), s("e")],
    };
    assert_eq!(map, OperatorKind::Map(expected));
    let lua = operator(
        "type = \"lua\"\nsource = '''return function(m) return m end -- ${HOME}'''\n\
         limits = { time = \"5ms\" }\nconfig = { a = 1 }",
    );
    let OperatorKind::Lua(lua) = lua else { panic!("lua") };
    let code = "return function(m) return m end -- ${HOME}";
    assert_eq!(lua.source, LuaSource::Inline(s(code)), "code is not expanded");
    assert_eq!(
        lua.limits,
        LuaLimits {
            time_us: 5_000,
            memory_bytes: 64 << 20,
            kills: 3,
            when_quarantined: WhenQuarantined::DeadLetters,
        }
    );
    assert_eq!(lua.config.get("a").map(|v| &v.value), Some(&Value::Integer(1)));
}

#[test]
fn routes_are_tried_in_the_order_of_the_file() {
    let flow = flow(
        "[sources.in]\ntype = \"stdin\"\n[operators.r]\ntype = \"route\"\ninputs = [\"in\"]\n\
         default = \"rest\"\n[operators.r.routes]\nz = \"x > 2\"\na = \"x > 1\"\n\
         [sinks.out]\ntype = \"stdout\"\ninputs = [\"r.z\", \"r.a\", \"r.rest\"]",
    );
    let OperatorKind::Route(route) = &flow.operators[0].kind else { panic!("route") };
    assert_eq!(route.routes, [(s("z"), s("x > 2")), (s("a"), s("x > 1"))]);
    assert_eq!(route.ports().collect::<Vec<_>>(), ["z", "a", "rest"]);
    assert_eq!(flow.sinks[0].inputs, [input("r.z"), input("r.a"), input("r.rest")]);
}

#[test]
fn sinks_have_the_documented_defaults() {
    let stdout = sink("type = \"stdout\"");
    assert_eq!((&stdout.encode, stdout.frame), (&EncodePlan::Json, FramePlan::Newline));
    assert_eq!((stdout.when_full.value, stdout.buffer_bytes), (WhenFull::Block, 1 << 20));
    let SinkKind::File(file) = sink("type = \"file\"\npath = \"a\"").kind else { panic!("file") };
    assert_eq!(file.path.literal(), Some("a"));
    assert_eq!((file.mode, file.fsync), (FileMode::Append, Fsync::Never));
    assert_eq!(file.rotate, Rotation::default());
    let retry = RetryPlan::new(100_000, 30_000_000);
    let expected = SinkKind::Tcp {
        address: s("h:1"),
        connect_timeout_us: 5_000_000,
        retry: retry.clone(),
        tls: None,
        ack_timeout_us: None,
    };
    assert_eq!(sink("type = \"tcp\"\naddress = \"h:1\"").kind, expected);
    let unix = SinkKind::Unix { path: s("s"), mode: UnixMode::Stream, retry };
    assert_eq!(sink("type = \"unix\"\npath = \"s\"").kind, unix);
}

#[test]
fn limit_and_circuit_breaker_of_retry_reach_the_plan() {
    let plan = sink(
        "type = \"tcp\"\naddress = \"h:1\"\nretry = { limit = 7, circuit_breaker = { failures = \
         3 } }",
    );
    let SinkKind::Tcp { retry, .. } = plan.kind else { panic!("tcp") };
    assert_eq!(retry.limit, Some(7));
    assert_eq!(retry.circuit_breaker, Some(BreakerPlan { failures: 3, pause_us: 30_000_000 }));
}

#[test]
fn spill_has_defaults_and_every_key_of_it_reaches_the_plan() {
    let spill = sink("type = \"stdout\"\nwhen_full = \"spill\"").spill.unwrap();
    assert_eq!((spill.max_bytes, spill.segment_bytes), (1 << 30, 16 << 20));
    assert_eq!((spill.sync_every_us, spill.resend_rate), (200_000, None));
    assert_eq!((spill.live_first, spill.when_full.value), (false, WhenFull::Block));
    let keys = "type = \"stdout\"\nwhen_full = \"spill\"\nspill = { max_size = \"2MiB\", segment = \
                \"1MiB\", fsync = \"always\", resend_rate = 7, live_first = true, when_full = \
                \"drop_newest\" }";
    let spill = sink(&format!("{keys}\n")).spill.unwrap();
    assert_eq!((spill.max_bytes, spill.segment_bytes), (2 << 20, 1 << 20));
    assert_eq!((spill.sync_every_us, spill.resend_rate), (0, Some(7)));
    assert_eq!((spill.live_first, spill.when_full.value), (true, WhenFull::DropNewest));
    assert_eq!(sink("type = \"stdout\"").spill, None);
}

#[test]
fn a_sink_that_spills_needs_a_folder_to_run_and_none_to_be_looked_at() {
    let flow = "[sources.in]\ntype = \"stdin\"\n[sinks.out]\ntype = \"stdout\"\ninputs = \
                [\"in\"]\nwhen_full = \"spill\"\n";
    assert!(Loader::new().text("flow.toml", flow).load().is_ok());
    let errors = Loader::new().text("flow.toml", flow).to_run().load().unwrap_err().to_string();
    let message = "flow.toml:6:13: error: sink 'out' spills, and there is no 'data_dir'";
    assert!(errors.contains(message), "{errors}");
}

#[test]
fn every_key_of_a_file_sink_reaches_the_plan() {
    let plan = sink(
        "type = \"file\"\npath = \"out/{device}/{date:%Y}.log\"\nmode = \"truncate\"\n\
         rotate = { size = \"100MiB\", every = \"1h\", keep = 5 }\nfsync = \"500ms\"\n\
         when_full = \"drop_oldest\"\nbuffer = \"64KiB\"\nframe = \"u32\"\n\
         encode = { type = \"csv\", columns = [\"a\"], header = false, delimiter = \";\" }",
    );
    let SinkKind::File(file) = &plan.kind else { panic!("file") };
    let literal = |t: &str| Segment::Literal(t.to_owned());
    let date = Segment::Date(vec![DateField::Year]);
    assert_eq!(
        file.path.segments,
        [literal("out/"), Segment::Field("device".into()), literal("/"), date, literal(".log")]
    );
    let rotate =
        Rotation { size_bytes: Some(100 << 20), every_us: Some(3_600_000_000), keep: Some(5) };
    assert_eq!(file.rotate, rotate);
    assert_eq!((file.mode, file.fsync), (FileMode::Truncate, Fsync::Interval(500_000)));
    assert_eq!((plan.when_full.value, plan.buffer_bytes), (WhenFull::DropOldest, 64 << 10));
    assert_eq!(plan.frame, FramePlan::U32);
    let columns = vec!["a".to_owned()];
    assert_eq!(plan.encode, EncodePlan::Csv { columns, header: false, delimiter: b';' });
}

#[test]
fn the_top_of_a_flow_is_read() {
    let flow = flow(
        "name = \"over.heat-1\"\nallow_loss = true\ndrain = \"1m\"\n\
         [partition]\nkey = [\"plant\", \"device\"]\ncount = 8\n\
         [sources.in]\ntype = \"stdin\"\n[sinks.out]\ntype = \"stdout\"\ninputs = [\"in\"]\n\
         [dead_letters]\ntype = \"file\"\npath = \"dead\"\n\
         [[tests]]\nname = \"one\"\nexpect = { at = \"out\", none = true }\n\
         [[tests]]\nname = \"two\"\nexpect = { at = \"out\", none = true }\n",
    );
    assert_eq!(
        (flow.name.as_str(), flow.allow_loss, flow.drain_us),
        ("over.heat-1", true, 60_000_000)
    );
    let partition = PartitionPlan { key: vec![s("plant"), s("device")], count: 8 };
    assert_eq!(flow.partition, Some(partition));
    assert_eq!(flow.dead_letters.map(|d| d.name.value).as_deref(), Some("dead_letters"));
    let names: Vec<_> = flow.tests.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
}

#[test]
fn a_test_is_steps_in_order() {
    let base = "[sources.in]\ntype = \"stdin\"\n[sinks.out]\ntype = \"stdout\"\n\
                inputs = [\"in\"]\n[[tests]]\nname = \"t\"\n";
    let test = |text: &str| flow(&format!("{base}{text}")).tests[0].clone();
    let plain = test(
        "start = 2026-11-22T11:27:00Z\n\
         insert = [{ at = \"in\", json = '{\"a\":1}' },\n\
         { at = \"in\", after = \"10s\", lines = '''\nx\n\n y\n''' }]\nadvance = \"24h\"\n\
         expect = [{ at = \"out\", count = 2, where = \"a == 1\" },\n\
         { at = \"dead_letters\", contains = { reason = \"decode\" } }]\n",
    );
    assert_eq!(plain.start_us, 1_795_346_820_000_000);
    let at = |payload| TestStep::Insert(TestInsert { at: s("in"), payload });
    let [TestStep::Expect(expects)] = &plain.steps[4..] else { panic!("{:?}", plain.steps) };
    assert_eq!(
        plain.steps[..4],
        [
            at(TestPayload::Json(s("{\"a\":1}"))),
            TestStep::Advance(10_000_000),
            at(TestPayload::Lines(vec![s("x"), s(" y")])),
            TestStep::Advance(86_400_000_000),
        ]
    );
    assert_eq!(expects[0].checks, [TestCheck::Count(2), TestCheck::Where(s("a == 1"))]);
    assert!(matches!(&expects[1].checks[..], [TestCheck::Contains(list)] if list.len() == 1));
    let stepped = test(
        "steps = [{ advance = \"1s\", insert = { at = \"in\", message = { n = 1 } } },\n\
         { expect = { at = \"out\", none = true } }]\n",
    );
    assert!(matches!(
        &stepped.steps[..],
        [TestStep::Insert(_), TestStep::Advance(1_000_000), TestStep::Expect(_)]
    ));
}

#[test]
fn a_bounded_input_closes_a_cycle() {
    let flow = flow(
        "[sources.in]\ntype = \"stdin\"\n[operators.a]\ntype = \"filter\"\nwhere = \"true\"\n\
         inputs = [\"in\", { from = \"a\", bound = \"1MiB\", when_full = \"drop_newest\" }]\n\
         [sinks.out]\ntype = \"stdout\"\ninputs = \"a\"",
    );
    let bound = flow.operators[0].inputs[1].bound.as_ref().unwrap();
    assert_eq!((bound.bytes, bound.when_full.value), (1 << 20, WhenFull::DropNewest));
    assert_eq!(flow.sinks[0].inputs, [input("a")]);
}

#[test]
fn a_dropping_edge_behind_a_file_needs_allow_loss() {
    let text = "[sources.in]\ntype = \"file\"\npath = \"a\"\n[sinks.out]\ntype = \"stdout\"\n\
                inputs = [\"in\"]\nwhen_full = \"drop_newest\"";
    assert!(load_str("a.toml", text).is_err());
    assert!(load_str("a.toml", &format!("allow_loss = true\n{text}")).is_ok());
    assert!(load_str("a.toml", &text.replace("drop_newest", "block")).is_ok());
}

#[test]
fn without_a_daemon_file_its_defaults_hold() {
    let text = "[sources.in]\ntype = \"stdin\"\n[sinks.out]\ntype = \"stdout\"\ninputs = [\"in\"]";
    let plan = load_str("some/where/thing.toml", text).unwrap();
    assert_eq!(plan.flows[0].name.value, "thing");
    assert_eq!(plan.shards.cores.value, CoresSpec::Auto);
    assert_eq!(plan.shards.memory_bytes, 256 << 20);
    assert_eq!(plan.shards.slab_bytes, ringmain_base::limits::SLAB_BYTES_DEFAULT);
    assert_eq!(plan.shards.linger_us, ringmain_base::limits::LINGER_US_DEFAULT);
    assert_eq!((plan.log.level, plan.log.format), (LogLevel::Info, LogFormat::Text));
    assert_eq!((plan.daemon.data_dir, plan.api.listen), (None, None));
    assert!(plan.metrics.prometheus && !plan.metrics.jolokia);
}

#[test]
fn the_environment_is_expanded_where_it_is_written() {
    let text = "name = \"${NAME}\"\n[sources.in]\ntype = \"stdin\"\n[operators.f]\n\
                type = \"filter\"\ninputs = [\"${IN}\"]\nwhere = \"rpm > ${LIMIT:-100}\"\n\
                [sinks.out]\ntype = \"file\"\ninputs = [\"f\"]\npath = \"$${x}/$x\"";
    let env = |name: &str| match name {
        "NAME" => Some("motors".to_owned()),
        "IN" => Some("in".to_owned()),
        _ => None,
    };
    // "${x}" is left as it is, but then it is a field of the template.
    let plan = Loader::new().env(env).text("a.toml", text).load().unwrap_or_else(|e| panic!("{e}"));
    let flow = &plan.flows[0];
    assert_eq!(flow.name.value, "motors");
    assert_eq!(flow.operators[0].inputs, [input("in")]);
    let OperatorKind::Filter { where_ } = &flow.operators[0].kind else { panic!("filter") };
    assert_eq!(where_.value, "rpm > 100");
    let SinkKind::File(file) = &flow.sinks[0].kind else { panic!("file") };
    assert_eq!(file.path.text.value, "${x}/$x");
}

#[test]
fn a_script_is_found_beside_the_flow_and_in_lua() {
    let root = tempfile::tempdir().unwrap();
    let flows = root.path().join("flows");
    std::fs::create_dir_all(flows.join("lua")).unwrap();
    std::fs::create_dir_all(root.path().join("lua")).unwrap();
    let flow = flows.join("a.toml");
    let text = "[sources.in]\ntype = \"stdin\"\n[operators.l]\ntype = \"lua\"\ninputs = [\"in\"]\n\
                script = \"x.lua\"\n[sinks.out]\ntype = \"stdout\"\ninputs = [\"l\"]";
    std::fs::write(&flow, text).unwrap();
    let found = || match load(std::slice::from_ref(&flow), None).unwrap().flows[0].operators[0]
        .kind
        .clone()
    {
        OperatorKind::Lua(LuaPlan { source: LuaSource::Script(path), .. }) => path.value,
        other => panic!("{other:?}"),
    };
    assert!(load(std::slice::from_ref(&flow), None).is_err());
    for place in [root.path().join("lua/x.lua"), flows.join("lua/x.lua"), flows.join("x.lua")] {
        std::fs::write(&place, "return function(m) return m end").unwrap();
        assert_eq!(found(), place);
    }
}

#[test]
fn the_daemons_flows_may_be_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("ringmain.toml");
    std::fs::write(&file, "[daemon]\nflows = \"flows\"\n").unwrap();
    std::fs::create_dir(root.path().join("flows")).unwrap();
    let empty = load(&[], Some(&file)).unwrap();
    let warnings = empty.warnings.to_string();
    assert!(warnings.contains("there is no *.toml in 'flows' yet"), "{warnings}");
    let flow = "[sources.in]\ntype = \"generator\"\n[sinks.out]\ntype = \"blackhole\"\n\
                inputs = [\"in\"]\n";
    for name in ["b.toml", "a.toml", "notes.txt"] {
        std::fs::write(root.path().join("flows").join(name), flow).unwrap();
    }
    let plan = load(&[], Some(&file)).unwrap();
    assert_eq!(plan.flows.iter().map(|flow| flow.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn files_that_are_not_there_are_all_named() {
    let files = ["no/such.toml".into(), "nor/this.toml".into()];
    let errors = load(&files, Some("not/this/either.toml".as_ref())).unwrap_err();
    assert_eq!(errors.errors(), 3);
    let shown = errors.to_string();
    for name in ["no/such.toml", "nor/this.toml", "not/this/either.toml"] {
        assert!(shown.contains(&format!("error: {name}: cannot be read: no such file")), "{shown}");
    }
}

#[test]
fn floors_above_add_what_they_find() {
    let text = "[sources.in]\ntype = \"stdin\"\n[operators.f]\ntype = \"filter\"\ninputs = [\"in\"]\n\
                where = \"rpm >\"\n[sinks.out]\ntype = \"stdout\"\ninputs = [\"f\"]\n";
    let plan = load_str("a.toml", text).unwrap();
    let mut found = plan.warnings.clone();
    let OperatorKind::Filter { where_ } = &plan.flows[0].operators[0].kind else {
        panic!("filter")
    };
    found.push(Diagnostic::error(where_.span, "unexpected end of the expression"));
    assert!(found.has_errors());
    assert_eq!(
        found.to_string(),
        "a.toml:6:9: error: unexpected end of the expression\n 6 | where = \"rpm >\"\n   |         ^^^^^^^\n"
    );
}

#[test]
fn every_key_of_an_operator_by_key_reaches_the_plan() {
    let by = |key: &[&str], max_keys, ttl_us| KeyedPlan {
        key: key.iter().map(|name| s(name)).collect(),
        max_keys,
        ttl_us,
    };
    let plain = || by(&[], 100_000, None);
    assert_eq!(
        operator("type = \"change_detector\""),
        OperatorKind::ChangeDetector(ChangePlan {
            by: plain(),
            fields: vec![],
            first_passes: true,
            deadband: None
        })
    );
    let change = operator(
        "type = \"change_detector\"\nkey = [\"entityId\", \"aspect\"]\nmax_keys = 7\nttl = \"1h\"\n\
         fields = \"status\"\nfirst = \"drop\"\ndeadband = 0.5",
    );
    let by_both = by(&["entityId", "aspect"], 7, Some(3_600_000_000));
    let expected = ChangePlan {
        by: by_both,
        fields: vec![s("status")],
        first_passes: false,
        deadband: Some(0.5),
    };
    assert_eq!(change, OperatorKind::ChangeDetector(expected));
    let sample = operator(
        "type = \"sample\"\nevery = \"15m\"\nclock = \"event\"\ntime_field = \"t\"\ntime_unit = \"s\"",
    );
    let clock = ClockPlan::Event { field: Some(s("t")), unit: TimeUnit::S };
    let expected = SamplePlan { by: plain(), every_us: 900_000_000, clock };
    assert_eq!(sample, OperatorKind::Sample(expected));
    let sample = operator("type = \"sample\"\nevery = \"1s\"");
    let expected = SamplePlan { by: plain(), every_us: 1_000_000, clock: ClockPlan::Server };
    assert_eq!(sample, OperatorKind::Sample(expected));
    let hysteresis =
        operator("type = \"hysteresis\"\nemit_when = \"rpm > 100\"\nrelease_when = \"rpm < 80\"");
    let expected = HysteresisPlan {
        by: plain(),
        emit_when: s("rpm > 100"),
        release_when: Some(s("rpm < 80")),
    };
    assert_eq!(hysteresis, OperatorKind::Hysteresis(expected));
}

#[test]
fn every_key_of_throttle_split_and_time_series_reaches_the_plan() {
    let limit = |rate, per_us, burst| LimitPlan { rate, per_us, burst };
    let OperatorKind::Throttle(plan) = operator("type = \"throttle\"\nrate = 2.5") else {
        panic!()
    };
    assert_eq!((plan.limit, plan.limits.len()), (limit(2.5, 1_000_000, 3), 0));
    assert_eq!((plan.over, plan.has_port()), (OverPlan::Drop, false));
    let OperatorKind::Throttle(plan) = operator(
        "type = \"throttle\"\nrate = 10\nper = \"1m\"\nburst = 4\nover = \"delay\"\n\
         delay_buffer = \"2KiB\"\ndelay_full = \"drop\"\n\
         limits = { a = 5, \"b,1\" = { rate = 0.5, per = \"1s\", burst = 9 }, c = { rate = 7 } }",
    ) else {
        panic!()
    };
    assert_eq!(plan.limit, limit(10.0, 60_000_000, 4));
    let own = [
        ("a".to_owned(), limit(5.0, 60_000_000, 5)),
        ("b,1".to_owned(), limit(0.5, 1_000_000, 9)),
        ("c".to_owned(), limit(7.0, 60_000_000, 7)),
    ];
    assert_eq!(plan.limits, own);
    assert_eq!((plan.over, plan.delay_full), (OverPlan::Delay, OverPlan::Drop));
    assert_eq!(plan.delay_buffer_bytes, 2048);
    let split =
        operator("type = \"split\"\nfield = \"list\"\ninto = \"x\"\nindex = \"i\"\nkeep = [\"a\"]");
    let expected = SplitPlan {
        field: s("list"),
        into: Some(s("x")),
        index: Some(s("i")),
        keep: Some(vec![s("a")]),
    };
    assert_eq!(split, OperatorKind::Split(expected));
    let series = operator("type = \"time_series\"\ntimestamp = \"ts\"\nquality = \"good\"");
    let expected = TimeSeriesPlan {
        field: s("value"),
        time_field: s("_time"),
        timestamp: Some(s("ts")),
        unit: TimeUnit::Ms,
        suffix: "_qc".into(),
        quality: QualityPlan::Good,
    };
    assert_eq!(series, OperatorKind::TimeSeries(expected));
}

fn mqtt_client(id: &str) -> MqttClient {
    MqttClient {
        url: s("mqtt://broker"),
        address: "broker:1883".to_owned(),
        tls: None,
        version: MqttVersion::V5,
        client_id: s(id),
        clean_start: false,
        session_expiry_us: 86_400_000_000,
        keep_alive_us: 30_000_000,
        username: None,
        password: None,
        last_will: None,
        max_inflight: 1_000,
        connect_timeout_us: 5_000_000,
        retry: RetryPlan::new(100_000, 30_000_000),
    }
}

#[test]
fn mqtt_has_the_documented_defaults_and_ids_that_differ() {
    let plan = source("type = \"mqtt\"\nurl = \"mqtt://broker\"\ntopics = \"a/+\"");
    assert_eq!(plan.frame, FramePlan::Datagram);
    let topics = vec![MqttTopic { filter: s("a/+"), qos: Qos::AtLeastOnce }];
    let client = mqtt_client("ringmain-test-in");
    let expected = MqttSource { client, topics, topic_field: None };
    assert_eq!(plan.kind, SourceKind::Mqtt(Box::new(expected)));
    assert!(plan.kind.can_replay());
    let plan = sink("type = \"mqtt\"\nurl = \"mqtt://broker\"\ntopic = \"t/{device}\"");
    let SinkKind::Mqtt(mqtt) = plan.kind else { panic!("{:?}", plan.kind) };
    assert_eq!(mqtt.client, mqtt_client("ringmain-test-out"));
    let segments = [Segment::Literal("t/".to_owned()), Segment::Field("device".to_owned())];
    assert_eq!(mqtt.topic.segments, segments);
    assert_eq!((mqtt.qos, mqtt.retain, mqtt.user_properties.len()), (Qos::AtLeastOnce, false, 0));
}

#[test]
fn every_key_of_mqtt_is_read_and_the_password_is_not_shown() {
    let plan = source(
        "type = \"mqtt\"\nurl = \"mqtts://[::1]:1884/\"\nqos = 0\nversion = \"5\"\n\
         topics = [\"a\", { topic = \"$share/g/b\", qos = 2 }]\nclient_id = \"c\"\n\
         clean_start = true\nsession_expiry = \"1h\"\nkeep_alive = \"5s\"\nusername = \"u\"\n\
         password = \"hidden\"\nmax_inflight = 7\nconnect_timeout = \"1s\"\ntopic_field = \"t\"\n\
         last_will = { topic = \"w\", payload = \"gone\", qos = 1, retain = true }\n\
         retry = { min = \"1s\", max = \"2s\" }",
    );
    assert!(!format!("{plan:?}").contains("hidden"));
    let SourceKind::Mqtt(mqtt) = plan.kind else { panic!("{:?}", plan.kind) };
    let will = MqttWill {
        topic: "w".to_owned(),
        payload: "gone".to_owned(),
        qos: Qos::AtLeastOnce,
        retain: true,
    };
    let client = MqttClient {
        url: s("mqtts://[::1]:1884/"),
        address: "[::1]:1884".to_owned(),
        tls: Some(ClientTls::default()),
        clean_start: true,
        session_expiry_us: 3_600_000_000,
        keep_alive_us: 5_000_000,
        username: Some("u".to_owned()),
        password: Some(Secret::new("hidden")),
        last_will: Some(will),
        max_inflight: 7,
        connect_timeout_us: 1_000_000,
        retry: RetryPlan::new(1_000_000, 2_000_000),
        ..mqtt_client("c")
    };
    let topics = vec![
        MqttTopic { filter: s("a"), qos: Qos::AtMostOnce },
        MqttTopic { filter: s("$share/g/b"), qos: Qos::ExactlyOnce },
    ];
    assert!(
        !MqttSource { client: client.clone(), topics: topics.clone(), topic_field: None }
            .is_shared()
    );
    assert_eq!(*mqtt, MqttSource { client, topics, topic_field: Some(s("t")) });
}
