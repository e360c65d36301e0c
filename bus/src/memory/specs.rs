//! Specs, checkpoints and cluster settings in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use model::change::signature;
use model::id::Revision;
use model::name::{JobId, Name};
use model::shard::ShardId;
use model::time::Timestamp;

use super::MemoryBus;
use crate::checkpoints::{Checkpoints, Cluster};
use crate::error::BusError;
use crate::specs::{SpecChange, SpecStore, StoredSpec};
use crate::subjects::{parse_spec_key, spec_key};
use crate::wire::cluster::merge_checkpoint;

/// Between two `CaughtUp` of an idle reader.
const CAUGHT_UP_INTERVAL: Duration = Duration::from_secs(1);

/// A KV bucket with one entry a key.
#[derive(Default)]
pub(super) struct Bucket {
    last_revision: u64,
    by_revision: BTreeMap<u64, Entry>,
    newest: HashMap<String, u64>,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// `None`: a delete marker.
    pub(super) value: Option<Bytes>,
    written_at: Timestamp,
    by: Option<String>,
}

impl Bucket {
    pub(super) fn write(
        &mut self,
        key: &str,
        value: Option<Bytes>,
        written_at: Timestamp,
        by: Option<&str>,
    ) -> u64 {
        self.last_revision += 1;
        if let Some(older) = self.newest.insert(key.to_owned(), self.last_revision) {
            self.by_revision.remove(&older);
        }
        let entry = Entry { key: key.to_owned(), value, written_at, by: by.and_then(signature) };
        self.by_revision.insert(self.last_revision, entry);
        self.last_revision
    }

    pub(super) fn last_revision(&self) -> u64 {
        self.last_revision
    }

    pub(super) fn newest(&self, key: &str) -> Option<(u64, &Entry)> {
        let revision = *self.newest.get(key)?;
        Some((revision, self.by_revision.get(&revision)?))
    }

    /// The newest entry of each key, delete markers included.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.by_revision.iter().map(|(revision, entry)| (*revision, entry))
    }

    pub(super) fn write_expecting(
        &mut self,
        key: &str,
        expected: u64,
        value: Option<Bytes>,
        now: Timestamp,
        by: Option<&str>,
    ) -> Result<Revision, BusError> {
        if self.newest.get(key).copied().unwrap_or(0) == expected {
            Ok(Revision(self.write(key, value, now, by)))
        } else {
            Err(BusError::Conflict)
        }
    }
}

fn change_of(revision: u64, entry: &Entry) -> SpecChange {
    let (revision, by) = (Revision(revision), entry.by.clone());
    match (parse_spec_key(&entry.key), &entry.value) {
        (None, _) => SpecChange::Foreign { key: entry.key.clone(), revision },
        (Some((shard, job)), None) => SpecChange::Deleted { job, shard, revision, by },
        (Some((shard, job)), Some(value)) => {
            let spec = StoredSpec { revision, value: value.clone(), written_at: entry.written_at, by };
            SpecChange::Put { job, shard, spec }
        }
    }
}

/// A reader of changes.
struct Reader {
    bus: MemoryBus,
    shards: Vec<ShardId>,
    cursor: u64,
    disconnections: u64,
    ready: VecDeque<SpecChange>,
    /// Whether `CaughtUp` has been said before, so that it now waits for something new or its interval.
    started: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<SpecChange> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(change);
            }
            let bus = self.bus.clone();
            let changed = bus.shared.changed.notified();
            if !self.read()? {
                return None;
            }
            if self.ready.is_empty() && tokio::time::timeout(CAUGHT_UP_INTERVAL, changed).await.is_err() {
                self.started = false;
            }
        }
    }

    /// Takes what is new. `Some(false)`: the connection was lost.
    fn read(&mut self) -> Option<bool> {
        let state = self.bus.state().ok()?;
        if state.disconnections != self.disconnections {
            return Some(false);
        }
        let bucket = &state.specs;
        for (revision, entry) in bucket.by_revision.range(self.cursor + 1..) {
            let wanted = parse_spec_key(&entry.key).is_none_or(|(shard, _)| self.shards.contains(&shard));
            if wanted {
                self.ready.push_back(change_of(*revision, entry));
            }
        }
        self.cursor = bucket.last_revision.max(self.cursor);
        if !self.ready.is_empty() || !self.started {
            self.ready.push_back(SpecChange::CaughtUp { revision: Revision(bucket.last_revision) });
            self.started = true;
        }
        Some(true)
    }
}

