//! Operators written in Lua.
//!
//! The short form is a function of the message; the full form a table with
//! `process` and, if it likes, `init`, `on_timer` with `timer`, `migrate` and
//! `version`. A new version of the script takes over the state of the old one
//! between two slabs; when anything about it fails, the old one stays.
//!
//! The message, `msg`, is good during the call that it is given to:
//! - `msg.field`, `msg["odd-name"]`, `msg.a.b[1]`: nil where there is no such
//!   field, and for JSON's null. Numbers are Lua numbers; a whole number beyond
//!   2^53 loses digits when it is read, and none as long as it is not written.
//!   Nested values are proxies that read where the value lies; `#`, `pairs` and
//!   `ipairs` work on them.
//! - `msg.field = value`: nil removes the field; a whole number below 2^53 is
//!   stored as one, any other as a float (NaN and infinities too, which an
//!   encoder refuses); text that is not UTF-8 as bytes; a table whole, as a list
//!   (1 to n) or a map (text keys; an empty table is a map); `null` as JSON's
//!   null; an int64 (`5LL`) exactly. Anything else is an error.
//! - `msg:put(field, ...)` stores texts and numbers joined; `msg:copy()` is a
//!   plain table that may be kept; `msg:fields()` iterates over names and
//!   values; `msg:ts_int64()` is the time at which the message came in, exactly.
//!   These names are methods even where the message has a field of that name:
//!   `msg:get("copy")` reads that. Assignments always mean fields.
//! - `msg.ts` and `msg.key` are the message's fields where it has them, else
//!   the time at which it came in, in microseconds, and the value of the flow's
//!   partition key.
//!
//! `process` returns `msg` to keep it, nil or false to drop it, or a table that
//! becomes the message instead. `ctx.emit(table, port)` adds messages, before
//! the one at hand; `ctx.now()` is the turn's wall clock in microseconds;
//! `ctx.log(...)`, `ctx.config`.

use std::rc::Rc;
use std::time::Duration;

use mlua::{Function, IntoLua, Lua, Table, Value};
use ringmain_base::Reason;
use ringmain_base::units::parse_duration;
use ringmain_ops::{Context, Operator};
use ringmain_slab::{SharedSchema, Slab};

use crate::error::CompileError;
use crate::host::{Call, Counters, Host, Limits};
use crate::quarantine::Quarantine;
use crate::writes::written;

/// A value of the flow's file, for `ctx.config`.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    List(Vec<Config>),
    /// A table.
    Map(Vec<(String, Config)>),
}

/// Takes a line of `ctx.log`.
pub type Log = Rc<dyn Fn(&str)>;

/// What a script is given besides its source.
#[derive(Clone, Default)]
pub struct ScriptOptions<'a> {
    /// Time and memory.
    pub limits: Limits,
    /// `ctx.config`.
    pub config: Option<&'a Config>,
    /// Output ports besides the default one, for `ctx.emit`.
    pub ports: &'a [String],
    /// Fields of the flow's partition key, for `msg.key`.
    pub key: &'a [String],
    /// Where `ctx.log` goes; without one it is dropped.
    pub log: Option<Log>,
}

/// An operator written in Lua.
pub struct Script {
    host: Host,
    schema: SharedSchema,
    ports: Vec<String>,
    context: Table,
    log: Option<Log>,
    current: Loaded,
    /// When the timer is due; 0 until the first look at the clock.
    due_us: u64,
    quarantine: Quarantine,
}

/// One version of a script and the state it works on.
struct Loaded {
    module: Table,
    state: Value,
    period: Option<Duration>,
}

/// Makes an operator of a script. `chunk` names it in messages.
///
/// # Errors
/// Where it does not compile or does not load.
pub fn script(
    source: &str,
    chunk: &str,
    options: &ScriptOptions<'_>,
    schema: &SharedSchema,
) -> Result<Box<Script>, CompileError> {
    let mut host = Host::new(schema, options.limits)?;
    let keys = options.key.iter().map(String::as_str);
    let context = (|| -> mlua::Result<Table> {
        let keys = host.lua().create_sequence_from(keys)?;
        host.prelude().get::<Function>("keys")?.call::<()>(keys)?;
        context(&host, options)
    })()
    .map_err(|error| crate::host::compile_error(&error))?;
    let current = load(&mut host, source, chunk, &context, None)?;
    intern(schema, source);
    Ok(Box::new(Script {
        host,
        schema: schema.clone(),
        ports: options.ports.to_vec(),
        context,
        log: options.log.clone(),
        current,
        due_us: 0,
        quarantine: Quarantine::new(options.limits.kills),
    }))
}

fn intern(schema: &SharedSchema, source: &str) {
    for name in written(source) {
        // Beyond the slots it goes to the rest of each row.
        let _ = schema.intern(&name);
    }
}

fn context(host: &Host, options: &ScriptOptions<'_>) -> mlua::Result<Table> {
    let lua = host.lua();
    let config = options.config.map_or(Ok(Value::Nil), |config| config_value(lua, config))?;
    let log = options.log.clone();
    let log = lua.create_function(move |_, text: mlua::LuaString| {
        if let Some(log) = &log {
            log(&text.to_string_lossy());
        }
        Ok(())
    })?;
    let ports = lua.create_table()?;
    for (at, port) in options.ports.iter().enumerate() {
        ports.set(port.as_str(), at + 1)?;
    }
    host.prelude().get::<Function>("context")?.call((config, log, ports))
}

