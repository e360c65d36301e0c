//! From a history that shows a disagreement to a short one that still does.

use crate::history::{Deed, History, Scene};

/// Tries in all: each plays a history.
const TRIES_MAX: usize = 250;

/// The shortest history found for which `fails` still says so.
pub(crate) fn shrink(history: &History, fails: &dyn Fn(&History) -> bool) -> History {
    let mut best = history.clone();
    let mut tries = 0;
    loop {
        let mut shorter = false;
        for candidate in without(&best).into_iter().chain(sooner(&best)) {
            let Some(candidate) = candidate(&best) else { continue };
            tries += 1;
            if tries > TRIES_MAX {
                return best;
            }
            if fails(&candidate) {
                best = candidate;
                shorter = true;
            }
        }
        if !shorter {
            return best;
        }
    }
}

type Step = Box<dyn Fn(&History) -> Option<History>>;

/// Leaves out scenes: many at once, then single ones.
fn without(history: &History) -> Vec<Step> {
    let count = history.scenes.len();
    let mut steps: Vec<Step> = Vec::new();
    let mut size = count / 2;
    while size > 0 {
        for from in (0..count).step_by(size).rev() {
            steps.push(Box::new(move |history| {
                let until = (from + size).min(history.scenes.len());
                (from < until).then(|| {
                    let mut shorter = history.clone();
                    shorter.scenes.drain(from..until);
                    shorter
                })
            }));
        }
        size /= 2;
    }
    steps
}

/// Lets less time pass, and nothing happen.
fn sooner(history: &History) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for index in 0..history.scenes.len() {
        for percent in [0, 50, 75] {
            steps.push(Box::new(move |history| {
                let scene = history.scenes.get(index)?;
                let then_s = scene.then_s * percent / 100;
                let changed = Scene { then_s, ..scene.clone() };
                with(history, index, changed)
            }));
        }
        steps.push(Box::new(move |history| {
            let scene = history.scenes.get(index)?;
            with(history, index, Scene { deed: Deed::Nothing, ..scene.clone() })
        }));
    }
    steps
}

fn with(history: &History, index: usize, scene: Scene) -> Option<History> {
    let mut changed = history.clone();
    changed.scenes[index] = scene;
    (changed != *history).then_some(changed)
}
