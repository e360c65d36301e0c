//! Manifests of the jobs that these suites declare.

use std::fmt::Write as _;

/// A job that runs a line of shell every few seconds, counted from the epoch, so that its occurrences are plain
/// arithmetic. Further lines of its spec may follow.
pub(crate) fn every(job: &str, seconds: u32, shell: &str, more: &[&str]) -> String {
    let schedule = format!("schedule: {{every: {seconds}s, start: \"2020-01-01T00:00:00Z\"}}");
    exec(job, &schedule, shell, more)
}

/// A job that runs a line of shell only when it is triggered.
pub(crate) fn triggered(job: &str, shell: &str, more: &[&str]) -> String {
    exec(job, NEVER_SOON, shell, more)
}

/// A schedule that no test will live to see.
pub(crate) const NEVER_SOON: &str = "schedule: {at: [\"2099-01-01T00:00:00Z\"]}";

fn exec(job: &str, schedule: &str, shell: &str, more: &[&str]) -> String {
    let mut text = payload(job, schedule, more);
    text.push_str("  exec:\n    shell: |\n");
    for line in shell.lines() {
        // Writing to a String can't fail.
        let _written = writeln!(text, "      {line}");
    }
    text
}

/// A job for a handler elsewhere.
pub(crate) fn payload(job: &str, schedule: &str, more: &[&str]) -> String {
    let (namespace, name) = job.split_once('/').unwrap_or(("default", job));
    let mut text = format!(
        "---\napiVersion: ecron/v1\nkind: Job\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {schedule}\n"
    );
    for line in more {
        let _written = writeln!(text, "  {line}");
    }
    text
}

/// Remembers every run, so that a test can count them.
pub(crate) const REMEMBER_ALL: &str = "history: {succeeded: 1000, failed: 1000, skipped: 1000}";
