//! `ecron inspect gates`: the queues with limits: what is under way, what waits, and when the next run may go.

use std::collections::BTreeMap;

use ambient::Clock;
use bus::ObjectStore;
use model::gate::{GateRules, rate};
use model::manifest::{Node, Object, decode};
use model::name::QueueId;
use model::object::ObjectKind;
use model::shard::ShardId;
use model::time::Timestamp;
use serde_json::{Value, json};
use store::GateStore;
use store::gate::GateView;
use store::redis::RedisStore;

use crate::args::{InspectArgs, Servers};
use crate::connect;
use crate::failure::Failure;
use crate::output::{self, Table};

/// A queue's rules and its gate.
#[derive(Default)]
struct Gate {
    rules: GateRules,
    view: GateView,
}

pub(super) async fn inspect(
    servers: &Servers,
    store: &RedisStore,
    shards: &[ShardId],
    args: &InspectArgs,
) -> Result<(), Failure> {
    let mut gates = rules(servers).await?;
    for shard in shards {
        for queue in store.gates(*shard).await? {
            let view = store.gate(*shard, &queue).await?;
            gates.entry(queue).or_default().view = view;
        }
    }
    let now = Clock::system().now();
    let as_json: Vec<Value> = gates.iter().map(|(queue, gate)| gate.as_json(queue, now)).collect();
    if output::structured(&as_json, args.output)? {
        return Ok(());
    }
    let mut table =
        Table::new(&["QUEUE", "UNDER WAY", "WAITING", "LONGEST LINES", "STARTS LEFT", "NEXT START"]);
    for (queue, gate) in &gates {
        table.row([
            queue.to_string(),
            gate.under_way(),
            gate.waiting().to_string(),
            gate.lines(usize::from(args.first)),
            gate.tokens(now).map(|tokens| tokens.to_string()).unwrap_or_default(),
            gate.next_at(now).map(|at| at.to_string()).unwrap_or_default(),
        ]);
    }
    table.print("no queue has limits; declare some with `kind: Queue`")
}

/// The queues that have limits.
async fn rules(servers: &Servers) -> Result<BTreeMap<QueueId, Gate>, Failure> {
    let stored = connect::nats(servers)
        .await?
        .objects(ObjectKind::Queue, None)
        .await
        .map_err(|problem| Failure::failed(format!("failed to {problem}")))?;
    let specs = stored.iter().filter_map(|(_, object)| {
        match decode(&Node::from_json_bytes(&object.value).ok()?, Timestamp::from_ms(0)).ok()? {
            Object::Queue(spec) if spec.rules.is_gated() => Some(spec),
            Object::Queue(_) | Object::Job(_) | Object::Calendar(_) | Object::Namespace(_) => None,
        }
    });
    Ok(specs.map(|spec| (spec.id, Gate { rules: spec.rules, view: GateView::default() })).collect())
}

impl Gate {
    fn waiting(&self) -> u64 {
        self.view.waiting.iter().map(|line| line.runs).sum()
    }

    fn under_way(&self) -> String {
        let paused = if self.rules.paused { " (paused)" } else { "" };
        let limit = self.rules.concurrency.map(|limit| format!(" of {limit}")).unwrap_or_default();
        format!("{}{limit}{paused}", self.view.active)
    }

    fn lines(&self, most: usize) -> String {
        let mut lines: Vec<_> = self.view.waiting.iter().collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.runs));
        let line = |line: &&store::gate::WaitingLine| {
            format!("{} {} {}", line.namespace, line.priority.as_str(), line.runs)
        };
        lines.iter().take(most).map(line).collect::<Vec<_>>().join(", ")
    }

    /// How many the rate lets start at this moment.
    fn tokens(&self, now: Timestamp) -> Option<u32> {
        self.rules.rate.map(|rate| rate::tokens(&rate, self.view.mark_us, now))
    }

    /// When the rate lets the next one start, if that isn't now.
    fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let (rate, mark) = (self.rules.rate?, self.view.mark_us?);
        Some(rate::instant(rate::free_at_us(&rate, mark))).filter(|at| *at > now)
    }

    fn as_json(&self, queue: &QueueId, now: Timestamp) -> Value {
        let lines = self.view.waiting.iter().map(|line| {
            json!({
                "namespace": line.namespace.as_str(), "priority": line.priority.as_str(), "runs": line.runs,
                "firstDueAt": line.first_due.to_string(),
            })
        });
        json!({
            "queue": queue.to_string(), "paused": self.rules.paused, "underWay": self.view.active,
            "concurrency": self.rules.concurrency, "rate": self.rules.rate.map(|rate| rate.to_string()),
            "waiting": self.waiting(), "lines": lines.collect::<Vec<_>>(), "startsLeft": self.tokens(now),
            "nextStartAt": self.next_at(now).map(|at| at.to_string()),
        })
    }
}
