//! Every bound that ecron puts on what people send it, by name. One place, so that an error message, a document and
//! a check can't disagree.

use std::time::Duration;

/// Characters in a namespace, job or queue name. 63 is the limit of a DNS label (RFC 1123), which Kubernetes users know.
pub const NAME_CHARS_MAX: usize = 63;
/// Characters in an idempotency key (`Ecron-Key`).
pub const KEY_CHARS_MAX: usize = 128;
/// Bytes of a payload. A quarter of the 1 MiB that NATS takes in one message, so that headers always fit.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a manifest document, payload included.
pub const MANIFEST_BYTES_MAX: usize = 512 * 1024;
/// Bytes, as JSON, of the calendars that one job names: they are stored with it.
pub const CALENDARS_BYTES_MAX: usize = 256 * 1024;
/// Objects in one `apply`.
pub const MANIFEST_OBJECTS_MAX: usize = 10_000;
/// Nesting of a manifest or payload.
pub const MANIFEST_DEPTH_MAX: usize = 64;
/// Labels on a job.
pub const LABELS_MAX: usize = 64;
/// Characters of a label's key or value.
pub const LABEL_CHARS_MAX: usize = 128;
/// Headers that a job adds to its run messages.
pub const HEADERS_MAX: usize = 32;
/// Bytes of the header block that a publisher may send.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Attempts of one run.
pub const ATTEMPTS_MAX: u32 = 100;
/// Attempts that may be lost (executor died) before a run is parked as poison. They don't count towards the policy's.
pub const LOST_ATTEMPTS_MAX: u32 = 5;
/// Attempts of one message that a rate limit may turn away without counting them; further ones count as failures.
pub const RATE_LIMITED_MAX: u32 = 1_000;
/// Ranges in a list of exit codes or HTTP statuses.
pub const CODE_RANGES_MAX: usize = 32;
/// What an executor knows of the edits of its queue counts for so long, from when it asked. After that it asks again before
/// it starts a run.
pub const EDITS_KNOWN_FOR: Duration = Duration::from_secs(1);
/// An edit is in force so long after it was installed, at the earliest: by then no executor goes by what it asked before.
pub const EDIT_IN_FORCE_AFTER: Duration = Duration::from_millis(1_500);
/// The longest time that one attempt may take.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest wait between two attempts.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest catch-up window.
pub const CATCH_UP_WINDOW_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Missed occurrences that one job may catch up on after one interruption.
pub const CATCH_UP_RUNS_MAX: u32 = 10_000;
/// Runs of one job that may be under way at once, if it says how many (`maxActive`).
pub const ACTIVE_MAX: u32 = 1_000;
/// Occurrences of one job that may wait for an earlier run to end; one more is skipped.
pub const OVERLAP_WAITING_MAX: u32 = 1_000;
/// Starts in one period of a rate.
pub const RATE_STARTS_MAX: u32 = 1_000_000;
/// The longest period of a rate.
pub const RATE_PERIOD_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Runs of one queue that may be under way at once, if it says how many: what its consumer allows without saying so.
pub const QUEUE_CONCURRENCY_MAX: u32 = 100_000;
/// The largest share of a namespace in a queue.
pub const QUEUE_SHARE_MAX: u32 = 1_000;
/// Namespaces that one queue may name.
pub const QUEUE_NAMESPACES_MAX: usize = 1_000;
/// Waiting runs of one line that are passed over in one look because their keys have no token.
pub const GATE_SCAN_MAX: usize = 200;
/// Finished runs that a job may keep, for each kind of end.
pub const HISTORY_RUNS_MAX: u32 = 1_000;
/// The longest minimum interval that a namespace may ask for.
pub const MIN_INTERVAL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Bytes of an error text kept with a run.
pub const ERROR_BYTES_MAX: usize = 4 * 1024;
/// Bytes of output kept with a run.
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a note of progress.
pub const PROGRESS_BYTES_MAX: usize = 256;
/// Bytes that one attempt may log; then a last line says that there was more.
pub const LOG_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one line of a log; longer ones are cut.
pub const LOG_LINE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of all logs together; the oldest go first.
pub const LOGS_BYTES_MAX: i64 = 1024 * 1024 * 1024;
/// The longest time that a unique key is taken, whatever becomes of its run.
pub const UNIQUE_PERIOD_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
/// How far ahead ad-hoc work may be deferred.
pub const DEFER_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Characters of who a request says it comes from.
pub const BY_CHARS_MAX: usize = 128;
/// Bytes, as JSON, of a schedule that a change log keeps.
pub const SCHEDULE_KEPT_BYTES_MAX: usize = 1024;
/// Schedules of one job that edits have superseded and that its spec still tells of, the newest: what is late by more edits
/// than this is lost to them.
pub const SUPERSEDED_MAX: usize = 16;
/// Bytes of them, as JSON.
pub const SUPERSEDED_BYTES_MAX: usize = 16 * 1024;
/// Attempts of one run whose ends are remembered.
pub const ATTEMPTS_KEPT_MAX: usize = 100;
/// Owners of one shard that are remembered.
pub const OWNERS_MAX: usize = 100;
/// Changes of one job that are remembered.
pub const CHANGES_MAX: usize = 100;
/// Interruptions of one shard that are remembered.
pub const INTERRUPTIONS_MAX: usize = 100;
/// Shards a cluster may have.
pub const SHARDS_MAX: u16 = 1024;
/// How long a trigger's idempotency key is remembered.
pub const TRIGGER_KEY_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Runs of one backfill that may be under way at once.
pub const BACKFILL_ACTIVE_MAX: u32 = 100;
/// Occurrences in the range of one backfill.
pub const BACKFILL_RUNS_MAX: u32 = 100_000;
/// How long a backfill that has ended is kept.
pub const BACKFILL_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Minutes of one forecast: a week.
pub const FORECAST_MINUTES_MAX: usize = 7 * 24 * 60;
/// Occurrences that one forecast counts.
pub const FORECAST_OCCURRENCES_MAX: u64 = 20_000_000;
