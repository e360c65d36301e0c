//! Pictures as SVG, drawn here. No inline style: classes and attributes only, so that the policy of `access::headers` holds.

use maud::{Markup, PreEscaped, html};
use model::time::{HOUR_MS, MINUTE_MS, Timestamp};
use planner::api::types::RunView;

use super::frame::drawn;
use super::parts::took;
use super::words::{count, duration};
use crate::pulse::{MINUTES, Minute};

const WIDTH: f64 = 720.0;

/// What ended in each minute of the last hour, and how late runs started.
pub(super) fn hour(minutes: &[Minute]) -> Markup {
    const HEIGHT: f64 = 84.0;
    let sum = |minute: &Minute| minute.succeeded + minute.failed + minute.other;
    let most = minutes.iter().map(sum).max().unwrap_or(0).max(1);
    let total: u32 = minutes.iter().map(sum).sum();
    let failed: u32 = minutes.iter().map(|minute| minute.failed).sum();
    let step = WIDTH / MINUTES as f64;
    let high = |number: u32| f64::from(number) / f64::from(most) * HEIGHT;
    let mut bars = String::new();
    for (at, minute) in minutes.iter().enumerate() {
        let mut y = HEIGHT;
        for (class, number) in [("ok", minute.succeeded), ("else", minute.other), ("no", minute.failed)] {
            if number > 0 {
                // Failures stay visible however few they are.
                let height = high(number).max(2.5);
                y -= height;
                bars.push_str(&format!(
                    r#"<rect class="{class}" x="{:.1}" y="{y:.1}" width="{:.1}" height="{height:.1}"/>"#,
                    at as f64 * step,
                    step - 2.0
                ));
            }
        }
    }
    let said = format!(
        "{total} runs ended in the last hour, {failed} of them dead-lettered; at most {most} in a minute"
    );
    html! {
        svg .chart viewBox="0 -14 720 118" role="img" aria-label=(said) {
            line .grid x1="0" x2="720" y1="0" y2="0" {}
            line .grid x1="0" x2="720" y1="84" y2="84" {}
            text x="0" y="-4" { (count(most.into())) " a minute" }
            (PreEscaped(bars))
            text x="0" y="100" { "1 h ago" }
            text x="720" y="100" text-anchor="end" { "now" }
        }
    }
}

/// The load of the minutes ahead: a step for each.
pub(super) fn load(from: Timestamp, minutes: &[u32], label: &str) -> Markup {
    const HEIGHT: f64 = 150.0;
    let most = minutes.iter().copied().max().unwrap_or(0).max(1);
    let step = WIDTH / minutes.len().max(1) as f64;
    let mut path = format!("M0 {HEIGHT}");
    let mut last = 0;
    for (at, number) in minutes.iter().enumerate() {
        if *number != last {
            let y = HEIGHT - f64::from(*number) / f64::from(most) * HEIGHT;
            path.push_str(&format!("H{}V{}", drawn(at as f64 * step).0, drawn(y).0));
            last = *number;
        }
    }
    path.push_str(&format!("H{WIDTH}V{HEIGHT}Z"));
    // A line for each third hour, at full hours.
    let hours = minutes.len() as i64 * MINUTE_MS / HOUR_MS;
    let every = if hours <= 36 { 3 } else { 24 };
    let first = from.plus_ms(HOUR_MS - 1).floor(HOUR_MS);
    let marks = (0..=hours).filter_map(|hour| {
        let at = first.plus_ms(hour * HOUR_MS);
        let of_day = at.as_ms() / HOUR_MS % 24;
        let x = at.ms_since(from) as f64 / MINUTE_MS as f64 * step;
        (of_day % every == 0 && x <= WIDTH).then(|| (x, of_day, at.to_string()))
    });
    html! {
        svg .chart viewBox="0 -16 720 190" role="img" aria-label=(label) {
            line .grid x1="0" x2="720" y1="0" y2="0" {}
            text x="0" y="-5" { (count(most.into())) " a minute" }
            @for (x, hour, at) in marks {
                line .grid x1=(drawn(x)) x2=(drawn(x)) y1="0" y2="150" {}
                text x=(drawn(x + 3.0)) y="166" { @if every == 24 { (at[5..10]) } @else { (format!("{hour:02}:00")) } }
            }
            path .load d=(path) {}
            line .grid x1="0" x2="720" y1="150" y2="150" {}
        }
    }
}

/// How late each run started, and how long it took, oldest first.
pub(super) fn course(runs: &[RunView]) -> Markup {
    let late: Vec<(i64, bool)> =
        runs.iter().rev().filter_map(|run| Some((run.lateness_ms?, is_bad(run)))).collect();
    let long: Vec<(i64, bool)> =
        runs.iter().rev().filter_map(|run| Some((took(run)?, is_bad(run)))).collect();
    html! {
        @if late.len() > 1 { (bars("Started late by", &late)) }
        @if long.len() > 1 { (bars("Took", &long)) }
    }
}

fn is_bad(run: &RunView) -> bool {
    run.state == "dead-lettered"
}

fn bars(name: &str, times: &[(i64, bool)]) -> Markup {
    const HEIGHT: f64 = 48.0;
    let most = times.iter().map(|(ms, _)| *ms).max().unwrap_or(0).max(1);
    let step = (WIDTH / times.len().max(1) as f64).min(16.0);
    let mut drawing = String::new();
    for (at, (ms, bad)) in times.iter().enumerate() {
        let height = (*ms.max(&0) as f64 / most as f64 * HEIGHT).max(1.0);
        let class = if *bad { "no" } else { "ok" };
        drawing.push_str(&format!(
            r#"<rect class="{class}" x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}"/>"#,
            at as f64 * step,
            HEIGHT - height,
            (step - 1.5).max(0.5)
        ));
    }
    let said = format!("{name}: at most {} in the last {} runs", duration(most), times.len());
    html! {
        svg .chart viewBox="0 -16 720 68" role="img" aria-label=(said) {
            text x="0" y="-4" { (name) ", at most " (duration(most)) }
            line .grid x1="0" x2="720" y1="48" y2="48" {}
            (PreEscaped(drawing))
        }
    }
}
