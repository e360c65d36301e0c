//! Plays one seed: hosts at work, a client that edits, faults, and a calm end in which everything must come right by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bus::{ApiClient, RunStream};
use model::id::RunId;
use serde_json::{Value, json};
use store::memory::Snapshot;
use tokio::sync::mpsc;

use crate::cluster::{Cluster, Size};
use crate::faults::{Dice, Fault, Losing};
use crate::jobs::{Conduct, Declared, Job, Payload, Timeline, Troubles};
use crate::judge;
use crate::line::{Line, Server};
use crate::linked_bus::LinkedBus;
use crate::watch::StoreSeen;

/// Without faults, so that everything comes right: what waits for its turn to be worried about waits for five minutes.
const CALM: Duration = Duration::from_secs(720);
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// A request that nobody answered is repeated.
const ASK_AGAIN_AFTER_MS: i64 = 4_000;
/// A request that nobody answered may be carried out as long as there is trouble.
const LINGERS_MS: i64 = 30_000;

/// What a seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    /// Simulated, with nodes alive.
    pub(crate) seconds: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Instants that had to run.
    pub(crate) owed: u64,
    pub(crate) runs: u64,
    pub(crate) begun_again: u64,
    pub(crate) legs: u64,
    pub(crate) digest: u64,
    pub(crate) old_copies: u64,
    /// Runs whose lost message was taken for another one.
    pub(crate) mistaken: u64,
    /// Runs that ended as dead letters before they ever began.
    pub(crate) given_up: u64,
    pub(crate) late_max_ms: i64,
    pub(crate) violated: usize,
    pub(crate) violations: Vec<String>,
}

enum Event {
    Fault,
    Edit,
    Ask {
        job: usize,
    },
    /// Trouble is over: a host that is empty gets a process.
    Start {
        host: usize,
        trouble: usize,
    },
    Over {
        trouble: usize,
    },
    Reconnect {
        trouble: usize,
    },
    Restore {
        snapshot: Box<(Snapshot, StoreSeen)>,
        trouble: usize,
    },
    StepBack {
        host: usize,
        by_ms: i64,
    },
}

struct Answer {
    job: usize,
    step: Option<usize>,
    reply: Option<Value>,
}

pub(crate) struct Play {
    pub(crate) cluster: Cluster,
    dice: Dice,
    pub(crate) jobs: Vec<Job>,
    pub(crate) troubles: Troubles,
    agenda: BTreeMap<(i64, u64), Event>,
    planned: u64,
    client: Line,
    answers: (mpsc::UnboundedSender<Answer>, mpsc::UnboundedReceiver<Answer>),
    /// Jobs of which a request is under way.
    busy: BTreeSet<usize>,
    /// When the last request of a job wasn't answered.
    unanswered: BTreeMap<usize, i64>,
    /// Runs that were triggered.
    pub(crate) triggered: BTreeSet<RunId>,
    faults: BTreeMap<&'static str, u64>,
    calm: bool,
}

impl Play {
    fn now_ms(&self) -> i64 {
        self.cluster.clock.now().as_ms()
    }

    fn plan(&mut self, after: Duration, event: Event) {
        self.planned += 1;
        let at_ms = self.cluster.clock.now().plus(after).as_ms();
        self.agenda.insert((at_ms, self.planned), event);
    }

    pub(crate) fn loses(&self) -> Losing {
        self.dice.losing
    }

    fn declared(&self, index: usize) -> Declared {
        let all = index % 4 != 3;
        let (dice, now_ms) = (&self.dice, self.now_ms());
        if dice.chance(20) {
            let at_ms = (0..1 + dice.below(5)).map(|_| now_ms + 1_000 * (1 + dice.below(7_200) as i64));
            let at_ms: BTreeSet<i64> = at_ms.collect();
            return Declared { every_ms: None, at_ms: at_ms.into_iter().collect(), suspended: false, all };
        }
        let seconds = match index % 3 {
            0 => dice.pick(&[5, 7, 11, 30]),
            1 => dice.pick(&[60, 90, 420, 600]),
            _ => dice.pick(&[780, 1_800, 3_600, 5_400]),
        };
        Declared { every_ms: Some(seconds * 1_000), at_ms: Vec::new(), suspended: false, all }
    }

