//! Expressions: checked, their names resolved, turned into functions.

use mlua::Function;
use ringmain_slab::SharedSchema;

use crate::error::CompileError;
use crate::host::{Host, Limits};
use crate::scope::{self, Analysed, place};
use crate::token::{read, tokens};

/// Checks an expression without a flow to run it in; the names of its fields.
///
/// # Errors
/// Where the expression is not one, with the place inside it.
pub fn check(source: &str) -> Result<Vec<String>, CompileError> {
    let host = Host::new(&SharedSchema::new(), Limits::default())?;
    analyse(&host, source).map(|analysed| analysed.fields)
}

/// Checks the syntax and finds the fields.
pub(crate) fn analyse(host: &Host, source: &str) -> Result<Analysed, CompileError> {
    if tokens(source).is_empty() && !source.contains(|c: char| !c.is_whitespace()) {
        return Err(CompileError::new("an expression is missing", 1, 1));
    }
    syntax(host, &format!("return ({source}\n)")).map_err(|error| locate(host, source, error))?;
    scope::analyse(source)
}

fn syntax(host: &Host, source: &str) -> Result<Function, CompileError> {
    // In a function without `...`, as it will be.
    let source = format!("local function f() {source} end");
    host.compile(&source, "expression", host.lua().globals())
}

/// LuaJIT tells the line only. The first token that makes a beginning of the
/// expression wrong, rather than merely unfinished, is the one to point at.
fn locate(host: &Host, source: &str, error: CompileError) -> CompileError {
    let (tokens, unfinished) = read(source);
    for token in tokens {
        let beginning = format!("local function f() return ({}", &source[..token.end]);
        let globals = host.lua().globals();
        if let Err(error) = host.compile(&beginning, "expression", globals)
            && !error.message.ends_with("near '<eof>'")
        {
            let (line, column) = place(source, token.start);
            // The parenthesis that LuaJIT misses may be ours.
            let whole = syntax(host, &format!("return ({}\n)", &source[..token.start])).is_ok();
            let message = if whole && error.message.starts_with("')' expected") {
                format!("unexpected '{}' after the expression", &source[token.start..token.end])
            } else {
                error.message
            };
            return CompileError::new(message, line, column);
        }
    }
    let at = unfinished.filter(|_| error.message.starts_with("unfinished"));
    let (line, column) = place(source, at.unwrap_or(source.trim_end().len()));
    let message = error.message.replace("near ')'", "at the end of the expression");
    CompileError::new(message, line, column)
}

/// A name as a Lua string.
pub(crate) fn quote(name: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            quoted.push(char::from(byte));
        } else {
            quoted.push_str(&format!("\\{byte:03}"));
        }
    }
    quoted.push('"');
    quoted
}
