//! `ecron import crontab`: understands what real crontabs hold, line by line. What can't be imported is said with its
//! line and reason, and spares the rest.
//!
//! A job behaves as under cron: it is never retried, what was missed stays missed (also for `@daily`: anacron is
//! another program), runs may overlap, and it may take as long as a job may.

mod command;
mod format;
mod line;
#[cfg(test)]
mod tests;
mod variables;

use model::limits::{LABEL_CHARS_MAX, MANIFEST_OBJECTS_MAX, TIMEOUT_MAX};
use model::manifest::{API_VERSION, Node, decode_job, duration_text};
use model::name::Name;
use model::spec::{ExecSpec, JobSpec};
use model::time::Timestamp;
use serde_json::{Map, Value, json};

pub(crate) use self::format::Format;
use self::line::{Entry, Line, classify};
use self::variables::{Variables, Zones};
use super::naming::Names;
use super::{Import, Imported, Note, Severity};

/// Bytes of one crontab.
pub(crate) const CRONTAB_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the importer can't know from the text.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) format: Format,
    /// The path as the user gave it: for the comments and labels, and to tell the format.
    pub(crate) file_name: String,
    pub(crate) namespace: Name,
    /// The zone that the crontab was read in so far: the machine's. Without one, times are UTC.
    pub(crate) default_zone: Option<String>,
}

/// Reads a crontab.
#[must_use]
pub(crate) fn import(bytes: &[u8], options: &Options) -> Import {
    let mut import = Import { source: options.file_name.clone(), ..Import::default() };
    if let Some(reason) = no_crontab(bytes, &options.file_name) {
        import.notes.push(Note { line: None, severity: Severity::Error, message: reason });
        return import;
    }
    let lines = lines(bytes, &mut import.notes);
    let (format, reason) = match options.format {
        Format::Auto => format::detect(&options.file_name, &lines),
        chosen => (chosen, "as told"),
    };
    let mut reader =
        Reader { options, format, variables: Variables::default(), names: Names::default(), import };
    if format == Format::System && options.format == Format::Auto {
        reader.note(
            None,
            Severity::Info,
            format!("read as a system crontab, with a column for the user: {reason}"),
        );
    }
    for (index, text) in lines.iter().enumerate() {
        reader.line(index + 1, text);
    }
    reader.import
}

/// Why a file as a whole is something else.
fn no_crontab(bytes: &[u8], file_name: &str) -> Option<String> {
    if bytes.len() > CRONTAB_BYTES_MAX {
        return Some(format!(
            "has {} bytes; the limit is {CRONTAB_BYTES_MAX} (CRONTAB_BYTES_MAX)",
            bytes.len()
        ));
    }
    if bytes.starts_with(b"#!") {
        return Some(
            "is a script (it begins with #!), no crontab: cron runs it from /etc/cron.daily or the like"
                .into(),
        );
    }
    if file_name.ends_with("anacrontab") {
        return Some(
            "is an anacrontab, whose lines are days, delay, name and command; only crontabs are imported"
                .into(),
        );
    }
    None
}

/// The lines as text, and what had to be changed for it.
fn lines(bytes: &[u8], notes: &mut Vec<Note>) -> Vec<String> {
    let mut note =
        |line, severity, message: &str| notes.push(Note { line, severity, message: message.into() });
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.windows(2).any(|pair| pair == b"\r\n") {
        note(None, Severity::Info, "has Windows line ends; they are left out");
    }
    let mut lines = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(line);
        // In a comment it does no harm.
        if matches!(text, std::borrow::Cow::Owned(_)) && !matches!(classify(&text), Line::Blank) {
            note(Some(index + 1), Severity::Warning, "is not UTF-8; what can't be read is now \u{fffd}");
        }
        lines.push(text.into_owned());
    }
    // After the last newline comes nothing.
    match lines.pop() {
        Some(last) if !matches!(classify(&last), Line::Blank) => {
            note(
                Some(lines.len() + 1),
                Severity::Info,
                "the last line has no end; some crons leave it out, this import doesn't",
            );
            lines.push(last);
        }
        _ => {}
    }
    lines
}

/// Goes through the lines, with the variables that hold at each.
struct Reader<'a> {
    options: &'a Options,
    format: Format,
    variables: Variables,
    names: Names,
    import: Import,
}

