//! Durability profiles: what the servers must be, so that a promise of ecron holds; and what of that a pair of servers isn't.
//!
//! `safe` outlives any one machine, and total loss of Redis or of JetStream; `fast` the same but for the last second of a
//! crashed Redis, which is rebuilt; `dev` a restart of everything on one machine. Facts come from the servers, the verdict
//! is a table. Where the numbers come from: docs/reliability.md, "Profiles".

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The clock offset from which on lateness suffers, and that a healthy NTP never shows.
pub const CLOCK_OFFSET_WARN: Duration = Duration::from_millis(250);
/// The share of `maxmemory` above which a herd may fill it up, in percent.
pub const MEMORY_USED_MAX_PERCENT: u64 = 70;
/// The longest lag of a replica that still counts, as `min-replicas-max-lag`, in seconds.
pub const REPLICA_LAG_MAX_S: u64 = 10;
/// The oldest NATS of each line that keeps acknowledged messages through a crash: 2.12.15, and 2.14.5 of the next.
const NATS_FLOORS: [(u32, u32, u32); 2] = [(2, 12, 15), (2, 14, 5)];

/// What the servers are expected to survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// One machine; findings are warnings.
    #[default]
    Dev,
    /// Replicated; Redis may lose its last second in a crash.
    Fast,
    /// Replicated, and nothing that was acknowledged is lost with one machine.
    Safe,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 3] = [Self::Safe, Self::Fast, Self::Dev];

    /// Replicas of every stream and bucket that ecron creates.
    #[must_use]
    pub fn stream_replicas(self) -> usize {
        match self {
            Self::Dev => 1,
            Self::Fast | Self::Safe => 3,
        }
    }

    /// Replicas of Redis that must follow.
    fn redis_replicas(self) -> u64 {
        match self {
            Self::Dev => 0,
            Self::Fast => 1,
            Self::Safe => 2,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safe => "safe",
            Self::Fast => "fast",
            Self::Dev => "dev",
        })
    }
}

/// A word that is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no profile: expected safe, fast or dev")]
pub struct ParseProfileError(String);

impl FromStr for Profile {
    type Err = ParseProfileError;

    fn from_str(text: &str) -> Result<Self, ParseProfileError> {
        let found = Self::ALL.into_iter().find(|profile| profile.to_string() == text);
        found.ok_or_else(|| ParseProfileError(text.to_owned()))
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Works, and may hurt.
    Warning,
    /// The profile's promise doesn't hold.
    Bad,
}

impl Severity {
    /// The word of output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Bad => "BAD",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// Where: `redis`, `nats`, `nodes`, `clock`.
    pub at: &'static str,
    /// What was looked at: `eviction`, `streams`.
    pub check: &'static str,
    /// What was found, and, unless it is good, what follows and what to do.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.at, self.check, self.what)
    }
}

impl Finding {
    #[must_use]
    pub fn good(at: &'static str, check: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Good, at, check, what: what.into() }
    }

    #[must_use]
    pub fn warning(at: &'static str, check: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, at, check, what: what.into() }
    }

    #[must_use]
    pub fn bad(at: &'static str, check: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Bad, at, check, what: what.into() }
    }
}

/// What a Redis says of itself. `None`: it doesn't let us look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisFacts {
    /// With its name: `Redis 7.0.15`.
    pub version: String,
    pub is_primary: bool,
    /// It is reading its files; what it says of persistence meanwhile is not what will be.
    pub loading: bool,
    pub aof: bool,
    pub aof_write_failed: bool,
    /// `always`, `everysec`, `no`.
    pub fsync: Option<String>,
    /// Nothing is synced while the file is rewritten.
    pub pauses_fsync: Option<bool>,
    pub eviction: Option<String>,
    /// In bytes; 0: unlimited.
    pub memory_max: Option<u64>,
    /// In bytes.
    pub memory_used: u64,
    /// Replicas that follow.
    pub replicas: u64,
    /// Replicas without which writes are refused.
    pub replicas_min: Option<u64>,
    /// How far those may lag, in seconds.
    pub replicas_lag_s: Option<u64>,
}

