//! A time in which nothing ran, and what each job's `catchUp` makes of it.
//!
//! Each scenario takes half a minute, so it is played once and looked at by several tests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::bare;
use harness::cli::Run;
use harness::up::Up;
use harness::wait::{seen, wait_until};
use harness::witness::{Begun, Expected, Findings, now_ms, until_ms};
use model::misfire::INTERRUPTION_MIN;
use model::time::Timestamp;
use tokio::sync::OnceCell;

use crate::jobs::{REMEMBER_ALL, every, payload};

const DEADLINE: Duration = Duration::from_secs(60);
const EVERY_S: u32 = 4;
const EVERY_MS: i64 = EVERY_S as i64 * 1_000;
/// Well above `INTERRUPTION_MIN`, and several occurrences long.
const LONG_MS: i64 = 26_000;
/// Occurrences on time after the restart, before the evidence is collected.
const AFTERWARDS: i64 = 3;
const POLICIES: [&str; 3] = ["latest", "all", "none"];

/// What was seen in one scenario.
#[derive(Clone, Debug)]
struct Evidence {
    /// When everything died, was started again, and said that it is up.
    down_ms: i64,
    launched_ms: i64,
    up_ms: i64,
    /// Up to which instant the evidence is complete.
    end_ms: i64,
    begun: Vec<Begun>,
    runs: BTreeMap<String, Vec<Run>>,
    /// The due instants of a queue that nobody served, in the order of the stream.
    queued_ms: Vec<i64>,
}

#[derive(Clone, Copy, Debug)]
enum Killed {
    Everything,
    EcronAlone,
}

async fn play(killed: Killed, downtime_ms: i64) -> anyhow::Result<Evidence> {
    let mut up = Up::start().await?;
    let (cli, witness) = (up.cli(), up.witness("catch-up"));
    let mut jobs = String::new();
    for policy in POLICIES {
        let catch_up = format!("catchUp: {{policy: {policy}}}");
        jobs += &every(&format!("down/{policy}"), EVERY_S, &witness.line(), &[&catch_up, REMEMBER_ALL]);
    }
    let schedule = format!("schedule: {{every: {EVERY_S}s, start: \"2020-01-01T00:00:00Z\"}}");
    jobs += &payload("down/queued", &schedule, &["queue: unserved", "catchUp: {policy: all}", "payload: {}"]);
    cli.apply(&jobs).await?;

    // Killed between two occurrences, with nothing under way: what is in the hands of an executor is another test's.
    let served = POLICIES.map(|policy| format!("down/{policy}"));
    cli.quiet_moment(&served.each_ref().map(String::as_str), EVERY_MS).await?;
    match killed {
        Killed::Everything => up.kill9_everything()?,
        Killed::EcronAlone => up.kill9_ecron()?,
    }
    let down_ms = now_ms();
    // Started right after an occurrence, so that none falls due while it starts.
    let next = (down_ms + downtime_ms).div_euclid(EVERY_MS) + 1;
    until_ms(next * EVERY_MS + 100).await;
    let launched_ms = now_ms();
    up.start_again().await?;
    let up_ms = now_ms();

    let end_ms = (up_ms.div_euclid(EVERY_MS) + AFTERWARDS) * EVERY_MS;
    until_ms(end_ms).await;
    let begun = wait_until(DEADLINE, "the last occurrence has begun for every policy", || async {
        let begun = witness.begun()?;
        let jobs: BTreeSet<&str> = begun
            .iter()
            .filter(|begun| begun.due_ms >= end_ms)
            .filter_map(|begun| begun.run.split('@').next())
            .collect();
        seen(jobs.len() == POLICIES.len(), begun.clone())
    })
    .await?;
    let mut runs = BTreeMap::new();
    for policy in POLICIES {
        let job = format!("down/{policy}");
        let ended = |runs: &[Run]| runs.iter().all(|run| run.ended_at.is_some() || due_ms(run) > end_ms);
        runs.insert(policy.to_owned(), cli.wait_for_runs(&job, "have all ended", DEADLINE, ended).await?);
    }
    let queued = bare::drain(&up.nats_url(), "down_unserved").await?;
    let due = queued.iter().map(|message| message.due_at.as_deref().unwrap_or_default().parse::<Timestamp>());
    let queued_ms = due.map(|due| due.map(Timestamp::as_ms)).collect::<Result<_, _>>()?;
    Ok(Evidence { down_ms, launched_ms, up_ms, end_ms, begun, runs, queued_ms })
}

fn due_ms(run: &Run) -> i64 {
    run.due_at.parse::<Timestamp>().map_or(0, Timestamp::as_ms)
}

impl Evidence {
    /// The due instants of a job's starts within a time, in the order in which they began.
    fn started(&self, policy: &str, after_ms: i64, until_ms: i64) -> Vec<i64> {
        let run = format!("down/{policy}@");
        let of = self.begun.iter().filter(|begun| begun.run.starts_with(&run));
        of.map(|begun| begun.due_ms).filter(|due| after_ms < *due && *due <= until_ms).collect()
    }

    /// The occurrences that were certainly missed: nothing ran when they fell due.
    fn missed(&self) -> Vec<i64> {
        self.expected("", self.down_ms, self.launched_ms).due_ms()
    }

    fn expected(&self, policy: &str, after_ms: i64, until_ms: i64) -> Expected {
        Expected { job: format!("down/{policy}"), every_ms: EVERY_MS, after_ms, until_ms }
    }

