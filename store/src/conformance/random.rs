//! The property: two stores give the same answers to the same operations, whatever the operations are.
//!
//! Operations are drawn from a seed over a few jobs, revisions and instants, so that they meet. What can't be equal
//! (epochs, the time of two clocks) is left out of the answers.

use std::fmt::Write;

use model::bucket::{Placed, Tier};
use model::change::{Change, ChangeKind};
use model::id::{Entry, Key, Occurrence, Revision};
use model::overlap::{Overlap, Rule};
use model::run::{Generation, Outcome, RunState, SkipReason};
use model::shard::ShardId;
use model::spec::HistoryLimits;
use model::time::Timestamp;

use super::Fixture;
use super::world::{TTL, at, attempt, entry, install, job, occurrence, record, settlement};
use crate::control::{BackfillRun, Trigger};
use crate::error::StoreError;
use crate::lease::{Epoch, LeaseReply, Role};
use crate::ledger::{Claim, Park, RunRecord, Sent, Skip, TakenEntry, Wait};
use crate::plan::{Advance, Cursor, SpecsRead, Waiting};
use crate::stats::Reopening;
use crate::{ChangeStore, ControlStore, Inspect, LeaseStore, LedgerStore, PlanStore, SpaceStore, StatsStore};

const JOBS: [&str; 3] = ["a/a", "a/a-b", "b/c"];
const SHARD: ShardId = ShardId(3);

