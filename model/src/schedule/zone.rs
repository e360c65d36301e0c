//! The zone database behind one small interface: a zone is a row of spans, each with one offset from UTC.
//!
//! Everything else asks `Zone::span_at`; only this file knows `chrono-tz`, so that another release of the tz database
//! (or two of them, side by side) can be put behind the same interface. The data comes with the program; the host's
//! zone files are never read.

use std::fmt;
use std::sync::{LazyLock, OnceLock};

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveTime, Offset, SecondsFormat, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::policy::clip;
use crate::time::{SECOND_MS, Timestamp};

/// The release of the tz database that is compiled in, for example `2025b`.
#[must_use]
pub fn tzdata_version() -> &'static str {
    chrono_tz::IANA_TZDB_VERSION
}

/// An IANA time zone.
#[derive(Clone, Copy)]
pub struct Zone {
    tz: Tz,
    transitions: &'static [Transition],
}

/// From `at` (seconds since the epoch) on, civil time is UTC plus `offset` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transition {
    at: i64,
    offset: i64,
}

/// Where a first span starts and a last one ends: beyond every instant, and safe to add offsets to.
pub(super) const FAR: i64 = i64::MAX / 4;

/// A stretch of instants with one offset. All numbers are seconds; instants count from the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The first instant of the span; `-FAR` for the first one.
    pub(super) start: i64,
    /// The first instant after the span; `FAR` for the last one.
    pub(super) end: i64,
    /// Civil time minus UTC.
    pub(super) offset: i64,
    /// The offset just before `start` (equal to `offset` if there is no such span).
    pub(super) offset_before: i64,
    /// The offset from `end` on (equal to `offset` if there is no such span).
    pub(super) offset_after: i64,
}

/// A name that isn't in the tz database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no time zone: expected an IANA name{hint}")]
pub struct UnknownZone {
    name: String,
    hint: String,
}

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self { tz: Tz::UTC, transitions: &[Transition { at: -FAR, offset: 0 }] };

    /// Looks a zone up by its IANA name.
    ///
    /// # Errors
    /// Says which name was expected if only the case is wrong. `Local` and fixed offsets are refused: a schedule must
    /// mean the same on every machine.
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        match name.parse::<Tz>() {
            Ok(Tz::UTC) => Ok(Self::UTC),
            Ok(tz) => Ok(Self { tz, transitions: transitions_of(tz) }),
            Err(_) => Err(UnknownZone { name: clip(name), hint: hint_for(name) }),
        }
    }

    /// The zone's IANA name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.tz.name()
    }

    /// An instant as RFC 3339 with the zone's offset, `Z` for UTC: `2026-03-29T03:00:00+02:00`.
    ///
    /// ```
    /// use ecron_model::schedule::Zone;
    /// let berlin = Zone::named("Europe/Berlin").unwrap();
    /// assert_eq!(berlin.show("2026-03-29T01:00:00Z".parse().unwrap()), "2026-03-29T03:00:00+02:00");
    /// ```
    #[must_use]
    pub fn show(&self, at: Timestamp) -> String {
        let offset = self.offset_at(at.as_ms().div_euclid(SECOND_MS));
        let offset = i32::try_from(offset).ok().and_then(FixedOffset::east_opt);
        match (at.to_utc(), offset) {
            // RFC 3339 has no offsets with seconds (Liberia until 1972).
            (Some(utc), Some(offset)) if !self.is_utc() && offset.local_minus_utc() % 60 == 0 => {
                utc.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::AutoSi, false)
            }
            _ => at.to_string(),
        }
    }

    /// Reads a civil time of this zone, such as `2026-03-29 02:30` or `2026-03-29T02:30:00`. One that occurs twice
    /// is the first; one that doesn't exist is read with the offset before the gap.
    #[must_use]
    pub fn read_civil(&self, text: &str) -> Option<Timestamp> {
        let text = text.replacen('T', " ", 1);
        let forms = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"];
        let civil = forms.iter().find_map(|form| chrono::NaiveDateTime::parse_from_str(&text, form).ok())?;
        let civil = civil.and_utc().timestamp();
        const DAY: i64 = 86_400;
        let offsets = [self.offset_at(civil - DAY), self.offset_at(civil + DAY)];
        let at = |offset: i64| civil - offset;
        let mut fitting: Vec<i64> =
            offsets.into_iter().filter(|offset| self.offset_at(at(*offset)) == *offset).map(at).collect();
        fitting.sort_unstable();
        let at = fitting.first().copied().unwrap_or(at(offsets[0]));
        (at >= 0).then(|| Timestamp::from_ms(at * SECOND_MS))
    }

    /// Whether this is UTC, under any of its names.
    #[must_use]
    pub fn is_utc(&self) -> bool {
        matches!(
            self.tz,
            Tz::UTC
                | Tz::UCT
                | Tz::Universal
                | Tz::Zulu
                | Tz::Etc__UTC
                | Tz::Etc__UCT
                | Tz::Etc__Universal
                | Tz::Etc__Zulu
        )
    }

    /// The names of all zones, sorted as the database has them.
    pub fn all_names() -> impl Iterator<Item = &'static str> {
        TZ_VARIANTS.iter().map(|tz| tz.name())
    }

    /// Civil time minus UTC at an instant, both in seconds.
    #[must_use]
    pub fn offset_at(&self, at: i64) -> i64 {
        self.span_at(at).offset
    }

    /// The span that contains an instant (seconds since the epoch).
    #[inline]
    pub(super) fn span_at(&self, at: i64) -> Span {
        let later = self.transitions.partition_point(|transition| transition.at <= at);
        // The first transition is at `-FAR`, so there is always one that isn't later.
        let here = later.saturating_sub(1);
        let offset_of = |index: usize| self.transitions.get(index).map(|transition| transition.offset);
        let offset = offset_of(here).unwrap_or(0);
        Span {
            start: self.transitions.get(here).map_or(-FAR, |transition| transition.at),
            end: self.transitions.get(later).map_or(FAR, |transition| transition.at),
            offset,
            offset_before: here.checked_sub(1).and_then(offset_of).unwrap_or(offset),
            offset_after: offset_of(later).unwrap_or(offset),
        }
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.tz == other.tz
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name())
    }
}

