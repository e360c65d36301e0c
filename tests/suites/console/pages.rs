//! The pages: markup stays text, and each renders for an empty and for a full system.

use super::*;

#[tokio::test]
async fn markup_stays_text_on_every_page() -> Result<()> {
    let (up, http) = shared().await?;
    let says = format!("cat <<'END'\n{MARKUP}\nEND\ncat >&2 <<'END'\n{MARKUP}\nEND\nexit 3");
    let path =
        put(&http, &job("markup/says", json!({"exec": {"shell": says}, "retry": {"attempts": 1}}))).await?;
    let given =
        put(&http, &job("markup/given", json!({"payload": {MARKUP: MARKUP}, "queue": "nobody"}))).await?;
    let run = trigger(&http, &path, &json!({})).await?;
    assert_eq!(ended(&http, &run).await?["state"], "dead-lettered");
    let stopped = trigger(&http, &given, &json!({"payload": MARKUP})).await?;
    let cancelled = http.post(&format!("/api/v1/runs/{stopped}/cancel"), &json!({"reason": MARKUP})).await?;
    assert_eq!(cancelled.status, 202, "{cancelled:?}");
    ended(&http, &stopped).await?;
    let mut cli = up.cli();
    cli.env.push(("ECRON_BY".into(), format!("ann {MARKUP}")));
    cli.ok(&["pause", "markup/given"]).await?;

    let letters = http.get("/api/v1/letters?job=markup/says").await?.json()?;
    let number = &letters["letters"][0]["number"];
    let pages = [
        "/".to_owned(),
        "/jobs/markup/says".into(),
        "/jobs/markup/given".into(),
        "/jobs/markup/given/edit".into(),
        format!("/runs/{run}"),
        format!("/runs/{stopped}"),
        "/letters".into(),
        format!("/letters/{number}"),
        "/letters?error=%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27%3E".into(),
        "/letters/confirm?act=redrive&job=markup/says".into(),
        "/audit".into(),
        "/jobs?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%3E&after=%22%3E%3Cimg%20src=x%3E".into(),
        "/jobs?labels=%3Cscript%3Ealert(1)%3D%22%3E%3Cimg%20src=x%3E".into(),
        "/plan?namespace=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E".into(),
    ];
    let mut shown = 0;
    for page in pages {
        let reply = http.get(&page).await?;
        assert_eq!(reply.status, 200, "{page}");
        assert!(
            !reply.body.contains("<script>alert") && !reply.body.contains("<img src=x"),
            "{page}: {}",
            reply.body
        );
        shown += usize::from(reply.body.contains("&lt;script&gt;alert(1)"));
    }
    assert!(shown >= 10, "only {shown} pages show it at all");
    // A form that is refused shows what was written, as text.
    let form = "expected=0&manifest=%3C%2Ftextarea%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    let refused = http.form("/jobs/markup/new/edit", form).await?;
    assert_eq!(refused.status, 400);
    assert!(
        !refused.body.contains("<script>alert") && refused.body.contains("&lt;/textarea&gt;"),
        "{}",
        refused.body
    );
    Ok(())
}

