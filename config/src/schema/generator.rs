//! Keys of the fields that a generator fills.

use super::Kind::{Int, Number, OneOf, Other, Text};
use super::{Family, Schema, def, req};

const ANY: (i64, i64) = (i64::MIN, i64::MAX);

static TYPE: Schema = Schema {
    title: "a field",
    header: "",
    about: "",
    parents: &[],
    keys: &[req("type", Text, "What fills the field.")],
};

pub(crate) static FIELD_CONST: Schema = Schema {
    title: "a const field",
    header: "{ type = \"const\" }",
    about: "The same value in every message. `site = \"north\"` is short for it.",
    parents: &[&TYPE],
    keys: &[req("value", Other("a string, number or boolean"), "The value.")],
};

pub(crate) static FIELD_INT: Schema = Schema {
    title: "an int field",
    header: "{ type = \"int\" }",
    about: "A random integer.",
    parents: &[&TYPE],
    keys: &[
        def("min", Int(ANY.0, ANY.1), "0", "Least value."),
        def("max", Int(ANY.0, ANY.1), "100", "Greatest value."),
    ],
};

pub(crate) static FIELD_FLOAT: Schema = Schema {
    title: "a float field",
    header: "{ type = \"float\" }",
    about: "A random float.",
    parents: &[&TYPE],
    keys: &[
        def("min", Number(f64::MIN, f64::MAX), "0", "Least value."),
        def("max", Number(f64::MIN, f64::MAX), "1", "Greatest value."),
        def("decimals", Int(0, 15), "2", "Digits after the point."),
    ],
};

pub(crate) static FIELD_BOOL: Schema = Schema {
    title: "a bool field",
    header: "{ type = \"bool\" }",
    about: "A random boolean.",
    parents: &[&TYPE],
    keys: &[def("probability", Number(0.0, 1.0), "0.5", "Share of messages with true.")],
};

pub(crate) static FIELD_CHOICE: Schema = Schema {
    title: "a choice field",
    header: "{ type = \"choice\" }",
    about: "One of a few values, evenly.",
    parents: &[&TYPE],
    keys: &[req(
        "values",
        Other("a list of strings, numbers or booleans"),
        "What to choose from. Write a value twice to double its share.",
    )],
};

pub(crate) static FIELD_NAME: Schema = Schema {
    title: "a name field",
    header: "{ type = \"name\" }",
    about: "A prefix and a random number, for example `motor-0042`.",
    parents: &[&TYPE],
    keys: &[
        def("prefix", Text, "device-", "What stands before the number."),
        def("count", Int(1, 1_000_000_000), "1000", "How many different names there are."),
        def("digits", Int(0, 18), "4", "Digits of the number, with leading zeros."),
    ],
};

pub(crate) static FIELD_SEQUENCE: Schema = Schema {
    title: "a sequence field",
    header: "{ type = \"sequence\" }",
    about: "An integer that counts up.",
    parents: &[&TYPE],
    keys: &[
        def("start", Int(ANY.0, ANY.1), "0", "Value of the first message."),
        def("step", Int(ANY.0, ANY.1), "1", "What is added for each message."),
    ],
};

pub(crate) static FIELD_STRING: Schema = Schema {
    title: "a string field",
    header: "{ type = \"string\" }",
    about: "Random lower-case letters.",
    parents: &[&TYPE],
    keys: &[def("length", Int(0, 1 << 20), "16", "How many letters.")],
};

pub(crate) static FIELD_TIMESTAMP: Schema = Schema {
    title: "a timestamp field",
    header: "{ type = \"timestamp\" }",
    about: "The time at which the message is made, as an integer since 1970.",
    parents: &[&TYPE],
    keys: &[def("unit", OneOf(&["s", "ms", "us"]), "ms", "Unit of the integer.")],
};

pub(crate) static FIELDS: Family = Family {
    noun: "field",
    types: &[
        ("const", &FIELD_CONST),
        ("int", &FIELD_INT),
        ("float", &FIELD_FLOAT),
        ("bool", &FIELD_BOOL),
        ("choice", &FIELD_CHOICE),
        ("name", &FIELD_NAME),
        ("sequence", &FIELD_SEQUENCE),
        ("string", &FIELD_STRING),
        ("timestamp", &FIELD_TIMESTAMP),
    ],
};
