//! What an operator looks at, asked of the API over the memory twins: lists narrowed, what comes next, what was changed, who is there, the
//! plan, what is open, and queues.

use anyhow::{Context, Result, ensure};
use harness::world::World;
use serde_json::{Value, json};

fn job(name: &str, mut spec: Value) -> Value {
    let fields = spec.as_object_mut().map(std::mem::take).unwrap_or_default();
    let mut manifest = json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": name, "labels": {"team": "web"}},
        "spec": {"schedule": {"every": "10s"}, "queue": "work", "history": {"succeeded": 100}},
    });
    if let Some(all) = manifest["spec"].as_object_mut() {
        all.extend(fields);
    }
    manifest
}

/// The kind of error that a request is answered with.
async fn refused(world: &World, verb: &str, request: Value) -> String {
    match world.ask(verb, request).await {
        Ok(answer) => format!("answered with {answer}"),
        Err(problem) => problem.to_string(),
    }
}

fn names(reply: &Value) -> Vec<&str> {
    reply["jobs"].as_array().into_iter().flatten().filter_map(|view| view["job"].as_str()).collect()
}

#[tokio::test]
async fn a_list_is_narrowed_by_state_and_tells_recent_runs() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(job("active", json!({}))).await?;
    world.apply(job("paused", json!({"suspend": true}))).await?;
    world.run(65).await?;
    let all = world.ask("list", json!({"recent": 3})).await?;
    assert_eq!(names(&all), ["default/active", "default/paused"]);
    let recent = all["jobs"][0]["status"]["recent"].as_array().context("recent runs")?;
    ensure!(recent.len() == 3 && recent.iter().all(|run| run["state"] == "succeeded"), "{recent:?}");
    ensure!(recent[0]["dueAt"].as_str() > recent[1]["dueAt"].as_str(), "the newest first: {recent:?}");
    for (request, expected) in [
        (json!({"state": "active"}), vec!["default/active"]),
        (json!({"state": "paused"}), vec!["default/paused"]),
        (json!({"state": "failing"}), vec![]),
        (json!({"state": "invalid"}), vec![]),
        (json!({"search": "PAUS"}), vec!["default/paused"]),
        (json!({"search": "active", "labels": {"team": "ops"}}), vec![]),
    ] {
        assert_eq!(names(&world.ask("list", request.clone()).await?), expected, "{request}");
    }
    let plain = world.ask("list", json!({})).await?;
    ensure!(plain["jobs"][0]["status"].get("recent").is_none(), "only who asks is told: {plain}");
    Ok(())
}

#[tokio::test]
async fn what_was_cancelled_ahead_is_neither_last_nor_next() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(job("tick", json!({}))).await?;
    world.run(25).await?;
    let status = async || {
        let view = world.ask("get", json!({"job": "default/tick"})).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = &view["status"];
        anyhow::Ok((text(&of["lastRun"]["dueAt"]), text(&of["nextDueAt"])))
    };
    let (last, next) = status().await?;
    let upcoming = world.ask("next", json!({"job": "default/tick", "count": 3})).await?;
    let dues: Vec<&str> =
        upcoming["occurrences"].as_array().into_iter().flatten().filter_map(|o| o["at"].as_str()).collect();
    ensure!(dues.len() == 3 && dues[0] == next, "{upcoming}");
    for due_at in &dues[..2] {
        world.ask("cancel", json!({"run": format!("default/tick@{due_at}"), "by": "ann@desk"})).await?;
    }
    assert_eq!(status().await?, (last.clone(), dues[2].to_owned()));
    let around = world.ask("explain", json!({"job": "default/tick"})).await?;
    let told: Vec<&str> = around["explanations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["at"].as_str())
        .collect();
    assert_eq!(told, [last.as_str(), dues[2]], "{around:#}");
    Ok(())
}

#[tokio::test]
async fn what_comes_next_is_told_with_its_reasons_and_by_day() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let berlin = json!({"cron": "30 2 * * *", "timeZone": "Europe/Berlin"});
    world.apply(job("nightly", json!({"schedule": berlin}))).await?;
    world.apply(job("follows", json!({"schedule": {"after": "10s"}}))).await?;
    let next = |request: Value| world.ask("next", request);
    let reply = next(json!({"job": "default/nightly", "from": "2027-03-27T12:00:00Z", "count": 2})).await?;
    assert_eq!(reply["occurrences"][0]["local"], "2027-03-28T03:00:00+02:00");
    let reason = reply["occurrences"][0]["reasons"][0].as_str().unwrap_or_default();
    ensure!(reason.contains("doesn't exist"), "{reply}");
    ensure!(reply["occurrences"][1].get("reasons").is_none(), "{reply}");
    let days = next(json!({"job": "default/nightly", "days": 3})).await?["days"].clone();
    assert_eq!(days, json!([{"day": "2026-11-23", "count": 1}, {"day": "2026-11-24", "count": 1}]));
    let until = next(json!({"job": "default/nightly", "to": "2026-11-25T00:00:00Z", "count": 1000})).await?;
    assert_eq!(until["occurrences"].as_array().map(Vec::len), Some(2));
    let follows = next(json!({"job": "default/follows"})).await?;
    ensure!(follows["followsEnds"] == true && follows["occurrences"] == json!([]), "{follows}");
    ensure!(refused(&world, "next", json!({"job": "default/none"})).await.contains("not-found"));
    ensure!(
        refused(&world, "next", json!({"job": "default/nightly", "from": "soon"}))
            .await
            .contains("read from")
    );
    Ok(())
}

