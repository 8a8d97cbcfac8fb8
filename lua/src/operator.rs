//! Operators made of expressions: filter, map, route.

use mlua::{Function, Value};
use ringmain_ops::{Context, Operator};
use ringmain_slab::{SharedSchema, Slab};

use crate::error::{CompileError, split};
use crate::expression::{analyse, quote};
use crate::host::{Counters, Host, Limits};

/// An operator on a Lua state.
pub struct LuaOperator {
    host: Host,
    ports: Vec<String>,
    places: Places,
}

/// Turns lines of the code that was made into what the user wrote.
struct Places {
    name: String,
    /// First line of each part, in order, and its name within the operator.
    parts: Vec<(usize, String)>,
}

impl Places {
    /// `name.part:line: message`.
    fn explain(&self, error: &str, text: &mut String) {
        let Some((line, message)) = split(error).filter(|_| error.starts_with(CHUNK_COLON)) else {
            text.push_str(error);
            return;
        };
        let part = self.parts.iter().rev().find(|(first, _)| *first <= line);
        let (first, part) = part.map_or((1, ""), |(first, part)| (*first, part.as_str()));
        let dot = if part.is_empty() { "" } else { "." };
        text.push_str(&format!("{}{dot}{part}:{}: {message}", self.name, line + 1 - first));
    }
}

/// The name of generated code, in its own error messages.
const CHUNK: &str = "#";
const CHUNK_COLON: &str = "#:";

impl Operator for LuaOperator {
    fn ports(&self) -> &[String] {
        &self.ports
    }

    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        let places = &self.places;
        self.host.process(slab, cx, &|error, text| places.explain(error, text));
    }
}

impl LuaOperator {
    /// What it has done since it was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.host.counters()
    }
}

/// Code under construction, line by line.
struct Code {
    text: String,
    line: usize,
    parts: Vec<(usize, String)>,
}

impl Code {
    fn new(head: &str) -> Self {
        Self { text: format!("{head}\n"), line: 2, parts: Vec::new() }
    }

    /// Adds lines that belong to `part`.
    fn add(&mut self, part: &str, lines: &str) {
        self.parts.push((self.line, part.to_owned()));
        self.text.push_str(lines);
        self.text.push('\n');
        self.line += lines.matches('\n').count() + 1;
    }

    fn function(&self, host: &Host) -> Result<Function, CompileError> {
        let environment = host.new_environment()?;
        let chunk = host.compile(&self.text, CHUNK, environment)?;
        let member = |name| host.member::<Value>(name);
        let arguments =
            (member("fields")?, member("msg")?, member("set")?, member("rename")?, member("keep")?);
        host.load_call(&chunk, arguments)
    }
}

const HEAD: &str = "local __f, __m, __set, __rename, __keep = ... return function()";

fn operator(
    mut host: Host,
    name: &str,
    kind: &str,
    code: &Code,
    ports: Vec<String>,
) -> Result<Box<LuaOperator>, CompileError> {
    let process = code.function(&host)?;
    host.install_loop(kind, process)?;
    let places = Places { name: name.to_owned(), parts: code.parts.clone() };
    Ok(Box::new(LuaOperator { host, ports, places }))
}

/// Keeps the messages for which `condition` is neither false nor nil.
///
/// # Errors
/// Where the condition is not an expression.
pub fn filter(
    name: &str,
    condition: &str,
    schema: &SharedSchema,
) -> Result<Box<LuaOperator>, CompileError> {
    filter_within(Limits::default(), name, condition, schema)
}

/// The same, within other limits.
///
/// # Errors
/// Where the condition is not an expression.
pub fn filter_within(
    limits: Limits,
    name: &str,
    condition: &str,
    schema: &SharedSchema,
) -> Result<Box<LuaOperator>, CompileError> {
    let host = Host::new(schema, limits)?;
    let analysed = analyse(&host, condition)?;
    let mut code = Code::new(HEAD);
    code.add("where", &format!("return ({}\n)", analysed.source));
    code.add("", "end");
    operator(host, name, "filter", &code, Vec::new())
}

