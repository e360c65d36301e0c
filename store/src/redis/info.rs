//! What `INFO` says about a server: whether it is new enough, and what its settings would cost us.

use std::collections::BTreeMap;

use crate::error::StoreError;

/// The oldest Redis that will do: script flags, `EXPIRE` variants, `ZRANGE … BYSCORE`.
const REDIS_MIN: (u32, u32) = (7, 0);
/// The oldest Valkey that will do.
const VALKEY_MIN: u32 = 8;

/// The lines of an `INFO` answer.
pub(super) struct Info<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied()
    }

    /// Refuses a server below the floor.
    pub(super) fn check_version(&self) -> Result<(), StoreError> {
        let (server, version, enough) = match self.get("valkey_version") {
            Some(version) => ("Valkey", version, numbers(version).0 >= VALKEY_MIN),
            None => {
                let version = self.get("redis_version").unwrap_or("unknown");
                ("Redis", version, numbers(version) >= REDIS_MIN)
            }
        };
        if enough {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "{server} {version} is too old: Redis {}.{} or Valkey {VALKEY_MIN} is needed",
            REDIS_MIN.0, REDIS_MIN.1
        )))
    }

    /// What is wrong with the server's settings, in sentences for an operator; empty if nothing is.
    pub(super) fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let policy = self.get("maxmemory_policy").unwrap_or("unknown");
        if policy != "noeviction" {
            findings.push(format!(
                "maxmemory-policy is {policy}: Redis may drop planned runs when memory is short; set it to noeviction"
            ));
        }
        if self.get("aof_enabled") != Some("1") {
            findings.push(
                "appendonly is off: a restart of Redis loses the plan since the last snapshot; set appendonly yes"
                    .into(),
            );
        }
        if self.get("aof_last_write_status").is_some_and(|status| status != "ok") {
            findings.push("the last write of the append-only file failed: look at the disk of Redis".into());
        }
        if self.get("role").is_some_and(|role| role != "master") {
            findings.push("this Redis is a replica: connect to the primary".into());
        }
        findings
    }
}

/// Major and minor of a version; zero where it can't be read.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_by_name() {
        for ok in
            ["redis_version:7.0.15", "redis_version:8.2.0", "redis_version:7.2.4\r\nvalkey_version:8.0.1"]
        {
            assert_eq!(Info::parse(ok).check_version(), Ok(()), "{ok}");
        }
        for (old, named) in [
            ("redis_version:6.2.14", "Redis 6.2.14"),
            ("redis_version:7.2.4\r\nvalkey_version:7.2.5", "Valkey 7.2.5"),
            ("", "Redis unknown"),
        ] {
            let error = Info::parse(old).check_version().unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn settings_that_lose_runs_are_found() {
        let good = "maxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\naof_last_write_status:ok";
        assert_eq!(Info::parse(good).findings(), Vec::<String>::new());
        let bad = "maxmemory_policy:allkeys-lru\r\naof_enabled:0\r\nrole:slave\r\naof_last_write_status:err";
        assert_eq!(Info::parse(bad).findings().len(), 4);
    }
}
