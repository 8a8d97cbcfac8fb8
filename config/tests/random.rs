//! Whatever a file holds, loading it ends with a plan or with errors that can
//! be shown.

use proptest::prelude::*;
use ringmain_config::{Loader, graph};

/// Loads, and uses everything that a caller would use.
fn load(text: &str) {
    let loader = Loader::new().env(|name| (name.len() == 1).then(|| "${value}".to_owned()));
    match loader.text("random.toml", text).load() {
        Ok(plan) => {
            assert!(!plan.warnings.has_errors());
            let _ = plan.warnings.to_string();
            for flow in &plan.flows {
                let notes = graph::Notes::default();
                let _ = (graph::mermaid(flow, &notes), graph::dot(flow, &notes));
                assert!(ringmain_config::diff(flow, flow).is_empty());
            }
        }
        Err(errors) => {
            assert!(errors.has_errors(), "refused without a reason: {text}");
            assert!(errors.to_string().contains("error: "));
        }
    }
}

const WORDS: &[&str] = &[
    "name",
    "sources",
    "operators",
    "sinks",
    "partition",
    "dead_letters",
    "tests",
    "steps",
    "insert",
    "expect",
    "advance",
    "start",
    "at",
    "json",
    "messages",
    "allow_loss",
    "drain",
    "type",
    "inputs",
    "where",
    "path",
    "mode",
    "listen",
    "decode",
    "frame",
    "frame_bytes",
    "fields",
    "count",
    "rate",
    "size",
    "set",
    "remove",
    "rename",
    "keep",
    "routes",
    "default",
    "source",
    "script",
    "limits",
    "time",
    "memory",
    "kills",
    "config",
    "from",
    "bound",
    "when_full",
    "buffer",
    "encode",
    "columns",
    "header",
    "delimiter",
    "rotate",
    "every",
    "fsync",
    "address",
    "retry",
    "min",
    "max",
    "key",
    "values",
    "prefix",
    "unit",
    "a",
    "b",
    "in",
    "out",
];

const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "in",
    "out",
    "a.x",
    "generator",
    "file",
    "stdin",
    "tcp",
    "udp",
    "unix",
    "filter",
    "map",
    "route",
    "lua",
    "stdout",
    "blackhole",
    "json",
    "csv",
    "text",
    "newline",
    "datagram",
    "block",
    "spill",
    "drop_oldest",
    "127.0.0.1:0",
    "[::]:7",
    "h:1",
    "10s",
    "64KiB",
    "1e9999B",
    "{date:%Y}",
    "{x",
    "${A}",
    "${AB}",
    "${",
    "$${",
    "*.x",
    "[z",
    "rpm > 1",
    "ü\\u0000\\n",
    "int",
    "float",
    "choice",
    "timestamp",
    "ms",
    "99999999999999999999999TiB",
    "0.0000000001us",
];

fn value() -> impl Strategy<Value = String> + Clone {
    let text = prop::sample::select(TEXTS).prop_map(|t| format!("\"{t}\""));
    let leaf = prop_oneof![
        4 => text,
        1 => any::<i64>().prop_map(|i| i.to_string()),
        1 => prop::sample::select(&["true", "false", "nan", "-inf", "1.5", "07:32:00", "1979-05-27", "0x7f"][..])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let pair =
            (prop::sample::select(WORDS), inner.clone()).prop_map(|(k, v)| format!("{k} = {v}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
            prop::collection::vec(pair, 0..4).prop_map(|v| format!("{{ {} }}", v.join(", "))),
        ]
    })
}

/// TOML with keys that the loader knows, in places where they may not belong.
fn document() -> impl Strategy<Value = String> {
    let pair = (prop::sample::select(WORDS), value()).prop_map(|(k, v)| format!("{k} = {v}\n"));
    let family = prop::sample::select(&["sources", "operators", "sinks"][..]);
    let name = prop::sample::select(&["a", "b", "in", "out", "\"x.y\""][..]);
    let header = prop_oneof![
        4 => (family, name).prop_map(|(f, n)| format!("[{f}.{n}]\n")),
        1 => prop::sample::select(&["[partition]\n", "[dead_letters]\n", "[[tests]]\n", "[a]\n"][..])
            .prop_map(str::to_owned),
    ];
    let kind = prop::sample::select(TEXTS).prop_map(|t| format!("type = \"{t}\"\n"));
    let table = (header, kind, prop::collection::vec(pair.clone(), 0..6))
        .prop_map(|(h, k, p)| format!("{h}{k}{}", p.concat()));
    (prop::collection::vec(pair, 0..3), prop::collection::vec(table, 0..6))
        .prop_map(|(top, tables)| format!("{}{}", top.concat(), tables.concat()))
}

/// The shipped quickstart with one piece replaced.
fn damaged() -> impl Strategy<Value = String> {
    let whole = include_str!("../quickstart.toml");
    (0..whole.len(), 0..24usize, "\\PC{0,6}|[\\[\\]{}\"'=,.#\\n]{0,4}").prop_map(
        |(at, len, with)| {
            let whole = include_str!("../quickstart.toml");
            let end = (at + len).min(whole.len());
            let (head, tail) = (&whole.as_bytes()[..at], &whole.as_bytes()[end..]);
            String::from_utf8_lossy(&[head, with.as_bytes(), tail].concat()).into_owned()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_loaded_or_refused(text in any::<String>()) {
        load(&text);
    }

    #[test]
    fn any_document_is_loaded_or_refused(text in document()) {
        load(&text);
    }

    #[test]
    fn a_damaged_flow_is_loaded_or_refused(text in damaged()) {
        load(&text);
    }
}

#[test]
fn deep_nesting_is_refused_without_a_panic() {
    for open in ["[", "{a="] {
        load(&format!("x = {}", open.repeat(100_000)));
        load(&format!("x = {}", open.repeat(70)));
    }
    load(&format!("[{}]", vec!["a"; 50_000].join(".")));
}

#[test]
fn a_flow_of_two_thousand_components_is_loaded() {
    let mut text = String::from("[sources.o0]\ntype = \"stdin\"\n");
    for n in 1..2_000 {
        text += &format!(
            "[operators.o{n}]\ntype = \"filter\"\ninputs = [\"o{}\"]\nwhere = \"true\"\n",
            n - 1
        );
    }
    text += "[sinks.out]\ntype = \"stdout\"\ninputs = [\"o1999\"]\n";
    load(&text);
}
