//! The OpenAPI document, made from the routes themselves.

use axum::Json;
use axum::response::IntoResponse;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ringmain",
        description = "Flows of a Ringmain daemon: what they are, what they do, and changing \
                       them. Errors are problem documents (RFC 9457).",
    ),
    components(schemas(super::problem::Problem))
)]
struct Document;

/// The part that is not in the routes.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// With the way to show a token.
pub(super) fn finished(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("token", bearer);
    document
}

pub(super) async fn serve(document: utoipa::openapi::OpenApi) -> impl IntoResponse {
    Json(document)
}
