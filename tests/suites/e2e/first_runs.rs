//! A job from its declaration to its history, when nothing goes wrong.

use std::sync::Arc;
use std::time::Duration;

use harness::up::{Slot, Up};
use harness::wait::{seen, wait_until};
use harness::witness::{Expected, Findings, instant, now_ms, until_ms};

use crate::jobs::{NEVER_SOON, REMEMBER_ALL, every, payload, triggered};

static UP: Slot = Slot::new();

async fn up() -> anyhow::Result<Arc<Up>> {
    Up::shared(&UP).await
}

const DEADLINE: Duration = Duration::from_secs(30);
/// A start later than this isn't on time, even on a busy machine with an unoptimised build.
const LATE_MS: i64 = 2_000;

#[tokio::test]
async fn an_applied_job_runs_at_every_occurrence_on_time_never_early_and_once() -> anyhow::Result<()> {
    let up = up().await?;
    let (cli, witness) = (up.cli(), up.witness("on-time"));
    let job = "first/on-time";
    cli.apply(&every(job, 1, &witness.line(), &[REMEMBER_ALL])).await?;
    let after_ms = now_ms();
    until_ms(after_ms + 10_000).await;
    let until_ms = now_ms();
    let expected = Expected { job: job.into(), every_ms: 1_000, after_ms, until_ms };
    // Later ones run meanwhile; what counts is the window.
    let begun = wait_until(DEADLINE, "every occurrence has begun", || async {
        let begun = witness.begun()?;
        seen(expected.compare(&begun).missed.is_empty(), begun)
    })
    .await?;
    assert_eq!(expected.compare(&begun), Findings::default());
    let late: Vec<_> = begun.iter().filter(|begun| begun.began_ms - begun.due_ms > LATE_MS).collect();
    assert!(late.is_empty(), "late: {late:#?}");
    assert!(begun.iter().all(|begun| begun.attempt == 1), "{begun:#?}");

    // The history says the same as the witness.
    let due = expected.due_ms();
    let runs = cli
        .wait_for_runs(job, "have all ended", DEADLINE, |runs| {
            runs.iter().filter(|run| run.state == "succeeded").count() >= due.len()
        })
        .await?;
    for run in &runs {
        assert_eq!((run.attempts, run.generation), (1, 0), "{run:#?}");
        assert!(run.lateness_ms.is_some_and(|ms| (0..=LATE_MS).contains(&ms)), "{run:#?}");
    }
    let mut ids: Vec<_> = runs.iter().map(|run| &run.run).collect();
    ids.dedup();
    assert_eq!(ids.len(), runs.len(), "one entry for each run: {runs:#?}");
    Ok(())
}

