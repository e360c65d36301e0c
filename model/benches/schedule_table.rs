//! Our schedule against the crates `cron` and `croner`, as the table of `docs/performance.md`.
//!
//! `cargo bench -p ecron-model --bench schedule_table` measures A B A B and prints a table; `-- --smoke` runs each
//! measurement briefly, to see that everything still works.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail loudly, as tests may")]

use std::hint::black_box;
use std::str::FromStr;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeZone, Utc};
use croner::parser::{CronParser, Seconds};
use ecron_model::schedule::{
    Dialect, Gap, Identity, Schedule, ScheduleProblem, ScheduleSpec, no_calendars, parse_expression,
};
use ecron_model::time::Timestamp;

/// Short rounds of A B A B, many of them: most fit between two interruptions, and the lowest tenth decides, so that a
/// busy machine disturbs both alike or not at all.
const ROUNDS: usize = 400;

const FROM: Timestamp = Timestamp::from_ms(1_795_330_000_000);

/// Plain schedules: five fields for us and croner, seven for `cron`.
const PLAIN: [(&str, &str, &str); 3] = [
    ("minutely", "* * * * *", "0 * * * * * *"),
    ("daily", "30 2 * * *", "0 30 2 * * * *"),
    ("office hours", "*/15 9-17 * * 1-5", "0 */15 9-17 * * 2-6 *"),
];

/// Accepted, and as far away or as hard to find as we could think of.
const WORST: [(&str, &str); 10] = [
    ("only in 2196", "0 0 0 29 2 ? 2196"),
    ("a fifth Monday on 29 February", "0 0 29 2 1#5"),
    ("29 February on a Sunday", "0 0 29 2 */7"),
    ("odd years and a leap day's neighbour", "0 0 0 L 2 */6 1971-2199/2"),
    ("weekday nearest to 31, Saturdays", "0 0 */31 * 6"),
    ("every special at once", "0 0 1W,15W,L-3,LW,L-5W * 1#1,2#2,5L"),
    ("a part that never matches", "0 0 31 2 1"),
    ("a special that never matches", "0 0 30W,31W 2 1#1"),
    ("the last day of the calendar", "59 59 23 31 12 ? 2199"),
    ("seconds of one minute a year", "*/7 59 23 29 2 *"),
];

/// As `WORST`, with `gap: skip`, and remembered after the first question: in Berlin no such time exists after 1980.
const SKIPPED: [(&str, &str); 2] = [
    ("the last time was in 1980", "30 2 * 3 7L"),
    ("the last time was in 1975", "0 30 2 ? 3 7L 1975,2027-2199"),
];

const IMPOSSIBLE: [(&str, &str); 6] = [
    ("31 February", "0 0 31 2 *"),
    ("31st of short months", "0 0 31 2,4,6,9,11 *"),
    ("weekday nearest to a missing day", "0 0 30W,31W 2 *"),
    (
        "weekdays on weekends",
        "0 0 1W,3W,5W,7W,9W,11W,13W,15W,17W,19W,21W,23W,25W,27W,LW,L-1W,L-2W,L-3W * */6",
    ),
    ("29 February of odd years", "0 0 0 29 2 ? 1971-2199/2"),
    ("30 days before a short month's end", "0 0 L-30 4,6,9,11 *"),
];

/// As `IMPOSSIBLE`, with `gap: skip`: only a search through all the years' gaps shows it.
const LEAPT_OVER: (&str, &str) = ("always in a gap", "0 30 2 ? 3 7L 2027-2199");

struct Bench {
    per_round: Duration,
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn clock() -> Instant {
    Instant::now()
}

impl Bench {
    /// Nanoseconds per call, from interleaved rounds.
    fn pair(&self, mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
        let mut times = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            times.0.push(self.round(&mut one));
            times.1.push(self.round(&mut other));
        }
        (undisturbed(times.0), undisturbed(times.1))
    }

    fn one(&self, mut call: impl FnMut()) -> f64 {
        undisturbed((0..ROUNDS).map(|_| self.round(&mut call)).collect())
    }

    fn round(&self, call: &mut impl FnMut()) -> f64 {
        let begun = clock();
        let mut calls = 0_u32;
        while begun.elapsed() < self.per_round {
            for _ in 0..16 {
                call();
            }
            calls += 16;
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    }
}

fn undisturbed(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 10]
}

fn compile(expression: &str, zone: &str) -> Result<Schedule, Vec<ScheduleProblem>> {
    compile_with(expression, zone, None)
}

