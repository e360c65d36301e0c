//! `ecron next`: when an expression is due. Pure: no server, no host zone files, and the clock is an argument.
//!
//! Standard output is a contract: one RFC 3339 instant a line, with the zone's offset, `Z` for UTC; `--explain` adds a
//! tab and the reason to each. Everything else goes to standard error.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use model::name::JobId;
use model::schedule::{
    Dialect, Exclusion, Fold, Gap, Identity, Reason, Schedule, ScheduleSpec, no_calendars, parse_duration,
};
use model::time::Timestamp;

/// How many instants that were left out `--explain` counts before a line.
const LEFT_OUT_SHOWN_MAX: usize = 1_000;
/// The most lines that one call prints.
const COUNT_MAX: u64 = 100_000;

const EXAMPLES: &str = "\
Examples:
  ecron next '30 2 * * 1-5' --time-zone Europe/Berlin
  ecron next '0 15 10 ? * 6#3' --dialect quartz --from 2026-01-01T00:00:00Z --count 3
  ecron next '@every 15m' --dialect kubernetes
  ecron next '30 2 * * *' --time-zone America/New_York --gap shift --fold both --explain
  ecron next '0 0 L * *' --previous";

/// Print when an expression is due; no server needed
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NextArgs {
    /// Cron expression, or a descriptor such as @daily or '@every 15m'
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    pub(crate) expression: String,
    /// Whose rules to read it by: unix, kubernetes, quartz or ecron
    #[arg(long, default_value_t, value_name = "DIALECT")]
    pub(crate) dialect: Dialect,
    /// IANA time zone whose civil time the expression means
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    pub(crate) time_zone: String,
    /// Instant to start from, itself not printed (RFC 3339) [default: now]
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Option<Timestamp>,
    /// How many instants to print
    #[arg(long, short = 'n', default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=COUNT_MAX))]
    pub(crate) count: u64,
    /// Go back in time instead of forward
    #[arg(long)]
    pub(crate) previous: bool,
    /// For times that don't exist: skip, next or shift [default: the dialect's]
    #[arg(long, value_name = "POLICY")]
    pub(crate) gap: Option<Gap>,
    /// For times that occur twice: first, second or both [default: the dialect's]
    #[arg(long, value_name = "POLICY")]
    pub(crate) fold: Option<Fold>,
    /// Job (namespace/name) that H and ~ choose their value for
    #[arg(long, default_value = "default/next", value_name = "JOB")]
    pub(crate) job: JobId,
    /// Leave these out: a date, a range such as 2026-12-24/2027-01-01; may be given several times
    #[arg(long, value_name = "DATES")]
    pub(crate) exclude: Vec<Exclusion>,
    /// Move all instants by the job's own share of this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) spread: Option<Duration>,
    /// Move each instant by its own share of this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) jitter: Option<Duration>,
    /// Say on each line why the instant is where it is, and put the expression into words on standard error
    #[arg(long)]
    pub(crate) explain: bool,
}

/// Why nothing, or not everything, was printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NextError {
    /// The input was wrong; every problem, one a line.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// Standard output couldn't be written.
    #[error("write the instants: {0}")]
    Output(#[from] io::Error),
}

impl NextError {
    /// The process's exit code: 2 for wrong input, 1 for a failure. A reader that left (`ecron next … | head -1`) is
    /// neither.
    #[must_use]
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => 1,
        }
    }
}

/// Prints the instants to `out`. `now` counts if `--from` isn't given.
///
/// # Errors
/// Refuses expressions, zones and instants that can't be read, and expressions that never occur.
pub(crate) fn run(args: &NextArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), NextError> {
    let from = args.from.unwrap_or(now);
    let schedule = compile(args, from, args.gap, args.exclude.clone())?;
    let others = if args.explain { Some(Others::of(args, from, &schedule)?) } else { None };
    if args.explain {
        #[expect(clippy::print_stderr, reason = "stdout is for instants only")]
        {
            eprintln!("{}", describe(args.dialect, &schedule));
        }
    }
    let mut at = from;
    for _ in 0..args.count {
        let step = if args.previous { schedule.previous_before(at) } else { schedule.next_after(at) };
        let Some(due) = step else { break };
        let instant = schedule.zone().show(due);
        match &others {
            Some(others) => {
                writeln!(out, "{instant}\t{}", why(&schedule, others, at.min(due), at.max(due), due))?;
            }
            None => writeln!(out, "{instant}")?,
        }
        at = due;
    }
    out.flush()?;
    Ok(())
}

