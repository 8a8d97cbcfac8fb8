//! The Grafana dashboard and the alert rules name what the daemon serves.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;

use ringmain_tests::binary::workspace;
use ringmain_tests::http::Client;
use ringmain_tests::net::{connect, free_port};
use ringmain_tests::plant;
use ringmain_tests::{Driver, Job, until};
use serde_json::Value;

/// Names of figures and labels of what `/metrics` serves.
fn served() -> (BTreeSet<String>, BTreeSet<String>) {
    let (tcp, port) = (free_port(), free_port());
    let job = Job::new(Driver::Auto)
        .shards(&format!("[api]\nlisten = \"127.0.0.1:{port}\"\nrate = 1000\n"))
        .and_flow(&plant::flow(tcp));
    let _daemon = job.start();
    let mut feed = connect(tcp);
    drop(connect(port));
    let api = Client::new(port);
    let (mut names, mut labels) = (BTreeSet::new(), BTreeSet::new());
    until("every figure has been there", || {
        feed.write_all(b"{\"n\":1}\n{\"n\":2}\nnonsense\n").unwrap();
        let text = api.get("/metrics").body;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let end = line.find(['{', ' ']).unwrap_or(0);
            names.insert(line[..end].to_owned());
            let inside = line.find('{').zip(line.find('}')).map(|(a, b)| &line[a + 1..b]);
            let keys = inside.into_iter().flat_map(|inside| inside.split(','));
            labels.extend(keys.filter_map(|key| Some(key.split_once('=')?.0.to_owned())));
        }
        // Those that are there only where something has happened.
        ["ringmain_component_pull_microseconds", "ringmain_component_dead_total"]
            .iter()
            .all(|name| names.contains(*name))
    });
    // What Prometheus itself adds.
    labels.insert("instance".to_owned());
    (names, labels)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Every figure that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c| !is_word(c));
    words.filter(|word| word.starts_with("ringmain_")).map(str::to_owned).collect()
}

/// Labels that a query selects or groups by.
fn labels_of(query: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in query.split(" by (").skip(1) {
        let inside = part.split(')').next().unwrap_or_default();
        found.extend(inside.split(',').map(|label| label.trim().to_owned()));
    }
    for part in query.split('{').skip(1) {
        let inside = part.split('}').next().unwrap_or_default();
        let keys = inside.split(',').filter_map(|key| key.split_once('='));
        found.extend(keys.map(|(key, _)| key.trim().to_owned()));
    }
    found
}

#[test]
fn every_figure_of_the_dashboard_and_the_alerts_is_served() {
    let (names, labels) = served();
    let read = |path: &str| std::fs::read_to_string(workspace().join(path)).unwrap();
    let dashboard = read("config/grafana/ringmain.json");
    let alerts = read("config/prometheus/alerts.yml");
    for (file, text) in [("dashboard", &dashboard), ("alerts", &alerts)] {
        let named = named(text);
        assert!(named.len() >= 8, "{file}: {named:?}");
        let unknown: Vec<_> = named.difference(&names).collect();
        assert!(unknown.is_empty(), "the {file} names {unknown:?}; served are {names:#?}");
    }
    let json: Value = serde_json::from_str(&dashboard).unwrap();
    let mut queries = Vec::new();
    for panel in json["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    assert!(queries.len() >= 20);
    queries
        .extend(alerts.lines().filter_map(|l| Some(l.trim().strip_prefix("expr: ")?.to_owned())));
    for query in &queries {
        for label in labels_of(query) {
            assert!(labels.contains(&label), "{query}: no figure has the label {label}");
        }
        let balance = |open, close| query.matches(open).count() == query.matches(close).count();
        assert!(balance('(', ')') && balance('{', '}') && balance('[', ']'), "{query}");
    }
}

#[test]
fn prometheus_takes_the_alerts() {
    let rules = workspace().join("config/prometheus/alerts.yml");
    let Ok(output) = Command::new("promtool").args(["check", "rules"]).arg(rules).output() else {
        eprintln!("promtool is not here (Debian package prometheus): not checked");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