    fn begin_jobs(&mut self) {
        for index in 0..6 + self.dice.below(4) as usize {
            let takes_ms = self.dice.pick(&[0, 0, 50, 700, 3_000, 20_000, 45_000]);
            let conduct =
                self.dice.pick(&[Conduct::Succeed, Conduct::Succeed, Conduct::Stumble, Conduct::Fail]);
            let (queue, payload) = (self.dice.below(2) as usize, Payload { conduct, takes_ms });
            let declared = Some(self.declared(index));
            let timeline = Timeline::default();
            self.jobs.push(Job { name: format!("job-{index}"), queue, payload, declared, timeline });
            self.ask(index);
        }
    }

    fn request(&self, verb: &'static str, body: &Value, job: usize, step: Option<usize>) {
        let bus: LinkedBus = self.cluster.linked_bus(&self.client);
        let (body, answers) = (body.to_string(), self.answers.0.clone());
        tokio::spawn(async move {
            let asked = bus.request(verb, body.into(), ANSWER_WAIT);
            // A line that is cut may keep an answer for longer.
            let reply = tokio::time::timeout(ANSWER_WAIT * 2, asked).await;
            let reply = reply.ok().and_then(Result::ok).and_then(|bytes| serde_json::from_slice(&bytes).ok());
            // When it ends nobody listens any more.
            let _ = answers.send(Answer { job, step, reply });
        });
    }

    /// Asks for what a job is to be by now.
    fn ask(&mut self, index: usize) {
        if !self.busy.insert(index) {
            return;
        }
        let now_ms = self.now_ms();
        let job = &mut self.jobs[index];
        let step = Some(job.timeline.asked(now_ms, job.declared.clone()));
        let (verb, body) = match &job.declared {
            Some(declared) => ("apply", json!({"manifests": [job.manifest(declared)]})),
            None => ("delete", json!({"job": job.id()})),
        };
        self.cluster.watch.trace(|| format!("client: {verb} {} {:?}", job.id(), job.declared));
        self.request(verb, &body, index, step);
    }

    fn answered(&mut self, Answer { job, step, reply }: Answer) -> Result<()> {
        let now_ms = self.now_ms();
        let text = reply.as_ref().map(Value::to_string).unwrap_or_default();
        self.cluster.watch.trace(|| format!("client: {} was answered with {text:.300}", self.jobs[job].name));
        let Some(step) = step else {
            if let Some(run) = reply.as_ref().and_then(|reply| reply["ok"]["run"].as_str()) {
                self.triggered.insert(run.parse()?);
            }
            return Ok(());
        };
        self.busy.remove(&job);
        let deleted = self.jobs[job].declared.is_none() && text.contains("not_found");
        let failed = reply.as_ref().is_none_or(|reply| reply.get("ok").is_none_or(Value::is_null))
            || text.contains("\"error\":{")
            || text.contains("\"error\":\"");
        if deleted || !failed {
            self.jobs[job].timeline.certain(step, now_ms);
        } else {
            self.unanswered.insert(job, now_ms);
            self.plan(Duration::from_millis(ASK_AGAIN_AFTER_MS.unsigned_abs()), Event::Ask { job });
        }
        Ok(())
    }

    fn edit(&mut self) {
        let index = self.dice.below(self.jobs.len() as u64) as usize;
        let now_ms = self.now_ms();
        let lingers =
            self.unanswered.get(&index).is_some_and(|at| self.troubles.quiet_after(*at, LINGERS_MS) > now_ms);
        if self.busy.contains(&index) || lingers {
            return;
        }
        let fresh = self.declared(index);
        let declared = match (self.dice.below(100), self.jobs[index].declared.clone()) {
            (0..=24, Some(_)) => {
                let body = json!({"job": self.jobs[index].id()});
                self.request("trigger", &body, index, None);
                return;
            }
            (25..=44, Some(old)) => Some(Declared { suspended: !old.suspended, ..old }),
            (45..=52, Some(_)) => None,
            (_, _) => Some(fresh),
        };
        self.jobs[index].declared = declared;
        self.ask(index);
    }

    fn alive(&self, host: usize) -> Option<Line> {
        self.cluster.hosts[host].process.as_ref().map(|process| process.line.clone())
    }

    fn lines(&self) -> Vec<Line> {
        (0..self.cluster.hosts.len())
            .filter_map(|host| self.alive(host))
            .chain([self.client.clone()])
            .collect()
    }

