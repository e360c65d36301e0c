//! Commands as real processes.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::order::{Order, WorkKind};
use model::limits::OUTPUT_BYTES_MAX;
use model::run::Outcome;
use rustix::process::geteuid;
use serde_json::json;

use crate::bench::{Answer, Bench, Done, ad_hoc, order};

fn soon(spec_timeout_ms: u64) -> Order {
    Order { timeout: Duration::from_millis(spec_timeout_ms), ..order(WorkKind::Exec) }
}

/// Waits until no process has this id any more, or only a zombie that isn't ours to collect.
pub(crate) async fn until_gone(pid: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while alive(pid) {
        assert!(tokio::time::Instant::now() < deadline, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| state_of(&stat) != Some('Z'))
}

fn state_of(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

#[tokio::test]
async fn an_argument_is_never_read_as_shell() {
    let bench = Bench::new(true);
    let done = bench.exec(json!({"command": ["echo", "$(id) ; rm -rf *", "a  b"]})).await;
    assert_eq!(done.succeeded(), "$(id) ; rm -rf * a  b\n");
    assert_eq!(done.report.end.outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_shell_line_runs_in_sh_or_in_the_jobs_shell() {
    let bench = Bench::new(true);
    assert_eq!(bench.shell("for i in 1 2; do echo $i; done | tail -1").await.succeeded(), "2\n");
    let bash = json!({"shell": "echo ${BASH_VERSION:+bash} {a,b}", "env": {"SHELL": "/bin/bash"}});
    assert_eq!(bench.exec(bash).await.succeeded(), "bash a b\n");
}

#[tokio::test]
async fn a_command_sees_the_jobs_environment_and_not_the_executors() {
    // The test itself has plenty: cargo sets CARGO_MANIFEST_DIR and many more.
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok());
    let bench = Bench::new(true);
    let spec = json!({"command": ["env"], "env": {"REGION": "eu", "LANG": "C", "ECRON_RUN_ID": "forged"}});
    let done = bench.exec(spec).await;
    let env: BTreeMap<&str, &str> =
        done.succeeded().lines().filter_map(|line| line.split_once('=')).collect();
    let base = ["PATH", "HOME", "LANG", "REGION"];
    let others: Vec<_> =
        env.keys().filter(|name| !base.contains(name) && !name.starts_with("ECRON_")).collect();
    assert_eq!(others, [&""; 0]);
    assert_eq!((env["REGION"], env["LANG"]), ("eu", "C"));
    assert_eq!(env["ECRON_RUN_ID"], "billing/nightly@2026-11-22T06:45:00Z");
    assert_eq!(env["ECRON_DUE_AT"], "2026-11-22T06:45:00Z");
    assert_eq!(
        (env["ECRON_ATTEMPT"], env["ECRON_JOB"], env["ECRON_QUEUE"]),
        ("1", "billing/nightly", "billing/work")
    );
}

#[tokio::test]
async fn stdin_is_written_whole_and_closed() {
    let bench = Bench::new(true);
    let text = "line\n".repeat(100_000);
    let done = bench.exec(json!({"command": ["wc", "-c"], "stdin": text})).await;
    assert_eq!(done.succeeded().trim(), "500000");
    // One that doesn't read it isn't disturbed, and one without any reads nothing.
    assert_eq!(bench.exec(json!({"command": ["true"], "stdin": text})).await.succeeded(), "");
    assert_eq!(bench.exec(json!({"command": ["cat"]})).await.succeeded(), "");
}

#[tokio::test]
async fn a_command_runs_in_its_folder() {
    let bench = Bench::new(true);
    let done = bench.exec(json!({"command": ["pwd"], "workingDir": "/usr"})).await;
    assert_eq!(done.succeeded(), "/usr\n");
    let done = bench.exec(json!({"command": ["pwd"], "workingDir": "/no/such/folder"})).await;
    assert_eq!(done.given_up(), "there is no folder /no/such/folder");
}

#[tokio::test]
async fn an_exit_code_is_a_failure_with_the_last_line_of_stderr() {
    let bench = Bench::new(true);
    let done = bench.shell("echo out; echo first >&2; echo 'no stock' >&2; echo >&2; exit 3").await;
    assert_eq!(done.retried(), "exit code 3: no stock");
    assert_eq!(done.answer, Answer::Nak(Duration::from_secs(10)));
    for line in ["out\n", "first\n", "no stock\n"] {
        assert!(done.output().contains(line), "{}", done.output());
    }
    assert_eq!(bench.shell("exit 4").await.retried(), "exit code 4");
}

#[tokio::test]
async fn a_signal_is_named() {
    let bench = Bench::new(true);
    assert_eq!(bench.shell("kill -SEGV $$").await.retried(), "killed by SIGSEGV (signal 11)");
    assert_eq!(
        bench.shell("echo oom >&2; kill -KILL $$").await.retried(),
        "killed by SIGKILL (signal 9): oom"
    );
}

#[tokio::test]
async fn what_cannot_be_run_is_given_up_at_once() {
    let bench = Bench::new(true);
    let given_up = async |spec| bench.exec(spec).await.given_up().to_owned();
    let path = json!({"command": ["no-such-command"], "env": {"PATH": "/bin:/usr/bin"}});
    assert_eq!(given_up(path).await, "there is no command \"no-such-command\" in PATH=/bin:/usr/bin");
    let error = given_up(json!({"command": ["/no/such/file"]})).await;
    assert!(error.starts_with("failed to find /no/such/file: No such file"), "{error}");
    assert_eq!(given_up(json!({"command": ["/etc/passwd"]})).await, "/etc/passwd isn't an executable file");
    assert_eq!(given_up(json!({})).await, "exec needs either a command or a shell line");
    let error = given_up(json!({"command": ["true"], "sudo": true})).await;
    assert!(error.starts_with("failed to read the command: unknown field `sudo`"), "{error}");
}

#[tokio::test]
async fn a_script_needs_an_interpreter_that_is_there_or_none() {
    let (bench, folder) = (Bench::new(true), tempfile::tempdir().unwrap());
    let script = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        file
    };
    let lost = script("lost", "#!/no/such/interpreter\n");
    let done = bench.exec(json!({"command": [lost]})).await;
    assert!(done.retried().starts_with("exit code 126: failed to run /"), "{done:?}");
    let bare = script("bare", "echo $1\n");
    assert_eq!(bench.exec(json!({"command": [bare, "hi"]})).await.succeeded(), "hi\n");
    let by_path = json!({"command": ["bare", "hi"], "env": {"PATH": folder.path()}});
    assert_eq!(bench.exec(by_path).await.succeeded(), "hi\n");
    assert_eq!(
        bench.exec(json!({"command": ["./bare", "hi"], "workingDir": folder.path()})).await.succeeded(),
        "hi\n"
    );
}

#[tokio::test]
async fn the_whole_group_ends_at_the_timeout() {
    let bench = Bench::new(true);
    let line = "sleep 1000 & echo $!; (sleep 1000 & echo $!; wait) & echo $$; wait";
    let done = bench.carry_out(soon(500), &json!({ "shell": line })).await;
    assert_eq!(done.report.end.outcome, Outcome::TimedOut, "{done:?}");
    assert_eq!(done.retried(), "not done within its timeout of 500ms");
    let pids: Vec<&str> = done.output().lines().collect();
    assert_eq!(pids.len(), 3, "{done:?}");
    for pid in pids {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn a_command_may_tidy_up_when_it_is_told_to_stop() {
    let bench = Bench::new(true);
    let line = "trap 'echo tidied up; exit 0' TERM; echo started; while :; do sleep 0.05; done";
    let done = bench.carry_out(soon(500), &json!({ "shell": line })).await;
    assert_eq!(done.report.end.outcome, Outcome::TimedOut);
    assert!(done.output().starts_with("started\n") && done.output().contains("tidied up\n"), "{done:?}");
}

#[tokio::test]
async fn one_that_does_not_listen_is_killed() {
    let bench = Bench::new(true);
    let line = "trap '' TERM; echo $$; sleep 1000 & echo $!; while :; do sleep 0.05; done";
    let done = bench.carry_out(soon(500), &json!({ "shell": line })).await;
    assert_eq!(done.report.end.outcome, Outcome::TimedOut, "{done:?}");
    for pid in done.output().lines() {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn a_background_process_that_holds_the_pipe_does_not_hold_the_run() {
    let bench = Bench::new(true);
    let began = tokio::time::Instant::now();
    let done = bench.shell("sleep 1000 & echo $!").await;
    assert!(began.elapsed() < Duration::from_secs(20));
    let pid = done.succeeded().trim();
    // It was left alone, as cron would have.
    assert!(alive(pid));
    assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
}

#[tokio::test]
async fn output_is_kept_up_to_the_limit() {
    let bench = Bench::new(true);
    let done = bench.shell("echo begin; yes | head -c 20000000; echo end").await;
    let output = done.succeeded();
    assert!(output.len() <= OUTPUT_BYTES_MAX && output.len() > OUTPUT_BYTES_MAX / 2, "{}", output.len());
    assert!(output.starts_with("begin\ny\n") && output.ends_with("y\nend\n"));
    assert!(output.contains("bytes left out"));
    assert_eq!(bench.shell("printf '\\377abc'").await.succeeded(), "\u{fffd}abc");
}

#[tokio::test]
async fn no_command_runs_where_it_is_not_allowed() {
    let bench = Bench::new(false);
    let done = bench.shell("touch /tmp/ecron-must-not-exist").await;
    assert_eq!(done.given_up(), "this executor runs no commands; start it with --allow-exec");
}

#[tokio::test]
async fn no_command_runs_for_a_publisher() {
    let bench = Bench::new(true);
    let done = bench.carry_out(ad_hoc(order(WorkKind::Exec)), &json!({"command": ["true"]})).await;
    assert_eq!(done.given_up(), "a command must come from a job, not from a publisher");
}

#[tokio::test]
async fn a_payload_is_for_somebody_else() {
    let done = Bench::new(true).carry_out(order(WorkKind::Payload), &json!({"region": "eu"})).await;
    assert!(done.given_up().contains("a payload for a handler of your own"), "{done:?}");
}

#[tokio::test]
async fn a_user_is_taken_on_with_home_and_groups() {
    let bench = Bench::new(true);
    let done = bench.exec(json!({"command": ["true"], "user": "nobody-knows-me"})).await;
    assert_eq!(done.given_up(), "there is no user \"nobody-knows-me\" on this host");
    let done = bench.exec(json!({"command": ["true"], "user": "--help"})).await;
    assert_eq!(done.given_up(), "there is no user \"--help\" on this host");

    let line = "id -un; echo $HOME $LOGNAME; cat /proc/self/status | grep -i '^groups'; kill -TERM $$";
    let spec = json!({"shell": line, "user": "daemon", "workingDir": "/"});
    let done = bench.exec(spec).await;
    if !geteuid().is_root() {
        assert!(done.given_up().starts_with("to run as user daemon, the executor has to run as root"));
        return;
    }
    assert_eq!(done.retried(), "killed by SIGTERM (signal 15)");
    let lines: Vec<&str> = done.output().lines().collect();
    assert_eq!(lines[..2], ["daemon", "/usr/sbin daemon"]);
    assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["Groups:", "1"]);
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let bench = Bench::new(true);
    for _ in 0..20 {
        bench.shell("true & true & true").await.succeeded();
    }
    let _: Done = bench.carry_out(soon(100), &json!({"shell": "sleep 1000"})).await;
    let ours = std::process::id().to_string();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while zombies_of(&ours) > 0 {
        assert!(tokio::time::Instant::now() < deadline, "zombies are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn zombies_of(parent: &str) -> usize {
    let stats = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("stat"));
    let stats = stats.filter_map(|path| std::fs::read_to_string(path).ok());
    let is_one = |stat: &String| {
        let fields: Vec<&str> = stat.rsplit_once(") ").map_or(vec![], |(_, rest)| rest.split(' ').collect());
        fields.first() == Some(&"Z") && fields.get(1) == Some(&parent)
    };
    stats.filter(is_one).count()
}

#[tokio::test]
async fn exit_codes_say_whether_trying_again_can_help() {
    let bench = Bench::new(true);
    let spec = |code: u16| json!({"shell": format!("exit {code}"), "permanentExitCodes": ["2", "64-78"]});
    for code in [1, 3, 63, 79, 125] {
        assert_eq!(bench.exec(spec(code)).await.retried(), format!("exit code {code}"));
    }
    for code in [2, 64, 78, 126, 127] {
        assert_eq!(bench.exec(spec(code)).await.given_up(), format!("exit code {code}"));
    }
}

#[tokio::test]
async fn what_a_command_prints_is_logged_line_by_line() {
    let bench = Bench::new(true);
    let done = bench.shell("echo one; sleep 0.3; echo two >&2; sleep 0.3; printf 'three\\nand four'").await;
    assert!(done.succeeded().contains("three"));
    let logged = bench.bus.logged.lock().unwrap().clone();
    assert_eq!(logged, ["stdout one", "stderr two", "stdout three", "stdout and four"]);
}