/// What a NATS says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsFacts {
    pub version: String,
    /// Name and replicas of each stream and bucket of ours.
    pub streams: Vec<(String, usize)>,
    /// In which settings they differ from what we would create, in sentences.
    pub drift: Vec<String>,
    /// Streams of ours that aren't there.
    pub missing: Vec<String>,
}

/// What a Redis isn't of what a profile needs, and what it is.
#[must_use]
pub fn judge_redis(profile: Profile, redis: &RedisFacts) -> Vec<Finding> {
    let mut findings = vec![Finding::good("redis", "version", redis.version.clone())];
    // What one machine's restart loses is bad in every profile; `dev` may choose to live with it.
    let severe = if profile == Profile::Dev { Finding::warning } else { Finding::bad };
    let mut say = |finding: Finding| findings.push(finding);

    say(if redis.is_primary {
        Finding::good("redis", "role", "a primary")
    } else {
        Finding::bad("redis", "role", "this Redis is a replica: connect to the primary")
    });
    say(match redis.eviction.as_deref() {
        Some("noeviction") => Finding::good("redis", "eviction", "maxmemory-policy is noeviction"),
        policy => severe(
            "redis",
            "eviction",
            format!(
                "maxmemory-policy is {}: Redis may drop planned runs when memory is short; set it to noeviction",
                policy.unwrap_or("unknown")
            ),
        ),
    });
    say(if redis.aof {
        Finding::good("redis", "persistence", "appendonly is on")
    } else if redis.loading {
        let text = "Redis is loading its data: whether appendonly is on can't be told yet";
        Finding::good("redis", "persistence", text)
    } else {
        let text = "appendonly is off: a restart of Redis loses the plan since the last snapshot; set appendonly yes";
        severe("redis", "persistence", text.to_owned())
    });
    if redis.aof_write_failed {
        let text = "the last write of the append-only file failed: look at the disk of Redis";
        say(Finding::bad("redis", "persistence", text));
    }
    if redis.aof {
        say(fsync(profile, redis));
    }
    if redis.pauses_fsync == Some(true) {
        let text = "no-appendfsync-on-rewrite is yes: while the file is rewritten, a crash loses minutes; set it to no";
        say(severe("redis", "fsync on rewrite", text.to_owned()));
    }
    say(memory(profile, redis));
    if profile != Profile::Dev {
        replicas(profile, redis).into_iter().for_each(say);
    }
    findings
}

fn fsync(profile: Profile, redis: &RedisFacts) -> Finding {
    let check = "fsync";
    match redis.fsync.as_deref() {
        Some("always") => Finding::good("redis", check, "appendfsync is always"),
        Some("everysec") if profile == Profile::Safe && redis.replicas == 0 => Finding::bad(
            "redis",
            check,
            "appendfsync is everysec and nothing replicates: a crash loses the last second; set it to always, or add replicas",
        ),
        Some("everysec") => Finding::good("redis", check, "appendfsync is everysec"),
        Some(other) => Finding::bad(
            "redis",
            check,
            format!("appendfsync is {other}: a crash loses up to half a minute; set it to everysec"),
        ),
        None => {
            Finding::warning("redis", check, "appendfsync can't be read (CONFIG is denied): look yourself")
        }
    }
}

fn memory(profile: Profile, redis: &RedisFacts) -> Finding {
    let mebibytes = |bytes: u64| format!("{} MiB", bytes / (1 << 20));
    let used = mebibytes(redis.memory_used);
    match redis.memory_max {
        None if profile == Profile::Dev => Finding::good("redis", "memory", format!("{used} used")),
        None => Finding::warning(
            "redis",
            "memory",
            format!("{used} used; maxmemory can't be read (CONFIG is denied)"),
        ),
        Some(0) if profile == Profile::Dev => {
            Finding::good("redis", "memory", format!("{used} used, without a limit"))
        }
        Some(0) => Finding::warning(
            "redis",
            "memory",
            format!(
                "{used} used, and maxmemory isn't set: the kernel may kill Redis instead of Redis refusing; set it"
            ),
        ),
        Some(max) if redis.memory_used * 100 > max * MEMORY_USED_MAX_PERCENT => Finding::warning(
            "redis",
            "memory",
            format!(
                "{used} of {} used, more than {MEMORY_USED_MAX_PERCENT} %: raise maxmemory",
                mebibytes(max)
            ),
        ),
        Some(max) => Finding::good("redis", "memory", format!("{used} of {} used", mebibytes(max))),
    }
}

