//! The reference page, made from the table that the parser reads by.

use std::fmt::Write;

use crate::schema::{self, DEAD_LETTERS, Family, Key, Kind, Preset, Schema};
use crate::words::format_us;
use ringmain_base::units::format_bytes;

const HEAD: &str = "\
# Configuration reference

Every key of every table, made from the source of the loader: a test compares
this page with it (`UPDATE_GOLDEN=1 cargo test -p ringmain-config` rewrites it).

- Unknown keys are errors. Sizes and durations carry units: B, KB, KiB, MB, MiB,
  GB, GiB, TiB; us, ms, s, m, h, d.
- `${NAME}` in a string value is replaced from the environment, `${NAME:-default}`
  has a fallback, `$${` is a literal `${`. Nothing else is expanded.
- Relative paths of data are relative to the working directory; `script` is
  looked for beside the flow's file.
- Expressions are Lua over the fields of a message.
- Names of components and ports have up to 64 letters, digits, `_` and `-`, and
  begin with a letter or `_`.
";

/// The page as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(HEAD);
    out.push_str("\n# A flow\n");
    schema(&mut out, 2, &schema::FLOW, &[]);
    schema(&mut out, 2, &schema::PARTITION, &[]);
    schema(&mut out, 2, &schema::SCHEDULE, &[]);
    schema(&mut out, 3, &schema::MQTT_TRIGGER, &[]);
    family(&mut out, &schema::SOURCES, "Sources: `[sources.NAME]`");
    for s in [&schema::DECODE_CSV, &schema::MQTT_TOPIC, &schema::LAST_WILL, &schema::SERVER_TLS] {
        schema(&mut out, 3, s, &[]);
    }
    out.push_str("\n## Fields of a generator: `[sources.NAME.fields]`\n");
    for (_, s) in schema::FIELDS.types {
        schema(&mut out, 3, s, &["type"]);
    }
    family(&mut out, &schema::OPERATORS, "Operators: `[operators.NAME]`");
    schema(&mut out, 3, &schema::LIMITS, &[]);
    schema(&mut out, 3, &schema::LIMIT, &[]);
    schema(&mut out, 3, &schema::INPUT, &[]);
    family(&mut out, &schema::SINKS, "Sinks: `[sinks.NAME]`");
    for s in [
        &schema::ENCODE_CSV,
        &schema::ROTATE,
        &schema::RETRY,
        &schema::CIRCUIT_BREAKER,
        &schema::HTTP_BATCH,
        &schema::CLIENT_TLS,
        &schema::SPILL,
        &schema::DEDUPE,
        &schema::EVENT_TYPE,
        &schema::EVENT_FIELD,
    ] {
        schema(&mut out, 3, s, &[]);
    }
    let types = DEAD_LETTERS.names().join(", ");
    let _ = write!(
        out,
        "\n## Dead letters: `[dead_letters]`\n\nA sink without `inputs`, of type {types}. It gets \
         what any component of the flow\nrefuses.\n"
    );
    schema(&mut out, 2, &schema::TEST, &[]);
    for s in [&schema::TEST_INSERT, &schema::TEST_EXPECT, &schema::TEST_STEP] {
        schema(&mut out, 3, s, &[]);
    }
    out.push_str("\n# The daemon's own file\n");
    schema(&mut out, 2, &schema::ROOT, &[]);
    for s in [
        &schema::DAEMON,
        &schema::SHARDS,
        &schema::API,
        &schema::TLS,
        &schema::AUTH,
        &schema::TOKEN,
        &schema::METRICS,
        &schema::LOG,
    ] {
        schema(&mut out, 2, s, &[]);
    }
    out
}

/// Keys that every type of a family has, then each type with its own.
fn family(out: &mut String, family: &Family, title: &str) {
    let _ = write!(out, "\n## {title}\n\nTypes: {}.\n", family.names().join(", "));
    let all: Vec<Vec<&Key>> = family.types.iter().map(|(_, s)| s.all()).collect();
    // Shared by more than half: shown once, with the exceptions named.
    let shared: Vec<&Key> = all
        .iter()
        .flatten()
        .filter(|key| all.iter().flatten().filter(|k| same(k, key)).count() * 2 > all.len())
        .fold(Vec::new(), |mut keys, key| {
            if !keys.iter().any(|k| same(k, key)) {
                keys.push(key);
            }
            keys
        });
    table(out, &shared);
    for (name, s) in family.types {
        let lacking: Vec<String> = shared
            .iter()
            .filter(|k| s.key(k.name).is_none())
            .map(|k| format!("`{}`", k.name))
            .collect();
        if !lacking.is_empty() {
            let _ = writeln!(out, "\nA {name} {} has no {}.", family.noun, lacking.join(", "));
        }
    }
    let names: Vec<&str> = shared.iter().map(|k| k.name).collect();
    for (_, s) in family.types {
        schema(out, 3, s, &names);
    }
}

fn same(a: &Key, b: &Key) -> bool {
    a.name == b.name && a.about == b.about
}

fn schema(out: &mut String, level: usize, schema: &Schema, hidden: &[&str]) {
    let _ = write!(out, "\n{} `{}`\n", "#".repeat(level), schema.header);
    if !schema.about.is_empty() {
        let _ = write!(out, "\n{}\n", schema.about);
    }
    let keys: Vec<&Key> = schema.all().into_iter().filter(|k| !hidden.contains(&k.name)).collect();
    if !keys.is_empty() {
        table(out, &keys);
    }
}

fn table(out: &mut String, keys: &[&Key]) {
    out.push_str("\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in keys {
        let preset = match key.preset {
            Preset::Required => "**required**".to_owned(),
            Preset::Absent(words) => words.to_owned(),
            Preset::Value(text) => match key.kind {
                Kind::Bool | Kind::Int(..) | Kind::Number(..) => format!("`{text}`"),
                _ => format!("`\"{text}\"`"),
            },
        };
        let value = value(key.kind).replace('|', "\\|");
        let about = key.about.replace('|', "\\|");
        let _ = writeln!(out, "| `{}` | {value} | {preset} | {about} |", key.name);
    }
}

fn value(kind: Kind) -> String {
    match kind {
        Kind::OneOf(names) => {
            names.iter().map(|n| format!("`\"{n}\"`")).collect::<Vec<_>>().join(", ")
        }
        Kind::Int(min, max) => match (min, max) {
            (i64::MIN, i64::MAX) => "integer".into(),
            (min, i64::MAX) => format!("integer from {min}"),
            (min, max) => format!("integer, {min} to {max}"),
        },
        Kind::Number(min, max) if min == f64::MIN && max == f64::MAX => "number".into(),
        Kind::Number(min, max) => format!("number, {min} to {max}"),
        Kind::Size(min, max) => format!("size, {} to {}", format_bytes(min), format_bytes(max)),
        Kind::Time(min, max) => format!("duration, {} to {}", format_us(min), format_us(max)),
        Kind::Bool => "boolean".into(),
        Kind::Text => "string".into(),
        Kind::Expr => "expression".into(),
        Kind::Texts => "string or list of strings".into(),
        Kind::Other(what) => what.trim_start_matches("a ").into(),
    }
}