    /// The skipped ones in the history, with the reason.
    fn skipped(&self, policy: &str) -> BTreeMap<i64, String> {
        let runs = self.runs.get(policy).map(Vec::as_slice).unwrap_or_default();
        let skipped = runs.iter().filter(|run| run.state == "skipped");
        skipped.map(|run| (due_ms(run), run.reason.clone().unwrap_or_default())).collect()
    }

    /// Whatever the policy: on time and once before and after; and each occurrence either ran or is recorded as skipped.
    fn check_the_rest(&self, policy: &str) {
        for begun in &self.begun {
            assert!(begun.began_ms >= begun.due_ms, "early: {begun:?}");
            assert_eq!(begun.attempt, 1, "{begun:?}");
        }
        let after = self.expected(policy, self.up_ms, self.end_ms);
        assert_eq!(after.compare(&self.begun), Findings::default(), "after the restart");
        let skipped = self.skipped(policy);
        for due in self.expected(policy, self.down_ms, self.up_ms).due_ms() {
            let started = self.started(policy, due - 1, due).len();
            let recorded = usize::from(skipped.contains_key(&due));
            assert_eq!(started + recorded, 1, "{policy} {}: {self:#?}", Timestamp::from_ms(due));
        }
        let (first, last) = (self.missed()[0], self.up_ms);
        assert!(skipped.keys().all(|due| (first..=last).contains(due)), "skipped without need: {skipped:#?}");
    }
}

/// Plays a scenario once in this process, whoever asks first.
async fn evidence(
    cell: &OnceCell<Result<Evidence, String>>,
    killed: Killed,
    downtime_ms: i64,
) -> anyhow::Result<Evidence> {
    let played = cell
        .get_or_init(|| async { play(killed, downtime_ms).await.map_err(|problem| format!("{problem:#}")) });
    played.await.clone().map_err(anyhow::Error::msg)
}

async fn everything_killed() -> anyhow::Result<Evidence> {
    static PLAYED: OnceCell<Result<Evidence, String>> = OnceCell::const_new();
    evidence(&PLAYED, Killed::Everything, LONG_MS).await
}

#[tokio::test]
async fn latest_runs_the_newest_missed_occurrence_once_and_then_on_time() -> anyhow::Result<()> {
    let evidence = everything_killed().await?;
    check_latest(&evidence);
    Ok(())
}

fn check_latest(evidence: &Evidence) {
    evidence.check_the_rest("latest");
    let missed = evidence.missed();
    assert!(missed.len() >= 6, "{missed:?}");
    let late = evidence.started("latest", evidence.down_ms, evidence.up_ms);
    assert_eq!(late.len(), 1, "exactly one late run: {evidence:#?}");
    assert!(late[0] >= missed[missed.len() - 1], "the newest: {late:?} of {missed:?}");
    for reason in evidence.skipped("latest").values() {
        assert!(reason.contains("only the latest"), "{reason}");
    }
}

#[tokio::test]
async fn all_runs_every_missed_occurrence_in_order() -> anyhow::Result<()> {
    let evidence = everything_killed().await?;
    check_all(&evidence);
    Ok(())
}

fn check_all(evidence: &Evidence) {
    evidence.check_the_rest("all");
    assert_eq!(evidence.skipped("all"), BTreeMap::new());
    // Commands start side by side, so their order is that of the queue only by and large. The queue says it exactly.
    let queued = &evidence.queued_ms;
    let from = queued[0] - 1;
    let expected = evidence.expected("queued", from, evidence.end_ms).due_ms();
    assert_eq!(queued[..expected.len()], expected, "each once, in order: {evidence:#?}");
}

#[tokio::test]
async fn none_runs_no_missed_occurrence_and_records_each_as_skipped() -> anyhow::Result<()> {
    let evidence = everything_killed().await?;
    check_none(&evidence);
    Ok(())
}

fn check_none(evidence: &Evidence) {
    evidence.check_the_rest("none");
    let missed = evidence.missed();
    assert_eq!(evidence.started("none", evidence.down_ms, evidence.launched_ms), [] as [i64; 0]);
    let skipped = evidence.skipped("none");
    for due in missed {
        let reason = skipped.get(&due).map(String::as_str).unwrap_or_default();
        assert!(reason.contains("catchUp is none"), "{}: {reason:?}", Timestamp::from_ms(due));
    }
}

#[tokio::test]
async fn it_makes_no_difference_if_only_ecron_itself_was_killed() -> anyhow::Result<()> {
    static PLAYED: OnceCell<Result<Evidence, String>> = OnceCell::const_new();
    let evidence = evidence(&PLAYED, Killed::EcronAlone, LONG_MS).await?;
    check_latest(&evidence);
    check_all(&evidence);
    check_none(&evidence);
    Ok(())
}

#[tokio::test]
async fn a_short_absence_is_lateness_and_every_occurrence_runs_whatever_the_policy() -> anyhow::Result<()> {
    static PLAYED: OnceCell<Result<Evidence, String>> = OnceCell::const_new();
    let evidence = evidence(&PLAYED, Killed::Everything, 0).await?;
    assert!(
        evidence.up_ms - evidence.down_ms < INTERRUPTION_MIN.as_millis() as i64,
        "it took too long: {evidence:#?}"
    );
    for policy in POLICIES {
        evidence.check_the_rest(policy);
        assert_eq!(evidence.skipped(policy), BTreeMap::new(), "{policy}");
    }
    Ok(())
}
