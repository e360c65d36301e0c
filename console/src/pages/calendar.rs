//! A job's year, day by day: what became of its runs, as far as they are remembered, and how many are planned.

use std::collections::BTreeMap;

use maud::{Markup, PreEscaped, html};
use model::time::{HOUR_MS, Timestamp};
use planner::api::types::{DayView, RunView};

const DAY_MS: i64 = 24 * HOUR_MS;
/// Weeks behind and ahead of this one.
const WEEKS_BEHIND: i64 = 17;
const WEEKS: i64 = 53;
const CELL: i64 = 13;

#[derive(Clone, Copy, Debug, Default)]
struct Day {
    ran: u32,
    failed: u32,
}

pub(super) fn year(now: Timestamp, runs: &[RunView], ahead: &[DayView]) -> Markup {
    let today = now.as_ms().div_euclid(DAY_MS);
    // The epoch was a Thursday; weeks begin on Mondays.
    let weekday = (today + 3).rem_euclid(7);
    let first = today - weekday - WEEKS_BEHIND * 7;
    let day_of = |text: &str| text.parse::<Timestamp>().ok().map(|at| at.as_ms().div_euclid(DAY_MS));
    let mut behind: BTreeMap<i64, Day> = BTreeMap::new();
    for run in runs {
        let Some(at) = day_of(&run.due_at) else { continue };
        let day = behind.entry(at).or_default();
        day.ran += 1;
        day.failed += u32::from(run.state == "dead-lettered");
    }
    let planned: BTreeMap<i64, u32> = ahead
        .iter()
        .filter_map(|day| Some((day_of(&format!("{}T00:00:00Z", day.day))?, day.count)))
        .collect();
    let most = behind.values().map(|day| day.ran).chain(planned.values().copied()).max().unwrap_or(1).max(1);
    let mut cells = String::new();
    for at in first..first + WEEKS * 7 {
        let (x, y) = ((at - first) / 7 * CELL, (at - first) % 7 * CELL);
        let date = Timestamp::from_ms(at * DAY_MS).to_string();
        let date = &date[..10];
        let known = behind.get(&at).copied();
        let planned = planned.get(&at).copied().unwrap_or(0);
        let (mut class, title) = match known {
            Some(day) if day.failed > 0 => {
                ("no".to_owned(), format!("{date}: {} runs, {} dead-lettered", day.ran, day.failed))
            }
            Some(day) => (level(day.ran, most), format!("{date}: {} runs", day.ran)),
            None if planned > 0 => ("ahead".to_owned(), format!("{date}: {planned} planned")),
            None => ("none".to_owned(), String::new()),
        };
        if at == today {
            class.push_str(" today");
        }
        let title = if title.is_empty() { title } else { format!("<title>{title}</title>") };
        cells.push_str(&format!(
            r#"<rect class="{class}" x="{x}" y="{y}" width="10" height="10" rx="2">{title}</rect>"#
        ));
    }
    let months = (0..WEEKS).filter_map(|week| {
        let text = Timestamp::from_ms((first + week * 7) * DAY_MS).to_string();
        let is_first_week = text[8..10].parse::<u32>().is_ok_and(|day| day <= 7);
        is_first_week.then(|| (week * CELL, month(&text[5..7])))
    });
    html! {
        svg .chart viewBox="0 -14 690 108" role="img" aria-label="The year, a week a column: filled, runs that are remembered; outlined, days with planned runs" {
            @for (x, name) in months { text x=(x) y="-4" { (name) } }
            (PreEscaped(cells))
        }
    }
}

fn level(number: u32, most: u32) -> String {
    format!("l{}", (number * 4).div_ceil(most).clamp(1, 4))
}

fn month(digits: &str) -> &'static str {
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    digits.parse::<usize>().ok().and_then(|month| NAMES.get(month.wrapping_sub(1))).copied().unwrap_or("")
}
