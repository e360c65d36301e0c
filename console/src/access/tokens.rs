//! Bearer tokens: who they belong to and what they allow. A token never leaves this file, not even for a log.

use std::fmt;
use std::path::Path;

use subtle::{Choice, ConstantTimeEq};

/// The shortest token: 128 bits as hexadecimal digits are 32 characters, as Base64 22.
pub(crate) const TOKEN_CHARS_MIN: usize = 20;
/// The longest.
pub(crate) const TOKEN_CHARS_MAX: usize = 512;
/// Tokens of one console.
pub(crate) const TOKENS_MAX: usize = 1_000;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Looking.
    Read,
    /// Looking, and changing.
    Write,
}

/// Why credentials can't be read. Says where, never what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    #[error("read {path}: {problem}")]
    File { path: String, problem: String },
    #[error("use {path}: other users of this machine can read it; `chmod o-r` it first")]
    Readable { path: String },
    #[error("read line {line} of the tokens: {problem}")]
    Line { line: usize, problem: String },
}

/// The tokens that are let in. None: whoever reaches the console may do anything.
#[derive(Clone, Default)]
pub struct Credentials {
    tokens: Vec<Token>,
}

#[derive(Clone)]
struct Token {
    name: String,
    scope: Scope,
    secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.tokens.iter().map(|token| token.name.as_str()).collect();
        f.debug_struct("Credentials").field("names", &names).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads lines `NAME read|write TOKEN`; empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    /// The first line that isn't like that.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let mut tokens: Vec<Token> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let refused = |problem: String| CredentialsError::Line { line: index + 1, problem };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, scope, secret] = words.as_slice() else {
                return Err(refused("expected NAME, `read` or `write`, and TOKEN".into()));
            };
            let scope = match *scope {
                "read" => Scope::Read,
                "write" => Scope::Write,
                _ => return Err(refused("the second word is neither `read` nor `write`".into())),
            };
            let chars = secret.chars().count();
            if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&chars) {
                let range = format!("{TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} characters");
                return Err(refused(format!("the token has {chars} characters; expected {range}")));
            }
            if tokens.len() == TOKENS_MAX {
                return Err(refused(format!("there are more than {TOKENS_MAX} tokens (TOKENS_MAX)")));
            }
            tokens.push(Token { name: (*name).to_owned(), scope, secret: (*secret).to_owned() });
        }
        Ok(Self { tokens })
    }

    /// Reads a file of such lines.
    ///
    /// # Errors
    /// It can't be read, everybody can read it, or it has a wrong line.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        use std::os::unix::fs::PermissionsExt;
        let shown = path.display().to_string();
        let failed = |problem: std::io::Error| CredentialsError::File {
            path: shown.clone(),
            problem: problem.to_string(),
        };
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o004 != 0 {
            return Err(CredentialsError::Readable { path: shown });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(failed)?)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whose token this is, and what it allows. Takes as long for a wrong one as for a right one: every token is compared,
    /// each in constant time.
    pub(crate) fn recognise(&self, secret: &str) -> Option<(&str, Scope)> {
        let mut found = None;
        for token in &self.tokens {
            let same: Choice = token.secret.as_bytes().ct_eq(secret.as_bytes());
            if bool::from(same) {
                found = Some((token.name.as_str(), token.scope));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# who may\nann  write  0123456789abcdef0123\n\ngrafana read abcdefghijklmnopqrstuvwxyz\n";

    #[test]
    fn a_token_has_a_name_and_a_scope() {
        let credentials = Credentials::parse(TEXT).unwrap();
        assert_eq!(credentials.recognise("0123456789abcdef0123"), Some(("ann", Scope::Write)));
        assert_eq!(credentials.recognise("abcdefghijklmnopqrstuvwxyz"), Some(("grafana", Scope::Read)));
        for wrong in ["", "0123456789abcdef012", "0123456789abcdef01234", "ann"] {
            assert_eq!(credentials.recognise(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_without_its_token() {
        for (text, part) in [
            ("ann write", "line 1"),
            ("\nann admin 0123456789abcdef0123", "line 2"),
            ("ann write 0123456789", "expected 20 to 512 characters"),
        ] {
            let problem = Credentials::parse(text).unwrap_err().to_string();
            assert!(problem.contains(part) && !problem.contains("0123456789abcdef"), "{problem}");
        }
        let shown = format!("{:?}", Credentials::parse(TEXT).unwrap());
        assert!(shown.contains("ann") && !shown.contains("0123456789"), "{shown}");
    }
}
