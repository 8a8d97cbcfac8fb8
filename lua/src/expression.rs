//! Expressions: checked, their names resolved, turned into functions.

use mlua::Function;
use ringmain_slab::SharedSchema;

use crate::error::CompileError;
use crate::host::{Host, Limits};
use crate::scope::{self, Analysed, place};
use crate::token::tokens;

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
    for token in tokens(source) {
        let beginning = format!("local function f() return ({}", &source[..token.end]);
        let globals = host.lua().globals();
        if let Err(error) = host.compile(&beginning, "expression", globals)
            && !error.message.ends_with("near '<eof>'")
        {
            let (line, column) = place(source, token.start);
            return CompileError::new(error.message, line, column);
        }
    }
    let (line, column) = place(source, source.trim_end().len());
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
