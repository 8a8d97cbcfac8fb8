//! Plots as SVG: rates as bars with their spread, latencies over percentiles,
//! memory over time. Black on white, so that they can be read anywhere.

use std::fs;
use std::io;
use std::path::Path;

use plotters::element::{PathElement, Rectangle, Text};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{CurveKind, Line, RATE_UNIT, Report, number};
use crate::stats::Spread;

const WIDTH: u32 = 960;
const ROW: u32 = 22;
const LEFT: i32 = 380;
const RIGHT: i32 = 110;
const TOP: i32 = 46;
const BOTTOM: i32 = 40;
const COLOURS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(23, 190, 207),
    RGBColor(90, 90, 90),
];
const BAR: RGBColor = RGBColor(120, 160, 200);
const RIVAL: RGBColor = RGBColor(190, 190, 190);

/// A name and its points.
type Course<'a> = (String, &'a [(f64, f64)]);

impl Report {
    /// Draws what there is to draw into a folder; titles and file names.
    pub(crate) fn plots(&self, folder: &Path) -> io::Result<Vec<(String, String)>> {
        fs::create_dir_all(folder)?;
        let mut drawn = Vec::new();
        let mut keep = |title: &str, name: &str, svg: Option<String>| -> io::Result<()> {
            if let Some(svg) = svg {
                fs::write(folder.join(name), svg)?;
                drawn.push((title.to_owned(), name.to_owned()));
            }
            Ok(())
        };
        for (is_daemon, title, name) in [
            (true, "Whole daemon, M msg/s", "rates-daemon.svg"),
            (false, "Parts in one process, M msg/s", "rates-parts.svg"),
        ] {
            keep(title, name, bars(title, &self.rates(is_daemon)))?;
        }
        let title = "Latency from when a message was due";
        keep(title, "latency.svg", latency(title, &self.courses(CurveKind::Latency)))?;
        // Each has a time of its own.
        for course in self.courses(CurveKind::Memory) {
            let scenario = course.0.split(':').next().unwrap_or_default().to_owned();
            let title = format!("Memory over time: {scenario}");
            keep(&title, &format!("memory-{scenario}.svg"), memory(&title, &[course]))?;
        }
        Ok(drawn)
    }

    fn rates(&self, is_daemon: bool) -> Vec<(String, Spread, bool)> {
        let mut rates = Vec::new();
        for section in self.sections.iter().filter(|s| s.scenario.is_daemon() == is_daemon) {
            let shown = |line: &&Line| {
                // What one core would do is not what this machine did.
                line.unit == RATE_UNIT && !(is_daemon && line.is_cpu_rate)
            };
            for line in section.lines.iter().filter(shown) {
                let name = format!("{}: {}", section.scenario.name, line.name.trim());
                let rival = ["serde_json", "by hand", "rumqttc", "alone"];
                let is_rival = rival.iter().any(|rival| line.name.contains(rival));
                rates.push((name, line.spread(), is_rival));
            }
        }
        rates
    }

    fn courses(&self, kind: CurveKind) -> Vec<Course<'_>> {
        let mut courses = Vec::new();
        for section in &self.sections {
            for line in &section.lines {
                let Some(curve) = line.curve.as_ref().filter(|curve| curve.kind == kind) else {
                    continue;
                };
                let name = line.name.trim().trim_end_matches(": p50");
                courses.push((format!("{}: {name}", section.scenario.name), &curve.points[..]));
            }
        }
        courses
    }
}

/// Bars on a logarithmic scale, whose left end is a power of ten: they differ by
/// factors of a hundred.
fn bars(title: &str, rates: &[(String, Spread, bool)]) -> Option<String> {
    let positive = || rates.iter().filter(|(_, spread, _)| spread.min > 0.0);
    let least = positive().map(|(_, spread, _)| spread.min).reduce(f64::min)?;
    let most = positive().map(|(_, spread, _)| spread.max).reduce(f64::max)?;
    let (from, to) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
    let height = TOP as u32 + ROW * rates.len() as u32 + BOTTOM as u32;
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    let (x0, x1) = (LEFT, WIDTH as i32 - RIGHT);
    let x = |value: f64| {
        x0 + ((value.log10() - from) / (to - from) * f64::from(x1 - x0)).round() as i32
    };
    let bottom = height as i32 - BOTTOM;
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        area.fill(&WHITE)?;
        let heading = ("sans-serif", 18).into_font().color(&BLACK);
        area.draw(&Text::new(format!("{title} (logarithmic)"), (16, 12), heading))?;
        let small = |h: HPos| {
            TextStyle::from(("sans-serif", 12).into_font()).pos(Pos::new(h, VPos::Center))
        };
        for power in from as i32..=to as i32 {
            let at = x(10f64.powi(power));
            area.draw(&PathElement::new([(at, TOP - 6), (at, bottom)], RGBColor(200, 200, 200)))?;
            let label = number(10f64.powi(power)).trim_end_matches(".00").to_owned();
            area.draw(&Text::new(label, (at, bottom + 12), small(HPos::Center)))?;
        }
        for (at, (name, spread, is_rival)) in rates.iter().enumerate() {
            let y = TOP + ROW as i32 * at as i32;
            let middle = y + ROW as i32 / 2;
            area.draw(&Text::new(name.clone(), (LEFT - 8, middle), small(HPos::Right)))?;
            if spread.min <= 0.0 {
                continue;
            }
            let colour = if *is_rival { RIVAL } else { BAR };
            area.draw(&Rectangle::new(
                [(x0, y + 4), (x(spread.median), y + ROW as i32 - 4)],
                colour.filled(),
            ))?;
            let (low, high) = (x(spread.min), x(spread.max));
            area.draw(&PathElement::new([(low, middle), (high, middle)], BLACK))?;
            for end in [low, high] {
                area.draw(&PathElement::new([(end, middle - 4), (end, middle + 4)], BLACK))?;
            }
            let value = number(spread.median);
            area.draw(&Text::new(
                value,
                (high.max(x(spread.median)) + 8, middle),
                small(HPos::Left),
            ))?;
        }
        area.present()?;
        Ok(())
    };
    draw().expect("a text takes every drawing");
    drop(area);
    Some(svg)
}

