//! Objects beside jobs, in their KV bucket.

use bytes::Bytes;
use model::id::Revision;
use model::name::Name;
use model::object::{ObjectKey, ObjectKind};
use serde_json::json;

use super::NatsBus;
use super::checkpoints::{KV_OPERATION, is_marker, newest_entry, write_entry};
use super::runs::stored_message;
use super::streams::existing_stream;
use crate::error::BusError;
use crate::objects::{ObjectStore, StoredObject};
use crate::subjects::{
    BUCKET_OBJECTS, bucket_key, bucket_stream, bucket_subject, object_key, object_keys, parse_object_key,
};
use crate::wire::headers::Headers;

impl ObjectStore for NatsBus {
    async fn put_object(
        &self,
        key: &ObjectKey,
        expected: Option<Revision>,
        value: Bytes,
    ) -> Result<Revision, BusError> {
        let key = object_key(key);
        let write = |expected| {
            write_entry(self.link(), BUCKET_OBJECTS, &key, Some(expected), Headers::new(), value.clone())
        };
        let first = write(expected.map_or(0, |revision| revision.0)).await;
        match (first, expected) {
            // There is something: a delete marker is as good as nothing.
            (Err(BusError::Conflict), None) => match newest_entry(self.link(), BUCKET_OBJECTS, &key).await? {
                Some(entry) if is_marker(&entry.headers) => write(entry.sequence).await.map(Revision),
                Some(_) | None => Err(BusError::Conflict),
            },
            (written, _) => written.map(Revision),
        }
    }

    async fn delete_object(&self, key: &ObjectKey, expected: Revision) -> Result<Revision, BusError> {
        let marker = Headers::from([(KV_OPERATION.to_owned(), "DEL".to_owned())]);
        let key = object_key(key);
        write_entry(self.link(), BUCKET_OBJECTS, &key, Some(expected.0), marker, Bytes::new())
            .await
            .map(Revision)
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>, BusError> {
        let entry = newest_entry(self.link(), BUCKET_OBJECTS, &object_key(key)).await?;
        Ok(entry
            .filter(|entry| !is_marker(&entry.headers))
            .map(|entry| StoredObject { revision: Revision(entry.sequence), value: entry.payload }))
    }

    async fn objects_revision(&self) -> Result<Revision, BusError> {
        let info = existing_stream(self.link(), &bucket_stream(BUCKET_OBJECTS)).await?;
        Ok(Revision(info.state.last_sequence))
    }

    async fn objects(
        &self,
        kind: ObjectKind,
        namespace: Option<&Name>,
    ) -> Result<Vec<(ObjectKey, StoredObject)>, BusError> {
        let stream = bucket_stream(BUCKET_OBJECTS);
        let keys = bucket_subject(BUCKET_OBJECTS, &object_keys(kind, namespace));
        let mut found = Vec::new();
        let mut next = 1;
        // One request an object: there are few of them, and nobody asks often.
        let which = |next: u64| json!({"seq": next, "next_by_subj": keys});
        while let Some(entry) = stored_message(self.link(), &stream, &which(next)).await? {
            next = entry.sequence + 1;
            let key = bucket_key(BUCKET_OBJECTS, &entry.subject).and_then(parse_object_key);
            match key.filter(|_| !is_marker(&entry.headers)) {
                Some(key) => found
                    .push((key, StoredObject { revision: Revision(entry.sequence), value: entry.payload })),
                None => tracing::debug!(subject = %entry.subject, "no object: deleted, or not ours"),
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }
}
