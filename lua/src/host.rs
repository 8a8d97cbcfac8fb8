//! One Lua state: prelude, sandbox, limits, and the call per slab.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::time::Duration;

use mlua::chunk::ChunkMode;
use mlua::{Function, IntoLuaMulti, LightUserData, Lua, Table, Value, ffi};
use ringmain_base::Reason;
use ringmain_ops::Context;
use ringmain_slab::{SharedSchema, Slab};

use crate::env::{self, Env};
use crate::error::{CompileError, place_of};
use crate::sandbox;
use crate::watchdog::Watch;

/// What a Lua operator may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time per slab, per timer call and for loading.
    pub time: Duration,
    /// Memory of the operator's state in bytes, without compiled code.
    pub memory_bytes: usize,
    /// How many messages of one slab may be stopped; what is behind them in
    /// the slab is refused without a try.
    pub kills: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_millis(100), memory_bytes: 64 << 20, kills: 3 }
    }
}

/// What an operator has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that an error was raised on.
    pub errors: u64,
    /// Messages that ran out of time.
    pub kills: u64,
    /// Messages that ran out of memory.
    pub memory: u64,
}

/// One Lua state for one operator on one shard.
pub(crate) struct Host {
    watch: Watch,
    lua: Lua,
    state: *mut ffi::lua_State,
    prelude: Table,
    sandbox: Table,
    /// The function called per slab, in the registry.
    run: c_int,
    /// The function that the timer calls, likewise.
    timer: c_int,
    env: Pinned,
    kills: u32,
    memory_bytes: usize,
    /// Memory after the last collection that this forced.
    live_bytes: usize,
    counters: Counters,
    detail: String,
}

/// The environment at a fixed address; freed after the Lua state.
struct Pinned(NonNull<Env>);

impl Pinned {
    fn new(schema: &SharedSchema) -> Self {
        let env = Box::into_raw(Box::new(Env::new(schema.clone())));
        let pinned = Self(NonNull::new(env).expect("a box has an address"));
        pinned.with(Env::park);
        pinned
    }

