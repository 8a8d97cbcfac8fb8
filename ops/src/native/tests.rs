//! What expressions mean, row by row. The comparison with LuaJIT itself is in
//! the workspace's tests.

use ringmain_base::{Now, Reason};
use ringmain_slab::{Budget, RowRef, Scalar, Scratch, SharedSchema, Slab, ValueRef};

use super::{filter, map, route};
use crate::{Context, Operator, Refuse};

const NAMES: [&str; 8] = ["i", "f", "s", "t", "b", "no", "nul", "list"];

/// One row with a field of every type.
fn sample(schema: &SharedSchema) -> Slab {
    for name in NAMES {
        schema.intern(name).unwrap();
    }
    let mut slab = Slab::new(256 << 10, &Budget::new(1 << 20));
    push_sample(&mut slab, 7);
    slab
}

fn push_sample(slab: &mut Slab, i: i64) {
    let mut scratch = Scratch::default();
    let mut row = slab.build(8, 8, &mut scratch);
    row.set_int(0, i);
    row.set_float(1, 2.5);
    row.set_str(2, "abc");
    row.set_str(3, " 0x10 ");
    row.set(4, Scalar::Bool(false));
    row.set(6, Scalar::Null);
    let mut tree = row.tree(7);
    assert!(tree.list());
    tree.scalar(Scalar::Int(1));
    tree.close();
    tree.finish();
    row.finish(1).unwrap();
}

#[derive(Default)]
struct Refused(Vec<(Reason, String, String)>);

impl Refuse for Refused {
    fn refuse(&mut self, row: RowRef<'_>, reason: Reason, detail: &str) {
        self.0.push((reason, detail.to_owned(), format!("{row:?}")));
    }
}

fn run(operator: &mut dyn Operator, slab: &mut Slab, ports: &mut [Slab]) -> Refused {
    let mut refused = Refused::default();
    let now = Now { mono_us: 0, wall_us: 0 };
    operator.process(slab, &mut Context { now, refuse: &mut refused, ports });
    refused
}

/// The value that `expr` has on the sample row, or why it has none.
fn value(expr: &str) -> Result<String, String> {
    let schema = SharedSchema::new();
    let mut slab = sample(&schema);
    let set = [("out".to_owned(), expr.to_owned())];
    let mut operator = map("m", &set, &[], &[], &[], &schema).expect("a native form");
    let refused = run(&mut *operator, &mut slab, &mut []);
    let Some((reason, detail, _)) = refused.0.first() else {
        return Ok(format!("{:?}", slab.row(0).get(8)));
    };
    assert_eq!((*reason, slab.len()), (Reason::Script, 0));
    Err(detail.clone())
}

/// Whether a filter keeps the sample row.
fn kept(expr: &str) -> Result<bool, String> {
    let schema = SharedSchema::new();
    let mut slab = sample(&schema);
    let mut operator = filter("f", expr, &schema).expect("a native form");
    let refused = run(&mut *operator, &mut slab, &mut []);
    match refused.0.first() {
        Some((_, detail, _)) => Err(detail.clone()),
        None => Ok(slab.len() == 1),
    }
}

#[test]
fn expressions_have_the_values_of_lua() {
    let cases = [
        ("i + 1", "Int(8)"),
        ("i / 2", "Float(3.5)"),
        ("i * f", "Float(17.5)"),
        ("-i % 4", "Int(1)"),
        ("i % -4", "Int(-1)"),
        ("i ^ 2", "Int(49)"),
        ("2 ^ 60", "Float(1.152921504606847e18)"),
        ("2 ^ 53 - 1", "Int(9007199254740991)"),
        ("f - 0.5", "Int(2)"),
        ("1 / 0", "Float(inf)"),
        ("t + 1", "Int(17)"),
        ("t * i + f", "Float(114.5)"),
        ("-t", "Int(-16)"),
        ("s", "Str(\"abc\")"),
        ("nul", "Absent"),
        ("no", "Absent"),
        ("list", "List([Int(1)])"),
        ("i > 5 and 'high' or 'low'", "Str(\"high\")"),
        ("b or s", "Str(\"abc\")"),
        ("b and s", "Bool(false)"),
        ("no or list", "List([Int(1)])"),
        ("nil", "Absent"),
        ("not b", "Bool(true)"),
        ("not list", "Bool(false)"),
        ("s .. '-' .. i", "Str(\"abc-7\")"),
        ("f .. s", "Str(\"2.5abc\")"),
        ("1e15 .. ''", "Str(\"1e+15\")"),
        ("'10' + i", "Int(17)"),
        ("i == 7.0", "Bool(true)"),
        ("i == '7'", "Bool(false)"),
        ("nul == nil", "Bool(true)"),
        ("nul == no", "Bool(true)"),
        ("s < 'abd'", "Bool(true)"),
        ("s < 'ab'", "Bool(false)"),
        ("s == 'abc'", "Bool(true)"),
        ("s .. '' == 'abc'", "Bool(true)"),
        ("b == false", "Bool(true)"),
        ("0 and 1", "Int(1)"),
        ("'' and 1", "Int(1)"),
        ("0x10", "Int(16)"),
        ("'caf\\xc3\\xa9'", "Str(\"café\")"),
        ("s .. '\\xff'", "Bytes([97, 98, 99, 255])"),
    ];
    for (expr, shown) in cases {
        assert_eq!(value(expr).as_deref(), Ok(shown), "{expr}");
    }
}

