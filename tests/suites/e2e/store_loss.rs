//! Servers that die, come back, or come back empty, while jobs run.

use std::time::Duration;

use harness::cli::Cli;
use harness::process::Process;
use harness::roles::Ground;
use harness::up::Up;
use harness::wait::{seen, wait_until};
use harness::witness::{Expected, Findings, Witness, now_ms, until_ms};
use rustix::process::Signal;

use crate::jobs::{NEVER_SOON, REMEMBER_ALL, every, payload};

const DEADLINE: Duration = Duration::from_secs(60);
const EVERY_MS: i64 = 2_000;
/// Occurrences after which a server that was lost must be forgotten: everything is on time again.
const AFTERWARDS: i64 = 3;
const LATE_MS: i64 = 2_000;

/// A job that runs every two seconds while servers come and go.
struct Pulse {
    cli: Cli,
    witness: Witness,
    job: &'static str,
    after_ms: i64,
}

impl Pulse {
    async fn begin(cli: Cli, witness: Witness, job: &'static str) -> anyhow::Result<Self> {
        // Every occurrence runs, however long the loss was.
        cli.apply(&every(job, 2, &witness.line(), &["catchUp: {policy: all}", REMEMBER_ALL])).await?;
        let pulse = Self { cli, witness, job, after_ms: now_ms() };
        pulse.has_run_until(pulse.after_ms + EVERY_MS).await?;
        Ok(pulse)
    }

    async fn has_run_until(&self, due_ms: i64) -> anyhow::Result<()> {
        wait_until(DEADLINE, &format!("{} has run its occurrences so far", self.job), || async {
            let begun = self.witness.begun()?;
            seen(begun.iter().any(|begun| begun.due_ms >= due_ms - EVERY_MS && begun.due_ms <= due_ms), begun)
        })
        .await?;
        Ok(())
    }

    async fn quiet_moment(&self) -> anyhow::Result<i64> {
        self.cli.quiet_moment(&[self.job], EVERY_MS).await
    }

