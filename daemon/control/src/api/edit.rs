//! Changing flows: create, update, delete, clone, start, stop, roll back.
//!
//! A definition passes the same checks as `ringmain check`, together with all
//! flows that run; it is stored before it is deployed, and every change is in
//! the audit log. Flows of the configuration's files can be started and
//! stopped here; their definitions change where they are written.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use ringmain_base::Clock;
use ringmain_config::FlowPlan;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::auth::Caller;
use super::flows::no_flow;
use super::guard::Peer;
use super::problem::Problem;
use crate::check::prepare_texts;
use crate::definitions::{Definitions, Version};
use crate::desk::{Command, Failure, Report};
use crate::view::FlowView;

pub(super) type Made = Result<(StatusCode, Json<Report>), Problem>;

/// How to put a definition in.
#[derive(Deserialize, IntoParams)]
pub(super) struct Options {
    /// Whether it is to run now.
    #[serde(default = "yes")]
    deploy: bool,
}

/// How to copy a flow.
#[derive(Deserialize, IntoParams)]
pub(super) struct Copy {
    /// The name of the copy.
    to: String,
    /// Whether it is to run now. Two flows cannot listen at one address.
    #[serde(default)]
    deploy: bool,
}

fn yes() -> bool {
    true
}

/// Who asks, and from where.
pub(super) struct Who {
    pub caller: Caller,
    pub peer: Peer,
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    /// What the guards before every route have found out.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let found = parts.extensions.get::<Caller>().zip(parts.extensions.get::<Peer>());
        let (caller, peer) = found.ok_or_else(|| {
            let detail = "the request passed no guard; please report this";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
        })?;
        Ok(Self { caller: caller.clone(), peer: *peer })
    }
}

impl super::Api {
    /// Asks the controller, and notes it.
    pub(super) async fn change(
        &self,
        who: &Who,
        action: &str,
        what: &str,
        command: Command,
    ) -> Made {
        let answer = self.desk.ask(command).await;
        let result = match &answer {
            Ok(report) => report.action.to_owned(),
            Err(failure) => format!("failed: {}", failure.errors.join("; ")),
        };
        self.note(who, action, what, &result);
        answer.map(|report| (StatusCode::OK, Json(report))).map_err(refusal)
    }

    pub(super) fn note(&self, who: &Who, action: &str, what: &str, result: &str) {
        let now = self.view.clock.now();
        self.audit.note(&who.caller, who.peer, action, what, result, now.wall_us);
    }

    pub(super) fn definitions(&self) -> Result<&Definitions, Problem> {
        self.kept.as_ref().ok_or_else(|| {
            let detail = "flows that are put in here are kept in `data_dir` of [daemon], and \
                          there is none";
            Problem::new(StatusCode::CONFLICT, detail)
        })
    }

    /// A flow whose definition may be changed here.
    pub(super) fn kept_flow(&self, name: &str) -> Result<Arc<FlowView>, Problem> {
        let flow = self.view.flow(name).ok_or_else(|| no_flow(name))?;
        if flow.kept {
            return Ok(flow);
        }
        let file = flow.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        let detail = format!("'{name}' is written in {file}: change it there, it is read again");
        Err(Problem::new(StatusCode::CONFLICT, detail))
    }