/// Percentiles stand further apart the rarer they are.
fn nines(part: f64) -> f64 {
    -(1.0 - part).max(1e-6).log10()
}

fn latency(title: &str, courses: &[Course<'_>]) -> Option<String> {
    let points = || courses.iter().flat_map(|(_, points)| points.iter());
    let last = points().map(|(part, _)| nines(*part)).reduce(f64::max)?;
    let least = points().map(|(_, us)| *us).reduce(f64::min)?.max(1.0);
    let most = points().map(|(_, us)| *us).reduce(f64::max)?;
    let (low, high) = (least.log10().floor(), most.max(10.0).log10().ceil());
    let labelled = |x: &f64| match x.round() as i32 {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        nines => format!("99.{} %", "9".repeat((nines - 2).max(0) as usize)),
    };
    let moved: Vec<(String, Vec<(f64, f64)>)> = courses
        .iter()
        .map(|(name, points)| {
            (
                name.clone(),
                points.iter().map(|(part, us)| (nines(*part), us.max(1.0).log10())).collect(),
            )
        })
        .collect();
    let borrowed: Vec<Course<'_>> = moved.iter().map(|(n, p)| (n.clone(), &p[..])).collect();
    let axes = Axes {
        legend: true,
        x: "part of the messages",
        y: "microseconds (logarithmic)",
        x_labels: last.ceil() as usize + 1,
        y_labels: (high - low) as usize + 1,
        x_text: &labelled,
        y_text: &|power| number(10f64.powf(*power)).trim_end_matches(".00").to_owned(),
    };
    Some(lines(title, &axes, 0.0..last.ceil(), low..high, &borrowed))
}

fn memory(title: &str, courses: &[Course<'_>]) -> Option<String> {
    let points = || courses.iter().flat_map(|(_, points)| points.iter());
    let last = points().map(|(seconds, _)| *seconds).reduce(f64::max)?;
    let most = points().map(|(_, mib)| *mib).reduce(f64::max)?;
    let axes = Axes {
        legend: false,
        x: "seconds",
        y: "MiB",
        x_labels: 10,
        y_labels: 8,
        x_text: &|seconds| format!("{seconds:.1}"),
        y_text: &|mib| format!("{mib:.0}"),
    };
    Some(lines(title, &axes, 0.0..last, 0.0..most * 1.3, courses))
}

struct Axes<'a> {
    legend: bool,
    x: &'static str,
    y: &'static str,
    x_labels: usize,
    y_labels: usize,
    x_text: &'a dyn Fn(&f64) -> String,
    y_text: &'a dyn Fn(&f64) -> String,
}

fn lines(
    title: &str,
    axes: &Axes<'_>,
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
    courses: &[Course<'_>],
) -> String {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, 480)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(14)
            .margin_right(40)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_labels(axes.x_labels)
            .y_labels(axes.y_labels)
            .x_desc(axes.x)
            .y_desc(axes.y)
            .x_label_formatter(&axes.x_text)
            .y_label_formatter(&axes.y_text)
            .label_style(("sans-serif", 12))
            .axis_desc_style(("sans-serif", 13))
            .light_line_style(WHITE)
            .draw()?;
        for (at, (name, points)) in courses.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let style = colour.stroke_width(2);
            chart.draw_series(LineSeries::new(points.iter().copied(), style))?.label(name).legend(
                move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)),
            );
        }
        if !axes.legend {
            area.present()?;
            return Ok(());
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE)
            .border_style(RGBColor(200, 200, 200))
            .label_font(("sans-serif", 12))
            .draw()?;
        area.present()?;
        Ok(())
    };
    draw().expect("a text takes every drawing");
    drop(area);
    svg
}
