//! From an operator's plan to the operator: the native form of its expressions
//! where they have one, else Lua. Both mean the same.

use ringmain_config::{MapPlan, OperatorKind, OperatorPlan, RoutePlan, Spanned};
use ringmain_lua::{CompileError, PartError};
use ringmain_ops::{Operator, native};
use ringmain_slab::SharedSchema;

/// Code that does not compile: the user's expression or script is wrong.
#[derive(Clone, Debug)]
pub struct OperatorError {
    /// The code, and where it stands in the flow's file.
    pub code: Spanned<String>,
    /// Line in the code, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Why.
    pub message: String,
}

impl OperatorError {
    fn new(code: &Spanned<String>, error: CompileError) -> Self {
        let CompileError { message, line, column } = error;
        Self { code: code.clone(), line, column, message }
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
        OperatorKind::Lua(_) => Err(OperatorError::new(
            &plan.name,
            CompileError { message: "no scripts yet".into(), line: 1, column: 1 },
        )),
    }
}

fn boxed(operator: Box<ringmain_lua::LuaOperator>) -> Box<dyn Operator> {
    operator
}

fn compile_map(
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
