//! `ringmain top`: flows, and components and edges of one of them, as they go.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table, TableState};
use serde_json::Value;

use crate::args::TopArgs;
use crate::client::Client;
use crate::flows::number;

/// How often figures are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// From where on backpressure is coloured.
const WARM_PERCENT: f64 = 10.0;
const HOT_PERCENT: f64 = 50.0;

/// A column that is wider has words in it, not a number.
const WORDS_MIN: u16 = 20;

/// What the list is ordered by; keys of the API.
const ORDERS: [(&str, &str); 4] = [
    ("name", "name"),
    ("throughput_in", "in/s"),
    ("backpressure_percent", "backpressure"),
    ("rejected", "rejected"),
];

/// What is shown.
#[derive(Default)]
struct Screen {
    flows: Vec<Value>,
    detail: Value,
    selected: usize,
    order: usize,
    filter: String,
    filtering: bool,
    paused: bool,
    error: Option<String>,
}

/// Runs until `q`.
pub(crate) fn run(args: &TopArgs) -> Result<(), String> {
    let client = Client::new(&args.api)?;
    if args.api.json {
        let flows = client.get("/api/v1/flows")?;
        let text = serde_json::to_string_pretty(&flows).map_err(|error| error.to_string())?;
        println!("{text}");
        return Ok(());
    }
    let mut screen = Screen::default();
    screen.ask(&client);
    if let Some(error) = screen.error.take() {
        return Err(error);
    }
    let mut terminal = ratatui::try_init().map_err(|error| format!("no terminal: {error}"))?;
    let result = screen.until_quit(&client, &mut terminal);
    ratatui::restore();
    result.map_err(|error| error.to_string())
}

impl Screen {
    fn until_quit(
        &mut self,
        client: &Client,
        terminal: &mut ratatui::DefaultTerminal,
    ) -> std::io::Result<()> {
        let mut asked = Instant::now();
        loop {
            terminal.draw(|frame| self.draw(frame))?;
            let wait = ASK_EVERY.saturating_sub(asked.elapsed());
            if event::poll(wait)? {
                if let Event::Key(key) = event::read()?
                    && key.kind == KeyEventKind::Press
                    && self.obey(key.code)
                {
                    return Ok(());
                }
                if !self.paused && asked.elapsed() < ASK_EVERY {
                    continue;
                }
            }
            if !self.paused {
                self.ask(client);
            }
            asked = Instant::now();
        }
    }

    /// True to end.
    fn obey(&mut self, key: KeyCode) -> bool {
        if self.filtering {
            match key {
                KeyCode::Enter | KeyCode::Esc => self.filtering = false,
                KeyCode::Backspace => {
                    self.filter.pop();
                }
                KeyCode::Char(c) => self.filter.push(c),
                _ => {}
            }
            return false;
        }
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Down | KeyCode::Char('j') => self.selected = self.selected.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Char('s') => self.order = (self.order + 1) % ORDERS.len(),
            KeyCode::Char('/') => self.filtering = true,
            KeyCode::Char(' ' | 'p') => self.paused = !self.paused,
            _ => {}
        }
        false
    }

    fn ask(&mut self, client: &Client) {
        let answer = client.get("/api/v1/flows").and_then(|flows| {
            self.flows = flows.as_array().cloned().unwrap_or_default();
            let name = self.visible().get(self.selected).map(|flow| flow["name"].clone());
            match name.as_ref().and_then(Value::as_str) {
                Some(name) => client.get(&format!("/api/v1/flows/{name}")),
                None => Ok(Value::Null),
            }
        });
        match answer {
            Ok(detail) => {
                self.detail = detail;
                self.error = None;
            }
            Err(error) => self.error = Some(error),
        }
    }

    /// Flows that pass the filter, in order.
    fn visible(&self) -> Vec<&Value> {
        let passes =
            |flow: &&Value| flow["name"].as_str().is_some_and(|n| n.contains(&self.filter));
        let mut flows: Vec<_> = self.flows.iter().filter(passes).collect();
        let (key, _) = ORDERS[self.order];
        if self.order > 0 {
            let value = |flow: &Value| flow[key].as_f64().unwrap_or(0.0);
            flows.sort_by(|a, b| value(b).total_cmp(&value(a)));
        }
        flows
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        self.selected = self.selected.min(self.visible().len().saturating_sub(1));
        let list_rows = u16::try_from(self.flows.len().min(12)).unwrap_or(12) + 2;
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(list_rows),
            Constraint::Min(3),
            Constraint::Min(3),
            Constraint::Length(1),
        ]);
        let [head, list, components, edges, keys] = areas.areas(frame.area());
        frame.render_widget(self.head(), head);
        let mut state = TableState::default().with_selected(Some(self.selected));
        frame.render_stateful_widget(self.list(), list, &mut state);
        frame.render_widget(self.components(), components);
        frame.render_widget(self.edges(), edges);
        let help = "up/down select   s sort   / filter   space pause   q quit";
        frame.render_widget(Line::from(help).style(Style::new().dim()), keys);
    }

    fn head(&self) -> Line<'_> {
        if let Some(error) = &self.error {
            return Line::from(error.lines().next().unwrap_or_default()).style(Color::Red);
        }
        let (_, order) = ORDERS[self.order];
        let mut text = format!("ringmain top   by {order}");
        if self.filtering || !self.filter.is_empty() {
            text.push_str(&format!("   filter: {}", self.filter));
        }
        if self.paused {
            text.push_str("   PAUSED");
        }
        Line::from(text).style(Style::new().bold())
    }

    fn list(&self) -> Table<'_> {
        let rows = self.visible().into_iter().map(|flow| {
            let pressure = &flow["backpressure_percent"];
            Row::new([
                Cell::from(text(&flow["name"])),
                Cell::from(text(&flow["status"])).style(status_style(&flow["status"])),
                cell(&flow["throughput_in"]),
                cell(&flow["throughput_out"]),
                cell(pressure).style(heat(pressure)),
                cell(&flow["runners"]),
                cell(&flow["rejected"]),
                Cell::from(crate::schedule::short(flow)),
            ])
        });
        let head =
            ["flow", "status", "in/s", "out/s", "backpr. %", "runners", "rejected", "schedule"];
        table(rows.collect(), &head, &[20, 12, 12, 12, 10, 8, 10, 44])
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
    }

    fn components(&self) -> Table<'_> {
        let components = self.detail["components"].as_array().into_iter().flatten();
        let rows = components.map(|component| {
            let health = component["health_detail"].as_str().or(component["health"].as_str());
            let well = component["health"] == "good";
            Row::new([
                Cell::from(text(&component["name"])),
                cell(&component["rate_in"]),
                cell(&component["rate_out"]),
                cell(&component["dropped"]),
                cell(&component["dead"]),
                Cell::from(health.unwrap_or_default().to_owned()).style(if well {
                    Color::Reset
                } else {
                    Color::Red
                }),
            ])
        });
        let head = ["component", "in/s", "out/s", "dropped", "dead", "health"];
        table(rows.collect(), &head, &[20, 12, 12, 12, 10, 40])
    }

    fn edges(&self) -> Table<'_> {
        let edges = self.detail["edges"].as_array().into_iter().flatten();
        let rows = edges.map(|edge| {
            let pressure = &edge["backpressure_percent"];
            Row::new([
                Cell::from(format!("{} -> {}", text(&edge["from"]), text(&edge["to"]))),
                cell(pressure).style(heat(pressure)),
                cell(&edge["queued_batches"]),
            ])
        });
        table(rows.collect(), &["edge", "backpr. %", "queued"], &[44, 10, 8])
    }
}

