//! Whose crontab it is: a user's (`crontab -e`), or the system's, whose entries have a user's name behind the times.

use super::line::{Line, classify};

/// Which kind of file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `crontab -l`, `/var/spool/cron/…`.
    User,
    /// `/etc/crontab`, `/etc/cron.d/*`.
    System,
    /// By the file's path, else by what is in it.
    Auto,
}

/// Names of users that are no commands. One of them behind the times makes a system crontab.
const SURE_USERS: [&str; 8] =
    ["root", "www-data", "nobody", "daemon", "apache", "postgres", "_apt", "wwwrun"];

/// The kind of a file, and how it shows.
pub(super) fn detect(file_name: &str, lines: &[String]) -> (Format, &'static str) {
    let parts: Vec<&str> = file_name.split(['/', '\\']).filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [.., "etc", "crontab"] => return (Format::System, "it is /etc/crontab"),
        [.., "cron.d", _] => return (Format::System, "it is in a folder cron.d"),
        [.., "cron", "crontabs" | "tabs", _] | [.., "spool", "cron", _] => {
            return (Format::User, "it is a spool file");
        }
        _ => {}
    }
    if lines.iter().any(|line| is_header(line)) {
        return (Format::System, "a comment in it names a column for the user");
    }
    let commands: Vec<&str> = lines
        .iter()
        .filter_map(|line| match classify(line) {
            Line::Entry(entry) => Some(entry.rest),
            _ => None,
        })
        .collect();
    let users = || commands.iter().map(|command| user_column(command));
    let is_system =
        users().all(|user| user.is_some()) && users().flatten().any(|(user, _)| SURE_USERS.contains(&user));
    if is_system {
        (Format::System, "every entry has a user's name behind its times")
    } else {
        (Format::User, "no user's names behind the times")
    }
}

/// Splits the user's name from the command behind it, if both are there.
pub(super) fn user_column(rest: &str) -> Option<(&str, &str)> {
    let (user, command) = rest.split_once([' ', '\t'])?;
    let command = command.trim_start_matches([' ', '\t']);
    (is_user_name(user) && !command.is_empty()).then_some((user, command))
}

fn is_user_name(word: &str) -> bool {
    (1..=32).contains(&word.len())
        && word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'$'))
}

/// Debian's and Red Hat's `/etc/crontab` both explain their columns in a comment.
fn is_header(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix('#') else { return false };
    let words: Vec<&str> = comment.split_whitespace().collect();
    let user = words.iter().position(|word| matches!(*word, "user" | "user-name" | "username"));
    user.is_some_and(|user| user >= 5 && words.get(user + 1).is_some_and(|word| word.starts_with("command")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(file_name: &str, text: &str) -> Format {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        detect(file_name, &lines).0
    }

    #[test]
    fn the_path_decides_where_it_can() {
        for (path, format) in [
            ("/etc/crontab", Format::System),
            ("/tmp/x/etc/cron.d/tidy", Format::System),
            ("cron.d/tidy", Format::System),
            ("/var/spool/cron/crontabs/root", Format::User),
            ("/var/spool/cron/root", Format::User),
            ("crontab", Format::User),
            ("-", Format::User),
        ] {
            assert_eq!(detected(path, "* * * * * php run\n"), format, "{path}");
        }
    }

    #[test]
    fn the_content_decides_otherwise() {
        for (text, format) in [
            ("* * * * * root tidy\n", Format::System),
            ("@daily www-data php run\n5 * * * * tidy run\n", Format::System),
            ("* * * * * root tidy\n* * * * * /bin/x y\n", Format::User),
            ("* * * * * php run\n", Format::User),
            ("* * * * * root\n", Format::User),
            ("# m h dom mon dow user\tcommand\n* * * * * php run\n", Format::System),
            ("# *  *  *  *  * user-name  command to be executed\n", Format::System),
            ("# m h  dom mon dow   command\n* * * * * php run\n", Format::User),
            ("# the user command\n", Format::User),
            ("", Format::User),
        ] {
            assert_eq!(detected("my.cron", text), format, "{text}");
        }
    }
}
