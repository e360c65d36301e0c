//! `ecron explain`: each cause made to happen for real, and read in the command's own words. What takes a long time to
//! happen (interruptions, deadlines) is explained in `tests/suites/explain.rs`, on a clock that jumps.

use std::time::Duration;

use anyhow::Context;
use harness::bare;
use harness::cli::Cli;
use harness::roles::Ground;
use harness::up::Up;
use harness::wait::{seen, wait_until};
use model::limits::OVERLAP_WAITING_MAX;
use model::time::Timestamp;
use serde_json::Value;

use crate::jobs::{NEVER_SOON, every, payload, triggered};

const DEADLINE: Duration = Duration::from_secs(60);

/// What `explain` says of one instant.
async fn ask(cli: &Cli, job: &str, at: &str) -> anyhow::Result<(String, Value)> {
    let text = cli.ok(&["explain", job, "--at", at]).await?;
    let mut json = cli.json(&["explain", job, "--at", at]).await?;
    let one = json["explanations"][0].take();
    // But for how long something takes: time passes between the two questions.
    let cause = one["cause"].as_str().and_then(|cause| cause.split(',').next()).context("a cause")?;
    anyhow::ensure!(text.contains(cause), "the table doesn't say {cause:?}:\n{text}");
    Ok((text, one))
}

/// Expects a cause, by its code and some of its words.
async fn expect(cli: &Cli, job: &str, at: &str, code: &str, words: &[&str]) -> anyhow::Result<()> {
    wait_until(DEADLINE, &format!("explain {job} --at {at} says {code}"), || async {
        let (text, one) = ask(cli, job, at).await?;
        seen(one["code"] == code && words.iter().all(|word| text.contains(word)), text)
    })
    .await
    .map(drop)
}

fn at_noon(name: &str, schedule: &str) -> String {
    payload(&format!("why/{name}"), &format!("schedule: {{{schedule}}}"), &["queue: nobody", "payload: {}"])
}

async fn trigger(cli: &Cli, job: &str) -> anyhow::Result<String> {
    let reply = cli.json(&["trigger", job]).await?;
    let run = reply["run"].as_str().context("a run")?;
    Ok(run.split_once('@').context("an instant")?.1.to_owned())
}

