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

const RULES: [Rule; 6] = [
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
        message: "pairs is not compiled well",
        help: "use a list and `for i = 1, #list do`, or name the fields",
    },
    Rule {
        tokens: &[".", "format", "("],
        message: "string.format is slow for every message",
        help: "join with msg:put(field, a, b), or store numbers and format them where they are read",
    },
    Rule {
        tokens: &[".", "gsub", "("],
        message: "gsub is slow for every message",
        help: "test with find first whether there is anything to replace",
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
        let named = self.is(at, &["function"]) && self.is_method_named_process(at + 1);
        let open = if self.is(at, &["return", "function", "("]) {
            at + 2
        } else if self.is(at, &["process", "=", "function", "("]) {
            at + 3
        } else if named {
            (at..self.tokens.len()).find(|at| self.text(*at) == "(")?
        } else {
            return None;
        };
        let start = (open..self.tokens.len()).find(|at| self.text(*at) == ")")? + 1;
        Some(start..self.end_of_block(start))
    }

    /// `M.process(`, `process(`.
    fn is_method_named_process(&self, at: usize) -> bool {
        self.is(at, &["process", "("]) || (self.is(at + 1, &[".", "process", "("]))
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
        let free =
            first == "." || self.tokens[at].kind == Kind::Word || !matches!(before, "." | ":");
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

#[cfg(test)]
mod tests {
    use super::lint;

    fn found(source: &str) -> Vec<(usize, usize, &'static str)> {
        lint(source)
            .iter()
            .map(|l| (l.line, l.column, l.message.split(' ').next().unwrap()))
            .collect()
    }

    #[test]
    fn what_is_slow_in_the_function_of_the_message_is_found_at_its_place() {
        let short = "local t = {}\nfor k in pairs(t) do end\nreturn function(msg)\n  \
            local ok = pcall(function() return msg.a end)\n  for k, v in pairs(t) do end\n  \
            msg.b = msg.c:gsub('a', 'b') .. string.format('%d', 1)\n  return msg\nend";
        assert_eq!(
            found(short),
            [
                (4, 14, "pcall(function"),
                (5, 15, "pairs"),
                (6, 16, "gsub"),
                (6, 41, "string.format")
            ]
        );
        let full = "local M = {}\nfunction M.init() local f = function() end return {} end\n\
            function M.process(msg)\n  local f = function() end\n  return msg\nend\nreturn M";
        assert_eq!(found(full), [(4, 13, "a")]);
        assert_eq!(
            found("return { process = function(m) next(m) xpcall(function() end, e) end }").len(),
            1
        );
    }

    #[test]
    fn helpers_outside_strings_and_fields_of_such_names_are_left_alone() {
        for source in [
            "local function f(m) return function() end end\nreturn function(msg) return f(msg) end",
            "return function(msg) msg.pairs = 'pairs(' -- pairs(t)\n return msg end",
            "return function(msg) local ok = pcall(f, msg) return msg:find('x') end",
            "return function(msg) if msg.function_ then for i = 1, 3 do end end end\n\
             local g = function() for k in pairs(t) do end end",
            "",
        ] {
            assert_eq!(found(source), [], "{source}");
        }
    }
}
