//! The picture of `ringmain top` that the pages show: a screen's cells as SVG.
//! `UPDATE_SCREENSHOTS=1` makes it anew.

use std::fmt::Write;
use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use serde_json::{Value, json};

use super::Screen;

const WIDTH: u16 = 118;
const HEIGHT: u16 = 26;
const CELL: (f64, f64) = (8.4, 18.0);

fn flow(name: &str, status: &str, rate: f64, pressure: f64, rejected: u64) -> Value {
    json!({ "name": name, "status": status, "throughput_in": rate, "throughput_out": rate,
        "backpressure_percent": pressure, "runners": u8::from(rate > 0.0), "rejected": rejected,
        "creator": "configuration" })
}

fn component(name: &str, rate: f64, health: &str, detail: Option<&str>) -> Value {
    json!({ "name": name, "rate_in": rate, "rate_out": rate, "dropped": 0, "dead": 0,
        "health": health, "health_detail": detail })
}

fn edge(from: &str, to: &str, pressure: f64, queued: u64) -> Value {
    json!({ "from": from, "to": to, "backpressure_percent": pressure, "queued_batches": queued })
}

/// A plant on a bad day: its alarm server is away.
fn screen() -> Screen {
    let refused = "10.0.4.7:5140: Connection refused (os error 111); the next is in 820 ms";
    Screen {
        flows: vec![
            flow("engines", "deployed", 12_480.0, 73.5, 28),
            flow("meters", "deployed", 850.0, 0.0, 0),
            flow("reports", "undeployed", 0.0, 0.0, 0),
            flow("telemetry", "deployed", 48_001.0, 14.2, 3),
        ],
        detail: json!({
            "components": [
                component("sensors", 12_480.0, "good", None),
                component("level", 12_480.0, "good", None),
                component("grade", 1_204.0, "good", None),
                component("alerts", 0.0, "retrying", Some(refused)),
                component("archive", 12_460.0, "good", None),
            ],
            "edges": [
                edge("sensors", "level", 0.4, 1),
                edge("level.high", "grade", 73.5, 8),
                edge("grade", "alerts", 73.5, 8),
                edge("level.normal", "archive", 12.1, 3),
            ],
        }),
        ..Screen::default()
    }
}

fn colour(colour: Color, or: &'static str) -> &'static str {
    match colour {
        Color::Red => "#ff7b72",
        Color::Green => "#4ade80",
        Color::Yellow => "#fbbf24",
        _ => or,
    }
}

/// Runs of cells that look alike become one text.
fn line(buffer: &Buffer, y: u16, out: &mut String) {
    let at = |x: u16| &buffer[(x, y)];
    let look = |cell: &Cell| (cell.fg, cell.modifier);
    let mut x = 0;
    while x < WIDTH {
        let first = at(x);
        let end = (x..WIDTH).find(|x| look(at(*x)) != look(first)).unwrap_or(WIDTH);
        let text: String = (x..end).map(|x| at(x).symbol()).collect();
        let reversed = first.modifier.contains(Modifier::REVERSED);
        let (left, top) = (f64::from(x) * CELL.0 + 12.0, f64::from(y) * CELL.1 + 10.0);
        let wide = f64::from(end - x) * CELL.0;
        if reversed {
            let high = CELL.1;
            let _ = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{wide:.1}\" height=\"{high}\" fill=\"#24404a\"/>"
            );
        }
        if !text.trim().is_empty() {
            let dim = first.modifier.contains(Modifier::DIM);
            let fill = colour(first.fg, if dim { "#7d93a1" } else { "#e4ecf0" });
            let bold =
                if first.modifier.contains(Modifier::BOLD) { " font-weight=\"700\"" } else { "" };
            let text =
                text.trim_end().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let down = top + 13.0;
            let _ = writeln!(
                out,
                "<text x=\"{left:.1}\" y=\"{down}\" fill=\"{fill}\"{bold} xml:space=\"preserve\">{text}</text>"
            );
        }
        x = end;
    }
}

#[test]
fn the_picture_shows_the_worst_edge_of_the_flow_that_is_selected() {
    let mut screen = screen();
    let mut terminal = Terminal::new(TestBackend::new(WIDTH, HEIGHT)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let (wide, high) = (f64::from(WIDTH) * CELL.0 + 24.0, f64::from(HEIGHT) * CELL.1 + 20.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {high:.0}\" \
         font-family=\"ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace\" \
         font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0e1418\"/>\n"
    );
    (0..HEIGHT).for_each(|y| line(buffer, y, &mut svg));
    svg.push_str("</svg>\n");
    assert!(svg.contains("level.high -&gt; grade") && svg.contains("#ff7b72"), "{svg}");
    if std::env::var_os("UPDATE_SCREENSHOTS").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control/console/screenshots");
        std::fs::write(folder.join("top.svg"), svg).unwrap();
    }
}
