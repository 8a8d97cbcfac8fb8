//! What is wrong with a configuration, and how that is shown.
//!
//! Every problem is collected, none stops the search for the next. The floors
//! above push what only they can find (an expression that does not compile)
//! into the same list, so that an operator sees one list in one order.

use std::fmt;

use crate::span::{FileId, SourceFile, Sources, Span, floor_char};

/// Whether a problem stops the daemon from running the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The plan is refused.
    Error,
    /// The plan runs; it is probably not what was meant.
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the plan.
    pub severity: Severity,
    /// Where; none when no file is to blame.
    pub span: Option<Span>,
    /// What is wrong, in one line.
    pub message: String,
    /// Other places that matter, for example where a name was used first.
    pub notes: Vec<(Span, String)>,
    /// What to do about it.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error at a place.
    #[must_use]
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, Some(span), message)
    }

    /// A warning at a place.
    #[must_use]
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, Some(span), message)
    }

    /// An error that stands in no file, for example a file that is not there.
    #[must_use]
    pub fn general(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, None, message)
    }

    fn new(severity: Severity, span: Option<Span>, message: impl Into<String>) -> Self {
        Self { severity, span, message: message.into(), notes: Vec::new(), help: Vec::new() }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds what to do, if there is anything to say.
    #[must_use]
    pub fn help_maybe(mut self, text: Option<String>) -> Self {
        self.help.extend(text);
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn note(mut self, span: Span, text: impl Into<String>) -> Self {
        self.notes.push((span, text.into()));
        self
    }
}

/// Every problem that was found, with the files it was found in.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    sources: Sources,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// An empty list over these files.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        Self { sources, list: Vec::new() }
    }

    /// The files.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Adds a file to point into, for example a Lua script that does not
    /// compile.
    pub fn add_file(&mut self, file: SourceFile) -> FileId {
        self.sources.add(file)
    }

    /// Adds a problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Whether anything stops the plan.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// Number of errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// Number of warnings.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors()
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Every problem, by file and place; those without a place first.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut list: Vec<&Diagnostic> = self.list.iter().collect();
        list.sort_by_key(|d| d.span.map(|s| (s.file, s.start)));
        list
    }

    /// One problem as text, ending in a line break.
    #[must_use]
    pub fn render(&self, diagnostic: &Diagnostic) -> String {
        let mut out = String::new();
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        if let Some(span) = diagnostic.span {
            out.push_str(&self.sources.describe(span));
            out.push_str(": ");
        }
        out.push_str(&format!("{severity}: {}\n", diagnostic.message));
        if let Some(span) = diagnostic.span {
            excerpt(&self.sources, span, &mut out);
        }
        for (span, text) in &diagnostic.notes {
            out.push_str(&format!("note: {}: {text}\n", self.sources.describe(*span)));
        }
        for help in &diagnostic.help {
            out.push_str(&format!("help: {help}\n"));
        }
        out
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in self.sorted() {
            f.write_str(&self.render(diagnostic))?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Longest part of a source line that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// The line of `span` and carets below the part that is meant.
fn excerpt(sources: &Sources, span: Span, out: &mut String) {
    let Some(file) = sources.get(span.file) else { return };
    let text = file.text.as_str();
    let start = floor_char(text, span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let line = text[line_start..line_end].trim_end();
    if line.is_empty() {
        return;
    }
    let end = floor_char(text, span.end).clamp(start, line_end);
    let before = text[line_start..start].chars().count();
    let marked = text[start..end].trim_end().chars().count().max(1);
    let skip = if before < SHOWN_CHARS_MAX { 0 } else { before - SHOWN_CHARS_MAX / 4 };
    let number = sources.position(span).line.to_string();
    let gutter = " ".repeat(number.len());

    let shown: String = line.chars().skip(skip).take(SHOWN_CHARS_MAX).collect();
    let cut = if line.chars().count() > skip + SHOWN_CHARS_MAX { "..." } else { "" };
    let lead = if skip > 0 { "..." } else { "" };
    // Tabs stay tabs below the line, so that the carets meet it at any width.
    let indent: String = std::iter::repeat_n(' ', lead.len())
        .chain(line.chars().skip(skip).map(|c| if c == '\t' { '\t' } else { ' ' }))
        .chain(std::iter::repeat(' '))
        .take(lead.len() + before - skip)
        .collect();
    let carets = "^".repeat(marked.min(SHOWN_CHARS_MAX - (before - skip).min(SHOWN_CHARS_MAX - 1)));
    out.push_str(&format!(" {number} | {lead}{shown}{cut}\n {gutter} | {indent}{carets}\n"));
}

/// The candidate that was probably meant, as a sentence.
pub(crate) fn did_you_mean<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(written, candidates).map(|name| format!("did you mean '{name}'?"))
}

/// The candidate nearest to what was written, if any is near enough.
pub(crate) fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Long keys are compared by quadratic algorithms; nobody mistypes 64 bytes.
    if written.is_empty() || written.len() > 64 {
        return None;
    }
    let lower = written.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len().min(lower.len()) / 2).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(text: &str) -> Diagnostics {
        let mut sources = Sources::default();
        sources.add(SourceFile { name: "f.toml".into(), path: None, text: text.into() });
        Diagnostics::new(sources)
    }

    #[test]
    fn problems_are_shown_in_the_order_of_the_file() {
        let mut diagnostics = over("a = 1\nb = 2\n");
        let file = crate::FileId(0);
        diagnostics.push(Diagnostic::warning(Span::new(file, 6, 7), "second"));
        diagnostics.push(Diagnostic::error(Span::new(file, 0, 1), "first").help("do this"));
        diagnostics.push(Diagnostic::general("no place"));
        assert_eq!(
            diagnostics.to_string(),
            "error: no place\n\
             f.toml:1:1: error: first\n 1 | a = 1\n   | ^\nhelp: do this\n\
             f.toml:2:1: warning: second\n 2 | b = 2\n   | ^\n"
        );
        assert_eq!((diagnostics.errors(), diagnostics.warnings()), (2, 1));
    }

    #[test]
    fn carets_stand_below_characters_and_tabs() {
        let text = "\tname = \"ü\" # x";
        let mut diagnostics = over(text);
        let at = text.find('#').unwrap();
        diagnostics.push(Diagnostic::error(Span::new(crate::FileId(0), at, at + 3), "m"));
        let shown = diagnostics.to_string();
        assert!(shown.ends_with("   | \t           ^^^\n"), "{shown:?}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("k = \"{}\" # {}", "x".repeat(300), "y".repeat(300));
        let mut diagnostics = over(&text);
        let at = text.find('#').unwrap();
        diagnostics.push(Diagnostic::error(Span::new(crate::FileId(0), at, at + 200), "m"));
        assert!(diagnostics.to_string().lines().all(|l| l.len() < 120), "{diagnostics}");
    }

    #[test]
    fn only_near_names_are_proposed() {
        let keys = ["where", "inputs", "type"];
        assert_eq!(nearest("wher", keys), Some("where"));
        assert_eq!(nearest("input", keys), Some("inputs"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
