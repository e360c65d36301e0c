//! `kind: Namespace`: from the tree to a `NamespaceSpec`.

use super::fields::Fields;
use super::metadata::full_name;
use super::problem::Problems;
use crate::limits::MIN_INTERVAL_MAX;
use crate::schedule::INTERVAL_MIN;
use crate::spec::NamespaceSpec;

/// `None` always comes with a problem.
pub(super) fn namespace(document: &Fields<'_>, problems: &mut Problems) -> Option<NamespaceSpec> {
    let field = document.require("metadata", problems, "it holds the namespace's name");
    let id = field.and_then(|field| full_name(&field.fields(problems, &["name"])?, problems));
    let spec = document.require("spec", problems, "it says what holds for the namespace's jobs")?;
    let fields = spec.fields(problems, &["minInterval", "paused"])?;
    let min_interval = fields
        .get("minInterval")
        .and_then(|field| field.duration(problems, INTERVAL_MIN..=MIN_INTERVAL_MAX, "MIN_INTERVAL_MAX"));
    let paused = fields.get("paused").and_then(|field| field.flag(problems)).unwrap_or(false);
    Some(NamespaceSpec { name: id?.1, min_interval, paused })
}
