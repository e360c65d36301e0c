//! The console against real servers and a real `ecron up`: its statuses, what guards changes, who is let in, markup that stays text,
//! other sites' requests, and every page of an empty and of a full system.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::cli::Cli;
use harness::http::{Http, Reply};
use harness::ports::Ports;
use harness::process::Process;
use harness::up::{Slot, Up};
use harness::wait::{seen, wait_until};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of a page, at most.
const PAGE_BYTES_MAX: usize = 100_000;
/// A schedule that no test will live to see.
const NEVER_SOON: &str = "2099-01-01T00:00:00Z";
/// What must stay text wherever it is shown.
const MARKUP: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";

static SHARED: Slot = Slot::new();

async fn shared() -> Result<(Arc<Up>, Http)> {
    let up = Up::shared(&SHARED).await?;
    let http = Http::at(up.port_base() + 2);
    Ok((up, http))
}

fn job(name: &str, spec: Value) -> Value {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let mut manifest = json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace},
        "spec": {"schedule": {"at": [NEVER_SOON]}, "history": {"succeeded": 100, "failed": 100}},
    });
    if let (Some(all), Some(given)) = (manifest["spec"].as_object_mut(), spec.as_object()) {
        all.extend(given.clone());
    }
    manifest
}

/// Puts a job and waits until it is in force.
async fn put(http: &Http, manifest: &Value) -> Result<String> {
    let name = format!(
        "{}/{}",
        manifest["metadata"]["namespace"].as_str().unwrap_or_default(),
        manifest["metadata"]["name"].as_str().unwrap_or_default()
    );
    let path = format!("/api/v1/jobs/{name}");
    let reply = http.put(&path, manifest).await?;
    ensure!(matches!(reply.status, 200 | 201), "{reply:?}");
    wait_until(DEADLINE, &format!("{name} in force"), || async {
        let status = http.get(&path).await?.json()?["status"].clone();
        seen(status["revision"] == status["observedRevision"], status)
    })
    .await?;
    Ok(path)
}

async fn trigger(http: &Http, path: &str, body: &Value) -> Result<String> {
    let reply = http.post(&format!("{path}/trigger"), body).await?;
    ensure!(reply.status == 202, "{reply:?}");
    Ok(reply.json()?["run"].as_str().context("a run")?.to_owned())
}

async fn ended(http: &Http, run: &str) -> Result<Value> {
    wait_until(DEADLINE, &format!("the end of {run}"), || async {
        let view = http.get(&format!("/api/v1/runs/{run}")).await?.json()?;
        seen(view["endedAt"].is_string(), view)
    })
    .await
}

