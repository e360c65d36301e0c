//! Our system under load: planner and dispatcher in this process, as `ecron up` has them, and an executor of the SDK on a
//! connection of its own, whose handler does nothing but note that it was called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::nats::{NatsBus, NatsOptions};
use bus::{ApiClient, BusError, EventReader, RunStream, SpecStore};
use bytes::Bytes;
use executor_sdk::{Context, Executor, HandlerError};
use futures_util::StreamExt;
use model::id::Revision;
use model::limits::{QUEUE_CONCURRENCY_MAX, RATE_STARTS_MAX};
use model::manifest::to_bytes;
use model::misfire::{CatchUp, CatchUpPolicy};
use model::name::{JobId, Name, QueueId};
use model::overlap::Overlap;
use model::priority::Priority;
use model::retry::RetryPolicy;
use model::schedule::ScheduleSpec;
use model::spec::{Acceptance, HistoryLimits, JobSpec, TIMEOUT_DEFAULT, Work};
use model::time::Timestamp;
use serde_json::json;
use store::plan::PlanStore;
use store::redis::{RedisOptions, RedisStore};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::lane::Present;
use super::wall::Wall;
use crate::commands::audit::AuditPeriodArgs;
use crate::commands::roles::{self, Foundation};
use crate::failure::Failure;
use crate::preflight::Demands;

/// The namespace of everything that is measured.
pub(super) const NAMESPACE: &str = "bench";
/// The queue of everything but limited jobs.
const QUEUE: &str = "bench/work";
/// The queue whose limits no measurement reaches: what they cost is the asking.
const LIMITED_QUEUE: &str = "bench/limited";
const API_TIMEOUT: Duration = Duration::from_secs(10);
/// Specs that are written at once.
const WRITES_IN_FLIGHT_MAX: usize = 512;
/// How long planning or settling may take beyond what is due.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);
/// How long the planner may take to own every shard.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// What a job's runs must ask before they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// Nothing.
    None,
    /// Whether an earlier run of the job is under way.
    Skip,
    /// Its queue, for a place and for a start within its rate.
    Queue,
    /// Both.
    SkipAndQueue,
}

impl Rules {
    fn limit_queue(self) -> bool {
        matches!(self, Self::Queue | Self::SkipAndQueue)
    }
}

/// Ours at work.
pub(super) struct Ours {
    foundation: Foundation,
    shutdown: Shutdown,
    tasks: Vec<JoinHandle<()>>,
}

impl Ours {
    /// Starts everything and waits until every shard is planned and dispatched by us.
    pub(super) async fn start(
        redis_url: &str,
        nats_url: &str,
        concurrency: usize,
        present: Present,
        wall: Wall,
    ) -> Result<Self, Failure> {
        let store = RedisStore::connect(redis_url, RedisOptions::default()).await?;
        let bus = NatsBus::connect(nats_url, NatsOptions::default()).await?;
        let foundation = roles::lay(store, bus, model::shard::SHARDS_DEFAULT, &Demands::default()).await?;
        let shutdown = Shutdown::new().with_drain_timeout(Duration::from_secs(5));
        let handler = move |_: Context, body: Bytes| {
            present.mark(&body, &wall);
            std::future::ready(Ok::<_, HandlerError>(()))
        };
        let (queue, limited) = (queue(QUEUE)?, queue(LIMITED_QUEUE)?);
        foundation.bus.ensure_queue(&queue).await?;
        foundation.bus.ensure_queue(&limited).await?;
        let executor = Executor::new(Arc::new(NatsBus::connect(nats_url, NatsOptions::default()).await?))
            .name("bench")
            .shutdown(shutdown.clone())
            .queue_id(queue)
            .concurrency(concurrency)
            .handle_bytes(handler.clone())
            .queue_id(limited)
            .concurrency(concurrency)
            .handle_bytes(handler);
        let (planner, dispatcher) =
            (foundation.planner(100, &AuditPeriodArgs::default()), foundation.dispatcher(100));
        let tasks = vec![
            on_thread({
                let shutdown = shutdown.clone();
                move |runtime| runtime.block_on(planner.run(shutdown))
            }),
            on_thread({
                let shutdown = shutdown.clone();
                move |runtime| runtime.block_on(dispatcher.run(shutdown))
            }),
            tokio::spawn(async move {
                if let Err(problem) = executor.run().await {
                    tracing::error!(%problem, "the executor ended");
                }
            }),
        ];
        let ours = Self { foundation, shutdown, tasks };
        ours.wait(READY_TIMEOUT, "own every shard", async || Ok(ours.planned_until().await?.is_some()))
            .await?;
        Ok(ours)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.foundation.clock
    }

    pub(super) fn submit_subject() -> Result<String, Failure> {
        Ok(bus::subjects::QueueSubject::Submit.of(&queue(QUEUE)?))
    }

    /// Declares jobs by their names and instants; answers with the last revision. Each is durable once this returns.
    pub(super) async fn declare(
        &self,
        rules: Rules,
        jobs: impl ExactSizeIterator<Item = (String, Timestamp, String)>,
    ) -> Result<Revision, Failure> {
        let queue = queue(if rules.limit_queue() { LIMITED_QUEUE } else { QUEUE })?;
        let now = self.clock().now();
        let writes = jobs.map(|(name, at, text)| {
            let spec = one_shot(&name, &queue, at, text).map(|spec| ruled(spec, rules));
            self.put(spec, now)
        });
        let mut writes = futures_util::stream::iter(writes).buffer_unordered(WRITES_IN_FLIGHT_MAX);
        let mut last = Revision(0);
        while let Some(written) = writes.next().await {
            last = last.max(written?);
        }
        Ok(last)
    }

