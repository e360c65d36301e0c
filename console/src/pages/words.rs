//! How instants, durations and run ids are said on a page.

use maud::{Markup, html};
use model::time::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What a segment of a path can't hold as it is.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'\\')
    .add(b'|')
    .add(b'^');

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// An instant as people say it, with the exact one behind it.
pub(super) fn when(now: Timestamp, at: Timestamp) -> Markup {
    let exact = at.to_string();
    html! { time datetime=(exact) title=(exact.replace('T', " ").replace('Z', " UTC")) { (relative(at.ms_since(now))) } }
}

/// The same of an instant as the API writes it.
pub(super) fn when_text(now: Timestamp, at: &str) -> Markup {
    match at.parse() {
        Ok(at) => when(now, at),
        Err(_) => html! { (at) },
    }
}

pub(super) fn when_maybe(now: Timestamp, at: Option<&str>) -> Markup {
    at.map_or_else(|| html! { span .soft { "–" } }, |at| when_text(now, at))
}

/// `in 3 min`, `5 h ago`.
pub(super) fn relative(ms: i64) -> String {
    let far = ms.abs();
    let text = match far {
        0..SECOND => return "now".into(),
        SECOND..MINUTE => format!("{} s", far / SECOND),
        MINUTE..=5_400_000 => format!("{} min", far / MINUTE),
        5_400_001..=129_600_000 => format!("{} h", far / HOUR),
        _ => format!("{} d", far / DAY),
    };
    if ms > 0 { format!("in {text}") } else { format!("{text} ago") }
}

/// `250 ms`, `12.3 s`, `4 min 05 s`, `2 h 03 min`.
pub(super) fn duration(ms: i64) -> String {
    let sign = if ms < 0 { "−" } else { "" };
    let ms = ms.abs();
    let text = match ms {
        0..SECOND => format!("{ms} ms"),
        SECOND..MINUTE => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        MINUTE..HOUR => format!("{} min {:02} s", ms / MINUTE, ms % MINUTE / SECOND),
        _ => format!("{} h {:02} min", ms / HOUR, ms % HOUR / MINUTE),
    };
    format!("{sign}{text}")
}

/// From one instant of the API to another.
pub(super) fn between(from: Option<&str>, to: Option<&str>) -> Option<i64> {
    let (from, to): (Timestamp, Timestamp) = (from?.parse().ok()?, to?.parse().ok()?);
    Some(to.ms_since(from))
}

/// `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The page of a run.
pub(super) fn run_href(run: &str) -> String {
    let (namespace, rest) = run.split_once('/').unwrap_or(("-", run));
    format!("/runs/{namespace}/{}", utf8_percent_encode(rest, SEGMENT))
}

/// The job of a run's id; nothing of ad-hoc work.
pub(super) fn job_of(run: &str) -> Option<&str> {
    run.split_once('@').map(|(job, _)| job)
}

/// The first of a text, on one line.
pub(super) fn brief(text: &str, chars: usize) -> String {
    let flat: String = text.chars().take(chars + 1).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if flat.chars().count() > chars {
        format!("{}…", flat.chars().take(chars).collect::<String>())
    } else {
        flat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_do() {
        for (ms, expected) in [
            (400, "now"),
            (12_000, "in 12 s"),
            (-200_000, "3 min ago"),
            (-7_200_000, "2 h ago"),
            (8 * 86_400_000, "in 8 d"),
        ] {
            assert_eq!(relative(ms), expected);
        }
        for (ms, expected) in [
            (250, "250 ms"),
            (12_345, "12.3 s"),
            (245_000, "4 min 05 s"),
            (7_380_000, "2 h 03 min"),
            (-5, "−5 ms"),
        ] {
            assert_eq!(duration(ms), expected);
        }
        assert_eq!(
            (count(7), count(12_345), count(1_000_000)),
            ("7".into(), "12,345".into(), "1,000,000".into())
        );
    }

    #[test]
    fn a_runs_page_has_two_segments() {
        assert_eq!(run_href("a/b@2026-11-22T06:45:00Z"), "/runs/a/b@2026-11-22T06:45:00Z");
        assert_eq!(run_href("a/q~x/../<y>?#%"), "/runs/a/q~x%2F..%2F%3Cy%3E%3F%23%25");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(brief("grün\nund so", 5), "grün …");
        assert_eq!(brief("short", 5), "short");
    }
}
