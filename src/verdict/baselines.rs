//! Which baselines of earlier runs count in a later one: what a case gave unpatched on the same machines, suites and host.
//!
//! ```text
//! main passes of ended cells --> Known --expected--> reused: a copy, with its origin
//! whatever was no pass       --^                \--> anew: the reason
//! ```
//! Invariants: pure. Only a pass is taken over, seen at first hand in a clean pass of a cell that has ended; where anything else was
//! seen of the case on such machines as long as the pass would count, it runs anew. A baseline says nothing about its machine's
//! health, which is looked at on each clone.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::Comparison;
use super::compare::comparison;
use super::evidence::{CaseKey, Observations, is_clean};
use super::health::SUITE;
use crate::catalog::suite::Case;
use crate::cell::{Anew, CaseObservation, CaseOutcome, Origin, Pass, Phase, Stage};
use crate::id::{CellId, Digest, Name, RunId};
use crate::journal::{CellRecord, Controller, PassRecord, RunState};
use crate::plan::{PlannedCell, PlannedMachine};

/// What a baseline hangs on besides the cell: who made and watched the machines, and on what. Its digest.
pub fn host(controller: &Controller) -> Digest {
    let host = &controller.host;
    let class = (&host.accelerator, &host.qemu, &host.libvirt, &host.kernel, host.cpus, host.memory);
    Digest::of_json(&(&controller.patchlab, &controller.hypervisor, class))
}

/// Everything that a cell's baselines hang on, by digest: the customer, the machines in their order, the wires between them, and all
/// suites, since cases run one after the other. Not who is patched: nobody is yet.
pub fn likeness(cell: &PlannedCell, host: Digest) -> Digest {
    let machine = |machine: &PlannedMachine| {
        // Taken apart, so that a new field of a machine has to be thought about here.
        let PlannedMachine {
            role,
            build: _,
            os,
            image,
            hardware,
            patched: _,
            spared: _,
            services,
            volatile: _,
            nics,
            names,
            ready,
            ready_within,
        } = machine;
        Digest::of_json(&(role, os, image.sha256, hardware.sha256, services, nics, names, ready, ready_within))
    };
    let machines: Vec<Digest> = cell.machines.iter().map(machine).collect();
    Digest::of_json(&(&cell.customer, cell.is_environment(), machines, &cell.segments, &cell.suites, host))
}

/// What is known of a case on such machines.
#[derive(Clone, Debug, Default)]
struct Past {
    /// The newest pass, with its origin.
    passed: Option<CaseObservation>,
    /// When it was last seen to be anything else, where, and what it was.
    bad: Option<(Timestamp, RunId, String)>,
}

/// Where the baselines of a cell's main pass come from: those of destructive cases, on clones of their own, are not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub cell: CellId,
    /// Copies of what an earlier run has seen.
    pub reused: Vec<CaseObservation>,
    pub anew: Vec<Anew>,
}

/// The baselines of earlier runs. It grows with the kinds of machines and their cases, not with the runs.
#[derive(Clone, Debug, Default)]
pub struct Known {
    past: HashMap<(Digest, CaseKey), Past>,
    newest: Option<Timestamp>,
}

impl Known {
    /// Learns from a run, in whichever order.
    pub fn learn(&mut self, run: &RunState) {
        for cell in &run.plan.cells {
            let Some(record) = run.cells.get(&cell.id) else { continue };
            let mut hosts = run.on_of(record).map(host);
            // A cell that was on two hosts is no witness for either.
            if let Some(host) = hosts.next().filter(|first| hosts.all(|other| other == *first)) {
                self.learn_cell(run.run, cell, record, host);
            }
        }
    }