#[test]
fn errors_name_the_field_and_its_type() {
    let cases = [
        ("no > 1", "attempt to compare field 'no' (a nil value) with a number"),
        ("nul < 1", "attempt to compare field 'nul' (a nil value) with a number"),
        ("i > 'a'", "attempt to compare field 'i' (a number value) with a string"),
        ("'a' >= i", "attempt to compare a string with field 'i' (a number value)"),
        (
            "b < b",
            "attempt to compare field 'b' (a boolean value) with field 'b' (a boolean value)",
        ),
        (
            "list < list",
            "attempt to compare field 'list' (a table value) with field 'list' (a table value)",
        ),
        ("t > 1", "attempt to compare field 't' (a string value) with a number"),
        ("s + 1", "attempt to perform arithmetic on field 's' (a string value)"),
        ("no * 2", "attempt to perform arithmetic on field 'no' (a nil value)"),
        ("1 - list", "attempt to perform arithmetic on field 'list' (a table value)"),
        ("-no", "attempt to perform arithmetic on field 'no' (a nil value)"),
        ("s .. no", "attempt to concatenate field 'no' (a nil value)"),
        ("b .. 1", "attempt to concatenate field 'b' (a boolean value)"),
        ("1 < nil", "attempt to compare a number with a nil value"),
    ];
    for (expr, detail) in cases {
        assert_eq!(value(expr), Err(detail.to_owned()), "{expr}");
        assert_eq!(kept(expr), Err(detail.to_owned()), "{expr}");
    }
}

#[test]
fn filters_keep_what_is_true() {
    let cases = [
        ("i > 6", true),
        ("i > 7", false),
        ("7 <= i", true),
        ("7 < i", false),
        ("i == 7", true),
        ("i ~= 7", false),
        ("s == 7", false),
        ("s ~= 7", true),
        ("no == 7", false),
        ("no ~= 7", true),
        ("s == 'abc'", true),
        ("s ~= 'abc'", false),
        ("no ~= 'abc'", true),
        ("i ~= 'abc'", true),
        ("i > 6 and s == 'abc'", true),
        ("i > 6 and s ~= 'abc'", false),
        ("i > 7 and no > 1", false),
        ("i > 6 or no > 1", true),
        ("no ~= nil and no > 1", false),
        ("nul == nil", true),
        ("not b", true),
        ("b", false),
        ("list", true),
        ("no", false),
        ("i", true),
        ("i * 2 > f + 11", true),
        ("i - f < f", false),
        ("f == f", true),
        ("s == s", true),
        ("s == t", false),
        ("i > -1", true),
        ("t + 0 > 15", true),
        ("'x'", true),
    ];
    for (expr, keep) in cases {
        assert_eq!(kept(expr), Ok(keep), "{expr}");
    }
}

