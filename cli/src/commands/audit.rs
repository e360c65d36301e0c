//! `ecron audit`: whether each occurrence that the schedules name is accounted for.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use bus::nats::NatsBus;
use clap::Args;
use planner::api::types::{AuditReply, AuditRequest, FindingView};
use planner::audits::{AUDIT_PERIOD, AUDIT_PERIOD_MAX, AUDIT_PERIOD_MIN};

use crate::args::{Format, RoleArgs, Servers};
use crate::commands::{job_name, who};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output::{self, Table};

const EXAMPLES: &str = "\
Examples:
  ecron audit                                # all jobs, as far as the last day is remembered
  ecron audit billing/nightly-report --from 2026-11-21T00:00:00Z --to 2026-11-22T00:00:00Z
  ecron audit -o json
  ecron audit --repair                       # also lay out again what can't run twice

Reads only, unless told to repair. A gap is an occurrence that the job's schedules name, of which neither plan nor ledger holds \
anything, although they should. How far back that can be told depends on the job's history: docs/reliability.md. Planners audit by \
themselves, too; `ecron doctor` says when and what they found. Exit code 1 if a gap is left.";

/// Compare what the schedules name with what the plan and the ledger hold; name every gap
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    /// NAME or NS/NAME; all jobs unless given
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// What is due after this instant [default: a day ago]
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Option<String>,
    /// What is due up to this instant [default: all that is planned]
    #[arg(long, value_name = "INSTANT")]
    pub(crate) to: Option<String>,
    /// Close the gaps that can be closed without a run twice
    #[arg(long)]
    pub(crate) repair: bool,
    /// The namespace of a bare NAME
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// How often planners audit by themselves.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct AuditPeriodArgs {
    /// How often each shard is audited for gaps: 1s to 5m
    #[arg(long, env = "ECRON_AUDIT_PERIOD", value_name = "DURATION", default_value = "2m", value_parser = period)]
    pub(crate) audit_period: Duration,
}

impl Default for AuditPeriodArgs {
    fn default() -> Self {
        Self { audit_period: AUDIT_PERIOD }
    }
}

fn period(text: &str) -> Result<Duration, String> {
    let period = crate::config::duration(text)?;
    let fits = (AUDIT_PERIOD_MIN..=AUDIT_PERIOD_MAX).contains(&period);
    fits.then_some(period).ok_or_else(|| format!("expected a duration from 1s to 5m, not {text:?}"))
}

/// `ecron planner`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlannerArgs {
    #[command(flatten)]
    pub(crate) role: RoleArgs,
    #[command(flatten)]
    pub(crate) audit: AuditPeriodArgs,
}

pub(crate) async fn run(servers: &Servers, args: &AuditArgs) -> Result<(), Failure> {
    let job = args.job.as_ref().map(|job| job_name(job, &args.namespace)).transpose()?;
    let request = AuditRequest {
        job,
        from: args.from.clone(),
        to: args.to.clone(),
        repair: args.repair,
        by: who(),
        ..AuditRequest::default()
    };
    let bus = nats(servers).await?;
    let reply = if request.job.is_some() {
        ask::<_, AuditReply>(&bus, "audit", &request).await?
    } else {
        all(&bus, &request).await?
    };
    let left = reply.findings.iter().filter(|finding| !finding.repaired).count();
    if !output::structured(&reply, args.output)? {
        print(&reply)?;
    }
    if left == 0 { Ok(()) } else { Err(Failure::failed(format!("{left} gap(s) left"))) }
}

/// Shard by shard, page by page.
async fn all(bus: &NatsBus, request: &AuditRequest) -> Result<AuditReply, Failure> {
    let mut whole = AuditReply { shards: 1, ..AuditReply::default() };
    let shows_progress = std::io::stderr().is_terminal();
    let mut shard = 0;
    while shard < whole.shards {
        let mut after = None;
        loop {
            let page = AuditRequest { shard: Some(shard), after, ..request.clone() };
            let reply = ask::<_, AuditReply>(bus, "audit", &page).await?;
            after = reply.next.clone();
            add(&mut whole, reply);
            if after.is_none() {
                break;
            }
        }
        shard += 1;
        if shows_progress {
            eprint!(
                "\r{shard} of {} shards, {} jobs, {} gap(s)",
                whole.shards,
                whole.jobs,
                whole.findings.len()
            );
        }
    }
    if shows_progress {
        eprintln!();
    }
    Ok(whole)
}

fn add(whole: &mut AuditReply, page: AuditReply) {
    whole.shards = page.shards;
    whole.jobs += page.jobs;
    whole.occurrences += page.occurrences;
    whole.planned += page.planned;
    whole.under_way += page.under_way;
    whole.ended += page.ended;
    whole.skipped += page.skipped;
    whole.gaps += page.gaps;
    whole.unread += page.unread;
    for (why, count) in page.excused {
        *whole.excused.entry(why).or_default() += count;
    }
    whole.findings.extend(page.findings);
}

fn print(reply: &AuditReply) -> Result<(), Failure> {
    if !reply.findings.is_empty() {
        let mut table = Table::new(&["JOB", "DUE", "MISSING", "REPAIRED", "WHAT"]);
        for FindingView { job, due_at, missing, what, repaired } in &reply.findings {
            let due_at = due_at.clone().unwrap_or_else(|| "-".into());
            let repaired = if *repaired { "yes" } else { "no" };
            table.row([job.clone(), due_at, missing.clone(), repaired.into(), what.clone()]);
        }
        table.print("")?;
    }
    let excused = |excused: &BTreeMap<String, usize>| {
        let parts: Vec<String> = excused.iter().map(|(why, count)| format!("{count} {why}")).collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!("; nothing can be told of {}", parts.join(", "))
        }
    };
    output::line(format_args!(
        "{} job(s), {} occurrence(s): {} planned, {} under way, {} ended, {} skipped, {} gap(s){}",
        reply.jobs,
        reply.occurrences,
        reply.planned,
        reply.under_way,
        reply.ended,
        reply.skipped,
        reply.findings.len(),
        excused(&reply.excused),
    ))?;
    if reply.unread > 0 {
        output::line(format_args!(
            "{} job(s) can't be read, or changed meanwhile: look again, or at `ecron describe`",
            reply.unread
        ))?;
    }
    Ok(())
}
