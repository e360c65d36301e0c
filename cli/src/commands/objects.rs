//! Calendars, namespaces and queues: `ecron get` and `ecron delete` of them.

use bus::nats::NatsBus;
use model::object::{ObjectKey, ObjectKind};
use planner::api::types::{
    ApiError, DeleteObjectReply, ObjectRequest, ObjectView, ObjectsReply, ObjectsRequest,
};

use crate::args::{GetArgs, Kind, Servers};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output::{self, Table};

pub(crate) async fn get(servers: &Servers, args: &GetArgs, kind: ObjectKind) -> Result<(), Failure> {
    match &args.name {
        Some(name) => {
            let key = named(kind, name, args.namespace.as_deref().unwrap_or("default"))?;
            let request = ObjectRequest { kind, name: key.name() };
            let view: ObjectView = ask(&nats(servers).await?, "object", &request).await?;
            show(&view, args)
        }
        None if matches!(args.kind, Kind::Calendar | Kind::Namespace | Kind::Queue) => {
            let word = kind.word();
            Err(Failure::input(format!("name a {word}: ecron get {word} NAME")))
        }
        None => list(&nats(servers).await?, args, kind).await,
    }
}

/// The kind of object that a word names, if it isn't jobs.
pub(crate) fn kind(word: &str) -> Option<ObjectKind> {
    match word {
        "calendar" | "calendars" => Some(ObjectKind::Calendar),
        "namespace" | "namespaces" => Some(ObjectKind::Namespace),
        "backfill" | "backfills" => Some(ObjectKind::Backfill),
        "queue" | "queues" => Some(ObjectKind::Queue),
        _ => None,
    }
}

/// The full name of an object from `NAME` or `NS/NAME`.
pub(crate) fn named(kind: ObjectKind, name: &str, namespace: &str) -> Result<ObjectKey, Failure> {
    let is_bare = kind.is_in_namespace() && !name.contains('/');
    let full = if is_bare { format!("{namespace}/{name}") } else { name.to_owned() };
    ObjectKey::parse(kind, &full)
        .map_err(|problem| Failure::input(format!("failed to read {} {full:?}: {problem}", kind.word())))
}

pub(crate) async fn delete(bus: &NatsBus, key: &ObjectKey) -> Result<(), ApiError> {
    let request = ObjectRequest { kind: key.kind(), name: key.name() };
    ask::<_, DeleteObjectReply>(bus, "delete-object", &request).await.map(|_| ())
}

async fn list(bus: &NatsBus, args: &GetArgs, kind: ObjectKind) -> Result<(), Failure> {
    let mut objects = Vec::new();
    let mut after = None;
    loop {
        let namespace = args.namespace.clone();
        let request = ObjectsRequest { kind, namespace, after: after.take(), limit: None };
        let reply: ObjectsReply = ask(bus, "objects", &request).await?;
        objects.extend(reply.objects);
        after = reply.next;
        if after.is_none() {
            break;
        }
    }
    if output::structured(&objects, args.output)? {
        return Ok(());
    }
    let mut table = Table::new(&[&kind.word().to_uppercase(), "CONTENTS", "REVISION"]);
    for view in objects {
        table.row([view.name, view.summary, view.revision.to_string()]);
    }
    table.print(&format!("no {}s; declare some with `ecron apply -f FILE`", kind.word()))
}

fn show(view: &ObjectView, args: &GetArgs) -> Result<(), Failure> {
    if output::structured(view, args.output)? {
        return Ok(());
    }
    output::line(format_args!("{:<11} {}", format!("{}:", view.kind.as_str()), view.name))?;
    output::line(format_args!("Revision:   {}", view.revision))?;
    output::line(format_args!("Contents:   {}", view.summary))?;
    if let Some(spec) = view.manifest.as_ref().and_then(|manifest| manifest.get("spec")) {
        output::line("Spec:")?;
        for line in crate::yaml::to_text(spec).trim_end().lines() {
            output::line(format_args!("  {line}"))?;
        }
    }
    if !view.jobs.is_empty() {
        output::line(if view.kind == ObjectKind::Queue { "Used by:" } else { "Named by:" })?;
    }
    for job in &view.jobs {
        output::line(format_args!("  {job}"))?;
    }
    if view.jobs_more > 0 {
        output::line(format_args!("  and {} more jobs", view.jobs_more))?;
    }
    Ok(())
}
