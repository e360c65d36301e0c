//! Tallies as JSON, version 1: what became of a message's earlier deliveries, which JetStream only counts.

use bytes::Bytes;
use model::id::RunId;
use model::retry::Tally;
use model::run::Generation;
use serde::{Deserialize, Serialize};

use super::attempts::{AttemptForm, ends, forms};
use crate::order::Order;
use crate::queue::Notes;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TallyV1 {
    v: u32,
    run_id: String,
    generation: u32,
    #[serde(default)]
    failed: u32,
    #[serde(default)]
    limited: u32,
    #[serde(default)]
    handed_back: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<AttemptForm>,
}

/// A tally as JSON.
#[must_use]
pub fn encode_tally(run_id: &RunId, generation: Generation, notes: &Notes) -> Bytes {
    let Tally { failed, limited, handed_back } = notes.tally;
    let form = TallyV1 {
        v: VERSION,
        run_id: run_id.to_string(),
        generation: generation.0,
        failed,
        limited,
        handed_back,
        attempts: forms(&notes.attempts),
    };
    // Numbers and texts only: it can't fail; and if it did, the reader would take it for none.
    serde_json::to_vec(&form).unwrap_or_default().into()
}

/// The tally of an order's message. One that can't be read, or is about another run (sequences begin anew with a new
/// stream), is none.
#[must_use]
pub fn decode_tally(order: &Order, payload: &[u8]) -> Notes {
    let read = serde_json::from_slice::<TallyV1>(payload).ok().filter(|form| {
        form.v == VERSION && form.run_id == order.run_id.to_string() && form.generation == order.generation.0
    });
    read.map_or_else(Notes::default, |form| Notes {
        tally: Tally { failed: form.failed, limited: form.limited, handed_back: form.handed_back },
        attempts: ends(form.attempts),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use model::id::Revision;
    use model::retry::RetryPolicy;
    use model::run::{AttemptEnd, Outcome};
    use model::time::Timestamp;

    use super::*;
    use crate::order::WorkKind;

    fn order() -> Order {
        Order {
            run_id: "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap(),
            queue: "billing/reports".parse().unwrap(),
            kind: WorkKind::Payload,
            revision: Revision(17),
            generation: Generation(1),
            due_at: Timestamp::from_ms(0),
            attempt_base: 0,
            timeout: Duration::from_secs(600),
            retry: RetryPolicy::default(),
            start_by: None,
            deadline: None,
            headers: BTreeMap::new(),
        }
    }

    #[test]
    fn the_json_of_a_tally_never_changes() {
        let json = r#"{"v":1,"runId":"billing/nightly-report@2026-11-22T06:45:00Z","generation":1,"failed":2,"limited":17,"handedBack":1}"#;
        let tally = Tally { failed: 2, limited: 17, handed_back: 1 };
        let notes = Notes { tally, attempts: vec![] };
        assert_eq!(encode_tally(&order().run_id, Generation(1), &notes), json);
        assert_eq!(decode_tally(&order(), json.as_bytes()), notes);
        let json = r#"{"v":1,"runId":"billing/nightly-report@2026-11-22T06:45:00Z","generation":1,"failed":2,"limited":17,"handedBack":1,"attempts":[{"attempt":1,"outcome":"failed","error":"no disk","startedAt":"1970-01-01T00:00:01Z","endedAt":"1970-01-01T00:00:02.500Z"}]}"#;
        let end = AttemptEnd {
            attempt: 1,
            outcome: Outcome::Failed,
            error: Some("no disk".into()),
            started_at: Timestamp::from_ms(1_000),
            ended_at: Timestamp::from_ms(2_500),
        };
        let notes = Notes { tally, attempts: vec![end] };
        assert_eq!(encode_tally(&order().run_id, Generation(1), &notes), json);
        assert_eq!(decode_tally(&order(), json.as_bytes()), notes);
    }

    #[test]
    fn what_is_about_another_run_is_no_tally() {
        let notes = Notes { tally: Tally { failed: 2, ..Tally::default() }, attempts: vec![] };
        let text = String::from_utf8(encode_tally(&order().run_id, Generation(1), &notes).to_vec()).unwrap();
        for (from, to) in
            [("\"v\":1", "\"v\":2"), ("06:45", "06:46"), ("\"generation\":1", "\"generation\":0"), ("{", "")]
        {
            assert_eq!(decode_tally(&order(), text.replace(from, to).as_bytes()), Notes::default(), "{to}");
        }
    }
}
