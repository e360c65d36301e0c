//! Dead letters as messages: the original's payload and headers as they were, and why it is dead beside them.

use bytes::Bytes;
use model::id::RunId;
use model::limits::ERROR_BYTES_MAX;
use model::name::QueueId;
use model::run::Generation;
use model::time::Timestamp;

use super::attempts::{ends, forms};
use super::event::bounded;
use super::headers::{GENERATION, Headers, block_bytes};
use super::order::{RawRun, decode_order};
use crate::dead::{DeadLetter, DeadReason};
use crate::order::{Order, OrderProblem};
use crate::subjects::parse_queue_subject;

pub const DEAD_ID: &str = "Ecron-Dead-Id";
pub const DEAD_SUBJECT: &str = "Ecron-Dead-Subject";
pub const DEAD_REASON: &str = "Ecron-Dead-Reason";
pub const DEAD_ERROR: &str = "Ecron-Dead-Error";
pub const DEAD_ATTEMPTS: &str = "Ecron-Dead-Attempts";
/// The attempts, as JSON.
pub const DEAD_ATTEMPT_LOG: &str = "Ecron-Dead-Attempt-Log";
pub const DEAD_AT: &str = "Ecron-Dead-At";

/// Goes before the name of an original header that would mean something in the dead-letter stream itself.
const ORIGINAL: &str = "Ecron-Original-";

impl DeadReason {
    /// Every reason, as lists show them.
    pub const ALL: [Self; 7] = [
        Self::AttemptsExhausted,
        Self::Permanent,
        Self::Poison,
        Self::Undecodable,
        Self::MalformedHeaders,
        Self::Terminated,
        Self::DeadlineExceeded,
    ];

    /// The word of `Ecron-Dead-Reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts-exhausted",
            Self::Permanent => "permanent",
            Self::Poison => "poison",
            Self::Undecodable => "undecodable",
            Self::MalformedHeaders => "malformed-headers",
            Self::Terminated => "terminated",
            Self::DeadlineExceeded => "deadline-exceeded",
        }
    }

    /// The reason of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// Also a name without a letter, which nobody can send by itself.
fn means_something(name: &str) -> bool {
    if name.is_empty() {
        return true;
    }
    let name = name.to_ascii_lowercase();
    ["nats-", "ecron-dead-", "ecron-original-"].iter().any(|prefix| name.starts_with(prefix))
}

/// One line for a header: backslash, line feed and carriage return are written `\\`, `\n` and `\r`.
fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

fn many_lines(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => lines.push('\n'),
            ('\\', Some('r')) => lines.push('\r'),
            ('\\', Some(other)) => lines.push(other),
            (c, _) => lines.push(c),
        }
    }
    lines
}

/// The queue that a letter's message was for.
#[must_use]
pub fn queue_of(letter: &DeadLetter) -> Option<QueueId> {
    parse_queue_subject(&letter.subject).map(|(_, queue)| queue)
}

/// The message id of a letter: parking the same end of the same message twice is harmless.
#[must_use]
pub fn letter_id(letter: &DeadLetter) -> String {
    let generation = letter.original_headers.get(GENERATION).map_or("0", String::as_str);
    one_line(&format!("{}/{generation}/{}", letter.id, letter.reason.as_str()))
}

#[must_use]
pub fn encode_letter(letter: &DeadLetter) -> Headers {
    let mut headers: Headers = letter
        .original_headers
        .iter()
        .map(|(name, value)| {
            let name = if means_something(name) { format!("{ORIGINAL}{name}") } else { name.clone() };
            (name, value.clone())
        })
        .collect();
    let mut set = |name: &str, value: String| headers.insert(name.into(), value);
    set(DEAD_ID, one_line(&letter.id));
    set(DEAD_SUBJECT, one_line(&letter.subject));
    set(DEAD_REASON, letter.reason.as_str().into());
    set(DEAD_ERROR, one_line(bounded(&letter.error, ERROR_BYTES_MAX)));
    set(DEAD_ATTEMPTS, letter.attempts.to_string());
    set(DEAD_AT, letter.died_at.to_string());
    if !letter.attempt_log.is_empty() {
        set(DEAD_ATTEMPT_LOG, attempt_log(letter));
    }
    headers
}

/// JSON writes line breaks as `\n`, so it is one line.
fn attempt_log(letter: &DeadLetter) -> String {
    // Numbers and texts only: it can't fail.
    serde_json::to_string(&forms(&letter.attempt_log)).unwrap_or_default()
}

/// Room for the headers of a letter that aren't the original's: bounded ones, and the protocol's own.
const LETTER_HEADERS_BYTES: usize = 16 * 1024;

