//! The audit: who had what done. Writing it never fails a request; that it couldn't be written is logged.

use bus::AuditLog;
use bus::audit::AuditRecord;
use model::change::signature;
use store::Store;

use super::Api;
use super::types::{ApplyAction, ApplyReply};
use crate::service::PlannerBus;

/// Names that a target spells out.
const NAMED_MAX: usize = 5;

impl<S: Store, B: PlannerBus> Api<S, B> {
    /// Notes that something was done: the verb, to what, to how many.
    pub(crate) async fn audit(
        &self,
        by: Option<&str>,
        action: &str,
        target: String,
        count: Option<usize>,
        detail: Option<String>,
    ) {
        self.audit_part(by, action, target, count, detail, None).await;
    }

    /// The same of one request of several that belong to an operation.
    pub(super) async fn audit_part(
        &self,
        by: Option<&str>,
        action: &str,
        target: String,
        count: Option<usize>,
        detail: Option<String>,
        operation: Option<String>,
    ) {
        let record = AuditRecord {
            at: self.clock.now(),
            by: by.and_then(signature),
            action: action.into(),
            target,
            count: count.map(|count| u64::try_from(count).unwrap_or(u64::MAX)),
            detail,
            operation,
        };
        if let Err(problem) = AuditLog::audit(&*self.bus, &record).await {
            tracing::warn!(action, target = record.target, by = record.by, %problem, "the audit couldn't be written");
        }
    }

    /// Notes what an `apply` changed; nothing if it changed nothing.
    pub(super) async fn audit_applied(&self, by: Option<&str>, reply: &ApplyReply) {
        let changed = |action: ApplyAction| !matches!(action, ApplyAction::Unchanged);
        let objects = reply.objects.iter().filter(|object| changed(object.action));
        let names: Vec<String> = objects
            .map(|object| format!("{} {}", object.kind.word(), object.name))
            .chain(reply.jobs.iter().filter(|job| changed(job.action)).map(|job| format!("job {}", job.job)))
            .collect();
        if names.is_empty() {
            return;
        }
        let failed = reply.jobs.iter().filter(|job| job.error.is_some()).count();
        let detail = (failed > 0).then(|| format!("{failed} of them failed"));
        self.audit(by, "apply", named(&names), Some(names.len()), detail).await;
    }
}

/// The first few names, and how many more.
pub(super) fn named(names: &[String]) -> String {
    let mut text = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", names.len() - NAMED_MAX));
    }
    text
}
