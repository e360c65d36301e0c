//! The run ledger in Redis.

use std::collections::BTreeMap;

use model::bucket::Minute;
use model::id::{Entry, Occurrence};
use model::name::JobId;
use model::run::{AttemptEnd, Generation, RunState, SkipReason, WaitsFor};
use model::shard::ShardId;
use model::stats::{Counted, Earlier, counted_lateness};
use model::time::Timestamp;
use redis::Value;

use super::error::unexpected;
use super::link::Call;
use super::plan::wrong_type;
use super::quarantine::Unreadable;
use super::script::{
    CANCEL, CLAIM, CONFIRM, DROP_ENTRIES, MISSED, NOTE_ATTEMPT, OVERDUE, PARK, RUNS, SETTLE, SKIP, TAKE,
    UNPARK, WORRY_LATER,
};
use super::taken::taken_entries;
use super::{RedisStore, value};
use crate::error::StoreError;
use crate::keys::{self, History};
use crate::lease::{Epoch, Role};
use crate::ledger::{
    CancelMark, CancelOutcome, Claim, LEDGER_BATCH_MAX, LedgerStore, Park, RunRecord, Sent, SentRun, Settled,
    Settlement, Skip, TERMINATED_KEPT, Taken, TakenEntry, Wait,
};
use crate::record::{self, RUN_FIELDS};
use crate::stats::counted_text;

impl LedgerStore for RedisStore {
    async fn take(
        &self,
        shard: ShardId,
        epoch: Epoch,
        until: Timestamp,
        limit: usize,
    ) -> Result<Taken, StoreError> {
        let call = Call::new(&TAKE, &[keys::lease(shard, Role::Dispatcher), keys::cursor(shard)])
            .arg(keys::prefix(shard))
            .arg(epoch.0)
            .arg(until.as_ms())
            .arg(limit.clamp(1, LEDGER_BATCH_MAX));
        let [before, taken, next, now, cancelling, groups] = value::row(self.link.run(&call).await?, "take")?;
        let instant = |value: &Value| value::number(value, "take").map(Timestamp::from_ms);
        let (entries, unreadable) = taken_entries(groups)?;
        self.quarantine(shard, &unreadable).await?;
        Ok(Taken {
            entries,
            taken_before: instant(&before)?,
            taken_until: instant(&taken)?,
            next_due: Some(instant(&next)?).filter(|next| next.as_ms() >= 0),
            now: instant(&now)?,
            cancels_at: Some(instant(&cancelling)?).filter(|at| at.as_ms() >= 0),
        })
    }

    async fn missed(
        &self,
        shard: ShardId,
        epoch: Epoch,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TakenEntry>, StoreError> {
        let limit = limit.clamp(1, LEDGER_BATCH_MAX);
        let from = format!("({}", after.as_ms());
        let first = Minute::of(after).start().as_ms();
        let page = Page { from, until, first, passed: 0, limit };
        let (mut entries, complete) = self.page(shard, epoch, &page).await?;
        let Some(last) = entries.last().map(|taken| taken.entry.occurrence.due_at).filter(|_| !complete)
        else {
            return Ok(entries);
        };
        // What is due at the last instant comes whole, in pages, since it may be very much (the top of an hour).
        entries.retain(|taken| taken.entry.occurrence.due_at < last);
        let (from, first) = (last.as_ms().to_string(), Minute::of(last).start().as_ms());
        let mut page = Page { from, until: last, first, passed: 0, limit: LEDGER_BATCH_MAX };
        loop {
            let (more, complete) = self.page(shard, epoch, &page).await?;
            page.passed += more.len();
            entries.extend(more);
            if complete {
                return Ok(entries);
            }
        }
    }

    async fn note_terminated(&self, sequence: u64, reason: &str, at: Timestamp) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(keys::terminated(sequence)).arg(format!("{at} {reason}"));
        command.arg("EX").arg(TERMINATED_KEPT.as_secs());
        self.link.query(&command).await.map(drop)
    }

    async fn forget_terminated(&self, sequence: u64) -> Result<(), StoreError> {
        let mut command = redis::cmd("DEL");
        command.arg(keys::terminated(sequence));
        self.link.query(&command).await.map(drop)
    }

