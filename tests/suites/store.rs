//! The store on a real Redis: the conformance suite, agreement with the memory twin, and what only a server can show:
//! unreadable values, lost scripts, crashes, pauses, memory pressure.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use harness::servers::{self, Server};
use model::bucket::Minute;
use model::id::Occurrence;
use model::shard::ShardId;
use model::time::{Timestamp, duration_ms};
use store::LeaseStore;
use store::conformance::{Fixture, random};
use store::keys;
use store::memory::{Loss, MemoryStore};
use store::redis::{RedisOptions, RedisStore};

/// A store on a private server.
struct Real {
    store: RedisStore,
    server: Server,
}

impl Fixture for Real {
    type Store = RedisStore;

    fn store(&self) -> &RedisStore {
        &self.store
    }

    async fn pass(&self, time: Duration) {
        let start = self.store.now().await.unwrap();
        while self.store.now().await.unwrap().ms_since(start) <= duration_ms(time) {
            tokio::task::yield_now().await;
        }
    }

    async fn lose(&self, shard: ShardId, loss: &Loss) -> bool {
        lose(&self.server, shard, loss).await
    }

    async fn wipe(&self) {
        raw(&self.server, &["FLUSHALL"]).await;
    }
}

/// A store in memory, with a clock that stands still.
struct Memory(MemoryStore);

impl Fixture for Memory {
    type Store = MemoryStore;

    fn store(&self) -> &MemoryStore {
        &self.0
    }

    async fn pass(&self, _: Duration) {}

    async fn lose(&self, shard: ShardId, loss: &Loss) -> bool {
        self.0.lose(shard, loss)
    }

    async fn wipe(&self) {
        self.0.wipe();
    }
}

async fn real_with(settings: &[&str]) -> Real {
    let server = servers::redis(settings).await.unwrap();
    let store = RedisStore::connect(&server.url(), RedisOptions::default()).await.unwrap();
    Real { store, server }
}

async fn real() -> Real {
    real_with(&[]).await
}

/// One command over a connection of its own.
async fn raw(server: &Server, words: &[&str]) -> redis::Value {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}

/// Takes something out as a person with `redis-cli` does.
async fn lose(server: &Server, shard: ShardId, loss: &Loss) -> bool {
    let members = |run: &Occurrence| (1..=3).map(|revision| format!("{run}#{revision}")).collect::<Vec<_>>();
    let (key, members) = match loss {
        Loss::Entry(run) => (keys::minute(shard, Minute::of(run.due_at)), members(run)),
        Loss::HeldBack(run) => {
            let due_ms = run.due_at.as_ms();
            let members = members(run).into_iter().map(|entry| format!("{due_ms} {entry}"));
            (keys::spaced(shard), members.collect())
        }
        Loss::Held(run) => (keys::held(shard), members(run)),
        Loss::Waits(run) => (keys::waits(shard, &run.job), members(run)),
        Loss::Sent(run) => (keys::sent(shard), vec![run.to_string()]),
        Loss::Cancelling(run) => (keys::cancelling(shard), vec![run.to_string()]),
        Loss::Run(run) => return deleted(server, &["DEL", &keys::run(shard, run)]).await,
        Loss::Job(job) => return deleted(server, &["DEL", &keys::job(shard, job)]).await,
        Loss::Place(job) => {
            let placed = raw(server, &["HGET", &keys::job(shard, job), "placed"]).await;
            let placed: String = redis::from_redis_value(placed).unwrap();
            let (bucket, due) = placed.split_once(' ').unwrap();
            let member = if bucket == "horizon" { job.to_string() } else { format!("{job}@{due}#1") };
            (format!("{}{bucket}", keys::prefix(shard)), vec![member])
        }
    };
    let words = ["ZREM", &key].into_iter().chain(members.iter().map(String::as_str));
    deleted(server, &words.collect::<Vec<_>>()).await
}

async fn deleted(server: &Server, words: &[&str]) -> bool {
    raw(server, words).await == redis::Value::Int(1)
}

store::conformance_tests!(real());

