//! What somebody takes out of Redis with `redis-cli` is found, named and put right, and runs once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use harness::up::Up;
use harness::wait::{seen, wait_until};
use harness::witness::{Expected, Findings, now_ms, until_ms};

use crate::jobs::{NEVER_SOON, every, payload};

const DEADLINE: Duration = Duration::from_secs(60);

/// The prefix of the keys of a job's shard: `ecron:{3}:`.
async fn prefix(up: &Up, job: &str) -> anyhow::Result<String> {
    let key = up.redis_cli(&["--scan", "--pattern", &format!("ecron:*:job:{job}")]).await?;
    Ok(key.trim().strip_suffix(&format!("job:{job}")).context("the job has a record")?.to_owned())
}

async fn take_out(up: &Up, words: &[&str]) -> anyhow::Result<()> {
    let said = up.redis_cli(words).await?;
    ensure!(said.trim() == "1", "{words:?} took out {said:?}");
    Ok(())
}

async fn is_back(up: &Up, words: &[&str]) -> anyhow::Result<()> {
    let what = format!("{words:?} is answered again");
    wait_until(DEADLINE, &what, || async {
        let said = up.redis_cli(words).await?;
        seen(!said.trim().is_empty(), said)
    })
    .await
    .map(drop)
}

/// The entries of a job in the minute tier, soonest first, each with its key.
async fn entries(up: &Up, prefix: &str, job: &str) -> anyhow::Result<Vec<(String, String)>> {
    let keys = up.redis_cli(&["--scan", "--pattern", &format!("{prefix}minute:*")]).await?;
    let mut found = BTreeMap::new();
    for key in keys.lines() {
        let members = up.redis_cli(&["ZRANGE", key, "0", "-1"]).await?;
        let ours = members.lines().filter(|member| member.starts_with(&format!("{job}@")));
        found.extend(ours.map(|member| (member.to_owned(), key.to_owned())));
    }
    Ok(found.into_iter().collect())
}

#[tokio::test]
async fn whatever_is_taken_out_is_put_back_within_a_period_and_runs_once() -> anyhow::Result<()> {
    let up = Up::start_with(&["--allow-exec", "--quiet", "--audit-period", "2s"]).await?;
    let (cli, witness) = (up.cli(), up.witness("pulse"));
    let jobs = [
        payload("lost/far", NEVER_SOON, &[]),
        payload("lost/hourly", "schedule: {cron: \"*/20 * * * *\"}", &["queue: unserved"]),
        payload("lost/queued", NEVER_SOON, &["queue: unserved"]),
        every("lost/pulse", 5, &witness.line(), &[]),
    ];
    let after_ms = now_ms();
    cli.apply(&jobs.concat()).await?;

    // The coarse tiers, and a job's record.
    for job in ["lost/far", "lost/hourly"] {
        let prefix = prefix(&up, job).await?;
        let placed = up.redis_cli(&["HGET", &format!("{prefix}job:{job}"), "placed"]).await?;
        let (bucket, due) = placed.trim().split_once(' ').context("it waits somewhere")?;
        let revision = up.redis_cli(&["HGET", &format!("{prefix}job:{job}"), "revision"]).await?;
        let entry = format!("{job}@{due}#{}", revision.trim());
        let member = if bucket == "horizon" { job } else { &entry };
        let key = format!("{prefix}{bucket}");
        take_out(&up, &["ZREM", &key, member]).await?;
        is_back(&up, &["ZSCORE", &key, member]).await?;
        if let Some(slice) = bucket.strip_prefix("half-hour:") {
            let index = format!("{prefix}half-hours");
            take_out(&up, &["ZREM", &index, slice]).await?;
            is_back(&up, &["ZSCORE", &index, slice]).await?;
        }
        take_out(&up, &["DEL", &format!("{prefix}job:{job}")]).await?;
        is_back(&up, &["HGET", &format!("{prefix}job:{job}"), "placed"]).await?;
    }

    // The minute tier: the soonest entry, which may be due before anybody looks, a later one, and a minute's index.
    let pulse = prefix(&up, "lost/pulse").await?;
    for which in [0, 4, 0] {
        let planned = entries(&up, &pulse, "lost/pulse").await?;
        let (member, key) = planned.get(which).context("several are planned")?;
        // It may be published at this very moment.
        let _gone = up.redis_cli(&["ZREM", key, member]).await?;
    }
    let planned = entries(&up, &pulse, "lost/pulse").await?;
    let minute = planned.last().and_then(|(_, key)| key.split_once("minute:")).context("a minute")?.1;
    take_out(&up, &["ZREM", &format!("{pulse}minutes"), minute]).await?;
    is_back(&up, &["ZSCORE", &format!("{pulse}minutes"), minute]).await?;

    // The ledger: a run that waits in its queue.
    let reply = cli.json(&["trigger", "lost/queued"]).await?;
    let run = reply["run"].as_str().context("a run")?;
    let queued = prefix(&up, "lost/queued").await?;
    for list in ["sent", "open"] {
        let key = format!("{queued}{list}");
        is_back(&up, &["ZSCORE", &key, run]).await?;
        take_out(&up, &["ZREM", &key, run]).await?;
        is_back(&up, &["ZSCORE", &key, run]).await?;
    }
    take_out(&up, &["DEL", &format!("{queued}run:{run}")]).await?;
    is_back(&up, &["HGET", &format!("{queued}run:{run}"), "published"]).await?;
    let messages = cli.json(&["inspect", "sent"]).await?;
    let of_run = messages.as_array().context("a list")?.iter().filter(|message| message["run"] == run);
    assert_eq!(of_run.count(), 1, "published once: {messages}");

    // Each occurrence ran, once.
    let until = now_ms() + 12_000;
    until_ms(until).await;
    let expected = Expected { job: "lost/pulse".into(), every_ms: 5_000, after_ms, until_ms: until - 5_000 };
    let begun = wait_until(DEADLINE, "every occurrence has begun", || async {
        let begun = witness.begun()?;
        seen(expected.compare(&begun).missed.is_empty(), begun.clone())
    })
    .await?;
    let found = expected.compare(&begun);
    assert_eq!(found, Findings::default(), "{begun:#?}");
    let told = cli.ok(&["audit"]).await?;
    assert!(told.contains("0 gap(s)"), "{told}");
    let doctor: serde_json::Value = serde_json::from_str(&cli.run(&["doctor", "-o", "json"]).await?.stdout)?;
    let checks = doctor["findings"].as_array().context("findings")?;
    let audit = checks.iter().find(|check| check["check"] == "audit").context("it tells of the audits")?;
    assert_eq!(audit["state"], "ok", "{audit}");
    Ok(())
}