fn compile_with(expression: &str, zone: &str, gap: Option<Gap>) -> Result<Schedule, Vec<ScheduleProblem>> {
    let spec = ScheduleSpec {
        gap,
        cron: vec![expression.to_owned()],
        dialect: Some(Dialect::Ecron),
        time_zone: Some(zone.to_owned()),
        ..ScheduleSpec::default()
    };
    Schedule::compile(&spec, &Identity { job: "bench/job", created_at: FROM }, &no_calendars)
}

fn accepted(expression: &str, zone: &str) -> Schedule {
    compile(expression, zone).unwrap_or_else(|problems| panic!("{expression}: {problems:?}"))
}

/// `cron` and `croner` in one zone, from one instant.
fn plain<Z: TimeZone>(bench: &Bench, zone: Z, name: &str)
where
    DateTime<Z>: croner::CronDateTime,
{
    let from = zone.timestamp_millis_opt(FROM.as_ms()).unwrap();
    for (what, ours, seven) in PLAIN {
        let schedule = accepted(ours, name);
        let theirs = cron::Schedule::from_str(seven).unwrap();
        let croner = CronParser::builder().seconds(Seconds::Disallowed).build().parse(ours).unwrap();
        let (our_ns, cron_ns) = bench.pair(
            || _ = black_box(schedule.next_after(black_box(FROM))),
            || _ = black_box(theirs.after(black_box(&from)).next()),
        );
        let croner_ns = bench.one(|| _ = black_box(croner.find_next_occurrence(black_box(&from), false)));
        println!(
            "| next, {what} `{ours}`, {name} | {our_ns:.0} ns | {cron_ns:.0} ns | {:.2} | {croner_ns:.0} ns |",
            our_ns / cron_ns
        );
    }
}

fn parsing(bench: &Bench) {
    for (what, ours, seven) in PLAIN {
        let (our_ns, cron_ns) = bench.pair(
            || _ = black_box(compile(black_box(ours), "Europe/Berlin")),
            || _ = black_box(cron::Schedule::from_str(black_box(seven))),
        );
        let (parse_ns, _) = bench
            .pair(|| _ = black_box(parse_expression(black_box(ours), Dialect::Ecron, "bench/job")), || {});
        println!(
            "| parse only, {what} `{ours}` | {parse_ns:.0} ns | {cron_ns:.0} ns | {:.2} | |",
            parse_ns / cron_ns
        );
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        let croner_ns = bench.one(|| _ = black_box(parser.parse(black_box(ours))));
        println!(
            "| compile, {what} `{ours}` | {our_ns:.0} ns | {cron_ns:.0} ns | {:.2} | {croner_ns:.0} ns |",
            our_ns / cron_ns
        );
    }
}

fn extremes(bench: &Bench) {
    println!("\n| expression | what | time |\n|---|---|---|");
    let worst = WORST.into_iter().map(|(what, expression)| (what, expression, None));
    let skipped = SKIPPED.into_iter().map(|(what, expression)| (what, expression, Some(Gap::Skip)));
    for (what, expression, gap) in worst.chain(skipped) {
        let schedule = compile_with(expression, "Europe/Berlin", gap)
            .unwrap_or_else(|problems| panic!("{expression}: {problems:?}"));
        // From the start of the calendar, from now, and from just behind an occurrence: the longest counts.
        let starts = [Timestamp::from_ms(0), FROM, schedule.next_after(FROM).unwrap_or(FROM)];
        let next = starts.map(|from| bench.one(|| _ = black_box(schedule.next_after(black_box(from)))));
        let previous =
            starts.map(|from| bench.one(|| _ = black_box(schedule.previous_before(black_box(from)))));
        let longest = next.into_iter().chain(previous).fold(0.0, f64::max);
        println!("| `{expression}` | next or previous: {what} | {:.1} µs |", longest / 1e3);
    }
    let impossible = IMPOSSIBLE.into_iter().map(|(what, expression)| (what, expression, None));
    let leapt_over = std::iter::once((LEAPT_OVER.0, LEAPT_OVER.1, Some(Gap::Skip)));
    for (what, expression, gap) in impossible.chain(leapt_over) {
        assert!(compile_with(expression, "Europe/Berlin", gap).is_err(), "{expression} is accepted");
        let ns = bench.one(|| _ = black_box(compile_with(black_box(expression), "Europe/Berlin", gap)));
        println!("| `{expression}` | refused: {what} | {:.1} µs |", ns / 1e3);
    }
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke" || argument == "--test");
    let bench =
        Bench { per_round: if smoke { Duration::from_micros(5) } else { Duration::from_micros(300) } };
    println!("| step | ours | `cron` | ratio | `croner` |\n|---|---|---|---|---|");
    plain(&bench, Utc, "UTC");
    plain(&bench, chrono_tz::Europe::Berlin, "Europe/Berlin");
    parsing(&bench);
    extremes(&bench);
}