    /// Everything has run once and not early, and what fell due after `calm_ms` also on time; the history agrees.
    async fn all_is_well(&self, calm_ms: i64) -> anyhow::Result<()> {
        let end_ms = (calm_ms.div_euclid(EVERY_MS) + AFTERWARDS) * EVERY_MS;
        until_ms(end_ms).await;
        let expected =
            Expected { job: self.job.into(), every_ms: EVERY_MS, after_ms: self.after_ms, until_ms: end_ms };
        let begun = wait_until(DEADLINE, "every occurrence has begun", || async {
            let begun = self.witness.begun()?;
            seen(expected.compare(&begun).missed.is_empty(), begun.clone())
        })
        .await?;
        assert_eq!(expected.compare(&begun), Findings::default(), "{begun:#?}");
        let late: Vec<_> = begun
            .iter()
            .filter(|begun| begun.due_ms > calm_ms && begun.began_ms - begun.due_ms > LATE_MS)
            .collect();
        assert!(late.is_empty(), "late although all is well again: {late:#?}");
        let ended = self.cli.wait_for_runs(self.job, "have all ended", DEADLINE, |runs| {
            runs.iter().all(|run| run.ended_at.is_some() || run.due_at > harness::witness::instant(end_ms))
        });
        for run in ended.await? {
            assert!(run.ended_at.is_none() || run.state == "succeeded", "{run:#?}");
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_wiped_redis_is_rebuilt_with_nothing_lost_and_nothing_doubled() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let cli = up.cli();
    let far = [
        payload("wiped/far", NEVER_SOON, &[]),
        payload("wiped/hourly", "schedule: {cron: \"0 * * * *\"}", &[]),
        payload(
            "wiped/queued",
            "schedule: {every: 2s, start: \"2020-01-01T00:00:00Z\"}",
            &["queue: unserved"],
        ),
    ];
    cli.apply(&far.concat()).await?;
    let pulse = Pulse::begin(cli.clone(), up.witness("pulse"), "wiped/pulse").await?;
    let before = cli.json(&["get", "jobs"]).await?;
    // Right after an occurrence was dispatched, when its checkpoint isn't written yet and its run may be under way: only
    // the message id tells that it was. And in the middle between two.
    for after_due_ms in [40, 150, 300, 1_000] {
        let next_ms = (now_ms().div_euclid(EVERY_MS) + 1) * EVERY_MS;
        until_ms(next_ms + after_due_ms).await;
        let said = up.redis_cli(&["FLUSHALL"]).await?;
        assert_eq!(said.trim(), "OK");
        wait_until(DEADLINE, "the plan is back", || async {
            let keys = up.redis_cli(&["--scan", "--pattern", "ecron:*:job:wiped/*"]).await?;
            seen(keys.lines().count() == 4, keys)
        })
        .await?;
        pulse.has_run_until(now_ms()).await?;
    }
    pulse.all_is_well(now_ms()).await?;
    let after = cli.json(&["get", "jobs"]).await?;
    let summary = |jobs: &serde_json::Value| -> Vec<String> {
        let of = |job: &serde_json::Value| {
            format!("{} {} {}", job["job"], job["status"]["revision"], job["manifest"])
        };
        jobs.as_array().into_iter().flatten().map(of).collect()
    };
    assert_eq!(summary(&before), summary(&after));
    let horizon = up.redis_cli(&["--scan", "--pattern", "ecron:*:horizon"]).await?;
    assert!(!horizon.trim().is_empty(), "the far job is planned again");

    // In the queue of the run stream itself, too: each occurrence once.
    let queued = harness::bare::drain(&up.nats_url(), "wiped_unserved").await?;
    let mut due: Vec<_> = queued.iter().filter_map(|message| message.due_at.clone()).collect();
    let all = due.len();
    due.dedup();
    assert_eq!(due.len(), all, "{queued:#?}");
    let expected = Expected {
        job: "wiped/queued".into(),
        every_ms: EVERY_MS,
        after_ms: pulse.after_ms,
        until_ms: now_ms() - EVERY_MS,
    };
    for due_ms in expected.due_ms() {
        let text = harness::witness::instant(due_ms);
        assert!(due.contains(&text), "{text} is missing in {due:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wiped_redis_and_a_crash_in_the_same_moment_double_nothing() -> anyhow::Result<()> {
    let ground = Ground::start().await?;
    let planner = ["planner", "--shards", "4"];
    let dispatcher = ["dispatcher", "--shards", "4"];
    let mut roles =
        vec![ground.role("planner", &planner).await?, ground.role("dispatcher", &dispatcher).await?];
    let _executor = ground.role("executor", &["executor", "--allow-exec"]).await?;
    let pulse = Pulse::begin(ground.cli(), ground.witness("pulse"), "crashed/pulse").await?;
    for (round, after_due_ms) in [60, 200].into_iter().enumerate() {
        // The occurrence is published, but neither Redis nor a checkpoint tells: only its message id does.
        let next_ms = (now_ms().div_euclid(EVERY_MS) + 1) * EVERY_MS;
        until_ms(next_ms + after_due_ms).await;
        for role in &mut roles {
            role.kill9()?;
        }
        let url = ground.redis.port().to_string();
        harness::cli::program(harness::servers::redis_cli()?, &["-p", &url, "FLUSHALL"]).await?.ok()?;
        let name = |role: &str| format!("{role}-{round}");
        roles = vec![
            ground.role(&name("planner"), &planner).await?,
            ground.role(&name("dispatcher"), &dispatcher).await?,
        ];
        pulse.has_run_until(now_ms()).await?;
    }
    pulse.all_is_well(now_ms() + 2_000).await
}

#[tokio::test]
async fn a_killed_nats_is_started_again_and_nothing_is_lost() -> anyhow::Result<()> {
    killed_under_up("nats", "lost/nats").await
}

#[tokio::test]
async fn a_killed_redis_is_started_again_and_nothing_is_lost() -> anyhow::Result<()> {
    killed_under_up("redis", "lost/redis").await
}

async fn killed_under_up(server: &str, job: &'static str) -> anyhow::Result<()> {
    let up = Up::start().await?;
    let pulse = Pulse::begin(up.cli(), up.witness("pulse"), job).await?;
    for _ in 0..2 {
        pulse.quiet_moment().await?;
        let killed = up.server_pid(server)?;
        up.kill9_server(server)?;
        wait_until(DEADLINE, "another server is started", || async {
            let pid = up.server_pid(server)?;
            seen(pid != killed, pid)
        })
        .await?;
        wait_until(DEADLINE, "commands are answered", || async {
            up.cli().json(&["get", "jobs"]).await?;
            up.cli().json(&["inspect", "leases"]).await.map(harness::wait::Look::Enough)
        })
        .await?;
    }
    assert!(up.process()?.log().contains(&format!("the {server} server ended")), "{}", up.process()?.log());
    pulse.all_is_well(now_ms() + 2_000).await
}

#[tokio::test]
async fn separate_roles_outlive_both_servers_and_lose_nothing() -> anyhow::Result<()> {
    let mut ground = Ground::start().await?;
    let _planner = ground.role("planner", &["planner", "--shards", "4"]).await?;
    let _dispatcher = ground.role("dispatcher", &["dispatcher", "--shards", "4"]).await?;
    let _executor = ground.role("executor", &["executor", "--allow-exec"]).await?;
    let pulse = Pulse::begin(ground.cli(), ground.witness("pulse"), "roles/pulse").await?;
    // Away for longer than an interval, so that something falls due meanwhile.
    for _ in 0..2 {
        let last = pulse.quiet_moment().await?;
        ground.redis.kill9()?;
        until_ms(last + 2 * EVERY_MS).await;
        ground.redis.restart().await?;
        pulse.has_run_until(last + 2 * EVERY_MS).await?;
        let last = pulse.quiet_moment().await?;
        ground.nats.kill9()?;
        until_ms(last + 2 * EVERY_MS).await;
        ground.nats.restart().await?;
        pulse.has_run_until(last + 2 * EVERY_MS).await?;
    }
    pulse.all_is_well(now_ms() + 3_000).await
}

/// Whoever takes over waits for the outcomes that were reported before. One of them may be in the hands of somebody who
/// is dead, and comes again only when its ack wait is over: dispatch must not stand still for long because of it.
#[tokio::test]
async fn an_outcome_in_dead_hands_holds_up_dispatch_for_seconds_only() -> anyhow::Result<()> {
    let ground = Ground::start().await?;
    let _planner = ground.role("planner", &["planner", "--shards", "4"]).await?;
    let mut first = ground.role("dispatcher", &["dispatcher", "--shards", "4"]).await?;
    let _executor = ground.role("executor", &["executor", "--allow-exec"]).await?;
    let pulse = Pulse::begin(ground.cli(), ground.witness("pulse"), "dead-hands/pulse").await?;
    // What a dispatcher that dies while it settles leaves behind: an outcome that was delivered and never acknowledged.
    harness::bare::take_without_ack(&ground.nats.url(), "ECRON_EVENTS", "ecron_settle").await?;
    first.kill9()?;
    let killed_ms = now_ms();
    let _second = ground.role("dispatcher-2", &["dispatcher", "--shards", "4"]).await?;
    // A lease (3 s) and the wait for that outcome (5 s), which begin together.
    pulse.all_is_well(killed_ms + 9_000).await
}

#[tokio::test]
async fn hanging_servers_are_lateness_and_nothing_more() -> anyhow::Result<()> {
    let mut ground = Ground::start().await?;
    let _planner = ground.role("planner", &["planner", "--shards", "4"]).await?;
    let _dispatcher = ground.role("dispatcher", &["dispatcher", "--shards", "4"]).await?;
    let _executor = ground.role("executor", &["executor", "--allow-exec"]).await?;
    let pulse = Pulse::begin(ground.cli(), ground.witness("pulse"), "hanging/pulse").await?;
    // Longer than a lease (3 s), so that it runs out while nobody can renew it.
    let last = pulse.quiet_moment().await?;
    ground.redis.pause()?;
    until_ms(last + 3 * EVERY_MS).await;
    ground.redis.resume()?;
    pulse.has_run_until(last + 3 * EVERY_MS).await?;
    let last = pulse.quiet_moment().await?;
    ground.nats.pause()?;
    until_ms(last + 3 * EVERY_MS).await;
    ground.nats.resume()?;
    pulse.has_run_until(last + 3 * EVERY_MS).await?;
    pulse.all_is_well(now_ms() + 3_000).await
}

#[tokio::test]
async fn a_server_that_is_absent_at_start_is_named_in_the_error() -> anyhow::Result<()> {
    let ground = Ground::start().await?;
    let nobody = harness::ports::Ports::claim()?;
    let (no_redis, no_nats) =
        (format!("redis://127.0.0.1:{}", nobody.base()), format!("nats://127.0.0.1:{}", nobody.base() + 1));
    let folder = ground.folder();
    let without_redis = Cli::online(folder, &no_redis, &ground.nats.url());
    let without_nats = Cli::online(folder, &ground.redis.url(), &no_nats);
    let cases: [(&Cli, &[&str], &str); 7] = [
        (&without_redis, &["planner", "--connect-wait", "0"], &no_redis),
        (&without_redis, &["dispatcher", "--connect-wait", "300ms"], &no_redis),
        (&without_redis, &["inspect", "leases"], &no_redis),
        (&without_nats, &["planner", "--connect-wait", "0"], &no_nats),
        (&without_nats, &["dispatcher", "--connect-wait", "0"], &no_nats),
        (&without_nats, &["executor", "--connect-wait", "300ms"], &no_nats),
        (&without_nats, &["get", "jobs"], &no_nats),
    ];
    for (cli, args, url) in cases {
        let answer = cli.run(args).await?;
        assert_eq!(answer.code, Some(1), "{args:?}: {answer:?}");
        let says = answer.stderr.contains(url) && answer.stderr.contains("is it running?");
        assert!(says, "{args:?} doesn't say that nobody is at {url}: {answer:?}");
    }
    let nowhere = Cli::offline(folder).run(&["get", "jobs"]).await?;
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
    assert!(nowhere.stderr.contains("--nats-url") && nowhere.stderr.contains("ecron up"), "{nowhere:?}");
    Ok(())
}

#[tokio::test]
async fn nodes_that_start_before_their_servers_wait_for_them() -> anyhow::Result<()> {
    let mut ground = Ground::start().await?;
    ground.redis.kill9()?;
    ground.nats.kill9()?;
    let start =
        |name: &str, args: &[&str]| Process::spawn(ground.cli().command(args)?, name, ground.folder());
    let mut planner = start("planner", &["planner", "--shards", "4"])?;
    let mut dispatcher = start("dispatcher", &["dispatcher", "--shards", "4"])?;
    let mut executor = start("executor", &["executor", "--allow-exec"])?;
    let mut tired = start("tired", &["dispatcher", "--shards", "4"])?;
    for (role, server) in [(&mut planner, "Redis"), (&mut dispatcher, "Redis"), (&mut executor, "NATS")] {
        role.says(&format!("waiting for {server}"), 1, DEADLINE).await?;
    }
    tired.says("waiting for Redis", 1, DEADLINE).await?;
    tired.signal(Signal::TERM)?;
    assert!(tired.ended(DEADLINE).await?.success(), "who is stopped while it waits ends well");
    ground.redis.restart().await?;
    planner.says("waiting for NATS", 1, DEADLINE).await?;
    ground.nats.restart().await?;
    for role in [&mut planner, &mut dispatcher, &mut executor] {
        role.says("is running", 1, DEADLINE).await?;
    }
    let pulse = Pulse::begin(ground.cli(), ground.witness("pulse"), "waited/pulse").await?;
    pulse.all_is_well(now_ms()).await
}
