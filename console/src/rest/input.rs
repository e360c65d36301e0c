//! Reading requests: places, questions and bodies. What can't be read is answered with a problem, never with bare text.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// What a path names.
#[derive(Debug)]
pub(crate) struct Place<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Place<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(place)| Self(place))
            .map_err(|problem| Problem::malformed(format!("read the path: {problem}")))
    }
}

/// What follows the question mark.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(params)| Self(params)).map_err(|problem| {
            let detail =
                std::error::Error::source(&problem).map_or_else(|| problem.to_string(), ToString::to_string);
            Problem::malformed(format!("read the query: {detail}"))
        })
    }
}

/// A JSON body; nothing at all counts as `{}`.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(|problem| {
            let response = problem.into_response();
            let title = "the body can't be read";
            let kind =
                if response.status() == StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "malformed" };
            Problem::new(
                response.status(),
                kind,
                title,
                "read the body: it is larger than 768 KiB, or was cut short",
            )
        })?;
        if bytes.is_empty() {
            let empty = serde_json::from_slice(b"{}");
            return empty
                .map(Self)
                .map_err(|problem| Problem::malformed(format!("read the body: it is empty; {problem}")));
        }
        // A form of another site can't say so; see also `access::guard`.
        if !is_json {
            let detail = "read the body: say `Content-Type: application/json`";
            let title = "the body isn't JSON";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", title, detail));
        }
        let read = serde_json::from_slice(&bytes);
        read.map(Self).map_err(|problem| Problem::malformed(format!("read the body: {problem}")))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// A job, queue or backfill by its two names: `billing/nightly-report`.
pub(crate) type Named = Place<(String, String)>;

/// The full name.
pub(crate) fn full((namespace, name): &(String, String)) -> String {
    format!("{namespace}/{name}")
}

/// `team=finance,env=prod`.
pub(crate) fn labels(text: Option<&str>) -> Result<std::collections::BTreeMap<String, String>, Problem> {
    let pairs = text.unwrap_or_default().split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let read = pairs.map(|pair| match pair.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(Problem::malformed(format!("read label {pair:?}: expected KEY=VALUE"))),
    });
    read.collect()
}

/// The revision that a request expects: `If-Match: "17"`, or 0 for `If-None-Match: *`.
pub(crate) fn expected(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    if let Some(value) = headers.get(header::IF_NONE_MATCH) {
        return match value.to_str() {
            Ok("*") => Ok(Some(0)),
            _ => Err(Problem::malformed(
                "read If-None-Match: only `*` (there is none yet) means something here",
            )),
        };
    }
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let revision =
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    revision.filter(|revision| *revision > 0).map(Some).ok_or_else(|| {
        Problem::malformed(format!("read If-Match {text:?}: expected an ETag of this API, such as \"17\""))
    })
}

/// The ETag of a revision.
pub(crate) fn etag(revision: u64) -> [(header::HeaderName, String); 1] {
    [(header::ETAG, format!("\"{revision}\""))]
}

/// Answers of handlers.
pub(crate) type Answer = Result<Response, Problem>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_expected_by_its_etag() {
        let table = [
            (header::IF_MATCH, "\"17\"", Some(Some(17))),
            (header::IF_MATCH, "*", Some(None)),
            (header::IF_MATCH, "17", None),
            (header::IF_MATCH, "W/\"17\"", None),
            (header::IF_MATCH, "\"0\"", None),
            (header::IF_NONE_MATCH, "*", Some(Some(0))),
            (header::IF_NONE_MATCH, "\"17\"", None),
        ];
        for (name, value, outcome) in table {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(expected(&headers).ok(), outcome, "{value}");
        }
        assert_eq!(expected(&HeaderMap::new()).ok(), Some(None));
    }

    #[test]
    fn labels_are_pairs() {
        let read = labels(Some("team=finance, env=prod")).unwrap();
        assert_eq!(
            read.into_iter().collect::<Vec<_>>(),
            [("env".into(), "prod".into()), ("team".into(), "finance".into())]
        );
        assert!(labels(Some("team")).is_err());
        assert!(labels(None).unwrap().is_empty());
    }
}