#[tokio::test]
async fn a_schedule_that_does_not_name_an_instant_says_why() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let mut cli = up.cli();
    cli.env.push(("ECRON_BY".into(), "ann@desk".into()));
    let calendar = "---\napiVersion: ecron/v1\nkind: Calendar\nmetadata: {name: holidays, namespace: why}\nspec: {exclude: [\"2030-12-25\"]}\n";
    let noon = r#"cron: "0 12 * * *""#;
    let jobs = [
        at_noon("plain", noon),
        at_noon("excluded", &format!("{noon}, exclude: [\"2030-05-01\"]")),
        at_noon("calendar", &format!("{noon}, exclude: [{{calendar: holidays}}]")),
        at_noon(
            "bounded",
            &format!("{noon}, start: \"2031-01-01T00:00:00Z\", end: \"2032-01-01T00:00:00Z\""),
        ),
        at_noon("gap", r#"cron: "30 2 * * *", timeZone: Europe/Berlin, gap: skip"#),
        at_noon("fold", r#"cron: "30 2 * * *", timeZone: Europe/Berlin, fold: first"#),
        at_noon("jitter", &format!("{noon}, jitter: 10m")),
        at_noon("counted", "every: 1s, count: 2"),
        at_noon("edited", noon),
        at_noon("gone", noon),
        payload("why/paused", &format!("schedule: {{{noon}}}"), &["payload: {}", "suspend: true"]),
        every("why/forgets", 1, "true", &["history: {succeeded: 0}"]),
    ];
    cli.apply(&(calendar.to_owned() + &jobs.concat())).await?;
    cli.apply(&at_noon("edited", r#"cron: "0 13 * * *""#)).await?;
    cli.ok(&["delete", "why/gone"]).await?;

    let noon = "2030-06-01T12:00:00Z";
    let table: &[(&str, &str, &str, &[&str])] = &[
        ("plain", noon, "due-later", &["it will run when it is due"]),
        ("plain", "2030-06-01T12:01:00Z", "not-named", &["2030-06-01T12:00:00Z", "2030-06-02T12:00:00Z"]),
        ("plain", "2020-06-01T12:00:00Z", "before-creation", &["didn't exist yet", "did not run"]),
        ("excluded", "2030-05-01T12:00:00Z", "excluded", &["excluded by the date 2030-05-01"]),
        ("calendar", "2030-12-25T12:00:00Z", "excluded", &["excluded by the calendar holidays"]),
        ("bounded", noon, "before-start", &["starts at 2031-01-01T00:00:00Z"]),
        ("bounded", "2033-06-01T12:00:00Z", "after-end", &["ended at 2032-01-01T00:00:00Z"]),
        ("gap", "2030-03-31 02:30", "dst-gap", &["2030-03-31 02:30:00 doesn't exist", "gap policy is skip"]),
        ("fold", "2030-10-27T02:30:00+01:00", "dst-fold", &["occurs twice", "fold policy is first"]),
        ("jitter", noon, "moved", &["takes place at", "jitter"]),
        ("edited", noon, "superseded", &["edited at", "by ann@desk", "revision"]),
        ("gone", noon, "deleted", &["deleted at", "by ann@desk"]),
        ("paused", noon, "suspended", &["the job is suspended"]),
    ];
    for (name, at, code, words) in table {
        expect(&cli, &format!("why/{name}"), at, code, words).await?;
    }

    // Occurrences that have passed.
    let created = async |job: &str| -> anyhow::Result<Timestamp> {
        let view = cli.json(&["get", "job", job]).await?;
        Ok(view["status"]["createdAt"].as_str().context("when it was created")?.parse()?)
    };
    let counted = created("why/counted").await?.plus_ms(5_000).floor(1_000).to_string();
    expect(&cli, "why/counted", &counted, "count-used-up", &["occurs 2 time(s) only"]).await?;
    let forgotten = created("why/forgets").await?.plus_ms(2_000).floor(1_000).to_string();
    expect(&cli, "why/forgets", &forgotten, "forgotten", &["its record is forgotten", "keeps 0 succeeded"])
        .await?;

    // Without an instant: the last occurrence and the next. What isn't there is no answer.
    let both = cli.json(&["explain", "why/plain"]).await?;
    assert_eq!(both["explanations"].as_array().map(Vec::len), Some(1), "{both:#}");
    let both = cli.json(&["explain", "why/forgets"]).await?;
    assert_eq!(both["explanations"].as_array().map(Vec::len), Some(2), "{both:#}");
    let none = cli.run(&["explain", "why/nothing"]).await?;
    assert_eq!(
        (none.code, none.stderr.contains("failed to find the job why/nothing")),
        (Some(1), true),
        "{none:?}"
    );
    let nonsense = cli.run(&["explain", "why/plain", "--at", "yesterday"]).await?;
    assert_eq!(nonsense.code, Some(2), "{nonsense:?}");
    Ok(())
}

#[tokio::test]
async fn a_run_says_what_became_of_it_or_what_it_waits_for() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let cli = up.cli();
    let unserved = &["queue: nobody", "payload: {}"];
    let jobs = [
        triggered("why/good", "true", &[]),
        triggered("why/bad", "echo no disk >&2; exit 3", &["retry: {attempts: 1}"]),
        triggered("why/again", "exit 4", &["retry: {attempts: 3, initial: 1h}"]),
        triggered("why/slow", "sleep 300", &[]),
        payload("why/unserved", NEVER_SOON, unserved),
        every("why/broken", 3600, "true", &[]),
    ];
    cli.apply(&jobs.concat()).await?;
    let table: &[(&str, &str, &[&str])] = &[
        (
            "good",
            "succeeded",
            &["ran: it ran and succeeded", "under epoch", "by up-", "settled as succeeded"],
        ),
        (
            "bad",
            "dead-lettered",
            &["failed:", "a dead letter after 1 attempt(s)", "no disk", "ecron dead redrive"],
        ),
        ("again", "waits-for-retry", &["under way: it waits for its retry at", "attempt 1 failed at"]),
        ("slow", "running", &["has it in hand"]),
        ("unserved", "nobody-pulls", &["nobody pulls from the queue why/nobody"]),
    ];
    let mut runs = Vec::new();
    for (name, ..) in table {
        runs.push(trigger(&cli, &format!("why/{name}")).await?);
    }
    for ((name, code, words), at) in table.iter().zip(&runs) {
        // Where the node's name isn't known, its words are left out.
        let words: Vec<&str> = words.iter().copied().filter(|word| *word != "by up-").collect();
        expect(&cli, &format!("why/{name}"), at, code, &words).await?;
    }
    let (text, good) = ask(&cli, "why/good", &runs[0]).await?;
    let steps: Vec<&str> =
        good["steps"].as_array().into_iter().flatten().filter_map(|step| step["step"].as_str()).collect();
    let all = [
        "declared",
        "named",
        "enabled",
        "installed",
        "planned",
        "taken",
        "admitted",
        "published",
        "delivered",
        "attempted",
        "acknowledged",
    ];
    assert_eq!(steps, all, "{text}");
    assert!(good["steps"].as_array().into_iter().flatten().all(|step| step["status"] == "done"), "{text}");
    // A run's id is a question, too.
    let same = cli.ok(&["explain", &format!("why/good@{}", runs[0])]).await?;
    assert_eq!(same, text);

    // A newer spec that can't be read: the one in force stays.
    let bucket = bare::jetstream(&up.nats_url()).await?.get_key_value("ecron_specs").await?;
    use futures_util::TryStreamExt;
    let keys: Vec<String> = bucket.keys().await?.try_collect().await?;
    let key = keys.into_iter().find(|key| key.ends_with(".why.broken")).context("its key")?;
    bucket.put(&key, "not json".to_owned().into()).await?;
    expect(&cli, "why/broken", "2030-06-01T12:00:00Z", "invalid", &["is invalid", "stays in force"]).await
}

#[tokio::test]
async fn a_run_that_waits_at_its_queues_gate_says_so() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let cli = up.cli();
    let queue = |spec: &str| {
        format!(
            "apiVersion: ecron/v1\nkind: Queue\nmetadata: {{name: narrow, namespace: why}}\nspec: {spec}\n"
        )
    };
    cli.apply(&queue("{concurrency: 1}")).await?;
    cli.apply(&triggered("why/narrow", "sleep 1000", &["queue: narrow"])).await?;
    let first = trigger(&cli, "why/narrow").await?;
    expect(&cli, "why/narrow", &first, "running", &["has it in hand"]).await?;
    let second = trigger(&cli, "why/narrow").await?;
    let words = ["waits at the gate of the queue why/narrow", "whose limits are reached (concurrency 1)"];
    expect(&cli, "why/narrow", &second, "waits-at-gate", &words).await?;
    let (text, told) = ask(&cli, "why/narrow", &second).await?;
    let admitted = told["steps"].as_array().into_iter().flatten().find(|step| step["step"] == "admitted");
    assert_eq!(admitted.map(|step| &step["status"]), Some(&"missing".into()), "{text}");
    let gates = cli.ok(&["inspect", "gates"]).await?;
    assert!(gates.contains("why/narrow"), "{gates}");
    // Once the queue is paused, that is why; once there is room, it goes.
    cli.ok(&["pause", "queue", "why/narrow"]).await?;
    let words = ["waits at the gate of the queue why/narrow, which is paused"];
    expect(&cli, "why/narrow", &second, "waits-at-gate", &words).await?;
    cli.ok(&["resume", "queue", "why/narrow"]).await?;
    cli.ok(&["cancel", &format!("why/narrow@{first}"), "--wait"]).await?;
    expect(&cli, "why/narrow", &second, "running", &["has it in hand"]).await?;
    cli.ok(&["cancel", &format!("why/narrow@{second}"), "--wait"]).await?;
    Ok(())
}

/// What takes more than a spec: an end to follow, a queue of a job that is full, a change log that is lost.
#[tokio::test]
async fn what_the_past_of_a_job_decides_is_told() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let cli = up.cli();
    let unserved = |name: &str, schedule: &str, more: &[&str]| {
        payload(
            &format!("why/{name}"),
            schedule,
            &[["queue: nobody", "payload: {}"].as_slice(), more].concat(),
        )
    };
    let every_second = r#"schedule: {every: 1s, start: "2020-01-01T00:00:00Z"}"#;
    cli.apply(&unserved("edited", NEVER_SOON, &[])).await?;
    cli.apply(&unserved("full", NEVER_SOON, &["overlap: queue-all"])).await?;
    cli.apply(&payload("why/follows", "schedule: {after: 1h}", &["exec: {shell: \"true\"}"])).await?;

    let first = cli
        .wait_for_runs("why/follows", "its first run has ended", DEADLINE, |runs| {
            runs.first().is_some_and(|run| run.state == "succeeded")
        })
        .await?;
    let odd = first[0].due_at.parse::<Timestamp>()?.plus_ms(1_500).to_string();
    let words = ["1h after the last one ended", "none was due"];
    expect(&cli, "why/follows", &odd, "follows-ends", &words).await?;

    // One is under way, as many as may wait do, and a few come after them.
    let most = usize::try_from(OVERLAP_WAITING_MAX)?;
    let mut runs = bare::trigger(&up.nats_url(), "why/full", most + 1).await?;
    runs.sort();
    let (_, waiting) = runs[most / 2].split_once('@').context("an instant")?;
    expect(&cli, "why/full", waiting, "waits-for-earlier-run", &["waits for an earlier run"]).await?;
    let beyond = trigger(&cli, "why/full").await?;
    let words = ["too many occurrences waited", "OVERLAP_WAITING_MAX"];
    expect(&cli, "why/full", &beyond, "overlap-queue-full", &words).await?;
    let (text, full) = ask(&cli, "why/full", &beyond).await?;
    let last = full["steps"].as_array().and_then(|steps| steps.last()).context("a step")?;
    assert_eq!((&last["step"], &last["status"]), (&"admitted".into(), &"refused".into()), "{text}");

    // By now its creation is some seconds ago.
    let created = cli.json(&["get", "job", "why/edited"]).await?["status"]["createdAt"].take();
    let created: Timestamp = created.as_str().context("when it was created")?.parse()?;
    let early = created.plus_ms(2_000).floor(1_000).to_string();
    expect(&cli, "why/edited", &early, "not-named", &["doesn't name this instant"]).await?;
    cli.apply(&unserved("edited", every_second, &["overlap: skip"])).await?;
    up.redis_cli(&["FLUSHALL"]).await?;
    let words = ["the present schedule counts only since", "when it was declared"];
    expect(&cli, "why/edited", &early, "before-schedule", &words).await
}

#[tokio::test]
async fn without_planner_or_dispatcher_explain_says_that_none_is_running() -> anyhow::Result<()> {
    let ground = Ground::start().await?;
    let cli = ground.cli();
    let planner = ground.role("planner", &["planner", "--shards", "8"]).await?;
    cli.apply(&every("why/tick", 2, "true", &["queue: nobody"])).await?;
    let dispatcher = ground.role("dispatcher", &["dispatcher"]).await?;
    let next =
        |ms: i64| Timestamp::from_ms((harness::witness::now_ms() + ms).div_euclid(2_000) * 2_000).to_string();
    expect(&cli, "why/tick", &next(40_000), "due-later", &["it is in the minute tier"]).await?;
    drop(dispatcher);
    expect(&cli, "why/tick", &next(6_000), "no-dispatcher", &["no dispatcher is running now"]).await?;
    drop(planner);
    // Nobody serves the API any more, and the answer is there all the same.
    expect(&cli, "why/tick", "2030-06-01T12:00:00Z", "no-planner", &["no planner is running now"]).await
}
