//! Kubernetes' CronJob controller as a table: in each state of `data/kubernetes_cronjob.tsv`, our pure rules (admission,
//! layout with catch-up, dispatch, overlap) do what the row says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail loudly, as tests may")]

use ecron_model::declared::Declared;
use ecron_model::dispatch::{Admission, Due, JobNow, Verdict, decide};
use ecron_model::first::{ShardStanding, first_layout};
use ecron_model::id::Revision;
use ecron_model::manifest::{Calendars, Node, admit};
use ecron_model::overlap::{self, Overlap, Rule, Standing, Waiting};
use ecron_model::plan::minute_tier_until;
use ecron_model::spec::Acceptance;
use ecron_model::time::Timestamp;
use serde_json::json;

struct Row<'a> {
    what: &'a str,
    schedule: &'a str,
    zone: Option<&'a str>,
    created: Timestamp,
    last: Option<Timestamp>,
    active: u32,
    paused: bool,
    deadline: Option<&'a str>,
    now: Timestamp,
    outcome: &'a str,
    next: Option<Timestamp>,
}

fn given(column: &str) -> Option<&str> {
    (column != "-").then_some(column)
}

fn read(line: &str) -> (Vec<&str>, Row<'_>) {
    let columns: Vec<&str> = line.split('\t').collect();
    let [_, what, policies, schedule, zone, created, last, active, paused, deadline, now, outcome, next] =
        columns[..]
    else {
        panic!("thirteen columns expected: {line}")
    };
    let row = Row {
        what,
        schedule,
        zone: given(zone),
        created: created.parse().unwrap(),
        last: given(last).map(|last| last.parse().unwrap()),
        active: active.parse().unwrap(),
        paused: given(paused).is_some(),
        deadline: given(deadline),
        now: now.parse().unwrap(),
        outcome,
        next: given(next).map(|next| next.parse().unwrap()),
    };
    (policies.split(',').collect(), row)
}

/// The job of a row as admission accepts it, or that it refuses it.
fn declared(row: &Row<'_>, policy: &str) -> Option<Declared> {
    let mut spec = json!({
        "schedule": {"cron": row.schedule, "dialect": "kubernetes"}, "overlap": policy,
        "catchUp": {"policy": "latest", "window": "366d"},
    });
    if let Some(zone) = row.zone {
        spec["schedule"]["timeZone"] = json!(zone);
    }
    if let Some(deadline) = row.deadline {
        spec["startingDeadline"] = json!(deadline);
    }
    let document = json!({"apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "cj"}, "spec": spec});
    let (spec, acceptance) =
        admit(&Node::from_json(document), None, row.created, &Calendars::default()).ok()?;
    Some(Declared::of(spec, acceptance).unwrap())
}

/// What our rules do: the words of the column `outcome`, and the next instant that they lay out.
fn played(row: &Row<'_>, policy: &str) -> (String, Option<Timestamp>) {
    const REVISION: Revision = Revision(1);
    let Some(mut job) = declared(row, policy) else { return ("refused".into(), None) };
    let reached = row.last.unwrap_or(row.created);
    if row.paused {
        job.acceptance = job.acceptance.in_namespace(false, true, reached);
    }
    let shard =
        ShardStanding { planned_until: minute_tier_until(row.now), taken_until: reached, rebuilding: false };
    let before: Acceptance = job.acceptance.clone();
    let layout = first_layout(&job, Some(&before), shard, row.now);
    let upcoming = layout.minute.iter().copied().find(|due_at| *due_at > row.now);
    let next = upcoming.or_else(|| layout.next.map(|placed| placed.due_at));
    let names = |due_at| job.schedule.names(due_at);
    let starting_deadline = job.spec.starting_deadline;
    let mut due = layout.minute.into_iter().filter(|due_at| *due_at <= row.now).filter(|due_at| {
        let suspended = before.paused_since().is_some_and(|since| *due_at > since);
        let limited = job.spec.overlap_rule().is_some();
        let present = JobNow { revision: REVISION, suspended, starting_deadline, limited, names: &names };
        let due = Due { at: *due_at, revision: REVISION, admission: Admission::Fresh, triggered: false };
        let verdict = decide(due, Some(present), reached, row.now);
        verdict == Verdict::Publish { revision: REVISION }
    });
    let outcome = due.next().map_or_else(|| "-".to_owned(), |due_at| overlap(policy, row.active, due_at));
    assert_eq!(due.next(), None, "{}: latest means one", row.what);
    (outcome, next)
}

fn overlap(policy: &str, active: u32, due_at: Timestamp) -> String {
    let policy = Overlap::from_word(policy).expect("a policy of ours");
    let verdict = Rule::of(policy, None).map(|rule| overlap::decide(rule, Standing { active, waiting: 0 }));
    let word = match verdict {
        None | Some(overlap::Verdict::Start) => "start",
        Some(overlap::Verdict::Skip(_)) => "skip",
        Some(overlap::Verdict::Wait(Waiting { cancel_active: true, .. })) => "replace",
        Some(overlap::Verdict::Wait(Waiting { cancel_active: false, .. })) => "wait",
    };
    format!("{word} {due_at}")
}

#[test]
fn our_rules_do_what_kubernetes_does_or_say_where_they_differ() {
    let table = include_str!("data/kubernetes_cronjob.tsv");
    let mut wrong = Vec::new();
    let mut cases = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let (policies, row) = read(line);
        for policy in policies {
            cases += 1;
            let found = played(&row, policy);
            let wanted = (row.outcome.to_owned(), row.next);
            if found != wanted {
                wrong.push(format!("{} ({policy}): wanted {wanted:?}, found {found:?}", row.what));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {cases} cases\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases > 100, "only {cases} cases");
}
