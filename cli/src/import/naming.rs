//! Names for jobs that had none: from the command, readable, and the same at every import of the same file.

use std::collections::BTreeSet;

use model::name::Name;

/// Characters of a name before its number; a number is added within `NAME_CHARS_MAX`.
const STEM_CHARS_MAX: usize = 48;
/// Commands that only test or prepare something: the job is what follows.
const PREPARATIONS: [&str; 16] = [
    "[", "[[", "test", "command", "which", "cd", "sleep", "export", "set", "umask", ".", "source", "true",
    ":", "ulimit", "!",
];
/// Words of the shell that stand before a command.
const KEYWORDS: [&str; 8] = ["if", "then", "else", "elif", "do", "while", "(", "{"];
/// Commands that run the command behind them, and how many words of their own come first.
const WRAPPERS: [(&str, usize); 14] = [
    ("nice", 0),
    ("ionice", 0),
    ("chrt", 1),
    ("nohup", 0),
    ("exec", 0),
    ("time", 0),
    ("env", 0),
    ("sudo", 0),
    ("setsid", 0),
    ("chronic", 0),
    ("eatmydata", 0),
    ("systemd-cat", 0),
    ("flock", 1),
    ("timeout", 1),
];
/// Programs that run the file behind them.
const INTERPRETERS: [&str; 14] = [
    "sh", "bash", "dash", "zsh", "ksh", "python", "python2", "python3", "perl", "php", "ruby", "node",
    "java", "Rscript",
];

/// Hands out names; never the same one twice.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// `backup-sh`, and `backup-sh-2` for the next one.
    pub(super) fn name(&mut self, command: &str) -> Name {
        let stem = stem(command);
        let numbered =
            (1..).map(|number| if number == 1 { stem.clone() } else { format!("{stem}-{number}") });
        // Endless, and only finitely many names are taken.
        let free = numbered.into_iter().find(|name| !self.taken.contains(name)).unwrap_or_default();
        self.taken.insert(free.clone());
        Name::new(&free).unwrap_or_else(|_| Name::default_name())
    }
}

/// A name for a command line, without a number.
fn stem(command: &str) -> String {
    let words = main_command(command);
    let mut words = words.iter().map(String::as_str);
    let Some(mut program) = words.next() else { return "job".into() };
    let mut rest: Vec<&str> = words.collect();
    if INTERPRETERS.contains(&base(program)) {
        let script = rest.iter().position(|word| !word.starts_with('-'));
        // `sh -c '…'` names no file.
        if let Some(script) = script.filter(|_| !rest.contains(&"-c") && !rest.contains(&"-e")) {
            program = rest[script];
            rest.drain(..=script);
        }
    }
    let mut name = slug(base(program));
    if base(program) == "run-parts" {
        // `run-parts --report /etc/cron.daily`: the folder says which.
        if let Some(folder) = rest.iter().find(|word| !word.starts_with('-')) {
            name = format!("{name}-{}", slug(base(folder)));
        }
    } else if let Some(verb) = rest.first().filter(|word| is_verb(word)) {
        name = format!("{name}-{}", slug(verb));
    }
    let name: String = name.trim_matches('-').chars().take(STEM_CHARS_MAX).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "job".into() } else { name.into() }
}

/// The words of the first command on the line that does more than test or prepare.
fn main_command(line: &str) -> Vec<String> {
    let commands = commands(line);
    let stripped: Vec<Vec<String>> = commands.into_iter().map(without_wrappers).collect();
    let is_main = |words: &&Vec<String>| {
        words.first().is_some_and(|word| !PREPARATIONS.contains(&word.as_str())) && !only_waits(words)
    };
    let found = stripped.iter().find(is_main).or_else(|| stripped.iter().find(|words| !words.is_empty()));
    found.cloned().unwrap_or_default()
}

/// `perl -e 'sleep int(rand(3600))'`, in front of what is to run at a random time.
fn only_waits(words: &[String]) -> bool {
    words.first().is_some_and(|word| INTERPRETERS.contains(&base(word)))
        && words.iter().any(|word| word.starts_with("sleep ") || word.starts_with("sleep("))
}