    /// The checks of `ringmain check`: of this definition, and, when it is to
    /// run, together with all others that do.
    pub(super) async fn check(
        &self,
        path: PathBuf,
        text: String,
        deploy: bool,
    ) -> Result<Arc<FlowPlan>, Problem> {
        let mut texts = Vec::new();
        if deploy {
            let others = self.view.flows();
            let others = others.iter().filter(|flow| flow.at_work() > 0);
            let others =
                others.filter_map(|flow| Some((flow.file.clone()?, flow.text.to_string())));
            texts.extend(others.filter(|(other, _)| *other != path));
        }
        texts.push((path, text));
        let given = self.given.clone();
        let checked = tokio::task::spawn_blocking(move || prepare_texts(&given, &texts)).await;
        let checked = checked.map_err(|_| {
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "checking it failed; please report this",
            )
        })?;
        let mut prepared = checked.map_err(|errors| {
            let detail = "the definition is refused; `errors` says where and why";
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
            problem.with_errors(crate::reload::rendered(&errors))
        })?;
        let plan = prepared.plan.flows.pop().expect("one text is one flow");
        Ok(Arc::new(plan))
    }

    /// Stores a checked definition, and has it run.
    pub(super) async fn put(
        &self,
        who: &Who,
        plan: Arc<FlowPlan>,
        text: String,
        action: &str,
        deploy: bool,
    ) -> Made {
        let kept = self.definitions()?;
        let name = plan.name.value.clone();
        let creator = who.caller.name.clone();
        let created = ringmain_shard::rfc3339(self.view.clock.now().wall_us);
        kept.put(&name, &text, &creator, action, created).map_err(|error| unkept(&error))?;
        let path = kept.path(&name);
        let text = text.into();
        let scheduled = plan.schedule.is_some();
        let command = Command::Put { plan, text, path, creator, deploy };
        let made = self.change(who, action, &name, command).await?;
        let at_rest = || self.view.flow(&name).is_none_or(|flow| flow.at_work() == 0);
        if deploy || (!scheduled && at_rest()) {
            kept.set_deployed(&name, deploy).map_err(|error| unkept(&error))?;
        }
        Ok(made)
    }

    pub(super) async fn run(&self, who: &Who, name: String, run: bool) -> Made {
        let flow = self.view.flow(&name).ok_or_else(|| no_flow(&name))?;
        if run && flow.at_work() > 0 {
            return Err(Problem::new(StatusCode::CONFLICT, format!("'{name}' runs already")));
        }
        if !run && flow.at_work() == 0 {
            let mut detail = format!("'{name}' does not run");
            if flow.plan.schedule.is_some() {
                detail.push_str("; its schedule can be suspended");
            }
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        if run && let Some(file) = flow.file.clone() {
            self.check(file, flow.text.to_string(), true).await?;
        }
        let what = name.clone();
        let made = match run {
            true => self.change(who, "start", &what, Command::Start { name }).await,
            false => self.change(who, "stop", &what, Command::Stop { name }).await,
        }?;
        // Stopping a run does not take a flow off its schedule.
        if flow.kept && (run || flow.plan.schedule.is_none()) {
            let kept = self.definitions()?;
            kept.set_deployed(&what, run).map_err(|error| unkept(&error))?;
        }
        Ok(made)
    }
}

/// Puts a flow in. The body is its definition in TOML, with a `name`.
#[utoipa::path(post, path = "/api/v1/flows", tag = "flows", security(("token" = [])),
    params(Options), request_body(content = String, content_type = "application/toml"),
    responses((status = 201, body = Report), (status = 409, body = Problem),
        (status = 422, body = Problem, description = "The definition is refused")))]