    async fn fault(&mut self) -> Result<()> {
        let fault = self.dice.fault(self.cluster.hosts.len());
        self.cluster.watch.trace(|| format!("fault: {fault:?}"));
        let now_ms = self.now_ms();
        let (name, lasts) = match fault {
            Fault::Crash { host, legs, away } => {
                if let Some(line) = self.alive(host) {
                    line.die_in(legs);
                }
                let trouble = self.troubles.begin(now_ms);
                self.plan(away, Event::Start { host, trouble });
                ("crash", None)
            }
            Fault::Leave { host, away } => {
                self.cluster.leave(host);
                let trouble = self.troubles.begin(now_ms);
                self.plan(away, Event::Start { host, trouble });
                ("leave", None)
            }
            Fault::Gone { kind, away } => {
                for host in 0..self.cluster.hosts.len() {
                    if self.cluster.hosts[host].kind == kind {
                        self.cluster.kill(host);
                        let trouble = self.troubles.begin(now_ms);
                        self.plan(away, Event::Start { host, trouble });
                    }
                }
                ("all of a kind gone", None)
            }
            Fault::Pause { host, lasts } => {
                self.alive(host).iter().for_each(|line| line.pause(lasts));
                ("pause", Some(lasts))
            }
            Fault::Cut { host, store, bus, lasts } => {
                if let Some(line) = self.alive(host) {
                    if store {
                        line.cut(Server::Store, lasts);
                    }
                    if bus {
                        line.cut(Server::Bus, lasts);
                    }
                }
                ("cut off", Some(lasts))
            }
            Fault::Rough { host, weather, lasts } => {
                self.alive(host).iter().for_each(|line| line.weather(weather, lasts));
                ("rough line", Some(lasts))
            }
            Fault::Storm { weather, lasts } => {
                self.lines().iter().for_each(|line| line.weather(weather, lasts));
                ("rough lines", Some(lasts))
            }
            Fault::Clock { host, by_ms, back_after } => {
                self.cluster.step_clock(host, by_ms);
                if let Some(after) = back_after {
                    self.plan(after, Event::StepBack { host, by_ms });
                }
                ("clock stepped", Some(Duration::from_secs(5)))
            }
            Fault::StoreAway { lasts } => {
                self.lines().iter().for_each(|line| line.cut(Server::Store, lasts));
                ("store away", Some(lasts))
            }
            Fault::BusAway { lasts } => {
                self.cluster.bus.set_connected(false);
                let trouble = self.troubles.begin(now_ms);
                self.plan(lasts, Event::Reconnect { trouble });
                ("bus away", None)
            }
            Fault::StoreWiped => {
                self.cluster.store.wipe();
                self.cluster.watch.store_lost(None);
                ("store wiped", Some(Duration::ZERO))
            }
            Fault::StoreRolledBack { by } => {
                let snapshot = Box::new((self.cluster.store.snapshot(), self.cluster.watch.store_seen()));
                let trouble = self.troubles.begin(now_ms);
                self.plan(by, Event::Restore { snapshot, trouble });
                ("store rolled back", None)
            }
            Fault::IdsForgotten => {
                self.cluster.bus.forget_ids();
                ("message ids forgotten", Some(Duration::ZERO))
            }
            Fault::NewestRunsLost { count } => {
                self.cluster.bus.lose_newest_runs(count);
                self.note_lost_runs(true).await;
                ("newest runs lost", Some(Duration::ZERO))
            }
            Fault::RunsLost => {
                self.cluster.bus.lose_runs();
                self.note_lost_runs(false).await;
                ("run stream lost", Some(Duration::ZERO))
            }
            Fault::DeliveredAgain => {
                self.cluster.bus.deliver_again();
                ("delivered again", Some(Duration::ZERO))
            }
        };
        if let Some(lasts) = lasts {
            let trouble = self.troubles.begin(now_ms);
            self.plan(lasts, Event::Over { trouble });
        }
        *self.faults.entry(name).or_default() += 1;
        Ok(())
    }

    async fn note_lost_runs(&self, replaced: bool) {
        let extent = self.cluster.bus.extent().await;
        self.cluster.watch.runs_lost(extent.map_or(0, |extent| extent.last_sequence), replaced);
    }

    async fn happen(&mut self, event: Event) -> Result<()> {
        let now_ms = self.now_ms();
        match event {
            Event::Fault => {
                if !self.calm {
                    self.fault().await?;
                    let gap = self.dice.gap();
                    self.plan(gap, Event::Fault);
                }
            }
            Event::Edit => {
                if !self.calm {
                    self.edit();
                    let gap = self.dice.gap() * 2;
                    self.plan(gap, Event::Edit);
                }
            }
            Event::Ask { job } => self.ask(job),
            Event::Start { host, trouble } => {
                let is_dying = self.alive(host).is_none_or(|line| line.is_doomed());
                if is_dying {
                    self.cluster.kill(host);
                    self.cluster.start(host)?;
                }
                self.troubles.end(trouble, now_ms);
            }
            Event::Over { trouble } => self.troubles.end(trouble, now_ms),
            Event::Reconnect { trouble } => {
                self.cluster.bus.set_connected(true);
                self.troubles.end(trouble, now_ms);
            }
            Event::Restore { snapshot, trouble } => {
                self.cluster.watch.trace(|| "the store is rolled back".into());
                self.cluster.store.restore(&snapshot.0);
                self.cluster.watch.store_lost(Some(&snapshot.1));
                self.troubles.end(trouble, now_ms);
            }
            Event::StepBack { host, by_ms } => self.cluster.step_clock(host, -by_ms),
        }
        Ok(())
    }

