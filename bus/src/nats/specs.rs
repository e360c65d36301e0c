//! The spec store, in its KV bucket.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use model::change::signature;
use model::id::Revision;
use model::name::{JobId, Name};
use model::shard::ShardId;

use super::NatsBus;
use super::checkpoints::{KV_OPERATION, is_marker, newest_entry, write_entry};
use super::watch::{self, Scope};
use crate::error::BusError;
use crate::specs::{SpecChange, SpecStore, StoredSpec};
use crate::subjects::{BUCKET_SPECS, spec_key};
use crate::wire::headers::Headers;

/// The header of an entry in which whoever asked for it is named.
const BY: &str = "Ecron-By";

fn signed(by: Option<&str>) -> Headers {
    by.and_then(signature).map(|by| (BY.to_owned(), by)).into_iter().collect()
}

pub(super) fn signature_of(headers: &Headers) -> Option<String> {
    headers.get(BY).and_then(|by| signature(by))
}

impl SpecStore for NatsBus {
    async fn put_by(
        &self,
        shard: ShardId,
        job: &JobId,
        expected: Option<Revision>,
        value: Bytes,
        by: Option<&str>,
    ) -> Result<Revision, BusError> {
        let key = spec_key(shard, job);
        let write = |expected| {
            write_entry(self.link(), BUCKET_SPECS, &key, Some(expected), signed(by), value.clone())
        };
        let first = write(expected.map_or(0, |revision| revision.0)).await;
        match (first, expected) {
            // There is something: a delete marker is as good as nothing.
            (Err(BusError::Conflict), None) => match newest_entry(self.link(), BUCKET_SPECS, &key).await? {
                Some(entry) if is_marker(&entry.headers) => write(entry.sequence).await.map(Revision),
                Some(_) | None => Err(BusError::Conflict),
            },
            (written, _) => written.map(Revision),
        }
    }

    async fn delete_by(
        &self,
        shard: ShardId,
        job: &JobId,
        expected: Revision,
        by: Option<&str>,
    ) -> Result<Revision, BusError> {
        let mut marker = signed(by);
        marker.insert(KV_OPERATION.to_owned(), "DEL".to_owned());
        let key = spec_key(shard, job);
        write_entry(self.link(), BUCKET_SPECS, &key, Some(expected.0), marker, Bytes::new())
            .await
            .map(Revision)
    }

    async fn get(&self, shard: ShardId, job: &JobId) -> Result<Option<StoredSpec>, BusError> {
        let entry = newest_entry(self.link(), BUCKET_SPECS, &spec_key(shard, job)).await?;
        Ok(entry.filter(|entry| !is_marker(&entry.headers)).map(|entry| StoredSpec {
            revision: Revision(entry.sequence),
            value: entry.payload,
            written_at: entry.stored_at,
            by: signature_of(&entry.headers),
        }))
    }

    async fn changes(
        &self,
        shards: &[ShardId],
        after: Revision,
    ) -> Result<BoxStream<'static, SpecChange>, BusError> {
        let reader = watch::Reader::open(self.link(), Scope::shards(shards), after).await?;
        Ok(reader.into_stream().boxed())
    }

    async fn list(
        &self,
        namespace: Option<&Name>,
    ) -> Result<BoxStream<'static, (JobId, StoredSpec)>, BusError> {
        Ok(stream::iter(self.present(Scope::namespace(namespace)).await?).boxed())
    }

    async fn jobs_of(&self, shard: ShardId) -> Result<Vec<JobId>, BusError> {
        let present = self.present(Scope::names(shard)).await?;
        Ok(present.into_iter().map(|(job, _)| job).collect())
    }
}

impl NatsBus {
    /// Every spec of a scope that isn't deleted. Read to the end before the first is handed out: a list that broke off must
    /// not look complete.
    async fn present(&self, scope: Scope) -> Result<Vec<(JobId, StoredSpec)>, BusError> {
        let reader = watch::Reader::open(self.link(), scope, Revision(0)).await?;
        let mut changes = std::pin::pin!(reader.into_stream());
        let mut found = Vec::new();
        loop {
            match changes.next().await {
                Some(SpecChange::Put { job, spec, .. }) => found.push((job, spec)),
                Some(SpecChange::Deleted { .. } | SpecChange::Foreign { .. }) => {}
                Some(SpecChange::CaughtUp { .. }) => return Ok(found),
                None => {
                    return Err(BusError::Failed(
                        "the list broke off: the connection or the bucket was lost".into(),
                    ));
                }
            }
        }
    }
}