/// SplitMix64: enough randomness for drawing operations, the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn of(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).unwrap()]
    }

    /// One of 60 instants from 07:00:00 to 07:09:50; sometimes a millisecond off.
    fn instant(&mut self) -> Timestamp {
        let step = i64::try_from(self.below(60)).unwrap();
        at("07:00:00").plus_ms(step * 10_000 + i64::from(self.chance(5)))
    }

    fn instants(&mut self, most: u64) -> Vec<Timestamp> {
        let mut instants: Vec<_> = (0..self.below(most + 1)).map(|_| self.instant()).collect();
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    fn placed(&mut self) -> Option<Placed> {
        let due_at = match self.below(4) {
            0 => self.instant().plus_ms(3_600_000),
            1 => self.instant().plus_ms(1_800_000),
            _ => self.instant(),
        };
        let tier = self.pick(&[Tier::HalfHour, Tier::Horizon]);
        self.chance(85).then_some(Placed { tier, due_at })
    }

    fn reason(&mut self) -> SkipReason {
        if self.chance(50) { SkipReason::Suspended } else { SkipReason::Superseded }
    }
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few hundred of them are drawn, in a test")]
enum Op {
    Hold {
        role: Role,
        node: &'static str,
    },
    Release {
        role: Role,
        node: &'static str,
    },
    Begin(Cursor),
    Progress {
        planned_until: Option<Timestamp>,
        spec_revision: Option<Revision>,
    },
    Install {
        install: crate::plan::Install,
        right: bool,
    },
    Advance {
        minute: Timestamp,
        half_hour: Timestamp,
        limit: usize,
        next: Vec<Option<Placed>>,
        minutes: Vec<Vec<Timestamp>>,
        skipped: Vec<Timestamp>,
    },
    Trigger {
        job: &'static str,
        due_at: Timestamp,
        /// 0: none.
        key: u64,
        payload: bool,
    },
    Backfill {
        job: &'static str,
        dues: Vec<Timestamp>,
    },
    /// Forgets the backfills' runs that have ended.
    CountBackfilled,
    Take {
        until: Timestamp,
        limit: usize,
        actions: u64,
        worry_ms: i64,
        reason: SkipReason,
    },
    Missed {
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    },
    Cancel {
        job: &'static str,
        due_at: Timestamp,
        named: bool,
        force: bool,
    },
    Cancelling {
        now: Timestamp,
        later: bool,
    },
    DelaySpaced {
        until: Timestamp,
    },
    Unpark {
        passed: usize,
        limit: usize,
    },
    Repair {
        entry: Entry,
        sequence: u64,
        republished: u32,
    },
    Settle(Vec<crate::ledger::Settlement>),
    Note {
        job: &'static str,
        due_at: Timestamp,
        generation: u32,
        attempt: u32,
    },
    Reopen {
        job: &'static str,
        due_at: Timestamp,
        generation: u32,
    },
    Overdue {
        now: Timestamp,
        limit: usize,
        later: bool,
    },
    Look,
}

impl Op {
    fn draw(random: &mut Random, revision: &mut u64) -> Self {
        let name = random.pick(&JOBS);
        match random.below(100) {
            0..3 => {
                let node = if random.chance(90) { "node-a" } else { "node-b" };
                if random.chance(75) {
                    Self::Hold { role: random.pick(&Role::ALL), node }
                } else {
                    let node = random.pick(&["node-a", "node-b", "node-b"]);
                    Self::Release { role: random.pick(&Role::ALL), node }
                }
            }
            3 => Self::Begin(Cursor {
                incarnation: format!("incarnation-{revision}"),
                planned_until: random.instant(),
                taken_until: at("06:59:00"),
                spec_revision: Revision(1),
            }),
            4..8 => Self::Progress {
                planned_until: random.chance(80).then(|| random.instant()),
                spec_revision: random.chance(30).then(|| Revision(random.below(50))),
            },
            8..22 => {
                *revision += 1;
                let mut new = record(*revision, random.placed());
                new.history = HistoryLimits {
                    succeeded: u32::try_from(random.below(4)).unwrap(),
                    failed: u32::try_from(random.below(3)).unwrap(),
                    skipped: u32::try_from(random.below(5)).unwrap(),
                };
                new.overlap = random.chance(50).then(|| Rule {
                    policy: random.pick(&Overlap::ALL),
                    limit: u32::try_from(random.below(3) + 1).unwrap(),
                });
                new.after = random.chance(25).then(|| crate::plan::After {
                    delay: std::time::Duration::from_secs(random.below(90)),
                    last: random.chance(30).then(|| at("07:08:00")),
                });
                new.condition = random.chance(10).then(|| "invalid".into());
                let mut change = install(name, Some(random.below(20)), random.chance(85).then_some(new));
                change.after_first = Some(random.instant());
                change.keep_history = random.chance(20);
                change.at = random.instant();
                change.remove = random.instants(20);
                change.add = random.instants(12);
                change.add_unseen = random.instants(4);
                let later = random.instant();
                change.spaced = random.instants(3).into_iter().map(|due| (due, later)).collect();
                change.skipped =
                    random.instants(2).into_iter().map(|due| (due, SkipReason::Suspended)).collect();
                change.change = random.chance(70).then(|| Change {
                    at: random.instant(),
                    revision: Revision(*revision),
                    kind: random.pick(&ChangeKind::ALL),
                    by: random.chance(50).then(|| "ann".into()),
                    schedule: None,
                });
                Self::Install { install: change, right: random.chance(90) }
            }
            22..34 => Self::Advance {
                minute: random.instant(),
                half_hour: random.instant().plus_ms(1_800_000),
                limit: usize::try_from(random.below(4) + 1).unwrap(),
                next: (0..4).map(|_| random.placed()).collect(),
                minutes: (0..4).map(|_| random.instants(5)).collect(),
                skipped: random.instants(2),
            },
            34..37 => Self::Trigger {
                job: name,
                due_at: random.instant(),
                key: random.below(3),
                payload: random.chance(50),
            },
            37..39 => Self::Backfill { job: name, dues: random.instants(6) },
            39..40 => Self::CountBackfilled,
            40..65 => Self::Take {
                until: random.instant(),
                limit: usize::try_from(random.below(12) + 1).unwrap(),
                actions: random.next(),
                worry_ms: i64::try_from(random.below(600_000)).unwrap(),
                reason: random.reason(),
            },
            65..68 if random.chance(60) => Self::Cancel {
                job: name,
                due_at: random.instant(),
                named: random.chance(70),
                force: random.chance(30),
            },
            68..71 if random.chance(30) => {
                Self::Cancelling { now: random.instant().plus_ms(300_000), later: random.chance(50) }
            }
            65..68 if random.chance(20) => Self::DelaySpaced { until: random.instant() },
            65..68 => Self::Missed {
                after: random.instant(),
                until: random.instant(),
                limit: usize::try_from(random.below(6) + 1).unwrap(),
            },
            68..71 => Self::Unpark {
                passed: usize::try_from(random.below(2)).unwrap(),
                limit: usize::try_from(random.below(4) + 1).unwrap(),
            },
            71..73 => Self::Repair {
                entry: entry(name, random.instant(), random.below(*revision + 1)),
                sequence: random.below(1000),
                republished: u32::try_from(random.below(3)).unwrap(),
            },
            73..88 => {
                let states =
                    [RunState::Succeeded, RunState::DeadLettered, RunState::Cancelled, RunState::Skipped];
                let ends = (0..random.below(3) + 1).map(|_| {
                    let run = occurrence(random.pick(&JOBS), random.instant());
                    let mut end = settlement(run, random.below(*revision + 1), random.pick(&states));
                    end.generation = Generation(u32::try_from(random.below(8) / 6).unwrap());
                    end.last.attempt = u32::try_from(random.below(4)).unwrap();
                    end.last.started_at = end.last.started_at.plus_ms(-(random.below(50_000) as i64));
                    end
                });
                Self::Settle(ends.collect())
            }
            88..92 => Self::Note {
                job: name,
                due_at: random.instant(),
                generation: u32::try_from(random.below(2)).unwrap(),
                attempt: u32::try_from(random.below(4) + 1).unwrap(),
            },
            92..94 => Self::Reopen {
                job: name,
                due_at: random.instant(),
                generation: u32::try_from(random.below(3)).unwrap(),
            },
            94..97 => Self::Overdue {
                now: random.instant().plus_ms(300_000),
                limit: usize::try_from(random.below(5) + 1).unwrap(),
                later: random.chance(50),
            },
            _ => Self::Look,
        }
    }
}

/// One store and the epochs that it granted last.
struct Side<'a, F: Fixture> {
    fixture: &'a F,
    epochs: [Epoch; 2],
}