pub(super) async fn create(
    State(api): State<Shared>,
    who: Who,
    Query(options): Query<Options>,
    text: String,
) -> Made {
    let kept = api.definitions()?;
    let name = name_of(&text)?;
    if api.view.flow(&name).is_some() {
        let detail = format!("there is a flow '{name}' already; PUT changes it");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let plan = api.check(kept.path(&name), text.clone(), options.deploy).await?;
    let (_, report) = api.put(&who, plan, text, "create", options.deploy).await?;
    Ok((StatusCode::CREATED, report))
}

/// Whether a new version is to run now.
#[derive(Deserialize, IntoParams)]
pub(super) struct UpdateOptions {
    /// Without it: if the flow runs.
    deploy: Option<bool>,
}

/// Changes a flow's definition. If it runs, the new version takes its place;
/// if that cannot start, the old one goes on. With `deploy=false` the flow is
/// stopped, and the new version waits to be started.
#[utoipa::path(put, path = "/api/v1/flows/{name}", tag = "flows", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the flow"), UpdateOptions),
    request_body(content = String, content_type = "application/toml"),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn update(
    State(api): State<Shared>,
    who: Who,
    Path(name): Path<String>,
    Query(options): Query<UpdateOptions>,
    text: String,
) -> Made {
    let flow = api.kept_flow(&name)?;
    same_name(&name, &text)?;
    let runs = flow.at_work() > 0;
    let deploy = options.deploy.unwrap_or(runs);
    let path = api.definitions()?.path(&name);
    let plan = api.check(path, text.clone(), deploy).await?;
    if runs && !deploy {
        // Refused definitions stop nothing.
        let _ = api.run(&who, name.clone(), false).await?;
    }
    let scheduled = plan.schedule.is_some();
    let made = api.put(&who, plan, text, "update", deploy).await?;
    if scheduled && options.deploy == Some(false) {
        let command = Command::Suspend { name: name.clone(), suspend: true };
        let _ = api.change(&who, "suspend", &name, command).await?;
    }
    Ok(made)
}

/// Stops a flow and forgets it, with all its versions.
#[utoipa::path(delete, path = "/api/v1/flows/{name}", tag = "flows", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn delete(State(api): State<Shared>, who: Who, Path(name): Path<String>) -> Made {
    api.kept_flow(&name)?;
    let what = name.clone();
    let made = api.change(&who, "delete", &what, Command::Delete { name }).await?;
    api.definitions()?.delete(&what).map_err(|error| unkept(&error))?;
    Ok(made)
}

/// Runs a flow that was stopped.
#[utoipa::path(post, path = "/api/v1/flows/{name}/start", tag = "flows", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn start(State(api): State<Shared>, who: Who, Path(name): Path<String>) -> Made {
    api.run(&who, name, true).await
}

/// Drains a flow and stops it. Its definition stays.
#[utoipa::path(post, path = "/api/v1/flows/{name}/stop", tag = "flows", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn stop(State(api): State<Shared>, who: Who, Path(name): Path<String>) -> Made {
    api.run(&who, name, false).await
}

/// The same as start, in the words of Spring Cloud Data Flow.
#[utoipa::path(post, path = "/api/v1/flows/{name}/deploy", tag = "flows",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn deploy(State(api): State<Shared>, who: Who, Path(name): Path<String>) -> Made {
    api.run(&who, name, true).await
}

/// The same as stop, in the words of Spring Cloud Data Flow.
#[utoipa::path(post, path = "/api/v1/flows/{name}/undeploy", tag = "flows",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn undeploy(
    State(api): State<Shared>,
    who: Who,
    Path(name): Path<String>,
) -> Made {
    api.run(&who, name, false).await
}

