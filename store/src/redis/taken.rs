//! Reading what `take` and `missed` answer: entries of the minute tier, with what is known of their jobs and runs.

use std::collections::BTreeMap;

use model::bucket::Minute;
use model::dispatch::Admission;
use model::id::{Entry, Revision};
use model::overlap::Standing;
use redis::Value;

use super::error::unexpected;
use super::quarantine::Unreadable;
use super::value;
use crate::error::StoreError;
use crate::ledger::TakenEntry;

/// What `take.lua` notes of some entries, by their number (from 1).
fn notes(rows: Value) -> Result<BTreeMap<i64, (Admission, Option<Standing>)>, StoreError> {
    let mut notes = BTreeMap::new();
    let mut rows = value::items(rows, "take")?.into_iter();
    while let (Some(number), Some(note)) = (rows.next(), rows.next()) {
        let note = value::text(note).unwrap_or_default();
        let note = note_from(&note).ok_or_else(|| unexpected("take"))?;
        notes.insert(value::number(&number, "take")?, note);
    }
    Ok(notes)
}

fn note_from(text: &str) -> Option<(Admission, Option<Standing>)> {
    let mut words = text.split(' ');
    let (word, triggered) = (words.next()?, words.next()? == "1");
    let admission = match word {
        "fresh" => Admission::Fresh,
        "released" => Admission::Released { triggered },
        "claimed" => Admission::Claimed { triggered },
        _ => return None,
    };
    let (active, waiting) = (words.next()?.parse::<i64>().ok()?, words.next()?.parse::<i64>().ok()?);
    let standing = u32::try_from(active).ok().zip(u32::try_from(waiting).ok());
    Some((admission, standing.map(|(active, waiting)| Standing { active, waiting })))
}

/// Entries of the minute tier as `take` and `missed` answer them, and those that can't be read.
pub(super) fn taken_entries(groups: Value) -> Result<(Vec<TakenEntry>, Vec<Unreadable>), StoreError> {
    let (mut taken, mut unreadable) = (Vec::new(), Vec::new());
    let mut groups = value::items(groups, "take")?.into_iter();
    while let (Some(minute), Some(rows), Some(revisions), Some(noted)) =
        (groups.next(), groups.next(), groups.next(), groups.next())
    {
        let notes = notes(noted)?;
        let mut number = 0;
        let minute = value::text(minute).unwrap_or_default();
        let mut rows = value::items(rows, "take")?.into_iter();
        for revision in value::items(revisions, "take")? {
            let (Some(member), Some(due)) = (rows.next(), rows.next()) else { break };
            number += 1;
            let (admission, overlap) = notes.get(&number).copied().unwrap_or_default();
            let (member, due_ms) = (value::bytes(member), value::number(&due, "take")?);
            // An entry outside its own minute could be taken, but never be found again to be taken out.
            let entry = value::parse::<Entry>(&member).filter(|entry| {
                let due_at = entry.occurrence.due_at;
                due_at.as_ms() == due_ms && Minute::of(due_at).to_string() == minute
            });
            let revision = match revision {
                Value::Nil => Some(None),
                revision => value::parse(&value::bytes(revision)).map(|number| Some(Revision(number))),
            };
            match (entry, revision) {
                (Some(entry), Some(job_revision)) => {
                    taken.push(TakenEntry { entry, job_revision, admission, overlap })
                }
                _ => unreadable.push(Unreadable {
                    bucket: format!("minute:{minute}"),
                    tier: "minute",
                    slice: minute.clone(),
                    member,
                }),
            }
        }
    }
    Ok((taken, unreadable))
}