fn hint_for(name: &str) -> String {
    Zone::all_names()
        .find(|known| known.eq_ignore_ascii_case(name))
        .map_or_else(|| ", for example Europe/Berlin or UTC".to_owned(), |known| format!(": {known}"))
}

/// The first year of a zone's table, and the first one after it.
const YEARS: (i32, i32) = (1970, 2201);
/// The database's own years end here; later ones repeat the rules of its last years.
const COMPILED_UNTIL: i32 = 2100;
/// Years whose transitions are repeated after that: late enough that none of them still has a transition out of a
/// table (Morocco and Palestine list theirs until 2087), and long enough that 1 March falls on every weekday.
const CYCLE: (i32, i32) = (2088, 2100);
/// How far apart the table is sampled. The closest two transitions since 1970 are a week apart; a test guards that.
const SAMPLE: i64 = 3 * 86_400;

/// A zone's table is made once, when the zone is first named, and is a constant from then on.
fn transitions_of(tz: Tz) -> &'static [Transition] {
    static TABLES: LazyLock<Vec<OnceLock<Vec<Transition>>>> =
        LazyLock::new(|| TZ_VARIANTS.iter().map(|_| OnceLock::new()).collect());
    match TABLES.get(tz as usize) {
        Some(cell) => cell.get_or_init(|| build(tz)),
        None => Zone::UTC.transitions,
    }
}

fn build(tz: Tz) -> Vec<Transition> {
    let first = year_start(YEARS.0);
    let compiled_until = year_start(COMPILED_UNTIL);
    let mut table = vec![Transition { at: -FAR, offset: offset_in(tz, first) }];
    let mut low = first;
    while low < compiled_until {
        let high = (low + SAMPLE).min(compiled_until);
        let before = table.last().map_or(0, |transition| transition.offset);
        if offset_in(tz, high) != before {
            let at = first_with_other_offset(tz, low, high);
            table.push(Transition { at, offset: offset_in(tz, high) });
        }
        low = high;
    }
    for year in COMPILED_UNTIL..YEARS.1 {
        repeat_rules(&mut table, year);
    }
    table
}