    /// Lends the environment for as long as no Lua code runs.
    fn with<R>(&self, use_it: impl FnOnce(&mut Env) -> R) -> R {
        // SAFETY: the address came from a box that lives as long as this. Lua
        // is only entered by `Host::call`, never in `use_it`, and `Host` is
        // used by one thread, so nobody else holds a reference.
        unsafe { use_it(&mut *self.0.as_ptr()) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw`, and the Lua state is closed.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Done,
    Failed(Reason),
}

impl Host {
    /// A state without code of a user.
    pub(crate) fn new(schema: &SharedSchema, limits: Limits) -> Result<Self, CompileError> {
        // SAFETY: what is unsafe about it (ffi, debug, bytecode) stays behind
        // the sandbox: user code gets a whitelisted environment and is loaded
        // as text only.
        let lua = unsafe { Lua::unsafe_new() };
        let env = Pinned::new(schema);
        Self::prepare(lua, env, limits).map_err(|error| internal(&error))
    }

    fn prepare(lua: Lua, env: Pinned, limits: Limits) -> mlua::Result<Self> {
        let address = LightUserData(env.0.as_ptr().cast::<c_void>());
        let (state, [set_value, set_nested]) = raw_state(&lua, address)?;
        lua.load("jit.opt.start('maxtrace=4000', 'maxmcode=4096')").set_name("=setup").exec()?;
        if !crate::self_test() {
            // Hooks fire in interpreted code always.
            lua.load("jit.off() jit.flush()").set_name("=setup").exec()?;
        }
        let calls = lua.create_table()?;
        for (name, call) in env::calls() {
            calls.set(name, LightUserData(call.cast_mut().cast::<c_void>()))?;
        }
        let null = Value::NULL;
        let ffi_library: Value = lua.load("return require 'ffi'").eval()?;
        let prelude: Table = lua.load(include_str!("prelude.lua")).set_name("=prelude").call((
            &ffi_library,
            address,
            &calls,
            set_value,
            set_nested,
            null,
        ))?;
        let lists: Table = prelude.get("list_meta")?;
        env.with(|env| env.set_lists(lists.to_pointer()));
        let strings: Table = lua
            .load(include_str!("strings.lua"))
            .set_name("=strings")
            .call((ffi_library, calls))?;
        let sandbox = load_sandbox(&lua, strings, prelude.get("list")?)?;
        let watch = Watch::new(state, limits.time);
        let memory_bytes = limits.memory_bytes.max(lua.used_memory() + (1 << 20));
        lua.set_memory_limit(memory_bytes)?;
        let host = Self {
            watch,
            lua,
            state,
            prelude,
            sandbox,
            run: ffi::LUA_NOREF,
            timer: ffi::LUA_NOREF,
            env,
            kills: limits.kills,
            memory_bytes,
            live_bytes: 0,
            counters: Counters::default(),
            detail: String::new(),
        };
        host.tell_names()?;
        Ok(host)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// A member of the prelude.
    pub(crate) fn member<V: mlua::FromLua>(&self, name: &str) -> Result<V, CompileError> {
        self.prelude.get(name).map_err(|error| internal(&error))
    }

    pub(crate) fn prelude(&self) -> &Table {
        &self.prelude
    }

    /// What scripts have besides the cursor.
    pub(crate) fn script_part(&self) -> mlua::Result<Table> {
        let inner: Table = self.prelude.get("inner")?;
        self.lua.load(include_str!("script.lua")).set_name("=script").call((inner, Value::NULL))
    }

    pub(crate) fn lua(&self) -> &Lua {
        &self.lua
    }

    pub(crate) fn with_env<R>(&self, use_it: impl FnOnce(&mut Env) -> R) -> R {
        self.env.with(use_it)
    }

    /// A new environment for user code.
    pub(crate) fn new_environment(&self) -> Result<Table, CompileError> {
        let made = self.sandbox.get::<Function>("env").and_then(|env| env.call(()));
        made.map_err(|error| internal(&error))
    }

    /// Compiles text, and nothing but text, without running it.
    pub(crate) fn compile(
        &self,
        source: &str,
        chunk: &str,
        environment: Table,
    ) -> Result<Function, CompileError> {
        self.lua
            .load(source)
            .set_name(format!("={chunk}"))
            .set_mode(ChunkMode::Text)
            .set_environment(environment)
            .into_function()
            .map_err(|error| compile_error(&error))
    }

    /// Calls what was compiled, within the limits: the code of a script that
    /// runs when it is loaded.
    pub(crate) fn load_call<R: mlua::FromLuaMulti>(
        &self,
        function: &Function,
        arguments: impl IntoLuaMulti,
    ) -> Result<R, CompileError> {
        let (result, late) = self.watch.guard(|| function.call(arguments));
        match result {
            Ok(value) if !late => Ok(value),
            Ok(_) => Err(CompileError::new("loading ran out of its time", 1, 1)),
            Err(error) => Err(compile_error(&error)),
        }
    }

    /// Makes the loop over slabs that calls an expression's function.
    pub(crate) fn install_loop(
        &mut self,
        kind: &str,
        process: Function,
    ) -> Result<(), CompileError> {
        let run = self.prelude.get::<Function>("loop").and_then(|make| make.call((kind, process)));
        self.install(&run.map_err(|error| internal(&error))?, None, || Ok(()))
    }

    /// Takes the functions to be called per slab and by the timer, once
    /// `adopt` has succeeded.
    pub(crate) fn install(
        &mut self,
        run: &Function,
        timer: Option<&Function>,
        adopt: impl FnOnce() -> mlua::Result<()>,
    ) -> Result<(), CompileError> {
        let run = self.refer(run).map_err(|error| internal(&error))?;
        let timer = timer.map(|timer| self.refer(timer)).transpose();
        let done = timer.and_then(|timer| adopt().map(|()| timer));
        let (drop, result) = match done {
            Ok(timer) => {
                let timer = timer.unwrap_or(ffi::LUA_NOREF);
                let old = std::mem::replace(&mut self.timer, timer);
                ([std::mem::replace(&mut self.run, run), old], Ok(()))
            }
            Err(error) => ([run, ffi::LUA_NOREF], Err(internal(&error))),
        };
        for reference in drop {
            // SAFETY: the reference is ours, and releasing it raises no error.
            unsafe { ffi::luaL_unref(self.state, ffi::LUA_REGISTRYINDEX, reference) };
        }
        result
    }

    fn refer(&self, function: &Function) -> mlua::Result<c_int> {
        let mut reference = ffi::LUA_NOREF;
        // SAFETY: takes the one argument from the stack.
        unsafe {
            self.lua.exec_raw::<()>(function, |state| {
                reference = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
            })?;
        }
        Ok(reference)
    }

    /// Takes over names that the flow has got meanwhile.
    fn tell_names(&self) -> mlua::Result<()> {
        let names = self.with_env(|env| {
            env.refresh();
            env.names().clone()
        });
        let list = self.lua.create_sequence_from(names.names().iter().map(|name| &**name))?;
        self.prelude.get::<Function>("refresh")?.call(list)
    }

    /// Runs the loop over a slab. Messages that fail are refused as they came,
    /// and the loop goes on behind them.
    pub(crate) fn process(
        &mut self,
        slab: &mut Slab,
        cx: &mut Context<'_>,
        explain: &dyn Fn(&str, &mut String),
    ) {
        if slab.is_empty() {
            return;
        }
        self.begin(slab, cx);
        let mut stopped = 0;
        while let Call::Failed(reason) = self.call(self.run) {
            let (at, kept) = self.with_env(|env| env.progress());
            let rows = self.with_env(|env| env.rows());
            if at >= rows {
                // The limit struck between the last message and the end.
                break;
            }
            let full = self.with_env(|env| {
                env.restore(at);
                env.take_full()
            });
            let reason = if full && reason == Reason::Script { Reason::Memory } else { reason };
            let mut text = String::new();
            explain(&self.detail, &mut text);
            // Through the environment, which has the slab for now.
            self.with_env(|env| cx.refuse.refuse(env.row(at), reason, &text));
            self.with_env(|env| env.reach(at + 1, kept));
            stopped += u32::from(reason == Reason::Limit);
            if stopped >= self.kills && reason == Reason::Limit {
                self.refuse_from(at + 1, kept, cx);
                break;
            }
        }
        self.with_env(Env::end);
        self.relieve();
    }

    /// LuaJIT collects garbage when there is as much of it as live data, and
    /// does not when an allocation fails. So that garbage is not what runs an
    /// operator out of its memory, it is collected early when it comes near.
    fn relieve(&mut self) {
        let used = self.lua.used_memory();
        if used > self.memory_bytes / 4 * 3 && used > self.live_bytes + self.live_bytes / 8 {
            let _ = self.lua.gc_collect();
            self.live_bytes = self.lua.used_memory();
        }
    }

    /// Refuses the rows of the slab from `first` on.
    fn refuse_from(&mut self, first: usize, kept: usize, cx: &mut Context<'_>) {
        let why = format!("the operator was stopped {} times in one slab", self.kills);
        self.with_env(|env| {
            for at in first..env.rows() {
                cx.refuse.refuse(env.row(at), Reason::Limit, &why);
            }
            env.reach(env.rows(), kept);
        });
    }

    /// Calls the timer's function for each partition with a state; what it
    /// emits goes to `slab`. What a partition emitted before it failed is taken
    /// back, and the next one has its turn. Why the last one failed.
    pub(crate) fn timer(
        &mut self,
        partitions: u16,
        slab: &mut Slab,
        cx: &mut Context<'_>,
    ) -> Option<String> {
        if self.timer == ffi::LUA_NOREF {
            return None;
        }
        self.begin(slab, cx);
        let (mut why, mut stopped) = (None, 0);
        while let Call::Failed(reason) = self.call(self.timer) {
            let (at, _) = self.with_env(|env| env.progress());
            self.with_env(|env| env.restore(at));
            let text = format!("on_timer: {}", self.detail);
            cx.refuse.failed(&text);
            why = Some(text);
            stopped += u32::from(reason == Reason::Limit);
            if at >= usize::from(partitions) || stopped >= self.kills {
                break;
            }
            self.with_env(|env| env.reach(at + 1, 0));
        }
        self.with_env(Env::end);
        why
    }

    fn begin(&mut self, slab: &mut Slab, cx: &mut Context<'_>) {
        if self.with_env(Env::refresh) && self.tell_names().is_err() {
            // Out of memory: the names stay unknown until the next slab.
            let _ = self.lua.gc_collect();
        }
        let (slab, ports) = (std::ptr::from_mut(slab), std::ptr::from_mut(cx.ports));
        self.with_env(|env| env.begin(slab, ports, cx.now.wall_us));
    }

    /// One protected call of a function that returns whether it failed, and
    /// why; the reason's text is in `detail`.
    fn call(&mut self, function: c_int) -> Call {
        let state = self.state;
        // SAFETY: the state is alive, its stack has the places that
        // `raw_state` asked for, and nothing outside the protected call raises
        // an error.
        let (status, late) = self.watch.guard(|| unsafe {
            ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, function as _);
            ffi::lua_pcall(state, 0, 2, 0)
        });
        // SAFETY: a failed call leaves the error, any other two results.
        let failed = unsafe {
            let raised = status != ffi::LUA_OK;
            let failed = raised || ffi::lua_toboolean(state, -2) != 0;
            if failed {
                describe(state, &mut self.detail);
            }
            ffi::lua_settop(state, if raised { -2 } else { -3 });
            failed
        };
        if !failed {
            return Call::Done;
        }
        let memory = status == ffi::LUA_ERRMEM || self.detail == "not enough memory";
        if memory {
            let _ = self.lua.gc_collect();
        }
        self.count(late, memory);
        Call::Failed(if late || memory { Reason::Limit } else { Reason::Script })
    }

    fn count(&mut self, late: bool, memory: bool) {
        let counters = &mut self.counters;
        if late {
            counters.kills += 1;
        } else if memory {
            counters.memory += 1;
        } else {
            counters.errors += 1;
        }
    }
}

/// The address of the state, with room on its stack, and the functions that
/// write what is more than a scalar.
fn raw_state(lua: &Lua, env: LightUserData) -> mlua::Result<(*mut ffi::lua_State, [Function; 2])> {
    let mut main = std::ptr::null_mut();
    let mut make = |function: ffi::lua_CFunction| -> mlua::Result<Function> {
        // SAFETY: in protected mode, with room for what is pushed.
        unsafe {
            lua.exec_raw(env, |state| {
                ffi::luaL_checkstack(state, 16, std::ptr::null());
                main = state;
                ffi::lua_pushcclosure(state, function, 1);
            })
        }
    };
    let functions = [make(crate::tree::set_value)?, make(crate::tree::set_nested)?];
    Ok((main, functions))
}

fn load_sandbox(lua: &Lua, strings: Table, list: Function) -> mlua::Result<Table> {
    let limits = lua.create_table()?;
    let utf8: Table = lua.load(include_str!("utf8.lua")).set_name("=utf8").call(())?;
    limits.set("utf8", utf8)?;
    limits.set("list", list)?;
    limits.set("strings", strings)?;
    limits.set("rep_bytes", sandbox::REP_BYTES_MAX)?;
    limits.set("null", Value::NULL)?;
    limits.set("base", lua.create_sequence_from(sandbox::BASE.iter().copied())?)?;
    let libraries = lua.create_table()?;
    for (name, members) in sandbox::LIBRARIES {
        libraries.set(*name, lua.create_sequence_from(members.iter().copied())?)?;
    }
    limits.set("libraries", libraries)?;
    lua.load(include_str!("sandbox.lua")).set_name("=sandbox").call(limits)
}

/// Writes the error on top of the stack to `detail`.
///
/// # Safety
/// There is one.
unsafe fn describe(state: *mut ffi::lua_State, detail: &mut String) {
    detail.clear();
    // SAFETY: by the caller's promise; strings are not converted.
    unsafe {
        match ffi::lua_type(state, -1) {
            ffi::LUA_TSTRING => {
                let mut len = 0;
                let bytes = ffi::lua_tolstring(state, -1, &mut len);
                let bytes = std::slice::from_raw_parts(bytes.cast(), len);
                detail.push_str(&String::from_utf8_lossy(bytes));
            }
            ffi::LUA_TNIL => detail.push_str("an error without a message"),
            _ => detail.push_str("an error whose message is not text"),
        }
    }
}

/// A failure that no user's code causes.
pub(crate) fn internal(error: &mlua::Error) -> CompileError {
    CompileError::new(format!("the Lua state cannot be made: {error}"), 1, 1)
}

pub(crate) fn compile_error(error: &mlua::Error) -> CompileError {
    let text = match error {
        mlua::Error::SyntaxError { message, .. } | mlua::Error::RuntimeError(message) => {
            message.clone()
        }
        mlua::Error::CallbackError { cause, .. } => cause.to_string(),
        mlua::Error::MemoryError(_) => "loading ran out of memory".to_owned(),
        other => other.to_string(),
    };
    let text = text.split("\nstack traceback:").next().unwrap_or_default();
    place_of(text)
}
