//! The gates in memory: `model::gate` itself.

use model::gate::{Gate, GateRules, GateRun, Picked};
use model::id::Occurrence;
use model::name::QueueId;
use model::shard::ShardId;
use model::time::Timestamp;

use super::{MemoryStore, Shard};
use crate::error::StoreError;
use crate::gate::{Admission, GATE_BATCH_MAX, GateStore, GateView, WaitingLine};

impl GateStore for MemoryStore {
    async fn admit(
        &self,
        home: ShardId,
        queue: &QueueId,
        rules: &GateRules,
        now: Timestamp,
        runs: &[GateRun],
    ) -> Result<Admission, StoreError> {
        self.on(home, |shard, _| {
            let mut admission = Admission::default();
            for runs in runs.chunks(GATE_BATCH_MAX) {
                let (picked, may_go) = shard.at_gate(queue, now, |gate| {
                    let picked = gate.admit(rules, now, runs, GATE_BATCH_MAX);
                    let may_go: Vec<bool> = runs.iter().map(|run| gate.is_active(&run.occurrence)).collect();
                    (picked, may_go)
                });
                admission.fold(runs, picked, may_go);
            }
            Ok(admission)
        })
        .await
    }

    async fn leave(
        &self,
        home: ShardId,
        queue: &QueueId,
        rules: &GateRules,
        now: Timestamp,
        ended: &[Occurrence],
    ) -> Result<Picked, StoreError> {
        self.on(home, |shard, _| {
            let mut all = Picked::default();
            let mut rest = ended;
            loop {
                let (ended, more) = rest.split_at(rest.len().min(GATE_BATCH_MAX));
                let picked = shard.at_gate(queue, now, |gate| gate.leave(rules, now, ended, GATE_BATCH_MAX));
                all.runs.extend(picked.runs);
                all.next_at = picked.next_at;
                rest = more;
                if rest.is_empty() {
                    return Ok(all);
                }
            }
        })
        .await
    }

    async fn gates(&self, home: ShardId) -> Result<Vec<QueueId>, StoreError> {
        self.on(home, |shard, _| Ok(shard.gates.keys().cloned().collect())).await
    }

    async fn gate_unseen(
        &self,
        home: ShardId,
        queue: &QueueId,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Occurrence>, StoreError> {
        self.on(home, |shard, _| {
            Ok(shard.gates.get(queue).map(|gate| gate.unseen(until, limit)).unwrap_or_default())
        })
        .await
    }

    async fn gate_seen(
        &self,
        home: ShardId,
        queue: &QueueId,
        now: Timestamp,
        runs: &[Occurrence],
    ) -> Result<(), StoreError> {
        self.on(home, |shard, _| {
            if let Some(gate) = shard.gates.get_mut(queue) {
                gate.seen(runs, now);
            }
            Ok(())
        })
        .await
    }

    async fn is_planned(&self, shard: ShardId, run: &Occurrence) -> Result<bool, StoreError> {
        self.on(shard, |shard, _| Ok(shard.minutes.iter().any(|(_, _, entry)| entry.occurrence == *run)))
            .await
    }

    async fn gate(&self, home: ShardId, queue: &QueueId) -> Result<GateView, StoreError> {
        self.on(home, |shard, _| {
            let Some(gate) = shard.gates.get(queue) else { return Ok(GateView::default()) };
            let line =
                |(priority, namespace, runs, first_due)| WaitingLine { priority, namespace, runs, first_due };
            Ok(GateView {
                active: gate.active() as u64,
                waiting: gate.waiting().into_iter().map(line).collect(),
                mark_us: gate.mark_us(),
            })
        })
        .await
    }
}

impl Shard {
    /// One call to a gate, which is forgotten once it holds nothing.
    fn at_gate<T>(&mut self, queue: &QueueId, now: Timestamp, call: impl FnOnce(&mut Gate) -> T) -> T {
        let gate = self.gates.entry(queue.clone()).or_default();
        let answer = call(gate);
        if gate.is_idle(now) {
            self.gates.remove(queue);
        }
        answer
    }
}