#[tokio::test]
async fn every_page_renders_for_an_empty_and_a_full_system() -> Result<()> {
    let up = Up::start().await?;
    let http = Http::at(up.port_base() + 2);
    let pages = [
        "/",
        "/jobs",
        "/jobs/new",
        "/plan",
        "/queues",
        "/letters",
        "/backfills",
        "/buckets",
        "/audit",
        "/plan?hours=168",
    ];
    let look = async |page: &str| -> Result<String> {
        let reply = http.get(page).await?;
        ensure!(reply.status == 200, "{page}: {reply:?}");
        ensure!(reply.body.len() <= PAGE_BYTES_MAX, "{page} has {} bytes", reply.body.len());
        ensure!(reply.body.starts_with("<!DOCTYPE html>") && reply.body.ends_with("</html>"), "{page}");
        Ok(reply.body)
    };
    for page in pages {
        look(page).await?;
    }
    for (page, todo) in [
        ("/jobs", "ecron apply -f FILE"),
        ("/letters", "There are none"),
        ("/backfills", "ecron backfill"),
        ("/queues", "spec.queue"),
    ] {
        ensure!(look(page).await?.contains(todo), "{page} says what to do");
    }

    let mut manifests: Vec<Value> = (0..120)
        .map(|number| {
            let schedule = json!({"cron": format!("{} {} * * *", number % 60, number % 24), "timeZone": "Europe/Berlin"});
            let mut one = job(&format!("full/job-{number:03}"), json!({"schedule": schedule, "queue": format!("queue-{}", number % 7)}));
            one["metadata"]["labels"] = json!({"team": "finance", "tier": "gold", "purpose": "reports-of-the-day"});
            one
        })
        .collect();
    let long = "x".repeat(120_000);
    let noisy = "for i in $(seq 400); do echo \"line $i of a log that says a lot, again and again\"; done; seq 3000; exit 1";
    manifests.push(job(
        "full/noisy",
        json!({"exec": {"shell": noisy}, "retry": {"attempts": 3, "initial": "10ms"}}),
    ));
    manifests.push(job("full/large", json!({"payload": {"text": long}, "queue": "nobody"})));
    manifests
        .push(job("full/often", json!({"schedule": {"every": "1s"}, "exec": {"shell": "echo 412 rows"}})));
    manifests.push(job("full/behind", json!({"schedule": {"cron": "* * * * *"}, "exec": {"shell": "true"}})));
    let applied = http.post("/api/v1/apply", &json!({"manifests": manifests})).await?;
    ensure!(applied.status == 200, "{applied:?}");
    let queue = json!({
        "apiVersion": "ecron/v1", "kind": "Queue", "metadata": {"name": "queue-1", "namespace": "full"}, "spec": {"concurrency": 2},
    });
    ensure!(http.post("/api/v1/apply", &json!({"manifests": [queue]})).await?.status == 200);
    let mut runs = Vec::new();
    for name in ["noisy", "large"] {
        let path = format!("/api/v1/jobs/full/{name}");
        wait_until(DEADLINE, "the jobs in force", || async {
            let status = http.get(&path).await?.json()?["status"].clone();
            seen(status["revision"] == status["observedRevision"], status)
        })
        .await?;
        runs.push(trigger(&http, &path, &json!({})).await?);
    }
    assert_eq!(ended(&http, &runs[0]).await?["state"], "dead-lettered");
    let range = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T01:00:00Z", "maxActive": 5});
    let begun = http.post("/api/v1/jobs/full/behind/backfill", &range).await?;
    ensure!(begun.status == 202, "{begun:?}");
    wait_until(DEADLINE, "some runs of full/often", || async {
        let runs = http.get("/api/v1/jobs/full/often/runs").await?.json()?["runs"].clone();
        seen(runs.as_array().is_some_and(|runs| runs.len() > 3), runs)
    })
    .await?;
    for page in pages {
        look(page).await?;
    }
    let letter = http.get("/api/v1/letters?job=full/noisy").await?.json()?["letters"][0]["number"].clone();
    let more = [
        "/jobs/full/often".to_owned(),
        "/jobs/full/noisy".into(),
        "/jobs/full/large".into(),
        "/jobs/full/job-003".into(),
        "/jobs?after=full/job-060".into(),
        format!("/runs/{}", runs[0]),
        format!("/runs/{}", runs[1]),
        format!("/runs/full/often@{NEVER_SOON}"),
        format!("/letters/{letter}"),
        "/letters/confirm?act=purge".into(),
        "/buckets?tier=minute".into(),
    ];
    for page in &more {
        look(page).await?;
    }
    let said = look("/jobs").await?;
    ensure!(said.contains("Next page") && said.contains("full/behind"), "{said}");
    let proposal = "manifests=%5B%7B%22apiVersion%22%3A%22ecron%2Fv1%22%2C%22kind%22%3A%22Job%22%2C%22metadata%22%3A%7B%22name%22%3A%22new%22%7D%2C%22spec%22%3A%7B%22schedule%22%3A%7B%22cron%22%3A%22*+*+*+*+*%22%7D%7D%7D%5D";
    let proposed = http.form("/plan", proposal).await?;
    ensure!(
        proposed.status == 200
            && proposed.body.contains("1 of them proposed")
            && proposed.body.contains("+1439 by the change"),
        "{}",
        proposed.body
    );
    ensure!(proposed.body.len() <= PAGE_BYTES_MAX, "{}", proposed.body.len());

    // A redrive is looked at first, and then done.
    let done = http.form("/letters/redrive", "job=full%2Fnoisy").await?;
    ensure!(done.status == 200 && done.body.contains("1 redriven"), "{}", done.body);
    Ok(())
}
