//! Specs, checkpoints, cluster settings.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use model::id::Revision;
use model::name::JobId;
use model::shard::{ShardCount, ShardId};
use model::time::Timestamp;

use super::{PATIENCE, World, name_of};
use crate::checkpoints::{Checkpoints, Cluster};
use crate::error::BusError;
use crate::specs::{SpecChange, SpecStore};
use crate::subjects::{BUCKET_SPECS, bucket_subject};
use crate::wire::headers::Headers;

const SHARD: ShardId = ShardId(7);

fn job(name: &str) -> JobId {
    JobId { namespace: name_of("billing"), name: name_of(name) }
}

async fn put(world: &impl World, shard: ShardId, name: &str, expected: Option<Revision>) -> Revision {
    let value = Bytes::from(format!("spec of {name}"));
    world.bus().put(shard, &job(name), expected, value).await.expect("put")
}

/// Changes up to the first `CaughtUp`, in short: `+name@revision`, `-name@revision`, `?key@revision`.
async fn until_caught_up(changes: &mut BoxStream<'static, SpecChange>) -> (Vec<String>, Revision) {
    let mut seen = Vec::new();
    loop {
        let change = tokio::time::timeout(PATIENCE, changes.next()).await.expect("a change in time");
        match change.expect("no end") {
            SpecChange::Put { job, spec, .. } => {
                assert_eq!(spec.value, format!("spec of {}", job.name));
                seen.push(format!("+{}@{}", job.name, spec.revision));
            }
            SpecChange::Deleted { job, revision, .. } => seen.push(format!("-{}@{revision}", job.name)),
            SpecChange::Foreign { key, revision } => seen.push(format!("?{key}@{revision}")),
            SpecChange::CaughtUp { revision } => return (seen, revision),
        }
    }
}

pub async fn a_spec_is_written_only_at_the_expected_revision(world: &impl World) {
    let value = || Bytes::from_static(b"x");
    let first = put(world, SHARD, "a", None).await;
    assert_eq!(world.bus().put(SHARD, &job("a"), None, value()).await, Err(BusError::Conflict));
    let second = put(world, SHARD, "a", Some(first)).await;
    assert!(second > first);
    assert_eq!(world.bus().put(SHARD, &job("a"), Some(first), value()).await, Err(BusError::Conflict));
    assert_eq!(world.bus().delete(SHARD, &job("a"), first).await, Err(BusError::Conflict));
    assert_eq!(world.bus().put(SHARD, &job("b"), Some(first), value()).await, Err(BusError::Conflict));
    let stored = world.bus().get(SHARD, &job("a")).await.expect("get").expect("there");
    assert_eq!((stored.revision, stored.value), (second, Bytes::from_static(b"spec of a")));
    assert_eq!(world.bus().get(SHARD, &job("b")).await, Ok(None));
}

pub async fn a_deleted_spec_can_be_created_again(world: &impl World) {
    let first = put(world, SHARD, "a", None).await;
    let marker = world.bus().delete(SHARD, &job("a"), first).await.expect("deleted");
    assert_eq!(world.bus().get(SHARD, &job("a")).await, Ok(None));
    let again = put(world, SHARD, "a", None).await;
    assert!(first < marker && marker < again);
    // A marker is also a revision that one may expect.
    let marker = world.bus().delete(SHARD, &job("a"), again).await.expect("deleted");
    put(world, SHARD, "a", Some(marker)).await;
}

pub async fn changes_come_in_order_and_then_caught_up(world: &impl World) {
    let first = put(world, SHARD, "a", None).await;
    put(world, SHARD, "b", None).await;
    put(world, SHARD, "a", Some(first)).await;
    let mut changes = world.bus().changes(&[SHARD], Revision(0)).await.expect("changes");
    let (seen, caught_up) = until_caught_up(&mut changes).await;
    assert_eq!(seen, ["+b@2", "+a@3"], "only the newest of each");
    assert_eq!(caught_up, Revision(3));
    let mut later = world.bus().changes(&[SHARD], Revision(2)).await.expect("changes");
    assert_eq!(until_caught_up(&mut later).await.0, ["+a@3"]);
    let mut up_to_date = world.bus().changes(&[SHARD], Revision(3)).await.expect("changes");
    assert_eq!(until_caught_up(&mut up_to_date).await, (vec![], Revision(3)));
}

pub async fn changes_go_on_live_and_idle_readers_advance(world: &impl World) {
    let mut changes = world.bus().changes(&[SHARD], Revision(0)).await.expect("changes");
    assert_eq!(until_caught_up(&mut changes).await, (vec![], Revision(0)));
    put(world, SHARD, "a", None).await;
    let mut seen = Vec::new();
    while seen.is_empty() {
        seen = until_caught_up(&mut changes).await.0;
    }
    assert_eq!(seen, ["+a@1"]);
    // Somebody else's shard moves on; this reader hears nothing of it but advances.
    put(world, ShardId(8), "b", None).await;
    let mut advanced = Revision(1);
    while advanced < Revision(2) {
        let (seen, caught_up) = until_caught_up(&mut changes).await;
        assert!(seen.is_empty(), "{seen:?}");
        advanced = caught_up;
    }
}

pub async fn changes_are_those_of_the_shards_asked_for(world: &impl World) {
    for (shard, name) in [(7, "a"), (8, "b"), (9, "c")] {
        put(world, ShardId(shard), name, None).await;
    }
    let mut changes = world.bus().changes(&[ShardId(9), ShardId(7)], Revision(0)).await.expect("changes");
    assert_eq!(until_caught_up(&mut changes).await.0, ["+a@1", "+c@3"]);
    let mut none = world.bus().changes(&[], Revision(0)).await.expect("changes");
    assert_eq!(until_caught_up(&mut none).await.0, Vec::<String>::new());
}

