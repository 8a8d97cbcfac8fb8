//! The OpenAPI document, made from the routes themselves.

use axum::Json;
use axum::response::IntoResponse;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, PathItem, Ref, RefOr, Response};

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

/// What stands before every route may answer with.
const ALWAYS: [(&str, &str); 3] = [
    ("400", "The request cannot be understood"),
    ("403", "The token is not good for this, or the request comes from a foreign page"),
    ("429", "More requests than `rate` of [api] allows"),
];
const WITH_TOKEN: (&str, &str) = ("401", "A token is needed");
const WITH_BODY: (&str, &str) = ("413", "More than `body` of [api] allows");

/// The part that is not in the routes.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// With the way to show a token, and with what every route may answer.
pub(super) fn finished(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("token", bearer);
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(finish);
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().flatten()
}

fn finish(operation: &mut Operation) {
    let mut errors: Vec<_> = ALWAYS.to_vec();
    errors.extend(operation.security.is_some().then_some(WITH_TOKEN));
    errors.extend(operation.request_body.is_some().then_some(WITH_BODY));
    let responses = &mut operation.responses.responses;
    for (status, about) in errors {
        let known = responses.entry(status.to_owned());
        known.or_insert_with(|| RefOr::T(Response::new(about)));
    }
    let refused = responses.iter_mut().filter(|(status, _)| status.starts_with('4'));
    for (_, response) in refused {
        if let RefOr::T(response) = response {
            let problem = Content::new(Some(Ref::from_schema_name("Problem")));
            response.content.clear();
            response.content.insert("application/problem+json".to_owned(), problem.into());
        }
    }
}

pub(super) async fn serve(document: utoipa::openapi::OpenApi) -> impl IntoResponse {
    Json(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_says_what_refusals_look_like() {
        let mut item = PathItem::default();
        item.get = Some(Operation::new());
        operations(&mut item).for_each(finish);
        let json = serde_json::to_value(&item).unwrap();
        let problem = &json["get"]["responses"]["429"]["content"]["application/problem+json"];
        assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem");
    }
}