/// Splits a line at the shell's operators, knowing about quotes. Good enough to find a name; nothing is run by it.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word = String::new();
    let mut quote = None;
    // Inside `$(…)`: part of a word, whatever it holds.
    let mut nested = 0_usize;
    let mut chars = line.chars().take(4096);
    let end_word = |word: &mut String, commands: &mut Vec<Vec<String>>| {
        if !word.is_empty()
            && let Some(last) = commands.last_mut()
        {
            last.push(std::mem::take(word));
        }
    };
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.push(c),
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') if nested > 0 || word.ends_with('$') => nested += 1,
            (None, ')') if nested > 0 => nested -= 1,
            (None, c) if nested > 0 => word.push(c),
            (None, '\\') => word.extend(chars.next()),
            (None, ' ' | '\t') => end_word(&mut word, &mut commands),
            (None, '&' | '|' | ';' | '(' | ')' | '\n') => {
                end_word(&mut word, &mut commands);
                commands.push(Vec::new());
            }
            (None, _) => word.push(c),
        }
    }
    end_word(&mut word, &mut commands);
    commands
}

/// Without keywords, assignments and wrappers in front.
fn without_wrappers(words: Vec<String>) -> Vec<String> {
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.peek() {
        let wrapper = WRAPPERS.iter().find(|(name, _)| *name == base(word));
        if let Some((_, own)) = wrapper {
            let mut own = *own;
            words.next();
            // Options of the wrapper, an option's own number (`nice -n 10`), and its words (`flock FILE`).
            while let Some(word) = words.peek() {
                let is_option = word.starts_with('-') || word.bytes().all(|b| b.is_ascii_digit());
                if !is_option && own == 0 {
                    break;
                }
                if !word.starts_with('-') {
                    own = own.saturating_sub(1);
                }
                words.next();
            }
        } else if KEYWORDS.contains(&word.as_str()) || is_assignment(word) {
            words.next();
        } else {
            break;
        }
    }
    words.collect()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

/// A subcommand such as `pull` or `schedule:run`: a word that is neither a path, an option nor a value.
fn is_verb(word: &str) -> bool {
    word.len() <= 24
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b':' | b'_'))
}

fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// Small letters, digits and single hyphens.
fn slug(word: &str) -> String {
    let mut slug = String::new();
    for c in word.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches('-').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_runs() {
        for (command, name) in [
            ("/usr/local/bin/backup.sh --all", "backup-sh"),
            ("backup.sh > /dev/null 2>&1", "backup-sh"),
            ("cd /srv/app && php artisan schedule:run >> /dev/null 2>&1", "artisan-schedule-run"),
            ("[ -x /usr/lib/tidy ] && if [ ! -d /run/x ]; then /usr/lib/tidy; fi", "tidy"),
            ("test -e /run/systemd/system || MODE=1 /sbin/scrub_all -A", "scrub-all"),
            ("command -v sa1 > /dev/null && sa1 1 1", "sa1"),
            ("if [ -x /usr/bin/list ]; then /usr/bin/list digests --periodic; fi", "list-digests"),
            ("nice -n 10 ionice -c3 /opt/Report.PY weekly", "report-py-weekly"),
            ("flock -n /run/lock/x /usr/bin/sync_all", "sync-all"),
            ("timeout 5m curl -fsS http://localhost/tick", "curl"),
            ("/usr/bin/env python3 -u /srv/jobs/clean.py", "clean-py"),
            ("bash -c 'echo hi'", "bash"),
            ("run-parts --report /etc/cron.daily", "run-parts-cron-daily"),
            ("git pull", "git-pull"),
            ("[ $(date +%d) -le 7 ] && /opt/first-week", "first-week"),
            ("perl -e 'sleep int(rand(43200))' && renew -q", "renew"),
            ("cp a \"b-$(date)\"", "cp-a"),
            ("( cd /x; make )", "make"),
            ("sleep 5", "sleep"),
            ("\"/opt/my tools/do it\" now", "do-it-now"),
            ("/usr/bin/Ärger", "rger"),
            ("%%%", "job"),
            ("", "job"),
            ("||", "job"),
            (&"x".repeat(300), &"x".repeat(48)),
        ] {
            assert_eq!(stem(command), name, "{command}");
        }
    }

    #[test]
    fn names_are_never_given_twice() {
        let mut names = Names::default();
        let given: Vec<String> =
            ["a", "a", "a-2", "a", "a-2"].iter().map(|command| names.name(command).to_string()).collect();
        assert_eq!(given, ["a", "a-2", "a-2-2", "a-3", "a-2-3"]);
    }
}
