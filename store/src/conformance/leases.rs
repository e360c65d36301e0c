//! Leases, epochs, fencing; live nodes; the clock.

use std::time::Duration;

use model::bucket::Placed;
use model::id::Revision;
use model::run::SkipReason;
use model::shard::ShardId;

use super::world::{TTL, at, entry, half_hour, install, job, occurrence, record, sent, skip};
use super::{Fixture, World};
use crate::error::StoreError;
use crate::lease::{Epoch, LeaseReply, Role};
use crate::ledger::LEDGER_BATCH_MAX;
use crate::node::Node;
use crate::plan::Advance;
use crate::{Inspect, LeaseStore, LedgerStore, NodeStore, PlanStore};

/// So short that a case can wait for it.
const SHORT: Duration = Duration::from_millis(40);
const SHARD: ShardId = ShardId(7);

async fn hold<F: Fixture>(f: &F, node: &str, ttl: Duration) -> LeaseReply {
    f.store().hold(Role::Planner, node, &[SHARD], ttl).await.unwrap().remove(0)
}

async fn granted<F: Fixture>(f: &F, node: &str, ttl: Duration) -> (Epoch, bool) {
    match hold(f, node, ttl).await {
        LeaseReply::Granted { epoch, fresh } => (epoch, fresh),
        LeaseReply::Held { by } => panic!("held by {by}"),
    }
}

pub async fn a_free_lease_is_granted_and_renewed<F: Fixture>(f: &F) {
    let (epoch, fresh) = granted(f, "node a", TTL).await;
    assert!(fresh);
    assert_eq!(granted(f, "node a", TTL * 2).await, (epoch, false));
    let leases = f.store().leases(&[SHARD]).await.unwrap();
    assert_eq!(leases.len(), 1);
    assert_eq!((leases[0].node.as_str(), leases[0].epoch, leases[0].role), ("node a", epoch, Role::Planner));
    assert!(leases[0].expires_in > TTL && leases[0].expires_in <= TTL * 2, "{:?}", leases[0].expires_in);
}

pub async fn a_lease_of_another_is_refused_and_named<F: Fixture>(f: &F) {
    granted(f, "node-a", TTL).await;
    assert_eq!(hold(f, "node-b", TTL).await, LeaseReply::Held { by: "node-a".into() });
}

pub async fn a_lease_runs_out_and_its_epoch_never_comes_back<F: Fixture>(f: &F) {
    let (first, _) = granted(f, "node-a", SHORT).await;
    f.pass(SHORT * 2).await;
    let (second, fresh) = granted(f, "node-b", SHORT).await;
    assert!(second > first && fresh);
    f.pass(SHORT * 2).await;
    let (third, fresh) = granted(f, "node-b", TTL).await;
    assert!(third > second && fresh, "a holder that comes back late is a new one");
}

pub async fn a_lease_given_back_is_free_at_once<F: Fixture>(f: &F) {
    let (first, _) = granted(f, "node-a", TTL).await;
    f.store().release(Role::Planner, "node-a", &[SHARD]).await.unwrap();
    let (second, fresh) = granted(f, "node-b", TTL).await;
    assert!(second > first && fresh);
}

pub async fn a_lease_of_another_is_not_given_back<F: Fixture>(f: &F) {
    let (epoch, _) = granted(f, "node-a", TTL).await;
    f.store().release(Role::Planner, "node-b", &[SHARD, ShardId(8)]).await.unwrap();
    assert_eq!(granted(f, "node-a", TTL).await, (epoch, false));
}

pub async fn epochs_grow_through_a_wipe<F: Fixture>(f: &F) {
    let (first, _) = granted(f, "node-a", TTL).await;
    f.wipe().await;
    f.pass(Duration::from_millis(5)).await;
    let (second, fresh) = granted(f, "node-a", TTL).await;
    assert!(second > first && fresh);
    let stale = f.store().progress(SHARD, first, None, None).await;
    assert_eq!(stale, Err(StoreError::Fenced));
}

