//! The runs of a bundle: the one that tested all of it together, and those that tested some of it to find out who is to blame.
//!
//! Invariants: pure. All of it follows from the runs as the journal has them, so that a bundle is taken up like a run. A run that was given
//! up before each of its cells had ended is no trial.

use std::collections::BTreeMap;

use super::Verdict;
use super::bisect::{Answer, Next, Outcome, Set, next};
use super::judge::judge;
use crate::id::RunId;
use crate::journal::RunState;
use crate::plan::{Bundle, PlannedPatch};

/// A bundle with what its runs gave so far.
#[derive(Clone, Debug)]
pub struct Trials {
    pub bundle: Bundle,
    /// In the order in which they were begun.
    pub done: Vec<Trial>,
}

/// What a run of some patches gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    pub run: RunId,
    /// The places of its patches in the bundle.
    pub patches: Set,
    pub verdict: Verdict,
    /// The codes of its findings, each once.
    pub findings: Vec<String>,
    /// Whether any of its machines were the simulator's.
    pub simulated: bool,
}

impl Trials {
    pub const fn new(bundle: Bundle) -> Self {
        Self { bundle, done: Vec::new() }
    }

    /// Takes what a run gave, if it has come to its end.
    pub fn take(&mut self, run: &RunState) {
        let place = |patch: &PlannedPatch| self.bundle.patches.iter().position(|one| one.sha256 == patch.sha256);
        let patches: Option<Set> = run.plan.patches().map(place).collect();
        if let Some(patches) = patches.filter(|_| run.is_finished() && run.cells.values().all(|cell| cell.ended)) {
            let judgement = judge(run);
            let mut findings: Vec<String> = judgement.cells.iter().flat_map(|cell| &cell.findings).map(|one| one.code.clone()).collect();
            findings.sort();
            findings.dedup();
            self.done.push(Trial { run: run.run, patches, verdict: judgement.verdict, findings, simulated: run.is_simulated() });
        }
    }

    /// What comes next.
    pub fn next(&self) -> Next {
        let outcome = |trial: &Trial| match trial.verdict {
            Verdict::Pass => Outcome::Pass,
            Verdict::Fail => Outcome::Fail,
            Verdict::Inconclusive => Outcome::Inconclusive,
        };
        let results: BTreeMap<Set, Outcome> = self.done.iter().map(|trial| (trial.patches.clone(), outcome(trial))).collect();
        next(&self.bundle.requires, &results)
    }

    /// What all of them mean together, once there is nothing more to test.
    pub fn answer(&self) -> Option<Answer> {
        match self.next() {
            Next::Test(_) => None,
            Next::Done(answer) => Some(answer),
        }
    }

    /// The run that tested exactly these patches.
    pub fn run_of(&self, patches: &Set) -> Option<&Trial> {
        self.done.iter().find(|trial| trial.patches == *patches)
    }
}
