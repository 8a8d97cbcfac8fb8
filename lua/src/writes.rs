//! Fields that a script writes, as far as its source shows: they get their
//! slots when it loads, so that rows are born with them instead of being moved
//! when the field is set. What is missed here gets its slot at the first write.

use crate::token::{Kind, Token, tokens};

/// Names that the source assigns to its message: `msg.name =`,
/// `msg["name"] =` and `msg:put("name", ...)`, where `msg` is the first
/// parameter of `process` or of the function that is returned.
pub(crate) fn written(source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let scan = Scan { source, tokens: &tokens };
    let messages: Vec<&str> = (0..tokens.len()).filter_map(|at| scan.message(at)).collect();
    let mut names: Vec<String> = Vec::new();
    for at in 0..tokens.len() {
        if messages.contains(&scan.text(at))
            && (at == 0 || !matches!(scan.text(at - 1), "." | ":"))
            && let Some(name) = scan.target(at + 1)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

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

    /// The name of the message, if its function begins at `at`.
    fn message(&self, at: usize) -> Option<&'a str> {
        let parameter = if self.is(at, &["return", "function", "("]) {
            at + 3
        } else if self.is(at, &["process", "("]) && at > 0 && self.text(at - 1) != ":" {
            at + 2
        } else if self.is(at, &["process", "=", "function", "("]) {
            at + 4
        } else {
            return None;
        };
        (self.tokens.get(parameter)?.kind == Kind::Name).then(|| self.text(parameter))
    }

    /// The field that is assigned, where the message's name ends at `at`.
    fn target(&self, at: usize) -> Option<String> {
        match self.text(at) {
            "." if self.text(at + 2) == "=" => Some(self.text(at + 1).to_owned()),
            "[" if self.is(at + 2, &["]", "="]) => self.plain(at + 1),
            ":" if self.is(at + 1, &["put", "("]) => self.plain(at + 3),
            _ => None,
        }
    }

    /// The text of a string without escapes.
    fn plain(&self, at: usize) -> Option<String> {
        let text = self.text(at);
        let inner = text.get(1..text.len().checked_sub(1)?)?;
        let quoted = text.starts_with(['"', '\'']) && !inner.contains('\\');
        quoted.then(|| inner.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::written;

    #[test]
    fn fields_that_a_script_assigns_are_found() {
        let short = "return function(m) m.a = 1 m['b-c'] = 2 m:put(\"d\", 1) x.e = 1
            if m.f == 1 then m.a = 2 end m[g] = 1 m['h\\n'] = 3 y.m.i = 1 end";
        assert_eq!(written(short), ["a", "b-c", "d"]);
        let full = "local M = {} function M.init(c) c.x = 1 end
            function M.process(msg, state) state.n = 1 msg.n = 2 end return M";
        assert_eq!(written(full), ["n"]);
        assert_eq!(written("return { process = function(row) row.z = 1 end }"), ["z"]);
        assert!(written("return 5 -- m.a = 1").is_empty());
    }
}
