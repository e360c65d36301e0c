//! The forecast against what is planned and started in earnest: a simulated day of jobs of every kind, minute by minute.

use std::collections::BTreeMap;

use ambient::Entropy;
use anyhow::{Result, ensure};
use futures_util::StreamExt;
use harness::world::World;
use model::declared::Declared;
use model::forecast::{dues, forecast};
use model::id::RunId;
use model::time::{MINUTE_MS, Timestamp};
use serde_json::{Value, json};

/// Jobs unless ECRON_TEST_JOBS says otherwise; docs/console.md tells of 10,000.
const JOBS_DEFAULT: u64 = 1_000;
/// Fewer occurrences a job wouldn't be a day of theirs.
const OCCURRENCES_PER_JOB_MIN: u64 = 2;
const DAY_MINUTES: usize = 24 * 60;
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"];

/// A job of some kind: most are due once or a few times a day, as most are.
fn manifest(number: u64, dice: &Entropy) -> Value {
    let one_of = |sides: u64| dice.next_u64() % sides;
    let (minute, hour) = (one_of(60), one_of(24));
    let zone = ZONES[one_of(4) as usize];
    let schedule = match number % 12 {
        0..=3 => json!({"cron": format!("{minute} {hour} * * *"), "timeZone": zone}),
        4 => json!({"cron": format!("{minute} */6 * * *"), "timeZone": zone, "jitter": "20m"}),
        5 => json!({"cron": "@daily", "timeZone": zone, "spread": "5h"}),
        6 => json!({"cron": "H H * * *", "dialect": "ecron", "timeZone": zone}),
        7 => json!({"every": format!("{}m", 180 + one_of(600))}),
        8 => {
            json!({"at": [format!("2026-11-22T{hour:02}:{minute:02}:30Z"), format!("2026-11-23T{hour:02}:{minute:02}:00Z")]})
        }
        9 => {
            json!({"cron": format!("{minute} * * * *"), "exclude": [{"cron": "* 9-17 * * *"}], "timeZone": zone})
        }
        10 => json!({"cron": format!("{minute} {hour},12 * * *"), "end": "2026-11-23T03:00:00Z", "count": 1}),
        _ => json!({"cron": format!("{minute} {hour} * * 1-5"), "start": "2026-11-22T12:00:00Z"}),
    };
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": format!("job-{number}")},
        "spec": {
            "schedule": schedule, "queue": "work", "suspend": number % 40 == 7,
            "history": {"succeeded": 0, "failed": 0, "skipped": 0},
        },
    })
}

async fn declared(world: &World) -> Result<Vec<Declared>> {
    use bus::SpecStore;
    let mut specs = world.bus.list(None).await?;
    let mut jobs = Vec::new();
    while let Some((_, stored)) = specs.next().await {
        jobs.push(
            Declared::read(&stored.value, stored.written_at).map_err(|problem| anyhow::anyhow!(problem))?,
        );
    }
    Ok(jobs)
}

/// Whether an occurrence is due just after one of the world's steps, which come half a second past each full one. A dispatcher
/// would take it a few milliseconds ahead, and wait for a clock that moves only once it has finished.
fn meets_a_step(job: &Declared, now: Timestamp) -> bool {
    let to = now.plus_ms(MINUTE_MS * (DAY_MINUTES as i64 + 10));
    dues(job, now, to).any(|due| (500..600).contains(&due.as_ms().rem_euclid(1_000)))
}

#[tokio::test]
async fn a_forecast_day_is_what_is_then_planned() -> Result<()> {
    let mut world = World::begin()?;
    world.unaudited = true;
    let dice = Entropy::seeded(20_261_122);
    world.start();
    let jobs =
        std::env::var("ECRON_TEST_JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(JOBS_DEFAULT);
    let mut applied = 0;
    for number in 0..jobs {
        // Instants that have passed, and rules that the calendar leaves nothing of, are refused, as they should be.
        let Ok((spec, _)) = world.apply(manifest(number, &dice)).await else { continue };
        if meets_a_step(&world.declared(&spec.id).await?, world.clock.now()) {
            world.delete(&spec.id).await?;
        } else {
            applied += 1;
        }
    }
    ensure!(applied > jobs * 9 / 10, "only {applied} jobs were accepted");
    world.run(30).await?;
    let begun = world.clock.now();
    let first = begun.floor(MINUTE_MS).plus_ms(MINUTE_MS);
    let ahead = forecast(&declared(&world).await?, first, DAY_MINUTES);
    ensure!(ahead.total > OCCURRENCES_PER_JOB_MIN * jobs, "only {} occurrences", ahead.total);
    ensure!(ahead.unforeseen.is_empty() && ahead.cut_at.is_none(), "{ahead:?}");

    world.run(u32::try_from(DAY_MINUTES * 60 + 120)?).await?;
    let last = first.plus_ms(MINUTE_MS * DAY_MINUTES as i64);
    let mut started: BTreeMap<Timestamp, u32> = BTreeMap::new();
    for run in world.started.keys() {
        let RunId::Occurrence(occurrence) = run else { continue };
        if (first..last).contains(&occurrence.due_at) {
            *started.entry(occurrence.due_at.floor(MINUTE_MS)).or_default() += 1;
        }
    }
    assert_eq!(world.doubled(), Vec::<&RunId>::new());
    for (at, foretold) in ahead.minutes.iter().enumerate() {
        let minute = ahead.at(at);
        assert_eq!(started.get(&minute).copied().unwrap_or(0), *foretold, "at {minute}");
    }
    let total: u32 = started.values().sum();
    println!("{applied} jobs, {total} occurrences, {DAY_MINUTES} minutes equal");
    Ok(())
}
