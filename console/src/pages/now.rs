//! Now: what runs, waits, is late and fails; the last hour; what is due next; who works on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use model::time::{SECOND_MS, Timestamp};
use planner::api::types::{
    BucketsReply, BucketsRequest, ClusterReply, ClusterRequest, QueuesReply, QueuesRequest, SentReply,
    SentRequest,
};

use super::Page;
use super::chart;
use super::frame::{Frame, Place};
use super::parts::{empty, figure};
use super::words::{brief, count, duration, job_of, relative, run_href, when, when_text};
use crate::access::Caller;
use crate::pulse::{Failure, Minute};
use crate::server::Shared;

/// Seconds between two looks.
const REFRESH_S: u32 = 5;
/// Rows of each list.
const ROWS: usize = 8;
/// A shard that is behind by more than this is late: dispatchers look at each at least once a second.
const LATE_MS: i64 = 3 * SECOND_MS;

pub(super) async fn show(State(shared): State<Arc<Shared>>, Extension(caller): Extension<Caller>) -> Page {
    let (bucket_request, sent_request) = (
        BucketsRequest { first: Some(5), tier: Some("minute".into()), limit: Some(100), after: None },
        SentRequest { limit: Some(500) },
    );
    let desk = &shared.desk;
    let (cluster, queues, sent, buckets) = tokio::try_join!(
        desk.ask::<_, ClusterReply>("cluster", &ClusterRequest {}),
        desk.ask::<_, QueuesReply>("queues", &QueuesRequest { after: None, limit: Some(500) }),
        desk.ask::<_, SentReply>("sent", &sent_request),
        desk.ask::<_, BucketsReply>("buckets", &bucket_request),
    )?;
    let now: Timestamp = cluster.at.parse().unwrap_or_else(|_| shared.clock.now());
    let (minutes, failures) = shared.pulse.hour(now);
    let body = html! {
        h1 { "Now" }
        (figures(now, &cluster, &queues, &minutes))
        (hour(&minutes, shared.pulse.since, now))
        (due_next(now, &buckets))
        (open(now, &sent))
        (failed(now, &failures))
        (nodes(now, &cluster))
    };
    Ok(Frame::new(Place::Now, "Now", &caller).refreshed(REFRESH_S).page(&body))
}

fn figures(now: Timestamp, cluster: &ClusterReply, queues: &QueuesReply, minutes: &[Minute]) -> Markup {
    let in_hand: u64 = queues.queues.iter().map(|queue| queue.in_hand).sum();
    let waiting: u64 = queues.queues.iter().map(|queue| queue.undelivered + queue.waiting).sum();
    let behind =
        cluster.shards.iter().filter_map(|shard| Some(now.ms_since(shard.taken_until.parse().ok()?)));
    let worst = behind.max().unwrap_or(0);
    let late = cluster.shards.iter().filter(|shard| is_late(now, &shard.taken_until)).count();
    let ended: u32 = minutes.iter().map(|minute| minute.succeeded + minute.failed).sum();
    let failed: u32 = minutes.iter().map(|minute| minute.failed).sum();
    let mut lateness = model::stats::Histogram::default();
    for (bucket, times) in minutes.iter().flat_map(|minute| &minute.late.0) {
        *lateness.0.entry(*bucket).or_default() += times;
    }
    let percentile =
        |percent| lateness.percentile(percent).map(|ms| duration(i64::try_from(ms).unwrap_or(i64::MAX)));
    let p50 = percentile(50).map(|p50| format!("half of them within {p50}")).unwrap_or_default();
    html! {
        dl .figures {
            (figure("Running", &count(in_hand), "in executors' hands, or waiting for a retry", false))
            (figure("Waiting", &count(waiting), "for an executor or their turn", false))
            @if cluster.shards.is_empty() {
                (figure("Late", "–", "no shard is planned yet", false))
            } @else if late == 0 {
                (figure("Late", "0", "every shard is on time", false))
            } @else {
                (figure("Late", &late.to_string(), &format!("shards; the worst by {}", duration(worst)), true))
            }
            (figure("Failed", &count(failed.into()), &format!("of {} that ended in the last hour", count(ended.into())), failed > 0))
            (figure("Started late by", &percentile(99).unwrap_or_else(|| "–".into()), if p50.is_empty() { "99 of 100, in the last hour" } else { &p50 }, false))
        }
    }
}

fn is_late(now: Timestamp, taken_until: &str) -> bool {
    taken_until.parse().is_ok_and(|taken| now.ms_since(taken) > LATE_MS)
}

