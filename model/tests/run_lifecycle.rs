//! `docs/run-lifecycle.md` and its pictures are drawn from the rules themselves. After a change of a rule:
//! `ECRON_WRITE_DOCS=1 cargo test -p ecron-model --test run_lifecycle`.

#![expect(
    clippy::unwrap_used,
    reason = "a file that isn't there, or isn't what it should be, fails the test"
)]

#[path = "support/timeline.rs"]
mod timeline;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ecron_model::lifecycle;
use ecron_model::misfire::{CatchUp, CatchUpPolicy, MissedReason};
use ecron_model::overlap::{Overlap, Rule, Standing, Verdict, decide};
use ecron_model::run::SkipReason;
use ecron_model::time::Timestamp;
use timeline::{Fate, Timeline};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Compares a file with what it should hold, or writes it.
fn drawn(path: &str, text: &str) {
    let file = docs().join(path);
    if std::env::var_os("ECRON_WRITE_DOCS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "docs/{path} isn't what the rules say; ECRON_WRITE_DOCS=1 writes it");
}

#[test]
fn the_diagram_is_the_table() {
    let path = docs().join("run-lifecycle.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("```mermaid\n").unwrap();
    let (_, after) = rest.split_once("```").unwrap();
    drawn("run-lifecycle.md", &format!("{before}```mermaid\n{}```{after}", lifecycle::diagram()));
}

/// Every 20 s, down from 30 s to 110 s; a run takes 10 s.
fn catch_up(name: &str, rule: CatchUp) {
    const DOWN: (i64, i64) = (30, 110);
    const RUN: i64 = 10;
    let at = |seconds: i64| Timestamp::from_ms(seconds * 1_000);
    let dues: Vec<i64> = (0..8).map(|n| n * 20).collect();
    let is_missed = |due: &i64| DOWN.0 < *due && *due <= DOWN.1;
    let missed: Vec<Timestamp> = dues.iter().copied().filter(is_missed).map(at).collect();
    let verdict = rule.resolve(&missed, at(DOWN.1));
    let fate = |due: i64| match verdict.skip.iter().find(|(skipped, _)| *skipped == at(due)) {
        Some((_, reason)) => Fate::Skipped { why: word(*reason) },
        None => {
            let from = if is_missed(&due) { DOWN.1 } else { due };
            Fate::Ran { from, to: from + RUN }
        }
    };
    let occurrences = dues.iter().map(|due| (*due, fate(*due))).collect();
    let title = format!("catchUp: {name}");
    let picture = Timeline { title, down: Some(DOWN), occurrences, end: 160 };
    drawn(&format!("run-lifecycle/catch-up-{}.svg", name.split(',').next().unwrap()), &picture.svg());
}

fn word(reason: MissedReason) -> &'static str {
    match reason {
        MissedReason::PolicyNone => "skipped: missed",
        MissedReason::SupersededByLatest => "skipped: not the latest",
        MissedReason::OutsideWindow => "skipped: outside the window",
        MissedReason::BeyondMax => "skipped: beyond max",
    }
}

#[test]
fn the_catch_up_pictures_are_what_the_rule_says() {
    let rule = |policy, window_s, max| CatchUp {
        policy,
        window: Duration::from_secs(window_s),
        max,
        ..CatchUp::default()
    };
    catch_up("none", rule(CatchUpPolicy::None, 3_600, 100));
    catch_up("latest", rule(CatchUpPolicy::Latest, 3_600, 100));
    catch_up("all", rule(CatchUpPolicy::All, 3_600, 100));
    catch_up("bounded, all with window 60s and max 2", rule(CatchUpPolicy::All, 60, 2));
}

/// Every 20 s; a run takes 50 s. Plays a policy by its own rule.
fn overlap(policy: Overlap) {
    const RUN: i64 = 50;
    let dues: Vec<i64> = (0..6).map(|n| n * 20).collect();
    let rule = Rule::of(policy, None);
    let mut fates: Vec<Option<Fate>> = vec![None; dues.len()];
    let mut waiting: Vec<usize> = Vec::new();
    let mut ends: Vec<(i64, usize)> = Vec::new();
    for now in 0..400 {
        ends.retain(|(end, _)| *end > now);
        while !waiting.is_empty() && rule.is_none_or(|rule| ends.len() < rule.limit as usize) {
            let first = waiting.remove(0);
            fates[first] = Some(Fate::Ran { from: now, to: now + RUN });
            ends.push((now + RUN, first));
        }
        let Some(which) = dues.iter().position(|due| *due == now) else { continue };
        let standing = Standing { active: ends.len() as u32, waiting: waiting.len() as u32 };
        match rule.map_or(Verdict::Start, |rule| decide(rule, standing)) {
            Verdict::Start => {
                fates[which] = Some(Fate::Ran { from: now, to: now + RUN });
                ends.push((now + RUN, which));
            }
            Verdict::Skip(reason) => fates[which] = Some(Fate::Skipped { why: why(&reason) }),
            Verdict::Wait(wait) => {
                if wait.newest_only {
                    for older in waiting.drain(..) {
                        fates[older] = Some(Fate::Skipped { why: why(&SkipReason::Coalesced) });
                    }
                }
                if wait.cancel_active {
                    for (_, running) in ends.drain(..) {
                        let Some(Fate::Ran { from, .. }) = fates[running] else { continue };
                        fates[running] = Some(Fate::Cancelled { from, to: now });
                    }
                }
                waiting.push(which);
            }
        }
        // What waited for those that were just cancelled goes at once.
        while !waiting.is_empty() && rule.is_some_and(|rule| ends.len() < rule.limit as usize) {
            let first = waiting.remove(0);
            fates[first] = Some(Fate::Ran { from: now, to: now + RUN });
            ends.push((now + RUN, first));
        }
    }
    let occurrences = dues.into_iter().zip(fates.into_iter().flatten()).collect::<Vec<_>>();
    assert_eq!(occurrences.len(), 6, "each occurrence has a fate");
    let title = format!("overlap: {}", policy.as_str());
    let picture = Timeline { title, down: None, occurrences, end: 310 };
    drawn(&format!("run-lifecycle/overlap-{}.svg", policy.as_str()), &picture.svg());
}

fn why(reason: &SkipReason) -> &'static str {
    match reason {
        SkipReason::Coalesced => "skipped: a newer one took its place",
        _ => "skipped: an earlier run is under way",
    }
}

#[test]
fn the_overlap_pictures_are_what_the_rule_says() {
    for policy in Overlap::ALL {
        overlap(policy);
    }
}