impl<F: Fixture> Side<'_, F> {
    fn planner(&self) -> Epoch {
        self.epochs[0]
    }

    fn dispatcher(&self) -> Epoch {
        self.epochs[1]
    }

    /// Carries an operation out and tells the answer as text.
    async fn carry_out(&mut self, op: &Op) -> String {
        let store = self.fixture.store();
        match op {
            Op::Hold { role, node } => {
                let replies = store.hold(*role, node, &[SHARD], TTL).await.unwrap();
                match &replies[0] {
                    LeaseReply::Granted { epoch, fresh } => {
                        let index = usize::from(*role == Role::Dispatcher);
                        let known = self.epochs[index] == *epoch;
                        // The other of two nodes keeps using the epoch it had: it is fenced.
                        if *node == "node-a" {
                            self.epochs[index] = *epoch;
                        }
                        format!("granted, fresh {fresh}, known {known}")
                    }
                    LeaseReply::Held { by } => format!("held by {by}"),
                }
            }
            Op::Release { role, node } => format!("{:?}", store.release(*role, node, &[SHARD]).await),
            Op::Begin(cursor) => format!("{:?}", store.begin(SHARD, self.planner(), cursor).await),
            Op::Progress { planned_until, spec_revision } => {
                let specs = spec_revision.map(|to| SpecsRead { from: Revision(0), to });
                let progress = store.progress(SHARD, self.planner(), *planned_until, specs);
                format!("{:?}", progress.await)
            }
            Op::Install { install, right } => {
                let mut install = install.clone();
                if *right {
                    let present =
                        store.jobs(SHARD, std::slice::from_ref(&install.job)).await.unwrap().remove(0);
                    install.expected = present.map(|record| record.revision);
                }
                format!("{:?}", store.install(SHARD, self.planner(), &install).await)
            }
            Op::Advance { minute, half_hour, limit, next, minutes, skipped } => {
                let waiting = store.waiting(SHARD, self.planner(), *minute, *half_hour, *limit).await;
                let mut answer = format!("{waiting:?}");
                let waiting = waiting.unwrap_or_default();
                let steps: Vec<_> = waiting
                    .iter()
                    .enumerate()
                    .map(|(i, waiting)| {
                        step(waiting, next[i], &minutes[i], if i == 0 { skipped } else { &[] })
                    })
                    .collect();
                let _ = write!(answer, "{:?}", store.advance(SHARD, self.planner(), &steps).await);
                answer
            }
            Op::Trigger { job: name, due_at, key, payload } => {
                let key = (*key > 0).then(|| Key::new(&format!("key-{key}")).unwrap());
                let payload = payload.then(|| format!("\"{due_at}\""));
                let trigger = Trigger { job: job(name), due_at: *due_at, key, payload };
                let triggered = store.trigger(SHARD, &trigger).await;
                let due_at = triggered.clone().ok().flatten().map_or(*due_at, |triggered| triggered.due_at);
                let asked = store.asked_for(SHARD, &[occurrence(name, due_at)]).await;
                format!("{triggered:?}{asked:?}")
            }
            Op::Backfill { job: name, dues } => {
                let backfill = "a/backfill".parse().unwrap();
                let started =
                    store.start_backfilled(SHARD, self.planner(), &backfill, &job(name), dues).await;
                format!("{started:?}{:?}", self.backfilled().await)
            }
            Op::CountBackfilled => {
                let ended = self.backfilled().await.into_iter().filter(|run| run.end.is_some());
                let ended: Vec<_> = ended.map(|run| run.occurrence).collect();
                format!("{:?}", store.forget_backfill_runs(SHARD, self.planner(), &ended).await)
            }
            Op::Take { until, limit, actions, worry_ms, reason } => {
                let taken = store.take(SHARD, self.dispatcher(), *until, *limit).await;
                let taken = taken.map(|mut taken| {
                    taken.now = Timestamp::default();
                    taken
                });
                let mut answer = format!("{taken:?}");
                let entries = taken.map(|taken| taken.entries).unwrap_or_default();
                let done = self.dispatch(&entries, *actions, *worry_ms, reason).await;
                let _ = write!(answer, "{done:?}");
                answer
            }
            Op::Missed { after, until, limit } => {
                format!("{:?}", store.missed(SHARD, self.dispatcher(), *after, *until, *limit).await)
            }
            Op::Cancel { job: name, due_at, named, force } => {
                let mark = crate::ledger::CancelMark {
                    at: due_at.plus_ms(7),
                    by: "ada@host-1".into(),
                    reason: named.then(|| "wrong".into()),
                };
                let run = occurrence(name, *due_at);
                let answer = store.cancel(SHARD, &run, *named, &mark, *force).await;
                format!("{answer:?}{:?}", store.under_way(SHARD, &job(name)).await)
            }
            Op::Cancelling { now, later } => {
                let runs = store.cancelling(SHARD, *now, 10).await;
                let answer = format!("{runs:?}");
                if *later && let Some(run) = runs.unwrap_or_default().first() {
                    let later = now.plus_ms(60_000);
                    let _ = store.cancel_later(SHARD, self.dispatcher(), &run.occurrence, later).await;
                }
                answer
            }
            Op::DelaySpaced { until } => {
                format!("{:?}", store.delay_spaced(SHARD, self.dispatcher(), *until).await)
            }
            Op::Unpark { passed, limit } => {
                let held = store.held(SHARD, *passed, *limit).await.unwrap();
                let unknown = occurrence("a/a", at("03:00:00"));
                let runs: Vec<Occurrence> = held.into_iter().chain([unknown]).collect();
                format!("{runs:?}{:?}", store.unpark(SHARD, &runs).await)
            }
            Op::Repair { entry, sequence, republished } => {
                let due_at = entry.occurrence.due_at;
                let repair = Sent {
                    entry: entry.clone(),
                    sequence: *sequence,
                    published_at: due_at,
                    worry_at: due_at.plus_ms(100_000),
                    republished: *republished,
                };
                format!("{:?}", store.confirm(SHARD, self.dispatcher(), &[repair]).await)
            }
            Op::Settle(ends) => format!("{:?}", store.settle_all(SHARD, ends).await),
            Op::Note { job, due_at, generation, attempt: number } => {
                let (run, mut end) = (occurrence(job, *due_at), attempt(*number, Outcome::Failed));
                end.started_at = end.started_at.plus_ms(i64::from(*number) * 7_000 - 60_000);
                let generation = Generation(*generation);
                format!("{:?}", store.note_attempt(SHARD, &run, generation, &end, "worker-9").await)
            }
            Op::Reopen { job, due_at, generation } => {
                let reopening = Reopening {
                    occurrence: occurrence(job, *due_at),
                    revision: Revision(7),
                    generation: Generation(*generation),
                    sequence: 77,
                    published_at: *due_at,
                    worry_at: due_at.plus_ms(90_000),
                };
                format!("{:?}", store.reopen(SHARD, &reopening).await)
            }
            Op::Overdue { now, limit, later } => {
                let runs = store.overdue(SHARD, *now, *limit).await;
                let answer = format!("{runs:?}");
                if *later && let Some(run) = runs.unwrap_or_default().first() {
                    let later = now.plus_ms(60_000);
                    let _ = store.worry_later(SHARD, self.dispatcher(), &run.occurrence, later).await;
                }
                answer
            }
            Op::Look => self.look().await,
        }
    }

    /// Confirms, claims, parks, skips, drops or leaves each of the entries, by three bits of `actions`.
    async fn dispatch(
        &self,
        entries: &[TakenEntry],
        actions: u64,
        worry_ms: i64,
        reason: &SkipReason,
    ) -> Result<String, StoreError> {
        let (mut sent, mut skips, mut drops) = (Vec::new(), Vec::new(), Vec::new());
        let mut spaced = Vec::new();
        let (mut claims, mut parks) = (Vec::new(), Vec::new());
        for (i, taken) in entries.iter().enumerate() {
            let (entry, due_at) = (taken.entry.clone(), taken.entry.occurrence.due_at);
            match (actions >> (3 * i)) & 7 {
                0 | 1 => sent.push(Sent {
                    entry,
                    sequence: i as u64,
                    published_at: due_at,
                    worry_at: due_at.plus_ms(worry_ms),
                    republished: 0,
                }),
                2 => claims.push(Claim {
                    entry,
                    revision: taken.job_revision.unwrap_or_default(),
                    triggered: i % 5 == 0,
                }),
                3 => parks.push(Park {
                    entry,
                    wait: Wait::Overlap { newest_only: i % 3 == 0 },
                    triggered: i % 4 == 0,
                    at: due_at,
                }),
                4 => parks.push(Park { entry, wait: Wait::Queue, triggered: false, at: due_at }),
                6 if i % 2 == 0 => spaced.push((entry, due_at.plus_ms(worry_ms))),
                5 => skips.push(Skip { entry, reason: reason.clone(), at: due_at }),
                _ => drops.push(entry),
            }
        }
        let store = self.fixture.store();
        store.space(SHARD, self.dispatcher(), &spaced).await?;
        let claimed = store.claim(SHARD, self.dispatcher(), &claims).await?;
        let parked = store.park(SHARD, self.dispatcher(), &parks).await?;
        store.confirm(SHARD, self.dispatcher(), &sent).await?;
        store.skip(SHARD, self.dispatcher(), &skips).await?;
        if actions & (1 << 40) != 0 {
            store.drop_entries(SHARD, self.dispatcher(), &drops).await?;
        }
        Ok(format!("{claimed:?}{parked:?}"))
    }

    async fn backfilled(&self) -> Vec<BackfillRun> {
        let mut runs = self.fixture.store().backfill_runs(SHARD).await.unwrap();
        runs.sort_by(|a, b| a.occurrence.cmp(&b.occurrence));
        runs
    }

    /// Everything that can be seen of the shard.
    async fn look(&self) -> String {
        let store = self.fixture.store();
        let mut all = format!("{:#?}", store.buckets(SHARD, 1_000).await);
        let jobs = JOBS.map(job);
        for job in &jobs {
            let _ = write!(all, "{:?}", store.changes(SHARD, job).await);
            let _ = write!(all, "{:?}", store.stats(SHARD, job).await);
            let _ = write!(all, "{:?}", store.spaced(SHARD, job, 500).await);
        }
        let _ = write!(all, "{:#?}{:#?}", store.cursor(SHARD).await, store.jobs(SHARD, &jobs).await);
        for job in &jobs {
            let runs = store.runs(SHARD, job, 500).await.unwrap();
            for run in &runs {
                let _ = write!(all, "{:?}", store.past_attempts(SHARD, &run.occurrence).await);
            }
            let runs: Vec<_> = runs.into_iter().map(|run| RunRecord { epoch: None, ..run }).collect();
            let _ = write!(all, "{runs:#?}");
        }
        let _ = write!(all, "{:#?}", Inspect::sent(store, SHARD, 500).await);
        let _ = write!(all, "{:#?}", store.held(SHARD, 0, 500).await);
        let _ = write!(all, "{:#?}", self.backfilled().await);
        all
    }
}