/// A letter that fits into one message of `bytes_max` bytes, whatever its publisher sent. If it must be cut, its error
/// says so; the payload keeps its beginning, the headers go first.
#[must_use]
pub fn fit_letter(letter: &DeadLetter, bytes_max: usize) -> DeadLetter {
    let mut letter = letter.clone();
    let mut cuts = Vec::new();
    let room = bytes_max.saturating_sub(LETTER_HEADERS_BYTES + attempt_log(&letter).len());
    // Each name may get `ORIGINAL` put before it.
    let prefixes = letter.original_headers.len().saturating_mul(ORIGINAL.len());
    let mut headers = block_bytes(&letter.original_headers).saturating_add(prefixes);
    if headers > room / 2 {
        cuts.push(format!("its {headers} bytes of headers were left out"));
        letter.original_headers.clear();
        headers = 0;
    }
    let payload_max = room - headers;
    if letter.payload.len() > payload_max {
        cuts.push(format!("its payload of {} bytes was cut to {payload_max}", letter.payload.len()));
        letter.payload.truncate(payload_max);
    }
    if !cuts.is_empty() {
        letter.error = format!(
            "{} (too large for a letter: {})",
            bounded(&letter.error, ERROR_BYTES_MAX / 2),
            cuts.join("; ")
        );
    }
    letter
}

/// A letter as the stream holds it. One that somebody else put there is still shown, as undecodable.
#[must_use]
pub fn decode_letter(subject: &str, all: &Headers, payload: Bytes, stored_at: Timestamp) -> DeadLetter {
    let text = |name: &str| all.get(name).map(|value| many_lines(value));
    let original = |(name, value): (&String, &String)| {
        if let Some(name) = name.strip_prefix(ORIGINAL) {
            Some((name.to_owned(), value.clone()))
        } else {
            (!means_something(name)).then(|| (name.clone(), value.clone()))
        }
    };
    let attempt_log = all.get(DEAD_ATTEMPT_LOG).and_then(|json| serde_json::from_str(json).ok());
    let reason = all.get(DEAD_REASON).and_then(|word| DeadReason::from_word(word));
    DeadLetter {
        id: text(DEAD_ID).unwrap_or_default(),
        subject: text(DEAD_SUBJECT).unwrap_or_else(|| subject.to_owned()),
        reason: reason.unwrap_or(DeadReason::Undecodable),
        error: text(DEAD_ERROR).unwrap_or_default(),
        attempts: all.get(DEAD_ATTEMPTS).and_then(|number| number.parse().ok()).unwrap_or(0),
        attempt_log: ends(attempt_log.unwrap_or_default()),
        died_at: all.get(DEAD_AT).and_then(|at| at.parse().ok()).unwrap_or(stored_at),
        original_headers: all.iter().filter_map(original).collect(),
        payload,
    }
}

/// The order with which a letter's message goes to its queue again: the same run, of the next generation, with all
/// attempts before it. The operator's word overrides both deadlines.
pub fn redrive_order(letter: &DeadLetter) -> Result<Order, OrderProblem> {
    let raw = RawRun {
        subject: &letter.subject,
        headers: &letter.original_headers,
        payload: &letter.payload,
        sequence: 0,
        stored_at: letter.died_at,
    };
    let mut order = decode_order(raw)?;
    // An ad-hoc message without a key is named by its sequence, which only the letter's id still knows.
    if let Ok(RunId::AdHoc { queue, key }) = letter.id.parse()
        && queue == order.queue
    {
        order.run_id = RunId::AdHoc { queue, key };
    }
    order.generation = Generation(order.generation.0.saturating_add(1));
    order.attempt_base = 0;
    order.start_by = None;
    order.deadline = None;
    Ok(order)
}

#[cfg(test)]
mod tests {
    use model::run::{AttemptEnd, Outcome};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::headers::UNREADABLE;

    fn letter() -> DeadLetter {
        let original_headers = [
            ("Ecron-Key", "k1"),
            ("Nats-Msg-Id", "m1"),
            ("Ecron-Dead-Reason", "a publisher's nonsense"),
            ("traceparent", "00"),
        ];
        DeadLetter {
            id: "billing/reports~k1".into(),
            subject: "ecron.submit.billing.reports".into(),
            reason: DeadReason::AttemptsExhausted,
            error: "line one\nC:\\new".into(),
            attempts: 3,
            attempt_log: vec![],
            died_at: "2026-11-22T06:45:00Z".parse().unwrap(),
            original_headers: original_headers.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            payload: Bytes::from_static(b"x"),
        }
    }

