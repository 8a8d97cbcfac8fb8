//! A terminal's screen as a picture for the pages.

use std::fmt::Write;

use vt100::{Cell, Color, Screen};

const CELL: (f64, f64) = (8.4, 18.0);

/// The screen as SVG, in dark colours.
#[must_use]
pub fn svg(screen: &Screen) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let (wide, high) = (f64::from(columns) * CELL.0 + 24.0, f64::from(rows) * CELL.1 + 20.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {high:.0}\" \
         font-family=\"ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace\" \
         font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0e1418\"/>\n"
    );
    (0..rows).for_each(|row| line(screen, row, columns, &mut svg));
    svg.push_str("</svg>\n");
    svg
}

/// Colour, and whether it is bold, dim, reversed.
type Look = (Color, bool, bool, bool);

fn look(cell: Option<&Cell>) -> Look {
    cell.map_or((Color::Default, false, false, false), |cell| {
        (cell.fgcolor(), cell.bold(), cell.dim(), cell.inverse())
    })
}

/// Runs of cells that look alike become one text.
fn line(screen: &Screen, row: u16, columns: u16, svg: &mut String) {
    let mut from = 0;
    while from < columns {
        let first = look(screen.cell(row, from));
        let differs = |at: &u16| look(screen.cell(row, *at)) != first;
        let end = (from..columns).find(differs).unwrap_or(columns);
        let cells = (from..end).filter_map(|at| screen.cell(row, at));
        let text: String =
            cells.map(|c| if c.has_contents() { c.contents() } else { " " }).collect();
        run(&text, (f64::from(from) * CELL.0 + 12.0, f64::from(row) * CELL.1 + 10.0), first, svg);
        from = end;
    }
}

fn run(text: &str, (left, top): (f64, f64), look: Look, svg: &mut String) {
    let (colour, bold, dim, reversed) = look;
    if reversed {
        let (wide, high) = (text.chars().count() as f64 * CELL.0, CELL.1);
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{wide:.1}\" height=\"{high}\" fill=\"#24404a\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let fill = match colour {
        Color::Idx(1 | 9) => "#ff7b72",
        Color::Idx(2 | 10) => "#4ade80",
        Color::Idx(3 | 11) => "#fbbf24",
        _ if dim => "#7d93a1",
        _ => "#e4ecf0",
    };
    let weight = if bold { " font-weight=\"700\"" } else { "" };
    let text = text.trim_end().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let down = top + 13.0;
    let _ = writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{down}\" fill=\"{fill}\"{weight} xml:space=\"preserve\">{text}</text>"
    );
}
