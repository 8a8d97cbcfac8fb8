//! Filter, map and route made of expressions.

mod common;

use common::{run, slab_of};
use ringmain_base::Reason;
use ringmain_lua::{Map, filter, map, route};
use ringmain_ops::Operator as _;
use ringmain_slab::Scalar::{Bool, Float, Int, Null, Str};
use ringmain_slab::SharedSchema;

#[test]
fn a_filter_drops_only_on_false_and_nil() {
    let schema = SharedSchema::new();
    let mut slab = slab_of(
        &schema,
        &[
            &[("keep", Bool(true)), ("n", Int(1))],
            &[("keep", Bool(false)), ("n", Int(2))],
            &[("keep", Int(0)), ("n", Int(3))],
            &[("keep", Str("")), ("n", Int(4))],
            &[("keep", Null), ("n", Int(5))],
            &[("n", Int(6))],
        ],
    );
    let mut operator = filter("f", "keep", &schema).unwrap();
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.rows, ["keep=true n=1", "keep=0 n=3", "keep=\"\" n=4"]);
    assert!(out.dead.is_empty());
}

#[test]
fn a_message_that_fails_is_refused_and_the_rest_goes_on() {
    let schema = SharedSchema::new();
    let mut slab = slab_of(
        &schema,
        &[
            &[("rpm", Int(150))],
            &[("rpm", Str("fast"))],
            &[("rpm", Float(99.5))],
            &[("other", Int(1))],
            &[("rpm", Int(101))],
        ],
    );
    let mut operator = filter("hot", "\n rpm > 100", &schema).unwrap();
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.rows, ["rpm=150", "rpm=101"]);
    assert_eq!(
        out.dead,
        [
            (
                "rpm=\"fast\"".into(),
                Reason::Script,
                "hot.where:2: attempt to compare number with string".into()
            ),
            (
                "other=1".into(),
                Reason::Script,
                "hot.where:2: attempt to compare number with nil".into()
            ),
        ]
    );
}

fn strings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn a_map_evaluates_all_expressions_before_it_assigns() {
    let schema = SharedSchema::new();
    let mut slab = slab_of(&schema, &[&[("a", Int(1)), ("b", Int(2)), ("c", Int(3))]]);
    let set = strings(&[("a", "b"), ("b", "a"), ("ratio", "a / b"), ("c", "nil")]);
    let mut operator = map("m", &Map { set: &set, ..Map::default() }, &schema).unwrap();
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.rows, ["a=2 b=1 ratio=0.5"]);
}

#[test]
fn a_map_sets_then_renames_then_removes_then_keeps() {
    let schema = SharedSchema::new();
    let mut slab = slab_of(&schema, &[&[("a", Int(1)), ("b", Int(2)), ("c", Int(3))]]);
    let set = strings(&[("d", "a + 10"), ("e", "'x'")]);
    let rename = strings(&[("d", "f"), ("missing", "b")]);
    let (remove, keep) = (["c".to_owned()], ["f".to_owned(), "b".to_owned(), "c".to_owned()]);
    let all = Map { set: &set, rename: &rename, remove: &remove, keep: Some(&keep) };
    let mut operator = map("m", &all, &schema).unwrap();
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.rows, ["b=2 f=11"]);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
}

#[test]
fn an_error_in_a_map_names_the_field_and_leaves_the_message_as_it_came() {
    let schema = SharedSchema::new();
    let mut slab = slab_of(&schema, &[&[("a", Int(1))], &[("a", Str("x"))], &[("a", Int(3))]]);
    let set = strings(&[("b", "1"), ("c", "a + 1"), ("d", "2")]);
    let mut operator = map("m", &Map { set: &set, ..Map::default() }, &schema).unwrap();
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.rows, ["a=1 b=1 c=2 d=2", "a=3 b=1 c=4 d=2"]);
    assert_eq!(out.dead[0].0, "a=\"x\"");
    let why = "m.set.c:1: attempt to perform arithmetic on field 'a' (a string value)";
    assert_eq!(out.dead[0].2, why);
}

#[test]
fn a_route_takes_the_first_match_and_falls_back_to_the_default() {
    let schema = SharedSchema::new();
    let rows = |schema: &SharedSchema| {
        slab_of(
            schema,
            &[&[("n", Int(1))], &[("n", Int(50))], &[("n", Int(500))], &[("n", Int(60))]],
        )
    };
    let routes = strings(&[("high", "n > 100"), ("mid", "n > 10"), ("high", "n > 55")]);
    let mut slab = rows(&schema);
    let mut operator = route("r", &routes, None, &schema).unwrap();
    assert_eq!(operator.ports(), ["high", "mid"]);
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.ports, [vec!["n=500"], vec!["n=50", "n=60"]]);
    assert!(out.rows.is_empty() && out.dead.is_empty());

    let mut slab = rows(&schema);
    let mut operator = route("r", &routes, Some("low"), &schema).unwrap();
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!(out.ports[2], ["n=1"]);
}

