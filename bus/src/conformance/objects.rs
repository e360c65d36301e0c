//! Calendars, namespaces and queues.

use bytes::Bytes;
use model::id::Revision;
use model::name::{CalendarId, QueueId};
use model::object::{ObjectKey, ObjectKind};

use super::{World, name_of};
use crate::error::BusError;
use crate::objects::ObjectStore;

fn calendar(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::Calendar(CalendarId { namespace: name_of(namespace), name: name_of(name) })
}

async fn put(world: &impl World, key: &ObjectKey, expected: Option<Revision>) -> Revision {
    world.bus().put_object(key, expected, Bytes::from(key.to_string())).await.expect("put")
}

pub async fn an_object_is_written_only_at_the_expected_revision(world: &impl World) {
    let value = || Bytes::from_static(b"x");
    let (a, b) = (calendar("billing", "a"), calendar("billing", "b"));
    let first = put(world, &a, None).await;
    assert_eq!(world.bus().put_object(&a, None, value()).await, Err(BusError::Conflict));
    let second = put(world, &a, Some(first)).await;
    assert!(second > first);
    assert_eq!(world.bus().put_object(&a, Some(first), value()).await, Err(BusError::Conflict));
    assert_eq!(world.bus().delete_object(&a, first).await, Err(BusError::Conflict));
    assert_eq!(world.bus().put_object(&b, Some(first), value()).await, Err(BusError::Conflict));
    let stored = world.other().await.object(&a).await.expect("object").expect("there");
    assert_eq!((stored.revision, stored.value), (second, Bytes::from_static(b"calendar billing/a")));
    assert_eq!(world.bus().object(&b).await, Ok(None));
}

pub async fn a_deleted_object_can_be_created_again(world: &impl World) {
    let key = ObjectKey::Namespace(name_of("billing"));
    let first = put(world, &key, None).await;
    let marker = world.bus().delete_object(&key, first).await.expect("deleted");
    assert_eq!(world.bus().object(&key).await, Ok(None));
    assert_eq!(world.bus().objects(ObjectKind::Namespace, None).await, Ok(vec![]));
    let again = put(world, &key, None).await;
    assert!(first < marker && marker < again);
}

pub async fn objects_are_listed_by_kind_and_namespace(world: &impl World) {
    for key in [
        calendar("shipping", "a"),
        calendar("billing", "b"),
        ObjectKey::Namespace(name_of("billing")),
        calendar("billing", "a"),
        ObjectKey::Queue(QueueId { namespace: name_of("billing"), name: name_of("q") }),
    ] {
        put(world, &key, None).await;
    }
    let billing = name_of("billing");
    for (kind, namespace, expected) in [
        (ObjectKind::Calendar, None, vec!["billing/a", "billing/b", "shipping/a"]),
        (ObjectKind::Calendar, Some(&billing), vec!["billing/a", "billing/b"]),
        (ObjectKind::Namespace, None, vec!["billing"]),
        (ObjectKind::Queue, Some(&billing), vec!["billing/q"]),
        (ObjectKind::Namespace, Some(&name_of("shipping")), vec![]),
    ] {
        let listed = world.bus().objects(kind, namespace).await.expect("objects");
        let names: Vec<String> = listed.iter().map(|(key, _)| key.name()).collect();
        assert_eq!(names, expected);
        assert!(listed.iter().all(|(key, stored)| stored.value == key.to_string()));
    }
}

pub async fn every_change_of_an_object_is_noticed(world: &impl World) {
    let revision = async || world.bus().objects_revision().await.expect("revision");
    let key = calendar("billing", "a");
    let mut seen = vec![revision().await];
    let first = put(world, &key, None).await;
    seen.push(revision().await);
    let second = put(world, &key, Some(first)).await;
    seen.push(revision().await);
    world.bus().delete_object(&key, second).await.expect("deleted");
    seen.push(revision().await);
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert_eq!(revision().await, seen[3]);
}
