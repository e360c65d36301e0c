//! Holidays in one place, as people declare them: files, commands, and what they are told.

use harness::up::Up;

const CALENDAR: &str = "\
---
apiVersion: ecron/v1
kind: Calendar
metadata: {name: holidays, namespace: shop}
spec: {exclude: [DATES]}
";

const JOB: &str = "\
---
apiVersion: ecron/v1
kind: Job
metadata: {name: report, namespace: shop}
spec: {schedule: {cron: \"0 12 1 1 *\", exclude: [{calendar: holidays}]}}
";

#[tokio::test]
async fn a_changed_calendar_moves_its_jobs_and_is_kept_while_they_name_it() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let cli = up.cli();
    let alone = cli.run_with(&["apply", "-f", "-"], JOB).await?;
    assert_eq!(alone.code, Some(2), "{alone:?}");
    assert!(alone.stderr.contains("job shop/report: spec.schedule.exclude[0]: calendar"), "{}", alone.stderr);
    assert_eq!(cli.run_with(&["validate", "-"], JOB).await?.code, Some(2));
    cli.run_with(&["validate", "--assume-calendars", "-"], JOB).await?.ok()?;

    // The job before its calendar: the order doesn't matter.
    let both = format!("{JOB}{}", CALENDAR.replace("DATES", "2090-01-01"));
    cli.run_with(&["validate", "-"], &both).await?.ok()?;
    cli.apply(&both).await?;
    let next = |view: serde_json::Value| view["status"]["nextDueAt"].clone();
    let before = next(cli.json(&["get", "job", "shop/report"]).await?);
    let year = before.as_str().and_then(|text| text.split('-').next()).unwrap_or_default().to_owned();
    let said = cli.apply(&CALENDAR.replace("DATES", &format!("{year}-01-01"))).await?;
    assert!(said.contains("calendar shop/holidays configured"), "{said}");
    assert!(said.contains("job shop/report follows it"), "{said}");
    let after = next(cli.json(&["get", "job", "shop/report"]).await?);
    assert_ne!(before, after);

    let listed = cli.ok(&["get", "calendars"]).await?;
    assert!(listed.contains("shop/holidays"), "{listed}");
    let yaml = cli.ok(&["get", "calendar", "holidays", "-n", "shop", "-o", "yaml"]).await?;
    assert!(yaml.contains(&format!("{year}-01-01")), "{yaml}");
    let refused = cli.run(&["delete", "calendar", "shop/holidays"]).await?;
    assert!(refused.code == Some(2) && refused.stderr.contains("1 job names it: shop/report"), "{refused:?}");
    let gone = cli.run_with(&["delete", "-f", "-"], &both).await?.ok()?;
    assert!(gone.contains("job shop/report deleted\ncalendar shop/holidays deleted"), "{gone}");

    let quota = "apiVersion: ecron/v1\nkind: Namespace\nmetadata: {name: shop}\nspec: {minInterval: 1m}\n";
    let said = cli.apply(quota).await?;
    assert!(said.contains("namespace shop created") && said.contains("note: jobs that are there"), "{said}");
    let fast = JOB.replace("cron: \"0 12 1 1 *\", exclude: [{calendar: holidays}]", "every: 59s");
    let refused = cli.run_with(&["apply", "-f", "-"], &fast).await?;
    assert!(refused.code == Some(2) && refused.stderr.contains("no less than 1m"), "{refused:?}");
    assert!(cli.ok(&["get", "namespaces"]).await?.contains("minInterval 1m"));
    Ok(())
}
