//! Evidence that isn't ecron's own: commands append to a file when they begin, and a checker compares it with what the
//! schedule says.
//!
//! The schedules are simple ones (every N seconds from the epoch on), so that what must happen is plain arithmetic.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ambient::Clock;
use anyhow::Context;
use model::time::Timestamp;

/// A file to which commands write.
#[derive(Clone, Debug)]
pub struct Witness {
    path: PathBuf,
}

/// One start of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    pub run: String,
    pub due_ms: i64,
    pub attempt: u32,
    pub began_ms: i64,
}

/// A job's occurrences: every multiple of an interval, later than `after_ms` and not later than `until_ms`.
#[derive(Clone, Debug)]
pub struct Expected {
    pub job: String,
    pub every_ms: i64,
    pub after_ms: i64,
    pub until_ms: i64,
}

/// What is wrong with the evidence. All empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Occurrences without a start.
    pub missed: Vec<String>,
    /// Attempts that were started more than once, and occurrences with a second attempt.
    pub doubled: Vec<String>,
    /// Starts before the due instant.
    pub early: Vec<String>,
    /// Starts of something that is no occurrence.
    pub invented: Vec<String>,
}

impl Witness {
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A line of shell that writes down that this attempt begins. Short enough to be written at once, so that
    /// concurrent commands don't mix theirs.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            r#"echo "$ECRON_RUN_ID $ECRON_DUE_AT $ECRON_ATTEMPT $(date +%s%N)" >> '{}'"#,
            self.path.display()
        )
    }

    /// Every start so far, in the order of writing.
    pub fn begun(&self) -> anyhow::Result<Vec<Begun>> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            text => text?,
        };
        // A last line without its end is still being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| parse(line).with_context(|| format!("read the witness's line {line:?}")))
            .collect()
    }

    /// The starts of one job.
    pub fn begun_of(&self, job: &str) -> anyhow::Result<Vec<Begun>> {
        let mut begun = self.begun()?;
        begun.retain(|begun| begun.run.split_once('@').is_some_and(|(of, _)| of == job));
        Ok(begun)
    }
}

fn parse(line: &str) -> Option<Begun> {
    let mut words = line.split(' ');
    let (run, due, attempt, ns) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(Begun {
        run: run.into(),
        due_ms: due.parse::<Timestamp>().ok()?.as_ms(),
        attempt: attempt.parse().ok()?,
        began_ms: ns.parse::<i64>().ok()? / 1_000_000,
    })
}

/// The wall clock, ms since the epoch.
#[must_use]
pub fn now_ms() -> i64 {
    Clock::system().now().as_ms()
}

/// An instant as manifests and run ids write it.
#[must_use]
pub fn instant(ms: i64) -> String {
    Timestamp::from_ms(ms).to_string()
}

/// Waits until the wall clock is past an instant.
pub async fn until_ms(at_ms: i64) {
    Clock::system().sleep_until(Timestamp::from_ms(at_ms)).await;
}

impl Expected {
    /// Their due instants.
    #[must_use]
    pub fn due_ms(&self) -> Vec<i64> {
        let first = self.after_ms.div_euclid(self.every_ms) + 1;
        let last = self.until_ms.div_euclid(self.every_ms);
        (first..=last).map(|n| n * self.every_ms).collect()
    }

    /// Compares the starts of this job with its occurrences.
    #[must_use]
    pub fn compare(&self, begun: &[Begun]) -> Findings {
        let due: BTreeSet<i64> = self.due_ms().into_iter().collect();
        let mut starts: BTreeMap<i64, Vec<&Begun>> = BTreeMap::new();
        for begun in begun.iter().filter(|begun| begun.run.split('@').next() == Some(&self.job)) {
            starts.entry(begun.due_ms).or_default().push(begun);
        }
        let mut findings = Findings::default();
        for due_ms in &due {
            match starts.get(due_ms).map(Vec::as_slice) {
                None => findings.missed.push(format!("{}@{}", self.job, Timestamp::from_ms(*due_ms))),
                Some([_]) => {}
                Some(several) => findings.doubled.push(format!("{several:?}")),
            }
        }
        // Outside of the window nothing is said, only that it must be an occurrence at all.
        let invented = starts.iter().filter(|(due_ms, _)| *due_ms % self.every_ms != 0);
        findings.invented = invented.map(|(_, begun)| format!("{begun:?}")).collect();
        let all = starts.values().flatten();
        findings.early =
            all.filter(|begun| begun.began_ms < begun.due_ms).map(|begun| format!("{begun:?}")).collect();
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(due_ms: i64, attempt: u32, began_ms: i64) -> Begun {
        Begun { run: format!("a/b@{}", Timestamp::from_ms(due_ms)), due_ms, attempt, began_ms }
    }

    #[test]
    fn the_checker_sees_what_is_missed_doubled_early_and_invented() {
        let expected = Expected { job: "a/b".into(), every_ms: 2_000, after_ms: 1_999, until_ms: 8_000 };
        assert_eq!(expected.due_ms(), [2_000, 4_000, 6_000, 8_000]);
        let good =
            [begun(2_000, 1, 2_000), begun(4_000, 1, 4_100), begun(6_000, 1, 6_001), begun(8_000, 1, 9_000)];
        assert_eq!(expected.compare(&good), Findings::default());
        let bad =
            [begun(2_000, 1, 1_999), begun(4_000, 1, 4_000), begun(4_000, 1, 4_001), begun(5_000, 1, 5_001)];
        let findings = expected.compare(&bad);
        let counts =
            (findings.missed.len(), findings.doubled.len(), findings.early.len(), findings.invented.len());
        assert_eq!(counts, (2, 1, 1, 1));
    }

    #[test]
    fn a_line_under_way_is_not_read_yet() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let witness = Witness::at(folder.path().join("w"));
        assert_eq!(witness.begun()?, []);
        std::fs::write(witness.path(), "a/b@1970-01-01T00:00:02Z 1970-01-01T00:00:02Z 1 2000000001\na/b@19")?;
        assert_eq!(witness.begun()?, [begun(2_000, 1, 2_000)]);
        Ok(())
    }
}