/// Puts a copy of a flow in, under another name.
#[utoipa::path(post, path = "/api/v1/flows/{name}/clone", tag = "flows", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the flow"), Copy),
    responses((status = 201, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn copy(
    State(api): State<Shared>,
    who: Who,
    Path(name): Path<String>,
    Query(copy): Query<Copy>,
) -> Made {
    let flow = api.view.flow(&name).ok_or_else(|| no_flow(&name))?;
    if api.view.flow(&copy.to).is_some() {
        let detail = format!("there is a flow '{}' already", copy.to);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let text = renamed(&flow.text, &copy.to);
    let path = api.definitions()?.path(&copy.to);
    let plan = api.check(path, text.clone(), copy.deploy).await?;
    if plan.name.value != copy.to {
        let detail = "its `name` does not stand on a line of its own: put a copy in with POST";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let action = format!("clone of {name}");
    let (_, report) = api.put(&who, plan, text, &action, copy.deploy).await?;
    Ok((StatusCode::CREATED, report))
}

/// The versions of a flow, the oldest first.
#[utoipa::path(get, path = "/api/v1/flows/{name}/versions", tag = "flows",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow")),
    responses((status = 200, body = Vec<Version>), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn versions(
    State(api): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<Vec<Version>>, Problem> {
    api.kept_flow(&name)?;
    let state = api.definitions()?.state(&name).map_err(|error| unkept(&error))?;
    Ok(Json(state.versions))
}

/// The definition of a version.
#[utoipa::path(get, path = "/api/v1/flows/{name}/versions/{version}", tag = "flows",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow"),
        ("version" = u64, Path, description = "Number of the version")),
    responses((status = 200, body = String, content_type = "application/toml"),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn version(
    State(api): State<Shared>,
    Path((name, version)): Path<(String, u64)>,
) -> Result<impl IntoResponse, Problem> {
    let text = version_text(&api, &name, version)?;
    Ok(([(header::CONTENT_TYPE, "application/toml")], text))
}

/// Makes an earlier version the newest.
#[utoipa::path(post, path = "/api/v1/flows/{name}/rollback/{version}", tag = "flows",
    security(("token" = [])), params(("name" = String, Path, description = "Name of the flow"),
        ("version" = u64, Path, description = "Number of the version")),
    responses((status = 200, body = Report), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn rollback(
    State(api): State<Shared>,
    who: Who,
    Path((name, version)): Path<(String, u64)>,
) -> Made {
    let text = version_text(&api, &name, version)?;
    let flow = api.kept_flow(&name)?;
    let deploy = flow.at_work() > 0;
    let path = api.definitions()?.path(&name);
    let plan = api.check(path, text.clone(), deploy).await?;
    api.put(&who, plan, text, &format!("rollback to {version}"), deploy).await
}

/// Reads the configuration's flows again: what was added runs, what was
/// removed ends, what was changed is replaced. A bad one changes nothing.
#[utoipa::path(post, path = "/api/v1/reload", tag = "node", security(("token" = [])),
    responses((status = 200, body = Report), (status = 422, body = Problem)))]
pub(super) async fn reload(State(api): State<Shared>, who: Who) -> Made {
    api.change(&who, "reload", "configuration", Command::Reload).await
}

fn version_text(api: &Shared, name: &str, version: u64) -> Result<String, Problem> {
    api.kept_flow(name)?;
    let text = api.definitions()?.text(name, version);
    text.map_err(|_| Problem::not_found(&format!("version {version} of flow '{name}'")))
}

fn refusal(failure: Failure) -> Problem {
    let detail = match failure.rolled_back {
        true => "it could not be started; the old version goes on",
        false => "it could not be done",
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with_errors(failure.errors)
}

fn unkept(error: &std::io::Error) -> Problem {
    let detail = format!("`data_dir` of [daemon]: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}

/// The `name` of a definition. Nothing else of it is looked at.
fn name_of(text: &str) -> Result<String, Problem> {
    ringmain_config::flow_name(text).ok_or_else(|| {
        let detail = "the definition needs a name = \"...\" before its first table";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })
}

fn same_name(name: &str, text: &str) -> Result<(), Problem> {
    let given = name_of(text)?;
    if given == name {
        return Ok(());
    }
    let detail = format!("the definition is of '{given}': a flow keeps its name, clone it instead");
    Err(Problem::new(StatusCode::CONFLICT, detail))
}

/// The text with another name.
fn renamed(text: &str, to: &str) -> String {
    let is_name = |line: &str| {
        line.strip_prefix("name").is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let mut found = false;
    let mut lines: Vec<String> = Vec::new();
    let mut in_tables = false;
    for line in text.lines() {
        in_tables |= line.trim_start().starts_with('[');
        if !in_tables && !found && is_name(line) {
            found = true;
            lines.push(format!("name = \"{to}\""));
        } else {
            lines.push(line.to_owned());
        }
    }
    if !found {
        lines.insert(0, format!("name = \"{to}\""));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_differs_in_its_name_only() {
        let text = "# a flow\nname  = \"a\"\n[sources.x]\nname = \"not this\"\n";
        assert_eq!(
            renamed(text, "b"),
            "# a flow\nname = \"b\"\n[sources.x]\nname = \"not this\"\n"
        );
        assert_eq!(renamed("[sources.x]\n", "b"), "name = \"b\"\n[sources.x]\n");
    }
}
