//! The HTTP API: guarded by revisions, in pages, with problems for answers; and its own document.

use super::*;

#[tokio::test]
async fn a_revision_guards_against_lost_edits() -> Result<()> {
    let (_up, http) = shared().await?;
    let path = put(&http, &job("guard/one", json!({}))).await?;
    let first = http.get(&path).await?;
    let etag = first.header("etag").to_owned();
    assert_eq!(etag, format!("\"{}\"", first.json()?["status"]["revision"]));

    let edited = job("guard/one", json!({"timeout": "5m"}));
    let reply = http.with("if-match", &etag).put(&path, &edited).await?;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_ne!(reply.header("etag"), etag);
    let stale = job("guard/one", json!({"timeout": "6m"}));
    is_problem(&http.with("if-match", &etag).put(&path, &stale).await?, 412, "urn:ecron:conflict");
    is_problem(&http.with("if-none-match", "*").put(&path, &stale).await?, 412, "urn:ecron:conflict");
    is_problem(&http.with("if-match", "17").put(&path, &stale).await?, 400, "If-Match");
    let delete = |http: Http| async move { http.send("DELETE", "/api/v1/jobs/guard/one", None, "").await };
    is_problem(&delete(http.with("if-match", &etag)).await?, 412, "expected was");
    let stored = http.get(&path).await?;
    assert_eq!(stored.json()?["manifest"]["spec"]["timeout"], "5m", "nothing else was written");
    assert_eq!(delete(http.with("if-match", stored.header("etag"))).await?.status, 200);
    is_problem(&http.get(&path).await?, 404, "urn:ecron:not-found");
    is_problem(&http.with("if-match", &etag).put(&path, &edited).await?, 412, "not there");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_said_by_a_status_and_a_problem() -> Result<()> {
    let (_up, http) = shared().await?;
    let path = "/api/v1/jobs/wrong/one";
    let invalid = job("wrong/one", json!({"schedule": {"cron": "61 * * * *"}, "nonsense": 1}));
    let refused = http.put(path, &invalid).await?;
    is_problem(&refused, 422, "urn:ecron:refused");
    let fields: Vec<String> = refused.json()?["problems"]
        .as_array()
        .context("problems")?
        .iter()
        .filter_map(|problem| Some(problem["field"].as_str()?.to_owned()))
        .collect();
    assert!(fields.iter().any(|field| field.contains("schedule")) && fields.len() > 1, "{fields:?}");
    is_problem(&http.put(path, &job("wrong/other", json!({}))).await?, 422, "the manifest names wrong/other");
    is_problem(&http.send("PUT", path, Some("application/json"), "{").await?, 400, "urn:ecron:malformed");
    is_problem(&http.send("PUT", path, Some("text/plain"), "{}").await?, 415, "Content-Type");
    is_problem(&http.send("POST", path, None, "").await?, 405, "not this way");
    is_problem(&http.get("/api/v1/nothing").await?, 404, "openapi.json");
    is_problem(&http.get(path).await?, 404, "wrong/one");
    is_problem(&http.get("/api/v1/jobs?limit=many").await?, 400, "limit");
    is_problem(&http.get("/api/v1/jobs?unknown=1").await?, 400, "unknown");
    is_problem(&http.get("/api/v1/jobs?labels=team").await?, 400, "KEY=VALUE");
    is_problem(&http.get("/api/v1/jobs/BAD/one").await?, 422, "read job");
    is_problem(&http.get("/api/v1/runs/a/b").await?, 422, "urn:ecron:refused");
    is_problem(&http.get("/api/v1/letters/999999").await?, 404, "dead letter 999999");
    is_problem(&http.get("/api/v1/letters?reason=boredom").await?, 400, "boredom");
    is_problem(&http.get("/api/v1/buckets?tier=cellar").await?, 422, "cellar");
    let large = format!("{{\"manifests\": [\"{}\"]}}", "x".repeat(1_000_000));
    is_problem(
        &http.send("POST", "/api/v1/apply", Some("application/json"), &large).await?,
        413,
        "too-large",
    );
    let page = http.get("/jobs/wrong/one").await?;
    assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"));
    Ok(())
}

#[tokio::test]
async fn lists_come_in_pages_and_are_narrowed() -> Result<()> {
    let (_up, http) = shared().await?;
    for name in ["page/a", "page/b", "page/c"] {
        let mut manifest = job(name, json!({"suspend": name == "page/b"}));
        manifest["metadata"]["labels"] = json!({"team": if name == "page/c" { "ops" } else { "web" }});
        put(&http, &manifest).await?;
    }
    let names = |reply: Reply| -> Result<(Vec<String>, Option<String>)> {
        let reply = reply.json()?;
        let jobs = reply["jobs"].as_array().context("jobs")?;
        let names = jobs.iter().filter_map(|view| Some(view["job"].as_str()?.to_owned())).collect();
        Ok((names, reply["next"].as_str().map(str::to_owned)))
    };
    let list = |query: &str| {
        let path = format!("/api/v1/jobs?namespace=page&{query}");
        let http = &http;
        async move { names(http.get(&path).await?) }
    };
    let (first, next) = list("limit=2").await?;
    assert_eq!((first, next.as_deref()), (vec!["page/a".into(), "page/b".into()], Some("page/b")));
    assert_eq!(list("limit=2&after=page/b").await?, (vec!["page/c".into()], None));
    assert_eq!(list("state=paused").await?.0, ["page/b"]);
    assert_eq!(list("state=active&labels=team%3Dweb").await?.0, ["page/a"]);
    assert_eq!(list("search=e/c").await?.0, ["page/c"]);
    assert_eq!(list("state=failing").await?.0, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_run_is_followed_by_its_events() -> Result<()> {
    let (_up, http) = shared().await?;
    let shell = "for i in 1 2 3; do echo line $i; sleep 0.3; done";
    let path = put(&http, &job("follow/one", json!({"exec": {"shell": shell}}))).await?;
    let all = http.clone();
    let heard =
        tokio::spawn(async move { all.until("/api/v1/events?job=follow/one", "event: attempt").await });
    let run = trigger(&http, &path, &json!({})).await?;
    let said = http.until(&format!("/api/v1/runs/{run}/events"), "event: end").await?;
    for part in ["text/event-stream", "\"text\":\"line 1\"", "\"text\":\"line 3\"", "\"state\":\"succeeded\""]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    // Whoever began to listen only after the run had ended may listen to another one.
    while !heard.is_finished() {
        let run = trigger(&http, &path, &json!({})).await?;
        ended(&http, &run).await?;
    }
    let heard = heard.await??;
    assert!(heard.contains("follow/one@"), "{heard}");
    Ok(())
}

#[tokio::test]
async fn the_document_describes_what_is_served() -> Result<()> {
    let (up, http) = shared().await?;
    put(&http, &job("document/one", json!({"queue": "nobody"}))).await?;
    let served = http.get("/api/v1/openapi.json").await?.json()?;
    let printed: Value = serde_json::from_str(&up.cli().ok(&["console", "--openapi"]).await?)?;
    assert_eq!(served, printed);
    assert_eq!(served["openapi"], "3.1.0");
    let paths = served["paths"].as_object().context("paths")?;
    for (path, methods) in paths {
        let Some(get) = methods.get("get").filter(|_| !path.ends_with("/events")) else { continue };
        let mut place =
            path.replace("{namespace}", "document").replace("{name}", "one").replace("{number}", "1");
        place = place.replace("{rest}", "one@2099-01-01T00:00:00Z");
        if path.starts_with("/api/v1/objects") {
            place.push_str("?kind=Queue&name=document/one");
            place = place.replace("/objects?kind=Queue&name=document/one", "/objects?kind=Queue");
        }
        let reply = http.get(&place).await?;
        assert!(get["responses"].get(reply.status.to_string()).is_some(), "{place} answers {reply:?}");
        assert!(
            reply.status < 500 && reply.status != 405 && reply.status != 400,
            "{place} answers {reply:?}"
        );
    }
    // Everything that is referred to is there.
    let text = served.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap_or_default();
        assert!(served["components"]["schemas"].get(name).is_some(), "{name} is described");
    }
    Ok(())
}
