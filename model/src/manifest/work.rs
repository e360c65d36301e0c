//! What a run carries: `payload`, `exec` or `http`, and the headers beside it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::Terms;
use super::fields::{Field, Fields, list};
use super::node::NodeValue;
use super::problem::Problems;
use crate::codes::{CodeRange, CodeRanges, EXIT_CODES, FAILED_STATUSES};
use crate::limits::{CODE_RANGES_MAX, HEADER_BYTES_MAX, HEADERS_MAX, PAYLOAD_BYTES_MAX};
use crate::name::Name;
use crate::spec::{ExecSpec, HttpSpec, Work};

/// The queues that the built-in executor serves.
const EXEC_QUEUE: &str = "exec";
const HTTP_QUEUE: &str = "http";
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const KINDS: [&str; 3] = ["payload", "exec", "http"];
/// Prefixes of headers that belong to ecron and to NATS.
const RESERVED_HEADERS: [&str; 2] = ["ecron-", "nats-"];

/// The work of a job, and the queue that it goes to unless the job names one.
pub(super) fn work(spec: &Fields<'_>, problems: &mut Problems) -> (Work, Name) {
    let given: Vec<Field<'_>> = KINDS.iter().filter_map(|key| spec.get(key)).collect();
    if given.len() > 1 {
        for field in &given[1..] {
            field.refuse::<()>(problems, format!("only one of {} may be given", list(&KINDS)));
        }
    }
    let queue = |name: &str| Name::new(name).unwrap_or_else(|_| Name::default_name());
    let mut found = (Work::Payload(serde_json::Value::Null), Name::default_name());
    // Each is read even when one too many is given: its own mistakes are mistakes too.
    if let Some(http) = spec.get("http").and_then(|field| http(&field, problems)) {
        found = (Work::Http(http), queue(HTTP_QUEUE));
    }
    if let Some(exec) = spec.get("exec").and_then(|field| exec(&field, problems)) {
        found = (Work::Exec(exec), queue(EXEC_QUEUE));
    }
    if let Some(payload) = spec.get("payload").and_then(|field| payload(&field, problems)) {
        found = (Work::Payload(payload), Name::default_name());
    }
    found
}

fn payload(field: &Field<'_>, problems: &mut Problems) -> Option<serde_json::Value> {
    says_the_same_in_json(field, problems)?;
    let payload = field.node.to_json();
    fits(field, problems, payload.to_string().len())?;
    Some(payload)
}

/// Refuses what JSON can't say, wherever it is in a payload.
fn says_the_same_in_json(field: &Field<'_>, problems: &mut Problems) -> Option<()> {
    match &field.node.value {
        NodeValue::Float(float) if !float.is_finite() => {
            field.refuse(problems, format!("{float} can't be said in JSON"))
        }
        NodeValue::Int(int) if i64::try_from(*int).is_err() && u64::try_from(*int).is_err() => {
            field.refuse(problems, "has more than 64 bits; put it in quotes")
        }
        NodeValue::Seq(_) => {
            field.items(problems)?.iter().try_for_each(|item| says_the_same_in_json(item, problems))
        }
        NodeValue::Map(_) => {
            field.entries(problems)?.iter().try_for_each(|(_, value)| says_the_same_in_json(value, problems))
        }
        _ => Some(()),
    }
}

/// Every kind of work travels as a message body: its JSON text.
fn fits(field: &Field<'_>, problems: &mut Problems, bytes: usize) -> Option<()> {
    if bytes <= PAYLOAD_BYTES_MAX {
        return Some(());
    }
    let message = format!("has {bytes} bytes as JSON; the limit is {PAYLOAD_BYTES_MAX} (PAYLOAD_BYTES_MAX)");
    field.refuse(problems, message)
}

fn exec(field: &Field<'_>, problems: &mut Problems) -> Option<ExecSpec> {
    const FIELDS: &[&str] = &["command", "shell", "env", "stdin", "workingDir", "user", "permanentExitCodes"];
    let fields = field.fields(problems, FIELDS)?;
    let text = |key, problems: &mut Problems| fields.get(key)?.full_text(problems).map(str::to_owned);
    let (command, shell) = (fields.get("command"), fields.get("shell"));
    match (&command, &shell) {
        (None, None) => {
            field.refuse::<()>(problems, "either command (a list) or shell (a line) must be given")
        }
        (Some(_), Some(shell)) => shell.refuse::<()>(problems, "only one of command and shell may be given"),
        _ => None,
    };
    let exec = ExecSpec {
        command: command.and_then(|field| argv(&field, problems)).unwrap_or_default(),
        shell: text("shell", problems),
        env: fields.get("env").and_then(|field| field.texts(problems, environment_rule)).unwrap_or_default(),
        stdin: fields.get("stdin").and_then(|field| field.text(problems)).map(str::to_owned),
        working_dir: text("workingDir", problems),
        user: text("user", problems),
        permanent_exit_codes: fields
            .get("permanentExitCodes")
            .and_then(|field| codes(&field, EXIT_CODES, problems))
            .unwrap_or_default(),
    };
    fits(field, problems, serde_json::to_string(&exec).map_or(0, |text| text.len()))?;
    Some(exec)
}

