//! `ecron validate`: every problem of a manifest at once, with line and field; no server needed.

use std::io::Read;
use std::path::{Path, PathBuf};

use ambient::Clock;
use model::manifest::{Calendars, Node, Object, Problem, decode_with};
use serde::Serialize;

use crate::args::ValidateArgs;
use crate::commands::apply::expand;
use crate::failure::Failure;
use crate::output;
use crate::yaml;

/// What is in some files.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) manifests: Vec<Node>,
    /// `file:line: field: message`, ready to print.
    pub(crate) problems: Vec<String>,
    structured: Vec<FileProblem>,
    jobs: Vec<String>,
    /// Of other objects: `calendar billing/de-holidays`.
    objects: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct FileProblem {
    file: String,
    line: Option<usize>,
    field: String,
    message: String,
}

/// What is believed of calendars that are in none of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherCalendars {
    /// They are there: the server knows, or the user does.
    Assumed,
    Unknown,
}

pub(crate) fn run(args: &ValidateArgs) -> Result<(), Failure> {
    let others = if args.assume_calendars { OtherCalendars::Assumed } else { OtherCalendars::Unknown };
    let report = check(&expand(&args.files)?, others)?;
    let summary = serde_json::json!({
        "valid": report.jobs, "objects": report.objects, "problems": report.structured,
    });
    if !output::structured(&summary, args.output)? {
        for name in &report.objects {
            output::line(format_args!("{name} is valid"))?;
        }
        for name in &report.jobs {
            output::line(format_args!("job {name} is valid"))?;
        }
    }
    if report.problems.is_empty() && report.manifests.is_empty() {
        return Err(Failure::input("there is no manifest in the input"));
    }
    if report.problems.is_empty() {
        return Ok(());
    }
    Err(Failure::input(format!("{} problem(s)\n{}", report.problems.len(), report.problems.join("\n"))))
}

/// Reads and checks files, or standard input (`-`), together: the jobs of one may name the calendars of another.
pub(crate) fn check(files: &[PathBuf], others: OtherCalendars) -> Result<Report, Failure> {
    let now = Clock::system().now();
    let mut report = Report::default();
    let mut documents = Vec::new();
    for file in files {
        let shown = if file == Path::new("-") { "<stdin>".to_owned() } else { file.display().to_string() };
        let parsed = yaml::parse(&read_bytes(file, &shown)?);
        report.note(&shown, parsed.problems);
        documents.extend(parsed.documents.into_iter().map(|node| (shown.clone(), node)));
    }
    let mut calendars = Calendars::declared_in(documents.iter().map(|(_, node)| node));
    if others == OtherCalendars::Assumed {
        calendars = calendars.assuming_others();
    }
    for (file, node) in documents {
        match decode_with(&node, now, &calendars) {
            Ok(Object::Job(spec)) => report.jobs.push(spec.id.to_string()),
            Ok(other) => report.objects.extend(other.key().map(|key| key.to_string())),
            Err(problems) => report.note(&file, problems),
        }
        report.manifests.push(node);
    }
    Ok(report)
}

impl Report {
    fn note(&mut self, file: &str, problems: Vec<Problem>) {
        for Problem { field, line, message } in problems {
            let place = line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
            let named = if field.is_empty() { message.clone() } else { format!("{field}: {message}") };
            self.problems.push(format!("  {place}: {named}"));
            self.structured.push(FileProblem { file: file.to_owned(), line, field, message });
        }
    }
}

fn read_bytes(file: &Path, shown: &str) -> Result<Vec<u8>, Failure> {
    let refused = |problem: std::io::Error| Failure::input(format!("failed to read {shown}: {problem}"));
    // One byte over the limit is enough for the parser to refuse the rest.
    let limit = yaml::FILE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(refused)?;
    } else {
        std::fs::File::open(file).map_err(refused)?.take(limit).read_to_end(&mut bytes).map_err(refused)?;
    }
    Ok(bytes)
}