#[tokio::test]
async fn a_revision_that_is_expected_guards_apply_and_delete() -> Result<()> {
    let world = World::begin()?;
    let apply = |expected: u64, timeout: &str| json!({"manifests": [job("guarded", json!({"timeout": timeout}))], "expected": expected});
    ensure!(
        refused(&world, "apply", apply(7, "1m")).await.contains("\"kind\":\"conflict\""),
        "there is none"
    );
    let created = world.ask("apply", apply(0, "1m")).await?;
    let revision = created["jobs"][0]["revision"].as_u64().context("a revision")?;
    ensure!(refused(&world, "apply", apply(0, "2m")).await.contains("conflict"), "it is there");
    let edited = world.ask("apply", apply(revision, "2m")).await?["jobs"][0]["revision"].as_u64();
    let edited = edited.filter(|edited| *edited > revision).context("a newer revision")?;
    ensure!(refused(&world, "apply", apply(revision, "3m")).await.contains("conflict"), "it was edited");
    let two = json!({"manifests": [job("a", json!({})), job("b", json!({}))], "expected": 0});
    ensure!(refused(&world, "apply", two).await.contains("single job"));
    let delete = |expected: u64| json!({"job": "default/guarded", "expected": expected});
    ensure!(refused(&world, "delete", delete(revision)).await.contains("conflict"));
    world.ask("delete", delete(edited)).await?;
    Ok(())
}

#[tokio::test]
async fn the_plan_and_who_works_on_it_are_shown() -> Result<()> {
    let mut world = World::begin()?;
    let empty = world.ask("cluster", json!({})).await?;
    assert_eq!((&empty["nodes"], &empty["leases"]), (&json!([]), &json!([])));
    world.start();
    let (spec, _) = world.apply(job("tick", json!({}))).await?;
    world.apply(job("rare", json!({"schedule": {"at": ["2027-01-01T00:00:00Z"]}}))).await?;
    world.takes.insert(spec.id, std::time::Duration::from_secs(25));
    world.run(65).await?;

    let cluster = world.ask("cluster", json!({})).await?;
    assert_eq!(cluster["nodes"][0]["node"], "node-1", "{cluster}");
    assert_eq!(cluster["shards"].as_array().map(Vec::len), Some(4));
    assert_eq!(
        cluster["leases"].as_array().map(Vec::len),
        Some(8),
        "a planner's and a dispatcher's of each shard"
    );

    let plan = world.ask("buckets", json!({"first": 1})).await?;
    let total = |tier: &str| {
        let totals = plan["totals"].as_array().into_iter().flatten();
        totals
            .filter(|total| total["tier"] == tier)
            .filter_map(|total| total["entries"].as_u64())
            .sum::<u64>()
    };
    ensure!(total("minute") >= 6 && total("half-hour") == 1 && total("horizon") == 1, "{plan}");
    let pages = async |after: Option<&str>| world.ask("buckets", json!({"limit": 1, "after": after})).await;
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = pages(after.as_deref()).await?;
        seen.extend(page["buckets"].as_array().cloned().unwrap_or_default());
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    let keys = |buckets: &[Value]| buckets.iter().map(|bucket| bucket["key"].clone()).collect::<Vec<_>>();
    assert_eq!(keys(&seen), keys(plan["buckets"].as_array().context("buckets")?), "pages make up the whole");
    let only = world.ask("buckets", json!({"tier": "horizon"})).await?;
    assert_eq!(only["buckets"][0]["first"][0]["member"], "default/rare", "{only}");
    ensure!(refused(&world, "buckets", json!({"tier": "cellar"})).await.contains("cellar"));

    let sent = world.ask("sent", json!({})).await?;
    let open = sent["runs"].as_array().context("runs")?;
    ensure!((2..=3).contains(&open.len()) && sent["more"] == false, "{sent}");
    assert_eq!(world.ask("sent", json!({"limit": 1})).await?["more"], true);

    let changes = world.ask("changes", json!({"job": "default/tick"})).await?;
    assert_eq!(changes["changes"][0]["change"], "created", "{changes}");
    Ok(())
}

#[tokio::test]
async fn queues_are_shown_with_what_is_in_them() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    assert_eq!(world.ask("queues", json!({})).await?["queues"], json!([]));
    world.limit(json!({"concurrency": 1})).await?;
    let (spec, _) = world.apply(job("tick", json!({}))).await?;
    world.apply(job("tock", json!({"queue": "elsewhere"}))).await?;
    world.takes.insert(spec.id, std::time::Duration::from_secs(35));
    world.run(65).await?;
    let reply = world.ask("queues", json!({})).await?;
    let [elsewhere, work] = reply["queues"].as_array().map(Vec::as_slice).context("queues")? else {
        anyhow::bail!("two queues: {reply}");
    };
    assert_eq!((&elsewhere["queue"], &elsewhere["jobs"]), (&json!("default/elsewhere"), &json!(1)));
    ensure!(elsewhere.get("revision").is_none() && elsewhere["limits"] == "no limits", "{elsewhere}");
    ensure!(elsewhere["undelivered"].as_u64() > Some(3), "nobody takes it: {elsewhere}");
    assert_eq!((&work["limits"], &work["underWay"]), (&json!("concurrency 1"), &json!(1)));
    ensure!(work["waiting"].as_u64() > Some(1) && work["oldestDueAt"].is_string(), "{work}");
    let page = world.ask("queues", json!({"limit": 1})).await?;
    assert_eq!(page["next"], "default/elsewhere");
    Ok(())
}

#[tokio::test]
async fn brief_runs_leave_out_what_is_long() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(job("tick", json!({}))).await?;
    world.run(25).await?;
    let runs = world.ask("runs", json!({"job": "default/tick", "brief": true})).await?;
    let first = &runs["runs"][0];
    ensure!(first["state"] == "succeeded" && first.get("output").is_none(), "{first}");
    Ok(())
}