#[tokio::test]
async fn a_triggered_run_starts_at_once_and_the_schedule_stays() -> anyhow::Result<()> {
    let up = up().await?;
    let (cli, witness) = (up.cli(), up.witness("triggered"));
    cli.apply(&triggered("first/triggered", &format!("{}; echo hello", witness.line()), &[])).await?;
    let before = cli.json(&["get", "job", "first/triggered"]).await?;
    let asked_ms = now_ms();
    let run = cli.json(&["trigger", "first/triggered", "--wait", "--timeout", "30s"]).await?;
    assert_eq!((run["state"].as_str(), run["attempts"].as_u64()), (Some("succeeded"), Some(1)), "{run:#}");
    assert!(run["output"].as_str().is_some_and(|output| output.contains("hello")), "{run:#}");
    let begun = witness.begun()?;
    assert_eq!(begun.len(), 1, "{begun:#?}");
    assert!(begun[0].began_ms >= begun[0].due_ms && begun[0].began_ms - asked_ms < 5_000, "{begun:#?}");
    assert_eq!(run["run"].as_str(), Some(begun[0].run.as_str()));
    let after = cli.json(&["get", "job", "first/triggered"]).await?;
    assert_eq!(before["status"]["nextDueAt"], after["status"]["nextDueAt"]);
    assert_eq!(before["status"]["nextDueAt"].as_str(), Some("2099-01-01T00:00:00Z"));

    let unknown = cli.run(&["trigger", "first/nobody"]).await?;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("first/nobody"), "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn a_deleted_job_runs_no_more_and_is_gone_everywhere() -> anyhow::Result<()> {
    let up = up().await?;
    let (cli, witness) = (up.cli(), up.witness("deleted"));
    let job = "first/deleted";
    cli.apply(&every(job, 1, &witness.line(), &[])).await?;
    wait_until(DEADLINE, "it has run", || async {
        let begun = witness.begun()?;
        seen(begun.len() >= 2, begun)
    })
    .await?;
    cli.ok(&["delete", job]).await?;
    // The planner follows within a moment; a run that was due by then may still begin, and its end is remembered for a
    // while, but not for ever.
    wait_until(DEADLINE, "the plan forgets it", || async {
        let keys = up.redis_cli(&["--scan", "--pattern", &format!("ecron:*{job}*")]).await?;
        let mut left = Vec::new();
        for key in keys.lines() {
            left.push((key.to_owned(), up.redis_cli(&["TTL", key]).await?.trim().parse::<i64>()?));
        }
        let kept = [":run:", ":history:", ":changes:"];
        let runs_only = left.iter().all(|(key, _)| kept.iter().any(|word| key.contains(word)));
        seen(runs_only && left.iter().all(|(_, ttl_s)| *ttl_s > 0), left)
    })
    .await?;
    for key in up.redis_cli(&["--scan", "--pattern", "ecron:*:minute:*"]).await?.lines() {
        let members = up.redis_cli(&["ZRANGE", key, "0", "-1"]).await?;
        assert!(!members.contains(job), "{key}: {members}");
    }
    let forgotten_ms = now_ms();
    until_ms(forgotten_ms + 3_000).await;
    let begun = witness.begun()?;
    assert!(begun.iter().all(|begun| begun.due_ms <= forgotten_ms), "{begun:#?}");
    let gone = cli.run(&["get", "job", job]).await?;
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.stderr.contains("find the job first/deleted"), "{gone:?}");
    let again = cli.run(&["delete", job]).await?;
    assert_eq!(again.code, Some(1), "{again:?}");
    cli.ok(&["delete", job, "--ignore-not-found"]).await?;
    Ok(())
}

#[tokio::test]
async fn an_edit_takes_effect_and_no_run_of_the_old_revision_follows() -> anyhow::Result<()> {
    let up = up().await?;
    let (cli, old, new) = (up.cli(), up.witness("old"), up.witness("new"));
    let job = "first/edited";
    cli.apply(&every(job, 1, &old.line(), &[])).await?;
    wait_until(DEADLINE, "the old revision runs", || async { seen(!old.begun()?.is_empty(), old.begun()?) })
        .await?;
    let said = cli.apply(&every(job, 1, &new.line(), &[])).await?;
    let in_force_ms = now_ms();
    assert!(said.contains("configured"), "{said}");
    wait_until(DEADLINE, "the new revision runs", || async { seen(new.begun()?.len() >= 3, new.begun()?) })
        .await?;
    let old = old.begun()?;
    assert!(old.iter().all(|begun| begun.due_ms <= in_force_ms), "in force at {in_force_ms}: {old:#?}");
    let unchanged = cli.apply(&every(job, 1, &new.line(), &[])).await?;
    assert!(unchanged.contains("unchanged"), "{unchanged}");
    Ok(())
}