#[tokio::test]
async fn an_audit_on_demand_names_every_gap_and_repairs_if_asked() -> anyhow::Result<()> {
    let up = Up::start_with(&["--allow-exec", "--quiet", "--audit-period", "5m"]).await?;
    let cli = up.cli();
    let jobs = [
        payload("gap/far", NEVER_SOON, &[]),
        payload("gap/soon", "schedule: {every: 10s}", &["queue: unserved"]),
    ];
    cli.apply(&jobs.concat()).await?;
    let told = cli.ok(&["audit"]).await?;
    assert!(told.contains("2 job(s)") && told.contains(", 0 gap(s)"), "{told}");
    take_out(&up, &["ZREM", &format!("{}horizon", prefix(&up, "gap/far").await?), "gap/far"]).await?;
    let soon = prefix(&up, "gap/soon").await?;
    let planned = wait_until(DEADLINE, "some are planned", || async {
        let planned = entries(&up, &soon, "gap/soon").await?;
        seen(!planned.is_empty(), planned)
    })
    .await?;
    let (member, key) = planned.last().context("some are planned")?;
    take_out(&up, &["ZREM", key, member]).await?;
    let due = member.split_once('@').and_then(|(_, rest)| rest.split_once('#')).context("an entry")?.0;

    let answer = cli.run(&["audit", "-o", "json"]).await?;
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let report: serde_json::Value = serde_json::from_str(&answer.stdout)?;
    let findings = report["findings"].as_array().context("findings")?;
    let named = |finding: &serde_json::Value| {
        format!("{} {} {} {}", finding["job"], finding["dueAt"], finding["missing"], finding["repaired"])
    };
    let mut named: Vec<String> = findings.iter().map(named).collect();
    named.sort();
    let expected = [
        r#""gap/far" "2099-01-01T00:00:00Z" "place" false"#.to_owned(),
        format!(r#""gap/soon" "{due}" "entry" false"#),
    ];
    assert_eq!(named, expected);
    let one = cli.run(&["audit", "gap/far"]).await?;
    assert_eq!(one.code, Some(1), "{one:?}");
    assert!(one.stdout.contains("2099-01-01T00:00:00Z") && one.stdout.contains("horizon"), "{one:?}");
    assert_eq!(cli.run(&["audit", "gap/none"]).await?.code, Some(1), "there is no such job");

    let repaired = cli.ok(&["audit", "--repair"]).await?;
    assert!(repaired.contains("2 gap(s)") && repaired.contains("yes"), "{repaired}");
    let told = cli.ok(&["audit"]).await?;
    assert!(told.contains(", 0 gap(s)"), "{told}");
    assert!(entries(&up, &soon, "gap/soon").await?.iter().any(|(entry, _)| entry == member));
    let log = cli.ok(&["get", "audit"]).await?;
    assert!(log.contains("repair"), "who had it repaired is noted: {log}");
    Ok(())
}
