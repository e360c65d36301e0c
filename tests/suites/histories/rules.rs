//! A plain model of the rules: which runs a history has, when they begin and how they end.
//!
//! It is written from docs/run-lifecycle.md and docs/manifest.md, with lists of occurrences and one rule after the other. Of
//! ecron's own it uses only names and the instants that a schedule names. It is told what happened (deeds, and who was there in
//! each second), and says what should have been seen.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use harness::world::World;
use model::name::{JobId, Name, QueueId};
use model::shard::ShardId;
use model::time::Timestamp;

use crate::declaration::Declaration;
use crate::hands::{Hands, Report, Word};
use crate::history::{Deed, JOBS, NAMESPACES, QUEUES, job, queue_of};
use crate::job::{Job, Outcome, State, Who};
use crate::play::{Answer, Begun, Fact, Standing};

/// Absences shorter than this are lateness (docs/run-lifecycle.md, "After an interruption").
pub(crate) const INTERRUPTION_MS: i64 = 10_000;
/// Dispatchers look this far ahead.
const AHEAD_MS: i64 = 16;
const MINUTE_MS: i64 = 60_000;

/// A time after `since`, up to and including `until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Gap {
    pub(crate) fn has(&self, due_at: Timestamp) -> bool {
        self.since < due_at && due_at <= self.until
    }
}

/// How far the jobs of a shard have come, together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shard {
    /// Everything due before this is planned.
    planned_until: Option<Timestamp>,
    /// Everything due up to this was looked at.
    pub reached: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) struct Rules {
    begin: Timestamp,
    now: Timestamp,
    jobs: BTreeMap<JobId, Job>,
    shards: BTreeMap<ShardId, Shard>,
    paused_namespaces: BTreeSet<Name>,
    paused_queues: BTreeSet<QueueId>,
    /// As dispatchers know them.
    held_queues: BTreeSet<QueueId>,
    hands: Hands,
    /// A planner is up, and answers requests.
    planner: bool,
    /// What should have been answered and wasn't.
    pub objections: Vec<String>,
}

impl Rules {
    pub(crate) fn begin(seed: u64, begin: Timestamp) -> Self {
        Self {
            begin,
            now: begin,
            jobs: BTreeMap::new(),
            shards: BTreeMap::new(),
            paused_namespaces: BTreeSet::new(),
            paused_queues: BTreeSet::new(),
            held_queues: BTreeSet::new(),
            hands: Hands::new(seed),
            planner: true,
            objections: Vec::new(),
        }
    }

    pub(crate) fn learn(&mut self, fact: &Fact) -> Result<()> {
        match fact {
            Fact::Did { at, deed, answer } => {
                self.now = *at;
                let expected = self.did(deed, answer)?;
                if expected != *answer {
                    let objection = format!("{at}: {deed:?} was answered {answer:?}; expected {expected:?}");
                    self.objections.push(objection);
                }
            }
            Fact::Ticked { at, planned, dispatched, settled } => {
                self.now = *at;
                self.hands.wake(self.now, &present(&self.jobs, self.planner));
                planned.iter().for_each(|shard| self.plan(*shard));
                if *settled {
                    self.held_queues.clone_from(&self.paused_queues);
                    self.settle();
                    self.open_queues(dispatched);
                    dispatched.iter().for_each(|shard| self.look(*shard));
                    self.take_new();
                    dispatched.iter().for_each(|shard| self.see_to_cancellations(*shard));
                    dispatched.iter().for_each(|shard| self.look_after(*shard));
                }
                self.take_new();
            }
        }
        Ok(())
    }

    pub(crate) fn begun(&self) -> &[Begun] {
        &self.hands.begun
    }

    /// How the jobs that are declared stand.
    pub(crate) fn standings(&self) -> BTreeMap<JobId, Standing> {
        let declared = self.jobs.iter().filter(|(_, job)| job.declared.is_some());
        declared.map(|(id, job)| (id.clone(), job.standing(self.now))).collect()
    }

