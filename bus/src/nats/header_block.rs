//! Whether the NATS client survives a message: its header block and its subject, byte for byte.
//!
//! The client gives up its connection on a block that it can't read, and its task panics on a carriage return inside a
//! value. So this must judge exactly as the client does, by the client's own types: stricter, and a sweep would
//! take messages that an executor is working on; laxer, and it would leave the one that kills.

use async_nats::{HeaderName, HeaderValue, StatusCode};
use model::limits::{ERROR_BYTES_MAX, HEADER_BYTES_MAX};

use crate::wire::event::bounded;
use crate::wire::headers::{Headers, REPEATED, UNREADABLE};

const VERSION: &str = "NATS/1.0";

/// What is wrong with a message, and what of its headers can be told all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) problem: String,
    /// Well-formed headers as they were, and under `UNREADABLE` the other lines, escaped. So nothing is lost, and a
    /// redrive is refused instead of going ahead without what couldn't be read.
    pub(super) headers: Headers,
}

/// Checks a message as the server stores it. An empty block is a message without headers.
pub(super) fn check(subject: &str, block: &[u8]) -> Result<(), Malformed> {
    let mut reading = Reading::default();
    // The server says a subject in JSON, where whatever isn't UTF-8 has become U+FFFD. The client splits the protocol's
    // line at every kind of white space that Unicode knows; the server only at its own.
    if subject.contains(|c: char| c == char::REPLACEMENT_CHARACTER || c.is_whitespace()) {
        reading.problem(format!("the subject {subject:?} isn't text without white space"));
    }
    if !block.is_empty() {
        reading.read(block);
    }
    match reading.problem.take() {
        Some(problem) => Err(Malformed { problem, headers: reading.into_headers() }),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Reading {
    /// The first one.
    problem: Option<String>,
    readable: Headers,
    /// Bytes of `readable`, to keep within `HEADER_BYTES_MAX`.
    readable_bytes: usize,
    unreadable: String,
}

impl Reading {
    fn problem(&mut self, problem: String) {
        self.problem.get_or_insert_with(|| bounded(&problem, ERROR_BYTES_MAX).to_owned());
    }

    fn read(&mut self, block: &[u8]) {
        if let Err(error) = std::str::from_utf8(block) {
            self.problem(format!("the header block isn't UTF-8 (byte {})", error.valid_up_to()));
        }
        let text = String::from_utf8_lossy(block);
        let mut lines = text.lines().peekable();
        let version = lines.next().unwrap_or_default();
        if let Err(problem) = check_version_line(version) {
            self.unreadable(version, problem);
        }
        while let Some(line) = lines.next() {
            if line.is_empty() {
                continue;
            }
            let mut value = String::new();
            // A line that begins with white space goes on the one before.
            let name = line.split_once(':').map(|(name, begin)| {
                value.push_str(begin.trim_start());
                while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
                    value.push_str(more);
                }
                name
            });
            match check_header(line, name, value.trim_end()) {
                Ok(name) => self.readable(name, value.trim_end()),
                Err(problem) => self.unreadable(line, problem),
            }
        }
    }

    fn readable(&mut self, name: &str, value: &str) {
        self.readable_bytes += name.len() + value.len();
        // What isn't text in here has become U+FFFD, and is no longer what the publisher said.
        if self.readable_bytes > HEADER_BYTES_MAX || value.contains(char::REPLACEMENT_CHARACTER) {
            return self.keep_escaped(&format!("{name}: {value}"));
        }
        self.readable
            .entry(name.to_owned())
            .and_modify(|values| {
                values.push(REPEATED);
                values.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }

    fn unreadable(&mut self, line: &str, problem: String) {
        self.problem(problem);
        self.keep_escaped(line);
    }

    fn keep_escaped(&mut self, line: &str) {
        if self.unreadable.len() >= HEADER_BYTES_MAX {
            return;
        }
        if !self.unreadable.is_empty() {
            self.unreadable.push_str(" | ");
        }
        self.unreadable.extend(line.escape_debug());
        let end = bounded(&self.unreadable, HEADER_BYTES_MAX).len();
        self.unreadable.truncate(end);
    }

    fn into_headers(mut self) -> Headers {
        self.readable.remove(UNREADABLE);
        if !self.unreadable.is_empty() {
            self.readable.insert(UNREADABLE.into(), self.unreadable);
        }
        self.readable
    }
}

fn check_version_line(line: &str) -> Result<(), String> {
    let Some(rest) = line.strip_prefix(VERSION).map(str::trim) else {
        return Err(format!("the header block begins with {line:?} instead of {VERSION:?}"));
    };
    let status = rest.split_once(' ').map_or(rest, |(status, _)| status.trim());
    if !status.is_empty() && status.parse::<StatusCode>().is_err() {
        return Err(format!("the header block begins with the status {status:?}, which isn't a number"));
    }
    Ok(())
}

/// The name, if the client takes the line as a header.
fn check_header<'a>(line: &str, name: Option<&'a str>, value: &str) -> Result<&'a str, String> {
    let Some(name) = name else { return Err(format!("header line {line:?} has no colon")) };
    if name.parse::<HeaderName>().is_err() {
        return Err(format!("header name {name:?} isn't printable ASCII without spaces"));
    }
    if value.parse::<HeaderValue>().is_err() {
        return Err(format!("header {name} has a line break in its value: {value:?}"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(block: &[u8]) -> Option<Malformed> {
        check("ecron.submit.billing.reports", block).err()
    }

    #[test]
    fn what_the_client_reads_is_no_problem() {
        for block in [
            "",
            "NATS/1.0\r\n\r\n",
            "NATS/1.0\r\nA: 1\r\nB:2\r\nA: \u{fffd}\r\n\r\n",
            "NATS/1.0 408 Request Timeout\r\n\r\n",
            "NATS/1.0\nA: 1\n goes on\n",
            "NATS/1.0\r\n: nameless\r\nA: \0\r\n\r\n",
        ] {
            assert_eq!(problem(block.as_bytes()), None, "{block:?}");
        }
    }

    #[test]
    fn what_the_client_dies_of_is_named_and_the_rest_is_kept() {
        let cases: [(&[u8], &str, &str); 7] = [
            (b"NATS/1.0\r\nA: 1\r\nB: x\ry\r\n\r\n", "header B has a line break", "B: x\\ry"),
            (b"NATS/1.0\r\nA: 1\r\nB: \xff\r\n\r\n", "isn't UTF-8 (byte 19)", "B: \u{fffd}"),
            (b"NATS/1.0\r\nA: 1\r\nB\r\n\r\n", "\"B\" has no colon", "B"),
            (b"NATS/1.0\r\nA: 1\r\nB b: 1\r\n\r\n", "header name \"B b\"", "B b: 1"),
            (b"NATS/2.0\r\nA: 1\r\n\r\n", "begins with \"NATS/2.0\"", "NATS/2.0"),
            (b"NATS/1.0 abc\r\nA: 1\r\n\r\n", "the status \"abc\"", "NATS/1.0 abc"),
            (b"\r\nA: 1\r\n\r\n", "begins with \"\"", ""),
        ];
        for (block, expected, unreadable) in cases {
            let malformed = problem(block).unwrap();
            assert!(malformed.problem.contains(expected), "{malformed:?}");
            assert_eq!(malformed.headers.get("A").map(String::as_str), Some("1"), "{malformed:?}");
            let kept = malformed.headers.get(UNREADABLE).map_or("", String::as_str);
            assert_eq!(kept, unreadable, "{malformed:?}");
        }
    }

    #[test]
    fn a_subject_that_the_client_cannot_read_is_a_problem() {
        assert!(check("ecron.defer.billing.\u{fffd}", b"").is_err());
        assert!(check("ecron.defer.billing.a\u{a0}b", b"").is_err());
    }

    #[test]
    fn what_is_kept_of_a_large_block_is_bounded() {
        let mut block = b"NATS/1.0\r\nno colon\r\n".to_vec();
        for number in 0..10_000 {
            block.extend(format!("Header-{number}: {number}\r\n").into_bytes());
        }
        let malformed = problem(&block).unwrap();
        let bytes: usize = malformed.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes < 3 * HEADER_BYTES_MAX, "{bytes}");
    }
}
