//! `/jolokia` on the listener.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use ringmain_config::Scope;
use serde_json::Value;

use super::Shared;
use super::edit::Who;
use crate::desk::Command;
use crate::jolokia::{Ask, Refusal, Request, answer, response};

/// Requests in one bulk.
const BULK_MAX: usize = 1_000;

type Params = HashMap<String, String>;

/// GET without a path: the version, or what stands in `p`.
pub(super) async fn root(
    State(api): State<Shared>,
    who: Who,
    Query(query): Query<Params>,
) -> Response {
    let path = query.get("p").cloned().unwrap_or_default();
    let request = Request::of_path(&path, &query);
    Json(one(&api, &who, request).await).into_response()
}

/// GET with a path.
pub(super) async fn path(
    State(api): State<Shared>,
    who: Who,
    Path(path): Path<String>,
    Query(query): Query<Params>,
) -> Response {
    let request = Request::of_path(&path, &query);
    Json(one(&api, &who, request).await).into_response()
}

/// POST of a request, or of a list of them.
pub(super) async fn post(
    State(api): State<Shared>,
    who: Who,
    Query(query): Query<Params>,
    body: Bytes,
) -> Response {
    let parsed: Result<Value, _> = serde_json::from_slice(&body);
    let answered = match parsed {
        Err(error) => refused(Refusal::illegal(&format!("the body is not JSON: {error}"))),
        Ok(Value::Array(list)) if list.len() > BULK_MAX => {
            refused(Refusal::illegal(&format!("more than {BULK_MAX} requests at once")))
        }
        Ok(Value::Array(list)) => {
            let mut answers = Vec::with_capacity(list.len());
            for json in &list {
                answers.push(one(&api, &who, Request::of_json(json, &query)).await);
            }
            Value::Array(answers)
        }
        Ok(json) => one(&api, &who, Request::of_json(&json, &query)).await,
    };
    Json(answered).into_response()
}

fn refused(refusal: Refusal) -> Value {
    response(None, Err(refusal))
}

async fn one(api: &Shared, who: &Who, request: Result<Request, Refusal>) -> Value {
    match request {
        Err(refusal) => refused(refusal),
        Ok(request) => {
            let result = match &request.ask {
                Ask::Exec { mbean, operation, arguments } => {
                    exec(api, who, mbean, operation, arguments).await
                }
                _ => answer(&request, &api.view, &api.view.sample()),
            };
            response(Some(&request), result)
        }
    }
}

async fn exec(
    api: &Shared,
    who: &Who,
    mbean: &str,
    operation: &str,
    arguments: &[Value],
) -> Result<Value, Refusal> {
    let found =
        crate::jolokia::operation(&api.view, &api.view.sample(), mbean, operation, arguments)?;
    if !who.caller.may(&[Scope::Manage]) {
        let message = format!("the token '{}' lacks the scope manage", who.caller.name);
        return Err(Refusal::forbidden(&message));
    }
    let made = match found {
        ("reload", _) => api.change(who, "reload", "configuration", Command::Reload).await,
        (operation, Some(name)) => api.run(who, name, operation == "start").await,
        (_, None) => return Err(Refusal::illegal("the MBean has no name")),
    };
    made.map(|_| Value::Null).map_err(|problem| Refusal::failed(problem.to_line()))
}
