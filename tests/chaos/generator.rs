//! Whoever uses the cluster meanwhile: declares jobs, edits them, triggers, submits, defers and looks; and writes down
//! what was asked and what was answered.

use std::time::Duration;

use harness::witness::now_ms;
use serde_json::json;
use tokio::time::Instant;

use crate::client::{Client, Reply, about, answer_of, text};
use crate::dice::Dice;
use crate::evidence::{Act, Answer, Journal, Operation, Shown};
use crate::jobs::{Conduct, Job, NAMESPACE, NEVER_SOON_MS, Payload, QUEUES, at, every, steady};

/// Jobs that are edited all the time.
const EDITED: u64 = 8;
/// Between two edits, whoever's: so each job is left alone for about half a minute.
const EDIT_EVERY_MS: (u64, u64) = (2_500, 6_000);
const TRIGGER_EVERY_MS: (u64, u64) = (2_000, 6_000);
const SUBMIT_EVERY_MS: (u64, u64) = (400, 1_600);
const LOOK_EVERY_MS: (u64, u64) = (600, 1_800);
/// Between two jobs that name single instants.
const SINGLE_EVERY_MS: (u64, u64) = (8_000, 20_000);
/// The job that only occurs when it is triggered.
const BY_HAND: &str = "chaos/by-hand";

#[derive(Debug)]
pub(crate) struct Generator {
    pub(crate) client: Client,
    pub(crate) operations: Journal,
    pub(crate) shown: Journal,
    pub(crate) seed: u64,
}

impl Generator {
    fn note(&self, act: Act, reply: &Reply) {
        self.operations.note(&Operation {
            asked_ms: reply.asked_ms,
            answered_ms: reply.answered_ms,
            act,
            answer: reply.answer,
            problem: reply.problem.clone(),
        });
    }