impl SpecStore for MemoryBus {
    async fn put_by(
        &self,
        shard: ShardId,
        job: &JobId,
        expected: Option<Revision>,
        value: Bytes,
        by: Option<&str>,
    ) -> Result<Revision, BusError> {
        let (key, now) = (spec_key(shard, job), self.now());
        let mut state = self.state()?;
        let marker =
            state.specs.newest(&key).filter(|(_, entry)| entry.value.is_none()).map(|(revision, _)| revision);
        let expected = expected.map_or(marker.unwrap_or(0), |revision| revision.0);
        let written = state.specs.write_expecting(&key, expected, Some(value), now, by);
        drop(state);
        self.wake();
        written
    }

    async fn delete_by(
        &self,
        shard: ShardId,
        job: &JobId,
        expected: Revision,
        by: Option<&str>,
    ) -> Result<Revision, BusError> {
        let (key, now) = (spec_key(shard, job), self.now());
        let written = self.state()?.specs.write_expecting(&key, expected.0, None, now, by);
        self.wake();
        written
    }

    async fn get(&self, shard: ShardId, job: &JobId) -> Result<Option<StoredSpec>, BusError> {
        let state = self.state()?;
        let newest = state.specs.newest(&spec_key(shard, job));
        Ok(newest.and_then(|(revision, entry)| {
            let value = entry.value.clone()?;
            let by = entry.by.clone();
            Some(StoredSpec { revision: Revision(revision), value, written_at: entry.written_at, by })
        }))
    }

    async fn changes(
        &self,
        shards: &[ShardId],
        after: Revision,
    ) -> Result<BoxStream<'static, SpecChange>, BusError> {
        let state = self.state()?;
        let cursor = if state.specs.last_revision < after.0 { 0 } else { after.0 };
        let disconnections = state.disconnections;
        drop(state);
        let shards = shards.to_vec();
        let ready = VecDeque::new();
        let reader = Reader { bus: self.clone(), shards, cursor, disconnections, ready, started: false };
        let step = |mut reader: Reader| async move { reader.next().await.map(|change| (change, reader)) };
        Ok(stream::unfold(reader, step).boxed())
    }

    async fn jobs_of(&self, shard: ShardId) -> Result<Vec<JobId>, BusError> {
        let state = self.state()?;
        let entries = state.specs.by_revision.values().filter(|entry| entry.value.is_some());
        let keys = entries.filter_map(|entry| parse_spec_key(&entry.key));
        Ok(keys.filter(|(of, _)| *of == shard).map(|(_, job)| job).collect())
    }

    async fn list(
        &self,
        namespace: Option<&Name>,
    ) -> Result<BoxStream<'static, (JobId, StoredSpec)>, BusError> {
        let state = self.state()?;
        let listed = |(revision, entry): (&u64, &Entry)| match change_of(*revision, entry) {
            SpecChange::Put { job, spec, .. } if namespace.is_none_or(|n| *n == job.namespace) => {
                Some((job, spec))
            }
            _ => None,
        };
        let found: Vec<_> = state.specs.by_revision.iter().filter_map(listed).collect();
        Ok(stream::iter(found).boxed())
    }
}

impl Checkpoints for MemoryBus {
    async fn init_cluster(&self, proposal: &Cluster) -> Result<Cluster, BusError> {
        Ok(self.state()?.cluster.get_or_insert_with(|| proposal.clone()).clone())
    }

    async fn cluster(&self) -> Result<Option<Cluster>, BusError> {
        Ok(self.state()?.cluster.clone())
    }

    async fn save_checkpoint(
        &self,
        _node: &str,
        dispatched_until: &BTreeMap<ShardId, Timestamp>,
    ) -> Result<(), BusError> {
        merge_checkpoint(&mut self.state()?.checkpoints, dispatched_until.clone());
        Ok(())
    }

    async fn checkpoints(&self) -> Result<BTreeMap<ShardId, Timestamp>, BusError> {
        Ok(self.state()?.checkpoints.clone())
    }
}
