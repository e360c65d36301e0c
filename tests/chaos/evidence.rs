//! What was seen, in files of our own: what the generator declared, what executors did, what was injected, what the
//! event stream held in the end. One JSON object a line; the verdict comes from these files alone.
//!
//! A line is one `write` to a file opened for appending, without fsync: what a process wrote outlives its SIGKILL, which
//! is the worst that happens to it here. A power cut isn't injected.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How a request ended for whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Done,
    /// Understood, and no. Nothing was changed.
    Refused,
    /// Nothing was changed.
    Failed,
    /// It may have happened.
    Unknown,
}

/// What becomes of occurrences that were missed, as a job declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CatchUp {
    All,
    Latest,
}

/// As much of a job's declaration as decides which instants are due: what the checker computes with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Declared {
    /// Due at every multiple of so many milliseconds since the epoch.
    pub(crate) every_ms: Option<i64>,
    /// Due at these instants.
    #[serde(default)]
    pub(crate) at_ms: Vec<i64>,
    pub(crate) suspended: bool,
    pub(crate) catch_up: CatchUp,
}

/// What the generator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Act {
    Apply {
        job: String,
        declared: Declared,
    },
    Delete {
        job: String,
    },
    /// `run`: the id that was answered.
    Trigger {
        job: String,
        run: Option<String>,
    },
    /// Ad-hoc work that carries a token; deferred if it has an instant before which it must not start.
    Submit {
        token: String,
        not_before_ms: Option<i64>,
    },
    Read {
        verb: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    pub(crate) asked_ms: i64,
    pub(crate) answered_ms: i64,
    pub(crate) act: Act,
    pub(crate) answer: Answer,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) problem: String,
}

/// What an executor saw and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Seen {
    /// A message of the run stream came.
    Delivered { run: String, generation: u32, sequence: u64, delivered: u32, at_ms: i64 },
    /// The handler began. Ad-hoc work carries a token.
    Begun { run: String, attempt: u32, due_ms: i64, token: Option<String>, at_ms: i64 },
    /// The handler returned.
    Ended { run: String, attempt: u32, succeeded: bool, at_ms: i64 },
    /// The server stored the attempt's report.
    Reported { run: String, generation: u32, attempt: u32, ends_run: Option<String>, at_ms: i64 },
}

/// An outcome in the event stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) run: String,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
    pub(crate) state: String,
    pub(crate) sequence: u64,
    pub(crate) executor: String,
    pub(crate) ended_ms: i64,
}

/// A run in a job's history, as the API showed it at some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) at_ms: i64,
    pub(crate) run: String,
    pub(crate) generation: u32,
    pub(crate) state: String,
}

/// A publication on its way to the run stream, as any subscriber sees it; the stream may drop it as a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) run: String,
    pub(crate) generation: u32,
    pub(crate) message_id: String,
    pub(crate) at_ms: i64,
}

/// One fault, from when it began to hurt until it was healed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Injected {
    pub(crate) kind: String,
    pub(crate) target: String,
    pub(crate) from_ms: i64,
    pub(crate) until_ms: i64,
    /// Whether it takes from Redis what it had acknowledged.
    pub(crate) forgets: bool,
}

/// A process that ended though nobody had asked it to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fallen {
    pub(crate) node: String,
    pub(crate) at_ms: i64,
    pub(crate) lived_ms: i64,
    pub(crate) status: String,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) operations: Vec<Operation>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) ends: Vec<End>,
    pub(crate) shown: Vec<Shown>,
    pub(crate) published: Vec<Published>,
    pub(crate) faults: Vec<Injected>,
    pub(crate) fallen: Vec<Fallen>,
    /// Occurrences due up to here are judged.
    pub(crate) until_ms: i64,
}

pub(crate) const OPERATIONS: &str = "operations.jsonl";
pub(crate) const FAULTS: &str = "faults.jsonl";
pub(crate) const ENDS: &str = "ends.jsonl";
pub(crate) const SHOWN: &str = "shown.jsonl";
pub(crate) const PUBLISHED: &str = "published.jsonl";
pub(crate) const FALLEN: &str = "fallen.jsonl";
pub(crate) const UNTIL: &str = "until";
/// Executors' files end so.
pub(crate) const SEEN_SUFFIX: &str = ".seen.jsonl";

impl Evidence {
    /// Reads a folder of evidence.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut seen = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(SEEN_SUFFIX) {
                seen.extend(lines(&path)?);
            }
        }
        let until = std::fs::read_to_string(folder.join(UNTIL)).context("read until when to judge")?;
        Ok(Self {
            operations: lines(&folder.join(OPERATIONS))?,
            seen,
            ends: lines(&folder.join(ENDS))?,
            shown: lines(&folder.join(SHOWN))?,
            published: lines(&folder.join(PUBLISHED))?,
            faults: lines(&folder.join(FAULTS))?,
            fallen: lines(&folder.join(FALLEN))?,
            until_ms: until.trim().parse().context("read until when to judge")?,
        })
    }
}

fn lines<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = match std::fs::read_to_string(path) {
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    // A last line without its end is still being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("read {}: {line}", path.display())))
        .collect()
}

/// A file of evidence, open for appending.
#[derive(Debug)]
pub(crate) struct Journal(Mutex<File>);

impl Journal {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Self(Mutex::new(file.with_context(|| format!("open {}", path.display()))?)))
    }

    /// Adds a line. Evidence that can't be written is worth nothing: the process ends.
    pub(crate) fn note<T: Serialize>(&self, value: &T) {
        let written = serde_json::to_string(value).map_err(anyhow::Error::from).and_then(|line| {
            let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Ok(file.write_all(format!("{line}\n").as_bytes())?)
        });
        if let Err(problem) = written {
            eprintln!("failed to write evidence: {problem:#}");
            std::process::exit(3);
        }
    }
}
