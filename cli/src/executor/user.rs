//! Users: who a command of a system crontab runs as.

use std::path::Path;

use executor_sdk::HandlerError;
use rustix::process::geteuid;
use tokio::process::Command;

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
    /// It is the one that the executor runs as.
    pub(super) ourselves: bool,
}

/// Looks a user up, and checks that a command may become it.
pub(super) async fn look_up(name: &str) -> Result<User, HandlerError> {
    let user = passwd_entry(name).await?;
    if geteuid().is_root() || user.ourselves {
        Ok(user)
    } else {
        Err(HandlerError::permanent(format!(
            "to run as user {name}, the executor has to run as root; it runs with user id {}",
            geteuid().as_raw()
        )))
    }
}

/// `getent` rather than `/etc/passwd`: users may live in LDAP.
async fn passwd_entry(name: &str) -> Result<User, HandlerError> {
    let unknown = || HandlerError::permanent(format!("there is no user {name:?} on this host"));
    // A leading dash would be an option, and ':' never is in a name.
    if name.is_empty() || name.starts_with('-') || name.contains(':') {
        return Err(unknown());
    }
    let answer = Command::new("getent").args(["passwd", name]).kill_on_drop(true).output().await;
    let answer = answer.map_err(|error| format!("failed to look up user {name} with getent: {error}"))?;
    let text = String::from_utf8_lossy(&answer.stdout);
    parse(text.lines().next().unwrap_or_default(), geteuid().as_raw()).ok_or_else(unknown)
}

fn parse(entry: &str, own_uid: u32) -> Option<User> {
    let fields: Vec<&str> = entry.split(':').collect();
    let [name, _, uid, gid, _, home, _] = fields.as_slice() else { return None };
    let uid = uid.parse().ok()?;
    let user = User {
        name: (*name).into(),
        uid,
        gid: gid.parse().ok()?,
        home: (*home).into(),
        ourselves: uid == own_uid,
    };
    Some(user)
}

/// The words before a command that make it run as another user, with that user's groups, and die with its parent: the
/// kernel forgets a wish to die with the parent when the user changes, so it has to be made after.
pub(super) fn become_user(user: &User, setpriv: &Path) -> Vec<String> {
    vec![
        setpriv.display().to_string(),
        format!("--reuid={}", user.uid),
        format!("--regid={}", user.gid),
        "--init-groups".into(),
        "--pdeathsig=KILL".into(),
        "--".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read() {
        let user = parse("www-data:x:33:34:www-data:/var/www:/usr/sbin/nologin", 33).unwrap();
        let expected =
            User { name: "www-data".into(), uid: 33, gid: 34, home: "/var/www".into(), ourselves: true };
        assert_eq!(user, expected);
        assert!(!parse("www-data:x:33:34:www-data:/var/www:/usr/sbin/nologin", 0).unwrap().ourselves);
        for bad in ["", "a:b", "www-data:x:many:33::/:/bin/sh"] {
            assert_eq!(parse(bad, 0), None, "{bad}");
        }
    }
}