    async fn terminated(&self, sequence: u64) -> Result<Option<String>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(keys::terminated(sequence));
        let noted = value::text(self.link.query(&command).await?);
        Ok(noted.map(|text| text.split_once(' ').map_or(String::new(), |(_, reason)| reason.into())))
    }

    async fn claim(&self, shard: ShardId, epoch: Epoch, claims: &[Claim]) -> Result<Vec<bool>, StoreError> {
        let mut claimed = Vec::with_capacity(claims.len());
        for claims in claims.chunks(LEDGER_BATCH_MAX) {
            let mut call = Call::new(&CLAIM, &[keys::lease(shard, Role::Dispatcher)])
                .arg(keys::prefix(shard))
                .arg(epoch.0)
                .arg(claims.len());
            for claim in claims {
                push_entry(&mut call, &claim.entry);
                call.push(claim.revision.0);
                call.push(u8::from(claim.triggered));
            }
            claimed.extend(flags(self.link.run(&call).await?, "claim")?);
        }
        Ok(claimed)
    }

    async fn park(&self, shard: ShardId, epoch: Epoch, parks: &[Park]) -> Result<Vec<bool>, StoreError> {
        let mut parked = Vec::with_capacity(parks.len());
        for parks in parks.chunks(LEDGER_BATCH_MAX) {
            let mut call = Call::new(&PARK, &[keys::lease(shard, Role::Dispatcher)])
                .arg(keys::prefix(shard))
                .arg(epoch.0)
                .arg(parks.len())
                .arg(SkipReason::Coalesced.describe());
            for park in parks {
                push_entry(&mut call, &park.entry);
                call.push(u8::from(park.triggered));
                call.push(park.at.to_string());
                let (word, newest_only) = match park.wait {
                    Wait::Overlap { newest_only } => (WaitsFor::Overlap, newest_only),
                    Wait::Queue => (WaitsFor::Queue, false),
                };
                call = call.arg(word.as_str()).arg(u8::from(newest_only));
            }
            parked.extend(flags(self.link.run(&call).await?, "park")?);
        }
        Ok(parked)
    }

    async fn unpark(&self, shard: ShardId, runs: &[Occurrence]) -> Result<Vec<bool>, StoreError> {
        let mut unparked = Vec::with_capacity(runs.len());
        for runs in runs.chunks(LEDGER_BATCH_MAX) {
            let mut call = Call::new(&UNPARK, &[keys::held(shard)]).arg(keys::prefix(shard));
            runs.iter().for_each(|run| call.push(run.to_string()));
            unparked.extend(flags(self.link.run(&call).await?, "unpark")?);
        }
        Ok(unparked)
    }

    async fn held(&self, shard: ShardId, passed: usize, limit: usize) -> Result<Vec<Occurrence>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("ZRANGE");
        command.arg(keys::held(shard)).arg(passed).arg(passed + limit.min(LEDGER_BATCH_MAX) - 1);
        let members = value::items(self.link.query(&command).await?, "ZRANGE")?;
        let entries = members.into_iter().filter_map(|member| value::parse::<Entry>(&value::bytes(member)));
        Ok(entries.map(|entry| entry.occurrence).collect())
    }

    async fn confirm(&self, shard: ShardId, epoch: Epoch, sent: &[Sent]) -> Result<(), StoreError> {
        let keys = [keys::lease(shard, Role::Dispatcher), keys::sent(shard), keys::open(shard)];
        for sent in sent.chunks(LEDGER_BATCH_MAX) {
            let call = Call::new(&CONFIRM, &keys).arg(keys::prefix(shard)).arg(epoch.0);
            let call = by_minute(
                call,
                sent,
                |sent| &sent.entry,
                |call, sent| {
                    call.push(sent.entry.to_string());
                    call.push(record::published_text(sent.published_at, sent.sequence, epoch));
                    call.push(sent.worry_at.as_ms());
                    call.push(sent.republished);
                },
            );
            self.link.run(&call).await?;
        }
        Ok(())
    }

    async fn skip(&self, shard: ShardId, epoch: Epoch, skips: &[Skip]) -> Result<(), StoreError> {
        for skips in skips.chunks(LEDGER_BATCH_MAX) {
            let call = Call::new(&SKIP, &[keys::lease(shard, Role::Dispatcher)])
                .arg(keys::prefix(shard))
                .arg(epoch.0);
            let call = by_minute(
                call,
                skips,
                |skip| &skip.entry,
                |call, skip| {
                    call.push(skip.entry.to_string());
                    call.push(skip.entry.occurrence.due_at.as_ms());
                    call.push(skip.reason.describe());
                    call.push(skip.at.to_string());
                    call.push(skip.at.as_ms());
                },
            );
            self.link.run(&call).await?;
        }
        Ok(())
    }

    async fn drop_entries(&self, shard: ShardId, epoch: Epoch, entries: &[Entry]) -> Result<(), StoreError> {
        for entries in entries.chunks(LEDGER_BATCH_MAX) {
            let call = Call::new(&DROP_ENTRIES, &[keys::lease(shard, Role::Dispatcher)])
                .arg(keys::prefix(shard))
                .arg(epoch.0);
            let call = by_minute(call, entries, |entry| entry, |call, entry| call.push(entry.to_string()));
            self.link.run(&call).await?;
        }
        Ok(())
    }

    async fn settle(&self, shard: ShardId, settlement: &Settlement) -> Result<Settled, StoreError> {
        let settled = self.settle_all(shard, std::slice::from_ref(settlement)).await?;
        settled.first().copied().ok_or_else(|| unexpected("settle"))
    }

    async fn settle_all(
        &self,
        shard: ShardId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        if settlements.iter().any(|settlement| !settlement.state.is_end()) {
            return Err(StoreError::Refused("a settlement must be of an ended state".into()));
        }
        let mut settled = Vec::with_capacity(settlements.len());
        for settlements in settlements.chunks(LEDGER_BATCH_MAX) {
            let mut call = Call::new(&SETTLE, &[keys::sent(shard), keys::open(shard)])
                .arg(keys::prefix(shard))
                .arg(settlements.len());
            for settlement in settlements {
                let due_at = settlement.occurrence.due_at;
                let (fields, last) = (record::settlement_fields(settlement), &settlement.last);
                let (state, generation) = (settlement.state, settlement.generation);
                let counted = Counted::of(state, generation, due_at, last, Earlier::default());
                call = call
                    .arg(settlement.occurrence.to_string())
                    .arg(settlement.revision.0)
                    .arg(due_at.as_ms())
                    .arg(Minute::of(due_at).to_string())
                    .arg(record::history_of(settlement.state).map_or("", History::as_str))
                    .arg(settlement.generation.0)
                    .arg(counted_text(&counted))
                    .arg(settlement.settled_at.as_ms())
                    .arg(if last.attempt > 0 { last.started_at.as_ms().to_string() } else { String::new() })
                    .arg(last.ended_at.as_ms())
                    .arg(fields.len());
                for (field, text) in fields {
                    call = call.arg(field).arg(text);
                }
            }
            for answer in value::items(self.link.run(&call).await?, "settle")? {
                settled.push(match answer {
                    Value::Int(1) => Settled::Recorded,
                    Value::Int(2) => Settled::RecordedAndReleased,
                    _ => Settled::AlreadyEnded,
                });
            }
        }
        Ok(settled)
    }

    async fn note_attempt(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        generation: Generation,
        end: &AttemptEnd,
        executor: &str,
    ) -> Result<(), StoreError> {
        let (due_at, started_at) = (occurrence.due_at, end.started_at);
        let late = counted_lateness(generation, due_at, started_at, Earlier::default());
        let mut call = Call::new(&NOTE_ATTEMPT, &[keys::run(shard, occurrence)])
            .arg(generation.0)
            .arg(end.attempt)
            .arg(keys::prefix(shard))
            .arg(occurrence.job.to_string())
            .arg(late.map_or_else(String::new, |bucket| format!("late:{bucket}")))
            .arg(started_at.as_ms());
        for (field, text) in record::attempt_fields(end, generation, executor) {
            call = call.arg(field).arg(text);
        }
        self.link.run(&call).await.map(drop)
    }

    async fn overdue(
        &self,
        shard: ShardId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<SentRun>, StoreError> {
        self.sent_runs(shard, "sent", &now.as_ms().to_string(), limit).await
    }

    async fn cancel(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        named: bool,
        mark: &CancelMark,
        force: bool,
    ) -> Result<CancelOutcome, StoreError> {
        let (due_at, job) = (occurrence.due_at, &occurrence.job);
        let keys = [keys::run(shard, occurrence), keys::job(shard, job), keys::cursor(shard)];
        let call = Call::new(&CANCEL, &keys)
            .arg(keys::prefix(shard))
            .arg(occurrence.to_string())
            .arg(due_at.as_ms())
            .arg(Minute::of(due_at).to_string())
            .arg(u8::from(named))
            .arg(record::cancel_text(mark))
            .arg(mark.at.to_string())
            .arg(mark.at.as_ms())
            .arg(u8::from(force));
        let word = value::text(self.link.run(&call).await?).unwrap_or_default();
        Ok(match word.as_str() {
            "cancelled" => CancelOutcome::Cancelled,
            "released" => CancelOutcome::CancelledAndReleased,
            "requested" => CancelOutcome::Requested,
            "unknown" => CancelOutcome::Unknown,
            ended => match ended.strip_prefix("ended ").and_then(RunState::from_word) {
                Some(state) => CancelOutcome::Ended(state),
                None => return Err(unexpected("cancel")),
            },
        })
    }

    async fn under_way(&self, shard: ShardId, job: &JobId) -> Result<Vec<Occurrence>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command
            .arg(keys::open(shard))
            .arg(format!("[{job}@"))
            .arg([format!("[{job}@").as_bytes(), b"\xff"].concat());
        command.arg("BYLEX").arg("LIMIT").arg(0).arg(LEDGER_BATCH_MAX);
        let members = value::items(self.link.query(&command).await?, "ZRANGE")?;
        let mut runs: Vec<Occurrence> =
            members.into_iter().filter_map(|member| value::parse(&value::bytes(member))).collect();
        runs.sort_by_key(|run| run.due_at);
        Ok(runs)
    }

    async fn cancelling(
        &self,
        shard: ShardId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<SentRun>, StoreError> {
        self.sent_runs(shard, "cancelling", &now.as_ms().to_string(), limit).await
    }

    async fn cancel_later(
        &self,
        shard: ShardId,
        epoch: Epoch,
        occurrence: &Occurrence,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let keys = [keys::lease(shard, Role::Dispatcher), keys::cancelling(shard)];
        let call = Call::new(&WORRY_LATER, &keys).arg(epoch.0).arg(occurrence.to_string()).arg(at.as_ms());
        self.link.run(&call).await.map(drop)
    }

    async fn worry_later(
        &self,
        shard: ShardId,
        epoch: Epoch,
        occurrence: &Occurrence,
        worry_at: Timestamp,
    ) -> Result<(), StoreError> {
        let call = Call::new(&WORRY_LATER, &[keys::lease(shard, Role::Dispatcher), keys::sent(shard)])
            .arg(epoch.0)
            .arg(occurrence.to_string())
            .arg(worry_at.as_ms());
        self.link.run(&call).await.map(drop)
    }

    async fn run(&self, shard: ShardId, occurrence: &Occurrence) -> Result<Option<RunRecord>, StoreError> {
        let key = keys::run(shard, occurrence);
        let mut command = redis::cmd("HMGET");
        command.arg(&key).arg(&RUN_FIELDS);
        let answer = self.link.query(&command).await.map_err(|error| wrong_type(&key, error))?;
        let stored = record::run_from(&key, occurrence, &value::fields(answer, "HMGET")?)?;
        Ok(stored.map(|stored| stored.record))
    }

    async fn runs(&self, shard: ShardId, job: &JobId, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let [succeeded, failed, skipped] = History::ALL.map(|kind| keys::history(shard, job, kind));
        let call = Call::new(
            &RUNS,
            &[keys::open(shard), keys::waits(shard, job), keys::withdrawn(shard), succeeded, failed, skipped],
        )
        .arg(keys::prefix(shard))
        .arg(job.to_string())
        .arg(limit.min(LEDGER_BATCH_MAX))
        .arg(&RUN_FIELDS);
        let mut rows = value::items(self.link.run(&call).await?, "runs")?.into_iter();
        let mut runs = Vec::new();
        while let (Some(id), Some(values)) = (rows.next(), rows.next()) {
            let id = value::bytes(id);
            let values = value::fields(values, "runs")?;
            let stored = value::parse::<Occurrence>(&id)
                .and_then(|occurrence| readable(&keys::run(shard, &occurrence), &occurrence, &values));
            // One that can't be read, or has expired, must not hide the others.
            runs.extend(stored.map(|stored| stored.record));
        }
        Ok(runs)
    }
}

