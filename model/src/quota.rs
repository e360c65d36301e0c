//! The quota of a namespace: how close together the occurrences of one job may be.

use std::time::Duration;

use crate::declared::Declared;
use crate::manifest::{Problem, duration_text};
use crate::spec::{JobSpec, NamespaceSpec};

/// How many of a job's next occurrences are looked at, and how many more around those of each single rule. Rules repeat, so that neighbours which never come close among
/// so many hardly ever do; and looking must stay cheap, for every job of an `apply` is asked.
pub const QUOTA_SAMPLE: usize = 500;

/// What a job is refused for in its namespace, if it is.
///
/// Only a new schedule is judged: a job that is there already keeps its own when the quota becomes stricter, and an
/// edit of anything else doesn't bring it up again.
#[must_use]
pub fn judge(new: &Declared, old: Option<&JobSpec>, namespace: &NamespaceSpec) -> Option<Problem> {
    let least = namespace.min_interval?;
    if old.is_some_and(|old| old.schedule == new.spec.schedule) {
        return None;
    }
    let since = new.acceptance.schedule_since;
    let (one, next) = new.schedule.closer_than(least, since, QUOTA_SAMPLE)?;
    let found = duration_text(Duration::from_millis(next.ms_since(one).unsigned_abs()));
    Some(Problem {
        field: "spec.schedule".into(),
        line: None,
        message: format!(
            "occurs {found} apart ({one}, {next}); namespace {} allows no less than {} (minInterval)",
            namespace.name,
            duration_text(least)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Node, decode_job};
    use crate::name::Name;
    use crate::spec::Acceptance;
    use crate::time::Timestamp;
    use serde_json::json;

    fn declared(schedule: serde_json::Value) -> Declared {
        let now: Timestamp = "2026-11-22T06:45:00Z".parse().unwrap();
        let document = json!({
            "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"schedule": schedule},
        });
        let spec = decode_job(&Node::from_json(document), now).unwrap();
        Declared::of(spec, Acceptance::new(now)).unwrap()
    }

    #[test]
    fn neighbours_that_are_too_close_are_named_with_the_limit() {
        let namespace = |least: Option<u64>| NamespaceSpec {
            name: Name::default_name(),
            min_interval: least.map(Duration::from_secs),
            paused: false,
        };
        for (schedule, least, found) in [
            (json!({"every": "10s"}), Some(10), None),
            (json!({"every": "9s"}), Some(10), Some("9s apart")),
            (json!({"every": "9s"}), None, None),
            (json!({"cron": ["0 12 * * *", "5 12 * * *"]}), Some(600), Some("5m apart")),
            (json!({"cron": "0 12 29 2 *"}), Some(600), None),
            (json!({"at": ["2030-01-01T00:00:00Z"]}), Some(600), None),
            (json!({"at": ["2030-01-01T00:00:00Z", "2030-01-01T00:00:01Z"]}), Some(600), Some("1s apart")),
        ] {
            let problem = judge(&declared(schedule.clone()), None, &namespace(least));
            let Some(words) = found else {
                assert_eq!(problem, None, "{schedule}");
                continue;
            };
            let problem = problem.unwrap_or_else(|| panic!("{schedule} was accepted"));
            assert_eq!(problem.field, "spec.schedule");
            assert!(problem.message.contains(words), "{problem}");
            assert!(problem.message.contains("namespace default allows no less than"), "{problem}");
        }
        let there = declared(json!({"every": "9s"}));
        assert_eq!(judge(&there, Some(&there.spec), &namespace(Some(10))), None, "it is there already");
        let moved = declared(json!({"every": "8s"}));
        assert!(judge(&moved, Some(&there.spec), &namespace(Some(10))).is_some());
    }
}