#[tokio::test]
async fn get_and_describe_show_what_was_declared_and_how_it_stands() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let manifest = payload(
        "shown/report",
        "schedule: {cron: \"30 2 * * 1-5\", timeZone: Europe/Berlin}",
        &["queue: reports", "payload: {region: eu}", "retry: {attempts: 5}"],
    );
    cli.apply(&manifest).await?;
    let view = cli.json(&["get", "job", "shown/report"]).await?;
    assert_eq!(view["job"], "shown/report");
    assert_eq!(view["manifest"]["spec"]["payload"]["region"], "eu");
    assert_eq!(view["manifest"]["spec"]["retry"]["attempts"], 5);
    let status = &view["status"];
    assert_eq!(status["revision"], status["observedRevision"], "{status:#}");
    assert_eq!(status["suspended"], false);
    let next = status["nextDueAt"].as_str().unwrap_or_default();
    assert!(next.ends_with("T00:30:00Z") || next.ends_with("T01:30:00Z"), "{status:#}");

    let jobs = cli.json(&["get", "jobs", "-n", "shown"]).await?;
    assert_eq!(jobs.as_array().map(Vec::len), Some(1), "{jobs:#}");
    let text = cli.ok(&["describe", "shown/report"]).await?;
    for part in ["shown/report", "Europe/Berlin", "in force", "region: eu", next] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    // What `get -o yaml` prints can be applied again and changes nothing.
    let yaml = cli.ok(&["get", "job", "shown/report", "-o", "yaml"]).await?;
    assert!(yaml.contains("timeZone: Europe/Berlin"), "{yaml}");
    let manifest = serde_json::to_string(&view["manifest"])?;
    let again = cli.apply(&manifest).await?;
    assert!(again.contains("unchanged"), "{again}");
    Ok(())
}

#[tokio::test]
async fn redis_cli_shows_the_plan_under_the_documented_names() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let soon = instant(now_ms() + 90_000);
    let jobs = [
        payload("plan/far", NEVER_SOON, &[]),
        payload("plan/frequent", "schedule: {every: 10m, start: \"2020-01-01T00:00:00Z\"}", &[]),
        payload("plan/near", &format!("schedule: {{at: [\"{soon}\"]}}"), &[]),
    ];
    cli.apply(&jobs.concat()).await?;
    let keys = up.redis_cli(&["--scan", "--pattern", "ecron:*"]).await?;
    let keys: Vec<&str> = keys.lines().collect();
    let key_of = |ending: &str| keys.iter().find(|key| key.ends_with(ending)).copied();
    let job_key = key_of(":job:plan/far").ok_or_else(|| anyhow::anyhow!("no job key in {keys:#?}"))?;
    let prefix = job_key.trim_end_matches("job:plan/far");
    assert!(prefix.starts_with("ecron:{") && prefix.ends_with("}:"), "{prefix}");

    // Nothing within the next hour: the horizon, by the job's name.
    let horizon = up.redis_cli(&["ZSCORE", &format!("{prefix}horizon"), "plan/far"]).await?;
    assert_eq!(horizon.trim(), "4070908800000");
    // Within the hour: its next occurrence in a half-hour bucket, or every occurrence in a minute bucket.
    let mut members = Vec::new();
    for key in keys.iter().filter(|key| key.contains(":half-hour:") || key.contains(":minute:")) {
        let slice = key.rsplit_once("Z").map_or("", |_| &key[key.len() - 17..]);
        assert!(slice.len() == 17 && slice.as_bytes()[10] == b'T', "{key}");
        members.push(format!("{key} {}", up.redis_cli(&["ZRANGE", key, "0", "-1"]).await?));
    }
    let found = |job: &str| members.iter().any(|text| text.contains(&format!("{job}@")));
    assert!(found("plan/frequent") && found("plan/near"), "{members:#?}");
    assert!(
        members
            .iter()
            .all(|text| !text.contains("plan/near@") || text.contains(&format!("plan/near@{soon}#")))
    );
    for key in ["cursor", "lease:planner", "lease:dispatcher"] {
        assert!(keys.contains(&format!("{prefix}{key}").as_str()), "{key} is missing in {keys:#?}");
    }
    assert!(keys.contains(&"ecron:nodes"), "{keys:#?}");

    // `inspect` shows the same.
    let buckets = cli.json(&["inspect", "buckets", "--first", "100"]).await?;
    assert!(buckets.to_string().contains("plan/frequent@"), "{buckets:#}");
    for what in ["leases", "nodes"] {
        let shown = cli.json(&["inspect", what]).await?;
        assert!(shown.as_array().is_some_and(|rows| !rows.is_empty()), "{what}: {shown:#}");
    }
    cli.json(&["inspect", "sent"]).await?;
    Ok(())
}
