//! Changing one table of a flow's text, and nothing else of it.

use crate::diagnostics::Diagnostics;
use crate::span::{FileId, Spanned};
use crate::value::{self, Table, Value};

const TABLE: &str = "schedule";

/// The text with another `[schedule]`, whose keys are `keys`, or with none.
/// What else is written stays as it is.
///
/// # Errors
/// In words, when the text, or what it would become, is not what was meant.
pub fn with_schedule(text: &str, keys: Option<&str>) -> Result<String, String> {
    let before = parse(text).ok_or("the definition is not TOML")?;
    let mut out = without(text, &before);
    if let Some(keys) = keys {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&format!("\n[{TABLE}]\n{}\n", keys.trim_end()));
    }
    let same = |after: &Table| {
        let others = |table: &Table| -> Vec<(String, Value)> {
            let others = table.entries.iter().filter(|(key, _)| key.value != TABLE);
            others.map(|(key, value)| (key.value.clone(), value.value.clone())).collect()
        };
        others(after) == others(&before) && after.get(TABLE).is_some() == keys.is_some()
    };
    if parse(&out).as_ref().is_some_and(same) {
        return Ok(out);
    }
    Err(match keys {
        Some(_) => "give the keys of [schedule] in TOML, such as cron = \"0 0 6 * * *\"".to_owned(),
        None => "its [schedule] does not stand on lines of its own: edit the definition".to_owned(),
    })
}

fn parse(text: &str) -> Option<Table> {
    let mut found = Diagnostics::default();
    value::parse(FileId(u32::MAX), text, &mut found).filter(|_| !found.has_errors())
}

fn without(text: &str, table: &Table) -> String {
    let Some((key, value)) = table.entry(TABLE) else { return text.to_owned() };
    let start = text[..key.span.start].rfind('\n').map_or(0, |at| at + 1);
    let last = end_of(value).max(key.span.end);
    let end = text[last..].find('\n').map_or(text.len(), |at| last + at + 1);
    format!("{}{}", text[..start].trim_end_matches('\n').to_owned() + "\n", &text[end..])
}

/// Where the last of it stands.
fn end_of(value: &Spanned<Value>) -> usize {
    let inner = match &value.value {
        Value::Table(table) => table.entries.iter().map(|(_, value)| end_of(value)).max(),
        _ => None,
    };
    inner.unwrap_or(0).max(value.span.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = "name = \"a\"\n\n[schedule] # nightly\ncron = \"0 0 6 * * *\"\nduration = \
                        \"1h\" # long\n\n# The lines.\n[sources.in]\ntype = \"stdin\"\n";

    #[test]
    fn a_schedule_is_replaced_taken_away_and_added_and_nothing_else_changes() {
        let replaced = with_schedule(FLOW, Some("files = \"*.csv\"\n")).unwrap();
        assert_eq!(
            replaced,
            "name = \"a\"\n\n# The lines.\n[sources.in]\ntype = \"stdin\"\n\n[schedule]\nfiles = \
             \"*.csv\"\n"
        );
        let removed = with_schedule(&replaced, None).unwrap();
        assert_eq!(removed, "name = \"a\"\n\n# The lines.\n[sources.in]\ntype = \"stdin\"\n");
        assert_eq!(with_schedule(&removed, None).unwrap(), removed);
        let added = with_schedule("schedule = { cron = \"x\" }\nname = \"a\"", Some("history = 1"));
        assert_eq!(added.unwrap(), "\nname = \"a\"\n\n[schedule]\nhistory = 1\n");
    }

    #[test]
    fn tables_of_a_schedule_go_with_it() {
        let text = "[schedule]\nhistory = 3\n[schedule.mqtt]\nurl = \"mqtt://b\"\ntopics = [\n  \
                    \"a\",\n]\n\n[sources.in]\ntype = \"stdin\"\n";
        let removed = with_schedule(text, None).unwrap();
        assert_eq!(removed.trim_start(), "[sources.in]\ntype = \"stdin\"\n");
        let inline = "mqtt = { url = \"mqtt://b\", topics = \"a\" }";
        assert!(with_schedule(text, Some(inline)).unwrap().trim_end().ends_with(inline));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for keys in ["cron =", "[sinks.x]\ntype = \"stdout\"", "a = 1\n[schedule]\nb = 2"] {
            assert!(with_schedule(FLOW, Some(keys)).is_err(), "{keys}");
        }
        let scattered = "schedule.cron = \"x\"\nname = \"a\"\nschedule.history = 1\n";
        assert!(with_schedule(scattered, None).is_err());
    }
}
