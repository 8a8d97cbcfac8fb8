//! The listener: REST under `/api/v1`, `/metrics`, `/openapi.json`.
//!
//! Owns: routes and their scopes, errors as RFC 9457 problems, limits.
//! Invariants: every route but health and the OpenAPI document needs a token
//! where there are tokens; every error is a problem document; a body, a rate
//! and a connection count have bounds.
//!
//! Deliberately absent: access to the data path. Handlers read the
//! [`View`](crate::view::View).

mod audit;
mod auth;
mod console;
mod dead;
mod edit;
mod flows;
mod guard;
mod jolokia;
mod limit;
mod node;
mod openapi;
mod problem;
mod schedule;
mod scripts;
mod server;
mod tap;
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use ringmain_config::{ApiPlan, MetricsPlan, Scope};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::audit::Audit;
use self::auth::Tokens;
use self::limit::Limiter;
use crate::check::{Given, Prepared};
use crate::definitions::Definitions;
use crate::desk::Desk;
use crate::view::View;

pub(crate) use server::serve;

/// What handlers share.
pub(crate) struct Api {
    view: Arc<View>,
    plan: ApiPlan,
    metrics: MetricsPlan,
    tokens: Tokens,
    limiter: Limiter,
    tls: Option<Arc<tls::Certificates>>,
    desk: Desk,
    audit: Audit,
    given: Given,
    kept: Option<Definitions>,
    taps: tap::Taps,
    /// Held by whoever replays dead letters.
    replays: Arc<tokio::sync::Mutex<()>>,
}

type Shared = Arc<Api>;

impl Api {
    /// Everything that can be refused about it is refused here.
    pub(crate) fn new(prepared: &Prepared, view: &Arc<View>, desk: Desk) -> Result<Shared, String> {
        let plan = &prepared.plan;
        let tls = plan.api.tls.as_ref().map(tls::Certificates::load).transpose()?;
        Ok(Arc::new(Self {
            view: view.clone(),
            tokens: Tokens::new(&plan.api),
            limiter: Limiter::new(plan.api.rate),
            plan: plan.api.clone(),
            metrics: plan.metrics.clone(),
            tls: tls.map(Arc::new),
            desk,
            audit: Audit::open(plan.api.audit.as_deref())?,
            given: prepared.given.clone(),
            kept: crate::reload::kept(plan),
            taps: tap::Taps::default(),
            replays: Arc::default(),
        }))
    }
}

/// All routes, and the document that describes them.
fn router(api: &Shared) -> Router {
    let scoped = |router: OpenApiRouter<Shared>, scopes: &'static [Scope]| {
        router.route_layer(from_fn_with_state((api.clone(), scopes), guard::scope))
    };
    let open = OpenApiRouter::new().routes(routes!(node::health));
    let both = OpenApiRouter::new()
        .routes(routes!(flows::list))
        .routes(routes!(flows::find))
        .routes(routes!(schedule::find));
    let runtime = OpenApiRouter::new().routes(routes!(node::node)).routes(routes!(node::metrics));
    let runtime = runtime.routes(routes!(tap::tap));
    let runtime = match api.metrics.prometheus {
        true => runtime.routes(routes!(node::prometheus)),
        false => runtime,
    };
    let management = OpenApiRouter::new()
        .routes(routes!(scripts::list))
        .routes(routes!(dead::list))
        .routes(routes!(flows::definition))
        .routes(routes!(edit::versions))
        .routes(routes!(edit::version));
    let manage = OpenApiRouter::new()
        .routes(routes!(edit::create))
        .routes(routes!(edit::update, edit::delete))
        .routes(routes!(edit::start))
        .routes(routes!(edit::stop))
        .routes(routes!(edit::deploy))
        .routes(routes!(edit::undeploy))
        .routes(routes!(edit::copy))
        .routes(routes!(edit::rollback))
        .routes(routes!(schedule::put, schedule::remove))
        .routes(routes!(schedule::suspend))
        .routes(routes!(schedule::resume))
        .routes(routes!(edit::reload))
        .routes(routes!(scripts::reload))
        .routes(routes!(dead::replay));
    let router = OpenApiRouter::with_openapi(openapi::document())
        .merge(open)
        .merge(scoped(both, &[Scope::ReadManagement, Scope::ReadRuntime]))
        .merge(scoped(runtime, &[Scope::ReadRuntime]))
        .merge(scoped(management, &[Scope::ReadManagement]))
        .merge(scoped(manage, &[Scope::Manage]));
    let router = match api.metrics.jolokia {
        true => router.merge(scoped(jolokia(), &[Scope::ReadRuntime])),
        false => router,
    };
    let (router, document) = router.split_for_parts();
    let document = openapi::finished(document);
    router
        .route("/openapi.json", axum::routing::get(move || openapi::serve(document.clone())))
        .merge(console::routes())
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(DefaultBodyLimit::max(usize::try_from(api.plan.body_bytes).unwrap_or(usize::MAX)))
        .layer(from_fn_with_state(api.clone(), guard::admit))
        .layer(from_fn(problem::shape))
        .with_state(api.clone())
}

/// Not part of the OpenAPI document: the protocol is its own.
fn jolokia() -> OpenApiRouter<Shared> {
    let root = || axum::routing::get(jolokia::root).post(jolokia::post);
    OpenApiRouter::new()
        .route("/jolokia", root())
        .route("/jolokia/", root())
        // Telegraf posts its requests below the endpoint.
        .route("/jolokia/{*path}", axum::routing::get(jolokia::path).post(jolokia::post))
}
