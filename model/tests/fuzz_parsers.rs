//! Arbitrary text into every parser: no panic, no hang, bounded messages; and whatever is accepted keeps its promises.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail loudly, as tests may")]

mod support;

use std::time::{Duration, Instant};

use ecron_model::schedule::{
    Dialect, Exclusion, Fold, Gap, ScheduleSpec, Zone, parse_duration, parse_expression, parse_go_duration,
    parse_interval,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::{at, try_compile};

/// Cases of each property. The seed is fixed, so that a failure repeats; raise the number to search for new ones.
const CASES: u32 = 2_000;

/// Text near the grammar: pieces that mean something in some dialect, glued at random.
fn near_cron() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("*".to_owned()),
        Just("?".to_owned()),
        (0_u32..70).prop_map(|n| n.to_string()),
        (1960_u32..2210).prop_map(|n| n.to_string()),
        prop::sample::select(vec![
            "-",
            "/",
            ",",
            "L",
            "W",
            "#",
            "H",
            "~",
            "(",
            ")",
            "LW",
            "L-3",
            "15W",
            "6#3",
            "5L",
            "MON",
            "fri",
            "sun",
            "JAN",
            "dec",
            "@",
            "@every 1m",
            "@daily",
            "TZ=UTC",
            "+",
            ".",
            "0",
            "99999999999",
            "é",
            "H(1-5)",
        ])
        .prop_map(str::to_owned),
    ];
    let field = prop::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat());
    prop::collection::vec(field, 1..9).prop_map(|fields| fields.join(" "))
}

/// Five to seven fields that are mostly right, so that more is accepted.
fn likely_cron() -> impl Strategy<Value = String> {
    let number = |low: u32, high: u32| {
        prop_oneof![
            3 => Just("*".to_owned()),
            3 => (low..=high).prop_map(|n| n.to_string()),
            2 => (low..=high, low..=high).prop_map(|(from, to)| format!("{from}-{to}")),
            2 => (1_u32..40).prop_map(|step| format!("*/{step}")),
            1 => (low..=high, 1_u32..20).prop_map(|(from, step)| format!("{from}/{step}")),
            1 => Just("H".to_owned()),
        ]
    };
    let day = prop_oneof![
        5 => number(1, 31),
        2 => prop::sample::select(vec!["L", "LW", "L-3", "L-30W", "31W", "1W", "?", "29-31", "30,31"]).prop_map(str::to_owned),
    ];
    let weekday = prop_oneof![
        5 => number(0, 7),
        2 => prop::sample::select(vec!["5L", "MON#5", "1#1", "?", "FRI-MON", "L", "*/7", "sun"]).prop_map(str::to_owned),
    ];
    (
        number(0, 59),
        number(0, 59),
        number(0, 23),
        day,
        number(1, 12),
        weekday,
        prop::option::of(1970_u32..2200),
        0..3_u8,
    )
        .prop_map(|(second, minute, hour, day, month, weekday, year, shape)| {
            let five = format!("{minute} {hour} {day} {month} {weekday}");
            match (shape, year) {
                (0, _) => five,
                (1, Some(year)) => format!("{second} {five} {year}"),
                _ => format!("{second} {five}"),
            }
        })
}

fn promises_hold(text: &str, dialect: Dialect) {
    // Generous, for a loaded machine in a debug build: a hang would take forever, not a second.
    const HANG: Duration = Duration::from_secs(2);
    #[expect(clippy::disallowed_methods, reason = "the test looks for hangs, so it needs a real clock")]
    let begun = Instant::now();
    let spec =
        ScheduleSpec { cron: vec![text.to_owned()], dialect: Some(dialect), ..ScheduleSpec::default() };
    match try_compile(&spec) {
        Err(problems) => {
            for problem in problems {
                assert!(problem.message.len() < 400, "{text:?}: {}", problem.message);
            }
        }
        Ok(schedule) => {
            let from = at("2026-11-22T06:45:00Z");
            assert!(!schedule.describe().is_empty());
            if let Some(next) = schedule.next_after(from) {
                assert!(next > from && schedule.names(next), "{text:?}: {next}");
                let back = schedule.previous_before(next);
                assert!(back.is_none_or(|back| back <= from), "{text:?}: {back:?} between {from} and {next}");
                assert_eq!(back.and_then(|back| schedule.next_after(back)), back.map(|_| next), "{text:?}");
            } else {
                assert!(
                    schedule.previous_before(from.plus_ms(1)).is_some(),
                    "{text:?} was accepted but never occurs"
                );
            }
        }
    }
    assert!(begun.elapsed() < HANG, "{text:?} took {:?}", begun.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, rng_seed: RngSeed::Fixed(20_261_122), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        for dialect in Dialect::ALL {
            promises_hold(&text, dialect);
        }
    }

    #[test]
    fn text_near_the_grammar_is_read_or_refused(text in near_cron()) {
        for dialect in Dialect::ALL {
            promises_hold(&text, dialect);
        }
    }

    #[test]
    fn accepted_expressions_keep_their_promises(text in likely_cron()) {
        for dialect in Dialect::ALL {
            promises_hold(&text, dialect);
        }
    }

    #[test]
    fn the_small_parsers_never_panic(text in "\\PC{0,40}") {
        let _ = parse_duration(&text);
        let _ = parse_interval(&text);
        let _ = parse_go_duration(&text);
        let _ = Zone::named(&text);
        let _ = text.parse::<Dialect>();
        let _ = text.parse::<Gap>();
        let _ = text.parse::<Fold>();
        let _ = text.parse::<Exclusion>();
    }

    #[test]
    fn durations_of_any_size_never_panic(number in any::<u128>(), unit in "[a-zµ]{1,6}") {
        for text in [format!("{number}{unit}"), format!("{number}.{number}{unit}")] {
            let _ = parse_duration(&text);
            let _ = parse_go_duration(&text);
        }
    }
}

#[test]
fn long_text_is_refused_without_being_read() {
    for text in ["*".repeat(100_000), "1,".repeat(50_000), "é".repeat(60_000)] {
        for dialect in Dialect::ALL {
            let refused = parse_expression(&text, dialect, "a/b").unwrap_err();
            assert!(refused.to_string().len() < 200);
        }
    }
}
