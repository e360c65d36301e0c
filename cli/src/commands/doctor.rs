//! `ecron doctor`: whether the servers and nodes are what they should be. Looks, and changes nothing.

use ambient::Clock;
use bus::nats::NatsBus;
use model::durability::{Finding, Severity, judge_clock, judge_nats, judge_redis};
use model::shard::{ShardCount, ShardId};
use serde_json::json;
use store::CompletenessStore;
use store::completeness::AuditNote;
use store::inspect::Inspect;
use store::lease::Role;
use store::redis::RedisStore;

use crate::args::{Format, Servers};
use crate::failure::Failure;
use crate::output::{self, Table};
use crate::{config, connect};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// Keys that are named one by one.
const STRANGE_KEYS_SHOWN: usize = 5;

pub(crate) async fn run(servers: &Servers, args: &DoctorArgs) -> Result<(), Failure> {
    let profile = config::profile(servers)?;
    let (store, bus) = (connect::redis(servers).await?, connect::nats(servers).await?);
    let mut findings = judge_redis(profile, &store.facts().await?);
    findings.extend(judge_nats(profile, &bus.facts().await?));
    let clock = Clock::system();
    let sample = store.clock_sample(|| clock.now()).await?;
    findings.push(judge_clock(sample.offset_ms, sample.round_trip_ms));
    match shards(&bus).await? {
        Some(shards) => {
            findings.extend(owners(&store, shards).await?);
            findings.extend(leftovers(&store, shards).await?);
            findings.push(audits(&store, shards).await?);
        }
        None => {
            findings.push(Finding::bad("nodes", "cluster", "not initialised: start a planner or dispatcher"))
        }
    }
    let as_json = findings.iter().map(|finding| {
        let state = finding.severity.as_str().to_lowercase();
        json!({"at": finding.at, "check": finding.check, "state": state, "what": finding.what})
    });
    let report = json!({"profile": profile.to_string(), "findings": as_json.collect::<Vec<_>>()});
    if !output::structured(&report, args.output)? {
        print(&findings)?;
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    match count(Severity::Bad) {
        0 => {
            eprintln!("profile {profile}: nothing bad, {} warning(s)", count(Severity::Warning));
            Ok(())
        }
        bad => Err(Failure::failed(format!("profile {profile}: {bad} finding(s) are BAD"))),
    }
}

fn print(findings: &[Finding]) -> Result<(), Failure> {
    let mut table = Table::new(&["STATE", "AT", "CHECK", "FOUND"]);
    for finding in findings {
        let state = finding.severity.as_str().to_owned();
        table.row([state, finding.at.to_owned(), finding.check.to_owned(), finding.what.clone()]);
    }
    table.print("nothing was looked at")
}

async fn shards(bus: &NatsBus) -> Result<Option<ShardCount>, Failure> {
    match bus.cluster().await {
        Ok(cluster) => Ok(cluster.map(|cluster| cluster.shards)),
        // The bucket is missing, which was found already.
        Err(bus::BusError::Failed(_)) => Ok(None),
        Err(problem) => Err(problem.into()),
    }
}

/// When planners last looked whether anything is missing, and what they found since the store began.
async fn audits(store: &RedisStore, shards: ShardCount) -> Result<Finding, Failure> {
    let all: Vec<ShardId> = shards.all().collect();
    let notes: Vec<AuditNote> = store.audit_notes(&all).await?.into_iter().flatten().collect();
    let Some(oldest) = notes.iter().map(|note| note.at).min() else {
        return Ok(Finding::good(
            "plan",
            "audit",
            "no shard has been audited yet: a planner does so within minutes",
        ));
    };
    let sum = |of: fn(&AuditNote) -> u64| notes.iter().map(of).sum::<u64>();
    let (found, mended) = (sum(|note| note.found), sum(|note| note.mended));
    let what = format!(
        "{} of {} shards audited, the longest ago at {oldest}: {} job(s); {found} gap(s) ever found, {mended} closed",
        notes.len(),
        all.len(),
        sum(|note| note.jobs)
    );
    if found == mended {
        return Ok(Finding::good("plan", "audit", what));
    }
    let last = notes.iter().filter_map(|note| note.last_found.clone()).max().unwrap_or_default();
    Ok(Finding::warning("plan", "audit", format!("{what}; the last: {last}; see `ecron audit`")))
}

/// Whether every shard is planned and dispatched by somebody.
async fn owners(store: &RedisStore, shards: ShardCount) -> Result<Vec<Finding>, Failure> {
    let all: Vec<_> = shards.all().collect();
    let leases = store.leases(&all).await?;
    let of = |role: Role, check: &'static str, word: &str| {
        let owned = leases.iter().filter(|lease| lease.role == role).count();
        if owned == all.len() {
            Finding::good("nodes", check, format!("all {owned} shards are {word}"))
        } else {
            let text =
                format!("{} of {} shards aren't {word}: is a {check} running?", all.len() - owned, all.len());
            Finding::bad("nodes", check, text)
        }
    };
    Ok(vec![of(Role::Planner, "planner", "planned"), of(Role::Dispatcher, "dispatcher", "dispatched")])
}

/// Keys that no part of this version writes: of another number of shards, of another version, of somebody else.
async fn leftovers(store: &RedisStore, shards: ShardCount) -> Result<Vec<Finding>, Failure> {
    let (strange, seen) = store.strange_keys(shards, STRANGE_KEYS_SHOWN).await?;
    if strange.is_empty() {
        return Ok(vec![Finding::good("redis", "keys", format!("{seen} keys, all of them known"))]);
    }
    let text =
        format!("keys that ecron doesn't know, for example {}: left by another version?", strange.join(" "));
    Ok(vec![Finding::warning("redis", "keys", text)])
}
