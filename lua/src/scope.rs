//! Which names of an expression are fields: the free ones, that is, those that
//! no function inside the expression binds, unless they are used as one of the
//! functions and libraries that expressions have.
//!
//! A name that is both a field and a library is the library where it is called
//! (`type(x)`) or indexed with something that the library has (`math.floor`),
//! and the field everywhere else.
//!
//! The parser accepts what LuaJIT accepted before; it only keeps the scopes.

use crate::error::CompileError;
use crate::sandbox;
use crate::token::{Kind, Token, tokens};

/// An expression whose fields are written out.
#[derive(Debug)]
pub(crate) struct Analysed {
    /// The source with `rpm` as `__f.rpm` and `msg` as `__m`.
    pub(crate) source: String,
    /// Names of the fields, in the order of their first use.
    pub(crate) fields: Vec<String>,
}

/// Finds the fields of `source`, which LuaJIT has found to be an expression
/// when put in parentheses.
pub(crate) fn analyse(source: &str) -> Result<Analysed, CompileError> {
    let tokens = tokens(source);
    let mut parser =
        Parser { source, tokens: &tokens, at: 0, locals: Vec::new(), free: Vec::new() };
    let end = parser.expression().and_then(|()| match parser.peek() {
        None => Ok(()),
        Some(_) => Err(Stop::Syntax),
    });
    if let Err(stop) = end {
        let at = tokens.get(parser.at).map_or(source.len(), |token| token.start);
        let near = tokens.get(parser.at).map_or("<eof>", |token| &source[token.start..token.end]);
        let message = match stop {
            Stop::Syntax => format!("unexpected symbol near '{near}'"),
            Stop::Assignment => "an expression cannot assign fields".to_owned(),
            Stop::Reserved => format!("names that begin with __ are reserved: '{near}'"),
        };
        let (line, column) = place(source, at);
        return Err(CompileError::new(message, line, column));
    }
    Ok(rewrite(source, &tokens, &parser.free))
}

