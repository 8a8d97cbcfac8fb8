//! `ringmain flows`: what runs, and changing it.

use ringmain_base::units::grouped;
use serde_json::Value;

use crate::args::{FlowsArgs, FlowsCommand, StoredArgs};
use crate::client::{Client, encoded};
use crate::table::Table;

/// Obeys; what is to be printed.
pub(crate) fn run(args: &FlowsArgs) -> Result<String, String> {
    let client = Client::new(&args.api)?;
    let answer = ask(&client, &args.command)?;
    if args.api.json {
        let text = serde_json::to_string_pretty(&answer).map_err(|error| error.to_string())?;
        return Ok(text + "\n");
    }
    Ok(match &args.command {
        FlowsCommand::List => list(&answer),
        FlowsCommand::Show { .. } => show(&answer),
        FlowsCommand::Definition { .. } => answer.as_str().unwrap_or_default().to_owned(),
        FlowsCommand::Versions { .. } => versions(&answer),
        FlowsCommand::Schedule(args) if !args.changes() => crate::schedule::show(&answer),
        FlowsCommand::Dead { show: None, .. } => letters(&answer),
        FlowsCommand::Dead { .. } => lines(&answer["letters"]),
        FlowsCommand::Replay { .. } => return replayed(&answer),
        FlowsCommand::Scripts { .. } => scripts(&answer),
        _ => done(&answer),
    })
}

fn ask(client: &Client, command: &FlowsCommand) -> Result<Value, String> {
    let flow = |name: &str| format!("/api/v1/flows/{name}");
    match command {
        FlowsCommand::List => client.get("/api/v1/flows"),
        FlowsCommand::Show { name } => client.get(&flow(name)),
        FlowsCommand::Definition { name } => client.get(&format!("{}/definition", flow(name))),
        FlowsCommand::Versions { name } => client.get(&format!("{}/versions", flow(name))),
        FlowsCommand::Deploy { file, stopped } => {
            let read = std::fs::read_to_string(file);
            let text = read.map_err(|e| format!("{}: cannot be read: {e}", file.display()))?;
            let name = ringmain_config::flow_name(&text);
            let known = name.filter(|name| client.get(&flow(name)).is_ok());
            match known {
                Some(name) if *stopped => {
                    client.put(&format!("{}?deploy=false", flow(&name)), &text)
                }
                Some(name) => client.put(&flow(&name), &text),
                None => client.post(&format!("/api/v1/flows?deploy={}", !stopped), &text),
            }
        }
        FlowsCommand::Start { name } => client.post(&format!("{}/start", flow(name)), ""),
        FlowsCommand::Stop { name } => client.post(&format!("{}/stop", flow(name)), ""),
        FlowsCommand::Delete { name } => client.delete(&flow(name)),
        FlowsCommand::Clone { name, to } => {
            client.post(&format!("{}/clone?to={to}", flow(name)), "")
        }
        FlowsCommand::Rollback { name, version } => {
            client.post(&format!("{}/rollback/{version}", flow(name)), "")
        }
        FlowsCommand::Schedule(args) => crate::schedule::ask(client, args),
        FlowsCommand::Reload => client.post("/api/v1/reload", ""),
        FlowsCommand::Dead { which, show } => {
            let limit = show.map(|count| count.to_string());
            client.get(&stored(which, "", &[("limit", limit.as_deref())]))
        }
        FlowsCommand::Replay { which, at } => {
            client.post(&stored(which, "/replay", &[("at", at.as_deref())]), "")
        }
        FlowsCommand::Scripts { name, reload } => {
            if *reload {
                client.post(&format!("{}/scripts/reload", flow(name)), "")?;
            }
            client.get(&format!("{}/scripts", flow(name)))
        }
    }
}

/// The path of dead letters.
fn stored(which: &StoredArgs, rest: &str, more: &[(&str, Option<&str>)]) -> String {
    let which_of = [("component", which.component.as_deref()), ("reason", which.reason.as_deref())];
    let pairs = which_of.iter().chain(more).filter_map(|(key, value)| Some((key, (*value)?)));
    let query: Vec<_> = pairs.map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    format!("/api/v1/flows/{}/dead_letters{rest}?{}", encoded(&which.name), query.join("&"))
}

fn letters(page: &Value) -> String {
    let mut table = Table::new(&["component", "reason", "letters", "first", "last", "last detail"]);
    for kind in page["kinds"].as_array().into_iter().flatten() {
        let words = |key: &str| text(&kind[key]);
        table.row(vec![
            words("component"),
            words("reason"),
            number(&kind["count"]),
            words("first"),
            words("last"),
            words("detail"),
        ]);
    }
    let rest = if page["complete"] == false { "only the newest part was looked at\n" } else { "" };
    format!("{table}{rest}")
}

/// Letters, one per line.
fn lines(letters: &Value) -> String {
    let letters = letters.as_array().into_iter().flatten();
    letters.map(|letter| format!("{}\n", letter["letter"])).collect()
}

fn replayed(done: &Value) -> Result<String, String> {
    let (count, refused) = (number(&done["replayed"]), number(&done["refused"]));
    let said = format!("{count} put back in, {refused} refused again");
    if done["refused"].as_u64() == Some(0) { Ok(said + "\n") } else { Err(said) }
}

