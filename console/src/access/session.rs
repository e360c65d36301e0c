//! Sessions of browsers: a token is given once, by a form, and a cookie that says nothing stands for it from then on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambient::Entropy;
use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::tokens::Scope;
use crate::pages::login_page;
use crate::server::Shared;

pub(crate) const LOGIN: &str = "/login";
const COOKIE: &str = "ecron_session";
/// How long a session lasts.
const SESSION_KEPT: Duration = Duration::from_secs(12 * 3600);
/// Sessions at once; the oldest goes for a new one.
const SESSIONS_MAX: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Sessions {
    entropy: Entropy,
    open: Mutex<HashMap<String, Session>>,
}

#[derive(Clone, Debug)]
struct Session {
    name: String,
    scope: Scope,
    since: Duration,
}

impl Sessions {
    pub(crate) fn new(entropy: Entropy) -> Self {
        Self { entropy, open: Mutex::default() }
    }

    /// Begins a session; answers with its id.
    fn begin(&self, name: &str, scope: Scope, now: Duration) -> String {
        let id: String =
            (0..2).flat_map(|_| self.entropy.key128()).map(|byte| format!("{byte:02x}")).collect();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| now.saturating_sub(session.since) < SESSION_KEPT);
        if open.len() >= SESSIONS_MAX {
            let oldest = open.iter().min_by_key(|(_, session)| session.since).map(|(id, _)| id.clone());
            oldest.map(|id| open.remove(&id));
        }
        open.insert(id.clone(), Session { name: name.to_owned(), scope, since: now });
        id
    }

    /// Whose session a request belongs to.
    pub(super) fn of(&self, headers: &HeaderMap, now: Duration) -> Option<(String, Scope)> {
        let given = cookie(headers)?;
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |id: &str| bool::from(id.as_bytes().ct_eq(given.as_bytes()));
        let (_, session) = open.iter().find(|(id, _)| same(id))?;
        let fresh = now.saturating_sub(session.since) < SESSION_KEPT;
        fresh.then(|| (session.name.clone(), session.scope))
    }

    fn end(&self, headers: &HeaderMap) {
        if let Some(given) = cookie(headers) {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(given);
        }
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

#[derive(Debug, Deserialize)]
struct Wanted {
    next: Option<String>,
}

#[derive(Deserialize)]
struct LoginForm {
    token: String,
    next: Option<String>,
}

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new().route(LOGIN, get(show).post(log_in)).route("/logout", post(log_out))
}

async fn show(State(shared): State<Arc<Shared>>, Query(wanted): Query<Wanted>) -> Response {
    if shared.credentials.is_empty() {
        return Redirect::to("/").into_response();
    }
    login_page(&place(wanted.next), false).into_response()
}

async fn log_in(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Response {
    let next = place(form.next);
    let Some((name, scope)) = shared.credentials.recognise(form.token.trim()) else {
        return (StatusCode::FORBIDDEN, login_page(&next, true)).into_response();
    };
    let id = shared.sessions.begin(name, scope, shared.clock.monotonic());
    tracing::info!(name, ?scope, "somebody logged in");
    // Behind a proxy that speaks TLS, the cookie goes over TLS alone.
    let is_https = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let secure = if is_https { "; Secure" } else { "" };
    let kept = SESSION_KEPT.as_secs();
    let cookie = format!("{COOKIE}={id}; HttpOnly; SameSite=Lax; Path=/; Max-Age={kept}{secure}");
    ([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response()
}

async fn log_out(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    shared.sessions.end(&headers);
    let cookie = format!("{COOKIE}=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    ([(header::SET_COOKIE, cookie)], Redirect::to(LOGIN)).into_response()
}

/// A place on this site, whatever was asked for.
fn place(next: Option<String>) -> String {
    let is_ours = |next: &String| {
        next.starts_with('/')
            && !next.starts_with("//")
            && !next.contains('\\')
            && !next.chars().any(char::is_control)
    };
    next.filter(is_ours).unwrap_or_else(|| "/".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_sent_on_to_this_site_only() {
        for (next, expected) in [
            ("/jobs?q=a", "/jobs?q=a"),
            ("//evil.example", "/"),
            ("http://evil.example", "/"),
            ("/\\evil", "/"),
            ("", "/"),
        ] {
            assert_eq!(place(Some(next.into())), expected, "{next}");
        }
    }

    #[test]
    fn a_session_ends_with_its_time_and_when_it_is_ended() {
        let sessions = Sessions::new(Entropy::seeded(7));
        let id = sessions.begin("ann", Scope::Read, Duration::ZERO);
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("theme=dark; {COOKIE}={id}").parse().unwrap());
        assert_eq!(sessions.of(&headers, Duration::from_secs(60)), Some(("ann".into(), Scope::Read)));
        assert_eq!(sessions.of(&headers, SESSION_KEPT), None);
        sessions.end(&headers);
        assert_eq!(sessions.of(&headers, Duration::from_secs(60)), None);
    }
}