fn replicas(profile: Profile, redis: &RedisFacts) -> Vec<Finding> {
    let (wanted, found) = (profile.redis_replicas(), redis.replicas);
    let mut findings = vec![if found >= wanted {
        Finding::good("redis", "replicas", format!("{found} follow"))
    } else {
        Finding::bad("redis", "replicas", format!("{found} follow, {profile} needs {wanted}: add replicas"))
    }];
    if profile == Profile::Safe {
        let min = redis.replicas_min.unwrap_or(0);
        let lag = redis.replicas_lag_s.unwrap_or(u64::MAX);
        findings.push(if min >= 1 && (1..=REPLICA_LAG_MAX_S).contains(&lag) {
            Finding::good("redis", "writes", format!("need {min} replica(s) within {lag} s"))
        } else {
            let text = "a primary that is cut off goes on taking writes that are lost: set min-replicas-to-write 1 and \
                        min-replicas-max-lag 3";
            Finding::bad("redis", "writes", text)
        });
    }
    findings
}

/// The same of a NATS.
#[must_use]
pub fn judge_nats(profile: Profile, nats: &NatsFacts) -> Vec<Finding> {
    let severe = if profile == Profile::Dev { Finding::warning } else { Finding::bad };
    let mut findings = vec![if nats_is_sound(&nats.version) {
        Finding::good("nats", "version", format!("NATS {}", nats.version))
    } else {
        severe(
            "nats",
            "version",
            format!(
                "NATS {} may lose acknowledged messages in a crash: 2.12.15, 2.14.5 or newer is needed",
                nats.version
            ),
        )
    }];
    findings.extend(nats.missing.iter().map(|name| {
        Finding::bad(
            "nats",
            "streams",
            format!("stream {name} is missing: start a planner or dispatcher, they create it"),
        )
    }));
    let wanted = profile.stream_replicas();
    let few = nats.streams.iter().filter(|(_, replicas)| *replicas < wanted);
    let few: Vec<String> = few.map(|(name, replicas)| format!("{name} ({replicas})")).collect();
    findings.push(if few.is_empty() {
        Finding::good("nats", "replicas", format!("every stream has {wanted} or more"))
    } else {
        let text = format!(
            "{profile} needs {wanted} of each stream: `nats stream edit --replicas {wanted}` for {}",
            few.join(", ")
        );
        Finding::bad("nats", "replicas", text)
    });
    findings.extend(nats.drift.iter().map(|drift| Finding::warning("nats", "streams", drift.clone())));
    if nats.drift.is_empty() && nats.missing.is_empty() {
        findings.push(Finding::good(
            "nats",
            "streams",
            format!("{} as ecron creates them", nats.streams.len()),
        ));
    }
    findings
}

/// A clock against the store's.
#[must_use]
pub fn judge_clock(offset_ms: i64, round_trip_ms: i64) -> Finding {
    let text = format!("{offset_ms} ms between this host and Redis (round trip {round_trip_ms} ms)");
    if Duration::from_millis(offset_ms.unsigned_abs()) <= CLOCK_OFFSET_WARN {
        Finding::good("clock", "offset", text)
    } else {
        let advice = "nodes correct for it, people who compare times don't: run NTP";
        Finding::warning("clock", "offset", format!("{text}: {advice}"))
    }
}

