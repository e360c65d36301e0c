//! What an audit asks of Redis.

use model::bucket::Minute;
use model::completeness::{Found, Kept};
use model::id::Occurrence;
use model::run::RunState;
use model::shard::ShardId;
use model::time::Timestamp;
use redis::Value;

use super::error::unexpected;
use super::link::Call;
use super::script::{EXAMINE, MEND, NOTE_AUDIT};
use super::{RedisStore, value};
use crate::changes::change_from;
use crate::completeness::{
    AUDIT_FIELDS, Absent, AuditNote, CompletenessStore, EXAMINE_BATCH_MAX, Examined, Holding, Lack,
    MEND_BATCH_MAX, Question, RunList, note_from,
};
use crate::error::StoreError;
use crate::keys;
use crate::lease::{Epoch, Role};
use crate::record::{self, CURSOR_FIELDS};

impl CompletenessStore for RedisStore {
    async fn examine(&self, shard: ShardId, questions: &[Question]) -> Result<Examined, StoreError> {
        let dues: usize = questions.iter().map(|question| question.dues.len().max(1)).sum();
        if dues > EXAMINE_BATCH_MAX {
            return Err(StoreError::Refused(format!(
                "at most {EXAMINE_BATCH_MAX} instants at once, not {dues}"
            )));
        }
        let cursor_key = keys::cursor(shard);
        let mut call = Call::new(&EXAMINE, std::slice::from_ref(&cursor_key))
            .arg(keys::prefix(shard))
            .arg(CURSOR_FIELDS.len())
            .arg(&CURSOR_FIELDS);
        for question in questions {
            call = call.arg(question.job.to_string()).arg(question.revision.0).arg(question.dues.len());
            for due in &question.dues {
                call = call.arg(Minute::of(*due).to_string()).arg(due.to_string()).arg(due.as_ms());
            }
        }
        let mut rows = value::items(self.link.run(&call).await?, "examine")?.into_iter();
        let (Some(now), Some(cursor)) = (rows.next(), rows.next()) else { return Err(unexpected("examine")) };
        Ok(Examined {
            now: Timestamp::from_ms(value::number(&now, "examine")?),
            cursor: record::cursor_from(&cursor_key, &value::fields(cursor, "examine")?)?,
            jobs: rows.map(holding).collect::<Result<_, _>>()?,
        })
    }

    async fn named_runs(
        &self,
        shard: ShardId,
        list: RunList,
        from: u64,
    ) -> Result<(Vec<Occurrence>, Option<u64>), StoreError> {
        let (scan, key) = match list {
            RunList::Sent => ("ZSCAN", keys::sent(shard)),
            RunList::Open => ("ZSCAN", keys::open(shard)),
            RunList::Held => ("ZSCAN", keys::held(shard)),
            RunList::Triggered => ("HSCAN", keys::overrides(shard)),
            RunList::Backfilled => ("HSCAN", keys::backfill_runs(shard)),
        };
        let mut command = redis::cmd(scan);
        command.arg(key).arg(from).arg("COUNT").arg(MEND_BATCH_MAX);
        let [next, members] = value::row(self.link.query(&command).await?, scan)?;
        let next = value::text(next).and_then(|text| text.parse().ok()).ok_or_else(|| unexpected(scan))?;
        // Members and scores, or fields and values, in turn. What can't be read is nobody's run.
        let members = value::flat(members).into_iter().step_by(2);
        let runs = members.filter_map(|member| {
            let text = value::text(member)?;
            text.split_once('#').map_or(text.as_str(), |(id, _)| id).parse().ok()
        });
        Ok((runs.collect(), Some(next).filter(|next| *next > 0)))
    }

