//! From a crontab's command to what is run: `%` and standard input, shell, folder, environment, user.

use model::codes::CodeRanges;
use model::spec::ExecSpec;

use super::variables::Variables;

/// The shell that cron uses unless told otherwise; `exec.shell` uses it too.
const DEFAULT_SHELL: &str = "/bin/sh";

/// What an entry runs.
pub(super) fn exec(command: &str, user: Option<&str>, variables: &Variables) -> ExecSpec {
    let (line, stdin) = split_input(command);
    let shell = variables.get("SHELL").filter(|shell| !shell.is_empty()).unwrap_or(DEFAULT_SHELL);
    let (command, shell) = if shell == DEFAULT_SHELL {
        (Vec::new(), Some(line))
    } else {
        (vec![shell.to_owned(), "-c".to_owned(), line], None)
    };
    // cron starts a command in HOME; a relative one would mean another folder on every machine.
    let working_dir = variables.get("HOME").filter(|home| home.starts_with('/')).map(str::to_owned);
    ExecSpec {
        command,
        shell,
        env: variables.environment(),
        stdin,
        working_dir,
        user: user.map(str::to_owned),
        permanent_exit_codes: CodeRanges::default(),
    }
}

/// Up to the first `%` that isn't escaped it is the command; what follows is its standard input, where each further
/// `%` begins a new line. `\%` is a percent sign in both; any other backslash stays what it is.
fn split_input(text: &str) -> (String, Option<String>) {
    let mut command = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => return (trimmed(command), input(chars.as_str())),
            '\\' => match chars.next() {
                Some('%') => command.push('%'),
                Some(other) => command.extend(['\\', other]),
                None => command.push('\\'),
            },
            c => command.push(c),
        }
    }
    (command, None)
}

fn trimmed(command: String) -> String {
    command.trim_end_matches([' ', '\t']).to_owned()
}

/// Ends with a newline, as cron makes sure; nothing at all is no input.
fn input(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let mut input = String::new();
    let mut is_escaped = false;
    for c in text.chars() {
        match (is_escaped, c) {
            (true, '%') => input.push('%'),
            (true, '\\') => input.push('\\'),
            (true, c) => input.extend(['\\', c]),
            (false, '%') => input.push('\n'),
            (false, '\\') => {}
            (false, c) => input.push(c),
        }
        // Unlike in the command, a backslash that follows one escapes too: cronie's rule for the input.
        is_escaped = c == '\\';
    }
    if is_escaped {
        input.push('\\');
    }
    if !input.ends_with('\n') {
        input.push('\n');
    }
    Some(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_divide_command_and_input() {
        for (text, command, stdin) in [
            ("date", "date", None),
            ("date +\\%H:\\%M", "date +%H:%M", None),
            ("cat", "cat", None),
            ("cat %", "cat", None),
            ("cat%a", "cat", Some("a\n")),
            ("mail -s x % Hello,%%this is cron.%", "mail -s x", Some(" Hello,\n\nthis is cron.\n")),
            ("cat%50\\% off%", "cat", Some("50% off\n")),
            ("echo a\\b", "echo a\\b", None),
            ("echo a\\\\%b", "echo a\\\\", Some("b\n")),
            ("cat%a\\\\%b", "cat", Some("a\\%b\n")),
            ("cat%a\\nb\\", "cat", Some("a\\nb\\\n")),
            ("x\\", "x\\", None),
            ("%x", "", Some("x\n")),
        ] {
            assert_eq!(split_input(text), (command.to_owned(), stdin.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn the_shell_is_the_crontabs() {
        let mut variables = Variables::default();
        assert_eq!(exec("a b", None, &variables).shell.as_deref(), Some("a b"));
        variables.set("SHELL", "/bin/bash");
        variables.set("HOME", "/srv");
        let exec = exec("a b", Some("www"), &variables);
        assert_eq!(exec.command, ["/bin/bash", "-c", "a b"]);
        assert_eq!(
            (exec.shell, exec.working_dir.as_deref(), exec.user.as_deref()),
            (None, Some("/srv"), Some("www"))
        );
        assert_eq!(exec.env["SHELL"], "/bin/bash");
    }
}
