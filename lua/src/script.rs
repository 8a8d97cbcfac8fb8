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
//!   (1 to n) or a map (text keys; an empty table is a map, `list{}` an empty
//!   list); `null` as JSON's null; an int64 (`5LL`) exactly. Anything else is an
//!   error. A name that is not UTF-8 or longer than 1024 bytes is one, too.
//! - `msg.a.b = value` and `msg.a[1] = value` change one place of a nested value
//!   and leave all else as it is. nil removes an entry of a map and the last of
//!   a list; elsewhere in a list it leaves null. A list grows by one place at a
//!   time. A parent that is not there is not made: that is an error.
//! - `msg:has(field)` is true of null, too, which reads as nil. `msg:put(field,
//!   ...)` stores texts and numbers joined; `msg:copy()` is a plain table that
//!   may be kept; `msg:fields()` iterates over names and values;
//!   `msg:ts_int64()` is the time at which the message came in, exactly. These
//!   names are methods even where the message has a field of that name:
//!   `msg:get("copy")` reads that. Assignments always mean fields.
//! - `msg.ts` and `msg.key` are the message's fields where it has them, else
//!   the time at which it came in, in microseconds, and the value of the flow's
//!   partition key.
//!
//! `process` returns `msg` to keep it, nil or false to drop it, or a table that
//! becomes the message instead; `return msg, "port"` sends it to a named port.
//! `ctx.emit(table, port)` adds messages, before the one at hand; `ctx.now()` is
//! the turn's wall clock in microseconds; `ctx.log(...)`; `ctx.config` is the
//! operator's `config`, in which a duration is the text that was written.
//! `ctx.metrics.NAME:inc(n)`, `:set(v)` and `:observe(v)` count in a metric of
//! the operator: a counter, a gauge or a histogram, up to 64 names.
//!
//! `state` is a table per partition of the flow's keys, made by `init(ctx)` when
//! the first message of the partition comes (once at loading, too, to see
//! whether it can be). It holds nil, booleans, numbers, int64, texts, `null`
//! and tables of these, each reached once: then it is part of checkpoints, moves
//! between shards with its partition, and outlives a restart. Locals of the
//! script do not; all partitions of a shard share them until the next reload.
//! A version of the script that differs from the last one's gets
//! `migrate(state, version)` for every partition, on a copy. `on_timer(state,
//! ctx)` is called for every partition with a state; what it emits belongs to
//! that partition.
//!
//! `require "name"` loads text from a file beside the script or in `lua/`, once
//! per version of the script, into the script's own environment.

use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, IntoLua, Lua, Table, Value};
use ringmain_base::Reason;
use ringmain_metrics::Named;
use ringmain_ops::{Code, CodeVersion, Context, Operator};
use ringmain_slab::{SharedSchema, Slab};

use crate::error::CompileError;
use crate::host::{Counters, Host, Limits, internal};
use crate::load::{FindModule, Loaded, Loader};
use crate::quarantine::Quarantine;
use crate::saved::{self, Places};
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
#[derive(Clone)]
pub struct ScriptOptions<'a> {
    /// Time and memory.
    pub limits: Limits,
    /// `ctx.config`.
    pub config: Option<&'a Config>,
    /// Output ports besides the default one.
    pub ports: &'a [String],
    /// Fields of the flow's partition key, for `msg.key`.
    pub key: &'a [String],
    /// How many partitions the flow's keys fall into.
    pub partitions: u16,
    /// Where `ctx.log` goes; without one it is dropped.
    pub log: Option<Log>,
    /// Where `ctx.metrics` counts.
    pub metrics: Option<Arc<Named>>,
    /// What `require` finds; without one nothing.
    pub modules: Option<FindModule>,
    /// In quarantine it admits no message, instead of refusing every one.
    pub blocks: bool,
}

impl Default for ScriptOptions<'_> {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            config: None,
            ports: &[],
            key: &[],
            partitions: 1,
            log: None,
            metrics: None,
            modules: None,
            blocks: false,
        }
    }
}