    fn did(&mut self, deed: &Deed, answer: &Answer) -> Result<Answer> {
        let accepted = |yes: bool| if yes { Answer::Accepted } else { Answer::Refused };
        let now = self.now;
        Ok(match deed {
            Deed::Apply(which, spec) => {
                let id = job(*which)?;
                let paused = self.paused_namespaces.contains(&id.namespace);
                let begin = self.begin;
                accepted(self.job(&id).declare(JOBS[*which], spec, paused, begin, now))
            }
            Deed::Delete(which) => {
                let job = self.job(&job(*which)?);
                accepted(job.declared.take().is_some())
            }
            Deed::Pause(which) => accepted(self.job(&job(*which)?).turn(true, now)),
            Deed::Resume(which) => accepted(self.job(&job(*which)?).turn(false, now)),
            Deed::PauseNamespace(which) | Deed::ResumeNamespace(which) => {
                let (name, pause) = (NAMESPACES[*which].parse()?, matches!(deed, Deed::PauseNamespace(_)));
                for (_, job) in self.jobs.iter_mut().filter(|(id, _)| id.namespace == name) {
                    job.turn_namespace(pause, now);
                }
                if pause {
                    self.paused_namespaces.insert(name)
                } else {
                    self.paused_namespaces.remove(&name)
                };
                Answer::Accepted
            }
            Deed::PauseQueue(which) | Deed::ResumeQueue(which) => {
                let queue: QueueId = QUEUES[*which].parse()?;
                let pause = matches!(deed, Deed::PauseQueue(_));
                if pause {
                    self.paused_queues.insert(queue)
                } else {
                    self.paused_queues.remove(&queue)
                };
                Answer::Accepted
            }
            Deed::Trigger(which) => self.trigger(&job(*which)?, answer),
            Deed::CancelNext(which, _) | Deed::CancelLast(which) => self.cancel(&job(*which)?, answer),
            Deed::KillExecutor => {
                self.hands.die(now);
                Answer::Accepted
            }
            Deed::StartExecutor => {
                self.hands.revive(now, &present(&self.jobs, self.planner));
                Answer::Accepted
            }
            Deed::CrashPlanner | Deed::Crash => {
                self.planner = false;
                Answer::Accepted
            }
            Deed::StartPlanner | Deed::Start => {
                self.planner = true;
                Answer::Accepted
            }
            // Limits aren't told exactly: see `limits`.
            Deed::CrashDispatcher
            | Deed::StartDispatcher
            | Deed::ForgetIds
            | Deed::LiftLimits
            | Deed::Nothing => Answer::Accepted,
        })
    }

    fn job(&mut self, id: &JobId) -> &mut Job {
        self.jobs.entry(id.clone()).or_default()
    }

    /// Somebody asks for a run now: it runs beside what the schedule names, under an instant of its own.
    fn trigger(&mut self, id: &JobId, answer: &Answer) -> Answer {
        let now = self.now;
        let job = self.job(id);
        if job.installed.is_none() {
            return Answer::Refused;
        }
        let is_free = |due_at: &Timestamp| {
            let named = job.installed.as_ref().is_some_and(|installed| installed.names(*due_at));
            !named && !job.runs.contains_key(due_at) && !job.asked.contains_key(due_at)
        };
        let Some(due_at) = (0..500).map(|ms| now.plus_ms(ms)).find(is_free) else { return Answer::Refused };
        // Which millisecond it is doesn't matter, if it is free and not before now.
        let told = match answer {
            Answer::Triggered(told) if *told >= due_at && told.ms_since(now) < 500 && is_free(told) => *told,
            _ => due_at,
        };
        job.asked.insert(told, true);
        Answer::Triggered(told)
    }

    fn cancel(&mut self, id: &JobId, answer: &Answer) -> Answer {
        let reached = self.shard(World::shard_of(id)).reached;
        let Answer::Cancelled(Some((due_at, _))) = answer else { return Answer::Cancelled(None) };
        let job = self.job(id);
        let said = match job.runs.get(due_at).map(|run| run.state.clone()) {
            Some(State::Ended(..)) => "ended",
            // Somebody may have it in hand.
            Some(State::Out) => {
                job.stop(*due_at);
                "cancelling"
            }
            Some(_) => {
                job.end(*due_at, Outcome::Cancelled, None);
                "cancelled"
            }
            None => {
                let ahead = reached.is_none_or(|reached| *due_at > reached);
                let is_named =
                    |declared: &Declaration| *due_at > declared.known_since() && declared.names(*due_at);
                let named = job.declared.as_ref().is_some_and(is_named);
                if ahead && named && job.installed.is_some() {
                    job.end(*due_at, Outcome::Cancelled, None);
                    "cancelled"
                } else {
                    "unknown"
                }
            }
        };
        Answer::Cancelled(Some((*due_at, said.into())))
    }

    fn shard(&self, shard: ShardId) -> Shard {
        self.shards.get(&shard).copied().unwrap_or_default()
    }

    fn jobs_of(&mut self, shard: ShardId) -> impl Iterator<Item = (&JobId, &mut Job)> {
        self.jobs.iter_mut().filter(move |(id, _)| World::shard_of(id) == shard)
    }

