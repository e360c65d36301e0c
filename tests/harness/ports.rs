//! Ports that stay ours while a server on them is down.
//!
//! They are below the range that the kernel hands out by itself, and locked through a file against other test processes.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, bail};

/// Ports in one range: Redis, NATS, the console, and one to spare.
const SIZE: u16 = 4;
const FIRST: u16 = 20_000;
const RANGES: u16 = 3_000;

/// `SIZE` neighbouring ports, until it is dropped.
#[derive(Debug)]
pub struct Ports {
    base: u16,
    _lock: File,
}

impl Ports {
    /// Free ports that no other test has.
    pub fn claim() -> anyhow::Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = std::env::temp_dir().join("ecron-test-ports");
        std::fs::create_dir_all(&folder).context("create the folder of port locks")?;
        // Processes begin at different places, so that they rarely try the same.
        let begin = u16::try_from(u32::from(RANGES).min(std::process::id() * 37 % u32::from(RANGES)))?;
        for _ in 0..RANGES {
            let number = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % RANGES;
            let base = FIRST + number * SIZE;
            let lock = File::create(folder.join(base.to_string()))?;
            let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
            if lock.try_lock().is_ok() && (base..base + SIZE).all(free) {
                return Ok(Self { base, _lock: lock });
            }
        }
        bail!("find free ports")
    }

    /// The first of them.
    #[must_use]
    pub fn base(&self) -> u16 {
        self.base
    }
}