    /// Declares what everything else builds upon; answers with the jobs that nobody edits.
    pub(crate) async fn begin(&self, runs_per_s: u32) -> anyhow::Result<Vec<Job>> {
        let jobs = steady(runs_per_s);
        let by_hand = Job::new("by-hand", at(vec![NEVER_SOON_MS]), QUEUES[0], Conduct::Succeed, 5);
        for job in jobs.iter().chain([&by_hand]) {
            let mut tries = 0;
            while self.apply(job).await != Answer::Done {
                tries += 1;
                anyhow::ensure!(tries < 20, "declare {}: it doesn't succeed", job.id);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Ok(jobs)
    }

    /// Uses the cluster until an instant.
    pub(crate) async fn run(&self, steady: &[Job], until: Instant) {
        tokio::join!(
            self.edit(until),
            self.trigger(until),
            self.submit(until),
            self.single(until),
            self.look(steady, until),
        );
    }

    async fn apply(&self, job: &Job) -> Answer {
        let mut reply = self.client.ask("apply", &json!({"manifests": [job.manifest()]})).await;
        let failed = &reply.ok["jobs"][0]["error"];
        if reply.answer == Answer::Done && !failed.is_null() {
            (reply.answer, reply.problem) = (answer_of(failed), text(&failed["message"]));
        }
        self.note(Act::Apply { job: job.id.clone(), declared: job.declared.clone() }, &reply);
        reply.answer
    }

    async fn edit(&self, until: Instant) {
        let mut dice = Dice::of(self.seed, "edits");
        let mut jobs: Vec<(Job, bool)> = (1..=EDITED)
            .map(|number| {
                let spec = every(1_000 * i64::try_from(number % 4 + 2).unwrap_or(2));
                (Job::new(&format!("edited-{number}"), spec, QUEUES[0], Conduct::Succeed, 10), false)
            })
            .collect();
        // In turn, in an order that changes each round, so that none is edited twice in a row.
        let mut turn = 0;
        while pause(&mut dice, EDIT_EVERY_MS, until).await {
            let index = turn % jobs.len();
            turn += 1;
            let (job, present) = &mut jobs[index];
            job.payload.edition += 1;
            match (*present, dice.below(8)) {
                (false, _) => job.declared.suspended = false,
                (true, 0..=2) => {
                    job.declared.every_ms = Some(1_000 * i64::try_from(dice.between(2, 6)).unwrap_or(2));
                }
                (true, 3 | 4) => job.declared.suspended = !job.declared.suspended,
                // Only the payload changes.
                (true, 5 | 6) => {}
                (true, _) => {
                    let reply = self.client.ask("delete", &about(&job.id)).await;
                    self.note(Act::Delete { job: job.id.clone() }, &reply);
                    *present = !matches!(reply.answer, Answer::Done | Answer::Refused);
                    continue;
                }
            }
            *present |= self.apply(job).await == Answer::Done;
        }
    }

    async fn trigger(&self, until: Instant) {
        let mut dice = Dice::of(self.seed, "triggers");
        while pause(&mut dice, TRIGGER_EVERY_MS, until).await {
            let reply = self.client.ask("trigger", &about(BY_HAND)).await;
            let run = reply.ok["run"].as_str().map(ToOwned::to_owned);
            self.note(Act::Trigger { job: BY_HAND.into(), run }, &reply);
        }
    }

    async fn submit(&self, until: Instant) {
        let mut dice = Dice::of(self.seed, "submissions");
        let mut number = 0;
        while pause(&mut dice, SUBMIT_EVERY_MS, until).await {
            number += 1;
            let token = format!("ad-hoc-{number}");
            let payload = Payload {
                conduct: Conduct::Succeed,
                takes_ms: dice.between(0, 200),
                token: Some(token.clone()),
                edition: 0,
            };
            let payload = serde_json::to_value(&payload).unwrap_or_default();
            let mut headers = vec![("Nats-Msg-Id", token.clone()), ("Ecron-Key", token.clone())];
            let queue = QUEUES[0].replace('/', ".");
            let delay_ms = (dice.below(4) == 0).then(|| dice.between(500, 20_000));
            let subject = match delay_ms {
                Some(ms) => {
                    headers.push(("Ecron-Delay", format!("{ms}ms")));
                    format!("ecron.defer.{queue}")
                }
                None => format!("ecron.submit.{queue}"),
            };
            let reply = self.client.publish(subject, &headers, &payload).await;
            let not_before_ms =
                delay_ms.and_then(|ms| Some(reply.asked_ms.saturating_add(i64::try_from(ms).ok()?)));
            self.note(Act::Submit { token, not_before_ms }, &reply);
        }
    }

    /// Jobs that name single instants.
    async fn single(&self, until: Instant) {
        let mut dice = Dice::of(self.seed, "single instants");
        let mut number = 0;
        while pause(&mut dice, SINGLE_EVERY_MS, until).await {
            number += 1;
            let count = dice.between(2, 8);
            let at_ms = (0..count)
                .map(|_| now_ms() + i64::try_from(dice.between(3_000, 90_000)).unwrap_or(3_000))
                .collect::<std::collections::BTreeSet<i64>>();
            let name = format!("single-{number}");
            let job = Job::new(&name, at(at_ms.into_iter().collect()), QUEUES[0], Conduct::Succeed, 5);
            self.apply(&job).await;
        }
    }

    async fn look(&self, steady: &[Job], until: Instant) {
        let mut dice = Dice::of(self.seed, "looks");
        while pause(&mut dice, LOOK_EVERY_MS, until).await {
            let Some(job) = dice.pick(steady) else { return };
            let (verb, request) = match dice.below(4) {
                0 => ("get", about(&job.id)),
                1 => ("list", json!({"namespace": NAMESPACE, "limit": 10})),
                _ => ("runs", json!({"job": job.id, "limit": 40})),
            };
            let reply = self.client.ask(verb, &request).await;
            self.note(Act::Read { verb: verb.into() }, &reply);
            self.show(&reply);
        }
    }

    fn show(&self, reply: &Reply) {
        for run in reply.ok["runs"].as_array().into_iter().flatten() {
            let generation = run["generation"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            let shown = Shown {
                at_ms: reply.answered_ms,
                run: text(&run["run"]),
                generation,
                state: text(&run["state"]),
            };
            self.shown.note(&shown);
        }
    }

    /// Reads every job's history once more.
    pub(crate) async fn look_at_all(&self, steady: &[Job]) {
        for job in steady {
            let reply = self.client.ask("runs", &json!({"job": job.id, "limit": 100})).await;
            self.show(&reply);
        }
    }
}

/// Waits a while; `false` if that would be past `until`.
async fn pause(dice: &mut Dice, range_ms: (u64, u64), until: Instant) -> bool {
    let next = Instant::now() + Duration::from_millis(dice.between(range_ms.0, range_ms.1));
    tokio::time::sleep_until(next.min(until)).await;
    next < until
}