    async fn mend(
        &self,
        shard: ShardId,
        epoch: Option<Epoch>,
        since: Timestamp,
        runs: &[Occurrence],
    ) -> Result<Vec<Lack>, StoreError> {
        let mut lacks = Vec::new();
        for runs in runs.chunks(MEND_BATCH_MAX) {
            let mut call = Call::new(&MEND, &[keys::lease(shard, Role::Planner)])
                .arg(keys::prefix(shard))
                .arg(epoch.map(|epoch| epoch.0.to_string()).unwrap_or_default())
                .arg(since.as_ms());
            for run in runs {
                let minute = Minute::of(run.due_at);
                call = call.arg(run.to_string()).arg(minute.to_string());
                call = call.arg(minute.start().as_ms()).arg(run.due_at.as_ms());
            }
            let mut words = value::fields(self.link.run(&call).await?, "mend")?.into_iter();
            while let (Some(run), Some(absent), Some(mended)) = (words.next(), words.next(), words.next()) {
                let run = run.and_then(|run| run.parse().ok());
                let absent = absent.and_then(|word| Absent::from_word(&word));
                let (Some(run), Some(absent)) = (run, absent) else { return Err(unexpected("mend")) };
                lacks.push(Lack { run, absent, mended: mended.as_deref() == Some("1") });
            }
        }
        Ok(lacks)
    }

    async fn note_audit(&self, shard: ShardId, epoch: Epoch, note: &AuditNote) -> Result<(), StoreError> {
        let keys = [keys::lease(shard, Role::Planner), keys::audit(shard)];
        let mut call = Call::new(&NOTE_AUDIT, &keys)
            .arg(epoch.0)
            .arg(note.found)
            .arg(note.mended)
            .arg(&["at", &note.at.to_string()])
            .arg(&["jobs", &note.jobs.to_string()])
            .arg(&["occurrences", &note.occurrences.to_string()]);
        if let Some(last_found) = &note.last_found {
            call = call.arg(&["last_found", last_found.as_str()]);
        }
        self.link.run(&call).await.map(drop)
    }

    async fn audit_notes(&self, shards: &[ShardId]) -> Result<Vec<Option<AuditNote>>, StoreError> {
        let mut pipeline = redis::pipe();
        for shard in shards {
            pipeline.cmd("HMGET").arg(keys::audit(*shard)).arg(&AUDIT_FIELDS);
        }
        let answers = self.link.query_all(&mut pipeline).await?;
        answers.into_iter().map(|answer| Ok(note_from(&value::fields(answer?, "HMGET")?))).collect()
    }
}

fn holding(row: Value) -> Result<Option<Holding>, StoreError> {
    let row = value::items(row, "examine")?;
    if row.is_empty() {
        return Ok(None);
    }
    let [placed, is_there, change, broken_off, lists, withdrawn, counts, found] =
        <[Value; 8]>::try_from(row).map_err(|_| unexpected("examine"))?;
    let is_yes = |value: &Value| matches!(value, Value::Int(1));
    let text = |value| value::text(value).filter(|text| !text.is_empty());
    let placed = text(placed).and_then(|text| record::place_from(&text));
    let lists = value::fields(lists, "examine")?;
    let counts = value::fields(counts, "examine")?;
    let number = |texts: &[Option<String>], index: usize| -> u64 {
        texts.get(index).and_then(Option::as_ref).and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let withdrawn = u64::try_from(value::number(&withdrawn, "examine")?).unwrap_or(0);
    // What was cancelled before it was due is counted, but on no list.
    let ended = [
        number(&counts, 0),
        (number(&counts, 1) + number(&counts, 2)).saturating_sub(withdrawn),
        number(&counts, 3),
    ];
    let histories = [0, 1, 2].map(|list| Kept {
        limit: 0,
        kept: number(&lists, 2 * list),
        ended: ended[list],
        oldest: lists
            .get(2 * list + 1)
            .and_then(Option::as_ref)
            .and_then(|text| text.parse::<f64>().ok())
            .map(|score| Timestamp::from_ms(score as i64)),
    });
    let found = value::fields(found, "examine")?;
    Ok(Some(Holding {
        placed: placed.map(|placed| (placed, is_yes(&is_there))),
        newest_change: text(change).and_then(|text| change_from(&text)),
        broken_off: is_yes(&broken_off),
        histories,
        found: found
            .into_iter()
            .map(|word| found_from(&word.unwrap_or_default()))
            .collect::<Result<_, _>>()?,
    }))
}

fn found_from(word: &str) -> Result<Found, StoreError> {
    Ok(match word {
        "" => Found::Nothing,
        "entry" => Found::Entry,
        "hidden" => Found::Hidden,
        "held-back" => Found::HeldBack,
        run => {
            let (state, reason) = run.split_once(' ').ok_or_else(|| unexpected("examine"))?;
            let state = RunState::from_word(state).ok_or_else(|| unexpected("examine"))?;
            Found::Run { state, reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()) }
        }
    })
}
