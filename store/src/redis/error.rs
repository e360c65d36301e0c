//! What Redis answers, in the classes that callers tell apart: refused, failed, unknown; and the scripts' own words.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::StoreError;

/// The class of an error on a connection that was there: the command may have been sent.
pub(super) fn classify(error: &RedisError) -> StoreError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Io if error.is_connection_refusal() => StoreError::Failed(text),
        // Timed out, or dropped between sending and hearing: nobody knows.
        ErrorKind::Io => StoreError::Unknown(text),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask,
        ) => StoreError::Failed(text),
        _ => by_code(error, text),
    }
}

fn by_code(error: &RedisError, text: String) -> StoreError {
    match error.code() {
        Some("FENCED") => StoreError::Fenced,
        Some("CORRUPT") => {
            let detail = error.detail().unwrap_or_default();
            let (key, problem) = detail.split_once(' ').unwrap_or((detail, "unreadable"));
            StoreError::Corrupt { key: key.into(), problem: problem.into() }
        }
        // A script of somebody else holds the server; ours wasn't started.
        Some("BUSY") => StoreError::Failed(text),
        // OOM, MISCONF, READONLY, NOPERM, WRONGTYPE, NOREPLICAS, and whatever else a server says in words.
        _ => StoreError::Refused(text),
    }
}

/// The class of an error while connecting: nothing was sent yet.
pub(super) fn classify_connecting(error: &RedisError) -> StoreError {
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => {
            StoreError::Refused(error.to_string())
        }
        _ => match classify(error) {
            StoreError::Unknown(text) => StoreError::Failed(text),
            other => other,
        },
    }
}

/// An answer of another shape than the script or command promises.
pub(super) fn unexpected(what: &str) -> StoreError {
    StoreError::Refused(format!("{what} answered in an unexpected form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str, detail: &str) -> RedisError {
        redis::make_extension_error(code.into(), Some(detail.into()))
    }

    #[test]
    fn errors_fall_into_their_classes() {
        let io = |kind| RedisError::from(std::io::Error::from(kind));
        assert_eq!(classify(&server("FENCED", "x")), StoreError::Fenced);
        assert_eq!(
            classify(&server("CORRUPT", "ecron:{07}:cursor a bound is no number")),
            StoreError::Corrupt { key: "ecron:{07}:cursor".into(), problem: "a bound is no number".into() }
        );
        for code in ["OOM", "MISCONF", "READONLY", "NOPERM", "WRONGTYPE"] {
            assert!(matches!(classify(&server(code, "x")), StoreError::Refused(_)), "{code}");
        }
        assert!(matches!(classify(&server("BUSY", "x")), StoreError::Failed(_)));
        assert!(matches!(classify(&io(std::io::ErrorKind::ConnectionRefused)), StoreError::Failed(_)));
        for kind in [std::io::ErrorKind::TimedOut, std::io::ErrorKind::BrokenPipe] {
            assert!(matches!(classify(&io(kind)), StoreError::Unknown(_)), "{kind:?}");
            assert!(matches!(classify_connecting(&io(kind)), StoreError::Failed(_)), "{kind:?}");
        }
    }
}