impl Reader<'_> {
    fn note(&mut self, line: Option<usize>, severity: Severity, message: impl Into<String>) {
        self.import.notes.push(Note { line, severity, message: message.into() });
    }

    fn line(&mut self, number: usize, text: &str) {
        match classify(text) {
            Line::Blank => {}
            Line::Variable { name, value } => {
                self.import.notes.extend(self.variables.read(&name, &value, number));
            }
            Line::Entry(entry) => {
                if let Err(reason) = self.entry(number, text, &entry) {
                    self.note(Some(number), Severity::Error, reason);
                }
            }
            Line::Broken(reason) => self.note(Some(number), Severity::Error, reason),
        }
    }

    fn entry(&mut self, line: usize, text: &str, entry: &Entry<'_>) -> Result<(), String> {
        if self.import.jobs.len() >= MANIFEST_OBJECTS_MAX {
            return Err(format!(
                "is one job too many; the limit is {MANIFEST_OBJECTS_MAX} (MANIFEST_OBJECTS_MAX)"
            ));
        }
        if entry.times.eq_ignore_ascii_case("@reboot") {
            return Err("@reboot is not supported: a job here belongs to no machine's start".into());
        }
        if let Zones::Unknown { line } = self.variables.zone() {
            return Err(format!("its times are in the unknown zone of line {line}"));
        }
        let (user, command) = self.split_user(entry.rest)?;
        let exec = command::exec(command, user, &self.variables);
        let spec = self.job(line, &entry.times, &exec)?;
        self.import.jobs.push(Imported { line, text: text.trim().to_owned(), spec });
        if entry.is_quiet {
            self.note(Some(line), Severity::Info, "the - in front (don't log) means nothing here");
        }
        if command.ends_with('\\') {
            self.note(
                Some(line),
                Severity::Warning,
                "ends with a backslash, but crontabs have no continued lines",
            );
        }
        Ok(())
    }

    fn split_user<'t>(&self, rest: &'t str) -> Result<(Option<&'t str>, &'t str), String> {
        if self.format != Format::System {
            return Ok((None, rest));
        }
        let (user, command) =
            format::user_column(rest).ok_or("expected a user's name and a command behind the times")?;
        Ok((Some(user), command))
    }

    /// The job, checked like any manifest.
    fn job(&mut self, line: usize, times: &str, exec: &ExecSpec) -> Result<JobSpec, String> {
        let manifest = self.manifest(line, times, exec);
        // A crontab has no years: what occurs at all occurs after any instant.
        let decoded = decode_job(&Node::from_json(manifest), Timestamp::from_ms(0));
        let mut spec = decoded.map_err(|problems| {
            let said: Vec<String> =
                problems.into_iter().map(|problem| said_of_a_line(&problem.field, problem.message)).collect();
            said.join("; ")
        })?;
        // Only now, so that a line that isn't imported takes no name away from one that is.
        spec.id.name = self
            .names
            .name(exec.shell.as_deref().or(exec.command.last().map(String::as_str)).unwrap_or_default());
        Ok(spec)
    }

    fn manifest(&self, line: usize, times: &str, exec: &ExecSpec) -> Value {
        let mut schedule = Map::new();
        schedule.insert("cron".into(), times.into());
        schedule.insert("dialect".into(), "unix".into());
        let zone = match self.variables.zone() {
            Zones::Named(zone) => Some(zone.clone()),
            Zones::Default | Zones::Unknown { .. } => self.options.default_zone.clone(),
        };
        schedule.extend(zone.map(|zone| ("timeZone".to_owned(), zone.into())));
        schedule.extend(
            self.variables.spread().map(|spread| ("spread".to_owned(), duration_text(spread).into())),
        );
        let mut labels = Map::new();
        labels.insert("ecron.source".into(), "crontab".into());
        labels.insert("ecron.source-line".into(), line.to_string().into());
        let file: String =
            self.options.file_name.chars().filter(|c| !c.is_control()).take(LABEL_CHARS_MAX).collect();
        if !file.is_empty() {
            labels.insert("ecron.source-file".into(), file.into());
        }
        json!({
            "apiVersion": API_VERSION,
            "kind": "Job",
            "metadata": {"name": "unnamed", "namespace": self.options.namespace.as_str(), "labels": labels},
            "spec": {
                "schedule": schedule,
                "exec": exec,
                "overlap": "allow",
                "catchUp": {"policy": "none"},
                // cron never stops a command.
                "timeout": duration_text(TIMEOUT_MAX),
                "retry": {"attempts": 1},
            },
        })
    }
}

/// A manifest's problem in words that fit a line of a crontab, whose author never saw the field.
fn said_of_a_line(field: &str, message: String) -> String {
    match field.strip_prefix("spec.schedule") {
        Some(".cron" | "") => message,
        Some(field) => format!("{}: {message}", field.trim_start_matches('.')),
        None if field.is_empty() => message,
        None => format!("{}: {message}", field.strip_prefix("spec.exec.").unwrap_or(field)),
    }
}