/// Which entries of the minute tier `missed` reads at once.
struct Page {
    from: String,
    until: Timestamp,
    /// Where the first minute begins (ms), and how many of it to pass over.
    first: i64,
    passed: usize,
    limit: usize,
}

impl RedisStore {
    /// One page, and whether it is the last. What can't be read goes into quarantine first, so that it isn't counted.
    async fn page(
        &self,
        shard: ShardId,
        epoch: Epoch,
        page: &Page,
    ) -> Result<(Vec<TakenEntry>, bool), StoreError> {
        let call = Call::new(&MISSED, &[keys::lease(shard, Role::Dispatcher)])
            .arg(keys::prefix(shard))
            .arg(epoch.0)
            .arg(&page.from)
            .arg(page.until.as_ms())
            .arg(page.first)
            .arg(page.passed)
            .arg(page.limit);
        loop {
            let (entries, unreadable) = taken_entries(self.link.run(&call).await?)?;
            if unreadable.is_empty() {
                let complete = entries.len() < page.limit;
                return Ok((entries, complete));
            }
            self.quarantine(shard, &unreadable).await?;
        }
    }

    /// Runs in `sent` or `cancelling` whose instant there is up to a bound; those that can't be read are quarantined.
    pub(super) async fn sent_runs(
        &self,
        shard: ShardId,
        bucket: &'static str,
        until: &str,
        limit: usize,
    ) -> Result<Vec<SentRun>, StoreError> {
        let key = if bucket == "sent" { keys::sent(shard) } else { keys::cancelling(shard) };
        let call = Call::new(&OVERDUE, &[key])
            .arg(keys::prefix(shard))
            .arg(until)
            .arg(limit.min(LEDGER_BATCH_MAX))
            .arg(&RUN_FIELDS);
        let mut rows = value::items(self.link.run(&call).await?, "overdue")?.into_iter();
        let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
        while let (Some(id), Some(worry_at), Some(values)) = (rows.next(), rows.next(), rows.next()) {
            let id = value::bytes(id);
            let worry_at = Timestamp::from_ms(value::number(&worry_at, "overdue")?);
            let values = value::fields(values, "overdue")?;
            let stored = value::parse::<Occurrence>(&id)
                .and_then(|occurrence| readable(&keys::run(shard, &occurrence), &occurrence, &values));
            match stored {
                Some(stored) => runs.push(stored.into_sent(worry_at)),
                None => unreadable.push(Unreadable {
                    bucket: bucket.into(),
                    tier: "",
                    slice: String::new(),
                    member: id,
                }),
            }
        }
        self.quarantine(shard, &unreadable).await?;
        Ok(runs)
    }
}