fn hour(minutes: &[Minute], since: Timestamp, now: Timestamp) -> Markup {
    let heard_all = now.ms_since(since) >= 3_600_000;
    html! {
        h2 { "The last hour" @if !heard_all { small { "heard since this console started, " (when(now, since)) } } }
        (chart::hour(minutes))
    }
}

fn due_next(now: Timestamp, buckets: &BucketsReply) -> Markup {
    let mut next: Vec<(Timestamp, &str)> = buckets
        .buckets
        .iter()
        .flat_map(|bucket| &bucket.first)
        .filter_map(|member| Some((member.due_at.parse().ok()?, member.member.as_str())))
        .collect();
    next.sort();
    let entries: u64 =
        buckets.totals.iter().filter(|total| total.tier == "minute").map(|total| total.entries).sum();
    html! {
        h2 { "Due next" small { (count(entries)) " planned to the second" } }
        @if next.is_empty() {
            (empty("Nothing is due within the next minute or two.", &html! { a href="/plan" { "The plan" } " shows the next 24 hours." }))
        } @else {
            div .wide { table { tbody {
                @for (due, member) in next.into_iter().take(ROWS) {
                    @let run = member.split('#').next().unwrap_or(member);
                    tr {
                        td { (when(now, due)) }
                        td { a href=(run_href(run)) { (job_of(run).unwrap_or(run)) } }
                    }
                }
            } } }
        }
    }
}

fn open(now: Timestamp, sent: &SentReply) -> Markup {
    let more = if sent.more { "more than " } else { "" };
    html! {
        h2 { "Open longest" small { (more) (sent.runs.len()) " published without an outcome yet" } }
        @if sent.runs.is_empty() {
            p .soft { "Every published run has an outcome." }
        } @else {
            div .wide { table { tbody {
                @for run in sent.runs.iter().take(ROWS) {
                    tr {
                        td { a href=(run_href(&run.run)) { (run.run) } @if run.cancelling { " " span .soft { "being cancelled" } } }
                        td { "published " (when_text(now, &run.published_at)) }
                    }
                }
            } } }
        }
    }
}

fn failed(now: Timestamp, failures: &[Failure]) -> Markup {
    html! {
        @if !failures.is_empty() {
            h2 { "Failed lately" small { a href="/letters" { "dead letters" } " · " a href="/jobs?state=failing" { "failing jobs" } } }
            div .wide { table { tbody {
                @for failure in failures.iter().take(ROWS) {
                    tr {
                        td { (when(now, failure.at)) }
                        td { a href=(run_href(&failure.run)) { (job_of(&failure.run).unwrap_or(&failure.run)) } }
                        td .note { (brief(&failure.error, 140)) }
                    }
                }
            } } }
        }
    }
}

fn nodes(now: Timestamp, cluster: &ClusterReply) -> Markup {
    let mut owned: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for lease in &cluster.leases {
        owned.entry(&lease.node).or_default().push(lease.shard);
    }
    html! {
        h2 { "Nodes" small { (cluster.shards.len()) " shards" } }
        @if cluster.nodes.is_empty() {
            (empty("No planner or dispatcher has announced itself.", &html! { "Start them: " code { "ecron planner" } " and " code { "ecron dispatcher" } "." }))
        } @else {
            div .wide { table {
                thead { tr { th { "Node" } th { "Role" } th .num { "Shards" } th { "Which" } th { "Version" } th { "Heard of" } } }
                tbody {
                    @for node in &cluster.nodes {
                        @let shards = owned.get(node.node.as_str()).map(Vec::as_slice).unwrap_or_default();
                        tr {
                            td .mono { (node.node) }
                            td { (node.roles.join(", ")) }
                            td .num { (shards.len()) }
                            td .soft { (ranges(shards)) }
                            td { (node.version) }
                            td { (relative(node.heartbeat_at.parse::<Timestamp>().map_or(0, |at| at.ms_since(now)))) }
                        }
                    }
                }
            } }
        }
    }
}

/// `0–31, 40`.
fn ranges(shards: &[u16]) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for shard in shards {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *shard => *last = *shard,
            _ => ranges.push((*shard, *shard)),
        }
    }
    let text = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}–{last}") }
    };
    let mut texts: Vec<String> = ranges.iter().map(text).collect();
    if texts.len() > ROWS {
        texts.truncate(ROWS);
        texts.push("…".into());
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn neighbouring_shards_are_one_range() {
        assert_eq!(super::ranges(&[0, 1, 2, 5, 7, 8]), "0–2, 5, 7–8");
        assert_eq!(super::ranges(&[]), "");
    }
}
