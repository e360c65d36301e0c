//! What went wrong, as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use planner::api::types::{ApiError, ErrorKind, InputProblem};
use serde::Serialize;
use utoipa::ToSchema;

/// A problem: `detail` reads after "failed to".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `urn:ecron:` and the kind: `refused`, `not-found`, `conflict`, `failed` (nothing was changed), `unknown` (it may have
    /// happened: look before you repeat it), `malformed`, `unauthenticated`, `forbidden`, `cross-site`, …
    #[serde(rename = "type")]
    #[schema(example = "urn:ecron:refused")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) detail: String,
    /// Everything that is wrong with the input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<InputProblem>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:ecron:{kind}"),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            problems: vec![],
        }
    }

    /// The request can't be read.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "the request can't be read", detail)
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is no such thing", format!("find {what}"))
    }

    pub(crate) fn busy(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too much at once", detail)
    }

    /// The answer when a handler panicked: never what it panicked with.
    pub(crate) fn panicked() -> Response {
        let (status, title) = (StatusCode::INTERNAL_SERVER_ERROR, "the console met a fault of its own");
        Self::new(status, "fault", title, "answer; its log says more").into_response()
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let (status, kind, title) = match error.kind {
            ErrorKind::Refused => (StatusCode::UNPROCESSABLE_ENTITY, "refused", "the input is wrong"),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not-found", "there is no such thing"),
            ErrorKind::Conflict => {
                (StatusCode::PRECONDITION_FAILED, "conflict", "somebody changed it meanwhile")
            }
            ErrorKind::Failed => {
                (StatusCode::SERVICE_UNAVAILABLE, "failed", "a server can't be reached; nothing was changed")
            }
            ErrorKind::Unknown => {
                (StatusCode::GATEWAY_TIMEOUT, "unknown", "no answer in time; it may have happened")
            }
        };
        Self { problems: error.problems, ..Self::new(status, kind, title, error.message) }
    }
}

impl From<bus::BusError> for Problem {
    fn from(problem: bus::BusError) -> Self {
        ApiError::from(problem).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
