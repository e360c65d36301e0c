//! Objects beside jobs (calendars, namespaces, queues), revisioned, in the KV bucket `ecron_objects`.
//!
//! A job is stored with what its calendars said, so that nobody needs to watch those; dispatchers look for changes of
//! queues.

use std::future::Future;

use bytes::Bytes;
use model::id::Revision;
use model::name::Name;
use model::object::{ObjectKey, ObjectKind};

use crate::error::BusError;

/// An object as it is stored. Its bytes are read by `model::manifest`, not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    pub revision: Revision,
    pub value: Bytes,
}

pub trait ObjectStore: Send + Sync + 'static {
    /// Writes an object if the key's newest revision is `expected` (`None`: there is none, or a delete marker). The
    /// answer is durable acceptance. `Unknown`: read the object to find out.
    fn put_object(
        &self,
        key: &ObjectKey,
        expected: Option<Revision>,
        value: Bytes,
    ) -> impl Future<Output = Result<Revision, BusError>> + Send;

    /// Leaves a delete marker if the newest revision is `expected`; answers with the marker's revision.
    fn delete_object(
        &self,
        key: &ObjectKey,
        expected: Revision,
    ) -> impl Future<Output = Result<Revision, BusError>> + Send;

    /// The newest revision of an object, if it isn't deleted.
    fn object(&self, key: &ObjectKey) -> impl Future<Output = Result<Option<StoredObject>, BusError>> + Send;

    /// The newest revision that any object was written (or deleted) at: as long as it stays, nothing has changed.
    fn objects_revision(&self) -> impl Future<Output = Result<Revision, BusError>> + Send;

    /// Every object of a kind that isn't deleted, optionally of one namespace, in order of name.
    fn objects(
        &self,
        kind: ObjectKind,
        namespace: Option<&Name>,
    ) -> impl Future<Output = Result<Vec<(ObjectKey, StoredObject)>, BusError>> + Send;
}