#[test]
fn a_port_that_is_full_grows() {
    let schema = SharedSchema::new();
    let text = "x".repeat(500);
    let fields = [("s", Str(&text)), ("n", Int(1))];
    let messages: Vec<common::Fields<'_>> = vec![&fields; 50];
    let mut slab = slab_of(&schema, &messages);
    let mut operator = route("r", &strings(&[("p", "n == 1")]), None, &schema).unwrap();
    let out = run(&mut *operator, &mut slab, &schema);
    assert_eq!((out.ports[0].len(), out.dead.len()), (50, 0));
}

#[test]
fn an_expression_that_does_not_compile_says_where() {
    for (source, line, column, message) in [
        ("rpm > > 100", 1, 7, "unexpected symbol near '>'"),
        ("rpm >", 1, 6, "unexpected symbol at the end of the expression"),
        ("", 1, 1, "an expression is missing"),
        ("  \n ", 1, 1, "an expression is missing"),
        ("a b", 1, 3, "unexpected 'b' after the expression"),
        ("a, b", 1, 2, "unexpected ',' after the expression"),
        ("a = 1", 1, 3, "unexpected '=' after the expression"),
        ("a and\n  'x' 5", 2, 7, "unexpected '5' after the expression"),
        ("größe > )", 1, 9, "unexpected symbol near ')'"),
        ("a end", 1, 3, "unexpected 'end' after the expression"),
        ("(a b)", 1, 4, "')' expected near 'b'"),
        ("'open", 1, 1, "unfinished string near ''open'"),
        ("...", 1, 1, "cannot use '...' outside a vararg function near '...'"),
    ] {
        let error = ringmain_lua::check(source).unwrap_err();
        assert_eq!(
            (error.line, error.column, error.message.as_str()),
            (line, column, message),
            "{source:?}"
        );
    }
    assert_eq!(ringmain_lua::check("rpm > 100 and status ~= 'off'").unwrap(), ["rpm", "status"]);
}

#[test]
fn an_expression_of_a_map_or_route_that_does_not_compile_is_numbered() {
    let schema = SharedSchema::new();
    let set = strings(&[("a", "1"), ("b", "1 +")]);
    let error = map("m", &Map { set: &set, ..Map::default() }, &schema).err().unwrap();
    assert_eq!((error.part, error.error.column), (1, 4));
    let error = route("r", &strings(&[("a", ">")]), None, &schema).err().unwrap();
    assert_eq!((error.part, error.error.line), (0, 1));
    let many: Vec<(String, String)> = (0..129).map(|n| (format!("f{n}"), "1".into())).collect();
    let error = map("m", &Map { set: &many, ..Map::default() }, &schema).err().unwrap();
    assert_eq!(error.error.message, "more than 128 expressions; use a second operator");
}

#[test]
fn names_of_fields_and_ports_may_be_anything() {
    let schema = SharedSchema::new();
    let mut slab = slab_of(&schema, &[&[("a-b", Int(1)), ("end", Int(2))]]);
    let set = strings(&[("x\"]y", "msg['a-b'] + msg['end']"), ("ü\n", "'z'"), ("end", "nil")]);
    let rename = strings(&[("a-b", "\\")]);
    let whole = Map { set: &set, rename: &rename, ..Map::default() };
    let mut operator = map("m", &whole, &schema).unwrap();
    let out = run(&mut *operator, &mut slab, &schema);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(out.rows, ["x\"]y=3 ü\n=\"z\" \\=1"]);
}

#[test]
fn a_map_works_on_fields_beyond_the_slots() {
    let schema = SharedSchema::new();
    for at in 0..64 {
        schema.intern(&format!("f{at}")).unwrap();
    }
    let fields = [("f0", Int(1)), ("f1", Str("one"))];
    let set = strings(&[("x", "f0 + 1"), ("y", "'why'"), ("f2", "x")]);
    let rename = strings(&[("f1", "renamed"), ("y", "f3")]);
    let keep = ["x".to_owned(), "renamed".to_owned(), "f3".to_owned()];
    let whole = Map { set: &set, rename: &rename, keep: Some(&keep), ..Map::default() };
    let mut operator = map("m", &whole, &schema).unwrap();
    let mut slab = slab_of(&schema, &[&fields, &fields]);
    let out = run(&mut *operator, &mut slab, &schema);
    assert!(out.dead.is_empty(), "{:?}", out.dead);
    assert_eq!(out.rows, ["f3=\"why\" +x=2 +renamed=\"one\"", "f3=\"why\" +x=2 +renamed=\"one\""]);
}
