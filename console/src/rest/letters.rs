//! Dead letters: filtering, a preview of what a redrive or purge would do, and doing it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bus::DeadLetters;
use bus::dead::{DeadReason, StoredDeadLetter};
use planner::api::dead::LETTERS_MAX;
use planner::api::types::{AttemptView, LettersReply, LettersRequest};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Refusals;
use super::input::{Answer, Body, Params, Place};
use crate::access::Caller;
use crate::letters::{LetterFilter, LetterPick, attempts, chosen, groups, page};
use crate::problem::Problem;
use crate::server::Shared;

/// Letters in a page, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Groups in a preview; the others are counted.
const GROUPS_MAX: usize = 100;
/// Characters of an error that tell groups apart.
const ERROR_CHARS: usize = 120;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/letters", get(list))
        .route("/letters/preview", get(preview))
        .route("/letters/redrive", post(redrive))
        .route("/letters/purge", post(purge))
        .route("/letters/{number}", get(get_one))
}

/// Filters that must all hold.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Filters {
    pub(crate) job: Option<String>,
    pub(crate) queue: Option<String>,
    pub(crate) namespace: Option<String>,
    /// Part of the last error, or `/an expression/`.
    pub(crate) error: Option<String>,
    /// `attempts-exhausted`, `permanent`, `poison`, `undecodable`, `malformed-headers`, `terminated` or
    /// `deadline-exceeded`.
    pub(crate) reason: Option<String>,
    /// A duration: `30d` isn't one, `720h` is.
    pub(crate) older_than: Option<String>,
    pub(crate) newer_than: Option<String>,
    /// The number to begin at: `next` of the page before.
    pub(crate) from: Option<u64>,
    /// 100 unless given, at most 1,000.
    pub(crate) limit: Option<usize>,
}

impl Filters {
    pub(crate) fn pick(&self, shared: &Shared) -> Result<LetterPick, Problem> {
        // An empty field of a form is no filter.
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let age = |text: &Option<String>| {
            let read = |text: &str| {
                model::schedule::parse_duration(text)
                    .map_err(|problem| Problem::malformed(format!("read the age {text:?}: {problem}")))
            };
            given(text).as_deref().map(read).transpose()
        };
        let reason = |word: &str| {
            DeadReason::from_word(word).ok_or_else(|| Problem::malformed(format!("know the reason {word:?}")))
        };
        let filter = LetterFilter {
            job: given(&self.job),
            queue: given(&self.queue),
            namespace: given(&self.namespace),
            error: given(&self.error),
            reason: given(&self.reason).as_deref().map(reason).transpose()?,
            older_than: age(&self.older_than)?,
            newer_than: age(&self.newer_than)?,
        };
        LetterPick::of(&filter, shared.clock.now()).map_err(Problem::malformed)
    }
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct LettersPage {
    /// Oldest first, without headers and payloads.
    letters: Vec<LetterView>,
    /// The number to begin the next page at.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LetterView {
    pub(crate) number: u64,
    pub(crate) run: String,
    pub(crate) subject: String,
    pub(crate) reason: String,
    pub(crate) error: String,
    pub(crate) attempts: u32,
    pub(crate) died_at: String,
    /// How the attempts of its message ended, also when its run is forgotten; not on which executors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempt_log: Option<Vec<AttemptView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) headers: Option<std::collections::BTreeMap<String, String>>,
    /// As JSON if it is, as text if it is, else `{"base64": …}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<serde_json::Value>,
}

pub(crate) fn view(stored: &StoredDeadLetter, whole: bool) -> LetterView {
    let letter = &stored.letter;
    LetterView {
        number: stored.number,
        run: letter.id.clone(),
        subject: letter.subject.clone(),
        reason: letter.reason.as_str().into(),
        error: letter.error.clone(),
        attempts: letter.attempts,
        died_at: letter.died_at.to_string(),
        attempt_log: whole.then(|| attempts(letter)),
        headers: whole.then(|| letter.original_headers.clone()),
        payload: whole.then(|| payload(&letter.payload)),
    }
}

fn payload(bytes: &[u8]) -> serde_json::Value {
    use base64::Engine;
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({ "base64": base64::engine::general_purpose::STANDARD.encode(bytes) }),
    }
}