    async fn put(&self, spec: Option<JobSpec>, now: Timestamp) -> Result<Revision, Failure> {
        let spec = spec.ok_or_else(|| Failure::failed("a job's name can't be written"))?;
        let acceptance = Acceptance::new(now);
        let value = Bytes::from(to_bytes(&spec, &acceptance));
        let shard = self.foundation.cluster.shards.shard_of(&spec.id);
        match self.foundation.bus.put(shard, &spec.id, None, value).await {
            Ok(revision) => Ok(revision),
            Err(BusError::Conflict) => Err(Failure::failed(format!(
                "{} is there already: use servers of the benchmark's own",
                spec.id
            ))),
            Err(problem) => Err(problem.into()),
        }
    }

    /// Sets the limits of the limited queue, so high that nothing waits.
    pub(super) async fn limit(&self) -> Result<(), Failure> {
        let queue = queue(LIMITED_QUEUE)?;
        let manifest = json!({
            "apiVersion": "ecron/v1", "kind": "Queue",
            "metadata": {"name": queue.name.to_string(), "namespace": queue.namespace.to_string()},
            "spec": {
                "concurrency": QUEUE_CONCURRENCY_MAX,
                "rate": format!("{RATE_STARTS_MAX}/1s burst {RATE_STARTS_MAX}"),
            },
        });
        let request = json!({"manifests": [manifest]}).to_string().into();
        let answer = self.foundation.bus.request("apply", request, API_TIMEOUT).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)
            .map_err(|problem| Failure::failed(format!("failed to read the answer to apply: {problem}")))?;
        if answer["error"].is_null() { Ok(()) } else { Err(Failure::failed(answer["error"].to_string())) }
    }

    /// Waits until every spec up to a revision is installed.
    pub(super) async fn installed(&self, revision: Revision) -> Result<(), Failure> {
        let seen = async || {
            let mut seen = Revision(u64::MAX);
            for shard in self.foundation.cluster.shards.all() {
                let cursor = self.foundation.store.cursor(shard).await?;
                seen = seen.min(cursor.map_or(Revision(0), |cursor| cursor.spec_revision));
            }
            Ok(seen >= revision)
        };
        self.wait(PATIENCE, "install every spec", seen).await
    }

    /// The instant up to which every shard is planned; `None`: some aren't ours yet.
    async fn planned_until(&self) -> Result<Option<Timestamp>, Failure> {
        let mut until: Option<Timestamp> = None;
        for shard in self.foundation.cluster.shards.all() {
            let Some(cursor) = self.foundation.store.cursor(shard).await? else { return Ok(None) };
            until = Some(until.map_or(cursor.planned_until, |until| until.min(cursor.planned_until)));
        }
        Ok(until.filter(|until| *until > self.clock().now()))
    }

    /// Waits until every outcome is settled.
    pub(super) async fn settled(&self) -> Result<(), Failure> {
        let settled = async || {
            let progress = self.foundation.bus.event_progress().await?;
            Ok(progress.settled_until >= progress.last_sequence)
        };
        self.wait(PATIENCE, "settle every outcome", settled).await
    }

    async fn wait(
        &self,
        patience: Duration,
        what: &str,
        done: impl AsyncFn() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let give_up_at = self.clock().monotonic() + patience;
        while !done().await? {
            if self.clock().monotonic() >= give_up_at {
                return Err(Failure::failed(format!("failed to {what} within {} s", patience.as_secs())));
            }
            self.clock().sleep(POLL).await;
        }
        Ok(())
    }

    pub(super) async fn stop(self) {
        self.shutdown.stop();
        for task in self.tasks {
            if let Err(problem) = task.await {
                tracing::error!(%problem, "a role broke");
            }
        }
    }
}

/// A role on a thread of its own, as it has in a process of its own: its main loop is no task of the runtime there either.
fn on_thread(role: impl FnOnce(Handle) + Send + 'static) -> JoinHandle<()> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || role(runtime))
}

fn queue(name: &str) -> Result<QueueId, Failure> {
    name.parse().map_err(|problem| Failure::failed(format!("failed to read {name:?}: {problem}")))
}

fn ruled(spec: JobSpec, rules: Rules) -> JobSpec {
    match rules {
        Rules::None | Rules::Queue => spec,
        Rules::Skip | Rules::SkipAndQueue => JobSpec { overlap: Overlap::Skip, ..spec },
    }
}

/// A job that occurs once. Whatever happens, its run isn't dropped for being late: then it would be missing.
fn one_shot(name: &str, queue: &QueueId, at: Timestamp, text: String) -> Option<JobSpec> {
    let id = JobId { namespace: Name::new(NAMESPACE).ok()?, name: Name::new(name).ok()? };
    Some(JobSpec {
        id,
        labels: BTreeMap::new(),
        schedule: ScheduleSpec { at: vec![at], ..ScheduleSpec::default() },
        calendars: BTreeMap::new(),
        queue: queue.clone(),
        work: Work::Payload(serde_json::Value::String(text)),
        headers: BTreeMap::new(),
        catch_up: CatchUp { policy: CatchUpPolicy::All, ..CatchUp::default() },
        overlap: Overlap::Allow,
        max_active: None,
        starting_deadline: None,
        timeout: TIMEOUT_DEFAULT,
        retry: RetryPolicy::default(),
        deadline: None,
        priority: Priority::Normal,
        rate_key: None,
        suspend: false,
        history: HistoryLimits::default(),
        delete_when_done: false,
    })
}