/// The schedule as it would be without what `--explain` tells about.
struct Others {
    not_excluded: Schedule,
    /// Fixed times that don't exist, if the schedule skips them.
    not_skipped: Option<Schedule>,
}

impl Others {
    fn of(args: &NextArgs, from: Timestamp, schedule: &Schedule) -> Result<Self, NextError> {
        let skips = matches!(schedule.jump_policy(), Some((Gap::Skip, _)));
        let shifted = skips.then(|| compile(args, from, Some(Gap::Shift), args.exclude.clone()));
        Ok(Self {
            not_excluded: compile(args, from, args.gap, Vec::new())?,
            not_skipped: shifted.transpose()?,
        })
    }
}

fn compile(
    args: &NextArgs,
    from: Timestamp,
    gap: Option<Gap>,
    exclude: Vec<Exclusion>,
) -> Result<Schedule, NextError> {
    let spec = ScheduleSpec {
        cron: vec![args.expression.clone()],
        dialect: Some(args.dialect),
        time_zone: Some(args.time_zone.clone()),
        gap,
        fold: args.fold,
        exclude,
        spread: args.spread,
        jitter: args.jitter,
        ..ScheduleSpec::default()
    };
    // `@every` counts from its anchor, and here that is the instant that was asked about.
    let identity = Identity { job: &args.job.to_string(), created_at: from };
    Schedule::compile(&spec, &identity, &no_calendars).map_err(|problems| {
        NextError::Refused(problems.into_iter().map(|problem| problem.to_string()).collect())
    })
}

fn describe(dialect: Dialect, schedule: &Schedule) -> String {
    let policy = match schedule.jump_policy() {
        Some((gap, fold)) => format!("gap {gap}, fold {fold}"),
        None => "follows elapsed time".to_owned(),
    };
    format!("{} (dialect {dialect}, {policy})", schedule.describe())
}

