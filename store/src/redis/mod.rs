//! The store in Redis: one file per trait, each operation on a shard one script.
//!
//! Scripts are atomic, so the rules that need it live in them; everything else is decided by `model`, before. This is
//! the only place that knows Redis.

mod adhoc;
mod changes;
mod completeness;
mod control;
mod error;
mod facts;
mod gate;
mod info;
mod inspect;
mod lease;
mod ledger;
mod link;
mod live;
mod node;
mod plan;
mod quarantine;
mod script;
mod space;
mod stats;
mod taken;
mod value;

use link::Link;
pub use link::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, RedisOptions};

use crate::error::StoreError;

/// All that ecron remembers, in one Redis (7.0 or newer) or Valkey (8 or newer).
#[derive(Debug)]
pub struct RedisStore {
    link: Link,
    /// For leases, heartbeats and the time, which mustn't wait behind the work that they protect.
    keeper: Link,
}

impl RedisStore {
    /// Connects to `redis://[user:password@]host:port[/db]`.
    ///
    /// # Errors
    /// `Refused` if the address is no such URL, if the server is too old, or if it doesn't let us in; `Failed` if it
    /// can't be reached.
    pub async fn connect(url: &str, options: RedisOptions) -> Result<Self, StoreError> {
        let keeper =
            RedisOptions { client_name: format!("{}-leases", options.client_name), ..options.clone() };
        Ok(Self { link: Link::open(url, options).await?, keeper: Link::open(url, keeper).await? })
    }
}
