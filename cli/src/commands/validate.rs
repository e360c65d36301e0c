//! `ecron validate`: every problem of a manifest at once, with line and field; no server needed.

use std::io::Read;
use std::path::Path;

use ambient::Clock;
use model::manifest::{Node, Object, Problem, decode};
use serde::Serialize;

use crate::args::ValidateArgs;
use crate::commands::apply::expand;
use crate::failure::Failure;
use crate::output;
use crate::yaml;

/// What is in a file.
pub(crate) struct Report {
    pub(crate) manifests: Vec<Node>,
    /// `file:line: field: message`, ready to print.
    pub(crate) problems: Vec<String>,
    structured: Vec<FileProblem>,
    names: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct FileProblem {
    file: String,
    line: Option<usize>,
    field: String,
    message: String,
}

pub(crate) fn run(args: &ValidateArgs) -> Result<(), Failure> {
    let mut problems = Vec::new();
    let mut structured = Vec::new();
    let mut names = Vec::new();
    for file in expand(&args.files)? {
        let report = check(&file)?;
        problems.extend(report.problems);
        structured.extend(report.structured);
        names.extend(report.names);
    }
    let summary = serde_json::json!({ "valid": names, "problems": structured });
    if !output::structured(&summary, args.output)? {
        for name in &names {
            output::line(format_args!("job {name} is valid"))?;
        }
    }
    if problems.is_empty() && names.is_empty() {
        return Err(Failure::input("there is no manifest in the input"));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::input(format!("{} problem(s)\n{}", problems.len(), problems.join("\n"))))
}

/// Reads and checks one file, or standard input.
pub(crate) fn check(file: &Path) -> Result<Report, Failure> {
    let shown = if file == Path::new("-") { "<stdin>".to_owned() } else { file.display().to_string() };
    let bytes = read_bytes(file, &shown)?;
    let now = Clock::system().now();
    let mut report = Report { manifests: vec![], problems: vec![], structured: vec![], names: vec![] };
    let parsed = yaml::parse(&bytes);
    report.note(&shown, parsed.problems);
    for node in parsed.documents {
        match decode(&node, now) {
            Ok(Object::Job(spec)) => report.names.push(spec.id.to_string()),
            Err(problems) => report.note(&shown, problems),
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