#[track_caller]
fn is_problem(reply: &Reply, status: u16, part: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json", "{reply:?}");
    assert!(reply.body.contains(part), "{part:?} in {reply:?}");
}

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
async fn other_sites_are_refused() -> Result<()> {
    let (up, http) = shared().await?;
    let path = put(&http, &job("sites/one", json!({"queue": "nobody"}))).await?;
    let trigger_path = format!("{path}/trigger");
    let own = format!("http://127.0.0.1:{}", up.port_base() + 2);
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        is_problem(
            &http.with(name, value).post(&trigger_path, &json!({})).await?,
            403,
            "urn:ecron:cross-site",
        );
        let form = http.with(name, value).form("/jobs/sites/one/pause", "").await?;
        assert_eq!(form.status, 403, "{name}: {value}");
    }
    is_problem(&http.with("host", "evil.example").get(&path).await?, 421, "localhost only");
    assert_eq!(http.with("host", "evil.example").get("/").await?.status, 421);
    assert_eq!(http.get(&path).await?.json()?["status"]["suspended"], false, "nothing was done");
    let same = http.with("origin", &own).with("sec-fetch-site", "same-origin");
    assert_eq!(same.post(&trigger_path, &json!({})).await?.status, 202);
    let form = same.form("/jobs/sites/one/pause", "").await?;
    assert_eq!((form.status, form.header("location")), (303, "/jobs/sites/one?said=paused"));
    let page = http.get("/jobs/sites/one?said=paused").await?;
    assert!(page.body.contains("Paused: its occurrences aren"), "{}", page.body);
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(
        !page.body.contains(" style=") && !page.body.contains("<script>") && !page.body.contains("onclick"),
        "inline"
    );
    assert_eq!(page.header("x-content-type-options"), "nosniff");
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
async fn tokens_have_scopes_and_stay_secret() -> Result<()> {
    const WRITER: &str = "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww";
    const READER: &str = "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr";
    let (up, open) = shared().await?;
    put(&open, &job("tokens/one", json!({"queue": "nobody"}))).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("# who may\nann write {WRITER}\nboard read {READER}\n"))?;
    let file = file.display().to_string();
    let ports = Ports::claim()?;
    let listen = format!("0.0.0.0:{}", ports.base());
    let cli = up.cli();
    let bare = Cli::online(folder.path(), &up.redis_url(), &up.nats_url());
    let refused = bare.run(&["console", "--listen", &listen]).await?;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("without credentials"), "{}", refused.stderr);
    let readable = bare.run(&["console", "--listen", &listen, "--token-file", &file]).await?;
    assert!(readable.code == Some(2) && readable.stderr.contains("chmod"), "{}", readable.stderr);
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;

    let args = ["--log", "debug", "console", "--listen", &listen, "--token-file", &file];
    let mut console = Process::spawn(cli.command(&args)?, "console", folder.path())?;
    console.says("the console is at", 1, DEADLINE).await?;
    let http = Http::at(ports.base());
    let path = "/api/v1/jobs/tokens/one";
    is_problem(&http.get(path).await?, 401, "Bearer");
    assert_eq!(http.get("/api/v1/jobs").await?.header("www-authenticate"), "Bearer");
    for wrong in ["Bearer nonsense", &format!("Basic {WRITER}"), &format!("Bearer {WRITER}x"), "Bearer "] {
        is_problem(&http.with("authorization", wrong).get(path).await?, 401, "urn:ecron:unauthenticated");
    }
    let page = http.get("/jobs?q=a").await?;
    assert_eq!((page.status, page.header("location")), (303, "/login?next=%2Fjobs%3Fq%3Da"));
    let (reader, writer) = (
        http.with("authorization", &format!("Bearer {READER}")),
        http.with("authorization", &format!("Bearer {WRITER}")),
    );
    assert_eq!(reader.get(path).await?.status, 200);
    is_problem(&reader.post(&format!("{path}/pause"), &json!({})).await?, 403, "scope `read`");
    assert_eq!(reader.form("/jobs/tokens/one/pause", "").await?.status, 403);
    assert!(
        !reader.get("/jobs/tokens/one").await?.body.contains("Pause</button>"),
        "a reader sees no button"
    );
    assert_eq!(writer.post(&format!("{path}/pause"), &json!({})).await?.status, 200);
    let audit = writer.get("/api/v1/audit?limit=1000").await?;
    assert!(audit.body.contains("ann@console"), "{audit:?}");

    // A browser gives its token once.
    let refused = http.form("/login", "token=nonsense").await?;
    assert_eq!(refused.status, 403);
    let login = http.form("/login", &format!("token={WRITER}&next=%2Fjobs%2Ftokens%2Fone")).await?;
    assert_eq!((login.status, login.header("location")), (303, "/jobs/tokens/one"));
    let cookie = login.header("set-cookie").to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && !cookie.contains(WRITER),
        "{cookie}"
    );
    let browser = http.with("cookie", cookie.split(';').next().unwrap_or_default());
    assert!(browser.get("/jobs/tokens/one").await?.body.contains("Resume</button>"));
    assert_eq!(
        browser.with("origin", "http://evil.example").form("/jobs/tokens/one/resume", "").await?.status,
        403
    );
    assert_eq!(browser.form("/jobs/tokens/one/resume", "").await?.status, 303);
    assert_eq!(browser.form("/logout", "").await?.status, 303);
    assert_eq!(browser.get("/jobs").await?.status, 303, "the session has ended");
    let log = console.log();
    assert!(log.contains("somebody logged in") && !log.contains(WRITER) && !log.contains(READER), "{log}");
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
