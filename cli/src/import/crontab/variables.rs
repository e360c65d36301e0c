//! The variables of a crontab: each holds for the entries below it. Most are the command's environment; a few are
//! cron's own.

use std::collections::BTreeMap;
use std::time::Duration;

use model::schedule::Zone;

use crate::import::{Note, Severity};

/// Variables that one crontab may set. Every job carries all of them, so their number must not multiply.
const VARIABLES_MAX: usize = 256;
/// The longest `RANDOM_DELAY` that makes sense: what a schedule may spread.
const SPREAD_MAX_MINUTES: u64 = 24 * 60;

/// What has been set so far.
#[derive(Debug, Default)]
pub(super) struct Variables {
    environment: BTreeMap<String, String>,
    zone: Zones,
    spread: Option<Duration>,
}

/// The zone of the entries that follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Zones {
    /// As without `CRON_TZ`.
    #[default]
    Default,
    Named(String),
    /// A `CRON_TZ` that nobody knows, on this line. Guessing would run every job at a wrong time.
    Unknown {
        line: usize,
    },
}

impl Variables {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// What the command sees: as in cron, all of them.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        self.environment.clone()
    }

    pub(super) fn zone(&self) -> &Zones {
        &self.zone
    }

    pub(super) fn spread(&self) -> Option<Duration> {
        self.spread
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.into(), value.into());
    }

    /// Takes a line `name=value`, and says what is different here from cron.
    pub(super) fn read(&mut self, name: &str, value: &str, line: usize) -> Option<Note> {
        let note = |severity, message: String| Some(Note { line: Some(line), severity, message });
        if name.contains('\0') || value.contains('\0') {
            return note(Severity::Error, "has a NUL character".into());
        }
        if self.environment.len() >= VARIABLES_MAX && !self.environment.contains_key(name) {
            return note(Severity::Error, format!("has more than {VARIABLES_MAX} variables (VARIABLES_MAX)"));
        }
        match name {
            // For cron alone: the command's clock is `TZ`.
            "CRON_TZ" => return self.read_zone(value, line),
            "RANDOM_DELAY" => return self.read_delay(value, line),
            _ => {}
        }
        self.environment.insert(name.to_owned(), value.to_owned());
        match name {
            "MAILTO" if value.is_empty() => None,
            "MAILTO" => note(Severity::Info, "no mail is sent; the output is kept with each run".into()),
            "TZ" => note(
                Severity::Info,
                "TZ is passed on to the commands, as cron does; to move the times themselves, set CRON_TZ"
                    .into(),
            ),
            "HOME" if !value.starts_with('/') => note(
                Severity::Warning,
                format!("HOME={value} is no absolute path: commands start in the executor's folder"),
            ),
            _ => None,
        }
    }

    fn read_zone(&mut self, value: &str, line: usize) -> Option<Note> {
        if value.is_empty() {
            self.zone = Zones::Default;
            return None;
        }
        match Zone::named(value) {
            Ok(zone) => {
                self.zone = Zones::Named(zone.name().to_owned());
                None
            }
            Err(error) => {
                self.zone = Zones::Unknown { line };
                let message = format!("CRON_TZ: {error}; the entries below are left out");
                Some(Note { line: Some(line), severity: Severity::Error, message })
            }
        }
    }

    /// cronie draws one number when it starts and delays every job by it: that is what `spread` does, for good.
    fn read_delay(&mut self, value: &str, line: usize) -> Option<Note> {
        let minutes = value.parse::<u64>().ok().filter(|minutes| *minutes <= SPREAD_MAX_MINUTES);
        self.spread = minutes.filter(|minutes| *minutes > 0).map(|minutes| Duration::from_secs(minutes * 60));
        let (severity, message) = match minutes {
            Some(_) => (
                Severity::Info,
                "RANDOM_DELAY becomes schedule.spread: each job is late by its own fixed amount".into(),
            ),
            None => (
                Severity::Warning,
                format!("RANDOM_DELAY={value} is not 0 to {SPREAD_MAX_MINUTES} minutes; it is ignored"),
            ),
        };
        Some(Note { line: Some(line), severity, message })
    }
}
