//! One line of a crontab: comment, variable, entry, or neither. By cronie's rules.

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Empty or a comment.
    Blank,
    Variable {
        name: String,
        value: String,
    },
    Entry(Entry<'a>),
    Broken(&'static str),
}

/// Times and what follows them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// SUSE's and cronie's `-` in front: don't log.
    pub(super) is_quiet: bool,
    /// Five fields with single spaces, or a nickname such as `@daily`.
    pub(super) times: String,
    /// The command, with the user's name in front in a system crontab.
    pub(super) rest: &'a str,
}

const BLANKS: [char; 2] = [' ', '\t'];

pub(super) fn classify(line: &str) -> Line<'_> {
    let line = line.trim_start_matches(BLANKS);
    if line.is_empty() || line.starts_with('#') {
        return Line::Blank;
    }
    match variable(line) {
        Some((name, value)) => Line::Variable { name, value },
        None => entry(line),
    }
}

/// `NAME = value`, both with or without quotes. Nothing is expanded, and there is no comment behind a value.
fn variable(line: &str) -> Option<(String, String)> {
    let (name, rest) = match line.strip_prefix(['\'', '"']) {
        Some(inside) => {
            let (name, rest) = inside.split_once(line.chars().next()?)?;
            if name.contains('=') {
                return None;
            }
            (name, rest)
        }
        None => {
            let end = line.find(|c: char| c == '=' || c.is_whitespace())?;
            line.split_at(end)
        }
    };
    let value = rest.trim_start().strip_prefix('=')?.trim();
    if name.is_empty() {
        return None;
    }
    let value = match value.chars().next() {
        // Text behind the closing quote makes it no variable.
        Some(quote @ ('\'' | '"')) => value[1..].split_once(quote).filter(|(_, rest)| rest.is_empty())?.0,
        _ => value,
    };
    Some((name.into(), value.into()))
}

fn entry(line: &str) -> Line<'_> {
    let (is_quiet, line) = match line.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let count = if line.starts_with('@') { 1 } else { 5 };
    let mut fields = Vec::with_capacity(count);
    let mut rest = line;
    for _ in 0..count {
        rest = rest.trim_start_matches(BLANKS);
        let end = rest.find(BLANKS).unwrap_or(rest.len());
        if end > 0 {
            fields.push(&rest[..end]);
        }
        rest = &rest[end..];
    }
    let rest = rest.trim_matches(BLANKS);
    if fields.len() < count {
        return Line::Broken("is neither a comment, nor NAME=value, nor five times and a command");
    }
    if rest.is_empty() {
        return Line::Broken("has no command");
    }
    Line::Entry(Entry { is_quiet, times: fields.join(" "), rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, value: &str) -> Line<'static> {
        Line::Variable { name: name.into(), value: value.into() }
    }

    fn entry<'a>(times: &str, rest: &'a str) -> Line<'a> {
        Line::Entry(Entry { is_quiet: false, times: times.into(), rest })
    }

    #[test]
    fn variables_have_cronies_quotes() {
        for (line, name, value) in [
            ("A=b", "A", "b"),
            ("  A = b c  ", "A", "b c"),
            ("A\t=\t'b '", "A", "b "),
            ("A=\"b'c\"", "A", "b'c"),
            ("'A B'=c", "A B", "c"),
            ("A=", "A", ""),
            ("A=''", "A", ""),
            ("A=b # c", "A", "b # c"),
            ("A=b=c", "A", "b=c"),
            ("MAILTO=\"\"", "MAILTO", ""),
            ("PATH=$HOME/bin:/bin", "PATH", "$HOME/bin:/bin"),
            ("A=b'c'", "A", "b'c'"),
        ] {
            assert_eq!(classify(line), variable(name, value), "{line}");
        }
    }

    #[test]
    fn entries_are_times_and_the_rest() {
        for (line, times, rest) in [
            ("* * * * * x", "* * * * *", "x"),
            ("\t*/5\t0-6 * *  mon-fri \t x  y ", "*/5 0-6 * * mon-fri", "x  y"),
            ("@daily x=y z", "@daily", "x=y z"),
            ("0 0 1 1 * A=b c", "0 0 1 1 *", "A=b c"),
            ("0 0 1 JAN * root x", "0 0 1 JAN *", "root x"),
        ] {
            assert_eq!(classify(line), entry(times, rest), "{line}");
        }
        assert!(matches!(classify("-*/5 * * * * x"), Line::Entry(Entry { is_quiet: true, .. })));
    }

    #[test]
    fn blanks_and_broken_lines() {
        for line in ["", "  \t", "# x", "   # A=b"] {
            assert_eq!(classify(line), Line::Blank, "{line}");
        }
        for line in
            ["hello", "* * * *", "* * * * *", "@daily", "@", "-", "A='b' c", "A='b", "=b", "'A=b'=c", "'A"]
        {
            assert!(matches!(classify(line), Line::Broken(_)), "{line}: {:?}", classify(line));
        }
    }
}