#[tokio::test]
async fn redis_and_memory_agree() {
    let real = real().await;
    let memory = Memory(MemoryStore::new(Arc::new(|| Timestamp::from_ms(1_800_000_000_000))));
    // More with ECRON_TEST_SEEDS=N; a failure names its seed.
    let seeds = std::env::var("ECRON_TEST_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    for seed in 0..seeds {
        random::agree(&memory, &real, seed, 150).await;
        store::conformance::gate::agree(&memory, &real, seed, 150).await;
    }
}

/// What only a real server shows.
mod server {
    use model::bucket::{Placed, Tier};
    use model::id::Revision;
    use model::name::JobId;
    use model::shard::ShardId;
    use model::spec::HistoryLimits;
    use store::conformance::World;
    use store::lease::Role;
    use store::plan::{Install, JobRecord};
    use store::{Inspect, LedgerStore, NodeStore, PlanStore, StoreError};

    use super::*;

    const SHARD: ShardId = ShardId(7);
    const TTL: Duration = Duration::from_secs(60);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn job(text: &str) -> JobId {
        text.parse().unwrap()
    }

    fn new_job(name: &str, placed: Option<Placed>, add: &[&str]) -> Install {
        Install {
            job: job(name),
            expected: None,
            record: Some(JobRecord {
                revision: Revision(1),
                spec: "spec".into(),
                placed,
                condition: None,
                history: HistoryLimits::default(),
                overlap: None,
                after: None,
                after_due: None,
            }),
            after_first: None,
            keep_history: false,
            at: at("2026-11-22T06:00:00Z"),
            remove: Vec::new(),
            add: add.iter().map(|due| at(due)).collect(),
            add_unseen: Vec::new(),
            spaced: Vec::new(),
            skipped: Vec::new(),
            change: None,
        }
    }

    #[tokio::test]
    async fn a_triggers_key_is_kept_for_a_day_from_its_first_use() {
        use model::limits::TRIGGER_KEY_KEPT;
        use store::ControlStore;
        use store::control::Trigger;
        let real = real().await;
        let w = World::begun(&real).await;
        real.store.install(SHARD, w.planner, &new_job("a/b", None, &[])).await.unwrap();
        let due_at = at("2026-11-22T07:00:00.5Z");
        let key = model::id::Key::new("order-17").unwrap();
        let trigger = Trigger { job: job("a/b"), due_at, key: Some(key), payload: None };
        let name = keys::trigger(SHARD, &trigger.job, "order-17");
        let mut left_ms = duration_ms(TRIGGER_KEY_KEPT);
        for duplicate in [false, true] {
            let triggered = real.store.trigger(SHARD, &trigger).await.unwrap().unwrap();
            assert_eq!((triggered.due_at, triggered.duplicate), (due_at, duplicate));
            let redis::Value::Int(ttl) = raw(&real.server, &["PTTL", &name]).await else {
                panic!("no time to live")
            };
            assert!((left_ms - 60_000..=left_ms).contains(&ttl), "{ttl}: asking again doesn't prolong it");
            left_ms = ttl;
        }
    }

    fn half_hour(due: &str) -> Option<Placed> {
        Some(Placed { tier: Tier::HalfHour, due_at: at(due) })
    }

