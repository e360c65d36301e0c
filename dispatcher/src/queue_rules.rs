//! The rules of queues, as this dispatcher knows them: looked up for every run, and brought up to date once a second.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::{BusError, ObjectStore, RunStream};
use model::gate::GateRules;
use model::id::Revision;
use model::manifest::{Node, Object, decode};
use model::name::QueueId;
use model::object::{ObjectKey, ObjectKind};
use model::time::Timestamp;

use crate::service::pause_after;

/// How old the rules may be.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// How often the consumers of queues with a concurrency are set right, in refreshes: somebody may have created one anew.
const LIMIT_EVERY: u32 = 10;

/// The queues that have limits. Cheap to clone; the clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct QueueRules(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Unset: never read.
    revision: Option<Revision>,
    gated: HashMap<QueueId, Arc<GateRules>>,
}

impl QueueRules {
    /// The rules of a queue, if its runs have to pass a gate.
    #[must_use]
    pub fn of(&self, queue: &QueueId) -> Option<Arc<GateRules>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.gated.get(queue).cloned()
    }

    /// Whether no queue has limits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).gated.is_empty()
    }

    /// The queues with limits.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).gated.keys().cloned().collect()
    }

    /// Whether they were ever read: before that nothing may be published.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).revision.is_some()
    }

    /// Reads the queues if any object has changed; answers with those whose concurrency did.
    ///
    /// # Errors
    /// The bus couldn't be asked: what was known stays.
    pub async fn refresh<B: ObjectStore>(&self, bus: &B) -> Result<Vec<(QueueId, Option<u32>)>, BusError> {
        // Read before the objects, so that a change in between is seen next time.
        let revision = bus.objects_revision().await?;
        if self.0.read().unwrap_or_else(PoisonError::into_inner).revision == Some(revision) {
            return Ok(Vec::new());
        }
        let stored = bus.objects(ObjectKind::Queue, None).await?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut gated = HashMap::new();
        for (key, object) in stored {
            let ObjectKey::Queue(queue) = key else { continue };
            match rules(&object.value) {
                Some(rules) if rules.is_gated() => {
                    gated.insert(queue, Arc::new(rules));
                }
                Some(_) => {}
                None => {
                    tracing::error!(%queue, "a queue's object can't be read; its last known rules hold until it is applied again");
                    let last = known.gated.get(&queue).cloned();
                    gated.extend(last.map(|rules| (queue, rules)));
                }
            }
        }
        let limit = |gated: &HashMap<QueueId, Arc<GateRules>>, queue| {
            gated.get(queue).and_then(|rules: &Arc<GateRules>| rules.concurrency)
        };
        let names = known.gated.keys().chain(gated.keys());
        let mut changed: Vec<(QueueId, Option<u32>)> = names
            .filter(|queue| limit(&known.gated, queue) != limit(&gated, queue))
            .map(|queue| (queue.clone(), limit(&gated, queue)))
            .collect();
        changed.sort();
        changed.dedup();
        *known = Known { revision: Some(revision), gated };
        Ok(changed)
    }

    /// The queues with a concurrency.
    fn limited(&self) -> Vec<(QueueId, Option<u32>)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let limited = known.gated.iter().filter(|(_, rules)| rules.concurrency.is_some());
        limited.map(|(queue, rules)| (queue.clone(), rules.concurrency)).collect()
    }

    /// Stays up to date until shutdown, and lets each queue's consumer have no more messages out than may be under way.
    pub(crate) async fn run<B: ObjectStore + RunStream>(&self, bus: &B, clock: &Clock, shutdown: &Shutdown) {
        let mut refreshes = 0;
        while !shutdown.stopping() {
            match self.refresh(bus).await {
                Ok(mut changed) => {
                    if refreshes % LIMIT_EVERY == 0 {
                        changed.extend(self.limited());
                    }
                    refreshes += 1;
                    for (queue, most) in changed {
                        if let Err(problem) = bus.limit_queue(&queue, most).await {
                            tracing::warn!(%queue, %problem, "the queue's consumer isn't limited yet");
                        }
                    }
                }
                Err(problem) => pause_after(&problem, "reading the queues' rules", clock, shutdown).await,
            }
            tokio::select! {
                biased;
                () = shutdown.stopped() => return,
                () = clock.sleep(REFRESH_INTERVAL) => {}
            }
        }
    }
}

fn rules(value: &[u8]) -> Option<GateRules> {
    let document = Node::from_json_bytes(value).ok()?;
    match decode(&document, Timestamp::from_ms(0)).ok()? {
        Object::Queue(spec) => Some(spec.rules),
        Object::Job(_) | Object::Calendar(_) | Object::Namespace(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

    use bus::memory::MemoryBus;

    use super::*;

    #[tokio::test]
    async fn rules_follow_their_objects() {
        let bus = MemoryBus::new(Arc::new(|| Timestamp::from_ms(1)), Duration::from_secs(30));
        let queue: QueueId = "billing/reports".parse().unwrap();
        let key = ObjectKey::Queue(queue.clone());
        let spec = |spec: &str| {
            let text = format!(
                r#"{{"apiVersion":"ecron/v1","kind":"Queue","metadata":{{"name":"reports","namespace":"billing"}},"spec":{spec}}}"#
            );
            bytes::Bytes::from(text)
        };
        let rules = QueueRules::default();
        assert!(!rules.are_known());
        assert_eq!(rules.refresh(&bus).await, Ok(vec![]));
        assert!(rules.are_known() && rules.of(&queue).is_none());
        let first = bus.put_object(&key, None, spec(r#"{"concurrency":3}"#)).await.unwrap();
        assert_eq!(rules.refresh(&bus).await, Ok(vec![(queue.clone(), Some(3))]));
        assert_eq!(rules.of(&queue).unwrap().concurrency, Some(3));
        assert_eq!(rules.refresh(&bus).await, Ok(vec![]));
        // What can't be read changes nothing.
        let second = bus.put_object(&key, Some(first), spec(r#"{"concurrency":"x"}"#)).await.unwrap();
        assert_eq!(rules.refresh(&bus).await, Ok(vec![]));
        assert_eq!(rules.of(&queue).unwrap().concurrency, Some(3));
        let third = bus.put_object(&key, Some(second), spec(r#"{"paused":true}"#)).await.unwrap();
        assert_eq!(rules.refresh(&bus).await, Ok(vec![(queue.clone(), None)]));
        assert!(rules.of(&queue).unwrap().paused);
        bus.delete_object(&key, third).await.unwrap();
        rules.refresh(&bus).await.unwrap();
        assert!(rules.of(&queue).is_none());
    }
}
