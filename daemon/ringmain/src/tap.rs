//! `ringmain tap`: messages of a running flow as they pass.

use std::io::{BufRead, BufReader, Write};

use serde_json::Value;

use crate::args::TapArgs;
use crate::client::{Client, encoded};

/// Prints until it is told that there is no more, or nobody reads on.
pub(crate) fn run(args: &TapArgs) -> Result<(), String> {
    let client = Client::new(&args.api)?;
    let (flow, component) = split(&client, &args.target);
    let mut path =
        format!("/api/v1/flows/{}/tap?sample={}&limit={}", encoded(flow), args.sample, args.limit);
    let more = [("component", component), ("where", args.condition.as_deref())];
    for (key, value) in more.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        path.push_str(&format!("&{key}={}", encoded(value)));
    }
    if let Some(count) = args.count {
        path.push_str(&format!("&count={count}"));
    }
    let events = Events { lines: BufReader::new(client.stream(&path)?), name: String::new() };
    let mut out = std::io::stdout().lock();
    for event in events {
        let (name, data) = event?;
        let json: Value = serde_json::from_str(&data).unwrap_or_default();
        let written = match name.as_str() {
            "" if args.api.json => writeln!(out, "{data}"),
            "" => writeln!(out, "{}", line(&data, &json, component.is_some())),
            "end" => return end(&json, args.count.is_some()),
            _ => {
                note(&name, &json);
                Ok(())
            }
        };
        // Whoever reads may have seen enough.
        if written.and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
    Err("the daemon has ended the connection".into())
}

/// Flow and component. Names of flows may have dots, too.
fn split<'a>(client: &Client, target: &'a str) -> (&'a str, Option<&'a str>) {
    let Some((flow, component)) = target.rsplit_once('.') else { return (target, None) };
    match client.get(&format!("/api/v1/flows/{}", encoded(target))) {
        Ok(_) => (target, None),
        Err(_) => (flow, Some(component)),
    }
}

/// A message as people read it: as it was sent, behind the name of the
/// component unless that was asked for.
fn line(data: &str, json: &Value, alone: bool) -> String {
    let name = json["component"].as_str().unwrap_or_default();
    // The message is the last member, and is not to be written anew: numbers
    // would lose digits, members their order.
    let message = data.split_once("\"message\":").map_or(data, |(_, rest)| rest);
    let message = message.strip_suffix('}').unwrap_or(message);
    if alone { message.to_owned() } else { format!("{name}  {message}") }
}

fn note(event: &str, json: &Value) {
    match event {
        "skipped" => {
            let (seen, skipped) = (&json["seen"], &json["skipped"]);
            eprint!("# {skipped} of {seen} messages skipped");
            if json["failed"].as_u64() > Some(0) {
                eprint!(", {} failed", json["failed"]);
            }
            eprintln!();
        }
        _ => eprintln!("# the flow was {}", json["state"].as_str().unwrap_or("changed")),
    }
}

fn end(json: &Value, counted: bool) -> Result<(), String> {
    let why = json["detail"].as_str().unwrap_or("the end").to_owned();
    if counted && why.starts_with("all messages") {
        return Ok(());
    }
    Err(why)
}

/// Server-sent events: name and data of each.
struct Events<R> {
    lines: BufReader<R>,
    name: String,
}

impl<R: std::io::Read> Iterator for Events<R> {
    type Item = Result<(String, String), String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = String::new();
        loop {
            line.clear();
            match self.lines.read_line(&mut line) {
                Ok(0) => return None,
                Err(error) => return Some(Err(format!("the connection broke: {error}"))),
                Ok(_) => {}
            }
            let text = line.trim_end_matches(['\r', '\n']);
            if let Some(name) = text.strip_prefix("event: ") {
                name.clone_into(&mut self.name);
            } else if let Some(data) = text.strip_prefix("data: ") {
                // The daemon writes every event in one line.
                return Some(Ok((std::mem::take(&mut self.name), data.to_owned())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_with_their_names_and_without_comments() {
        let text = ": a comment\n\ndata: {\"a\":1}\n\nevent: end\ndata: {}\n\n";
        let events = Events { lines: BufReader::new(text.as_bytes()), name: String::new() };
        let events: Vec<_> = events.map(Result::unwrap).collect();
        let want = [("", "{\"a\":1}"), ("end", "{}")];
        assert_eq!(events, want.map(|(name, data)| (name.to_owned(), data.to_owned())));
    }

    #[test]
    fn a_message_is_printed_as_it_was_sent() {
        let data = r#"{"component":"hot","message":{"z":1.0,"a":12345678901234567890}}"#;
        let json: Value = serde_json::from_str(data).unwrap();
        assert_eq!(line(data, &json, true), r#"{"z":1.0,"a":12345678901234567890}"#);
        assert_eq!(line(data, &json, false), r#"hot  {"z":1.0,"a":12345678901234567890}"#);
    }
}
