//! A world over the memory twins, with an executor of its own if a test wants one.

use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use anyhow::Result;
use bus::memory::MemoryBus;
use model::id::RunId;
use model::name::JobId;
use model::shard::ShardId;
use model::time::Timestamp;
use store::memory::MemoryStore;

use super::bare_executor::listen;
use super::{Ground, World, shards};

/// Begins half a second past a full one, so that no step falls on an occurrence.
const BEGIN: &str = "2026-11-22T06:45:00.500Z";

impl World {
    pub fn begin() -> Result<Self> {
        let world = Self::without_executor()?;
        tokio::spawn(listen(Arc::clone(&world.bus), Arc::clone(&world.signals)));
        Ok(Self { executes: true, ..world })
    }

    /// A world whose runs are carried out by whoever the test lets do so.
    pub fn without_executor() -> Result<Self> {
        let clock = Clock::manual(BEGIN.parse()?);
        let reading = || {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let store = Arc::new(MemoryStore::new(reading()));
        let bus = Arc::new(MemoryBus::new(reading(), Duration::from_secs(30)));
        Ok(Self::over(store, bus, clock, Ground::memory()))
    }

    /// The shard that a job is in.
    #[must_use]
    pub fn shard_of(job: &JobId) -> ShardId {
        shards().shard_of(job)
    }

    /// Lets seconds pass, one step each.
    pub async fn run(&mut self, seconds: u32) -> Result<()> {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            self.bus.wake();
            // Nothing here ever waits, so whoever listens for cancellations must be let in.
            tokio::task::yield_now().await;
            self.step().await?;
        }
        Ok(())
    }

    /// What everybody does in one second.
    pub async fn step(&mut self) -> Result<()> {
        self.work().await?;
        if self.executes { self.execute().await } else { Ok(()) }
    }

    /// The due instants of a job's runs that were started, in order.
    #[must_use]
    pub fn started_dues(&self, job: &JobId) -> Vec<Timestamp> {
        let dues = self.started.keys().filter_map(|run| match run {
            RunId::Occurrence(occurrence) if occurrence.job == *job => Some(occurrence.due_at),
            RunId::Occurrence(_) | RunId::AdHoc { .. } => None,
        });
        dues.collect()
    }

    /// Runs that were started more than once.
    #[must_use]
    pub fn doubled(&self) -> Vec<&RunId> {
        self.started.iter().filter(|(_, starts)| starts.len() > 1).map(|(run, _)| run).collect()
    }
}