fn config_value(lua: &Lua, config: &Config) -> mlua::Result<Value> {
    Ok(match config {
        Config::Bool(v) => Value::Boolean(*v),
        Config::Int(v) => (*v as f64).into_lua(lua)?,
        Config::Float(v) => v.into_lua(lua)?,
        Config::Str(v) => v.as_str().into_lua(lua)?,
        Config::List(list) => {
            let table = lua.create_table()?;
            for (at, value) in list.iter().enumerate() {
                table.raw_set(at + 1, config_value(lua, value)?)?;
            }
            Value::Table(table)
        }
        Config::Map(map) => {
            let table = lua.create_table()?;
            for (name, value) in map {
                table.raw_set(name.as_str(), config_value(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}

/// Loads a version of the script aside and, once nothing can fail any more,
/// installs it.
fn load(
    host: &mut Host,
    source: &str,
    chunk: &str,
    context: &Table,
    old: Option<&Loaded>,
) -> Result<Loaded, CompileError> {
    let environment = host.new_environment()?;
    let function = host.compile(source, chunk, environment)?;
    let module: Table = host.load_call(&host.member::<Function>("module")?, function)?;
    let period = period(&module)?;
    let before = match old {
        None => Value::Nil,
        Some(old) => {
            let before = host.lua().create_table().and_then(|before| {
                before.set("state", old.state.clone())?;
                before.set("version", old.module.get::<Value>("version")?)?;
                Ok(before)
            });
            Value::Table(before.map_err(|error| crate::host::compile_error(&error))?)
        }
    };
    let arguments = (module.clone(), context.clone(), before);
    let state: Value = host.load_call(&host.member::<Function>("state")?, arguments)?;
    let arguments = (module.clone(), state.clone(), context.clone());
    let timer: Option<Function> = host.load_call(&host.member::<Function>("timer")?, arguments)?;
    let process: Function =
        module.get("process").map_err(|error| crate::host::compile_error(&error))?;
    host.install("script", process, Some((&state, context)), timer)?;
    Ok(Loaded { module, state, period })
}

fn period(module: &Table) -> Result<Option<Duration>, CompileError> {
    let wrong = |why: String| CompileError::new(format!("timer: {why}"), 1, 1);
    let timer: Value = module.get("timer").map_err(|error| wrong(error.to_string()))?;
    let text = match timer {
        Value::Nil => return Ok(None),
        Value::String(text) => text.to_string_lossy(),
        _ => return Err(wrong("expected a duration such as \"10s\"".into())),
    };
    let period = parse_duration(&text).map_err(|error| wrong(error.to_string()))?;
    if period < Duration::from_millis(1) {
        return Err(wrong("shorter than 1ms".into()));
    }
    let on_timer: Value = module.get("on_timer").map_err(|error| wrong(error.to_string()))?;
    match on_timer {
        Value::Function(_) => Ok(Some(period)),
        _ => Err(wrong("there is no function `on_timer`".into())),
    }
}

impl Script {
    /// Replaces the script; the state stays, upgraded by `migrate` if the new
    /// version has it.
    ///
    /// # Errors
    /// Where it does not compile or load; the old version goes on.
    pub fn reload(&mut self, source: &str, chunk: &str) -> Result<(), CompileError> {
        let loaded = load(&mut self.host, source, chunk, &self.context, Some(&self.current))?;
        if loaded.period != self.current.period {
            self.due_us = 0;
        }
        self.current = loaded;
        self.quarantine.reset();
        intern(&self.schema, source);
        Ok(())
    }

    /// Memory of its Lua state now, garbage included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.host.lua().used_memory()
    }

    /// What it has done since it was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.host.counters()
    }
}

impl Operator for Script {
    fn ports(&self) -> &[String] {
        &self.ports
    }

    fn reload(&mut self, code: &str, chunk: &str) -> Result<(), String> {
        Self::reload(self, code, chunk)
            .map_err(|error| format!("{chunk}:{}: {}", error.line, error.message))
    }

    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        if self.quarantine.is_closed() {
            return refuse_all(slab, cx, &self.quarantine.why());
        }
        let stops = self.host.counters().kills;
        self.host.process(slab, cx, &|error, text| text.push_str(error));
        let stops = self.host.counters().kills - stops;
        if stops > 0 {
            self.quarantine.note(stops, cx.now.mono_us);
        }
    }

    fn trouble(&self) -> Option<String> {
        self.quarantine.is_closed().then(|| self.quarantine.why())
    }

    fn timer_at_us(&self) -> Option<u64> {
        self.current.period.filter(|_| !self.quarantine.is_closed()).map(|_| self.due_us)
    }

    fn on_timer(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        let Some(period) = self.current.period.filter(|_| !self.quarantine.is_closed()) else {
            return;
        };
        let period_us = period.as_micros() as u64;
        let now_us = cx.now.mono_us;
        if self.due_us != 0 && self.due_us <= now_us {
            let failed = self.host.timer(slab, cx);
            if let (Call::Failed(reason), Some(log)) = (failed, &self.log) {
                let why = if reason == Reason::Limit { "stopped: " } else { "" };
                log(&format!("on_timer: {why}{}", self.host.detail()));
            }
        }
        // From the time it was due, unless calls were missed.
        let next = self.due_us + period_us;
        self.due_us = if next > now_us && self.due_us != 0 { next } else { now_us + period_us };
    }
}

fn refuse_all(slab: &mut Slab, cx: &mut Context<'_>, why: &str) {
    for row in slab.rows() {
        cx.refuse.refuse(row, Reason::Limit, why);
    }
    slab.clear();
}
