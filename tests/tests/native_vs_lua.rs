//! An expression means the same, whether it runs natively or in LuaJIT: the
//! same rows stay, with the same values, and the same ones are refused.

use proptest::collection::vec;
use proptest::prelude::*;
use ringmain_base::{Now, Reason};
use ringmain_ops::{Context, Operator, Refuse, native};
use ringmain_slab::{Budget, RowRef, Scalar, Scratch, SharedSchema, Slab, ValueRef};

/// Fields that rows have; `z` is set by nobody.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "z"];
const FIELDS: u16 = 5;

#[derive(Clone, Debug)]
enum Field {
    Absent,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Number(&'static str),
    Str(String),
    Bytes(Vec<u8>),
    List(Vec<i32>),
}

fn number() -> BoxedStrategy<f64> {
    prop_oneof![
        3 => (-20i32..20).prop_map(f64::from),
        2 => (-2000i32..2000).prop_map(|n| f64::from(n) / 16.0),
        1 => prop_oneof![
            Just(0.0), Just(-0.0), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(1e15),
            Just(9_007_199_254_740_993.0), Just(-9_007_199_254_740_992.0), Just(1e-7), Just(1e300),
        ],
        1 => any::<f64>().prop_filter("NaN has many forms", |n| !n.is_nan()),
    ]
    .boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        3 => "[ab]{0,3}",
        3 => "[ \\t]?-?(0x)?[0-9a]{1,3}(\\.[05]?)?(e[12])?[ ]?",
        1 => prop_oneof![
            Just("inf".to_owned()), Just("nan".to_owned()), Just("0x1p3".to_owned()),
            Just("0b11".to_owned()), Just("1e".to_owned()), Just("é".to_owned()),
            Just("12\0".to_owned()), Just(" ".to_owned()),
        ],
    ]
    .boxed()
}

fn field() -> BoxedStrategy<Field> {
    prop_oneof![
        2 => Just(Field::Absent),
        1 => Just(Field::Null),
        1 => any::<bool>().prop_map(Field::Bool),
        4 => (-20i64..20).prop_map(Field::Int),
        1 => any::<i64>().prop_map(Field::Int),
        4 => number().prop_map(Field::Float),
        1 => prop_oneof![Just("123456789012345678901"), Just("1e400"), Just("0.1")]
            .prop_map(Field::Number),
        4 => text().prop_map(Field::Str),
        1 => vec(prop_oneof![Just(b'a'), Just(0xFFu8), Just(b'1')], 0..3).prop_map(Field::Bytes),
        1 => vec(0i32..9, 1..3).prop_map(Field::List),
    ]
    .boxed()
}

fn literal() -> BoxedStrategy<String> {
    prop_oneof![
        3 => (0i32..20).prop_map(|n| n.to_string()),
        2 => (0i32..200).prop_map(|n| (f64::from(n) / 8.0).to_string()),
        1 => prop_oneof![
            Just("0x1F"), Just("1e3"), Just(".5"), Just("5e-1"), Just("0xA.8p1"), Just("1e308"),
            Just("nil"), Just("true"), Just("false"),
        ].prop_map(str::to_owned),
        2 => text().prop_map(|text| quote(&text)),
        1 => prop_oneof![Just(r"'\xff'"), Just(r"'\97b'"), Just(r"'a\n'")].prop_map(str::to_owned),
    ]
    .boxed()
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\t', "\\t").replace('\0', "\\000"))
}

/// Texts of expressions; some with parentheses where none are needed, and some
/// without where that changes what binds to what.
fn expression() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        5 => proptest::sample::select(&NAMES[..]).prop_map(str::to_owned),
        3 => literal(),
    ];
    leaf.prop_recursive(4, 24, 2, |inner| {
        let signs = &[
            "+", "-", "*", "/", "%", "^", "..", "==", "~=", "<", "<=", ">", ">=", "and", "or",
            "and", "or", "==", "+",
        ][..];
        prop_oneof![
            8 => (inner.clone(), proptest::sample::select(signs), inner.clone())
                .prop_map(|(left, sign, right)| format!("{left} {sign} {right}")),
            3 => inner.clone().prop_map(|inner| format!("({inner})")),
            1 => inner.clone().prop_map(|inner| format!("not {inner}")),
            1 => inner.clone().prop_map(|inner| format!("- {inner}")),
            2 => (inner.clone(), literal(), literal())
                .prop_map(|(when, yes, no)| format!("({when}) and {yes} or {no}")),
        ]
    })
    .boxed()
}

