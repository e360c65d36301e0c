//! Whole crontabs: small equivalents of what people and packages write, and text that is no crontab at all.

use model::misfire::CatchUpPolicy;
use model::schedule::Dialect;
use model::spec::Work;
use proptest::prelude::*;

use super::*;
use crate::import::to_yaml;
use crate::yaml;

fn options(file_name: &str) -> Options {
    Options {
        format: Format::Auto,
        file_name: file_name.into(),
        namespace: Name::default_name(),
        default_zone: Some("Europe/Berlin".into()),
    }
}

fn exec(import: &Import, name: &str) -> ExecSpec {
    let found = import.jobs.iter().find(|job| job.spec.id.name.as_str() == name);
    match found.map(|job| &job.spec.work) {
        Some(Work::Exec(exec)) => exec.clone(),
        _ => panic!("no {name} in {:?}", names(import)),
    }
}

fn names(import: &Import) -> Vec<(usize, &str)> {
    import.jobs.iter().map(|job| (job.line, job.spec.id.name.as_str())).collect()
}

fn notes(import: &Import) -> Vec<String> {
    import.notes.iter().map(ToString::to_string).collect()
}

/// The jobs of the YAML that an import becomes are the imported ones.
#[track_caller]
fn reads_back(import: &Import) {
    let yaml = to_yaml(import);
    let parsed = yaml::parse(yaml.as_bytes());
    assert_eq!(parsed.problems, [], "{yaml}");
    let jobs: Vec<JobSpec> = parsed
        .documents
        .iter()
        .map(|document| match decode_job(document, Timestamp::from_ms(0)) {
            Ok(job) => job,
            Err(problems) => panic!("{problems:#?}\n{yaml}"),
        })
        .collect();
    let imported: Vec<JobSpec> = import.jobs.iter().map(|job| job.spec.clone()).collect();
    assert_eq!(jobs, imported, "{yaml}");
}

#[test]
fn a_users_crontab() {
    let import =
        import(include_bytes!("../../../tests/data/user.crontab"), &options("/home/ada/user.crontab"));
    assert_eq!(
        names(&import),
        [
            (7, "fetch-feeds"),
            (8, "artisan-report-send"),
            (9, "tar-czf"),
            (10, "backup-sh"),
            (11, "backup-sh-2"),
            (15, "mail"),
        ]
    );
    let notes = notes(&import);
    for (index, words) in [
        (0, "line 4: note: no mail is sent"),
        (1, "line 12: not imported: @reboot is not supported"),
        (2, "line 18: not imported: minute field"),
        (3, "line 19: not imported: has no command"),
        (4, "line 20: not imported: it never occurs"),
    ] {
        assert!(notes[index].starts_with(words), "{words}: {notes:#?}");
    }
    assert_eq!(notes.len(), 5, "{notes:#?}");
    let tar = exec(&import, "tar-czf");
    assert_eq!(tar.command, ["/bin/bash", "-c", "tar czf \"/backup/home-$(date +%Y-%m).tgz\" /home/ada"]);
    assert_eq!(tar.env["PATH"], "/home/ada/bin:/usr/bin:/bin");
    assert_eq!(tar.user, None);
    let mail = exec(&import, "mail");
    assert_eq!(mail.command[2], "mail -s \"Standup\" team@example.org");
    assert_eq!(mail.stdin.as_deref(), Some("Good morning,\n\nstandup in 10 minutes.\n"));
    let zones: Vec<Option<&str>> =
        import.jobs.iter().map(|job| job.spec.schedule.time_zone.as_deref()).collect();
    assert_eq!(zones[4..], [Some("Europe/Berlin"), Some("Asia/Tokyo")]);
    reads_back(&import);
}

#[test]
fn a_job_behaves_as_under_cron() {
    let import = import(b"@daily x\n", &options("c"));
    let job = &import.jobs[0].spec;
    assert_eq!(job.retry.attempts, 1);
    assert_eq!(job.catch_up.policy, CatchUpPolicy::None);
    assert_eq!(job.timeout, TIMEOUT_MAX);
    assert_eq!(job.queue.to_string(), "default/exec");
    assert_eq!(job.schedule.dialect, Some(Dialect::Unix));
    assert_eq!(job.schedule.cron, ["@daily"]);
    assert_eq!(job.labels["ecron.source"], "crontab");
    assert_eq!((&*job.labels["ecron.source-line"], &*job.labels["ecron.source-file"]), ("1", "c"));
    assert_eq!(exec(&import, "x").shell.as_deref(), Some("x"));
}

#[test]
fn the_systems_crontab() {
    let import = import(include_bytes!("../../../tests/data/crontab"), &options("copy-of-crontab"));
    assert_eq!(
        names(&import),
        [(6, "run-parts-cron-hourly"), (7, "run-parts-cron-daily"), (8, "run-parts-cron-weekly")]
    );
    assert_eq!(notes(&import).len(), 1);
    assert!(notes(&import)[0].contains("system crontab"));
    assert_eq!(exec(&import, "run-parts-cron-daily").user.as_deref(), Some("root"));
    assert_eq!(import.jobs[2].spec.schedule.cron, ["47 6 * * 7"]);
    reads_back(&import);
}

#[test]
fn what_packages_install() {
    let import = import(include_bytes!("../../../tests/data/cron.d/tidy"), &options("/etc/cron.d/tidy"));
    assert_eq!(
        names(&import).into_iter().map(|(_, name)| name).collect::<Vec<_>>(),
        ["tidy-sample", "sessions", "check", "renew", "filter-clean", "watch", "scrub-all", "quiet"]
    );
    assert_eq!(exec(&import, "sessions").user.as_deref(), Some("www-data"));
    assert!(exec(&import, "check").shell.is_some_and(|line| line.contains("$(date +%d) -le 7")));
    let notes = notes(&import);
    assert!(notes.iter().any(|note| note.starts_with("line 9: not imported: @reboot")), "{notes:#?}");
    assert!(notes.iter().any(|note| note.starts_with("line 12: note: the - in front")), "{notes:#?}");
    reads_back(&import);
}

