//! What commands print: tables for people, JSON and YAML for programs; logs go to standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::args::Format;
use crate::failure::Failure;

/// Sends logs to standard error.
pub(crate) fn trace(filter: &str, json: bool) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second subscriber in one process can't happen: this is called once, by `main`.
    let _already = if json { builder.json().try_init() } else { builder.with_target(false).try_init() };
}

/// Writes to standard output; a reader that went away (`| head`) ends the program quietly.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(problem) if problem.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => Ok(outcome?),
    }
}

pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Prints a value for programs; `false` if a table was asked for.
pub(crate) fn structured<T: Serialize>(value: &T, format: Format) -> Result<bool, Failure> {
    let text = match format {
        Format::Table => return Ok(false),
        Format::Json => serde_json::to_string_pretty(value),
        Format::Yaml => serde_json::to_value(value).map(|value| crate::yaml::to_text(&value)),
    };
    let text = text.map_err(|problem| Failure::failed(format!("failed to write the output: {problem}")))?;
    line(text.trim_end())?;
    Ok(true)
}

/// A table with aligned columns and a heading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(ToString::to_string).collect()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.into_iter().map(|cell| if cell.is_empty() { "-".into() } else { cell }).collect());
    }

    /// The table, or a sentence if it has no rows.
    pub(crate) fn print(&self, if_empty: &str) -> Result<(), Failure> {
        if self.rows.len() == 1 {
            return line(if_empty);
        }
        let columns = self.rows[0].len();
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text.push_str(cells.join("   ").trim_end());
            text.push('\n');
        }
        print(&text)
    }
}

/// One line of at most `max` characters, for a cell.
pub(crate) fn brief(text: &str, max: usize) -> String {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let cut: String = first.chars().take(max).collect();
    if cut.chars().count() < first.chars().count() || text.trim().lines().count() > 1 {
        format!("{cut}…")
    } else {
        cut
    }
}
