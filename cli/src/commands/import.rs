//! `ecron import crontab`: manifests on standard output (or into a file), notes on standard error.
//!
//! Exit code 0 if every line was understood or named in a note; 2 if the file as a whole is no crontab.

use std::io::Read;
use std::path::Path;

use model::name::Name;

use crate::args::{CrontabArgs, CrontabFormat, ImportCommand};
use crate::failure::Failure;
use crate::import::crontab::{CRONTAB_BYTES_MAX, Format, Options, import};
use crate::import::to_yaml;
use crate::output;

pub(crate) fn run(command: ImportCommand) -> Result<(), Failure> {
    match command {
        ImportCommand::Crontab(args) => crontab(&args),
    }
}

fn crontab(args: &CrontabArgs) -> Result<(), Failure> {
    let shown =
        if args.file == Path::new("-") { "<stdin>".to_owned() } else { args.file.display().to_string() };
    let bytes = read(&args.file, &shown)?;
    let namespace = Name::new(&args.namespace).map_err(|problem| {
        Failure::input(format!("failed to read namespace {:?}: it {problem}", args.namespace))
    })?;
    let default_zone = args.time_zone.clone().or_else(host_zone);
    if let Some(zone) = &default_zone {
        model::schedule::Zone::named(zone).map_err(|problem| Failure::input(problem.to_string()))?;
    }
    let format = match args.format {
        CrontabFormat::Auto => Format::Auto,
        CrontabFormat::User => Format::User,
        CrontabFormat::System => Format::System,
    };
    let options = Options { format, file_name: shown.clone(), namespace, default_zone };
    let imported = import(&bytes, &options);
    for note in &imported.notes {
        eprintln!("{shown}: {note}");
    }
    if imported.jobs.is_empty()
        && imported.notes.iter().any(|note| note.line.is_none() && imported.is_partial())
    {
        return Err(Failure::input(format!("{shown} is no crontab that can be imported")));
    }
    let text = to_yaml(&imported);
    match &args.out {
        Some(path) => std::fs::write(path, text)
            .map_err(|problem| Failure::failed(format!("failed to write {}: {problem}", path.display())))?,
        None => output::print(&text)?,
    }
    let left_out =
        imported.notes.iter().filter(|note| note.severity == crate::import::Severity::Error).count();
    eprintln!("{shown}: {} job(s) imported, {left_out} line(s) not imported", imported.jobs.len());
    Ok(())
}

fn read(file: &Path, shown: &str) -> Result<Vec<u8>, Failure> {
    let refused = |problem: std::io::Error| Failure::input(format!("failed to read {shown}: {problem}"));
    // One byte over the limit is enough for the importer to refuse the rest.
    let limit = CRONTAB_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(refused)?;
    } else {
        std::fs::File::open(file).map_err(refused)?.take(limit).read_to_end(&mut bytes).map_err(refused)?;
    }
    Ok(bytes)
}

/// The zone that cron on this machine reads its tables in, if it can be told: `TZ`, the link at /etc/localtime, or
/// Debian's /etc/timezone.
fn host_zone() -> Option<String> {
    let known = |zone: String| model::schedule::Zone::named(&zone).is_ok().then_some(zone);
    let from_env = std::env::var("TZ").ok().map(|zone| zone.trim_start_matches(':').to_owned());
    let from_link = || {
        let target = std::fs::canonicalize("/etc/localtime").ok()?;
        Some(target.to_str()?.split_once("/zoneinfo/")?.1.to_owned())
    };
    let from_file = || Some(std::fs::read_to_string("/etc/timezone").ok()?.trim().to_owned());
    let zone = from_env
        .and_then(known)
        .or_else(|| from_link().and_then(known))
        .or_else(|| from_file().and_then(known))?;
    // `Etc/UTC` and its like say no more than `UTC`, which manifests needn't name.
    (!["UTC", "Etc/UTC", "UCT", "Etc/UCT", "Zulu"].contains(&zone.as_str())).then_some(zone)
}
