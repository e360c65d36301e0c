//! Who may ask what: other sites are refused, tokens have scopes and stay secret.

use super::*;

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