/// Line and column of a byte.
pub(crate) fn place(source: &str, at: usize) -> (usize, usize) {
    let before = &source[..at.min(source.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

fn rewrite(source: &str, tokens: &[Token], free: &[usize]) -> Analysed {
    let mut out = String::with_capacity(source.len() * 2);
    let mut fields: Vec<String> = Vec::new();
    let mut done = 0;
    for &at in free {
        let token = tokens[at];
        let name = &source[token.start..token.end];
        let text = |ahead: usize| tokens.get(at + ahead).map(|t| &source[t.start..t.end]);
        let called = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Str)
            || matches!(text(1), Some("(" | "{"));
        let indexed = (text(1) == Some(".")).then(|| text(2)).flatten();
        let is_msg = name == "msg" && matches!(text(1), Some("." | "[" | ":"));
        if is_msg {
            out.push_str(&source[done..token.start]);
            out.push_str("__m");
            done = token.end;
        } else if !sandbox::has(name, called, indexed) {
            out.push_str(&source[done..token.start]);
            out.push_str("__f.");
            out.push_str(name);
            done = token.end;
            if !fields.iter().any(|known| known == name) {
                fields.push(name.to_owned());
            }
        }
    }
    out.push_str(&source[done..]);
    Analysed { source: out, fields }
}

enum Stop {
    Syntax,
    Assignment,
    Reserved,
}

type Parsed = Result<(), Stop>;

struct Parser<'a> {
    source: &'a str,
    tokens: &'a [Token],
    at: usize,
    locals: Vec<&'a str>,
    /// Tokens that are free names.
    free: Vec<usize>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).map(|token| &self.source[token.start..token.end])
    }

    fn kind(&self) -> Option<Kind> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    /// Whether the next token is this operator or word.
    fn is(&self, text: &str) -> bool {
        self.peek() == Some(text) && matches!(self.kind(), Some(Kind::Op | Kind::Word))
    }

    fn take(&mut self, text: &str) -> bool {
        let is = self.is(text);
        self.at += usize::from(is);
        is
    }

    fn want(&mut self, text: &str) -> Parsed {
        if self.take(text) { Ok(()) } else { Err(Stop::Syntax) }
    }

    fn name(&mut self) -> Result<&'a str, Stop> {
        match (self.kind(), self.peek()) {
            (Some(Kind::Name), Some(name)) => {
                self.at += 1;
                Ok(name)
            }
            _ => Err(Stop::Syntax),
        }
    }

    fn bind(&mut self) -> Parsed {
        let name = self.name()?;
        if name.starts_with("__") {
            self.at -= 1;
            return Err(Stop::Reserved);
        }
        self.locals.push(name);
        Ok(())
    }

    fn expression(&mut self) -> Parsed {
        loop {
            while ["not", "-", "#"].iter().any(|op| self.take(op)) {}
            self.simple()?;
            const BINARY: [&str; 15] =
                ["+", "-", "*", "/", "%", "^", "..", "<", "<=", ">", ">=", "==", "~=", "and", "or"];
            if !BINARY.iter().any(|op| self.take(op)) {
                return Ok(());
            }
        }
    }

    fn expressions(&mut self) -> Parsed {
        self.expression()?;
        while self.take(",") {
            self.expression()?;
        }
        Ok(())
    }

    fn simple(&mut self) -> Parsed {
        match self.kind() {
            Some(Kind::Number | Kind::Str) => {
                self.at += 1;
                Ok(())
            }
            _ if ["nil", "true", "false", "..."].iter().any(|word| self.take(word)) => Ok(()),
            _ if self.is("{") => self.table(),
            _ if self.take("function") => self.function(),
            _ => self.suffixed().map(|_| ()),
        }
    }

    /// A name or a parenthesis with what follows it; the token of a bare free
    /// name.
    fn suffixed(&mut self) -> Result<Option<usize>, Stop> {
        let mut bare = None;
        if self.take("(") {
            self.expression()?;
            self.want(")")?;
        } else {
            let at = self.at;
            let name = self.name()?;
            if name.starts_with("__") {
                self.at = at;
                return Err(Stop::Reserved);
            }
            if !self.locals.contains(&name) {
                self.free.push(at);
                bare = Some(at);
            }
        }
        loop {
            if self.take(".") {
                self.name()?;
            } else if self.take("[") {
                self.expression()?;
                self.want("]")?;
            } else if self.take(":") {
                self.name()?;
                self.arguments()?;
            } else if self.is("(") || self.is("{") || self.kind() == Some(Kind::Str) {
                self.arguments()?;
            } else {
                return Ok(bare);
            }
            bare = None;
        }
    }

    fn arguments(&mut self) -> Parsed {
        if self.is("{") {
            return self.table();
        }
        if self.take("(") {
            if self.take(")") {
                return Ok(());
            }
            self.expressions()?;
            return self.want(")");
        }
        self.at += 1;
        Ok(())
    }

    fn table(&mut self) -> Parsed {
        self.want("{")?;
        while !self.take("}") {
            let next = self.tokens.get(self.at + 1);
            if self.take("[") {
                self.expression()?;
                self.want("]")?;
                self.want("=")?;
            } else if self.kind() == Some(Kind::Name)
                && next.is_some_and(|t| &self.source[t.start..t.end] == "=")
            {
                self.at += 2;
            }
            self.expression()?;
            if !self.take(",") && !self.take(";") && !self.is("}") {
                return Err(Stop::Syntax);
            }
        }
        Ok(())
    }

    fn function(&mut self) -> Parsed {
        let outer = self.locals.len();
        self.want("(")?;
        while !self.take(")") {
            if !self.take("...") {
                self.bind()?;
            }
            self.take(",");
        }
        self.block()?;
        self.want("end")?;
        self.locals.truncate(outer);
        Ok(())
    }

    /// Statements up to a word that ends a block; what they bind is forgotten.
    fn block(&mut self) -> Parsed {
        let outer = self.locals.len();
        self.statements()?;
        self.locals.truncate(outer);
        Ok(())
    }

    fn statements(&mut self) -> Parsed {
        while self.peek().is_some()
            && !["end", "else", "elseif", "until"].iter().any(|word| self.is(word))
        {
            self.statement()?;
        }
        Ok(())
    }

    fn statement(&mut self) -> Parsed {
        if self.take(";") || self.take("break") {
            return Ok(());
        }
        if self.take("if") {
            return self.conditional();
        }
        if self.take("while") {
            self.expression()?;
            self.want("do")?;
            self.block()?;
            return self.want("end");
        }
        if self.take("do") {
            self.block()?;
            return self.want("end");
        }
        if self.take("for") {
            return self.iteration();
        }
        if self.take("repeat") {
            let outer = self.locals.len();
            self.statements()?;
            self.want("until")?;
            self.expression()?;
            self.locals.truncate(outer);
            return Ok(());
        }
        if self.is("function") {
            return Err(Stop::Assignment);
        }
        if self.take("local") {
            return self.declaration();
        }
        if self.take("return") {
            let ends = ["end", "else", "elseif", "until", ";"].iter().any(|word| self.is(word));
            if !ends && self.peek().is_some() {
                self.expressions()?;
            }
            return Ok(());
        }
        if self.take("goto") {
            return self.name().map(|_| ());
        }
        if self.take("::") {
            self.name()?;
            return self.want("::");
        }
        self.assignment_or_call()
    }

    fn conditional(&mut self) -> Parsed {
        self.expression()?;
        self.want("then")?;
        self.block()?;
        if self.take("elseif") {
            return self.conditional();
        }
        if self.take("else") {
            self.block()?;
        }
        self.want("end")
    }

    fn iteration(&mut self) -> Parsed {
        let names = self.at;
        self.name()?;
        while self.take(",") {
            self.name()?;
        }
        if !self.take("=") {
            self.want("in")?;
        }
        // The names are not in scope of the expressions.
        self.expressions()?;
        self.want("do")?;
        let (outer, body) = (self.locals.len(), self.at);
        self.at = names;
        self.bind()?;
        while self.take(",") {
            self.bind()?;
        }
        self.at = body;
        self.block()?;
        self.locals.truncate(outer);
        self.want("end")
    }

    fn declaration(&mut self) -> Parsed {
        if self.take("function") {
            self.bind()?;
            return self.function();
        }
        let names = self.at;
        self.name()?;
        while self.take(",") {
            self.name()?;
        }
        if self.take("=") {
            self.expressions()?;
        }
        let after = self.at;
        self.at = names;
        self.bind()?;
        while self.take(",") {
            self.bind()?;
        }
        self.at = after;
        Ok(())
    }

    fn assignment_or_call(&mut self) -> Parsed {
        let mut bare = self.suffixed()?;
        let mut targets = 0;
        while self.is(",") || self.is("=") {
            if let Some(at) = bare {
                self.at = at;
                return Err(Stop::Assignment);
            }
            if self.take("=") {
                return self.expressions();
            }
            self.at += 1;
            bare = self.suffixed()?;
            targets += 1;
        }
        if targets == 0 { Ok(()) } else { Err(Stop::Syntax) }
    }
}