/// Dead letters, oldest first.
#[utoipa::path(get, path = "/api/v1/letters", tag = "dead letters", params(Filters), responses((status = 200, body = LettersPage), Refusals))]
pub(super) async fn list(State(shared): State<Arc<Shared>>, Params(filters): Params<Filters>) -> Answer {
    let limit = filters.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let pick = filters.pick(&shared)?;
    let (letters, next) = page(&**shared.desk.bus(), &pick, filters.from.unwrap_or(0), limit).await?;
    let letters = letters.iter().map(|stored| view(stored, false)).collect();
    Ok(Json(LettersPage { letters, next }).into_response())
}

/// One dead letter, with its headers and payload.
#[utoipa::path(get, path = "/api/v1/letters/{number}", tag = "dead letters", params(("number" = u64, Path)), responses((status = 200, body = LetterView), Refusals))]
pub(super) async fn get_one(State(shared): State<Arc<Shared>>, Place(number): Place<u64>) -> Answer {
    let stored = shared.desk.bus().letter(number).await?;
    let stored = stored.ok_or_else(|| Problem::not_found(&format!("dead letter {number}")))?;
    Ok(Json(view(&stored, true)).into_response())
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LettersPreview {
    /// The filters in words.
    pub(crate) filters: String,
    pub(crate) count: usize,
    /// By job and error, the largest first.
    pub(crate) groups: Vec<LetterGroup>,
    pub(crate) groups_more: usize,
    /// Their numbers, oldest first, at most 1,000: what `redrive` and `purge` take at once.
    pub(crate) letters: Vec<u64>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LetterGroup {
    pub(crate) job: String,
    pub(crate) error: String,
    pub(crate) count: usize,
}

/// What the filters pick, by job and error: look before you redrive or purge.
#[utoipa::path(get, path = "/api/v1/letters/preview", tag = "dead letters", params(Filters), responses((status = 200, body = LettersPreview), Refusals))]
pub(super) async fn preview(State(shared): State<Arc<Shared>>, Params(filters): Params<Filters>) -> Answer {
    Ok(Json(previewed(&shared, &filters.pick(&shared)?).await?).into_response())
}

pub(crate) async fn previewed(shared: &Shared, pick: &LetterPick) -> Result<LettersPreview, Problem> {
    let letters = chosen(&**shared.desk.bus(), pick).await?;
    let all = groups(&letters, |error| error.chars().take(ERROR_CHARS).collect());
    let groups_more = all.len().saturating_sub(GROUPS_MAX);
    let group = |((job, error), count)| LetterGroup { job, error, count };
    Ok(LettersPreview {
        filters: pick.words().into(),
        count: letters.len(),
        groups: all.into_iter().take(GROUPS_MAX).map(group).collect(),
        groups_more,
        letters: letters.iter().take(LETTERS_MAX).map(|stored| stored.number).collect(),
    })
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LettersBody {
    /// By their numbers, at most 1,000.
    letters: Vec<u64>,
    /// How they were chosen, in words, for the audit.
    target: Option<String>,
}

/// Send letters to their queues again, each as its run's next generation.
#[utoipa::path(post, path = "/api/v1/letters/redrive", tag = "dead letters", request_body = LettersBody, responses((status = 200, body = LettersReply), Refusals))]
pub(super) async fn redrive(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<LettersBody>,
) -> Answer {
    deed(&shared, caller, "redrive", body).await
}

/// Remove letters for good.
#[utoipa::path(post, path = "/api/v1/letters/purge", tag = "dead letters", request_body = LettersBody, responses((status = 200, body = LettersReply), Refusals))]
pub(super) async fn purge(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<LettersBody>,
) -> Answer {
    deed(&shared, caller, "purge", body).await
}

async fn deed(shared: &Shared, caller: Caller, verb: &str, body: LettersBody) -> Answer {
    let LettersBody { letters, target } = body;
    let reply: LettersReply =
        shared.desk.ask(verb, &LettersRequest { letters, target, by: caller.by, operation: None }).await?;
    Ok(Json(reply).into_response())
}