fn scripts(scripts: &Value) -> String {
    let head = ["operator", "file", "version", "hash", "since", "swaps", "error"];
    let mut table = Table::new(&head);
    for script in scripts.as_array().into_iter().flatten() {
        let words = |key: &str| text(&script[key]);
        table.row(vec![
            words("operator"),
            words("file"),
            words("version"),
            words("hash"),
            words("swapped_at"),
            number(&script["swaps"]),
            words("last_error"),
        ]);
    }
    table.to_string()
}

fn list(flows: &Value) -> String {
    let mut table = Table::new(&[
        "flow",
        "status",
        "in/s",
        "out/s",
        "backpressure",
        "runners",
        "rejected",
        "created by",
        "schedule",
        "last run",
        "next run",
    ]);
    for flow in flows.as_array().into_iter().flatten() {
        table.row(vec![
            text(&flow["name"]),
            text(&flow["status"]),
            number(&flow["throughput_in"]),
            number(&flow["throughput_out"]),
            format!("{} %", number(&flow["backpressure_percent"])),
            number(&flow["runners"]),
            number(&flow["rejected"]),
            text(&flow["creator"]),
            text(&flow["schedule"]),
            crate::schedule::last_run(flow),
            text(&flow["next_run"]),
        ]);
    }
    table.to_string()
}

fn show(flow: &Value) -> String {
    let mut out = format!(
        "{}: {} ({}), created {} by {}\n\n",
        text(&flow["name"]),
        text(&flow["status"]),
        text(&flow["phase"]),
        text(&flow["created"]),
        text(&flow["creator"]),
    );
    if let Some(change) = flow["last_change"].as_str() {
        out.push_str(&format!("last change, {}: {change}\n\n", text(&flow["last_changed"])));
    }
    for error in flow["errors"].as_array().into_iter().flatten() {
        out.push_str(&format!("error: {}\n", text(error)));
    }
    let mut table =
        Table::new(&["component", "in", "out", "dropped", "dead", "in/s", "pull us", "health"]);
    for component in flow["components"].as_array().into_iter().flatten() {
        let health = match component["health_detail"].as_str() {
            Some(why) => why.to_owned(),
            None => text(&component["health"]),
        };
        table.row(vec![
            text(&component["name"]),
            number(&component["messages_in"]),
            number(&component["messages_out"]),
            number(&component["dropped"]),
            number(&component["dead"]),
            number(&component["rate_in"]),
            number(&component["pull_latency_us"]),
            health,
        ]);
    }
    out.push_str(&table.to_string());
    out.push('\n');
    let mut table = Table::new(&["edge", "backpressure", "queued"]);
    for edge in flow["edges"].as_array().into_iter().flatten() {
        table.row(vec![
            format!("{} -> {}", text(&edge["from"]), text(&edge["to"])),
            format!("{} %", number(&edge["backpressure_percent"])),
            number(&edge["queued_batches"]),
        ]);
    }
    out.push_str(&table.to_string());
    out
}

fn versions(versions: &Value) -> String {
    let mut table = Table::new(&["version", "created", "by", "action"]);
    for version in versions.as_array().into_iter().flatten() {
        table.row(vec![
            number(&version["version"]),
            text(&version["created"]),
            text(&version["creator"]),
            text(&version["action"]),
        ]);
    }
    table.to_string()
}

fn done(report: &Value) -> String {
    let flows: Vec<_> = report["flows"].as_array().into_iter().flatten().map(text).collect();
    let drained = if report["drained"] == false { ", not drained in time" } else { "" };
    let (action, ms) = (text(&report["action"]), number(&report["duration_ms"]));
    let flows = if flows.is_empty() { "flows".to_owned() } else { flows.join(", ") };
    let mut said = format!("{flows}: {action} in {ms} ms{drained}\n");
    said.push_str(&components(&report["components"]));
    report["reports"].as_array().into_iter().flatten().for_each(|each| said.push_str(&done(each)));
    said
}

/// What became of the components of a flow.
fn components(of: &Value) -> String {
    let mut said = String::new();
    for what in ["kept", "rebuilt", "added", "removed"] {
        let names: Vec<_> = of[what].as_array().into_iter().flatten().map(text).collect();
        if !names.is_empty() {
            said.push_str(&format!("  {what}: {}\n", names.join(", ")));
        }
    }
    if let Some(why) = of["whole"].as_str() {
        said.push_str(&format!("  nothing was kept: {why}\n"));
    }
    if let Some(discarded) = of["discarded"].as_u64().filter(|count| *count > 0) {
        said.push_str(&format!("  discarded, since no sink took them in time: {discarded}\n"));
    }
    said
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A number as people read it.
pub(crate) fn number(value: &Value) -> String {
    let Some(number) = value.as_f64() else { return String::new() };
    if number.fract() == 0.0 || number >= 100.0 {
        return grouped(number as u64);
    }
    format!("{number:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_small_rates_keep_a_tenth() {
        for (value, text) in [(0.0, "0"), (0.25, "0.2"), (12.0, "12"), (1_234_567.8, "1,234,567")] {
            assert_eq!(number(&value.into()), text);
        }
    }
}
