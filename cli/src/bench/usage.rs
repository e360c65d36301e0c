//! What the machine says: CPU of the processes concerned, load, and which machine it is.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Clock ticks a second in /proc/PID/stat. The kernel fixes it at 100 for user space.
const TICKS_PER_S: f64 = 100.0;
/// Bytes of an INFO answer that are read at most.
const INFO_BYTES_MAX: usize = 64 * 1024;

/// The processes whose CPU counts.
#[derive(Clone, Debug)]
pub(super) struct Processes(Vec<(&'static str, u32)>);

/// CPU seconds used so far, by process.
#[derive(Clone, Debug, Default)]
pub(super) struct Cpu(BTreeMap<&'static str, f64>);

impl Processes {
    /// Ourselves, and the servers as far as they are known.
    pub(super) fn new(redis: Option<u32>, nats: Option<u32>) -> Self {
        let servers = [("redis", redis), ("nats", nats)];
        let known = servers.into_iter().filter_map(|(name, pid)| Some((name, pid?)));
        Self([("ecron", std::process::id())].into_iter().chain(known).collect())
    }

    pub(super) fn cpu(&self) -> Cpu {
        Cpu(self.0.iter().map(|(name, pid)| (*name, cpu_s(*pid).unwrap_or(0.0))).collect())
    }

    /// Resident bytes of a process.
    pub(super) fn resident(&self, name: &str) -> Option<f64> {
        let (_, pid) = self.0.iter().find(|(known, _)| *known == name)?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1_024.0)
    }
}

impl Cpu {
    /// Seconds of all processes since an earlier reading.
    pub(super) fn since(&self, earlier: &Self) -> f64 {
        self.each_since(earlier).values().sum()
    }

    /// This reading less what these seconds cost anyway: `idle`, in seconds a second.
    pub(super) fn without_idle(&self, idle: &BTreeMap<&'static str, f64>, seconds: f64) -> Self {
        let idle_s = |name: &str| idle.get(name).copied().unwrap_or(0.0) * seconds;
        Self(self.0.iter().map(|(name, now)| (*name, now - idle_s(name))).collect())
    }

    pub(super) fn each_since(&self, earlier: &Self) -> BTreeMap<&'static str, f64> {
        let before = |name: &str| earlier.0.get(name).copied().unwrap_or(0.0);
        self.0.iter().map(|(name, now)| (*name, now - before(name))).collect()
    }
}

/// User and system time of a process, its threads included.
fn cpu_s(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what is counted comes after the last of them.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_S)
}

/// The load averages, as the kernel says them.
pub(super) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The processor and how many of it.
pub(super) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// What Redis says of itself: `INFO`, by field. Empty if it doesn't let us (a password is needed, or TLS).
pub(super) async fn redis_info(url: &str) -> BTreeMap<String, String> {
    let ask = async {
        let place = url.strip_prefix("redis://")?.split('/').next()?;
        let mut stream = TcpStream::connect(place).await.ok()?;
        stream.write_all(b"INFO\r\n").await.ok()?;
        let mut text = Vec::new();
        while text.len() < INFO_BYTES_MAX && !text.ends_with(b"\r\n\r\n") {
            let read = stream.read_buf(&mut text).await.ok()?;
            // The last section is the keyspace; its end is the end of the answer.
            if read == 0 || text.windows(10).any(|seen| seen == b"# Keyspace") {
                break;
            }
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    };
    let text = ask.await.unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}
