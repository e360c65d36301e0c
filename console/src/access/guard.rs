//! The two gates that each request passes: it doesn't come from another site, and its sender may do it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::session;
use super::tokens::Scope;
use crate::problem::Problem;
use crate::rest;
use crate::server::Shared;

/// Who sent a request, once it was let in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// For the audit.
    pub(crate) by: Option<String>,
    pub(crate) scope: Scope,
    /// Came with a session, so that it can be ended.
    pub(crate) logged_in: bool,
}

impl Caller {
    pub(crate) fn may_write(&self) -> bool {
        self.scope == Scope::Write
    }
}

/// Refuses what a page of another site makes a browser send. Clients that aren't browsers say nothing of sites.
pub(crate) async fn same_site(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let host = host_of(&request);
    // Without credentials the name is all that tells our user from a page that points its own name at this machine.
    if shared.credentials.is_empty() && !host.as_deref().is_some_and(is_loopback) {
        let detail = "answer to that name: without credentials the console is reached as localhost only";
        return Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "not this host", detail)
            .into_response();
    }
    if !is_safe(request.method()) && comes_from_elsewhere(request.headers(), host.as_deref()) {
        let detail = "take a request that another site's page sends";
        return Problem::new(StatusCode::FORBIDDEN, "cross-site", "it comes from another site", detail)
            .into_response();
    }
    next.run(request).await
}

/// Lets in whom the credentials know, and tells the handlers who it is.
pub(crate) async fn admit(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let Some(caller) = recognised(&shared, request.headers()) else {
        return unknown(&request);
    };
    if !is_safe(request.method()) && !caller.may_write() {
        let detail = "change anything with a token of scope `read`";
        return Problem::new(StatusCode::FORBIDDEN, "forbidden", "this token may only read", detail)
            .into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn recognised(shared: &Shared, headers: &HeaderMap) -> Option<Caller> {
    if shared.credentials.is_empty() {
        return Some(Caller { by: shared.by.clone(), scope: Scope::Write, logged_in: false });
    }
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(bearer) = bearer {
        let secret = bearer.strip_prefix("Bearer ")?;
        let (name, scope) = shared.credentials.recognise(secret.trim())?;
        return Some(Caller { by: Some(by(name)), scope, logged_in: false });
    }
    let (name, scope) = shared.sessions.of(headers, shared.clock.monotonic())?;
    Some(Caller { by: Some(by(&name)), scope, logged_in: true })
}

fn by(name: &str) -> String {
    format!("{name}@console")
}

fn unknown(request: &Request) -> Response {
    let path = request.uri().path();
    if path.starts_with(rest::ROOT) || request.method() != Method::GET {
        let detail = "let you in: send `Authorization: Bearer TOKEN` with a token of this console";
        return Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", "who are you?", detail)
            .into_response();
    }
    let wanted = request.uri().path_and_query().map_or("/", |wanted| wanted.as_str());
    let wanted = utf8_percent_encode(wanted, NON_ALPHANUMERIC);
    Redirect::to(&format!("{}?next={wanted}", session::LOGIN)).into_response()
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The host that the request was sent to, with its port.
fn host_of(request: &Request) -> Option<String> {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    named.or_else(|| request.uri().authority().map(|authority| authority.as_str())).map(str::to_lowercase)
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn comes_from_elsewhere(headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?").to_lowercase());
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    let Some(origin) = text("origin") else { return false };
    let authority =
        origin.parse::<Uri>().ok().and_then(|uri| uri.authority().map(|authority| authority.to_string()));
    authority.is_none() || authority.as_deref() != host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost:17602", "127.0.0.1:17602", "[::1]:17602", "127.1.2.3", "localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1:17602", "", "[fe80::1]:80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn another_sites_page_is_told_by_what_browsers_say() {
        let table = [
            (&[][..], false),
            (&[("origin", "http://127.0.0.1:17602")], false),
            (&[("origin", "http://127.0.0.1:17602"), ("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("origin", "http://evil.example")], true),
            (&[("origin", "http://127.0.0.1:1")], true),
            (&[("origin", "null")], true),
        ];
        for (said, expected) in table {
            let mut headers = HeaderMap::new();
            for (name, value) in said {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(comes_from_elsewhere(&headers, Some("127.0.0.1:17602")), expected, "{said:?}");
        }
    }
}