pub async fn roles_and_shards_are_apart<F: Fixture>(f: &F) {
    let shards: Vec<_> = (0..64).map(ShardId).collect();
    f.store().hold(Role::Planner, "node-b", &[ShardId(3)], TTL).await.unwrap();
    let planner = f.store().hold(Role::Planner, "node-a", &shards, TTL).await.unwrap();
    let dispatcher = f.store().hold(Role::Dispatcher, "node-a", &shards, TTL).await.unwrap();
    assert_eq!(planner[3], LeaseReply::Held { by: "node-b".into() });
    let granted = |replies: &[LeaseReply]| {
        replies.iter().filter(|reply| matches!(reply, LeaseReply::Granted { fresh: true, .. })).count()
    };
    assert_eq!((planner.len(), granted(&planner), granted(&dispatcher)), (64, 63, 64));
    assert_eq!(f.store().leases(&shards).await.unwrap().len(), 128);
    assert_eq!(f.store().hold(Role::Planner, "node-a", &[], TTL).await, Ok(Vec::new()));
}

pub async fn every_write_for_a_shard_is_fenced<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:00:00");
    w.planned("a/b", 1, &[due]).await;
    // An epoch of nobody, and the epoch of the other role.
    for stale in [Epoch(w.planner.0 - 1), Epoch(w.dispatcher.0 + 1)] {
        let (s, shard) = (f.store(), w.shard);
        let step = Advance {
            job: job("a/b"),
            revision: Revision(1),
            from: Placed { tier: model::bucket::Tier::Horizon, due_at: due },
            minute: vec![due],
            next: None,
            skipped: Vec::new(),
        };
        let edit = install("a/b", Some(1), Some(record(2, half_hour(due))));
        let results = [
            s.begin(shard, stale, &w.cursor_at("06:00:00")).await.map(drop),
            s.progress(shard, stale, Some(at("09:00:00")), None).await,
            s.install(shard, stale, &edit).await.map(drop),
            s.waiting(shard, stale, due, due, 10).await.map(drop),
            s.advance(shard, stale, &[step]).await.map(drop),
            s.take(shard, stale, due, 10).await.map(drop),
            s.missed(shard, stale, at("06:00:00"), due, 10).await.map(drop),
            s.confirm(shard, stale, &[sent(entry("a/b", due, 1), 1)]).await,
            s.skip(shard, stale, &[skip(entry("a/b", due, 1), SkipReason::Deleted)]).await,
            s.drop_entries(shard, stale, &[entry("a/b", due, 1)]).await,
            s.worry_later(shard, stale, &occurrence("a/b", due), due).await,
        ];
        for (index, result) in results.iter().enumerate() {
            assert_eq!(*result, Err(StoreError::Fenced), "operation {index}");
        }
    }
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:00Z#1"]);
    let taken = f.store().take(w.shard, w.dispatcher, due, LEDGER_BATCH_MAX).await.unwrap();
    assert_eq!(taken.taken_before, at("06:00:00"), "no stale take moved the mark");
    assert_eq!(w.store().jobs(w.shard, &[job("a/b")]).await.unwrap(), [Some(record(1, None))]);

    f.store().release(Role::Dispatcher, "node-a", &[w.shard]).await.unwrap();
    let without = f.store().take(w.shard, w.dispatcher, due, 10).await;
    assert_eq!(without, Err(StoreError::Fenced), "a lease that nobody holds fences, too");
}

pub async fn nodes_are_announced_and_forgotten<F: Fixture>(f: &F) {
    let node = |id: &str, weight| Node {
        id: id.into(),
        roles: vec![Role::Planner, Role::Dispatcher],
        weight,
        version: "0.1.0".into(),
    };
    let (alone, first_at) = f.store().heartbeat(&node("node-b", 100)).await.unwrap();
    assert_eq!(alone.len(), 1);
    assert_eq!((&alone[0].node, alone[0].heartbeat_at), (&node("node-b", 100), first_at));
    f.pass(Duration::from_millis(2)).await;
    let (both, second_at) = f.store().heartbeat(&node("node-a", 0)).await.unwrap();
    assert!(second_at > first_at);
    assert_eq!(both.iter().map(|view| view.node.id.as_str()).collect::<Vec<_>>(), ["node-a", "node-b"]);
    assert_eq!(f.store().nodes().await.unwrap(), both);
    f.store().heartbeat(&node("node-b", 7)).await.unwrap();
    f.store().forget("node-a").await.unwrap();
    f.store().forget("node-c").await.unwrap();
    let left = f.store().nodes().await.unwrap();
    assert_eq!((left.len(), left[0].node.weight), (1, 7));
}

pub async fn the_clock_moves<F: Fixture>(f: &F) {
    let before = f.store().now().await.unwrap();
    f.pass(Duration::from_millis(10)).await;
    assert!(f.store().now().await.unwrap().ms_since(before) >= 10);
}
