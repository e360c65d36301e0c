//! `ecron up` from its start to its end, and what stands in its way.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use harness::cli::Cli;
use harness::up::{STOP_TIMEOUT, Up};
use harness::wait::{seen, wait_until};
use harness::witness::{Expected, Findings, instant, now_ms, until_ms};
use rustix::process::Signal;

use crate::jobs::{REMEMBER_ALL, every, triggered};

const DEADLINE: Duration = Duration::from_secs(30);

/// Starts one that must fail; answers with what it said.
async fn refused(up: &mut Up) -> anyhow::Result<String> {
    up.launch()?;
    let status = up.process_mut()?.ended(STOP_TIMEOUT).await?;
    let said = up.process()?.log();
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(up.process()?.offspring().len(), 0, "it left processes behind: {said}");
    Ok(said)
}

#[tokio::test]
async fn a_second_one_on_the_same_data_is_refused_and_the_first_goes_on() -> anyhow::Result<()> {
    let first = Up::start().await?;
    let data = first.data().display().to_string();
    let ports = harness::ports::Ports::claim()?;
    for port in [first.port_base(), ports.base()] {
        let port = port.to_string();
        let answer = Cli::offline(first.folder())
            .run(&["up", "--data", &data, "--port-base", &port, "--quiet"])
            .await?;
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(
            answer.stderr.contains("another `ecron up` is running with") && answer.stderr.contains("--data"),
            "{answer:?}"
        );
    }
    first.cli().json(&["get", "jobs"]).await?;
    // Commands without any URL find it.
    Cli::offline(first.folder()).json(&["get", "jobs"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_to_do() -> anyhow::Result<()> {
    let mut up = Up::prepare(&["--quiet"])?;
    for offset in [0, 1] {
        let port = up.port_base() + offset;
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let said = refused(&mut up).await?;
        assert!(said.contains(&port.to_string()) && said.contains("--port-base"), "{said}");
        drop(taken);
    }
    up.start_again().await
}

#[tokio::test]
async fn an_unusable_data_folder_or_a_missing_server_is_named() -> anyhow::Result<()> {
    let up = Up::prepare(&[])?;
    let file = up.folder().join("a-file");
    std::fs::write(&file, "")?;
    let port = up.port_base().to_string();
    let below = file.join("data").display().to_string();
    let answer = Cli::offline(up.folder()).run(&["up", "--data", &below, "--port-base", &port]).await?;
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains(&below) && answer.stderr.contains("--data"), "{answer:?}");

    let fresh = up.data().display().to_string();
    for (name, server) in [("ECRON_REDIS_SERVER", "redis-server"), ("ECRON_NATS_SERVER", "nats-server")] {
        let mut cli = Cli::offline(up.folder());
        cli.env.push((name.into(), "/nowhere/server".into()));
        let answer = cli.run(&["up", "--data", &fresh, "--port-base", &port]).await?;
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.stderr.contains("/nowhere/server"), "{answer:?}");
        let mut command =
            Cli::offline(up.folder()).command(&["up", "--data", &fresh, "--port-base", &port])?;
        command.env_remove(name).env("PATH", up.folder());
        let answer = harness::cli::finish(command.into(), "").await?;
        assert_eq!(answer.code, Some(1), "{answer:?}");
        // Which of the two it misses first depends on what the machine names by variable.
        let says = answer.stderr.contains("there is no") && answer.stderr.contains("deploy/servers.sh");
        assert!(says, "{server}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn ctrl_c_ends_everything_within_seconds_and_the_next_start_goes_on() -> anyhow::Result<()> {
    let mut up = Up::start().await?;
    let (cli, witness) = (up.cli(), up.witness("goes-on"));
    let job = "up/goes-on";
    cli.apply(&every(job, 1, &witness.line(), &["catchUp: {policy: all}", REMEMBER_ALL])).await?;
    let after_ms = now_ms();
    for signal in [Signal::INT, Signal::TERM] {
        until_ms(now_ms() + 2_000).await;
        let asked_ms = now_ms();
        up.process()?.signal(signal)?;
        let status = up.process_mut()?.ended(STOP_TIMEOUT).await?;
        assert_eq!(status.code(), Some(0), "{}", up.process()?.log());
        // Two seconds as a rule; the bounds are ten for the runs under way and ten for the servers.
        assert!(now_ms() - asked_ms < 20_000, "it took {} ms", now_ms() - asked_ms);
        assert!(up.process()?.log().contains("stopped; the data is kept"));
        let left = up.process()?.offspring();
        assert!(left.is_empty(), "still there: {left:?}");
        up.start_again().await?;
    }
    let before = cli.runs(job).await?;
    assert!(!before.is_empty(), "the history is kept");
    let until_ms = now_ms() + 2_000;
    harness::witness::until_ms(until_ms).await;
    let expected = Expected { job: job.into(), every_ms: 1_000, after_ms, until_ms };
    let begun = wait_until(DEADLINE, "every occurrence has begun", || async {
        let begun = witness.begun()?;
        seen(expected.compare(&begun).missed.is_empty(), begun.clone())
    })
    .await?;
    assert_eq!(expected.compare(&begun), Findings::default(), "a clean stop leaves nothing half done");
    Ok(())
}

#[tokio::test]
async fn a_long_run_does_not_hold_up_the_end_and_is_taken_up_again() -> anyhow::Result<()> {
    let mut up = Up::start().await?;
    let (cli, witness) = (up.cli(), up.witness("long"));
    let shell = format!("{}\nif test \"$ECRON_ATTEMPT\" = 1; then exec sleep 600; fi", witness.line());
    cli.apply(&triggered("up/long", &shell, &[])).await?;
    cli.json(&["trigger", "up/long"]).await?;
    wait_until(DEADLINE, "it has begun", || async { seen(witness.begun()?.len() == 1, witness.begun()?) })
        .await?;
    let asked_ms = now_ms();
    assert_eq!(up.interrupt().await?, Some(0), "{}", up.process()?.log());
    let took_ms = now_ms() - asked_ms;
    assert!(took_ms < 20_000, "it took {took_ms} ms");
    assert!(up.process()?.offspring().is_empty(), "{:?}", up.process()?.offspring());
    up.start_again().await?;
    let runs = cli.wait_for_runs("up/long", "succeed", DEADLINE, |runs| {
        runs.iter().any(|run| run.state == "succeeded")
    });
    let runs = runs.await?;
    assert_eq!((runs.len(), runs[0].attempts), (1, 2), "{runs:#?}");
    Ok(())
}

#[tokio::test]
async fn runs_are_shown_as_they_happen_and_manifests_applied_at_the_start() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let manifest = folder.path().join("jobs.yaml");
    std::fs::write(&manifest, every("up/shown", 1, "echo hello there", &[]))?;
    let mut up = Up::start_with(&["--allow-exec", "--apply", &manifest.display().to_string()]).await?;
    up.process_mut()?.says("job up/shown created", 1, DEADLINE).await?;
    up.process_mut()?.says("hello there", 2, DEADLINE).await?;
    let log = up.process()?.log();
    let line = log.lines().find(|line| line.contains("hello there")).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert!(words[0] <= instant(now_ms()).as_str(), "{line}");
    assert_eq!(words[1..3], ["up/shown", "succeeded"], "{line}");
    assert_eq!(up.interrupt().await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn commands_do_not_run_unless_they_are_allowed() -> anyhow::Result<()> {
    let up = Up::start_with(&["--quiet"]).await?;
    let (cli, witness) = (up.cli(), up.witness("forbidden"));
    cli.apply(&triggered("up/forbidden", &witness.line(), &[])).await?;
    let answer = cli.run(&["trigger", "up/forbidden", "--wait", "--timeout", "30s"]).await?;
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let runs = cli.runs("up/forbidden").await?;
    assert!(runs[0].error.as_deref().is_some_and(|error| error.contains("--allow-exec")), "{runs:#?}");
    assert_eq!(witness.begun()?, []);
    Ok(())
}
