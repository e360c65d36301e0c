//! How the attempts of a run ended, as JSON: beside its message for the next executor, and in its letter when it is dead.

use model::limits::{ATTEMPTS_KEPT_MAX, ERROR_BYTES_MAX};
use model::run::{AttemptEnd, Outcome};
use serde::{Deserialize, Serialize};

use super::event::bounded;

/// All of one message's attempts together, as JSON. Without their errors `ATTEMPTS_KEPT_MAX` fit.
pub(super) const ATTEMPTS_BYTES_MAX: usize = 16 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttemptForm {
    attempt: u32,
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    started_at: String,
    ended_at: String,
}

/// The newest attempts, their errors cut so far that all fit.
pub(super) fn forms(attempts: &[AttemptEnd]) -> Vec<AttemptForm> {
    let kept = &attempts[attempts.len().saturating_sub(ATTEMPTS_KEPT_MAX)..];
    let mut error_bytes_max = ERROR_BYTES_MAX;
    loop {
        let forms: Vec<AttemptForm> = kept.iter().map(|end| form(end, error_bytes_max)).collect();
        let bytes = serde_json::to_vec(&forms).map_or(0, |json| json.len());
        if bytes <= ATTEMPTS_BYTES_MAX || error_bytes_max == 0 {
            return forms;
        }
        error_bytes_max /= 2;
    }
}

fn form(end: &AttemptEnd, error_bytes_max: usize) -> AttemptForm {
    AttemptForm {
        attempt: end.attempt,
        outcome: end.outcome.as_str().into(),
        error: end.error.as_deref().map(|error| bounded(error, error_bytes_max).to_owned()),
        started_at: end.started_at.to_string(),
        ended_at: end.ended_at.to_string(),
    }
}

/// Without those that can't be read: somebody else may have written them.
pub(super) fn ends(forms: Vec<AttemptForm>) -> Vec<AttemptEnd> {
    let end = |form: AttemptForm| {
        Some(AttemptEnd {
            attempt: form.attempt,
            outcome: Outcome::from_word(&form.outcome)?,
            error: form.error,
            started_at: form.started_at.parse().ok()?,
            ended_at: form.ended_at.parse().ok()?,
        })
    };
    forms.into_iter().filter_map(end).collect()
}

#[cfg(test)]
mod tests {
    use model::time::Timestamp;

    use super::*;

    fn failed(attempt: u32, error: &str) -> AttemptEnd {
        AttemptEnd {
            attempt,
            outcome: Outcome::Failed,
            error: Some(error.into()),
            started_at: Timestamp::from_ms(1_000),
            ended_at: Timestamp::from_ms(2_500),
        }
    }

    #[test]
    fn few_attempts_keep_their_whole_errors() {
        let attempts = [failed(1, "no \"disk\"\nno é"), failed(2, &"x".repeat(ERROR_BYTES_MAX))];
        assert_eq!(ends(forms(&attempts)), attempts);
    }

    #[test]
    fn many_attempts_share_the_room_that_there_is() {
        let attempts: Vec<AttemptEnd> =
            (1..=150).map(|number| failed(number, &"\u{1}".repeat(ERROR_BYTES_MAX))).collect();
        let forms = forms(&attempts);
        let bytes = serde_json::to_vec(&forms).unwrap().len();
        assert!(bytes <= ATTEMPTS_BYTES_MAX, "{bytes}");
        let kept: Vec<u32> = ends(forms).iter().map(|end| end.attempt).collect();
        assert_eq!(kept, (51..=150).collect::<Vec<_>>());
    }
}
