//! Objects beside jobs, in memory.

use bytes::Bytes;
use model::id::Revision;
use model::name::Name;
use model::object::{ObjectKey, ObjectKind};

use super::MemoryBus;
use crate::error::BusError;
use crate::objects::{ObjectStore, StoredObject};
use crate::subjects::{object_key, parse_object_key};

impl ObjectStore for MemoryBus {
    async fn put_object(
        &self,
        key: &ObjectKey,
        expected: Option<Revision>,
        value: Bytes,
    ) -> Result<Revision, BusError> {
        let (key, now) = (object_key(key), self.now());
        let objects = &mut self.state()?.objects;
        let marker =
            objects.newest(&key).filter(|(_, entry)| entry.value.is_none()).map(|(revision, _)| revision);
        let expected = expected.map_or(marker.unwrap_or(0), |revision| revision.0);
        objects.write_expecting(&key, expected, Some(value), now, None)
    }

    async fn delete_object(&self, key: &ObjectKey, expected: Revision) -> Result<Revision, BusError> {
        let now = self.now();
        self.state()?.objects.write_expecting(&object_key(key), expected.0, None, now, None)
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>, BusError> {
        let state = self.state()?;
        let newest = state.objects.newest(&object_key(key));
        Ok(newest.and_then(|(revision, entry)| {
            Some(StoredObject { revision: Revision(revision), value: entry.value.clone()? })
        }))
    }

    async fn objects_revision(&self) -> Result<Revision, BusError> {
        Ok(Revision(self.state()?.objects.last_revision()))
    }

    async fn objects(
        &self,
        kind: ObjectKind,
        namespace: Option<&Name>,
    ) -> Result<Vec<(ObjectKey, StoredObject)>, BusError> {
        let state = self.state()?;
        let wanted = |key: &ObjectKey| key.kind() == kind && namespace.is_none_or(|n| n == key.namespace());
        let mut found: Vec<_> = state
            .objects
            .entries()
            .filter_map(|(revision, entry)| {
                let key = parse_object_key(&entry.key).filter(wanted)?;
                Some((key, StoredObject { revision: Revision(revision), value: entry.value.clone()? }))
            })
            .collect();
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }
}
