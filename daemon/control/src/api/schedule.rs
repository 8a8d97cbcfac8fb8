//! When flows run: a schedule with its runs; changing, suspending, resuming.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Shared;
use super::edit::{Made, Who};
use super::flows::no_flow;
use super::problem::Problem;
use crate::desk::{Command, Report};
use crate::schedule::ScheduleReport;

/// The schedule of a flow, with its last runs.
#[utoipa::path(get, path = "/api/v1/flows/{name}/schedule", tag = "schedule",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = ScheduleReport), (status = 404, body = Problem)))]
pub(super) async fn find(
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleReport>, Problem> {
    Ok(Json(ScheduleReport::clone(&*schedule(&api, &name)?)))
}

/// Gives a flow another schedule. The body is what stands in `[schedule]`: its
/// keys in TOML. It becomes a new version of the definition; a run that is on
/// goes on.
#[utoipa::path(put, path = "/api/v1/flows/{name}/schedule", tag = "schedule",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    request_body(content = String, content_type = "application/toml"),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn put(
    State(api): State<Shared>,
    who: Who,
    Path(name): Path<String>,
    keys: String,
) -> Made {
    change(&api, &who, &name, Some(&keys)).await
}

/// Takes the schedule away: the flow runs when it is started.
#[utoipa::path(delete, path = "/api/v1/flows/{name}/schedule", tag = "schedule",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn remove(State(api): State<Shared>, who: Who, Path(name): Path<String>) -> Made {
    schedule(&api, &name)?;
    change(&api, &who, &name, None).await
}

async fn change(api: &Shared, who: &Who, name: &str, keys: Option<&str>) -> Made {
    let flow = api.kept_flow(name)?;
    let unfit = |error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error);
    let text = ringmain_config::with_schedule(&flow.text, keys).map_err(unfit)?;
    let path = api.definitions()?.path(name);
    let plan = api.check(path, text.clone(), false).await?;
    let action = if keys.is_some() { "schedule" } else { "unschedule" };
    // One that is at rest waits for its time from now on.
    let deploy = keys.is_some() && flow.at_work() == 0;
    api.put(who, plan, text, action, deploy).await
}

/// Has the schedule begin nothing until it is resumed. A run that is on goes
/// on.
#[utoipa::path(post, path = "/api/v1/flows/{name}/schedule/suspend", tag = "schedule",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn suspend(State(api): State<Shared>, who: Who, Path(name): Path<String>) -> Made {
    schedule(&api, &name)?;
    let what = name.clone();
    api.change(&who, "suspend", &what, Command::Suspend { name, suspend: true }).await
}

/// Has a suspended schedule go on. What came meanwhile is not made up for.
#[utoipa::path(post, path = "/api/v1/flows/{name}/schedule/resume", tag = "schedule",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn resume(State(api): State<Shared>, who: Who, Path(name): Path<String>) -> Made {
    schedule(&api, &name)?;
    let what = name.clone();
    api.change(&who, "resume", &what, Command::Suspend { name, suspend: false }).await
}

fn schedule(api: &Shared, name: &str) -> Result<Arc<ScheduleReport>, Problem> {
    api.view.flow(name).ok_or_else(|| no_flow(name))?;
    let missing = || Problem::not_found(&format!("schedule of flow '{name}'"));
    api.view.schedule(name).ok_or_else(missing)
}