/// Whether a version is at the floor of its line, or of a newer one.
fn nats_is_sound(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    let found = (part(), part(), part());
    let [older, newer] = NATS_FLOORS;
    if (found.0, found.1) == (older.0, older.1) { found >= older } else { found >= newer }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe_redis() -> RedisFacts {
        RedisFacts {
            version: "Redis 7.0.15".into(),
            is_primary: true,
            loading: false,
            aof: true,
            aof_write_failed: false,
            fsync: Some("everysec".into()),
            pauses_fsync: Some(false),
            eviction: Some("noeviction".into()),
            memory_max: Some(1 << 30),
            memory_used: 1 << 20,
            replicas: 2,
            replicas_min: Some(1),
            replicas_lag_s: Some(3),
        }
    }

    fn worst(findings: &[Finding]) -> Severity {
        findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Good)
    }

    #[test]
    fn each_setting_of_redis_is_judged_by_profile() {
        use Severity::{Bad, Good, Warning};
        type Change = fn(&mut RedisFacts);
        let table: [(&str, Change, [Severity; 3]); 13] = [
            ("nothing", |_| {}, [Good, Good, Good]),
            ("a replica", |redis| redis.is_primary = false, [Bad, Bad, Bad]),
            ("evicts", |redis| redis.eviction = Some("allkeys-lru".into()), [Bad, Bad, Warning]),
            ("no file", |redis| redis.aof = false, [Bad, Bad, Warning]),
            ("no file yet", |redis| (redis.aof, redis.loading) = (false, true), [Good, Good, Good]),
            ("disk full", |redis| redis.aof_write_failed = true, [Bad, Bad, Bad]),
            ("never synced", |redis| redis.fsync = Some("no".into()), [Bad, Bad, Bad]),
            ("one follows", |redis| redis.replicas = 1, [Bad, Good, Good]),
            ("none follows", |redis| redis.replicas = 0, [Bad, Bad, Good]),
            ("alone takes writes", |redis| redis.replicas_min = Some(0), [Bad, Good, Good]),
            ("any lag", |redis| redis.replicas_lag_s = Some(60), [Bad, Good, Good]),
            ("no limit", |redis| redis.memory_max = Some(0), [Warning, Warning, Good]),
            ("nearly full", |redis| redis.memory_used = 800 << 20, [Warning; 3]),
        ];
        for (name, change, expected) in table {
            let mut redis = safe_redis();
            change(&mut redis);
            let found = Profile::ALL.map(|profile| worst(&judge_redis(profile, &redis)));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn streams_need_replicas_and_a_sound_server() {
        let nats = |version: &str, replicas: usize| NatsFacts {
            version: version.into(),
            streams: vec![("ECRON_RUNS".into(), replicas)],
            ..NatsFacts::default()
        };
        for (version, replicas, expected) in [
            ("2.15.1", 3, [Severity::Good; 3]),
            ("2.15.1", 1, [Severity::Bad, Severity::Bad, Severity::Good]),
            ("2.12.15", 3, [Severity::Good; 3]),
            ("2.12.14", 3, [Severity::Bad, Severity::Bad, Severity::Warning]),
            ("2.14.4", 3, [Severity::Bad, Severity::Bad, Severity::Warning]),
            ("2.14.5-RC.1", 3, [Severity::Good; 3]),
            ("", 3, [Severity::Bad, Severity::Bad, Severity::Warning]),
        ] {
            let found = Profile::ALL.map(|profile| worst(&judge_nats(profile, &nats(version, replicas))));
            assert_eq!(found, expected, "{version} {replicas}");
        }
        let drifted =
            NatsFacts { drift: vec!["stream X: discard is Old, expected New".into()], ..nats("2.15.1", 3) };
        assert_eq!(worst(&judge_nats(Profile::Safe, &drifted)), Severity::Warning);
        let missing = NatsFacts { missing: vec!["ECRON_DEAD".into()], ..nats("2.15.1", 3) };
        assert_eq!(worst(&judge_nats(Profile::Dev, &missing)), Severity::Bad);
    }

    #[test]
    fn profiles_are_read_as_they_are_written() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        assert!("Safe".parse::<Profile>().unwrap_err().to_string().contains("safe, fast or dev"));
    }

    #[test]
    fn a_clock_that_is_off_is_told() {
        assert_eq!(judge_clock(-250, 1).severity, Severity::Good);
        assert_eq!(judge_clock(251, 1).severity, Severity::Warning);
    }
}