pub async fn many_shards_are_watched_as_well_as_few(world: &impl World) {
    for (shard, name) in [(0, "a"), (63, "b"), (64, "c")] {
        put(world, ShardId(shard), name, None).await;
    }
    let all: Vec<ShardId> = ShardCount::default().all().collect();
    let mut changes = world.bus().changes(&all, Revision(0)).await.expect("changes");
    let mut seen = Vec::new();
    let mut caught_up = Revision(0);
    while caught_up < Revision(3) {
        let (more, revision) = until_caught_up(&mut changes).await;
        seen.extend(more);
        caught_up = revision;
    }
    assert_eq!(seen, ["+a@1", "+b@2"], "shard 64 wasn't asked for");
}

pub async fn a_deletion_is_a_marker_also_for_whoever_starts_late(world: &impl World) {
    let first = put(world, SHARD, "a", None).await;
    put(world, SHARD, "b", None).await;
    world.bus().delete(SHARD, &job("a"), first).await.expect("deleted");
    let mut changes = world.bus().changes(&[SHARD], Revision(0)).await.expect("changes");
    assert_eq!(until_caught_up(&mut changes).await.0, ["+b@2", "-a@3"]);
}

pub async fn a_change_tells_who_asked_for_it(world: &impl World) {
    let bus = world.bus();
    let first =
        bus.put_by(SHARD, &job("a"), None, Bytes::new(), Some("ann@host\r\nX: y")).await.expect("put");
    let stored = bus.get(SHARD, &job("a")).await.expect("get").expect("a spec");
    assert_eq!(stored.by.as_deref(), Some("ann@hostX: y"), "one line, whatever was sent");
    let mut changes = bus.changes(&[SHARD], Revision(0)).await.expect("changes");
    let Some(SpecChange::Put { spec, .. }) = changes.next().await else { panic!("no put") };
    assert_eq!(spec, stored);
    bus.delete_by(SHARD, &job("a"), first, Some("bob")).await.expect("deleted");
    let by = loop {
        match changes.next().await {
            Some(SpecChange::Deleted { by, .. }) => break by,
            Some(_) => {}
            None => panic!("the changes ended"),
        }
    };
    assert_eq!(by.as_deref(), Some("bob"));
}

pub async fn a_bucket_that_was_replaced_is_read_from_its_beginning(world: &impl World) {
    put(world, SHARD, "a", None).await;
    let mut changes = world.bus().changes(&[SHARD], Revision(1_000)).await.expect("changes");
    assert_eq!(until_caught_up(&mut changes).await, (vec!["+a@1".to_owned()], Revision(1)));
}

pub async fn a_foreign_key_is_named_and_skipped(world: &impl World) {
    let foreign = bucket_subject(BUCKET_SPECS, "07.somebody-elses");
    world.publish_raw(&foreign, Headers::new(), Bytes::from_static(b"x")).await;
    put(world, SHARD, "a", None).await;
    let mut changes = world.bus().changes(&[SHARD], Revision(0)).await.expect("changes");
    assert_eq!(until_caught_up(&mut changes).await.0, ["?07.somebody-elses@1", "+a@2"]);
}

pub async fn listing_leaves_out_the_deleted_and_other_namespaces(world: &impl World) {
    let first = put(world, SHARD, "a", None).await;
    put(world, SHARD, "b", None).await;
    world.bus().delete(SHARD, &job("a"), first).await.expect("deleted");
    let elsewhere = JobId { namespace: name_of("shipping"), name: name_of("c") };
    world.bus().put(ShardId(8), &elsewhere, None, Bytes::new()).await.expect("put");
    let names = async |namespace: Option<&str>| {
        let namespace = namespace.map(name_of);
        let listed = world.bus().list(namespace.as_ref()).await.expect("list");
        let mut names: Vec<String> = listed.map(|(job, _)| job.to_string()).collect().await;
        names.sort();
        names
    };
    assert_eq!(names(None).await, ["billing/b", "shipping/c"]);
    assert_eq!(names(Some("billing")).await, ["billing/b"]);
    assert_eq!(names(Some("nowhere")).await, Vec::<String>::new());
    assert_eq!(world.bus().jobs_of(SHARD).await, Ok(vec![job("b")]));
    assert_eq!(world.bus().jobs_of(ShardId(8)).await, Ok(vec![elsewhere]));
    assert_eq!(world.bus().jobs_of(ShardId(9)).await, Ok(vec![]));
}

pub async fn the_cluster_is_initialised_once(world: &impl World) {
    let proposal = |id: &str| Cluster {
        id: id.into(),
        shards: ShardCount::default(),
        message_id_key: [5; 16],
        created_at: Timestamp::from_ms(1_000),
    };
    assert_eq!(world.bus().init_cluster(&proposal("first")).await, Ok(proposal("first")));
    assert_eq!(world.other().await.init_cluster(&proposal("second")).await, Ok(proposal("first")));
}

pub async fn checkpoints_of_all_nodes_are_merged(world: &impl World) {
    let at = Timestamp::from_ms;
    assert_eq!(world.bus().checkpoints().await, Ok(BTreeMap::new()));
    let saved = [("n1", 1, 10_000), ("n.2 é", 1, 9_000), ("n.2 é", 2, 20_000), ("n1", 1, 11_000)];
    for (node, shard, ms) in saved {
        let until = BTreeMap::from([(ShardId(shard), at(ms))]);
        world.bus().save_checkpoint(node, &until).await.expect("saved");
    }
    let expected = BTreeMap::from([(ShardId(1), at(11_000)), (ShardId(2), at(20_000))]);
    assert_eq!(world.other().await.checkpoints().await, Ok(expected));
}