#[test]
fn a_row_that_fails_is_refused_as_it_was_and_the_others_go_on() {
    let schema = SharedSchema::new();
    let mut slab = sample(&schema);
    for i in 0..600 {
        push_sample(&mut slab, i);
    }
    slab.edit(300).set(0, Scalar::Absent).unwrap();
    slab.edit(600).set(0, Scalar::Str("x")).unwrap();
    let before = [300, 600].map(|at| format!("{:?}", slab.row(at)));
    let set = [("s", "'new'"), ("i", "i + 1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let mut operator = map("m", &set, &[], &[], &[], &schema).unwrap();
    let refused = run(&mut *operator, &mut slab, &mut []);
    let rows: Vec<_> = refused.0.iter().map(|(_, _, row)| row.clone()).collect();
    assert_eq!(rows, before);
    assert_eq!(slab.len(), 599);
    assert!(slab.rows().all(|row| matches!(row.get(2), ValueRef::Str("new"))));
    let numbers: Vec<_> = slab.rows().skip(1).filter_map(|row| row.number(0)).collect();
    let expected: Vec<_> = (0..600).filter(|i| ![299, 599].contains(i)).map(f64::from).collect();
    assert_eq!(numbers, expected.iter().map(|i| i + 1.0).collect::<Vec<_>>());
}

#[test]
fn expressions_see_the_incoming_message_and_shapes_follow_in_order() {
    let schema = SharedSchema::new();
    let mut slab = sample(&schema);
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut operator = map(
        "m",
        &pairs(&[("i", "f"), ("f", "i"), ("s", "t"), ("t", "s"), ("fresh", "list")]),
        &names(&["f"]),
        &pairs(&[("s", "moved")]),
        &names(&["i", "f", "t", "moved", "fresh"]),
        &schema,
    )
    .unwrap();
    assert!(run(&mut *operator, &mut slab, &mut []).0.is_empty());
    let shown = format!("{:?}", slab.row(0));
    let slot = |name: &str| schema.snapshot().slot(name).unwrap();
    assert_eq!((slot("fresh"), slot("moved")), (8, 9));
    assert_eq!(
        shown,
        "[Float(2.5), Absent, Absent, Str(\"abc\"), Absent, Absent, Absent, Absent, \
         List([Int(1)]), Str(\" 0x10 \")]"
    );
}

#[test]
fn a_route_takes_the_first_that_is_true() {
    let schema = SharedSchema::new();
    let mut slab = sample(&schema);
    slab.truncate(0);
    (0..10).for_each(|i| push_sample(&mut slab, i));
    slab.edit(9).set(0, Scalar::Absent).unwrap();
    let routes = [("low", "i < 3"), ("mid", "i < 6"), ("low", "i == 8")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()));
    let mut operator = route("r", &routes, Some("rest"), &schema).unwrap();
    assert_eq!(operator.ports(), ["low", "mid", "rest"]);
    let budget = Budget::new(1 << 20);
    let mut ports = [0; 3].map(|_| Slab::new(1024, &budget));
    let refused = run(&mut *operator, &mut slab, &mut ports);
    assert_eq!((refused.0.len(), slab.len()), (1, 0));
    let went = ports.map(|port| port.rows().filter_map(|row| row.number(0)).collect::<Vec<_>>());
    assert_eq!(went, [vec![0.0, 1.0, 2.0, 8.0], vec![3.0, 4.0, 5.0], vec![6.0, 7.0]]);
    let mut operator = route("r", &routes[..2], None, &schema).unwrap();
    let mut slab = Slab::new(1 << 14, &budget);
    (4..8).for_each(|i| push_sample(&mut slab, i));
    let mut ports = [0; 2].map(|_| Slab::new(1024, &budget));
    assert!(run(&mut *operator, &mut slab, &mut ports).0.is_empty());
    assert_eq!([ports[0].len(), ports[1].len()], [0, 2]);
}

#[test]
fn rows_that_find_no_memory_are_refused() {
    let schema = SharedSchema::new();
    let mut slab = sample(&schema);
    let tight = Budget::new(0);
    let mut small = Slab::new(1024, &tight);
    small.push_copy(slab.row(0)).unwrap();
    let set = [("s".to_owned(), format!("'{}'", "x".repeat(2000)))];
    let mut operator = map("m", &set, &[], &[], &[], &schema).unwrap();
    let refused = run(&mut *operator, &mut small, &mut []);
    assert_eq!((refused.0.len(), small.len()), (1, 0));
    assert_eq!(refused.0[0].0, Reason::Memory);
    assert!(run(&mut *operator, &mut slab, &mut []).0.is_empty());
    assert_eq!(slab.len(), 1);
}

#[test]
fn fields_without_a_slot_have_no_native_form() {
    let schema = SharedSchema::new();
    for n in 0..64 {
        schema.intern(&format!("f{n}")).unwrap();
    }
    assert!(filter("f", "f3 > 1", &schema).is_some());
    assert!(filter("f", "f64 > 1", &schema).is_none());
    let name = ["f64".to_owned()];
    assert!(map("m", &[], &name, &[], &[], &schema).is_none());
    assert!(map("m", &[], &[], &[], &name, &schema).is_none());
    assert!(filter("f", "string.len(f3)", &schema).is_none());
}
