//! From an operator's plan to the operator: the native form of its expressions
//! where they have one, else Lua. Both mean the same.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringmain_config::{
    FlowKey, FlowPlan, LuaPlan, LuaSource, MapPlan, OperatorKind, OperatorPlan, RoutePlan, Spanned,
    Table, Value, WhenQuarantined,
};
use ringmain_lua::{CompileError, Config, Limits, Log, PartError, Script, ScriptOptions};
use ringmain_metrics::Named;
use ringmain_ops::{Code, Operator, native};
use ringmain_slab::SharedSchema;

use crate::modules::{Looked, ModuleFiles};

/// What an operator is told of the flow that it is in.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// The flow's partition key.
    pub key: FlowKey,
    /// Where the operator's own metrics count; nowhere, when it is built to see
    /// whether it can be.
    pub metrics: Option<Arc<Named>>,
}

impl Setting {
    /// That of a flow.
    #[must_use]
    pub fn of(flow: &FlowPlan) -> Self {
        Self { key: flow.flow_key(), metrics: None }
    }

    /// The same, for an operator that counts.
    #[must_use]
    pub fn counting(&self, metrics: &Arc<Named>) -> Self {
        Self { metrics: Some(metrics.clone()), ..self.clone() }
    }
}

/// Code that does not compile: the user's expression or script is wrong.
#[derive(Clone, Debug)]
pub struct OperatorError {
    /// The code, and where it stands in the flow's file; for a script of its
    /// own, where its path stands there.
    pub code: Spanned<String>,
    /// The script's file, when the code is not in the flow's.
    pub file: Option<PathBuf>,
    /// Line in the code, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Why.
    pub message: String,
}

impl OperatorError {
    pub(crate) fn new(code: &Spanned<String>, error: CompileError) -> Self {
        let CompileError { message, line, column, .. } = error;
        Self { code: code.clone(), file: None, line, column, message }
    }

    fn in_part<'a>(
        parts: impl Iterator<Item = &'a Spanned<String>>,
        name: &Spanned<String>,
        error: PartError,
    ) -> Self {
        let mut parts = parts;
        Self::new(parts.nth(error.part).unwrap_or(name), error.error)
    }
}

/// Builds an operator whose field names are slots of `schema`.
///
/// # Errors
/// When an expression or a script does not compile.
pub fn compile(
    plan: &OperatorPlan,
    setting: &Setting,
    schema: &SharedSchema,
) -> Result<Box<dyn Operator>, OperatorError> {
    let name = plan.name.as_str();
    match &plan.kind {
        OperatorKind::Filter { where_ } => {
            if let Some(operator) = native::filter(name, where_, schema) {
                return Ok(operator);
            }
            let operator = ringmain_lua::filter(name, where_, schema);
            operator.map(boxed).map_err(|error| OperatorError::new(where_, error))
        }
        OperatorKind::Map(map) => compile_map(&plan.name, map, schema),
        OperatorKind::Route(route) => compile_route(&plan.name, route, schema),
        OperatorKind::Lua(lua) => {
            let files = ModuleFiles::new(&lua.folders);
            let script = compile_script(&plan.name, lua, setting, &files, schema)?;
            Ok(script)
        }
        OperatorKind::Event(event) => {
            crate::event::compile(&plan.name, event, &setting.key, schema)
        }
        _ => crate::keyed::compile(&plan.name, &plan.kind, &setting.key, schema),
    }
}

/// Time and memory of a condition that is asked beside a flow. More than one
/// message is never stopped by it.
const CONDITION_LIMITS: Limits =
    Limits { time: Duration::from_millis(50), memory_bytes: 16 << 20, kills: 1 };

/// Builds a condition that is no part of the flow: of a tap.
pub(crate) fn condition(
    text: &Spanned<String>,
    schema: &SharedSchema,
) -> Result<Box<dyn Operator>, OperatorError> {
    if let Some(operator) = native::filter("where", text, schema) {
        return Ok(operator);
    }
    let operator = ringmain_lua::filter_within(CONDITION_LIMITS, "where", text, schema);
    operator.map(boxed).map_err(|error| OperatorError::new(text, error))
}

/// Loads a script aside: its code with all that it requires, or why it does not
/// load, and every file that was looked at.
pub fn load_script(
    name: &Spanned<String>,
    plan: &LuaPlan,
    setting: &Setting,
) -> (Result<Code, OperatorError>, Vec<Looked>) {
    let files = ModuleFiles::new(&plan.folders);
    let script = compile_script(name, plan, setting, &files, &SharedSchema::new());
    let mut looked = files.looked();
    if let LuaSource::Script(path) = &plan.source {
        let text = match &script {
            Ok(script) => Some(script.code().text.clone()),
            Err(_) => std::fs::read_to_string(&path.value).ok().map(Into::into),
        };
        looked.push((path.value.clone(), text));
    }
    (script.map(|script| script.code().clone()), looked)
}

fn boxed(operator: Box<ringmain_lua::LuaOperator>) -> Box<dyn Operator> {
    operator
}