    /// Until an instant, or until there is nothing more on the agenda by then.
    async fn go_on(&mut self, until_ms: i64) -> Result<()> {
        loop {
            let next_ms = self.agenda.first_key_value().map_or(until_ms, |((at_ms, _), _)| *at_ms);
            let sleep_ms = u64::try_from(next_ms.min(until_ms) - self.now_ms()).unwrap_or(0);
            tokio::select! {
                biased;
                answer = self.answers.1.recv() => self.answered(answer.context("an answer")?)?,
                () = tokio::time::sleep(Duration::from_millis(sleep_ms)), if sleep_ms > 0 => {}
                () = std::future::ready(()), if sleep_ms == 0 => {
                    if next_ms > until_ms || self.agenda.is_empty() {
                        return Ok(());
                    }
                    if let Some((_, event)) = self.agenda.pop_first() {
                        self.happen(event).await?;
                    }
                    if self.now_ms() >= until_ms && self.agenda.first_key_value().is_none_or(|((at, _), _)| *at > until_ms) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// No faults from now on; what they have left is mended.
    async fn calm_down(&mut self) -> Result<()> {
        self.calm = true;
        let now_ms = self.now_ms();
        self.cluster.watch.trace(|| "all is calm".into());
        for event in std::mem::take(&mut self.agenda).into_values() {
            match event {
                Event::Restore { trouble, .. } | Event::Over { trouble } => {
                    self.troubles.end(trouble, now_ms)
                }
                Event::Start { .. } | Event::Reconnect { .. } | Event::StepBack { .. } => {
                    self.happen(event).await?
                }
                Event::Ask { job } => self.ask(job),
                Event::Fault | Event::Edit => {}
            }
        }
        self.cluster.heal();
        self.client.heal();
        Ok(())
    }
}

async fn play_on(seed: u64, length: Duration, traced: bool) -> Result<Outcome> {
    let dice = Dice::new(seed);
    let size = Size {
        shards: dice.pick(&[1, 1, 1, 2]),
        planners: dice.pick(&[1, 2, 2, 2, 3]),
        dispatchers: dice.pick(&[1, 2, 2, 2, 3]),
        executors: dice.pick(&[1, 1, 2]),
    };
    let mut cluster = Cluster::new(seed, size, traced)?;
    let client = cluster.line("client");
    let mut play = Play {
        cluster,
        dice,
        jobs: Vec::new(),
        troubles: Troubles::default(),
        agenda: BTreeMap::new(),
        planned: 0,
        client,
        answers: mpsc::unbounded_channel(),
        busy: BTreeSet::new(),
        unanswered: BTreeMap::new(),
        triggered: BTreeSet::new(),
        faults: BTreeMap::new(),
        calm: false,
    };
    play.cluster.watch.trace(|| format!("seed {seed}: {size:?}, losing {:?}", play.dice.losing));
    let begin_ms = play.now_ms();
    for host in 0..play.cluster.hosts.len() {
        play.cluster.start(host)?;
    }
    play.go_on(begin_ms + 8_000).await?;
    play.begin_jobs();
    play.go_on(begin_ms + 20_000).await?;
    play.plan(Duration::ZERO, Event::Fault);
    play.plan(Duration::ZERO, Event::Edit);
    let end_ms = begin_ms + i64::try_from(length.as_millis())?;
    play.go_on(end_ms).await?;
    play.calm_down().await?;
    let calm_since = play.now_ms();
    play.go_on(calm_since + i64::try_from(CALM.as_millis())?).await?;
    judge::outcome(seed, &play, begin_ms, calm_since, std::mem::take(&mut play.faults.clone())).await
}

/// Plays a seed; it looks the same every time.
pub(crate) fn play(seed: u64, length: Duration, traced: bool) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(play_on(seed, length, traced))
}

impl std::fmt::Debug for Play {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Play").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}
