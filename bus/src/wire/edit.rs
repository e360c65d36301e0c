//! Announced edits as JSON, version 1.

use bytes::Bytes;
use model::id::Revision;
use serde::{Deserialize, Serialize};

use crate::edits::Edit;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct EditsV1 {
    v: u32,
    edits: Vec<EditV1>,
}

#[derive(Serialize, Deserialize)]
struct EditV1 {
    job: String,
    revision: u64,
}

/// The message that announces some edits.
#[must_use]
pub fn encode_edits(edits: &[Edit]) -> Bytes {
    let form = |edit: &Edit| EditV1 { job: edit.job.to_string(), revision: edit.revision.0 };
    let form = EditsV1 { v: VERSION, edits: edits.iter().map(form).collect() };
    // Numbers and texts only: it can't fail.
    serde_json::to_vec(&form).unwrap_or_default().into()
}

/// What a message announces; `None` if it can't be read.
#[must_use]
pub fn decode_edits(payload: &[u8]) -> Option<Vec<Edit>> {
    let form: EditsV1 = serde_json::from_slice(payload).ok()?;
    (form.v == VERSION).then_some(())?;
    let edit = |edit: EditV1| Some(Edit { job: edit.job.parse().ok()?, revision: Revision(edit.revision) });
    form.edits.into_iter().map(edit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_announced_edits_never_changes() {
        let edits = [(17, "billing/nightly-report"), (18, "billing/sync")]
            .map(|(revision, job)| Edit { job: job.parse().unwrap(), revision: Revision(revision) });
        let json = r#"{"v":1,"edits":[{"job":"billing/nightly-report","revision":17},{"job":"billing/sync","revision":18}]}"#;
        assert_eq!(encode_edits(&edits), json);
        assert_eq!(decode_edits(json.as_bytes()), Some(edits.to_vec()));
        for bad in ["", "{}", "null", &json.replace("\"v\":1", "\"v\":2"), &json.replace('/', "@")] {
            assert_eq!(decode_edits(bad.as_bytes()), None, "{bad}");
        }
    }
}
