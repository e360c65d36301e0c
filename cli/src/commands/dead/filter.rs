//! Which dead letters a command means.

use bus::dead::{DeadReason, StoredDeadLetter};
use bus::wire::dead::queue_of;
use model::id::RunId;
use model::time::Timestamp;
use regex::Regex;

use super::args::{FilterArgs, Reason};
use crate::failure::Failure;

/// How an error is looked for.
#[derive(Debug)]
enum ErrorPattern {
    Contains(String),
    Matches(Regex),
}

/// Filters, checked and complete.
#[derive(Debug, Default)]
pub(super) struct Filter {
    job: Option<String>,
    queue: Option<String>,
    namespace: Option<String>,
    error: Option<ErrorPattern>,
    reason: Option<DeadReason>,
    died_before: Option<Timestamp>,
    died_after: Option<Timestamp>,
    /// The filters in words, for previews and the audit.
    words: String,
}

impl Filter {
    pub(super) fn of(args: &FilterArgs, now: Timestamp) -> Result<Self, Failure> {
        let full = |name: &String| if name.contains('/') { name.clone() } else { format!("default/{name}") };
        let error = match &args.error {
            Some(text) => match text.strip_prefix('/').and_then(|text| text.strip_suffix('/')) {
                Some(expression) => {
                    Some(ErrorPattern::Matches(Regex::new(expression).map_err(|problem| {
                        Failure::input(format!("failed to read the expression {text}: {problem}"))
                    })?))
                }
                None => Some(ErrorPattern::Contains(text.to_lowercase())),
            },
            None => None,
        };
        let words = [
            args.job.as_ref().map(|job| format!("of job {}", full(job))),
            args.queue.as_ref().map(|queue| format!("of queue {}", full(queue))),
            args.namespace.as_ref().map(|namespace| format!("of namespace {namespace}")),
            args.error.as_ref().map(|error| format!("with error {error}")),
            args.reason.map(|reason| format!("with reason {}", reason.reason().as_str())),
            args.older_than.map(|age| format!("older than {} s", age.as_secs())),
            args.newer_than.map(|age| format!("newer than {} s", age.as_secs())),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        let ago = |age: std::time::Duration| now.plus_ms(-model::time::duration_ms(age));
        Ok(Self {
            job: args.job.as_ref().map(full),
            queue: args.queue.as_ref().map(full),
            namespace: args.namespace.clone(),
            error,
            reason: args.reason.map(Reason::reason),
            died_before: args.older_than.map(ago),
            died_after: args.newer_than.map(ago),
            words: words.join(", "),
        })
    }

    /// Whether it leaves anything out.
    pub(super) fn is_narrow(&self) -> bool {
        !self.words.is_empty()
    }

    pub(super) fn words(&self) -> &str {
        if self.words.is_empty() { "(all)" } else { &self.words }
    }

    pub(super) fn picks(&self, stored: &StoredDeadLetter) -> bool {
        let letter = &stored.letter;
        let queue = queue_of(letter).map(|queue| queue.to_string());
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let namespace =
            queue.as_deref().and_then(|queue| queue.split_once('/')).map(|(namespace, _)| namespace);
        let error = match &self.error {
            None => true,
            Some(ErrorPattern::Contains(text)) => letter.error.to_lowercase().contains(text),
            Some(ErrorPattern::Matches(expression)) => expression.is_match(&letter.error),
        };
        is(&self.job, job_of(stored).as_deref())
            && is(&self.queue, queue.as_deref())
            && is(&self.namespace, namespace)
            && error
            && self.reason.is_none_or(|reason| reason == letter.reason)
            && self.died_before.is_none_or(|before| letter.died_at < before)
            && self.died_after.is_none_or(|after| letter.died_at >= after)
    }
}

impl Reason {
    fn reason(self) -> DeadReason {
        match self {
            Self::AttemptsExhausted => DeadReason::AttemptsExhausted,
            Self::Poison => DeadReason::Poison,
            Self::Undecodable => DeadReason::Undecodable,
            Self::MalformedHeaders => DeadReason::MalformedHeaders,
            Self::Terminated => DeadReason::Terminated,
            Self::DeadlineExceeded => DeadReason::DeadlineExceeded,
        }
    }
}

/// The job of a letter's run; none of ad-hoc work.
pub(super) fn job_of(stored: &StoredDeadLetter) -> Option<String> {
    match stored.letter.id.parse() {
        Ok(RunId::Occurrence(occurrence)) => Some(occurrence.job.to_string()),
        Ok(RunId::AdHoc { .. }) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bus::dead::DeadLetter;

    use super::*;

    fn letter() -> StoredDeadLetter {
        let letter = DeadLetter {
            id: "billing/nightly@2026-11-22T06:45:00Z".into(),
            subject: "ecron.run.billing.reports".into(),
            reason: DeadReason::AttemptsExhausted,
            error: "Disk full on /dev/sda".into(),
            attempts: 3,
            died_at: "2026-11-22T06:50:00Z".parse().unwrap(),
            original_headers: Default::default(),
            payload: bytes::Bytes::new(),
        };
        StoredDeadLetter { number: 1, letter }
    }

    fn picks(args: FilterArgs) -> bool {
        let now = "2026-11-22T07:00:00Z".parse().unwrap();
        Filter::of(&args, now).unwrap().picks(&letter())
    }

    #[test]
    fn each_filter_narrows_by_its_own_part() {
        let text = |text: &str| Some(text.to_owned());
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        let none = FilterArgs::default;
        assert!(picks(none()));
        let table = [
            (FilterArgs { job: text("billing/nightly"), ..none() }, true),
            (FilterArgs { job: text("nightly"), ..none() }, false),
            (FilterArgs { queue: text("billing/reports"), ..none() }, true),
            (FilterArgs { queue: text("billing/other"), ..none() }, false),
            (FilterArgs { namespace: text("billing"), ..none() }, true),
            (FilterArgs { namespace: text("ops"), ..none() }, false),
            (FilterArgs { error: text("disk FULL"), ..none() }, true),
            (FilterArgs { error: text("/disk (full|quota)/"), ..none() }, false),
            (FilterArgs { error: text("/[Dd]isk (full|quota)/"), ..none() }, true),
            (FilterArgs { reason: Some(Reason::Poison), ..none() }, false),
            (FilterArgs { reason: Some(Reason::AttemptsExhausted), ..none() }, true),
            (FilterArgs { older_than: minutes(5), ..none() }, true),
            (FilterArgs { older_than: minutes(15), ..none() }, false),
            (FilterArgs { newer_than: minutes(15), ..none() }, true),
            (FilterArgs { newer_than: minutes(5), ..none() }, false),
            (FilterArgs { newer_than: minutes(15), namespace: text("ops"), ..none() }, false),
        ];
        for (args, expected) in table {
            assert_eq!(picks(args.clone()), expected, "{args:?}");
        }
        let broken = FilterArgs { error: text("/(/"), ..none() };
        assert!(Filter::of(&broken, Timestamp::from_ms(0)).is_err());
    }
}