    #[test]
    fn the_headers_of_a_letter_never_change() {
        let text: Vec<String> =
            encode_letter(&letter()).iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let expected = r"Ecron-Dead-At: 2026-11-22T06:45:00Z|Ecron-Dead-Attempts: 3|Ecron-Dead-Error: line one\nC:\\new|Ecron-Dead-Id: billing/reports~k1|Ecron-Dead-Reason: attempts-exhausted|Ecron-Dead-Subject: ecron.submit.billing.reports|Ecron-Key: k1|Ecron-Original-Ecron-Dead-Reason: a publisher's nonsense|Ecron-Original-Nats-Msg-Id: m1|traceparent: 00";
        assert_eq!(text.join("|"), expected);
        assert_eq!(letter_id(&letter()), "billing/reports~k1/0/attempts-exhausted");
    }

    #[test]
    fn a_letter_tells_how_its_attempts_ended() {
        let end = AttemptEnd {
            attempt: 2,
            outcome: Outcome::Failed,
            error: Some("no disk\nC:\\".into()),
            started_at: Timestamp::from_ms(1_000),
            ended_at: Timestamp::from_ms(2_500),
        };
        let letter = DeadLetter { attempt_log: vec![end], ..letter() };
        let headers = encode_letter(&letter);
        let log = r#"[{"attempt":2,"outcome":"failed","error":"no disk\nC:\\","startedAt":"1970-01-01T00:00:01Z","endedAt":"1970-01-01T00:00:02.500Z"}]"#;
        assert_eq!(headers[DEAD_ATTEMPT_LOG], log);
        let read = |headers: &Headers| {
            decode_letter("ecron.dead.x.y", headers, letter.payload.clone(), Timestamp::from_ms(5))
        };
        assert_eq!(read(&headers), letter);
        let mut broken = headers;
        broken.insert(DEAD_ATTEMPT_LOG.into(), "[{}".into());
        assert!(read(&broken).attempt_log.is_empty());
    }

    #[test]
    fn a_strangers_message_is_still_a_letter() {
        let read = decode_letter("ecron.dead.x.y", &Headers::new(), Bytes::new(), Timestamp::from_ms(5));
        assert_eq!((read.reason, read.died_at), (DeadReason::Undecodable, Timestamp::from_ms(5)));
        assert!(redrive_order(&read).is_err());
    }

    #[test]
    fn a_letter_is_cut_to_what_one_message_holds_and_says_so() {
        let payload = Bytes::from(vec![b'x'; 100_000]);
        let large = DeadLetter { payload, ..letter() };
        assert_eq!(fit_letter(&large, 200_000), large);
        let cut = fit_letter(&large, 64 * 1024);
        let bytes = block_bytes(&encode_letter(&cut)) + cut.payload.len();
        assert!((40_000..64 * 1024).contains(&bytes), "{bytes}");
        assert!(cut.error.contains("payload of 100000 bytes was cut"), "{}", cut.error);
        let mut large = letter();
        large.original_headers.insert("X".into(), "x".repeat(100_000));
        let cut = fit_letter(&large, 64 * 1024);
        assert!(cut.original_headers.is_empty() && cut.payload == large.payload);
        assert!(cut.error.contains("bytes of headers were left out"), "{}", cut.error);
    }

    #[test]
    fn a_letter_with_unreadable_headers_is_not_redriven_without_them() {
        let mut letter = letter();
        letter.original_headers = [(UNREADABLE.to_owned(), "Ecron-Retry attempts=1".to_owned())].into();
        assert!(redrive_order(&letter).is_err());
    }

    #[test]
    fn a_redriven_run_keeps_its_id_and_gets_the_next_generation() {
        let mut letter = letter();
        letter.original_headers.remove("Ecron-Dead-Reason");
        letter.original_headers.remove("Ecron-Key");
        letter.original_headers.remove("Nats-Msg-Id");
        letter.id = "billing/reports~seq-42".into();
        let order = redrive_order(&letter).unwrap();
        assert_eq!(order.run_id.to_string(), "billing/reports~seq-42");
        assert_eq!((order.generation, order.attempt_base), (Generation(1), 0));
    }

    proptest! {
        #[test]
        fn letters_round_trip(id in "\\PC{0,20}", error in "[\\\\\\n\\rna-z]{0,30}", attempts in any::<u32>(),
            original_headers in proptest::collection::btree_map("(|(Ecron-Dead-|Ecron-Original-|Nats-|nats-|X)[A-Za-z-]{1,12})",
                "[ -~]{0,20}", 0..5)) {
            let letter = DeadLetter { id, error, attempts, original_headers, ..letter() };
            let read = decode_letter("s", &encode_letter(&letter), letter.payload.clone(), Timestamp::from_ms(0));
            prop_assert_eq!(read, letter);
        }
    }
}
