//! `ringmain flows schedule`: when a flow runs, and how its runs went.

use serde_json::Value;

use crate::args::ScheduleArgs;
use crate::client::Client;
use crate::flows::{number, text};
use crate::table::Table;

impl ScheduleArgs {
    /// Whether it is to be changed, not only shown.
    pub(crate) fn changes(&self) -> bool {
        self.remove || self.suspend || self.resume || self.sets()
    }

    fn sets(&self) -> bool {
        let keys = [&self.cron, &self.timezone, &self.duration, &self.overlap, &self.misfire];
        let lists = [&self.files, &self.topics];
        keys.iter().any(|key| key.is_some()) || lists.iter().any(|list| !list.is_empty())
    }

    /// The keys of `[schedule]`. A JSON string is a TOML string.
    fn keys(&self) -> String {
        let keys = [
            ("cron", &self.cron),
            ("timezone", &self.timezone),
            ("duration", &self.duration),
            ("overlap", &self.overlap),
            ("misfire", &self.misfire),
        ];
        let mut toml = String::new();
        for (key, value) in keys.iter().filter_map(|(key, v)| Some((key, v.as_deref()?))) {
            toml.push_str(&format!("{key} = {}\n", Value::from(value)));
        }
        if !self.files.is_empty() {
            toml.push_str(&format!("files = {}\n", Value::from(self.files.clone())));
        }
        if let Some(broker) = &self.broker {
            let (url, topics) = (Value::from(broker.as_str()), Value::from(self.topics.clone()));
            toml.push_str(&format!("mqtt = {{ url = {url}, topics = {topics} }}\n"));
        }
        toml
    }
}

pub(crate) fn ask(client: &Client, args: &ScheduleArgs) -> Result<Value, String> {
    let path = format!("/api/v1/flows/{}/schedule", args.name);
    if args.remove {
        client.delete(&path)
    } else if args.suspend {
        client.post(&format!("{path}/suspend"), "")
    } else if args.resume {
        client.post(&format!("{path}/resume"), "")
    } else if args.sets() {
        client.put(&path, &args.keys())
    } else {
        client.get(&path)
    }
}

pub(crate) fn show(schedule: &Value) -> String {
    let mut out = text(&schedule["schedule"]);
    for (key, words) in
        [("suspended", ", suspended"), ("running", ", a run is on"), ("queued", ", one waits")]
    {
        out.push_str(if schedule[key] == true { words } else { "" });
    }
    out.push('\n');
    if let Some(next) = schedule["next_run"].as_str() {
        out.push_str(&format!("next run: {next}\n"));
    }
    if let Value::Object(listener) = &schedule["listener"] {
        let stands = match listener["trouble"].as_str() {
            Some(trouble) => format!("not listening: {trouble}"),
            None if listener["connected"] == true => "listening".to_owned(),
            None => "connecting".to_owned(),
        };
        let count = |key: &str| number(&listener[key]);
        let (messages, passed_over) = (count("messages"), count("passed_over"));
        out.push_str(&format!("{stands}; {messages} messages, {passed_over} passed over\n"));
    }
    let count = |key: &str| number(&schedule[key]);
    let (started, failed) = (count("runs_started"), count("runs_failed"));
    out.push_str(&format!("{started} runs, {failed} failed; {} skipped\n\n", count("skipped")));
    let mut table = Table::new(&[
        "run", "started", "ended", "because", "result", "in", "out", "dropped", "dead", "errors",
    ]);
    for run in schedule["runs"].as_array().into_iter().flatten() {
        let errors = run["errors"].as_array().into_iter().flatten().map(text);
        table.row(vec![
            number(&run["number"]),
            text(&run["started"]),
            text(&run["ended"]),
            [&run["cause"], &run["topic"]].map(text).join(" ").trim_end().to_owned(),
            text(&run["result"]),
            number(&run["messages_in"]),
            number(&run["messages_out"]),
            number(&run["dropped"]),
            number(&run["dead"]),
            errors.collect::<Vec<_>>().join("; "),
        ]);
    }
    out.push_str(&table.to_string());
    out
}

/// When the last run of a flow began, and what became of it.
pub(crate) fn last_run(flow: &Value) -> String {
    match (flow["last_run"].as_str(), flow["last_result"].as_str()) {
        (Some(started), Some(result)) => format!("{started} {result}"),
        _ => String::new(),
    }
}

/// The same with the next time, in a column's width.
pub(crate) fn short(flow: &Value) -> String {
    let minutes = |key: &str| flow[key].as_str().and_then(|time| time.get(5..16));
    let last = minutes("last_run").zip(flow["last_result"].as_str());
    let last = last.map(|(time, result)| format!("{time} {result}"));
    let next = minutes("next_run").map(|time| format!("next {time}"));
    let parts: Vec<_> = last.into_iter().chain(next).collect();
    match flow["schedule"].as_str() {
        Some(schedule) if parts.is_empty() => schedule.to_owned(),
        _ => parts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schedule_is_shown_with_its_runs() {
        let run = json!({ "number": 7, "started": "2026-11-22T22:00:00.000000Z", "ended": null,
            "cause": "time", "result": "running", "messages_in": 0, "messages_out": 0,
            "dropped": 0, "dead": 0, "errors": [] });
        let shown = show(&json!({ "schedule": "0 0 22 * * * UTC for 6h", "suspended": false,
            "running": true, "queued": false, "next_run": "2026-11-23T22:00:00.000000Z",
            "runs_started": 7, "runs_failed": 1, "skipped": 0, "runs": [run] }));
        assert!(shown.starts_with("0 0 22 * * * UTC for 6h, a run is on\nnext run: 2026-11-23"));
        assert!(shown.contains("7 runs, 1 failed; 0 skipped\n"), "{shown}");
        assert!(shown.contains("running"), "{shown}");
        let run = json!({ "number": 8, "cause": "message", "topic": "plant/7/start" });
        let mut listens = json!({ "schedule": "messages plant/+/start at mqtt://b",
            "listener": { "connected": true, "trouble": null, "messages": 3, "passed_over": 1 },
            "runs_started": 8, "runs_failed": 0, "skipped": 0, "runs": [run] });
        let shown = show(&listens);
        assert!(shown.contains("\nlistening; 3 messages, 1 passed over\n"), "{shown}");
        assert!(shown.contains("message plant/7/start"), "{shown}");
        listens["listener"]["trouble"] = "mqtt://b: refused".into();
        assert!(show(&listens).contains("\nnot listening: mqtt://b: refused; 3"));
        let flow = json!({ "schedule": "x", "last_run": "2026-11-22T22:00:00.000000Z",
            "last_result": "completed", "next_run": "2026-11-23T22:00:00.000000Z" });
        assert_eq!(short(&flow), "11-22T22:00 completed, next 11-23T22:00");
        assert_eq!(short(&json!({ "schedule": null })), "");
    }
}