/// Copies the transitions of a year of the cycle whose months from March on have the same weekdays as those of `year`.
/// All rules that are in force that late change the clock between March and November.
fn repeat_rules(table: &mut Vec<Transition>, year: i32) {
    let march = |year: i32| NaiveDate::from_ymd_opt(year, 3, 1);
    let weekday = |year: i32| march(year).map(|first| first.weekday());
    let Some(alike) = (CYCLE.0..CYCLE.1).find(|&candidate| weekday(candidate) == weekday(year)) else {
        return;
    };
    let (start, end) = (year_start(alike), year_start(alike + 1));
    let shift = midnight(march(year)) - midnight(march(alike));
    let copies: Vec<Transition> = table
        .iter()
        .filter(|transition| (start..end).contains(&transition.at))
        .map(|transition| Transition { at: transition.at + shift, offset: transition.offset })
        .collect();
    table.extend(copies);
}

fn first_with_other_offset(tz: Tz, mut low: i64, mut high: i64) -> i64 {
    let before = offset_in(tz, low);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset_in(tz, middle) == before { low = middle } else { high = middle }
    }
    high
}

fn offset_in(tz: Tz, at: i64) -> i64 {
    DateTime::from_timestamp(at, 0)
        .map_or(0, |utc| i64::from(tz.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc()))
}

fn year_start(year: i32) -> i64 {
    midnight(NaiveDate::from_ymd_opt(year, 1, 1))
}

fn midnight(date: Option<NaiveDate>) -> i64 {
    date.map_or(0, |date| date.and_time(NaiveTime::MIN).and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_times_are_read_also_where_clocks_change() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for (civil, instant) in [
            ("2026-11-22 06:45", "2026-11-22T05:45:00Z"),
            ("2026-03-29T02:30:00", "2026-03-29T01:30:00Z"),
            ("2026-10-25 02:30", "2026-10-25T00:30:00Z"),
        ] {
            assert_eq!(berlin.read_civil(civil), instant.parse().ok(), "{civil}");
        }
        assert_eq!(berlin.read_civil("yesterday"), None);
    }

    #[test]
    fn every_zone_agrees_with_the_database_at_every_third_hour_sampled() {
        for (nth, tz) in TZ_VARIANTS.iter().enumerate() {
            let zone = Zone::named(tz.name()).unwrap();
            let mut at = year_start(1970) + i64::try_from(nth).unwrap() * 977;
            while at < year_start(COMPILED_UNTIL) {
                assert_eq!(zone.offset_at(at), offset_in(*tz, at), "{} at {at}", tz.name());
                at += 1_036_800 + 7_201;
            }
        }
    }

    #[test]
    fn no_two_transitions_are_close_enough_to_be_missed() {
        for name in Zone::all_names() {
            let table = Zone::named(name).unwrap().transitions;
            for pair in table.windows(2).skip(1) {
                assert!(pair[1].at - pair[0].at > 2 * SAMPLE, "{name}: {pair:?}");
                assert_ne!(pair[0].offset, pair[1].offset, "{name}");
            }
        }
    }

    #[test]
    fn rules_go_on_after_the_database_ends() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        // Last Sundays of March and October 2150: the 29th and the 25th.
        for (at, offset) in [
            ("2150-03-29T00:59:59Z", 3_600),
            ("2150-03-29T01:00:00Z", 7_200),
            ("2150-10-25T00:59:59Z", 7_200),
            ("2150-10-25T01:00:00Z", 3_600),
        ] {
            let at: Timestamp = at.parse().unwrap();
            assert_eq!(berlin.offset_at(at.as_ms() / 1_000), offset);
        }
    }

    #[test]
    fn unknown_zones_are_refused_with_a_hint() {
        assert!(Zone::named("europe/berlin").unwrap_err().to_string().ends_with(": Europe/Berlin"));
        for name in ["", "Local", "+02:00", "Mars/Olympus", "Europe/Berlin "] {
            assert!(Zone::named(name).is_err(), "{name:?}");
        }
    }
}