/// The reasons behind an instant, and what was left out between it and the line before.
fn why(schedule: &Schedule, others: &Others, low: Timestamp, high: Timestamp, due: Timestamp) -> String {
    let mut reasons: Vec<String> = schedule.reasons(due).iter().map(ToString::to_string).collect();
    let left_out = |all: &Schedule| {
        std::iter::successors(all.next_after(low), |&at| all.next_after(at))
            .take_while(|&at| at < high)
            .take(LEFT_OUT_SHOWN_MAX)
            .filter(|&at| !schedule.names(at))
            .collect::<Vec<_>>()
    };
    if let Some(not_skipped) = &others.not_skipped {
        let missing = |&at: &Timestamp| match not_skipped.reasons(at).into_iter().next() {
            Some(Reason::Gap { missing, .. }) => Some(missing),
            _ => None,
        };
        let skipped: Vec<String> = left_out(not_skipped).iter().filter_map(missing).collect();
        reasons.extend(match skipped.as_slice() {
            [] => None,
            [one] => Some(format!("gap skip: left out {one}, which doesn't exist")),
            [one, ..] => {
                Some(format!("gap skip: left out {} times from {one}, which don't exist", skipped.len()))
            }
        });
    }
    match left_out(&others.not_excluded).len() {
        0 => {}
        LEFT_OUT_SHOWN_MAX => {
            reasons.push(format!("exclude: {LEFT_OUT_SHOWN_MAX} or more left out before it"));
        }
        excluded => reasons.push(format!("exclude: {excluded} left out before it")),
    }
    if reasons.is_empty() { "as written".to_owned() } else { reasons.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        next: NextArgs,
    }

    fn next(line: &[&str]) -> Result<String, NextError> {
        let args = Line::try_parse_from([&["next"], line].concat()).expect("clap accepts it").next;
        let mut out = Vec::new();
        run(&args, "2026-01-01T00:00:00Z".parse().unwrap(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn one_instant_a_line_and_nothing_else() {
        assert_eq!(
            next(&[
                "30 2 * * *",
                "--time-zone",
                "Europe/Berlin",
                "--from",
                "2026-03-28T12:00:00+01:00",
                "--count",
                "2"
            ])
            .unwrap(),
            "2026-03-29T03:00:00+02:00\n2026-03-30T02:30:00+02:00\n"
        );
        assert_eq!(
            next(&["@every 15m", "--dialect", "kubernetes", "-n1"]).unwrap(),
            "2026-01-01T00:15:00Z\n"
        );
    }

    #[test]
    fn previous_goes_back() {
        assert_eq!(next(&["0 0 L * *", "--previous", "-n", "1"]).unwrap(), "2025-12-31T00:00:00Z\n");
    }

    #[test]
    fn explain_says_why() {
        let from =
            ["--from", "2026-03-28T12:00:00+01:00", "--time-zone", "Europe/Berlin", "-n2", "--explain"];
        assert_eq!(
            next(&[&["30 2 * * *"], from.as_slice()].concat()).unwrap(),
            "2026-03-29T03:00:00+02:00\tgap next: 2026-03-29 02:30:00 doesn't exist\n\
             2026-03-30T02:30:00+02:00\tas written\n"
        );
    }

    #[test]
    fn explain_says_what_a_gap_took() {
        let line = ["30 2 * * *", "--time-zone", "Europe/Berlin", "--gap", "skip", "--explain"];
        let (from, to) = ("2026-03-28T12:00:00+01:00", "2026-03-30T12:00:00+02:00");
        let gap = "gap skip: left out 2026-03-29 02:30:00, which doesn't exist";
        let forward = next(&[line.as_slice(), &["-n2", "--from", from]].concat()).unwrap();
        let expected = format!("2026-03-30T02:30:00+02:00\t{gap}\n2026-03-31T02:30:00+02:00\tas written\n");
        assert_eq!(forward, expected);
        let back = next(&[line.as_slice(), &["-n2", "--from", to, "--previous"]].concat()).unwrap();
        let expected = format!("2026-03-30T02:30:00+02:00\tas written\n2026-03-28T02:30:00+01:00\t{gap}\n");
        assert_eq!(back, expected);
    }

    #[test]
    fn explain_tells_elapsed_time_from_a_policy() {
        let line = ["*/30 * * * *", "--time-zone", "Europe/Berlin", "--from", "2026-10-25T02:30:00+02:00"];
        let explained = next(&[line.as_slice(), &["-n1", "--explain"]].concat()).unwrap();
        assert_eq!(
            explained,
            "2026-10-25T02:00:00+01:00\tfold, elapsed time: 2026-10-25 02:00:00 occurs twice, this is the second\n"
        );
    }

    #[test]
    fn explain_counts_what_was_left_out() {
        let line =
            ["@daily", "--exclude", "2026-01-02/2026-01-03", "--exclude", "2026-01-05", "-n2", "--explain"];
        assert_eq!(
            next(&line).unwrap(),
            "2026-01-04T00:00:00Z\texclude: 2 left out before it\n\
             2026-01-06T00:00:00Z\texclude: 1 left out before it\n"
        );
        let moved = next(&["@daily", "--jitter", "10m", "--spread", "1h", "-n1", "--explain"]).unwrap();
        assert!(moved.contains("spread: ") && moved.contains("jitter: "), "{moved}");
    }

    #[test]
    fn wrong_input_exits_with_two() {
        for line in [
            ["0 0 31 2 *", "--dialect", "unix"],
            ["0 0 * * 7", "--dialect", "kubernetes"],
            ["0 0 * * *", "--time-zone", "Mars/Olympus"],
        ] {
            assert_eq!(next(&line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn an_end_is_no_failure() {
        assert_eq!(next(&["0 0 0 1 1 ? 2027"]).unwrap(), "2027-01-01T00:00:00Z\n");
    }
}