/// A list of codes and ranges of codes. A single code may stand there as a number.
fn codes(field: &Field<'_>, allowed: RangeInclusive<u16>, problems: &mut Problems) -> Option<CodeRanges> {
    let items = field.items(problems)?;
    if items.len() > CODE_RANGES_MAX {
        let count = items.len();
        return field.refuse(
            problems,
            format!("has {count} ranges; the limit is {CODE_RANGES_MAX} (CODE_RANGES_MAX)"),
        );
    }
    let mut ranges = Vec::new();
    for item in &items {
        let text = match &item.node.value {
            NodeValue::Int(code) => Some(code.to_string()),
            _ => item.text(problems).map(str::to_owned),
        };
        match text.map(|text| CodeRange::parse(&text, allowed.clone())) {
            Some(Ok(range)) => ranges.push(range),
            Some(Err(error)) => _ = item.refuse::<()>(problems, error.to_string()),
            None => {}
        }
    }
    Some(CodeRanges(ranges))
}

fn argv(field: &Field<'_>, problems: &mut Problems) -> Option<Vec<String>> {
    if let NodeValue::String(_) = field.node.value {
        return field.refuse(
            problems,
            "expected a list of words, found one text; a line for the shell goes into shell",
        );
    }
    let items = field.items(problems)?;
    if items.is_empty() {
        return field.refuse(problems, "must not be empty");
    }
    let mut argv = Vec::new();
    for (index, item) in items.iter().enumerate() {
        // An argument may be empty, the program may not.
        let word = if index == 0 { item.full_text(problems) } else { item.text(problems) };
        match word {
            Some(word) if word.contains('\0') => {
                item.refuse::<()>(problems, "must not hold a NUL character");
            }
            Some(word) => argv.push(word.to_owned()),
            None => {}
        }
    }
    Some(argv)
}

fn environment_rule(name: &str, value: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("the name of a variable must not be empty, nor hold = or NUL".into());
    }
    if value.contains('\0') { Err("must not hold a NUL character".into()) } else { Ok(()) }
}

fn http(field: &Field<'_>, problems: &mut Problems) -> Option<HttpSpec> {
    let fields = field.fields(problems, &["method", "url", "headers", "body", "permanentStatuses"])?;
    let methods: Vec<(&str, &str)> = METHODS.iter().map(|method| (*method, *method)).collect();
    let method = fields.get("method").and_then(|field| field.word(problems, &methods)).unwrap_or("GET");
    let url =
        fields.require("url", problems, "where the request goes").and_then(|field| url(&field, problems));
    let headers =
        fields.get("headers").and_then(|field| field.texts(problems, header_rule)).unwrap_or_default();
    let body = fields.get("body").and_then(|field| field.text(problems)).map(str::to_owned);
    let permanent_statuses =
        fields.get("permanentStatuses").and_then(|field| codes(&field, FAILED_STATUSES, problems));
    let http = HttpSpec { method: method.to_owned(), url: url?, headers, body, permanent_statuses };
    fits(field, problems, serde_json::to_string(&http).map_or(0, |text| text.len()))?;
    Some(http)
}

fn url(field: &Field<'_>, problems: &mut Problems) -> Option<String> {
    let text = field.text(problems)?;
    let lower = text.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://")) else {
        return field.refuse(problems, "must begin with http:// or https://");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(':') {
        return field.refuse(problems, "names no host");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return field.refuse(problems, "must not hold spaces or control characters; write %20 for a space");
    }
    Some(text.to_owned())
}

/// The headers that a job adds to its run messages.
pub(super) fn headers(
    field: &Field<'_>,
    terms: &Terms<'_>,
    problems: &mut Problems,
) -> Option<BTreeMap<String, String>> {
    if terms.is_stored {
        return field.texts(problems, |_, _| Ok(()));
    }
    let headers = field.texts(problems, |name, value| {
        let lower = name.to_ascii_lowercase();
        if let Some(prefix) = RESERVED_HEADERS.iter().find(|prefix| lower.starts_with(**prefix)) {
            let owner = if *prefix == "nats-" { "NATS" } else { "ecron" };
            return Err(format!("headers that begin with {}- belong to {owner}", &name[..prefix.len() - 1]));
        }
        header_rule(name, value)
    })?;
    if headers.len() > HEADERS_MAX {
        return field.refuse(
            problems,
            format!("has {} headers; the limit is {HEADERS_MAX} (HEADERS_MAX)", headers.len()),
        );
    }
    // As on the wire: `name: value\r\n`.
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    if bytes > HEADER_BYTES_MAX {
        return field.refuse(
            problems,
            format!("has {bytes} bytes; the limit is {HEADER_BYTES_MAX} (HEADER_BYTES_MAX)"),
        );
    }
    Some(headers)
}

/// A header's name is a token of RFC 9110, its value printable ASCII without spaces at its ends: what every client
/// library gives back as it got it.
fn header_rule(name: &str, value: &str) -> Result<(), String> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("the name of a header may only hold letters, digits and !#$%&'*+-.^_`|~".into());
    }
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err("the value of a header must be printable ASCII".into());
    }
    if value.trim() != value {
        return Err("the value of a header must not begin or end with a space".into());
    }
    Ok(())
}
