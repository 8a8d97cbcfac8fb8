//! Lua operators: which version of its script each runs, and reading scripts
//! again.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use ringmain_config::{LuaSource, OperatorKind, OperatorPlan};
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use super::edit::{Made, Who};
use super::flows::no_flow;
use super::problem::Problem;
use crate::desk::{Command, Report};

/// What a Lua operator runs.
#[derive(Serialize, ToSchema)]
pub(super) struct ScriptReport {
    operator: String,
    /// The script's file; none when it stands in the flow's.
    file: Option<String>,
    /// Of the text and of all that it requires.
    hash: String,
    /// What the script calls its version.
    version: Option<String>,
    /// When it was swapped in, or first loaded (RFC 3339).
    swapped_at: String,
    /// Swaps since the flow was started.
    swaps: u64,
    /// The longest that messages of a shard waited for the last swap.
    swap_us: u64,
    /// The same of all swaps.
    swap_us_max: u64,
    /// Why the last change was not taken up; the version before it goes on.
    last_error: Option<String>,
}

/// The versions that a flow's Lua operators run.
#[utoipa::path(get, path = "/api/v1/flows/{name}/scripts", tag = "flows",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Vec<ScriptReport>), (status = 404, body = Problem)))]
pub(super) async fn list(
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<Vec<ScriptReport>>, Problem> {
    let flow = api.view.flow(&name).ok_or_else(|| no_flow(&name))?;
    let scripts = flow.control.scripts().into_iter().map(|script| {
        let plan = flow.plan.operators.get(script.operator);
        ScriptReport {
            operator: plan.map(|plan| plan.name.value.clone()).unwrap_or_default(),
            file: plan.and_then(file),
            hash: format!("{:016x}", script.code.hash),
            version: script.code.version,
            swapped_at: ringmain_shard::rfc3339(script.swapped_at_us),
            swaps: script.swaps,
            swap_us: script.swap_us,
            swap_us_max: script.swap_us_max,
            last_error: script.last_error,
        }
    });
    Ok(Json(scripts.collect()))
}

/// Reads a flow's scripts again. Those that have changed are swapped in between
/// two batches; state stays. One that does not compile changes nothing.
#[utoipa::path(post, path = "/api/v1/flows/{name}/scripts/reload", tag = "flows",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn reload(State(api): State<Shared>, who: Who, Path(name): Path<String>) -> Made {
    let flow = api.view.flow(&name).ok_or_else(|| no_flow(&name))?;
    if flow.at_work() == 0 {
        let detail = format!("'{name}' does not run; it reads its scripts when it starts");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let what = name.clone();
    api.change(&who, "reload scripts", &what, Command::ReloadScripts { name }).await
}

fn file(plan: &OperatorPlan) -> Option<String> {
    match &plan.kind {
        OperatorKind::Lua(lua) => match &lua.source {
            LuaSource::Script(path) => Some(path.display().to_string()),
            LuaSource::Inline(_) => None,
        },
        _ => None,
    }
}
