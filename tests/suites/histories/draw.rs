//! Drawing a history from its seed.

use ambient::Entropy;

use crate::history::{Deed, History, JOBS, Limits, Scene, Spec, TIMEOUT_S, When};

/// Deeds of one history, besides the declarations at its beginning.
const DEEDS: u64 = 24;
/// The same on servers, where each second takes time.
const DEEDS_ON_SERVERS: u64 = 14;
/// The longest pause between two deeds there.
const PAUSE_ON_SERVERS_S: u32 = 25;
/// By then everything has ended: runs of four attempts, a minute each, one after the other.
const ALL_ENDED_S: u32 = 20_000;
/// So long after a downtime something may still be late: leases must run out first, and what was missed be dispatched.
const LATE_FOR_S: u32 = 8;

/// For whom a history is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// To be told exactly, in memory.
    Exact,
    /// To be told exactly, on servers: executors aren't lost, and no ids are forgotten.
    OnServers,
    /// With limits: executors aren't lost, and no job is deleted, so that each run can be followed to its end.
    Limited,
}

struct Draw {
    entropy: Entropy,
    kind: Kind,
    versions: u64,
    specs: [Option<Spec>; JOBS.len()],
    planner: bool,
    dispatcher: bool,
    executor: bool,
    paused_queues: [bool; 2],
    paused_namespaces: [bool; 2],
    /// Jobs that were paused or resumed while planner or dispatcher were away, or just after that. Their schedules aren't edited in that time:
    /// what an edit of a paused job's schedule forgets, if nobody saw them in order, isn't told.
    turned_while_late: [bool; JOBS.len()],
    /// Second by which everything has been up for so long that nothing is late.
    on_time_at: u32,
    now_s: u32,
}

impl Draw {
    fn below(&self, bound: u64) -> u64 {
        self.entropy.next_u64() % bound
    }

    fn upto(&self, most: u32) -> u32 {
        self.below(u64::from(most) + 1) as u32
    }

    fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize].clone()
    }

    fn maybe<T>(&self, percent: u64, value: impl FnOnce(&Self) -> T) -> Option<T> {
        self.chance(percent).then(|| value(self))
    }

    fn when(&self) -> When {
        match self.below(10) {
            0..=4 => When::Every(self.pick(&[1, 2, 3, 5, 7, 10, 13, 20, 30, 45, 60])),
            5..=7 => When::Cron(self.pick(&[
                "*/2 * * * * *",
                "*/5 * * * * *",
                "*/10 * * * * *",
                "7,8,31 * * * * *",
                "0,30 * * * * *",
                "* * * * *",
                "*/2 * * * *",
            ])),
            _ => {
                let mut at: Vec<u32> =
                    (0..1 + self.below(6)).map(|_| self.now_s + 1 + self.upto(120)).collect();
                at.sort_unstable();
                at.dedup();
                When::At(at)
            }
        }
    }

    fn spec(&mut self) -> Spec {
        self.versions += 1;
        let mut spec = Spec {
            when: self.when(),
            end: self.maybe(10, |draw| draw.now_s + 20 + draw.upto(200)),
            count: self.maybe(10, |draw| 1 + draw.upto(20)),
            overlap: "allow",
            max_active: None,
            catch_up: "latest",
            window_s: None,
            max: None,
            catch_up_rate: None,
            starting_deadline_s: None,
            attempts: 1,
            retry_s: 1,
            factor: 1,
            timeout_s: 600,
            suspend: self.chance(7),
            version: self.versions,
        };
        self.rules(&mut spec);
        spec
    }

    /// Everything but the schedule.
    fn rules(&mut self, spec: &mut Spec) {
        spec.overlap = self.pick(&["allow", "allow", "skip", "queue-one", "queue-all", "replace"]);
        spec.max_active = self.maybe(25, |draw| 1 + draw.upto(2));
        spec.catch_up = self.pick(&["none", "latest", "all", "all"]);
        spec.window_s = self.maybe(30, |draw| draw.pick(&[5, 20, 45, 90, 200]));
        spec.max = self.maybe(40, |draw| 1 + draw.upto(7));
        spec.starting_deadline_s = self.maybe(25, |draw| draw.pick(&[1, 4, 9, 15, 30, 70]));
        spec.attempts = 1 + self.upto(3);
        spec.retry_s = 1 + self.upto(6);
        spec.factor = 1 + self.upto(1);
        if self.kind == Kind::Limited {
            spec.catch_up_rate = self.maybe(40, |draw| (1 + draw.upto(4), draw.pick(&[1, 5, 20])));
        }
        spec.timeout_s = if self.chance(15) { TIMEOUT_S } else { 600 };
    }

    /// A new version of a job.
    fn edited(&mut self, old: &Spec, any: bool) -> Spec {
        self.versions += 1;
        let mut spec = Spec { version: self.versions, ..old.clone() };
        match self.below(8) {
            0..=2 if any => spec.when = self.when(),
            3 if any => {
                spec.count = self.maybe(50, |draw| 1 + draw.upto(20));
                spec.end = self.maybe(50, |draw| draw.now_s + 20 + draw.upto(200));
            }
            4 => {}
            5 => spec.suspend = !spec.suspend,
            _ => self.rules(&mut spec),
        }
        spec
    }

    fn late(&self) -> bool {
        !(self.planner && self.dispatcher && self.now_s >= self.on_time_at)
    }

    fn deed(&mut self) -> Deed {
        let which = self.below(JOBS.len() as u64) as usize;
        let late = self.late();
        if !late {
            self.turned_while_late = [false; JOBS.len()];
        }
        let paused = self.specs[which].as_ref().is_some_and(|spec| spec.suspend)
            || self.paused_namespaces[usize::from(JOBS[which].starts_with("other"))];
        match (self.below(100), self.specs[which].clone()) {
            (0..=19, Some(old)) => {
                let spec = self.edited(&old, !late || !(paused || self.turned_while_late[which]));
                self.turned_while_late[which] |= spec.suspend != old.suspend;
                self.specs[which] = Some(spec.clone());
                Deed::Apply(which, spec)
            }
            (0..=19, None) => {
                let spec = self.spec();
                self.specs[which] = Some(spec.clone());
                Deed::Apply(which, spec)
            }
            // Not while something is late: whether it is deleted before or after it was dispatched is up to who comes back first.
            (20..=23, Some(_)) if !late && self.kind != Kind::Limited => {
                self.specs[which] = None;
                Deed::Delete(which)
            }
            (24..=35, Some(spec)) => {
                let paused = spec.suspend;
                self.turned_while_late[which] = true;
                self.specs[which] = Some(Spec { suspend: !paused, ..spec });
                if paused { Deed::Resume(which) } else { Deed::Pause(which) }
            }
            (36..=45, Some(_)) => Deed::Trigger(which),
            (46..=49, Some(_)) => Deed::CancelNext(which, self.upto(3)),
            (50..=56, Some(_)) => Deed::CancelLast(which),
            (57..=61, _) => {
                let queue = self.below(2) as usize;
                self.paused_queues[queue] = !self.paused_queues[queue];
                if self.paused_queues[queue] { Deed::PauseQueue(queue) } else { Deed::ResumeQueue(queue) }
            }
            (62..=65, _) => {
                let name = self.below(2) as usize;
                self.paused_namespaces[name] = !self.paused_namespaces[name];
                self.turned_while_late = [true; JOBS.len()];
                if self.paused_namespaces[name] {
                    Deed::PauseNamespace(name)
                } else {
                    Deed::ResumeNamespace(name)
                }
            }
            (66..=74, _) if self.kind != Kind::Exact => Deed::Nothing,
            (66..=71, _) => {
                self.executor = !self.executor;
                if self.executor { Deed::StartExecutor } else { Deed::KillExecutor }
            }
            (72..=74, _) => Deed::ForgetIds,
            (75..=80, _) => {
                self.planner = !self.planner;
                if self.planner { Deed::StartPlanner } else { Deed::CrashPlanner }
            }
            (81..=86, _) => {
                self.dispatcher = !self.dispatcher;
                if self.dispatcher { Deed::StartDispatcher } else { Deed::CrashDispatcher }
            }
            (87..=94, _) => {
                let up = self.planner || self.dispatcher;
                (self.planner, self.dispatcher) = (!up, !up);
                if up { Deed::Crash } else { Deed::Start }
            }
            _ => Deed::Nothing,
        }
    }

    fn pass(&mut self, seconds: u32) {
        self.now_s += seconds;
        if !(self.planner && self.dispatcher) {
            self.on_time_at = self.now_s + LATE_FOR_S;
        }
    }

    fn pause_s(&self) -> u32 {
        match self.below(20) {
            0..=2 => 0,
            3..=15 => 1 + self.upto(8),
            16..=18 => 9 + self.upto(30),
            _ => 60 + self.upto(180),
        }
    }
}