fn table<'a>(rows: Vec<Row<'a>>, head: &[&'static str], widths: &[u16]) -> Table<'a> {
    let head = head.iter().enumerate().map(|(at, name)| {
        let line = Line::from(*name);
        let number = name.ends_with("/s") || name.ends_with('%');
        let number = number || ["runners", "rejected", "dropped", "dead", "queued"].contains(name);
        Cell::from(if at > 0 && number { line.right_aligned() } else { line })
    });
    let head = Row::new(head.collect::<Vec<_>>()).style(Style::new().dim());
    // The last column takes what is left: words.
    let widths = widths.iter().enumerate().map(|(at, width)| match at + 1 == widths.len() {
        true if *width > WORDS_MIN => Constraint::Fill(1),
        _ => Constraint::Length(*width),
    });
    Table::new(rows, widths).header(head)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn cell(value: &Value) -> Cell<'static> {
    Cell::from(Line::from(number(value)).right_aligned())
}

fn heat(percent: &Value) -> Style {
    let percent = percent.as_f64().unwrap_or(0.0);
    if percent >= HOT_PERCENT {
        Style::new().fg(Color::Red).bold()
    } else if percent >= WARM_PERCENT {
        Style::new().fg(Color::Yellow)
    } else {
        Style::new()
    }
}

fn status_style(status: &Value) -> Style {
    match status.as_str() {
        Some("deployed") => Style::new().fg(Color::Green),
        Some("failed" | "partial" | "error" | "unknown") => Style::new().fg(Color::Red),
        _ => Style::new().fg(Color::Yellow),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn screen() -> Screen {
        let flow = |name: &str, rate: u64| {
            json!({ "name": name, "status": "deployed", "throughput_in": rate,
                "throughput_out": rate, "backpressure_percent": 73.5, "runners": 2, "rejected": 0 })
        };
        let detail = json!({
            "components": [{ "name": "lines", "rate_in": 10, "rate_out": 10, "dropped": 0,
                "dead": 0, "health": "good" }],
            "edges": [{ "from": "lines", "to": "out", "backpressure_percent": 73.5,
                "queued_batches": 8 }],
        });
        Screen { flows: vec![flow("a", 1), flow("b", 2_000)], detail, ..Screen::default() }
    }

    fn drawn(screen: &mut Screen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(90, 16)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn flows_components_and_edges_are_shown() {
        let text = drawn(&mut screen());
        for shown in ["a ", "2,000", "73.5", "lines -> out", "space pause"] {
            assert!(text.contains(shown), "{shown}:\n{text}");
        }
    }

    #[test]
    fn it_sorts_filters_and_pauses() {
        let mut screen = screen();
        assert!(!screen.obey(KeyCode::Char('s')));
        assert_eq!(screen.visible()[0]["name"], "b");
        for key in ['/', 'a'] {
            assert!(!screen.obey(KeyCode::Char(key)));
        }
        assert!(!screen.obey(KeyCode::Enter));
        assert_eq!(screen.visible().len(), 1);
        assert!(!screen.obey(KeyCode::Char(' ')));
        assert!(drawn(&mut screen).contains("PAUSED"));
        assert!(screen.obey(KeyCode::Char('q')));
    }
}