fn build(rows: &[Vec<Field>]) -> Slab {
    let mut slab = Slab::new(256 << 10, &Budget::new(1 << 20));
    let mut scratch = Scratch::default();
    for (at, fields) in rows.iter().enumerate() {
        // Some rows are older than their last field.
        let slots = FIELDS - u16::from(at % 3 == 2);
        let mut row = slab.build(slots, slots, &mut scratch);
        for (slot, field) in (0..slots).zip(fields) {
            match field {
                Field::Absent => {}
                Field::Null => row.set(slot, Scalar::Null),
                Field::Bool(value) => row.set(slot, Scalar::Bool(*value)),
                Field::Int(value) => row.set(slot, Scalar::Int(*value)),
                Field::Float(value) => row.set(slot, Scalar::Float(*value)),
                Field::Number(text) => row.set(slot, Scalar::Number(text)),
                Field::Str(text) => row.set(slot, Scalar::Str(text)),
                Field::Bytes(bytes) => row.set(slot, Scalar::Bytes(bytes)),
                Field::List(items) => {
                    let mut tree = row.tree(slot);
                    assert!(tree.list());
                    items.iter().for_each(|item| tree.scalar(Scalar::Int(i64::from(*item))));
                    tree.close();
                    tree.finish();
                }
            }
        }
        row.finish(at as i64).expect("the slab has room");
    }
    slab
}

/// A row as text, that of its time stamp first. NaN is NaN, whatever its sign.
fn show(row: RowRef<'_>) -> String {
    let mut out = format!("{}:", row.ts());
    for slot in 0..FIELDS + 3 {
        match row.get(slot) {
            ValueRef::Float(value) if value.is_nan() => out.push_str(" nan"),
            ValueRef::Float(value) => out.push_str(&format!(" {:016x}", value.to_bits())),
            value => out.push_str(&format!(" {value:?}")),
        }
    }
    out
}

#[derive(Default)]
struct Refused(Vec<String>);

impl Refuse for Refused {
    fn refuse(&mut self, row: RowRef<'_>, reason: Reason, _: &str) {
        self.0.push(format!("{reason:?} {}", show(row)));
    }
}

/// What leaves: the rows that stay, those in each port, those refused.
fn run(operator: &mut dyn Operator, rows: &[Vec<Field>]) -> Vec<Vec<String>> {
    let mut slab = build(rows);
    let budget = Budget::new(1 << 20);
    let mut ports: Vec<Slab> = operator.ports().iter().map(|_| Slab::new(4096, &budget)).collect();
    let mut refused = Refused::default();
    let now = Now { mono_us: 0, wall_us: 0 };
    operator.process(&mut slab, &mut Context { now, refuse: &mut refused, ports: &mut ports });
    let mut left: Vec<Vec<String>> =
        std::iter::once(&slab).chain(&ports).map(|slab| slab.rows().map(show).collect()).collect();
    refused.0.sort();
    left.push(refused.0);
    left
}

fn schema() -> SharedSchema {
    let schema = SharedSchema::new();
    for name in NAMES {
        schema.intern(name).expect("six fields have slots");
    }
    schema
}

fn rows() -> BoxedStrategy<Vec<Vec<Field>>> {
    // Mostly rows of one type per field, which the fast forms are for.
    let usual =
        (-20i64..20, number(), "[ab]{0,2}", any::<bool>(), number()).prop_map(|(a, b, c, d, e)| {
            vec![Field::Int(a), Field::Float(b), Field::Str(c), Field::Bool(d), Field::Float(e)]
        });
    vec(prop_oneof![2 => usual, 3 => vec(field(), 5..=5)], 1..12).boxed()
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_filter_keeps_the_same_rows(expr in expression(), rows in rows()) {
        let schema = schema();
        let native = native::filter("f", &expr, &schema);
        let mut native = native.ok_or_else(|| TestCaseError::fail("no native form"))?;
        let mut lua = ringmain_lua::filter("f", &expr, &schema)
            .map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        prop_assert_eq!(run(&mut *native, &rows), run(&mut *lua, &rows));
    }

    #[test]
    fn a_map_makes_the_same_values(
        exprs in vec(expression(), 1..4),
        targets in proptest::sample::subsequence(vec!["a", "b", "x", "y", "e"], 3).prop_shuffle(),
        rename in proptest::option::of(Just([("x".to_owned(), "c".to_owned())])),
        remove in proptest::option::of(Just(["d".to_owned()])),
        keep in proptest::option::of(Just(["a", "x", "c", "z"].map(str::to_owned))),
        rows in rows(),
    ) {
        let schema = schema();
        let set: Vec<(String, String)> =
            targets.iter().zip(&exprs).map(|(to, expr)| ((*to).to_owned(), expr.clone())).collect();
        let (rename, remove) = (rename.as_slice().concat(), remove.as_slice().concat());
        let native = native::map(
            "m", &set, &remove, &rename, keep.as_ref().map_or(&[], |keep| &keep[..]), &schema,
        );
        let mut native = native.ok_or_else(|| TestCaseError::fail("no native form"))?;
        let whole = ringmain_lua::Map {
            set: &set,
            rename: &rename,
            remove: &remove,
            keep: keep.as_ref().map(|keep| &keep[..]),
        };
        let mut lua = ringmain_lua::map("m", &whole, &schema)
            .map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        prop_assert_eq!(run(&mut *native, &rows), run(&mut *lua, &rows));
    }

    #[test]
    fn a_route_takes_the_same_ways(
        exprs in vec(expression(), 1..4),
        default in proptest::option::of(Just("rest")),
        rows in rows(),
    ) {
        let schema = schema();
        let routes: Vec<(String, String)> = ["one", "two", "one"]
            .iter()
            .zip(&exprs)
            .map(|(port, expr)| ((*port).to_owned(), expr.clone()))
            .collect();
        let native = native::route("r", &routes, default, &schema);
        let mut native = native.ok_or_else(|| TestCaseError::fail("no native form"))?;
        let mut lua = ringmain_lua::route("r", &routes, default, &schema)
            .map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        prop_assert_eq!(run(&mut *native, &rows), run(&mut *lua, &rows));
    }
}

