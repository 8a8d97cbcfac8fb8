//! Loading a version of a script: compiled and run aside, with what it
//! requires, until nothing can fail any more.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mlua::chunk::ChunkMode;
use mlua::{Function, Table, Value};
use ringmain_base::units::parse_duration;
use ringmain_ops::{Code, CodeVersion, Module};

use crate::error::CompileError;
use crate::host::{Host, compile_error, internal};

/// Finds a module by the name that a script requires it by.
pub type FindModule = Rc<dyn Fn(&str) -> Result<Module, String>>;

/// One version of a script.
pub(crate) struct Loaded {
    pub(crate) module: Table,
    pub(crate) period: Option<Duration>,
    pub(crate) version: CodeVersion,
    /// What was loaded, with all that it required.
    pub(crate) code: Code,
    /// It can see a state.
    pub(crate) stateful: bool,
}

/// What a script is loaded into: `part` is what script.lua returned.
pub(crate) struct Loader<'a> {
    pub(crate) host: &'a mut Host,
    pub(crate) part: &'a Table,
    pub(crate) context: &'a Table,
}

/// What a load found, while it goes on.
#[derive(Default)]
struct Found {
    modules: Vec<Module>,
    /// The script has been loaded; what it requires from now on it must have
    /// required before.
    done: bool,
}

impl Loader<'_> {
    fn part<V: mlua::FromLua>(&self, name: &str) -> Result<V, CompileError> {
        self.part.get(name).map_err(|error| internal(&error))
    }

    /// Loads `code` aside and then puts it in the place of `old`.
    pub(crate) fn load(
        &mut self,
        code: &Code,
        find: &FindModule,
        old: Option<&Loaded>,
    ) -> Result<Loaded, CompileError> {
        let environment = self.host.new_environment()?;
        let found = Rc::new(RefCell::new(Found::default()));
        self.add_require(&environment, find, &found).map_err(|error| internal(&error))?;
        let function = self.host.compile(&code.text, &code.chunk, environment)?;
        let module: Table = self.host.load_call(&self.part("module")?, function)?;
        let period = period(&module)?;
        let before = old.map(|old| self.before(old)).transpose();
        let before = before.map_err(|error| compile_error(&error))?;
        let arguments = (module.clone(), self.context.clone(), before);
        let states: Table = self.host.load_call(&self.part("states")?, arguments)?;
        let arguments = (module.clone(), self.context.clone(), states.clone());
        let (run, timer): (Function, Option<Function>) =
            self.host.load_call(&self.part("loops")?, arguments)?;
        let stateful = self.host.load_call(&self.part("stateful")?, module.clone())?;
        let version = own_version(&module)?;
        let adopt: Function = self.part("adopt")?;
        self.host.install(&run, timer.as_ref(), || adopt.call((states, old.is_some())))?;
        found.borrow_mut().done = true;
        let modules: Arc<[Module]> = std::mem::take(&mut found.borrow_mut().modules).into();
        let code = Code { modules, ..code.clone() };
        let version = CodeVersion { hash: hash(&code), version };
        Ok(Loaded { module, period, version, code, stateful })
    }

    fn before(&self, old: &Loaded) -> mlua::Result<Table> {
        let before = self.host.lua().create_table()?;
        before.set("version", old.module.get::<Value>("version")?)?;
        Ok(before)
    }

    /// `require` for one load. Modules are compiled into the environment of the
    /// script, and run once.
    fn add_require(
        &self,
        environment: &Table,
        find: &FindModule,
        found: &Rc<RefCell<Found>>,
    ) -> mlua::Result<()> {
        let (find, found) = (find.clone(), found.clone());
        // The environment comes as an argument: kept here it would be kept for
        // ever, since what Rust holds no collection sees through.
        type Asked = (mlua::LuaString, Table);
        let compile = self.host.lua().create_function(move |lua, (name, inside): Asked| {
            let refuse = |text: String, inside: bool| {
                let why = lua.create_table()?;
                why.set("text", text)?;
                why.set("inside", inside)?;
                Ok((None, Some(why)))
            };
            let name = name.to_string_lossy();
            if found.borrow().done {
                let text = format!("require: '{name}' was not required while the script loaded");
                return refuse(text, false);
            }
            let module = match find(&name) {
                Ok(module) => module,
                Err(why) => return refuse(format!("require: {why}"), false),
            };
            let chunk = lua
                .load(&*module.text)
                .set_name(format!("={}", module.chunk))
                .set_mode(ChunkMode::Text)
                .set_environment(inside)
                .into_function();
            found.borrow_mut().modules.push(module);
            match chunk {
                Ok(chunk) => Ok((Some(chunk), None)),
                Err(mlua::Error::SyntaxError { message, .. }) => refuse(message, true),
                Err(error) => Err(error),
            }
        })?;
        let require: Function =
            self.part.get::<Function>("require")?.call((compile, environment))?;
        environment.set("require", require)
    }
}

/// A script and its modules, told from others (FNV-1a). Nothing but people's
/// eyes depends on it.
fn hash(code: &Code) -> u64 {
    let modules = code.modules.iter().flat_map(|module| [&module.name, &module.text]);
    let texts = std::iter::once(&code.text).chain(modules);
    let bytes = texts.flat_map(|text| text.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn own_version(module: &Table) -> Result<Option<String>, CompileError> {
    let version: Value = module.get("version").map_err(|error| internal(&error))?;
    Ok(match version {
        Value::Integer(n) => Some(n.to_string()),
        Value::Number(n) => Some(n.to_string()),
        Value::String(text) => Some(text.to_string_lossy()),
        _ => None,
    })
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
