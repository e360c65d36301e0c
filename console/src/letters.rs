//! Which dead letters somebody means: filters that must all hold, and what they would pick.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::dead::{DeadLetter, DeadReason, StoredDeadLetter};
use bus::wire::dead::queue_of;
use bus::wire::headers::GENERATION;
use bus::{BusError, DeadLetters};
use model::explain::{AttemptFacts, attempts_made};
use model::id::RunId;
use model::run::{AttemptEnd, Generation};
use model::time::{Timestamp, duration_ms};
use planner::api::stats::attempt_view;
use planner::api::types::AttemptView;
use regex::Regex;

/// Letters in one look.
const LOOK: usize = 1_000;

/// The attempts that a letter tells of, with those that nobody reported; not on which executors they were.
#[must_use]
pub fn attempts(letter: &DeadLetter) -> Vec<AttemptView> {
    let generation = letter.original_headers.get(GENERATION).and_then(|number| number.parse().ok());
    let generation = Generation(generation.unwrap_or(0));
    let facts = |end: &AttemptEnd| AttemptFacts { generation, end: end.clone(), executor: String::new() };
    let known: Vec<AttemptFacts> = letter.attempt_log.iter().map(facts).collect();
    let after_all = Some((generation, letter.attempts.saturating_add(1)));
    attempts_made(&known, after_all).iter().map(attempt_view).collect()
}

/// Filters as they are asked for.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    /// Full name, or one in `default`.
    pub job: Option<String>,
    pub queue: Option<String>,
    pub namespace: Option<String>,
    /// Part of the last error, or `/an expression/`.
    pub error: Option<String>,
    pub reason: Option<DeadReason>,
    pub older_than: Option<Duration>,
    pub newer_than: Option<Duration>,
}

/// How an error is looked for.
#[derive(Debug)]
enum ErrorPattern {
    Contains(String),
    Matches(Regex),
}

/// Filters, checked and complete.
#[derive(Debug, Default)]
pub struct LetterPick {
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

impl LetterPick {
    /// Reads the filters.
    ///
    /// # Errors
    /// An expression can't be read.
    pub fn of(filter: &LetterFilter, now: Timestamp) -> Result<Self, String> {
        let full = |name: &String| if name.contains('/') { name.clone() } else { format!("default/{name}") };
        let error = match &filter.error {
            Some(text) => Some(match text.strip_prefix('/').and_then(|text| text.strip_suffix('/')) {
                Some(expression) => ErrorPattern::Matches(
                    Regex::new(expression)
                        .map_err(|problem| format!("read the expression {text}: {problem}"))?,
                ),
                None => ErrorPattern::Contains(text.to_lowercase()),
            }),
            None => None,
        };
        let words = [
            filter.job.as_ref().map(|job| format!("of job {}", full(job))),
            filter.queue.as_ref().map(|queue| format!("of queue {}", full(queue))),
            filter.namespace.as_ref().map(|namespace| format!("of namespace {namespace}")),
            filter.error.as_ref().map(|error| format!("with error {error}")),
            filter.reason.map(|reason| format!("with reason {}", reason.as_str())),
            filter.older_than.map(|age| format!("older than {} s", age.as_secs())),
            filter.newer_than.map(|age| format!("newer than {} s", age.as_secs())),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        let ago = |age: Duration| now.plus_ms(-duration_ms(age));
        Ok(Self {
            job: filter.job.as_ref().map(full),
            queue: filter.queue.as_ref().map(full),
            namespace: filter.namespace.clone(),
            error,
            reason: filter.reason,
            died_before: filter.older_than.map(ago),
            died_after: filter.newer_than.map(ago),
            words: words.join(", "),
        })
    }

    /// Whether it leaves anything out.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        !self.words.is_empty()
    }

    #[must_use]
    pub fn words(&self) -> &str {
        if self.words.is_empty() { "(all)" } else { &self.words }
    }

    #[must_use]
    pub fn picks(&self, stored: &StoredDeadLetter) -> bool {
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

/// The job of a letter's run; none of ad-hoc work.
#[must_use]
pub fn job_of(stored: &StoredDeadLetter) -> Option<String> {
    match stored.letter.id.parse() {
        Ok(RunId::Occurrence(occurrence)) => Some(occurrence.job.to_string()),
        Ok(RunId::AdHoc { .. }) | Err(_) => None,
    }
}

/// A page of the letters that are meant, oldest first, and where to look for more.
///
/// # Errors
/// Those of the bus.
pub async fn page(
    bus: &impl DeadLetters,
    pick: &LetterPick,
    mut from: u64,
    limit: usize,
) -> Result<(Vec<StoredDeadLetter>, Option<u64>), BusError> {
    let mut found = Vec::new();
    loop {
        let letters = bus.letters(from, LOOK.min(limit.max(1))).await?;
        let Some(last) = letters.last() else { return Ok((found, None)) };
        from = last.number + 1;
        for letter in letters {
            let number = letter.number;
            if pick.picks(&letter) {
                found.push(letter);
            }
            if found.len() == limit {
                return Ok((found, Some(number + 1)));
            }
        }
    }
}

/// All letters that are meant, oldest first, without their payloads: thousands of those needn't be held.
///
/// # Errors
/// Those of the bus.
pub async fn chosen(bus: &impl DeadLetters, pick: &LetterPick) -> Result<Vec<StoredDeadLetter>, BusError> {
    let mut letters = Vec::new();
    let mut from = 0;
    loop {
        let look = bus.letters(from, LOOK).await?;
        let Some(last) = look.last() else { return Ok(letters) };
        from = last.number + 1;
        letters.extend(look.into_iter().filter(|stored| pick.picks(stored)).map(|mut stored| {
            stored.letter.payload.clear();
            stored
        }));
    }
}

/// Letters by job and error, the largest group first.
#[must_use]
pub fn groups(
    letters: &[StoredDeadLetter],
    brief: impl Fn(&str) -> String,
) -> Vec<((String, String), usize)> {
    let mut groups: BTreeMap<(String, String), usize> = BTreeMap::new();
    for stored in letters {
        let of = job_of(stored).unwrap_or_else(|| format!("(ad hoc) {}", stored.letter.subject));
        *groups.entry((of, brief(&stored.letter.error))).or_default() += 1;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    groups
}
