//! Dead letters of a flow while it runs: looking at them, putting them back in.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::edit::Who;
use super::flows::no_flow;
use super::problem::Problem;
use crate::dead::live::{self, LiveReplay};
use crate::dead::store::{self, Meant, Page};
use crate::dead::{DeadError, Filter};

/// Letters that are shown at once.
const SHOWN_DEFAULT: usize = 100;
const SHOWN_MAX: usize = 1_000;

/// Which letters are meant.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those that this component refused.
    component: Option<String>,
    /// Only those with this reason.
    reason: Option<String>,
    /// Only these, by their `id`, with commas between them.
    ids: Option<String>,
}

/// How many are shown.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Limit {
    /// 100 unless asked otherwise, 1,000 at most.
    limit: Option<usize>,
}

impl Which {
    pub(super) fn of(&self, flow: &str) -> Meant {
        let list = |text: &Option<String>| text.iter().filter(|t| !t.is_empty()).cloned().collect();
        let ids = self.ids.iter().flat_map(|ids| ids.split(','));
        Meant {
            flow: flow.to_owned(),
            filter: Filter { components: list(&self.component), reasons: list(&self.reason) },
            ids: ids.filter(|id| !id.is_empty()).map(str::to_owned).collect(),
        }
    }
}

/// The dead letters of a flow: how many by component and reason, and the
/// newest ones.
#[utoipa::path(get, path = "/api/v1/flows/{name}/dead_letters", tag = "flows",
    security(("token" = [])),
    params(("name" = String, Path, description = "Name of the flow"), Which, Limit),
    responses((status = 200, body = Page), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "They are not kept in a file")))]
pub(super) async fn list(
    State(api): State<Shared>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
    Query(limit): Query<Limit>,
) -> Result<Json<Page>, Problem> {
    let flow = api.view.flow(&name).ok_or_else(|| no_flow(&name))?;
    let path = store::path(&flow.plan).map_err(|why| Problem::new(StatusCode::CONFLICT, why))?;
    let (meant, limit) = (which.of(&name), limit.limit.unwrap_or(SHOWN_DEFAULT).min(SHOWN_MAX));
    aside(move || store::look(&path, &meant, limit)).await
}

/// Where they go in.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct At {
    /// This component, instead of the one that refused them.
    at: Option<String>,
}

/// Puts dead letters back into a flow that runs, and answers when all of them
/// have been accepted. They leave the store then; what is refused again is
/// there with its new reason.
#[utoipa::path(post, path = "/api/v1/flows/{name}/dead_letters/replay", tag = "flows",
    security(("token" = [])),
    params(("name" = String, Path, description = "Name of the flow"), Which, At),
    responses((status = 200, body = LiveReplay), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "It cannot be done now")))]
pub(super) async fn replay(
    State(api): State<Shared>,
    who: Who,
    Path(name): Path<String>,
    Query(which): Query<Which>,
    Query(at): Query<At>,
) -> Result<Json<LiveReplay>, Problem> {
    let flow = api.view.flow(&name).ok_or_else(|| no_flow(&name))?;
    store::path(&flow.plan).map_err(|why| Problem::new(StatusCode::CONFLICT, why))?;
    if flow.at_work() == 0 {
        let detail = format!("'{name}' does not run; start it, or use `ringmain dead replay`");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let turn = api.replays.clone().try_lock_owned();
    let turn = turn.map_err(|_| {
        Problem::new(StatusCode::CONFLICT, "dead letters are being replayed already; try again")
    })?;
    let meant = which.of(&name);
    let done = aside(move || {
        // Held until it is over, whether or not somebody still waits for it.
        let _turn = turn;
        live::replay(&flow, &meant, at.at.as_deref())
    });
    let done = done.await;
    let result = match &done {
        Ok(Json(done)) => format!("{} replayed, {} refused again", done.replayed, done.refused),
        Err(problem) => format!("failed: {}", problem.to_line()),
    };
    api.note(&who, "replay dead letters", &name, &result);
    done
}

/// What reads files and waits, on another thread.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeadError> + Send + 'static,
) -> Result<Json<T>, Problem> {
    let status = |error: &DeadError| match error {
        DeadError::Refused(_) | DeadError::CutOff | DeadError::Line { .. } => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map(Json).map_err(|error| Problem::new(status(&error), error.to_string())),
        Err(_) => {
            let detail = "it failed; please report this";
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
        }
    }
}
