//! Figures by name, folded over repetitions: medians with their range, and ratios within a repetition.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// One repetition of one system, by name with its unit last.
pub(super) type Figures = BTreeMap<&'static str, f64>;

/// What is compared: each ratio is ours by theirs, taken in the same repetition.
const COMPARED: [&str; 4] = ["p50_ms", "p99_ms", "throughput_per_s", "cpu_us_per_run"];

/// The repetitions of every system, by its name; ours is `ours`.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    systems: Vec<(&'static str, Vec<Figures>)>,
    /// What the others are compared with, too.
    baseline: Option<&'static str>,
}

/// A median, and between what it lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Outcome {
    /// Every system is compared with this one, not only ours.
    pub(super) fn against(baseline: &'static str) -> Self {
        Self { systems: Vec::new(), baseline: Some(baseline) }
    }

    pub(super) fn push(&mut self, system: &'static str, figures: Figures) {
        match self.systems.iter_mut().find(|(known, _)| *known == system) {
            Some((_, all)) => all.push(figures),
            None => self.systems.push((system, vec![figures])),
        }
    }

    /// Adds another's systems behind ours.
    pub(super) fn append(&mut self, other: Self) {
        self.systems.extend(other.systems);
    }

    pub(super) fn systems(&self) -> impl Iterator<Item = (&'static str, BTreeMap<&'static str, Spread>)> {
        self.systems.iter().map(|(name, all)| (*name, spreads(all)))
    }

    /// Ours by theirs, such as `p99_ms_vs_floor`; and each other system by the baseline: `skip_p99_ms_vs_without`.
    pub(super) fn ratios(&self) -> BTreeMap<String, Spread> {
        let Some((ours, others)) = self.systems.split_first() else { return BTreeMap::new() };
        let with_ours = others.iter().map(|theirs| (String::new(), &ours.1, theirs));
        let baseline = others.iter().find(|(name, _)| Some(*name) == self.baseline);
        let with_baseline = baseline.into_iter().flat_map(|baseline| {
            let rest = others.iter().filter(|(name, _)| *name != baseline.0);
            rest.map(move |(name, figures)| (format!("{name}_"), figures, baseline))
        });
        let mut ratios = BTreeMap::new();
        for (prefix, ours, (name, theirs)) in with_ours.chain(with_baseline) {
            for figure in COMPARED {
                let pairs =
                    ours.iter().zip(theirs).filter_map(|(a, b)| Some((a.get(figure)?, b.get(figure)?)));
                let values: Vec<f64> = pairs.filter(|(_, b)| **b > 0.0).map(|(a, b)| a / b).collect();
                if let Some(spread) = spread(values) {
                    ratios.insert(format!("{prefix}{figure}_vs_{name}"), spread);
                }
            }
        }
        ratios
    }

    /// The contract's object: medians, with their ranges beside them.
    pub(super) fn to_json(&self, shape: &str, setting: &Value) -> Value {
        let mut object = Map::from_iter([("shape".to_owned(), json!(shape))]);
        for name in ["ours", "floor", "native"] {
            object.insert(name.into(), json!({}));
        }
        let mut ranges = Map::new();
        for (name, spreads) in self.systems() {
            let medians: BTreeMap<&str, f64> = spreads.iter().map(|(f, s)| (*f, rounded(s.median))).collect();
            object.insert(name.into(), json!(medians));
            let range: BTreeMap<&str, [f64; 2]> =
                spreads.iter().map(|(f, s)| (*f, [rounded(s.min), rounded(s.max)])).collect();
            ranges.insert(name.into(), json!(range));
        }
        let ratios: BTreeMap<String, f64> =
            self.ratios().into_iter().map(|(name, s)| (name, rounded(s.median))).collect();
        object.insert("ratios".into(), json!(ratios));
        object.insert("ranges".into(), Value::Object(ranges));
        object.insert("setting".into(), setting.clone());
        Value::Object(object)
    }
}

fn spreads(all: &[Figures]) -> BTreeMap<&'static str, Spread> {
    let names = all.iter().flat_map(BTreeMap::keys).copied();
    let of = |name| all.iter().filter_map(|figures| figures.get(name).copied()).collect();
    names.filter_map(|name| Some((name, spread(of(name))?))).collect()
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Some(Spread { median, min, max })
}

/// The value below which a share of the sorted values lies (nearest rank); 0 of none.
pub(super) fn percentile(sorted: &[i64], share: f64) -> i64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<i64> = (1..=100).collect();
        let of = |share| percentile(&values, share);
        assert_eq!((of(0.0), of(0.5), of(0.99), of(1.0)), (1, 50, 99, 100));
        assert_eq!(percentile(&[], 0.5), 0);
    }

    #[test]
    fn ratios_are_taken_within_a_repetition() {
        let mut outcome = Outcome::default();
        for (ours, floor) in [(2.0, 1.0), (6.0, 2.0), (40.0, 10.0)] {
            outcome.push("ours", Figures::from([("p50_ms", ours)]));
            outcome.push("floor", Figures::from([("p50_ms", floor)]));
        }
        assert_eq!(outcome.ratios()["p50_ms_vs_floor"], Spread { median: 3.0, min: 2.0, max: 4.0 });
        let json = outcome.to_json("steady", &Value::Null);
        assert_eq!((&json["ours"]["p50_ms"], &json["floor"]["p50_ms"]), (&json!(6.0), &json!(2.0)));
        assert_eq!(json["ranges"]["ours"]["p50_ms"], json!([2.0, 40.0]));
    }
    #[test]
    fn others_are_compared_with_the_baseline_too() {
        let mut outcome = Outcome::against("without");
        for (name, ours) in [("ours", 6.0), ("skip", 4.0), ("without", 2.0)] {
            outcome.push(name, Figures::from([("p50_ms", ours)]));
        }
        let ratios: Vec<(String, f64)> =
            outcome.ratios().into_iter().map(|(name, s)| (name, s.median)).collect();
        let expected = [("p50_ms_vs_skip", 1.5), ("p50_ms_vs_without", 3.0), ("skip_p50_ms_vs_without", 2.0)];
        assert_eq!(ratios, expected.map(|(name, ratio)| (name.to_owned(), ratio)));
    }
}
