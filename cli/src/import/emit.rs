//! An import as YAML that people read, edit and keep: one document per job, above it the line that it came from.

use std::fmt::Write as _;

use model::manifest::{API_VERSION, duration_text};
use model::misfire::CatchUpPolicy;
use model::spec::{ExecSpec, Work};

use super::{Import, Imported};
use crate::yaml::quoted::{double_quoted, is_printable, scalar};

/// Characters of a line that a comment repeats.
const COMMENT_CHARS_MAX: usize = 300;

/// All jobs as one file; the notes are comments at its top.
#[must_use]
pub(crate) fn to_yaml(import: &Import) -> String {
    let mut yaml = String::new();
    comment(&mut yaml, &format!("Imported from {}: {} jobs.", import.source, import.jobs.len()));
    for note in &import.notes {
        comment(&mut yaml, &note.to_string());
    }
    for job in &import.jobs {
        yaml.push_str("---\n");
        document(&mut yaml, job);
    }
    yaml
}

fn document(yaml: &mut String, job: &Imported) {
    let spec = &job.spec;
    comment(yaml, &format!("line {}: {}", job.line, job.text));
    let mut out = Writer { yaml, indent: 0 };
    out.line("apiVersion", API_VERSION);
    out.line("kind", "Job");
    out.map("metadata", |out| {
        out.text("name", spec.id.name.as_str());
        out.text("namespace", spec.id.namespace.as_str());
        out.map("labels", |out| spec.labels.iter().for_each(|(key, value)| out.text(key, value)));
    });
    out.map("spec", |out| {
        out.map("schedule", |out| {
            let schedule = &spec.schedule;
            schedule.cron.iter().for_each(|cron| out.line("cron", &double_quoted(cron)));
            schedule.dialect.iter().for_each(|dialect| out.line("dialect", &dialect.to_string()));
            schedule.time_zone.iter().for_each(|zone| out.text("timeZone", zone));
            schedule.spread.iter().for_each(|spread| out.line("spread", &duration_text(*spread)));
        });
        if let Work::Exec(exec) = &spec.work {
            out.map("exec", |out| command(out, exec));
        }
        out.line("overlap", "allow");
        let policy = match spec.catch_up.policy {
            CatchUpPolicy::None => "none",
            CatchUpPolicy::Latest => "latest",
            CatchUpPolicy::All => "all",
        };
        out.line("catchUp", &format!("{{policy: {policy}}}"));
        out.line("timeout", &duration_text(spec.timeout));
        out.line("retry", &format!("{{attempts: {}}}", spec.retry.attempts));
    });
}

fn command(out: &mut Writer<'_>, exec: &ExecSpec) {
    exec.shell.iter().for_each(|line| out.text("shell", line));
    if !exec.command.is_empty() {
        let words: Vec<String> = exec.command.iter().map(|word| scalar(word)).collect();
        out.line("command", &format!("[{}]", words.join(", ")));
    }
    exec.stdin.iter().for_each(|stdin| out.text("stdin", stdin));
    exec.working_dir.iter().for_each(|folder| out.text("workingDir", folder));
    exec.user.iter().for_each(|user| out.text("user", user));
    if !exec.env.is_empty() {
        out.map("env", |out| exec.env.iter().for_each(|(name, value)| out.text(name, value)));
    }
}

/// Writes block maps.
struct Writer<'a> {
    yaml: &'a mut String,
    indent: usize,
}

impl Writer<'_> {
    fn line(&mut self, key: &str, value: &str) {
        let indent = self.indent;
        let _ = writeln!(self.yaml, "{:indent$}{}: {value}", "", scalar(key));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.line(key, &scalar(value));
    }

    fn map(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        let indent = self.indent;
        let _ = writeln!(self.yaml, "{:indent$}{}:", "", scalar(key));
        self.indent += 2;
        fill(self);
        self.indent -= 2;
    }
}

fn comment(yaml: &mut String, text: &str) {
    let mut shown: String =
        text.chars().take(COMMENT_CHARS_MAX).map(|c| if is_printable(c) { c } else { ' ' }).collect();
    if text.chars().nth(COMMENT_CHARS_MAX).is_some() {
        shown.push('…');
    }
    let _ = writeln!(yaml, "# {}", shown.trim_end());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::yaml;

    proptest! {
        #[test]
        fn any_comment_stays_a_comment(text in any::<String>()) {
            let mut yaml = String::new();
            comment(&mut yaml, &text);
            yaml.push_str("a: 1\n");
            let parsed = yaml::parse(yaml.as_bytes());
            prop_assert_eq!(parsed.problems.len(), 0);
            prop_assert_eq!(parsed.documents.len(), 1);
            prop_assert_eq!(parsed.documents[0].line_of("a"), Some(2));
        }
    }
}
