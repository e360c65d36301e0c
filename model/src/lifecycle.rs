//! The life of a run as one table: in which state which step may follow, and where it leads. `docs/run-lifecycle.md`
//! draws its diagram from here, and tests hold the rules of `run` against it.

use crate::run::RunState;

/// What happens to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// It must wait: for an earlier run (`overlap`, `maxActive`), or for a place in its queue.
    Hold,
    /// It is due, admitted and stored in the run stream.
    Publish,
    /// It will never start, for a recorded reason.
    Skip,
    /// Somebody withdrew it, or a newer run replaced it.
    Cancel,
    /// An attempt failed or was lost, and another one follows.
    Retry,
    /// An attempt succeeded.
    Succeed,
    /// No policy grants another attempt.
    GiveUp,
    /// An operator sends a dead letter again: the next generation.
    Redrive,
}

impl Step {
    /// The word of diagrams.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Publish => "publish",
            Self::Skip => "skip",
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Succeed => "succeed",
            Self::GiveUp => "give up",
            Self::Redrive => "redrive",
        }
    }
}

/// Every step that there is, from a state (`None`: planned, no record yet) to a state. Nothing else happens.
pub const TRANSITIONS: [(Option<RunState>, Step, RunState); 14] = {
    use RunState::{Cancelled, DeadLettered, Dispatched, Skipped, Succeeded, Waiting};
    [
        (None, Step::Publish, Dispatched),
        (None, Step::Hold, Waiting),
        (None, Step::Skip, Skipped),
        (None, Step::Cancel, Cancelled),
        (Some(Waiting), Step::Publish, Dispatched),
        (Some(Waiting), Step::Skip, Skipped),
        (Some(Waiting), Step::Cancel, Cancelled),
        (Some(Dispatched), Step::Retry, Dispatched),
        (Some(Dispatched), Step::Succeed, Succeeded),
        (Some(Dispatched), Step::GiveUp, DeadLettered),
        (Some(Dispatched), Step::Cancel, Cancelled),
        // An executor got it after its `startingDeadline`.
        (Some(Dispatched), Step::Skip, Skipped),
        (Some(DeadLettered), Step::Redrive, Dispatched),
        // Nothing waits for ever: a queue that is paused again holds back what it had let through.
        (Some(Waiting), Step::Hold, Waiting),
    ]
};

/// Where a step leads; `None` if it can't happen in that state.
#[must_use]
pub fn after(state: Option<RunState>, step: Step) -> Option<RunState> {
    TRANSITIONS.iter().find(|(from, known, _)| *from == state && *known == step).map(|(_, _, to)| *to)
}

/// The table as a Mermaid state diagram.
#[must_use]
pub fn diagram() -> String {
    let name = |state: RunState| state.as_str().replace('-', "_");
    let mut text = String::from("stateDiagram-v2\n");
    for state in RunState::ALL {
        text.push_str(&format!("    state \"{}\" as {}\n", state.as_str(), name(state)));
    }
    for (from, step, to) in TRANSITIONS {
        let from = from.map_or_else(|| "[*]".into(), name);
        text.push_str(&format!("    {from} --> {}: {}\n", name(to), step.as_str()));
    }
    for state in RunState::ALL.into_iter().filter(|state| state.is_end()) {
        text.push_str(&format!("    {} --> [*]\n", name(state)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Generation, Standing, accepts_end};

    #[test]
    fn an_end_is_accepted_where_a_step_leads_to_one() {
        // Of its own generation: exactly the open states have a step to an end.
        for state in RunState::ALL {
            let standing = Standing { state, generation: Generation(0) };
            let ends = TRANSITIONS.iter().any(|(from, _, to)| *from == Some(state) && to.is_end());
            assert_eq!(accepts_end(Some(standing), Generation(0)), ends, "{state:?}");
        }
        // Of the next one: an ended run only takes it because a redrive leads back.
        assert_eq!(after(Some(RunState::DeadLettered), Step::Redrive), Some(RunState::Dispatched));
    }

    #[test]
    fn every_state_is_reached_and_every_open_one_is_left() {
        for state in RunState::ALL {
            assert!(TRANSITIONS.iter().any(|(_, _, to)| *to == state), "{state:?} is never reached");
            let left = TRANSITIONS.iter().any(|(from, _, to)| *from == Some(state) && *to != state);
            assert!(left || state.is_end(), "{state:?} is never left");
        }
        for (index, (from, step, _)) in TRANSITIONS.iter().enumerate() {
            let same =
                |(known, other, _): &(Option<RunState>, Step, RunState)| known == from && other == step;
            assert_eq!(TRANSITIONS.iter().position(same), Some(index), "{from:?} {step:?} is there twice");
        }
    }
}