pub(crate) fn compile_map(
    name: &Spanned<String>,
    plan: &MapPlan,
    schema: &SharedSchema,
) -> Result<Box<dyn Operator>, OperatorError> {
    let pairs = |list: &[(Spanned<String>, Spanned<String>)]| -> Vec<(String, String)> {
        list.iter().map(|(a, b)| (a.value.clone(), b.value.clone())).collect()
    };
    let names = |list: &[Spanned<String>]| -> Vec<String> {
        list.iter().map(|name| name.value.clone()).collect()
    };
    let (set, rename) = (pairs(&plan.set), pairs(&plan.rename));
    let (remove, keep) = (names(&plan.remove), names(&plan.keep));
    if let Some(operator) = native::map(name, &set, &remove, &rename, &keep, schema) {
        return Ok(operator);
    }
    let keep = (!keep.is_empty()).then_some(keep.as_slice());
    let map = ringmain_lua::Map { set: &set, rename: &rename, remove: &remove, keep };
    let codes = plan.set.iter().map(|(_, code)| code);
    ringmain_lua::map(name, &map, schema)
        .map(boxed)
        .map_err(|error| OperatorError::in_part(codes, name, error))
}

fn compile_route(
    name: &Spanned<String>,
    plan: &RoutePlan,
    schema: &SharedSchema,
) -> Result<Box<dyn Operator>, OperatorError> {
    let pair = |(port, code): &(Spanned<String>, Spanned<String>)| {
        (port.value.clone(), code.value.clone())
    };
    let routes: Vec<_> = plan.routes.iter().map(pair).collect();
    let default = plan.default.as_ref().map(|port| port.as_str());
    if let Some(operator) = native::route(name, &routes, default, schema) {
        return Ok(operator);
    }
    let codes = plan.routes.iter().map(|(_, code)| code);
    ringmain_lua::route(name, &routes, default, schema)
        .map(boxed)
        .map_err(|error| OperatorError::in_part(codes, name, error))
}

/// Code, name in messages, and file of a script.
fn script_code(
    name: &Spanned<String>,
    plan: &LuaPlan,
) -> Result<(Spanned<String>, String, Option<PathBuf>), OperatorError> {
    let path = match &plan.source {
        LuaSource::Inline(code) => return Ok((code.clone(), name.value.clone(), None)),
        LuaSource::Script(path) => path,
    };
    let failed = |error: std::io::Error| OperatorError {
        code: path.clone().map(|path| path.display().to_string()),
        file: None,
        line: 1,
        column: 1,
        message: format!("cannot read {}: {error}", path.display()),
    };
    let text = std::fs::read_to_string(&path.value).map_err(failed)?;
    let chunk = path.file_name().map_or(name.value.clone(), |f| f.display().to_string());
    Ok((Spanned::new(text, path.span), chunk, Some(path.value.clone())))
}

/// What makes a script slow, where it stands, and what to write instead.
#[must_use]
pub fn slow_parts(plan: &OperatorPlan) -> Vec<(OperatorError, &'static str)> {
    let OperatorKind::Lua(lua) = &plan.kind else { return Vec::new() };
    let Ok((code, _, file)) = script_code(&plan.name, lua) else { return Vec::new() };
    let place = |found: ringmain_lua::Lint| {
        let ringmain_lua::Lint { line, column, message, help } = found;
        let (code, file, message) = (code.clone(), file.clone(), message.to_owned());
        (OperatorError { code, file, line, column, message }, help)
    };
    ringmain_lua::lint(&code).into_iter().map(place).collect()
}

fn compile_script(
    name: &Spanned<String>,
    plan: &LuaPlan,
    setting: &Setting,
    files: &Rc<ModuleFiles>,
    schema: &SharedSchema,
) -> Result<Box<Script>, OperatorError> {
    let (code, chunk, file) = script_code(name, plan)?;
    let memory_bytes = usize::try_from(plan.limits.memory_bytes).unwrap_or(usize::MAX);
    let time = Duration::from_micros(plan.limits.time_us);
    let config = table(&plan.config);
    let component = name.value.clone();
    let log: Log = Rc::new(move |line| tracing::info!("{component}: {line}"));
    let ports: Vec<String> = plan.ports.iter().map(|port| port.value.clone()).collect();
    let modules = files.clone();
    let options = ScriptOptions {
        limits: Limits { time, memory_bytes, kills: plan.limits.kills },
        config: Some(&config),
        ports: &ports,
        key: &setting.key.fields,
        partitions: setting.key.count,
        log: Some(log),
        metrics: setting.metrics.clone(),
        modules: Some(Rc::new(move |name: &str| modules.find(name))),
        blocks: plan.limits.when_quarantined == WhenQuarantined::Block,
    };
    ringmain_lua::script(&code, &chunk, &options, schema).map_err(|error| {
        let module = error.chunk.as_deref().filter(|name| *name != chunk);
        match module.and_then(|name| files.file(name)) {
            Some((path, text)) => {
                let code = Spanned::new(text.to_string(), code.span);
                OperatorError { file: Some(path), ..OperatorError::new(&code, error) }
            }
            None => OperatorError { file, ..OperatorError::new(&code, error) },
        }
    })
}

fn table(table: &Table) -> Config {
    let entry =
        |(key, value): &(Spanned<String>, Spanned<Value>)| (key.value.clone(), plain(value));
    Config::Map(table.entries.iter().map(entry).collect())
}

fn plain(value: &Value) -> Config {
    match value {
        Value::String(text) | Value::Datetime(text) => Config::Str(text.clone()),
        Value::Integer(v) => Config::Int(*v),
        Value::Float(v) => Config::Float(*v),
        Value::Boolean(v) => Config::Bool(*v),
        Value::Array(list) => Config::List(list.iter().map(|item| plain(item)).collect()),
        Value::Table(inner) => table(inner),
    }
}