/// An operator written in Lua.
pub struct Script {
    host: Host,
    schema: SharedSchema,
    ports: Vec<String>,
    partitions: u16,
    /// What script.lua returned.
    part: Table,
    context: Table,
    current: Loaded,
    /// When the timer is due; 0 until the first look at the clock.
    due_us: u64,
    quarantine: Quarantine,
    blocks: bool,
    /// Why the timer failed last, if it did.
    failing: Option<String>,
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
    if let Some(metrics) = &options.metrics {
        host.with_env(|env| env.set_metrics(metrics.clone()));
    }
    let (part, context) = parts(&host, options).map_err(|error| internal(&error))?;
    let find = options
        .modules
        .clone()
        .unwrap_or_else(|| Rc::new(|name: &str| Err(format!("there is no module '{name}'"))));
    let code = Code { text: source.into(), chunk: chunk.into(), modules: Arc::default() };
    let mut loader = Loader { host: &mut host, part: &part, context: &context };
    let current = loader.load(&code, &find, None)?;
    intern(schema, source);
    Ok(Box::new(Script {
        host,
        schema: schema.clone(),
        ports: options.ports.to_vec(),
        partitions: options.partitions.max(1),
        part,
        context,
        current,
        due_us: 0,
        quarantine: Quarantine::new(options.limits.kills),
        blocks: options.blocks,
        failing: None,
    }))
}

fn intern(schema: &SharedSchema, source: &str) {
    for name in written(source) {
        // Beyond the slots it goes to the rest of each row.
        let _ = schema.intern(&name);
    }
}

/// script.lua and `ctx`.
fn parts(host: &Host, options: &ScriptOptions<'_>) -> mlua::Result<(Table, Table)> {
    let lua = host.lua();
    let keys = lua.create_sequence_from(options.key.iter().map(String::as_str))?;
    host.prelude().get::<Function>("keys")?.call::<()>(keys)?;
    let part = host.script_part()?;
    part.get::<Function>("partitions")?.call::<()>(options.partitions.max(1))?;
    let lists: Table = host.prelude().get("list_meta")?;
    let config = options.config.map_or(Ok(Value::Nil), |v| config_value(lua, v, &lists))?;
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
    let context = part.get::<Function>("context")?.call((config, log, ports))?;
    Ok((part, context))
}

fn config_value(lua: &Lua, config: &Config, lists: &Table) -> mlua::Result<Value> {
    Ok(match config {
        Config::Bool(v) => Value::Boolean(*v),
        Config::Int(v) => (*v as f64).into_lua(lua)?,
        Config::Float(v) => v.into_lua(lua)?,
        Config::Str(v) => v.as_str().into_lua(lua)?,
        Config::List(list) => {
            let table = lua.create_table()?;
            for (at, value) in list.iter().enumerate() {
                table.raw_set(at + 1, config_value(lua, value, lists)?)?;
            }
            table.set_metatable(Some(lists.clone()))?;
            Value::Table(table)
        }
        Config::Map(map) => {
            let table = lua.create_table()?;
            for (name, value) in map {
                table.raw_set(name.as_str(), config_value(lua, value, lists)?)?;
            }
            Value::Table(table)
        }
    })
}

impl Script {
    /// Replaces the script; the state stays, upgraded by `migrate` where the
    /// new version has it and calls itself something else.
    ///
    /// # Errors
    /// Where it does not compile or load; the old version goes on.
    pub fn reload(&mut self, code: &Code) -> Result<(), CompileError> {
        let modules = code.modules.clone();
        let find: FindModule = Rc::new(move |name: &str| {
            let found = modules.iter().find(|module| &*module.name == name).cloned();
            found.ok_or_else(|| format!("there is no module '{name}'"))
        });
        let (part, context) = (&self.part, &self.context);
        let mut loader = Loader { host: &mut self.host, part, context };
        let loaded = loader.load(code, &find, Some(&self.current))?;
        if loaded.period != self.current.period {
            self.due_us = 0;
        }
        self.current = loaded;
        self.quarantine.reset();
        self.failing = None;
        intern(&self.schema, &code.text);
        Ok(())
    }