    /// A shard with a job that has two entries in the minute tier and a place in the half-hour tier.
    async fn planned(real: &Real) -> World<'_, Real> {
        let world = World::begun(real).await;
        let dues = ["2026-11-22T07:00:00Z", "2026-11-22T07:00:30Z"];
        let install = new_job("a/b", half_hour("2026-11-22T07:10:00Z"), &dues);
        real.store.install(SHARD, world.planner, &install).await.unwrap();
        world
    }

    async fn strings(server: &Server, words: &[&str]) -> Vec<String> {
        let mut strings: Vec<String> = redis::from_redis_value(raw(server, words).await).unwrap();
        strings.sort();
        strings
    }

    #[tokio::test]
    async fn keys_are_those_of_the_catalogue() {
        let real = real().await;
        let w = planned(&real).await;
        real.store
            .install(
                SHARD,
                w.planner,
                &new_job(
                    "a/far",
                    Some(Placed { tier: Tier::Horizon, due_at: at("2026-12-01T00:00:00Z") }),
                    &[],
                ),
            )
            .await
            .unwrap();
        let taken = real.store.take(SHARD, w.dispatcher, at("2026-11-22T07:00:00Z"), 10).await.unwrap();
        let sent = store::ledger::Sent {
            entry: taken.entries[0].entry.clone(),
            sequence: 1,
            published_at: at("2026-11-22T07:00:00.003Z"),
            worry_at: at("2026-11-22T07:10:00Z"),
            republished: 0,
        };
        real.store.confirm(SHARD, w.dispatcher, &[sent]).await.unwrap();
        real.store.note_terminated(17, "bad input", at("2026-11-22T07:00:00Z")).await.unwrap();
        let node =
            store::node::Node { id: "n".into(), roles: vec![Role::Planner], weight: 1, version: "1".into() };
        real.store.heartbeat(&node).await.unwrap();
        assert_eq!(
            strings(&real.server, &["KEYS", "*"]).await,
            [
                "ecron:nodes",
                "ecron:terminated:17",
                "ecron:{07}:cursor",
                "ecron:{07}:half-hour:2026-11-22T07:00Z",
                "ecron:{07}:half-hours",
                "ecron:{07}:horizon",
                "ecron:{07}:job:a/b",
                "ecron:{07}:job:a/far",
                "ecron:{07}:lease:dispatcher",
                "ecron:{07}:lease:planner",
                "ecron:{07}:minute:2026-11-22T07:00Z",
                "ecron:{07}:minutes",
                "ecron:{07}:open",
                "ecron:{07}:owners",
                "ecron:{07}:run:a/b@2026-11-22T07:00:00Z",
                "ecron:{07}:sent",
            ]
        );
        let run: Vec<(String, String)> = redis::from_redis_value(
            raw(&real.server, &["HGETALL", "ecron:{07}:run:a/b@2026-11-22T07:00:00Z"]).await,
        )
        .unwrap();
        let published = format!("2026-11-22T07:00:00.003Z 1 {}", w.dispatcher.0);
        let fields = [("v", "1"), ("state", "dispatched"), ("revision", "1"), ("published", &published)];
        assert_eq!(run, fields.map(|(name, value)| (name.to_string(), value.to_string())));
    }

    #[tokio::test]
    async fn unreadable_entries_do_not_hide_the_others() {
        let real = real().await;
        let w = planned(&real).await;
        let minute = "ecron:{07}:minute:2026-11-22T07:00Z";
        let due = at("2026-11-22T07:00:00Z").as_ms().to_string();
        let elsewhere = "a/b@2026-11-22T09:00:00Z#1";
        for member in ["garbage", "a/b@soon#1", "A/B@2026-11-22T07:00:00Z#1", elsewhere] {
            raw(&real.server, &["ZADD", minute, &due, member]).await;
        }
        let taken = real.store.take(SHARD, w.dispatcher, at("2026-11-22T07:00:10Z"), 10).await.unwrap();
        assert_eq!(taken.entries.len(), 1);
        let again = real.store.take(SHARD, w.dispatcher, at("2026-11-22T07:00:30Z"), 10).await.unwrap();
        assert_eq!(again.entries.len(), 2);
        let quarantined = strings(&real.server, &["ZRANGE", "ecron:{07}:quarantine", "0", "-1"]).await;
        assert_eq!(
            quarantined,
            ["A/B@2026-11-22T07:00:00Z#1", "a/b@2026-11-22T09:00:00Z#1", "a/b@soon#1", "garbage"]
                .map(|member| format!("minute:2026-11-22T07:00Z {member}"))
        );
    }

    #[tokio::test]
    async fn an_unreadable_job_record_does_not_hide_the_others() {
        let real = real().await;
        let w = planned(&real).await;
        for (name, due) in [("a/broken", "2026-11-22T07:11:00Z"), ("a/wrong", "2026-11-22T07:09:00Z")] {
            let install = new_job(name, half_hour(due), &["2026-11-22T07:00:00Z"]);
            real.store.install(SHARD, w.planner, &install).await.unwrap();
        }
        raw(&real.server, &["HSET", "ecron:{07}:job:a/broken", "revision", "soon"]).await;
        raw(&real.server, &["SET", "ecron:{07}:job:a/wrong", "text"]).await;
        let taken = real.store.take(SHARD, w.dispatcher, at("2026-11-22T07:00:00Z"), 10).await.unwrap();
        assert_eq!(taken.entries.len(), 1);
        let before = at("2026-11-22T08:00:00Z");
        let waiting = real.store.waiting(SHARD, w.planner, before, before, 1).await.unwrap();
        assert_eq!(waiting.iter().map(|waiting| waiting.job.to_string()).collect::<Vec<_>>(), ["a/b"]);
        let waiting = real.store.waiting(SHARD, w.planner, before, before, 10).await.unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!(strings(&real.server, &["ZRANGE", "ecron:{07}:quarantine", "0", "-1"]).await.len(), 4);
        for name in ["a/broken", "a/wrong"] {
            let key = format!("ecron:{{07}}:job:{name}");
            let read = real.store.jobs(SHARD, &[job("a/b"), job(name)]).await;
            assert!(
                matches!(&read, Err(StoreError::Corrupt { key: named, .. }) if *named == key),
                "{read:?}"
            );
            // It counts as none, so that the truth can replace it.
            let install = new_job(name, None, &[]);
            let installed = real.store.install(SHARD, w.planner, &install).await;
            assert_eq!(installed, Ok(store::plan::Installed::Done));
            assert_eq!(real.store.jobs(SHARD, &[job(name)]).await.unwrap(), [install.record]);
        }
    }

    #[tokio::test]
    async fn unreadable_runs_do_not_hide_the_others() {
        let real = real().await;
        let w = planned(&real).await;
        let taken = real.store.take(SHARD, w.dispatcher, at("2026-11-22T07:00:30Z"), 10).await.unwrap();
        let sent = taken.entries.iter().map(|taken| store::ledger::Sent {
            entry: taken.entry.clone(),
            sequence: 1,
            published_at: taken.entry.occurrence.due_at,
            worry_at: taken.entry.occurrence.due_at,
            republished: 0,
        });
        real.store.confirm(SHARD, w.dispatcher, &sent.collect::<Vec<_>>()).await.unwrap();
        raw(&real.server, &["HSET", "ecron:{07}:run:a/b@2026-11-22T07:00:00Z", "state", "singing"]).await;
        raw(&real.server, &["ZADD", "ecron:{07}:sent", "5", "garbage"]).await;
        let broken = taken.entries[0].entry.occurrence.clone();
        let read = real.store.run(SHARD, &broken).await;
        assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
        assert_eq!(real.store.runs(SHARD, &job("a/b"), 10).await.unwrap().len(), 1);
        let overdue = real.store.overdue(SHARD, at("2026-11-22T08:00:00Z"), 10).await.unwrap();
        assert_eq!(overdue.len(), 1);
        assert_eq!(
            strings(&real.server, &["ZRANGE", "ecron:{07}:quarantine", "0", "-1"]).await,
            ["sent a/b@2026-11-22T07:00:00Z", "sent garbage"]
        );
    }

    #[tokio::test]
    async fn stale_places_are_removed_on_the_way() {
        let real = real().await;
        let w = planned(&real).await;
        let due = at("2026-11-22T07:05:00Z").as_ms().to_string();
        for member in
            ["a/b@2026-11-22T07:05:00Z#1", "a/b@2026-11-22T07:10:00Z#9", "a/gone@2026-11-22T07:05:00Z#1"]
        {
            raw(&real.server, &["ZADD", "ecron:{07}:half-hour:2026-11-22T07:00Z", &due, member]).await;
        }
        raw(&real.server, &["ZADD", "ecron:{07}:horizon", &due, "a/gone"]).await;
        raw(&real.server, &["ZADD", "ecron:{07}:half-hours", &due, "2026-11-22T04:00Z"]).await;
        let before = at("2026-11-22T08:00:00Z");
        let waiting = real.store.waiting(SHARD, w.planner, before, before, 2).await.unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!(
            strings(&real.server, &["KEYS", "ecron:{07}:h*"]).await,
            ["ecron:{07}:half-hour:2026-11-22T07:00Z", "ecron:{07}:half-hours"]
        );
        let index = strings(&real.server, &["ZRANGE", "ecron:{07}:half-hours", "0", "-1"]).await;
        assert_eq!(index, ["2026-11-22T07:00Z"]);
        let quarantine: i64 =
            redis::from_redis_value(raw(&real.server, &["EXISTS", "ecron:{07}:quarantine"]).await).unwrap();
        assert_eq!(quarantine, 0, "stale is not unreadable");
    }

    #[tokio::test]
    async fn scripts_that_the_server_forgot_are_loaded_again() {
        let real = real().await;
        let w = planned(&real).await;
        raw(&real.server, &["SCRIPT", "FLUSH"]).await;
        let shards: Vec<_> = (0..64).map(ShardId).collect();
        assert_eq!(real.store.hold(Role::Planner, "node-b", &shards, TTL).await.unwrap().len(), 64);
        raw(&real.server, &["SCRIPT", "FLUSH"]).await;
        real.store.take(SHARD, w.dispatcher, at("2026-11-22T07:00:00Z"), 10).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_confirmed_survives_a_crash() {
        let mut real = real().await;
        let w = planned(&real).await;
        let (planner, shard) = (w.planner, w.shard);
        // appendfsync everysec: the file is written before the answer, only the disk comes later.
        real.server.kill9().unwrap();
        let down = real.store.now().await;
        assert!(matches!(down, Err(StoreError::Failed(_) | StoreError::Unknown(_))), "{down:?}");
        let down = real.store.now().await;
        assert!(matches!(down, Err(StoreError::Failed(_))), "{down:?}");
        real.server.restart().await.unwrap();
        let mut answer = real.store.now().await;
        while answer.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            answer = real.store.now().await;
        }
        // Leases have a connection of their own; the other one learns of the crash when it is used next.
        let mut cursor = real.store.cursor(shard).await;
        while cursor.is_err() {
            cursor = real.store.cursor(shard).await;
        }
        assert!(cursor.unwrap().is_some());
        assert_eq!(real.store.jobs(shard, &[job("a/b")]).await.unwrap().iter().flatten().count(), 1);
        real.store.progress(shard, planner, Some(at("2026-11-22T08:01:00Z")), None).await.unwrap();
        assert_eq!(real.store.buckets(shard, 10).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn no_answer_is_unknown_and_then_failed() {
        let mut server = servers::redis(&[]).await.unwrap();
        let options = RedisOptions {
            response_timeout: Duration::from_millis(100),
            connect_timeout: Duration::from_millis(100),
            ..RedisOptions::default()
        };
        let store = RedisStore::connect(&server.url(), options).await.unwrap();
        server.pause().unwrap();
        let silent = store.now().await;
        assert!(matches!(silent, Err(StoreError::Unknown(_))), "{silent:?}");
        let silent = store.now().await;
        assert!(matches!(silent, Err(StoreError::Failed(_))), "nothing was sent this time: {silent:?}");
        server.resume().unwrap();
        while store.now().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn nobody_at_the_address_is_failed() {
        let mut server = servers::redis(&[]).await.unwrap();
        server.stop().await.unwrap();
        let nobody = RedisStore::connect(&server.url(), RedisOptions::default()).await;
        assert!(matches!(nobody, Err(StoreError::Failed(_))), "{nobody:?}");
        let nonsense = RedisStore::connect("http://example.org", RedisOptions::default()).await;
        assert!(matches!(nonsense, Err(StoreError::Refused(_))), "{nonsense:?}");
    }

    #[tokio::test]
    async fn a_full_server_refuses_before_it_writes() {
        let real = real().await;
        let w = planned(&real).await;
        raw(&real.server, &["CONFIG", "SET", "maxmemory", "1"]).await;
        let full = real.store.progress(SHARD, w.planner, Some(at("2026-11-22T09:00:00Z")), None).await;
        assert!(matches!(full, Err(StoreError::Refused(_))), "{full:?}");
        let full = real.store.take(SHARD, w.dispatcher, at("2026-11-22T07:00:00Z"), 10).await;
        assert!(matches!(full, Err(StoreError::Refused(_))), "{full:?}");
        real.store.release(Role::Planner, "node-a", &[SHARD]).await.unwrap();
        raw(&real.server, &["CONFIG", "SET", "maxmemory", "0"]).await;
        let cursor = real.store.cursor(SHARD).await.unwrap().unwrap();
        assert_eq!(cursor.taken_until, at("2026-11-22T06:00:00Z"), "nothing was written");
    }

    #[tokio::test]
    async fn a_replica_refuses() {
        let real = real().await;
        let w = planned(&real).await;
        raw(&real.server, &["REPLICAOF", "127.0.0.1", "1"]).await;
        let replica = real
            .store
            .progress(
                SHARD,
                w.planner,
                None,
                Some(store::plan::SpecsRead { from: Revision(0), to: Revision(9) }),
            )
            .await;
        assert!(matches!(replica, Err(StoreError::Refused(_))), "{replica:?}");
        assert!(!real.store.facts().await.unwrap().is_primary);
    }

    #[tokio::test]
    async fn facts_tell_what_would_lose_runs() {
        let real = real().await;
        let facts = real.store.facts().await.unwrap();
        assert!(facts.is_primary && facts.aof && !facts.aof_write_failed, "{facts:?}");
        assert_eq!(facts.eviction.as_deref(), Some("noeviction"));
        assert_eq!((facts.pauses_fsync, facts.replicas_min), (Some(false), Some(0)));
        assert!(facts.fsync.is_some() && facts.memory_used > 0);
        raw(&real.server, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
        raw(&real.server, &["CONFIG", "SET", "appendonly", "no"]).await;
        let facts = real.store.facts().await.unwrap();
        assert_eq!((facts.aof, facts.eviction.as_deref()), (false, Some("allkeys-lru")));
        let clients: String = redis::from_redis_value(raw(&real.server, &["CLIENT", "LIST"]).await).unwrap();
        assert!(clients.contains(" name=ecron "), "{clients}");
    }

    #[tokio::test]
    async fn an_unreadable_lease_is_nobodys() {
        let real = real().await;
        raw(&real.server, &["SET", "ecron:{07}:lease:planner", "nonsense"]).await;
        assert_eq!(real.store.leases(&[SHARD]).await, Ok(Vec::new()));
        let reply = real.store.hold(Role::Planner, "node-a", &[SHARD], TTL).await.unwrap().remove(0);
        assert!(matches!(reply, store::lease::LeaseReply::Granted { fresh: true, .. }), "{reply:?}");
    }

    #[tokio::test]
    async fn epochs_grow_even_if_the_clock_goes_back() {
        let real = real().await;
        let ahead = 1 + u64::try_from(at("2199-01-01T00:00:00Z").as_ms()).unwrap();
        raw(&real.server, &["HSET", "ecron:{07}:cursor", "planner_epoch", &ahead.to_string()]).await;
        let reply = real.store.hold(Role::Planner, "node-a", &[SHARD], TTL).await.unwrap().remove(0);
        let epoch = store::lease::Epoch(ahead + 1);
        assert_eq!(reply, store::lease::LeaseReply::Granted { epoch, fresh: true });
        assert_eq!(real.store.cursor(SHARD).await, Ok(None), "an epoch alone is no cursor");
    }

    #[tokio::test]
    async fn a_nats_server_can_be_stopped_and_started() {
        let mut server = servers::nats(&[]).await.unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        let jetstream = async_nats::jetstream::new(client);
        let stream = async_nats::jetstream::stream::Config {
            name: "KEPT".into(),
            subjects: vec!["kept".into()],
            ..Default::default()
        };
        jetstream.create_stream(stream).await.unwrap();
        server.stop().await.unwrap();
        server.restart().await.unwrap();
        server.pause().unwrap();
        server.resume().unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        assert!(async_nats::jetstream::new(client).get_stream("KEPT").await.is_ok());
    }
}

/// What the operations cost the server, in processor time (reading, answering and the append-only file included). `cargo test -p ecron-tests --test store times -- --ignored
/// --nocapture`
mod times {
    use model::bucket::{Placed, Tier};
    use model::id::{Entry, Occurrence, Revision};
    use model::name::JobId;
    use model::run::{AttemptEnd, Generation, Outcome, RunState};
    use model::spec::HistoryLimits;
    use store::conformance::World;
    use store::ledger::{Sent, Settlement};
    use store::plan::{Advance, Install, JobRecord};
    use store::{LedgerStore, PlanStore};

    use super::*;

    const BATCH: usize = 500;
    const ROUNDS: usize = 20;

    /// Microseconds of processor time that the server's main thread has used.
    async fn used_us(server: &Server) -> f64 {
        let info: String = redis::from_redis_value(raw(server, &["INFO", "cpu"]).await).unwrap();
        let seconds = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse::<f64>().unwrap()
        };
        1e6 * (seconds("used_cpu_user_main_thread:") + seconds("used_cpu_sys_main_thread:"))
    }

    fn due(round: usize) -> Timestamp {
        let start: Timestamp = "2026-11-22T07:00:00Z".parse().unwrap();
        start.plus_ms(i64::try_from(round).unwrap() * 60_000)
    }

    fn job(number: usize) -> JobId {
        format!("bench/some-job-{number:04}").parse().unwrap()
    }

    #[tokio::test]
    #[ignore = "a measurement"]
    async fn of_scripts() {
        let real = real().await;
        let w = World::begun(&real).await;
        let (store, shard) = (&real.store, w.shard);
        let placed = |due_at| Placed { tier: Tier::HalfHour, due_at };
        for number in 0..BATCH {
            let record = JobRecord {
                revision: Revision(123_456),
                spec: "x".repeat(400),
                placed: Some(placed(due(0))),
                condition: None,
                history: HistoryLimits::default(),
                overlap: None,
                after: None,
                after_due: None,
            };
            let install = Install {
                job: job(number),
                expected: None,
                record: Some(record),
                after_first: None,
                keep_history: false,
                at: due(0),
                remove: Vec::new(),
                add: Vec::new(),
                add_unseen: Vec::new(),
                spaced: Vec::new(),
                skipped: Vec::new(),
                change: None,
            };
            store.install(shard, w.planner, &install).await.unwrap();
        }
        println!("install of one job {:8.1} us", used_us(&real.server).await / BATCH as f64);
        let mut total = [0.0; 6];
        let mut before = used_us(&real.server).await;
        let mut spent = async || {
            let after = used_us(&real.server).await;
            std::mem::replace(&mut before, after).mul_add(-1.0, after)
        };
        for round in 0..ROUNDS {
            let (minute, half_hour) = (due(round + 1), due(round + 1));
            let waiting = store.waiting(shard, w.planner, minute, half_hour, BATCH).await.unwrap();
            assert_eq!(waiting.len(), BATCH);
            total[0] += spent().await;
            let steps = waiting.into_iter().map(|waiting| Advance {
                job: waiting.job,
                revision: waiting.revision,
                from: waiting.placed,
                minute: vec![waiting.placed.due_at],
                next: Some(placed(due(round + 1))),
                skipped: Vec::new(),
            });
            let steps: Vec<_> = steps.collect();
            assert_eq!(store.advance(shard, w.planner, &steps).await.unwrap(), vec![true; BATCH]);
            total[1] += spent().await;
            let taken = store.take(shard, w.dispatcher, due(round), BATCH).await.unwrap();
            assert_eq!(taken.entries.len(), BATCH);
            total[2] += spent().await;
            let sent = |entry: &Entry| Sent {
                entry: entry.clone(),
                sequence: 1_234_567,
                published_at: entry.occurrence.due_at.plus_ms(3),
                worry_at: entry.occurrence.due_at.plus_ms(660_000),
                republished: 0,
            };
            let sent: Vec<_> = taken.entries.iter().map(|taken| sent(&taken.entry)).collect();
            store.confirm(shard, w.dispatcher, &sent).await.unwrap();
            total[3] += spent().await;
            let end = |number| Settlement {
                occurrence: Occurrence { job: job(number), due_at: due(round) },
                revision: Revision(123_456),
                generation: Generation(0),
                state: RunState::Succeeded,
                last: AttemptEnd {
                    attempt: 1,
                    outcome: Outcome::Succeeded,
                    error: None,
                    started_at: due(round).plus_ms(3),
                    ended_at: due(round).plus_ms(9),
                },
                executor: "worker-1".into(),
                output: None,
                settled_at: due(round).plus_ms(11),
            };
            let ends: Vec<_> = (0..BATCH).map(end).collect();
            store.settle_all(shard, &ends).await.unwrap();
            total[4] += spent().await;
            for _ in 0..100 {
                store.take(shard, w.dispatcher, due(round), BATCH).await.unwrap();
            }
            total[5] += spent().await / 100.0;
        }
        let names = ["waiting", "advance", "take", "confirm", "settle_all", "take, nothing due"];
        for (name, total) in names.iter().zip(total) {
            println!("{name:20} of {BATCH} items {:8.1} us", total / ROUNDS as f64);
        }
    }
}