/// Values at which types, texts and numbers have their edges.
fn edges() -> Vec<Field> {
    let floats = [
        0.0,
        -0.0,
        0.5,
        -2.5,
        1e14,
        123_456_789_012_345.0,
        1e15,
        9_007_199_254_740_991.0,
        9_007_199_254_740_992.0,
        1e-5,
        1e-4,
        1e22,
        5e-324,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.1,
        1.0 / 3.0,
        1_000_000_000_000.25,
        99_999_999_999_999.5,
    ];
    let texts = [
        "",
        "a",
        "b",
        "ab",
        "10",
        " 0x10 ",
        "1e1",
        "-0",
        "inf",
        "nan",
        "1e999",
        "0b101",
        "é",
        "a\0b",
        "1_0",
        "0x8000000000000400",
        "0x80000000000004000001",
        "5.",
        ".5",
        "+1",
        "0x.8p1",
        "1 2",
        "\t7\n",
        "0x",
        "1e+",
        "99999999999999999999",
    ];
    let bytes: [&[u8]; 3] = [b"", b"10", b"\xFFa"];
    [Field::Absent, Field::Null, Field::Bool(true), Field::Bool(false)]
        .into_iter()
        .chain([0, 1, -7, i64::MAX, i64::MIN, (1 << 53) + 1].map(Field::Int))
        .chain(floats.map(Field::Float))
        .chain(["123456789012345678901", "1e400", "-0.10"].map(Field::Number))
        .chain(texts.map(|text| Field::Str(text.to_owned())))
        .chain(bytes.map(|bytes| Field::Bytes(bytes.to_vec())))
        .chain([Field::List(vec![1, 2])])
        .collect()
}

#[test]
fn every_operator_agrees_on_every_pair_of_values() {
    let schema = schema();
    let edges = edges();
    let signs = ["+", "-", "*", "/", "%", "^", "..", "==", "~=", "<", "<=", ">", ">=", "and", "or"];
    let one = ["a", "-a", "not a", "a .. ''", "a + 0", "a == nil", "a and 'x' or 'y'", "a == 10"];
    let two = signs.map(|sign| format!("a {sign} b"));
    let constants = ["1", "0.5", "'10'", "'a'", "true", "nil"];
    let with_constants = signs.iter().flat_map(|sign| {
        constants.iter().flat_map(move |c| [format!("a {sign} {c}"), format!("{c} {sign} a")])
    });
    let exprs = one.map(str::to_owned).into_iter().chain(two).chain(with_constants);
    for expr in exprs {
        let set = [("x".to_owned(), expr.clone())];
        let mut filters: [Box<dyn Operator>; 2] = [
            native::filter("f", &expr, &schema).expect("a native form"),
            ringmain_lua::filter("f", &expr, &schema).expect("an expression"),
        ];
        let whole = ringmain_lua::Map { set: &set, ..Default::default() };
        let mut maps: [Box<dyn Operator>; 2] = [
            native::map("m", &set, &[], &[], &[], &schema).expect("a native form"),
            ringmain_lua::map("m", &whole, &schema).expect("an expression"),
        ];
        let only_a = !expr.contains('b');
        for b in &edges[..if only_a { 1 } else { edges.len() }] {
            let row =
                |a: &Field| vec![a.clone(), b.clone(), Field::Absent, Field::Absent, Field::Absent];
            let rows: Vec<_> = edges.iter().map(row).collect();
            let [native, lua] = filters.each_mut().map(|operator| run(&mut **operator, &rows));
            assert_eq!(native, lua, "filter {expr}, b = {b:?}");
            let [native, lua] = maps.each_mut().map(|operator| run(&mut **operator, &rows));
            assert_eq!(native, lua, "map {expr}, b = {b:?}");
        }
    }
}
