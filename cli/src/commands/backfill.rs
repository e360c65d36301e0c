//! `ecron backfill`, `ecron get backfills` and `ecron cancel backfill`.

use clap::Args;
use std::time::Duration;

use ambient::Clock;
use bus::nats::NatsBus;
use model::object::ObjectKind;
use planner::api::types::{
    AppliedObject, ApplyAction, BackfillReply, BackfillRequest, BackfillView, BackfillsReply,
    BackfillsRequest, CancelBackfillRequest,
};

use crate::args::{Format, GetArgs, Kind, OneJobArgs, Servers};
use crate::commands::{objects, who};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output::{self, Table};

#[derive(Clone, Debug, Args)]
pub(crate) struct BackfillArgs {
    #[command(flatten)]
    pub(crate) job: OneJobArgs,
    /// The first instant of the range (RFC 3339)
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: model::time::Timestamp,
    /// The first instant after the range
    #[arg(long, value_name = "INSTANT")]
    pub(crate) to: model::time::Timestamp,
    /// Runs of it that may be under way at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(model::limits::BACKFILL_ACTIVE_MAX)))]
    pub(crate) max_active: u32,
    /// The newest first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Only say what it would do
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Its name, in the job's namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// How often watched backfills are looked at.
const WATCH_POLL: Duration = Duration::from_millis(500);
/// Characters of a progress bar.
const BAR_CHARS: u32 = 20;

pub(crate) async fn run(servers: &Servers, args: &BackfillArgs) -> Result<(), Failure> {
    let request = BackfillRequest {
        job: args.job.name()?,
        from: args.from.to_string(),
        to: args.to.to_string(),
        max_active: Some(args.max_active),
        reverse: args.reverse,
        name: args.name.clone(),
        dry_run: args.dry_run,
        by: who(),
    };
    let reply: BackfillReply = ask(&nats(servers).await?, "backfill", &request).await?;
    if output::structured(&reply, args.job.output)? {
        return Ok(());
    }
    let range = match (&reply.first, &reply.last) {
        (Some(first), Some(last)) => format!(", {first} to {last}"),
        _ => String::new(),
    };
    let what = format!("{}{range}", counted(&reply));
    if args.dry_run {
        output::line(format_args!("would run {what} (dry run)"))?;
    } else {
        output::line(format_args!("backfill {} created: {what}", reply.backfill))?;
    }
    if reply.may_have_run > 0 {
        eprintln!(
            "warning: {} of them are older than the history that {} keeps: whether they ran isn't known any more, and \
             those that did run again",
            reply.may_have_run, reply.job
        );
    }
    Ok(())
}

/// `15 of 18 occurrence(s) of a/b (3 ran already)`.
fn counted(BackfillReply { total, already_ran, job, .. }: &BackfillReply) -> String {
    match already_ran {
        0 => format!("{total} occurrence(s) of {job}"),
        ran => {
            format!("{} of {total} occurrence(s) of {job} ({ran} ran already)", total.saturating_sub(*ran))
        }
    }
}

pub(crate) async fn cancel(servers: &Servers, names: &[String], namespace: &str) -> Result<(), Failure> {
    if names.is_empty() {
        return Err(Failure::input("name a backfill: ecron cancel backfill NAME"));
    }
    let bus = nats(servers).await?;
    for name in names {
        let backfill = objects::named(ObjectKind::Backfill, name, namespace)?.name();
        let request = CancelBackfillRequest { backfill, by: who() };
        let done: AppliedObject = ask(&bus, "cancel-backfill", &request).await?;
        let word = if done.action == ApplyAction::Unchanged { "is cancelled already" } else { "cancelled" };
        output::line(format_args!("backfill {} {word}", done.name))?;
    }
    Ok(())
}

pub(crate) async fn get(servers: &Servers, args: &GetArgs) -> Result<(), Failure> {
    if args.kind == Kind::Backfill && args.name.is_none() {
        return Err(Failure::input("name a backfill: ecron get backfill NAME"));
    }
    let bus = nats(servers).await?;
    let clock = Clock::system();
    let mut shown: Option<Vec<BackfillView>> = None;
    loop {
        let found = ask_for(&bus, args).await?;
        if shown.as_ref() != Some(&found) {
            show(&found, args)?;
        }
        let ended = found.iter().all(|one| one.ended_at.is_some() && one.active == 0);
        shown = Some(found);
        if !args.watch || ended {
            return Ok(());
        }
        clock.sleep(WATCH_POLL).await;
    }
}

async fn ask_for(bus: &NatsBus, args: &GetArgs) -> Result<Vec<BackfillView>, Failure> {
    let namespace = args.namespace.as_deref().unwrap_or("default");
    let backfill = match &args.name {
        Some(name) => Some(objects::named(ObjectKind::Backfill, name, namespace)?.name()),
        None => None,
    };
    let request = BackfillsRequest { backfill, namespace: args.namespace.clone() };
    let reply: BackfillsReply = ask(bus, "backfills", &request).await?;
    Ok(reply.backfills)
}

fn show(found: &[BackfillView], args: &GetArgs) -> Result<(), Failure> {
    match (&args.name, found) {
        (Some(_), [one]) if args.output == Format::Table && args.watch => output::line(line(one)),
        (Some(_), [one]) if args.output == Format::Table => print_one(one),
        (Some(_), [one]) => output::structured(one, args.output).map(drop),
        _ if output::structured(&found, args.output)? => Ok(()),
        _ => table(found),
    }
}

fn table(found: &[BackfillView]) -> Result<(), Failure> {
    let mut table =
        Table::new(&["BACKFILL", "JOB", "PHASE", "PROGRESS", "ACTIVE", "SUCCEEDED", "FAILED", "LEFT OUT"]);
    for one in found {
        table.row([
            one.backfill.clone(),
            one.job.clone(),
            one.phase.clone(),
            bar(one),
            one.active.to_string(),
            one.succeeded.to_string(),
            one.failed.to_string(),
            (one.skipped + one.already_ran).to_string(),
        ]);
    }
    table.print("no backfills; make one with `ecron backfill JOB --from T --to T`")
}

fn print_one(one: &BackfillView) -> Result<(), Failure> {
    let order = if one.reverse { ", newest first" } else { "" };
    let rows = [
        ("Backfill", one.backfill.clone()),
        ("Job", one.job.clone()),
        ("Range", format!("{} to {}{order}", one.from, one.to)),
        ("At once", one.max_active.to_string()),
        ("Phase", one.phase.clone()),
        ("Progress", bar(one)),
        ("Started", format!("{} ({} under way)", one.started, one.active)),
        ("Succeeded", one.succeeded.to_string()),
        ("Failed", one.failed.to_string()),
        ("Skipped", one.skipped.to_string()),
        ("Already ran", one.already_ran.to_string()),
        ("Created", one.created_at.clone()),
        ("Ended", one.ended_at.clone().unwrap_or_default()),
        ("By", one.by.clone().unwrap_or_default()),
    ];
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        output::line(format_args!("{:<12} {value}", format!("{name}:")))?;
    }
    Ok(())
}

fn line(one: &BackfillView) -> String {
    let BackfillView { phase, active, succeeded, failed, .. } = one;
    format!("{} {phase}, {active} under way, {succeeded} succeeded, {failed} failed", bar(one))
}

/// `[#####...............] 7/30`.
fn bar(one: &BackfillView) -> String {
    let finished = one.succeeded + one.failed + one.skipped + one.already_ran;
    let total = one.total.max(1);
    let filled = (u64::from(finished.min(total)) * u64::from(BAR_CHARS) / u64::from(total)) as usize;
    let empty = BAR_CHARS as usize - filled;
    format!("[{}{}] {finished}/{}", "#".repeat(filled), ".".repeat(empty), one.total)
}
