//! What `INFO` and `CONFIG` say about a server: whether it is new enough, and the facts that durability depends on.

use std::collections::BTreeMap;

use model::durability::RedisFacts;

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

    /// What matters for durability; `config` holds what `CONFIG GET` said, empty if it is denied.
    pub(super) fn facts(&self, config: &BTreeMap<String, String>) -> RedisFacts {
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        let setting = |name: &str| config.get(name).cloned();
        let (server, version) = match self.get("valkey_version") {
            Some(version) => ("Valkey", version),
            None => ("Redis", self.get("redis_version").unwrap_or("unknown")),
        };
        RedisFacts {
            version: format!("{server} {version}"),
            is_primary: self.get("role").is_none_or(|role| role == "master"),
            loading: self.get("loading") == Some("1") || self.get("async_loading") == Some("1"),
            aof: self.get("aof_enabled") == Some("1"),
            aof_write_failed: self.get("aof_last_write_status").is_some_and(|status| status != "ok"),
            fsync: setting("appendfsync"),
            pauses_fsync: setting("no-appendfsync-on-rewrite").map(|value| value == "yes"),
            eviction: self.get("maxmemory_policy").map(str::to_owned),
            memory_max: number(self.get("maxmemory")),
            memory_used: number(self.get("used_memory")).unwrap_or(0),
            replicas: number(self.get("connected_slaves")).unwrap_or(0),
            replicas_min: setting("min-replicas-to-write").and_then(|value| value.parse().ok()),
            replicas_lag_s: setting("min-replicas-max-lag").and_then(|value| value.parse().ok()),
        }
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
    fn facts_are_read_from_what_a_server_says() {
        let text = "redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\n\
                    aof_last_write_status:ok\r\nmaxmemory:1024\r\nused_memory:512\r\nconnected_slaves:2\r\n";
        let config = [
            ("appendfsync", "everysec"),
            ("no-appendfsync-on-rewrite", "no"),
            ("min-replicas-to-write", "1"),
            ("min-replicas-max-lag", "3"),
        ];
        let config = config.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let facts = Info::parse(text).facts(&config);
        let expected = RedisFacts {
            version: "Redis 7.0.15".into(),
            is_primary: true,
            loading: false,
            aof: true,
            aof_write_failed: false,
            fsync: Some("everysec".into()),
            pauses_fsync: Some(false),
            eviction: Some("noeviction".into()),
            memory_max: Some(1024),
            memory_used: 512,
            replicas: 2,
            replicas_min: Some(1),
            replicas_lag_s: Some(3),
        };
        assert_eq!(facts, expected);
        let bad = "maxmemory_policy:allkeys-lru\r\naof_enabled:0\r\nrole:slave\r\naof_last_write_status:err";
        let facts = Info::parse(bad).facts(&BTreeMap::new());
        assert!(!facts.is_primary && !facts.aof && facts.aof_write_failed && facts.fsync.is_none());
        // At a start the file is opened only once it was read.
        let loading =
            Info::parse("loading:1\r\nasync_loading:0\r\naof_enabled:0\r\n").facts(&BTreeMap::new());
        assert!(loading.loading && !loading.aof);
    }
}