/// The history of a seed.
pub(crate) fn history(seed: u64) -> History {
    draw(seed, Kind::Exact)
}

/// The history of a seed that can be played on servers.
pub(crate) fn history_on_servers(seed: u64) -> History {
    draw(seed, Kind::OnServers)
}

/// The history of a seed whose queues have limits, until near its end. In the end everything has come to an end.
pub(crate) fn limited_history(seed: u64) -> History {
    let mut history = draw(seed, Kind::Limited);
    let entropy = Entropy::seeded(seed.rotate_left(17));
    let draw = |below: u32| (entropy.next_u64() % u64::from(below)) as u32;
    let concurrency = (draw(3) > 0).then(|| 1 + draw(4));
    let starts = 2 + draw(9);
    let rate = (draw(2) > 0).then(|| (starts, [2, 5, 10][draw(3) as usize], 1 + draw(starts.min(4))));
    history.limits = Limits { concurrency, rate };
    history.scenes.extend(ending());
    history
}

/// After which everything has come to an end, if everybody is there.
pub(crate) fn ending() -> [Scene; 3] {
    let ending =
        [(Deed::PauseNamespace(0), 0), (Deed::PauseNamespace(1), 20), (Deed::LiftLimits, ALL_ENDED_S)];
    ending.map(|(deed, then_s)| Scene { deed, then_s })
}

fn draw(seed: u64, kind: Kind) -> History {
    let on_servers = kind == Kind::OnServers;
    let mut draw = Draw {
        entropy: Entropy::seeded(seed),
        kind,
        versions: 0,
        specs: [const { None }; JOBS.len()],
        planner: true,
        dispatcher: true,
        executor: true,
        paused_queues: [false; 2],
        paused_namespaces: [false; 2],
        turned_while_late: [false; JOBS.len()],
        on_time_at: 0,
        now_s: 3,
    };
    let mut scenes = Vec::new();
    for which in 0..1 + draw.below(JOBS.len() as u64) as usize {
        let spec = draw.spec();
        draw.specs[which] = Some(spec.clone());
        let then_s = draw.upto(3);
        scenes.push(Scene { deed: Deed::Apply(which, spec), then_s });
        draw.pass(then_s);
    }
    for _ in 0..if on_servers { DEEDS_ON_SERVERS } else { DEEDS } {
        let deed = draw.deed();
        let mut then_s = draw.pause_s();
        if !(draw.planner && draw.dispatcher) && then_s > 60 && draw.chance(50) {
            then_s /= 8;
        }
        if on_servers {
            then_s = then_s.min(PAUSE_ON_SERVERS_S);
        }
        // What is down comes back soon enough for something to happen afterwards.
        draw.pass(then_s);
        scenes.push(Scene { deed, then_s });
    }
    for (up, deed) in [
        (draw.planner, Deed::StartPlanner),
        (draw.dispatcher, Deed::StartDispatcher),
        (draw.executor, Deed::StartExecutor),
    ] {
        if !up {
            scenes.push(Scene { deed, then_s: 0 });
        }
    }
    scenes.push(Scene { deed: Deed::Nothing, then_s: if on_servers { 20 } else { 15 + draw.upto(45) } });
    History { seed, limits: Limits::default(), scenes }
}