/// A run among others: one that can't be read is reported and left out.
fn readable(key: &str, occurrence: &Occurrence, values: &[Option<String>]) -> Option<record::StoredRun> {
    record::run_from(key, occurrence, values).unwrap_or_else(|error| {
        tracing::error!(%error, "left a run out");
        None
    })
}

/// Groups items by the minute bucket of their entry: how many groups; then minute, how many items, the items.
fn by_minute<T>(
    mut call: Call,
    items: &[T],
    entry: impl Fn(&T) -> &Entry,
    push: impl Fn(&mut Call, &T),
) -> Call {
    let mut groups: BTreeMap<Minute, Vec<&T>> = BTreeMap::new();
    for item in items {
        groups.entry(Minute::of(entry(item).occurrence.due_at)).or_default().push(item);
    }
    call.push(groups.len());
    for (minute, items) in groups {
        call.push(minute.to_string());
        call.push(items.len());
        items.into_iter().for_each(|item| push(&mut call, item));
    }
    call
}

/// Three arguments: entry, due in ms, minute.
pub(super) fn push_entry(call: &mut Call, entry: &Entry) {
    let due_at = entry.occurrence.due_at;
    call.push(entry.to_string());
    call.push(due_at.as_ms());
    call.push(Minute::of(due_at).to_string());
}

fn flags(answer: Value, what: &str) -> Result<Vec<bool>, StoreError> {
    Ok(value::items(answer, what)?.into_iter().map(|flag| matches!(flag, Value::Int(1))).collect())
}
