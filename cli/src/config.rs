//! Settings that don't come from the command line: `ecron.toml`, and what a running `ecron up` left for us.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::durability::Profile;
use serde::{Deserialize, Serialize};

use crate::args::Servers;
use crate::failure::Failure;

/// The settings file, looked for in the working folder.
const SETTINGS_FILE: &str = "ecron.toml";
/// Where a running `ecron up` says how to reach it, below its data folder.
pub(crate) const UP_FILE: &str = "up.json";
/// The data folder of `ecron up` unless given: looked for here and in the folders above.
const UP_DATA_DEFAULT: &str = ".ecron/data";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    redis_url: Option<String>,
    nats_url: Option<String>,
    profile: Option<String>,
}

/// The durability profile: argument or environment, else `ecron.toml`, else `dev`.
pub(crate) fn profile(servers: &Servers) -> Result<Profile, Failure> {
    if let Some(profile) = servers.profile {
        return Ok(profile);
    }
    let set = settings()?.profile;
    set.map_or(Ok(Profile::default()), |text| {
        text.parse().map_err(|problem| Failure::input(format!("{SETTINGS_FILE}: profile: {problem}")))
    })
}

/// What `ecron up` writes for other commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpFile {
    pub(crate) pid: u32,
    pub(crate) redis_url: String,
    pub(crate) nats_url: String,
    pub(crate) data: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) console_url: Option<String>,
}

/// A duration argument, such as `30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    model::schedule::parse_duration(text).map_err(|problem| problem.to_string())
}

/// Which server a command needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    Redis,
    Nats,
}

/// The URL of a server: argument or environment, else `ecron.toml`, else a running `ecron up`.
pub(crate) fn url(servers: &Servers, server: Server) -> Result<String, Failure> {
    let given = match server {
        Server::Redis => &servers.redis_url,
        Server::Nats => &servers.nats_url,
    };
    if let Some(url) = given {
        return Ok(url.clone());
    }
    let settings = settings()?;
    let set = match server {
        Server::Redis => settings.redis_url,
        Server::Nats => settings.nats_url,
    };
    if let Some(url) = set {
        return Ok(url);
    }
    match running_up() {
        Some(up) => Ok(match server {
            Server::Redis => up.redis_url,
            Server::Nats => up.nats_url,
        }),
        None => Err(Failure::failed(match server {
            Server::Redis => {
                "no Redis is known: start `ecron up`, or give --redis-url (ECRON_REDIS_URL, or redis_url in ecron.toml)"
            }
            Server::Nats => {
                "no NATS is known: start `ecron up`, or give --nats-url (ECRON_NATS_URL, or nats_url in ecron.toml)"
            }
        })),
    }
}

fn settings() -> Result<Settings, Failure> {
    match std::fs::read_to_string(SETTINGS_FILE) {
        Ok(text) => toml::from_str(&text)
            .map_err(|problem| Failure::input(format!("failed to read {SETTINGS_FILE}: {problem}"))),
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
        Err(problem) => Err(Failure::input(format!("failed to read {SETTINGS_FILE}: {problem}"))),
    }
}

/// The newest `ecron up` that still runs: of this folder or one above, else of this user.
fn running_up() -> Option<UpFile> {
    let here = std::env::current_dir().ok()?;
    let near = here.ancestors().map(|folder| folder.join(UP_DATA_DEFAULT).join(UP_FILE));
    near.chain(user_up_file()).find_map(|path| read_up(&path))
}

fn read_up(path: &Path) -> Option<UpFile> {
    let up: UpFile = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    Path::new("/proc").join(up.pid.to_string()).exists().then_some(up)
}

/// One place for each user, so that `ecron get` works from any folder.
pub(crate) fn user_up_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    Some(state.or_else(home)?.join("ecron").join(UP_FILE))
}
