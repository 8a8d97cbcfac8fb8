//! What makes a script slow, as far as its source shows.
//!
//! LuaJIT compiles the loop over a slab into machine code. What it cannot
//! compile, or what allocates anew for every message, costs ten times as much
//! as the rest of a typical script; none of it is wrong, so these are warnings.
//! Only what stands in the function of the message is looked at (`process`, or
//! the function that a short form returns): helpers that it calls are the
//! user's to judge.
//!
//! Deliberately absent: a grammar. Tokens and matching `function ... end` are
//! enough, and what is not valid Lua was refused before.

use crate::token::{Kind, Token, tokens};

/// Something slow, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What it is.
    pub message: &'static str,
    /// What to write instead.
    pub help: &'static str,
}

/// What is slow in the per-message function of `source`, in its order.
#[must_use]
pub fn lint(source: &str) -> Vec<Lint> {
    let tokens = tokens(source);
    let scan = Scan { source, tokens: &tokens };
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if let Some(body) = scan.body_of_message_function(at) {
            scan.look(body, &mut found);
        }
    }
    found
}

struct Rule {
    /// Tokens one after the other; a first `.` or `:` stands for either.
    tokens: &'static [&'static str],
    message: &'static str,
    help: &'static str,
}

const RULES: [Rule; 7] = [
    Rule {
        tokens: &["pcall", "(", "function"],
        message: "pcall(function ...) makes a function anew for every message",
        help: "write the function once outside, and pcall(name, msg)",
    },
    Rule {
        tokens: &["xpcall", "(", "function"],
        message: "xpcall(function ...) makes a function anew for every message",
        help: "write the function once outside, and xpcall(name, handler, msg)",
    },
    Rule {
        tokens: &["function"],
        message: "a function is made anew for every message",
        help: "write it once outside, and hand it what it needs as arguments",
    },
    Rule {
        tokens: &["pairs", "("],
        message: "pairs takes a message off the fast path",
        help: "use a list with `for i = 1, #list do`, or name the fields",
    },
    Rule {
        tokens: &["next", "("],
        message: "next takes a message off the fast path",
        help: "keep a count beside the table, or use a list",
    },
    Rule {
        tokens: &[".", "format", "("],
        message: "string.format takes a message off the fast path",
        help: "join with msg:put(field, a, b), or store numbers and format them where they are read",
    },
    Rule {
        tokens: &[".", "gsub", "("],
        message: "gsub takes a message off the fast path",
        help: "test first with find whether there is anything to replace",
    },
];

struct Scan<'a> {
    source: &'a str,
    tokens: &'a [Token],
}

impl<'a> Scan<'a> {
    fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| &self.source[token.start..token.end])
    }

    fn is(&self, at: usize, texts: &[&str]) -> bool {
        texts.iter().enumerate().all(|(n, text)| self.text(at + n) == *text)
    }

    /// The tokens inside the function of the message, if it begins at `at`.
    fn body_of_message_function(&self, at: usize) -> Option<std::ops::Range<usize>> {
        let open = if self.is(at, &["return", "function", "("]) {
            at + 2
        } else if self.is(at, &["process", "=", "function", "("]) {
            at + 3
        } else if self.is(at, &["process", "("]) && at > 1 && self.is(at - 2, &["."]) || {
            self.is(at, &["process", "("]) && at > 0 && self.text(at - 1) == "function"
        } {
            at + 1
        } else {
            return None;
        };
        // A call of something named so, or a function inside a function.
        let declared = at < 4 || self.is(at.saturating_sub(3), &["function"]) || open != at + 1;
        let start = (open..self.tokens.len()).find(|at| self.text(*at) == ")")? + 1;
        declared.then(|| start..self.end_of_block(start))
    }

    /// The token of the `end` that closes what is open at `from`.
    fn end_of_block(&self, from: usize) -> usize {
        let mut depth = 1;
        for at in from..self.tokens.len() {
            match self.text(at) {
                // `for` and `while` open with their `do`.
                "function" | "if" | "do" | "repeat" => depth += 1,
                "end" | "until" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len()
    }

    fn look(&self, body: std::ops::Range<usize>, found: &mut Vec<Lint>) {
        let mut at = body.start;
        while at < body.end {
            let rule = RULES.iter().find(|rule| self.matches(at, rule));
            if let Some(rule) = rule {
                found.push(self.at(at, rule));
                at += rule.tokens.len();
            } else {
                at += 1;
            }
        }
    }

    fn matches(&self, at: usize, rule: &Rule) -> bool {
        let first = rule.tokens[0];
        let method = first == "." && matches!(self.text(at), "." | ":");
        let before = at.checked_sub(1).map_or("", |before| self.text(before));
        // A field or a method of that name is something else.
        let free = first == "." || self.tokens[at].kind == Kind::Word || !matches!(before, "." | ":");
        (method || self.text(at) == first) && free && self.is(at + 1, &rule.tokens[1..])
    }

    fn at(&self, at: usize, rule: &Rule) -> Lint {
        let before = &self.source[..self.tokens[at].start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Lint {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: rule.message,
            help: rule.help,
        }
    }
}