    /// A planner sees to a shard: what was declared comes into force, and time is planned to the end of the next minute.
    fn plan(&mut self, shard: ShardId) {
        let (now, was) = (self.now, self.shard(shard));
        for (_, job) in self.jobs_of(shard) {
            job.come_into_force(was.reached, now);
        }
        // What nobody planned was missed by every job that isn't paused.
        if let Some(since) = was.planned_until.filter(|since| now.ms_since(*since) >= INTERRUPTION_MS) {
            for (_, job) in self.jobs_of(shard) {
                job.miss(Gap { since, until: now }, now, Who::Planner);
            }
        }
        let planned_until =
            Timestamp::from_ms(now.as_ms() - now.as_ms().rem_euclid(MINUTE_MS) + 2 * MINUTE_MS);
        self.shards.entry(shard).or_default().planned_until = was.planned_until.max(Some(planned_until));
    }

    /// The executors begin what is there for them.
    fn take_new(&mut self) {
        self.hands.take_new(self.now, &present(&self.jobs, self.planner));
    }

    /// Everything that executors reported counts now; whoever waited for an end may go.
    fn settle(&mut self) {
        let reports = self.hands.reports();
        self.count(reports);
    }

    fn count(&mut self, reports: Vec<Report>) {
        let mut ended = BTreeSet::new();
        for report in reports {
            self.jobs.entry(report.job.clone()).or_default().settle(
                report.due_at,
                report.outcome,
                report.reason,
            );
            ended.insert(report.job);
        }
        for id in ended {
            self.job(&id).let_waiting_go();
        }
    }

    /// Runs that waited for a queue that isn't paused any more go on, and those whose job is gone.
    fn open_queues(&mut self, dispatched: &BTreeSet<ShardId>) {
        for (id, job) in &mut self.jobs {
            let paused = queue_of(id).is_ok_and(|queue| self.held_queues.contains(&queue));
            if (!paused || job.installed.is_none()) && dispatched.contains(&World::shard_of(id)) {
                job.leave_queue();
            }
        }
    }

    /// A dispatcher looks at a shard: everything that is due is decided.
    fn look(&mut self, shard: ShardId) {
        let (now, was) = (self.now, self.shard(shard));
        let Some(planned_until) = was.planned_until else { return };
        let gap = was.reached.filter(|reached| now.ms_since(*reached) >= INTERRUPTION_MS);
        // After an interruption nothing starts before a planner has planned what was missed.
        if gap.is_some() && planned_until <= now {
            return;
        }
        let reach = now.plus_ms(AHEAD_MS).min(planned_until.plus_ms(-1));
        let reach = was.reached.map_or(reach, |reached| reached.max(reach));
        let held = self.held_queues.clone();
        let mut out = Vec::new();
        for (id, job) in self.jobs_of(shard) {
            if let Some(since) = gap {
                job.miss(Gap { since, until: now }, now, Who::Dispatcher);
            }
            let held = queue_of(id).is_ok_and(|queue| held.contains(&queue));
            out.extend(job.look(id, was.reached, reach, now, held));
        }
        out.sort_by_key(|order| order.due_at);
        out.into_iter().for_each(|order| self.hands.publish(order));
        self.shards.entry(shard).or_default().reached = Some(reach);
    }

    /// Runs that are to be stopped: who has one in hand stops it; the others are over at once.
    fn see_to_cancellations(&mut self, shard: ShardId) {
        let stopping: Vec<(JobId, Timestamp)> = self
            .jobs_of(shard)
            .flat_map(|(id, job)| job.stopping().into_iter().map(move |due_at| (id.clone(), due_at)))
            .collect();
        for (id, due_at) in stopping {
            if self.hands.stop(&id, due_at) {
                let job = self.job(&id);
                job.end(due_at, Outcome::Cancelled, None);
            }
        }
    }

    /// Runs that nobody was given in time.
    fn look_after(&mut self, shard: ShardId) {
        let jobs = &self.jobs;
        let present = |id: &JobId, number: u64| {
            let installed = jobs.get(id).and_then(|job| job.installed.as_ref());
            installed.filter(|installed| installed.number != number).map(|installed| &installed.spec)
        };
        let skipped = self.hands.look_after(|id| World::shard_of(id) == shard, present, self.now);
        self.count(skipped);
    }
}

/// By what an attempt goes that starts now, of a run that was published by the declaration of this number: by the one in force. If that is
/// another one, a planner must say so; of a job that was declared anew, and isn't in force yet, none can.
fn present<'a>(
    jobs: &'a BTreeMap<JobId, Job>,
    planner: bool,
) -> impl Fn(&JobId, u64) -> Option<Word<'a>> + 'a {
    move |id, number| match jobs.get(id).map(|job| (&job.installed, &job.declared))? {
        (Some(installed), _) if installed.number == number => None,
        _ if !planner => Some(Word::Nobody),
        (Some(installed), _) => Some(Word::Start(&installed.spec)),
        (None, None) => Some(Word::Deleted),
        (None, Some(_)) => Some(Word::Nobody),
    }
}
