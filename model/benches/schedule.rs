//! The schedule module's hot functions, one by one. `cargo bench -p ecron-model --bench schedule`; with `-- --test` every
//! function runs once (smoke). The ratios against other crates are in `schedule_table.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail loudly, as tests may")]

use divan::{Bencher, black_box};
use ecron_model::schedule::{Dialect, Identity, Schedule, ScheduleSpec, no_calendars, parse_expression};
use ecron_model::time::Timestamp;

fn main() {
    divan::main();
}

const FROM: Timestamp = Timestamp::from_ms(1_795_330_000_000);

const EXPRESSIONS: [&str; 6] =
    ["* * * * *", "30 2 * * *", "*/15 9-17 * * 1-5", "0 0 13 * 5", "0 0 L,15W * 5#3", "0 0 0 29 2 ? 2196"];

fn compiled(expression: &str, zone: &str) -> Schedule {
    let spec = ScheduleSpec {
        cron: vec![expression.to_owned()],
        time_zone: Some(zone.to_owned()),
        ..ScheduleSpec::default()
    };
    let identity = Identity { job: "bench/job", created_at: FROM };
    Schedule::compile(&spec, &identity, &no_calendars).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[divan::bench(args = EXPRESSIONS)]
fn next_in_utc(bencher: Bencher, expression: &str) {
    let schedule = compiled(expression, "UTC");
    bencher.bench_local(|| schedule.next_after(black_box(FROM)));
}

#[divan::bench(args = EXPRESSIONS)]
fn next_in_berlin(bencher: Bencher, expression: &str) {
    let schedule = compiled(expression, "Europe/Berlin");
    bencher.bench_local(|| schedule.next_after(black_box(FROM)));
}

#[divan::bench(args = EXPRESSIONS)]
fn previous_in_berlin(bencher: Bencher, expression: &str) {
    let schedule = compiled(expression, "Europe/Berlin");
    bencher.bench_local(|| schedule.previous_before(black_box(FROM)));
}

#[divan::bench(args = EXPRESSIONS)]
fn parse(expression: &str) -> bool {
    parse_expression(black_box(expression), Dialect::Ecron, "bench/job").is_ok()
}

#[divan::bench(args = EXPRESSIONS)]
fn compile(bencher: Bencher, expression: &str) {
    bencher.bench_local(|| compiled(black_box(expression), "Europe/Berlin"));
}