#[cfg(test)]
mod tests {
    use super::analyse;

    fn rewritten(source: &str) -> String {
        analyse(source).unwrap_or_else(|error| panic!("{source}: {error}")).source
    }

    #[test]
    fn free_names_are_fields() {
        for (source, expected) in [
            ("rpm > 100", "__f.rpm > 100"),
            ("rpm>100 and status~='off'", "__f.rpm>100 and __f.status~='off'"),
            ("a.b[c].d", "__f.a.b[__f.c].d"),
            ("-x ^ #y", "-__f.x ^ #__f.y"),
            ("not ok or (n .. '') == \"n\"", "not __f.ok or (__f.n .. '') == \"n\""),
            ("größe == [[x]]", "__f.größe == [[x]]"),
            ("a --[[ b ]] + c -- d", "__f.a --[[ b ]] + __f.c -- d"),
            ("'a' .. [==[ b ]] ]==] .. c", "'a' .. [==[ b ]] ]==] .. __f.c"),
            ("name:upper()", "__f.name:upper()"),
            ("{ a = a, [b] = b, c; d }", "{ a = __f.a, [__f.b] = __f.b, __f.c; __f.d }"),
            ("0xe-e", "0xe-__f.e"),
            ("1e-e", "1e-e"),
            (
                "copy or put or fields or ts or key",
                "__f.copy or __f.put or __f.fields or __f.ts or __f.key",
            ),
        ] {
            assert_eq!(rewritten(source), expected, "{source}");
        }
    }

