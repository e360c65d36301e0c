//! Golden tables: one row a case, the source named in each row. See `golden/*.tsv`.
//!
//! Columns: op, dialect, options (`zone=`, `gap=`, `fold=`), expression, from, expected, source. `next` and `prev` list
//! successive occurrences with the zone's offset, and `-` says that there is none; `names` and `lacks` ask about one
//! instant; `refused` gives a piece of the message; `valid` just compiles. `\n` and `\t` in an expression are a newline and a tab.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail loudly, as tests may")]

use ecron_model::schedule::{Identity, Schedule, ScheduleProblem, ScheduleSpec, no_calendars};
use ecron_model::time::Timestamp;

struct Row<'a> {
    op: &'a str,
    expression: &'a str,
    from: &'a str,
    expected: &'a str,
    spec: ScheduleSpec,
}

fn row(line: &str) -> Row<'_> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [op, dialect, options, expression, from, expected, _source] = columns[..] else {
        panic!("seven columns expected: {line}")
    };
    let expression = if expression == "(empty)" { "" } else { expression };
    let mut spec = ScheduleSpec {
        cron: vec![expression.replace("\\n", "\n").replace("\\t", "\t")],
        dialect: Some(dialect.parse().unwrap()),
        ..ScheduleSpec::default()
    };
    for option in options.split(' ').filter(|option| *option != "-") {
        match option.split_once('=').unwrap() {
            ("zone", name) => spec.time_zone = Some(name.to_owned()),
            ("gap", policy) => spec.gap = Some(policy.parse().unwrap()),
            ("fold", policy) => spec.fold = Some(policy.parse().unwrap()),
            other => panic!("unknown option {other:?}"),
        }
    }
    Row { op, expression, from, expected, spec }
}

fn compile(row: &Row<'_>) -> Result<Schedule, Vec<ScheduleProblem>> {
    let created_at = row.from.parse().unwrap_or_default();
    Schedule::compile(&row.spec, &Identity { job: "golden/row", created_at }, &no_calendars)
}

/// What is wrong with a row; `None` if it passes.
fn judge(line: &str) -> Option<String> {
    let row = row(line);
    let compiled = compile(&row);
    if row.op == "refused" {
        return match compiled {
            Ok(_) => Some("accepted".to_owned()),
            Err(problems) if problems.iter().any(|problem| problem.message.contains(row.expected)) => None,
            Err(problems) => Some(format!("{problems:?}")),
        };
    }
    let schedule = match compiled {
        Ok(schedule) => schedule,
        Err(problems) => return Some(format!("{problems:?}")),
    };
    let from = || row.from.parse::<Timestamp>().unwrap();
    match row.op {
        "valid" => None,
        "names" => (!schedule.names(from())).then(|| "not named".to_owned()),
        "lacks" => schedule.names(from()).then(|| "named".to_owned()),
        op => {
            let mut at = Some(from());
            let mut found = Vec::new();
            for _ in row.expected.split(' ') {
                let step =
                    |at| if op == "next" { schedule.next_after(at) } else { schedule.previous_before(at) };
                at = at.and_then(step);
                found.push(at.map_or_else(|| "-".to_owned(), |due| schedule.zone().show(due)));
            }
            let found = found.join(" ");
            (found != row.expected).then(|| format!("{found}\n  instead of {}", row.expected))
        }
    }
}

fn table(name: &str, text: &str, least: usize) {
    let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert!(rows.len() >= least, "{name}: only {} rows", rows.len());
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|line| judge(line).map(|why| format!("{line}\n  {why} ({})", row(line).expression)))
        .collect();
    assert!(wrong.is_empty(), "{name}: {} of {} rows fail\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn unix_follows_cronie() {
    table("unix", include_str!("golden/unix.tsv"), 115);
}

#[test]
fn kubernetes_follows_robfig() {
    table("kubernetes", include_str!("golden/kubernetes.tsv"), 190);
}

#[test]
fn quartz_follows_quartz() {
    table("quartz", include_str!("golden/quartz.tsv"), 205);
}

#[test]
fn ecron_is_a_superset_with_policies() {
    table("ecron", include_str!("golden/ecron.tsv"), 100);
}
