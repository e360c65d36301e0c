//! "Did you mean": the known field that a wrong one was probably meant to be.

/// What people write who come from Kubernetes, cron or another scheduler, and where it is said here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("concurrencypolicy", "spec.overlap"),
    ("startingdeadlineseconds", "spec.startingDeadline"),
    ("successfuljobshistorylimit", "spec.history.succeeded"),
    ("failedjobshistorylimit", "spec.history.failed"),
    ("activedeadlineseconds", "spec.timeout"),
    ("backofflimit", "spec.retry.attempts"),
    ("jobtemplate", "spec.exec, spec.http or spec.payload"),
    ("annotations", "metadata.labels"),
    ("timezone", "spec.schedule.timeZone"),
    ("cron", "spec.schedule.cron"),
    ("every", "spec.schedule.every"),
    ("at", "spec.schedule.at"),
    ("attempts", "spec.retry.attempts"),
    ("retries", "spec.retry.attempts"),
    ("command", "spec.exec.command"),
    ("shell", "spec.exec.shell"),
    ("url", "spec.http.url"),
    ("namespace", "metadata.namespace"),
    ("labels", "metadata.labels"),
    ("name", "metadata.name"),
    ("misfire", "spec.catchUp"),
    ("enabled", "spec.suspend"),
    ("disabled", "spec.suspend"),
    ("paused", "spec.suspend"),
];

/// A clause for the message about an unknown field, or nothing if nothing is near.
pub(super) fn clause(found: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(found, known) {
        return format!("; did you mean {near}?");
    }
    let plain = plain(found);
    match ELSEWHERE.iter().find(|(word, _)| *word == plain) {
        Some((_, place)) => format!("; it is said with {place}"),
        None => String::new(),
    }
}

/// The known word at the smallest distance, if that is small for the word's length.
pub(super) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer than any field: no need to compare.
    if found.len() > 64 {
        return None;
    }
    let found = plain(found);
    let allowed = match found.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    known
        .iter()
        .map(|word| (distance(&found, &plain(word)), *word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `catch_up`, `catch-up` and `CatchUp` are all `catchUp`, misspelt.
fn plain(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to another.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_named() {
        let known = ["schedule", "queue", "timeout", "catchUp", "startingDeadline", "suspend", "at", "every"];
        for (found, near) in [
            ("shedule", Some("schedule")),
            ("qeueu", None),
            ("queu", Some("queue")),
            ("timeOut", Some("timeout")),
            ("catch_up", Some("catchUp")),
            ("starting-deadline", Some("startingDeadline")),
            ("suspended", Some("suspend")),
            ("evrey", Some("every")),
            ("it", None),
            ("", None),
            ("nonsense", None),
        ] {
            assert_eq!(nearest(found, &known), near, "{found}");
        }
        assert_eq!(clause("concurrencyPolicy", &known), "; it is said with spec.overlap");
        assert_eq!(clause("xyz", &known), "");
        assert_eq!(nearest(&"a".repeat(100_000), &known), None);
    }

    #[test]
    fn distances() {
        for (a, b, edits) in
            [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("kitten", "sitting", 3), ("cron", "crno", 1)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
