//! Columns of text: the first to the left, numbers to the right.

use std::fmt;

/// Rows under a head.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|text| (*text).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Whether every value of a column begins like a number.
    fn is_number(&self, column: usize) -> bool {
        let mut values = self.rows[1..].iter().map(|row| row[column].as_str());
        values.all(|text| text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()))
            && self.rows.len() > 1
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |at: usize| self.rows.iter().map(|row| row[at].chars().count()).max();
        let widths: Vec<_> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
        let right: Vec<_> = (0..columns).map(|at| at > 0 && self.is_number(at)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
                let cell =
                    if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                line.push_str(&cell);
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let mut table = Table::new(&["flow", "in/s", "by"]);
        table.row(vec!["plant".into(), "1,000".into(), "me".into()]);
        table.row(vec!["x".into(), "7".into(), "you".into()]);
        let lines = ["flow    in/s  by", "plant  1,000  me", "x          7  you"];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), lines);
    }
}
