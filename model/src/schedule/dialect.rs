//! The four dialects, each as one row of rules: what its original accepts, and what the zone policies default to.
//!
//! The parser (`parse.rs`) is one; a dialect is data. Where a dialect differs from its original on purpose,
//! `docs/adr/0010-cron-dialects.md` says so.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::policy::{Fold, Gap, clip};

/// Whose rules an expression is read by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// vixie cron as cronie has it: five fields, Sunday 0 or 7, a day field that begins with `*` means AND.
    Unix,
    /// robfig/cron v3's standard parser: five fields, `?` anywhere, `@every`, Sunday 0 only.
    Kubernetes,
    /// Quartz: six or seven fields, Sunday = 1, `L`, `W`, `#`, ranges that wrap around, years.
    Quartz,
    /// Our superset of `unix`: five, six or seven fields, `H`, `L`, `W`, `#`, wrapping ranges, years.
    #[default]
    Ecron,
}

/// A dialect that doesn't exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no dialect: expected unix, kubernetes, quartz or ecron")]
pub struct ParseDialectError(String);

/// How days of the week are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SundayIs {
    /// Sunday is 0 or 7.
    ZeroOrSeven,
    /// Sunday is 0, and 7 is refused.
    Zero,
    /// Sunday is 1, Saturday is 7.
    One,
}

/// Where `?` may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuestionMark {
    Nowhere,
    /// As a whole day field.
    DayFields,
    /// Instead of any `*`.
    Anywhere,
}

/// When both day fields say something, which days match?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DayRule {
    /// Either, unless a field's text begins with a star (vixie).
    StarFirst,
    /// Either, unless a field contains a star or `?` without a step (robfig).
    StarAnywhere,
    /// Exactly one of them must be `?` (Quartz).
    OneIsQuestion,
}

/// Everything in which the dialects' grammars differ.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a table of independent yes/no rules")]
pub(super) struct Grammar {
    pub(super) fields: (usize, usize),
    pub(super) weekdays: SundayIs,
    pub(super) question: QuestionMark,
    pub(super) day_rule: DayRule,
    /// `5/15` means from 5 to the end in steps of 15.
    pub(super) open_step: bool,
    /// `/15` means `*/15`.
    pub(super) bare_step: bool,
    /// A step on `*` or on a single value must be smaller than the field is wide.
    pub(super) step_bounded: bool,
    /// Numbers are read into 32 bits, so that a larger step is refused.
    pub(super) small_steps: bool,
    /// `FRI-MON`, `22-2`.
    pub(super) wrap: bool,
    /// `L`, `W`, `#`.
    pub(super) day_specials: bool,
    /// Lists of `L` or `#` days of the week.
    pub(super) special_lists: bool,
    /// `H`, `H(1-5)`, `H/15`.
    pub(super) hash: bool,
    /// `10~20`: one value of the range.
    pub(super) random: bool,
    /// `1,,2` is read as `1,2`.
    pub(super) empty_items: bool,
    /// `MON-5`, `MON/2`.
    pub(super) free_names: bool,
    /// `monday`, `january`.
    pub(super) long_names: bool,
    /// Descriptors must be in lower case.
    pub(super) descriptor_case: bool,
    /// Any white space parts fields, and none may stand around a descriptor or double inside it.
    pub(super) go_space: bool,
}

impl Dialect {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Unix, Self::Kubernetes, Self::Quartz, Self::Ecron];

    /// What happens to a fixed time inside a gap, unless the schedule says otherwise.
    #[must_use]
    pub const fn default_gap(self) -> Gap {
        match self {
            Self::Unix | Self::Ecron => Gap::Next,
            Self::Kubernetes | Self::Quartz => Gap::Skip,
        }
    }

    /// What happens to a fixed time that occurs twice, unless the schedule says otherwise.
    #[must_use]
    pub const fn default_fold(self) -> Fold {
        match self {
            Self::Unix | Self::Ecron => Fold::First,
            Self::Kubernetes => Fold::Both,
            Self::Quartz => Fold::Second,
        }
    }

    /// How many fields an expression has.
    #[must_use]
    pub const fn fields(self) -> RangeInclusive<usize> {
        let (least, most) = self.grammar().fields;
        least..=most
    }

    pub(super) const fn grammar(self) -> Grammar {
        match self {
            Self::Unix => UNIX,
            Self::Kubernetes => KUBERNETES,
            Self::Quartz => QUARTZ,
            Self::Ecron => ECRON,
        }
    }
}

const UNIX: Grammar = Grammar {
    fields: (5, 5),
    weekdays: SundayIs::ZeroOrSeven,
    question: QuestionMark::Nowhere,
    day_rule: DayRule::StarFirst,
    open_step: false,
    bare_step: false,
    step_bounded: false,
    small_steps: true,
    wrap: false,
    day_specials: false,
    special_lists: false,
    hash: false,
    random: true,
    empty_items: false,
    free_names: true,
    long_names: false,
    descriptor_case: true,
    go_space: false,
};

const KUBERNETES: Grammar = Grammar {
    fields: (5, 5),
    weekdays: SundayIs::Zero,
    question: QuestionMark::Anywhere,
    day_rule: DayRule::StarAnywhere,
    open_step: true,
    bare_step: false,
    step_bounded: false,
    small_steps: false,
    wrap: false,
    day_specials: false,
    special_lists: false,
    hash: false,
    random: false,
    empty_items: true,
    free_names: true,
    long_names: false,
    descriptor_case: true,
    go_space: true,
};

const QUARTZ: Grammar = Grammar {
    fields: (6, 7),
    weekdays: SundayIs::One,
    question: QuestionMark::DayFields,
    day_rule: DayRule::OneIsQuestion,
    open_step: true,
    bare_step: true,
    step_bounded: true,
    small_steps: true,
    wrap: true,
    day_specials: true,
    special_lists: false,
    hash: false,
    random: false,
    empty_items: true,
    free_names: false,
    long_names: false,
    descriptor_case: true,
    go_space: false,
};

const ECRON: Grammar = Grammar {
    fields: (5, 7),
    weekdays: SundayIs::ZeroOrSeven,
    question: QuestionMark::DayFields,
    day_rule: DayRule::StarFirst,
    open_step: true,
    bare_step: false,
    step_bounded: false,
    small_steps: false,
    wrap: true,
    day_specials: true,
    special_lists: true,
    hash: true,
    random: true,
    empty_items: false,
    free_names: true,
    long_names: true,
    descriptor_case: false,
    go_space: false,
};

impl FromStr for Dialect {
    type Err = ParseDialectError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|dialect| dialect.to_string() == word)
            .ok_or_else(|| ParseDialectError(clip(word)))
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unix => "unix",
            Self::Kubernetes => "kubernetes",
            Self::Quartz => "quartz",
            Self::Ecron => "ecron",
        })
    }
}