fn step(waiting: &Waiting, next: Option<Placed>, minute: &[Timestamp], skipped: &[Timestamp]) -> Advance {
    Advance {
        job: waiting.job.clone(),
        revision: waiting.revision,
        from: waiting.placed,
        minute: minute.to_vec(),
        next,
        skipped: skipped.iter().map(|due| (*due, SkipReason::Suspended)).collect(),
    }
}

/// Draws `steps` operations from a seed and panics at the first that the two stores answer differently.
pub async fn agree<A: Fixture, B: Fixture>(one: &A, two: &B, seed: u64, steps: usize) {
    one.wipe().await;
    two.wipe().await;
    let mut random = Random(seed);
    let (mut one, mut two) =
        (Side { fixture: one, epochs: [Epoch(0); 2] }, Side { fixture: two, epochs: [Epoch(0); 2] });
    let mut revision = 0;
    let first = Role::ALL.map(|role| Op::Hold { role, node: "node-a" });
    let begin = Op::Begin(Cursor {
        incarnation: "incarnation".into(),
        planned_until: at("07:05:00"),
        taken_until: at("06:59:00"),
        spec_revision: Revision(0),
    });
    let mut script: Vec<_> = first.into_iter().chain([begin]).collect();
    for _ in 0..steps {
        script.push(Op::draw(&mut random, &mut revision));
    }
    script.push(Op::Look);
    for (number, op) in script.iter().enumerate() {
        let answers = (one.carry_out(op).await, two.carry_out(op).await);
        assert_eq!(answers.0, answers.1, "seed {seed}, operation {number}: {op:?}");
    }
}