    /// What was loaded, with all that it required.
    #[must_use]
    pub fn code(&self) -> &Code {
        &self.current.code
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

    /// The values that saving and reading a state needs, for a raw call.
    fn helpers(&self) -> mlua::Result<(Function, Table)> {
        Ok((self.part.get("int64")?, self.host.prelude().get("list_meta")?))
    }

    fn save_state(&self, state: Table, into: &mut Vec<u8>) -> mlua::Result<Result<(), String>> {
        let version: Value = self.current.module.get("version")?;
        let (int64, lists) = self.helpers()?;
        let mut done = Ok(());
        // SAFETY: the four arguments are on the stack, in protected mode, and
        // nothing here owns what an error would leave behind.
        unsafe {
            self.host.lua().exec_raw::<()>((int64, lists, version, state), |state| {
                mlua::ffi::luaL_checkstack(state, saved::STACK_SLOTS, std::ptr::null());
                let places = Places { state, int64: 1, lists: 2 };
                done = saved::save(places, 3, into).and_then(|()| saved::save(places, 4, into));
                mlua::ffi::lua_settop(state, 0);
            })?;
        }
        Ok(done.map_err(|error| error.to_string()))
    }

    /// The version and the state that the bytes are.
    fn read_state(&self, bytes: &[u8]) -> mlua::Result<Result<(Value, Table), &'static str>> {
        let (int64, lists) = self.helpers()?;
        let mut read = Ok(0);
        // SAFETY: as in `save_state`.
        let (version, state): (Value, Value) = unsafe {
            self.host.lua().exec_raw((int64, lists), |state| {
                mlua::ffi::luaL_checkstack(state, saved::STACK_SLOTS, std::ptr::null());
                let places = Places { state, int64: 1, lists: 2 };
                read = saved::push(places, bytes)
                    .and_then(|len| Ok(len + saved::push(places, &bytes[len..])?));
                if read.is_err() {
                    mlua::ffi::lua_settop(state, 0);
                    mlua::ffi::lua_pushnil(state);
                    mlua::ffi::lua_pushnil(state);
                } else {
                    mlua::ffi::lua_remove(state, 1);
                    mlua::ffi::lua_remove(state, 1);
                }
            })?
        };
        Ok(match (read, version, state) {
            (Err(why), ..) => Err(why),
            (Ok(len), ..) if len != bytes.len() => Err("there is more than a state"),
            (_, Value::Table(_), _) => Err("the version is a table"),
            (_, version, Value::Table(state)) => Ok((version, state)),
            _ => Err("it is not a table"),
        })
    }
}

impl Operator for Script {
    fn ports(&self) -> &[String] {
        &self.ports
    }

    fn state_format(&self) -> Option<&'static str> {
        self.current.stateful.then_some("lua/1")
    }

    fn save(&mut self, partition: u16, into: &mut Vec<u8>) -> Result<(), String> {
        let state = self.part.get::<Function>("state").and_then(|get| get.call(partition));
        let state: Option<Table> = state.map_err(|error| error.to_string())?;
        let Some(state) = state else { return Ok(()) };
        let start = into.len();
        let done = self.save_state(state, into).map_err(|error| error.to_string()).flatten();
        if done.is_err() {
            into.truncate(start);
        }
        done
    }

    fn restore(&mut self, partition: u16, bytes: &[u8]) -> Result<(), String> {
        let read = self.read_state(bytes).map_err(|error| error.to_string())?;
        let (version, state) = read.map_err(|why| format!("not the state of a script: {why}"))?;
        let restore: Function = self.part.get("restore").map_err(|error| error.to_string())?;
        let arguments = (self.current.module.clone(), partition, state, version);
        self.host.load_call(&restore, arguments).map_err(|error| error.to_string())
    }

    fn reload(&mut self, code: &Code) -> Result<(), String> {
        Self::reload(self, code).map_err(|error| {
            let chunk = error.chunk.as_deref().unwrap_or(&code.chunk);
            format!("{chunk}:{}: {}", error.line, error.message)
        })
    }

    fn code_version(&self) -> Option<CodeVersion> {
        Some(self.current.version.clone())
    }

    fn process(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        if self.quarantine.is_closed() {
            return refuse_all(slab, cx, &self.quarantine.why());
        }
        let stops = self.host.counters().kills;
        self.host.process(slab, cx, &|error, text| text.push_str(error));
        self.note_stops(stops, cx);
    }

    fn trouble(&self) -> Option<String> {
        self.quarantine.is_closed().then(|| self.quarantine.why())
    }

    fn failing(&self) -> Option<String> {
        self.failing.clone()
    }

    fn blocks(&self) -> bool {
        self.blocks && self.quarantine.is_closed()
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
            let stops = self.host.counters().kills;
            self.failing = self.host.timer(self.partitions, slab, cx);
            self.note_stops(stops, cx);
        }
        // From the time it was due, unless calls were missed.
        let next = self.due_us + period_us;
        self.due_us = if next > now_us && self.due_us != 0 { next } else { now_us + period_us };
    }
}

impl Script {
    /// Counts what the watchdog has stopped since there were `before` stops.
    fn note_stops(&mut self, before: u64, cx: &Context<'_>) {
        let stops = self.host.counters().kills - before;
        if stops > 0 {
            self.quarantine.note(stops, cx.now.mono_us);
        }
    }
}

fn refuse_all(slab: &mut Slab, cx: &mut Context<'_>, why: &str) {
    for row in slab.rows() {
        cx.refuse.refuse(row, Reason::Limit, why);
    }
    slab.clear();
}