    #[test]
    fn libraries_are_what_is_called_or_indexed_as_one() {
        for (source, expected) in [
            ("math.floor(x)", "math.floor(__f.x)"),
            ("math.size", "__f.math.size"),
            ("math > 1", "__f.math > 1"),
            ("type == 'a'", "__f.type == 'a'"),
            ("type(type) == 'a'", "type(__f.type) == 'a'"),
            ("tonumber '5'", "tonumber '5'"),
            ("type { 1 }", "type { 1 }"),
            ("string.len(string)", "string.len(__f.string)"),
            ("os.time() - time", "os.time() - __f.time"),
            ("os == 'linux'", "__f.os == 'linux'"),
            ("print(x)", "__f.print(__f.x)"),
            ("msg['a-b'] + msg.c", "__m['a-b'] + __m.c"),
            ("msg == 'hello'", "__f.msg == 'hello'"),
            ("msg:ts_int64()", "__m:ts_int64()"),
            ("x == null", "__f.x == null"),
        ] {
            assert_eq!(rewritten(source), expected, "{source}");
        }
    }

    #[test]
    fn names_that_functions_bind_are_not_fields() {
        for (source, expected) in [
            ("(function(x) return x + y end)(x)", "(function(x) return x + __f.y end)(__f.x)"),
            (
                "(function(...) local a = a; local b = function() return a end return a + b() + c end)(1)",
                "(function(...) local a = __f.a; local b = function() return a end return a + b() + __f.c end)(1)",
            ),
            (
                "(function() for i = i, n do if i > m then return i end end return i end)()",
                "(function() for i = __f.i, __f.n do if i > __f.m then return i end end return __f.i end)()",
            ),
            (
                "(function() for k, v in pairs(t) do v.x = k end return v end)()",
                "(function() for k, v in pairs(__f.t) do v.x = k end return __f.v end)()",
            ),
            (
                "(function() repeat local z = 1 until z > y return z end)()",
                "(function() repeat local z = 1 until z > __f.y return __f.z end)()",
            ),
            (
                "(function() do local a = 1 end while a do local function g() return g end end return g end)()",
                "(function() do local a = 1 end while __f.a do local function g() return g end end return __f.g end)()",
            ),
            (
                "(function(t) t.a, t.b = x, y; ::again:: if t.c then goto again elseif d then return else local e = 1 end return e end)({})",
                "(function(t) t.a, t.b = __f.x, __f.y; ::again:: if t.c then goto again elseif __f.d then return else local e = 1 end return __f.e end)({})",
            ),
        ] {
            assert_eq!(rewritten(source), expected, "{source}");
        }
    }

    #[test]
    fn what_an_expression_may_not_do_is_refused_at_its_place() {
        for (source, line, column, message) in [
            ("(function() x = 1 end)()", 1, 13, "an expression cannot assign fields"),
            ("(function() function f() end end)()", 1, 13, "an expression cannot assign fields"),
            ("a +\n __b", 2, 2, "names that begin with __ are reserved: '__b'"),
            ("1) or (2", 1, 2, "unexpected symbol near ')'"),
            ("a != b", 1, 3, "unexpected symbol near '!'"),
        ] {
            let error = analyse(source).unwrap_err();
            assert_eq!(
                (error.line, error.column, error.message.as_str()),
                (line, column, message),
                "{source}"
            );
        }
    }

    #[test]
    fn fields_are_listed_once_in_order() {
        assert_eq!(analyse("b + a * b - math.pi").unwrap().fields, ["b", "a"]);
    }
}