#[test]
fn odd_bytes_line_ends_and_zones() {
    let import = import(include_bytes!("../../../tests/data/odd.crontab"), &options("odd"));
    assert_eq!(names(&import), [(4, "echo"), (5, "two-words"), (10, "last-line-without-end")]);
    let notes = notes(&import);
    for words in [
        "note: has Windows line ends",
        "line 1: note: RANDOM_DELAY becomes",
        "line 2: note: TZ is passed on",
        "line 4: warning: is not UTF-8",
        "line 5: warning: ends with a backslash",
        "line 6: not imported: is neither",
        "line 7: not imported: CRON_TZ: ",
        "line 8: not imported: its times are in the unknown zone of line 7",
        "line 10: note: the last line has no end",
    ] {
        assert!(notes.iter().any(|note| note.starts_with(words)), "{words}: {notes:#?}");
    }
    assert_eq!(notes.len(), 9, "{notes:#?}");
    let echo = exec(&import, "echo");
    assert_eq!(echo.shell.as_deref(), Some("echo caf\u{fffd}"));
    assert_eq!(echo.working_dir.as_deref(), Some("/srv"));
    assert_eq!(echo.env["TZ"], "Europe/Oslo");
    assert!(!echo.env.contains_key("RANDOM_DELAY"));
    let job = &import.jobs[0].spec.schedule;
    assert_eq!(
        (job.time_zone.as_deref(), job.spread.map(|spread| spread.as_secs())),
        (Some("Europe/Berlin"), Some(1800))
    );
    assert_eq!(import.jobs[2].spec.schedule.time_zone.as_deref(), Some("UTC"));
    reads_back(&import);
}

#[test]
fn a_format_that_was_chosen_is_kept() {
    let system = Options { format: Format::System, ..options("x") };
    let read = import(b"* * * * * php run\n* * * * * alone\n", &system);
    assert_eq!(exec(&read, "run").user.as_deref(), Some("php"));
    assert_eq!(notes(&read), ["line 2: not imported: expected a user's name and a command behind the times"]);
    let user = Options { format: Format::User, ..options("/etc/crontab") };
    assert_eq!(exec(&import(b"* * * * * root run\n", &user), "root-run").user, None);
}

#[test]
fn files_that_are_no_crontab_are_one_note() {
    for (name, text, words) in [
        ("/etc/cron.daily/x", &b"#!/bin/sh\nset -e\n"[..], "is a script"),
        ("/etc/anacrontab", b"1 5 cron.daily run-parts\n", "is an anacrontab"),
        ("huge", &vec![b'#'; CRONTAB_BYTES_MAX + 1], "CRONTAB_BYTES_MAX"),
    ] {
        let import = import(text, &options(name));
        assert!(import.jobs.is_empty() && import.is_partial());
        assert_eq!(import.notes.len(), 1);
        assert!(import.notes[0].message.contains(words), "{:?}", import.notes);
    }
    assert_eq!(import(b"", &options("empty")), Import { source: "empty".into(), ..Import::default() });
}

#[test]
fn bounds_hold() {
    let variables: String = (0..300).map(|n| format!("V{n}=x\n")).collect();
    let import_of = |text: &str| import(text.as_bytes(), &options("c"));
    let many = import_of(&format!("{variables}* * * * * x\n"));
    assert_eq!(exec(&many, "x").env.len(), 256);
    assert_eq!(many.notes.len(), 44);
    let long = import_of(&format!("* * * * * echo {}\n* * * * * y\n", "x".repeat(300_000)));
    assert_eq!(names(&long), [(2, "y")]);
    assert!(long.notes[0].message.contains("PAYLOAD_BYTES_MAX"), "{:?}", long.notes);
    let fits = import_of(&format!("* * * * * echo {}\n", "x".repeat(100_000)));
    assert_eq!(names(&fits), [(1, "echo")]);
    reads_back(&fits);
    let nul = import_of("* * * * * a\0b\nA=\0\n");
    assert_eq!((nul.jobs.len(), nul.notes.len()), (0, 2));
}

#[test]
fn the_yaml_is_made_to_be_read() {
    let import = import(include_bytes!("../../../tests/data/user.crontab"), &options("user.crontab"));
    let yaml = to_yaml(&import);
    let expected = include_str!("../../../tests/data/user.yaml");
    assert_eq!(yaml, expected, "the import has changed; if it should, keep the new text:\n{yaml}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_bytes_are_imported_or_said(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        reads_back(&import(&bytes, &options("c")));
    }

    #[test]
    fn any_crontab_like_text_reads_back(
        text in "((@daily|@reboot|[*0-9]{1,2} [*/0-9]{1,3} \\* (\\*|JAN) (\\*|mon-fri)|SHELL=|CRON_TZ=|-|A = |HOME=/)[ \t]{0,2}[ -~\u{80}-\u{ff}]{0,40}\r?\n){0,8}",
        system: bool,
    ) {
        let format = if system { Format::System } else { Format::User };
        let import = import(text.as_bytes(), &Options { format, ..options("c") });
        // Every line is a job, a note, a variable or blank.
        for (index, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let is_told = import.jobs.iter().any(|job| job.line == index + 1)
                || import.notes.iter().any(|note| note.line == Some(index + 1));
            prop_assert!(is_told || matches!(classify(line), Line::Blank | Line::Variable { .. }), "{:?}", line);
        }
        reads_back(&import);
    }
}
