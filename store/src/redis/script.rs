//! The Lua scripts: their texts, put together once.

use std::sync::LazyLock;

use redis::Cmd;

const PRELUDE: &str = include_str!("scripts/prelude.lua");
const REVISIONS: &str = include_str!("scripts/revisions.lua");
const OVERLAP: &str = include_str!("scripts/overlap.lua");
const BARRIER: &str = include_str!("scripts/barrier.lua");
const CHANGES: &str = include_str!("scripts/changes.lua");
const STATS: &str = include_str!("scripts/stats.lua");
const AFTER: &str = include_str!("scripts/after.lua");
const ENTRIES: &str = include_str!("scripts/entries.lua");
const HISTORY: &str = include_str!("scripts/history.lua");

/// A script as the server gets it, and its hash.
#[derive(Debug)]
pub(super) struct Script {
    text: String,
    sha: String,
}

impl Script {
    /// A script's file with what it shares put behind its first line, which must stay the first.
    fn compose(file: &str, shared: &[&str]) -> Self {
        let (shebang, body) = file.split_once('\n').unwrap_or((file, ""));
        let text = format!("{shebang}\n{}\n{body}", shared.concat());
        let sha = redis::Script::new(&text).get_hash().to_string();
        Self { text, sha }
    }

    pub(super) fn sha(&self) -> &str {
        &self.sha
    }

    /// The command that makes it known to the server.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.text);
        command
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal + [$($shared:ident),*];)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::compose(include_str!(concat!("scripts/", $file)), &[$($shared),*])
        });)*

        #[cfg(test)]
        const FILES: &[(&str, &str)] = &[$(($file, include_str!(concat!("scripts/", $file)))),*];
    };
}

scripts! {
    LEASE_HOLD = "lease_hold.lua" + [PRELUDE];
    LEASE_RELEASE = "lease_release.lua" + [];
    HEARTBEAT = "heartbeat.lua" + [PRELUDE];
    BEGIN = "begin.lua" + [PRELUDE];
    PROGRESS = "progress.lua" + [PRELUDE];
    INSTALL = "install.lua" + [PRELUDE, BARRIER, HISTORY, OVERLAP, AFTER, CHANGES];
    WAITING = "waiting.lua" + [PRELUDE];
    ADVANCE = "advance.lua" + [PRELUDE, HISTORY];
    IN_FORCE = "in_force.lua" + [PRELUDE, BARRIER];
    TAKE = "take.lua" + [PRELUDE, REVISIONS, OVERLAP];
    MISSED = "missed.lua" + [PRELUDE, REVISIONS];
    CLAIM = "claim.lua" + [PRELUDE, OVERLAP];
    PARK = "park.lua" + [PRELUDE, HISTORY, OVERLAP];
    UNPARK = "unpark.lua" + [PRELUDE, OVERLAP];
    CANCEL = "cancel.lua" + [PRELUDE, HISTORY, OVERLAP, AFTER];
    CONFIRM = "confirm.lua" + [PRELUDE];
    SKIP = "skip.lua" + [PRELUDE, HISTORY, OVERLAP, AFTER];
    DROP_ENTRIES = "drop_entries.lua" + [PRELUDE];
    SETTLE = "settle.lua" + [PRELUDE, HISTORY, OVERLAP, AFTER, STATS];
    NOTE_ATTEMPT = "note_attempt.lua" + [PRELUDE, STATS];
    KEY_CLAIM = "key_claim.lua" + [];
    KEY_CONFIRM = "key_confirm.lua" + [];
    KEY_FREE = "key_free.lua" + [];
    NOTE_AD_HOC = "note_ad_hoc.lua" + [PRELUDE, STATS];
    NOTE_PROGRESS = "note_progress.lua" + [];
    SPACE = "space.lua" + [PRELUDE];
    DELAY_SPACED = "delay_spaced.lua" + [PRELUDE];
    OVERDUE = "overdue.lua" + [PRELUDE];
    WORRY_LATER = "worry_later.lua" + [PRELUDE];
    RUNS = "runs.lua" + [PRELUDE];
    TRIGGER = "trigger.lua" + [PRELUDE];
    START_BACKFILLED = "start_backfilled.lua" + [PRELUDE];
    FORGET_BACKFILL_RUNS = "forget_backfill_runs.lua" + [PRELUDE];
    REOPEN = "reopen.lua" + [PRELUDE, STATS];
    NOTE_INTERRUPTION = "note_interruption.lua" + [PRELUDE];
    EXAMINE = "examine.lua" + [PRELUDE, ENTRIES, OVERLAP, AFTER];
    MEND = "mend.lua" + [PRELUDE, ENTRIES, OVERLAP];
    NOTE_AUDIT = "note_audit.lua" + [PRELUDE];
    QUARANTINE = "quarantine.lua" + [PRELUDE];
    GATE = "gate.lua" + [PRELUDE];
    GATE_VIEW = "gate_view.lua" + [];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_says_what_it_takes_returns_and_why() {
        for (file, text) in FILES {
            assert!(text.starts_with("#!lua"), "{file}");
            for part in ["-- KEYS", "-- ARGV", "-- returns", "-- Atomic:"] {
                assert!(text.contains(part), "{file} lacks {part}");
            }
        }
    }
}
