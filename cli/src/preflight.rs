//! Before a planner or dispatcher begins: whether the servers hold what its durability profile promises.

use bus::nats::NatsBus;
use model::durability::{Profile, Severity, judge_nats, judge_redis};
use store::redis::RedisStore;

use crate::failure::Failure;
use crate::patience::Setback;

/// What an operator wants of the servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demands {
    pub(crate) profile: Profile,
    /// Why it doesn't matter that they don't hold the profile's promise.
    pub(crate) accept_data_loss: Option<String>,
}

/// Refuses servers that don't hold the profile's promise; says what else an operator should know.
pub(crate) async fn preflight(store: &RedisStore, bus: &NatsBus, demands: &Demands) -> Result<(), Setback> {
    let profile = demands.profile;
    let mut findings = judge_redis(profile, &store.facts().await?);
    findings.extend(judge_nats(profile, &bus.facts().await?));
    findings.retain(|finding| finding.severity > Severity::Good);
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        tracing::warn!(%profile, "{finding}");
    }
    let bad: Vec<String> =
        findings.iter().filter(|one| one.severity == Severity::Bad).map(|one| format!("  {one}")).collect();
    match &demands.accept_data_loss {
        _ if bad.is_empty() => Ok(()),
        Some(reason) => {
            let missing = bad.join(";");
            tracing::warn!(%profile, reason, missing, "started on servers that don't hold the profile's promise");
            Ok(())
        }
        None => Err(Setback::Final(Failure::failed(format!(
            "the servers don't hold what the profile {profile} promises:\n{}\nMend that (see `ecron doctor`), choose another \
             --profile, or start with --accept-data-loss REASON.",
            bad.join("\n")
        )))),
    }
}
