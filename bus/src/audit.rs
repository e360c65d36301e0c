//! The audit: who asked for what, and when. Kept in the event stream, seven days.

use std::collections::BTreeMap;
use std::future::Future;

use model::time::Timestamp;

use crate::error::BusError;

/// One thing that somebody had done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    pub at: Timestamp,
    /// Who asked, as they said themselves: `user@host`.
    pub by: Option<String>,
    /// The verb: `apply`, `delete`, `pause`, `redrive`, …
    pub action: String,
    /// What it was done to: a job, a queue, a run, or a filter in words.
    pub target: String,
    /// How many of them.
    pub count: Option<u64>,
    pub detail: Option<String>,
    /// What several records belong to: what was asked for once, and done in several requests.
    pub operation: Option<String>,
}

/// Records, those of one operation together as one, where the first of them was: who, when, how many.
#[must_use]
pub fn gathered(records: Vec<AuditRecord>) -> Vec<AuditRecord> {
    let mut whole: Vec<(AuditRecord, Parts)> = Vec::with_capacity(records.len());
    let mut known: BTreeMap<(Option<String>, String, String), usize> = BTreeMap::new();
    for record in records {
        let operation = record.operation.clone();
        let key = operation.map(|operation| (record.by.clone(), record.action.clone(), operation));
        let first = key.as_ref().and_then(|key| known.get(key)).copied();
        match first.and_then(|index| whole.get_mut(index)) {
            Some((first, parts)) => {
                parts.count += 1;
                parts.until = parts.until.max(record.at);
                parts.details.extend(record.detail);
                first.count = Some(first.count.unwrap_or(0).saturating_add(record.count.unwrap_or(0)));
            }
            None => {
                known.extend(key.map(|key| (key, whole.len())));
                let parts =
                    Parts { count: 1, until: record.at, details: record.detail.iter().cloned().collect() };
                whole.push((record, parts));
            }
        }
    }
    whole.into_iter().map(|(record, parts)| parts.told(record)).collect()
}

/// The records behind one that stands for several.
struct Parts {
    count: usize,
    until: Timestamp,
    details: Vec<String>,
}

impl Parts {
    fn told(self, record: AuditRecord) -> AuditRecord {
        if self.count == 1 {
            return record;
        }
        let mut detail = format!("in {} requests until {}", self.count, self.until);
        for more in self.details.iter().take(DETAILS_MAX) {
            detail.push_str("; ");
            detail.push_str(more);
        }
        if self.details.len() > DETAILS_MAX {
            detail.push_str("; …");
        }
        AuditRecord { detail: Some(detail), ..record }
    }
}

/// Details that one record tells of those it stands for.
const DETAILS_MAX: usize = 5;

/// Records in one answer of `audits`.
pub const AUDITS_MAX: usize = 10_000;

pub trait AuditLog: Send + Sync + 'static {
    /// Writes a record; `Ok` once it is stored.
    fn audit(&self, record: &AuditRecord) -> impl Future<Output = Result<(), BusError>> + Send;

    /// The records since an instant, oldest first; of very many the first `AUDITS_MAX`.
    fn audits(&self, since: Timestamp) -> impl Future<Output = Result<Vec<AuditRecord>, BusError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(second: i64, operation: Option<&str>, count: u64, detail: Option<&str>) -> AuditRecord {
        AuditRecord {
            at: Timestamp::from_ms(1_000 * second),
            by: Some("ann@desk".into()),
            action: "redrive".into(),
            target: "dead letters of queue a/b".into(),
            count: Some(count),
            detail: detail.map(Into::into),
            operation: operation.map(Into::into),
        }
    }

    #[test]
    fn what_was_asked_for_once_is_one_line() {
        let other = AuditRecord { by: Some("bob@desk".into()), ..record(12, Some("1"), 7, None) };
        let records = vec![
            record(9, None, 1, None),
            record(10, Some("1"), 2, None),
            record(11, None, 1, Some("1 more failed")),
            other.clone(),
            record(13, Some("1"), 3, Some("2 more failed")),
            record(20, Some("2"), 4, None),
        ];
        let whole = AuditRecord {
            detail: Some("in 2 requests until 1970-01-01T00:00:13Z; 2 more failed".into()),
            ..record(10, Some("1"), 5, None)
        };
        let expected = [records[0].clone(), whole, records[2].clone(), other, record(20, Some("2"), 4, None)];
        assert_eq!(gathered(records), expected);
    }
}