/// What [`map`] does to a message, in this order: all expressions of `set` are
/// evaluated on the message as it came in, then assigned in their order; then
/// fields are renamed, then removed, then all but those in `keep` are removed.
#[derive(Clone, Debug, Default)]
pub struct Map<'a> {
    /// Field and expression; nil removes the field.
    pub set: &'a [(String, String)],
    /// Old and new name, one after the other.
    pub rename: &'a [(String, String)],
    /// Fields that go.
    pub remove: &'a [String],
    /// The only fields that stay, by their names after renaming.
    pub keep: Option<&'a [String]>,
}

/// Why an expression of a map or a route does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartError {
    /// Which expression: its place in `set` or in the routes.
    pub part: usize,
    /// What is wrong with it.
    pub error: CompileError,
}

fn in_part(part: usize) -> impl Fn(CompileError) -> PartError {
    move |error| PartError { part, error }
}

/// Most expressions of one map or route: Lua has 200 locals per function.
const PARTS_MAX: usize = 128;

fn few(parts: usize) -> Result<(), PartError> {
    if parts <= PARTS_MAX {
        return Ok(());
    }
    let message = format!("more than {PARTS_MAX} expressions; use a second operator");
    Err(PartError { part: PARTS_MAX, error: CompileError::new(message, 1, 1) })
}

/// Sets, renames and removes fields.
///
/// # Errors
/// Which expression is wrong, and where.
pub fn map(
    name: &str,
    map: &Map<'_>,
    schema: &SharedSchema,
) -> Result<Box<LuaOperator>, PartError> {
    few(map.set.len())?;
    let host = Host::new(schema, Limits::default()).map_err(in_part(0))?;
    let mut code = Code::new(HEAD);
    for (part, (field, expression)) in map.set.iter().enumerate() {
        let analysed = analyse(&host, expression).map_err(in_part(part))?;
        code.add(&format!("set.{field}"), &format!("local __{part} = ({}\n)", analysed.source));
    }
    for (part, (field, _)) in map.set.iter().enumerate() {
        code.add(&format!("set.{field}"), &format!("__set(nil, {}, __{part})", quote(field)));
    }
    for (from, to) in map.rename {
        let call = format!("__rename({}, {})", quote(from), quote(to));
        code.add(&format!("rename.{from}"), &call);
    }
    for field in map.remove {
        code.add(&format!("remove.{field}"), &format!("__set(nil, {}, nil)", quote(field)));
    }
    if let Some(fields) = map.keep {
        host.with_env(|env| env.set_keep(fields));
        code.add("keep", "__keep()");
    }
    code.add("", "end");
    let written = map.set.iter().map(|(field, _)| field);
    for field in written.chain(map.rename.iter().map(|(_, to)| to)) {
        // Beyond the slots it goes to the rest of each row.
        let _ = schema.intern(field);
    }
    operator(host, name, "map", &code, Vec::new()).map_err(in_part(0))
}

/// Sends each message to the port of the first condition that holds, else to
/// `default`; without one it is dropped.
///
/// # Errors
/// Which condition is wrong, and where.
pub fn route(
    name: &str,
    routes: &[(String, String)],
    default: Option<&str>,
    schema: &SharedSchema,
) -> Result<Box<LuaOperator>, PartError> {
    few(routes.len())?;
    let host = Host::new(schema, Limits::default()).map_err(in_part(0))?;
    let mut code = Code::new(HEAD);
    let mut ports: Vec<String> = Vec::new();
    let mut number = |port: &str| {
        let at = ports.iter().position(|known| known == port).unwrap_or_else(|| {
            ports.push(port.to_owned());
            ports.len() - 1
        });
        at + 1
    };
    for (part, (port, condition)) in routes.iter().enumerate() {
        let analysed = analyse(&host, condition).map_err(in_part(part))?;
        let lines = format!("if ({}\n) then return {} end", analysed.source, number(port));
        code.add(&format!("routes.{port}"), &lines);
    }
    let last = default
        .map_or("return false end".to_owned(), |port| format!("return {} end", number(port)));
    code.add("", &last);
    operator(host, name, "route", &code, ports).map_err(in_part(0))
}