    /// Learns from one cell of a run on this host.
    pub fn learn_cell(&mut self, run: RunId, cell: &PlannedCell, record: &CellRecord, host: Digest) {
        // All others could never be taken over, on any machine: what a case says of itself is part of the likeness.
        if !cell.cases().any(|(_, case)| case.leaves_nothing) {
            return;
        }
        let likeness = likeness(cell, host);
        let observations = Observations::of(record);
        for pass in &record.passes {
            let Some(at) = pass.stages.iter().find(|stage| stage.stage == Stage::Baseline).map(|stage| stage.started) else { continue };
            self.newest = self.newest.max(Some(at));
            let counts = record.ended && pass.pass == Pass::Main && is_clean(pass);
            for seen in pass.cases.iter().filter(|seen| is_own(seen)) {
                let key = (seen.suite.clone(), seen.case.clone());
                let bad = match seen.outcome {
                    CaseOutcome::Pass if is_flaky(&observations, &key) => Some(Comparison::Flaky.as_str()),
                    CaseOutcome::Pass => None,
                    outcome => Some(outcome.as_str()),
                };
                let past = self.past.entry((likeness, key)).or_default();
                match bad {
                    Some(bad) if past.bad.as_ref().is_none_or(|known| known.0 < at) => past.bad = Some((at, run, bad.to_owned())),
                    None if counts && past.passed.as_ref().is_none_or(|known| seen_at(known) < at) => {
                        past.passed = Some(taken_over(seen, run, cell, pass, at));
                    }
                    Some(_) | None => {}
                }
            }
        }
    }

    /// When the newest of all was seen.
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// Where the baselines of a cell on this host come from.
    pub fn expected(&self, cell: &PlannedCell, host: Digest, now: Timestamp) -> Expected {
        let likeness = likeness(cell, host);
        let mut expected = Expected { cell: cell.id.clone(), reused: Vec::new(), anew: Vec::new() };
        for (suite, case) in cell.cases().filter(|(_, case)| !case.destructive) {
            match self.choose(cell, likeness, (&suite.name, case), now) {
                Ok(seen) => expected.reused.push(seen),
                Err(why) => expected.anew.push(Anew { suite: suite.name.clone(), case: case.name.clone(), why }),
            }
        }
        expected
    }

    /// The baseline that counts for a case; the error is why it has to run anew.
    fn choose(
        &self,
        cell: &PlannedCell,
        likeness: Digest,
        (suite, case): (&Name, &Case),
        now: Timestamp,
    ) -> Result<CaseObservation, String> {
        let limit = cell.baseline_valid_for;
        match () {
            () if limit.0.is_zero() => return Err("the customer's policy has every run have its own".to_owned()),
            // Bad news after it would be believed at once.
            () if cell.confirmations == 0 => return Err("bad news is not tried again for this customer".to_owned()),
            () if !case.leaves_nothing => return Err("not said to leave nothing".to_owned()),
            () => {}
        }
        let Some(past) = self.past.get(&(likeness, (suite.clone(), case.name.clone()))) else {
            return Err("none was seen on such machines, suites and host".to_owned());
        };
        let is_young =
            |at: Timestamp| at <= now && now.duration_since(at) < SignedDuration::try_from(limit.0).unwrap_or(SignedDuration::MAX);
        match (&past.bad, &past.passed) {
            // What comes from a clock that was ahead counts as bad news too.
            (Some((at, run, what)), _) if *at > now || is_young(*at) => {
                Err(format!("its last outcome but a pass was {what}, in run {run}"))
            }
            (_, Some(seen)) if is_young(seen_at(seen)) => Ok(seen.clone()),
            (_, Some(seen)) => {
                Err(format!("the newest, of {}, does not count any more or yet: the policy's limit is {limit}", seen_at(seen)))
            }
            (_, None) => Err("no clean pass of it was seen".to_owned()),
        }
    }
}

/// Whether it is a suite's baseline that the pass has seen itself.
fn is_own(seen: &CaseObservation) -> bool {
    seen.point.phase() == Phase::Baseline && seen.origin.is_none() && seen.suite.as_str() != SUITE
}

fn is_flaky(observations: &Observations<'_>, key: &CaseKey) -> bool {
    comparison(&observations.pairs(key)) == Comparison::Flaky
}

fn seen_at(seen: &CaseObservation) -> Timestamp {
    seen.origin.as_ref().map_or(Timestamp::MIN, |origin| origin.at)
}

fn taken_over(seen: &CaseObservation, run: RunId, cell: &PlannedCell, pass: &PassRecord, at: Timestamp) -> CaseObservation {
    let origin = Origin { run, cell: cell.id.clone(), attempt: pass.attempt, at, sha256: Digest::of_json(seen) };
    CaseObservation { origin: Some(Box::new(origin)), ..seen.clone() }
}

#[cfg(test)]
#[path = "baselines_tests.rs"]
mod tests;
